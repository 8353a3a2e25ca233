"""The sentry: the kernel that a guest of runsc-py sees."""
