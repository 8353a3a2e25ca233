"""File systems: one module each, over the classes of sentry/vfs."""
