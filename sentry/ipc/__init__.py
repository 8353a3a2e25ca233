"""System V IPC: semaphore sets, message queues, shared memory (sysvipc(7)). The calls are in sentry/syscalls."""
