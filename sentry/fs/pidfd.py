"""pidfd_open(2): a process, or with PIDFD_THREAD a thread, that is held by a descriptor. Readable once it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import EPOLLHUP, EPOLLIN, EPOLLRDNORM, O_EXCL, O_NONBLOCK, O_RDWR
from sentry.fs.anon import anon_inode
from sentry.kernel.sched import WaitQueue
from sentry.vfs.file import File

if TYPE_CHECKING:
    from sentry.kernel.task import Task

PIDFD_THREAD = O_EXCL


class PidFd(File):
    """It holds `task`, or the process that it leads; `pid` is its number, which nobody can tell once it is reaped."""

    __slots__ = ("group", "pid", "task")

    def __init__(self, task: Task, flags: int = 0) -> None:
        super().__init__(anon_inode(), None, O_RDWR | (flags & (O_NONBLOCK | PIDFD_THREAD)))
        self.task = task
        self.group = task.group
        self.pid = task.tid
        owner = task if self.is_thread else task.group
        if owner.exit_queue is None:
            owner.exit_queue = WaitQueue()
        self.queue = owner.exit_queue

    @property
    def is_thread(self) -> bool:
        return bool(self.flags & PIDFD_THREAD)

    @property
    def reaped(self) -> bool:
        """Nothing is left, not even a zombie."""
        if self.is_thread:
            return not self.group.kernel.exists(self.task)
        return self.group.exited and not self.group.kernel.exists(self.group.leader)

    def target(self) -> Task | None:
        """The thread, or the process's leader, also when it is a zombie; None once it is reaped."""
        if self.reaped:
            return None
        return self.task if self.is_thread else self.group.leader

    def poll(self) -> int:
        if self.reaped:
            return EPOLLIN | EPOLLRDNORM | EPOLLHUP
        return EPOLLIN | EPOLLRDNORM if self.group.exited else 0

    def describe(self) -> bytes | None:
        return b"anon_inode:[pidfd]"

    def fdinfo(self) -> bytes:
        """Its lines in /proc/PID/fdinfo/N."""
        pid = -1 if self.reaped else self.pid
        return b"Pid:\t%d\nNSpid:\t%d\n" % (pid, pid)
