"""The syscall layer: one file per family of calls, all declared into one table (declare.py)."""

from __future__ import annotations

FAMILIES = (
    "native",
    "files",
    "paths",
    "dirs",
    "attrs",
    "oldfs",
    "xattrs",
    "mounts",
    "inotify",
    "fdio",
    "fds",
    "fcntl",
    "ioctl",
    "poll",
    "aio",
    "sockets",
    "sockmsg",
    "tasks",
    "wait",
    "ptrace",
    "process",
    "prctl",
    "signals",
    "sigwait",
    "pidfd",
    "seccomp",
    "procmem",
    "memory",
    "mempolicy",
    "time",
    "identity",
    "system",
    "priority",
    "sched",
    "mqueue",
    "ipc",
    "shm",
)


def load_all() -> None:
    """Imports every family, which fills ``declare.TABLE``."""
    for family in FAMILIES:
        __import__(f"sentry.syscalls.{family}")
