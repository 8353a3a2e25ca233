"""System V IPC: semaphore sets and message queues (sysvipc(7)). The calls are in sentry/syscalls/ipc.py."""
