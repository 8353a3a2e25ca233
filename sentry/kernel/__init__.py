"""Kernel objects: scheduler, tasks, thread groups, credentials, signals, program loading."""
