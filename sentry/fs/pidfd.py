"""pidfd_open(2): a process that is held by a descriptor. Readable once it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import EPOLLIN, EPOLLRDNORM, O_NONBLOCK, O_RDWR
from sentry.fs.anon import anon_inode
from sentry.kernel.sched import WaitQueue
from sentry.vfs.file import File

if TYPE_CHECKING:
    from sentry.kernel.task import Task, ThreadGroup


class PidFd(File):
    """The process is `group`; `tgid` its number, which nobody can tell once it is reaped."""

    __slots__ = ("group", "tgid")

    def __init__(self, group: ThreadGroup, flags: int = 0) -> None:
        super().__init__(anon_inode(), None, O_RDWR | (flags & O_NONBLOCK))
        self.group = group
        self.tgid = group.tgid
        if group.exit_queue is None:
            group.exit_queue = WaitQueue()
        self.queue = group.exit_queue

    @property
    def reaped(self) -> bool:
        return self.group.exited and not self.group.kernel.exists(self.group.leader)

    def target(self) -> Task | None:
        """The process's leader, also when it is a zombie; None once it is reaped."""
        return None if self.reaped else self.group.leader

    def poll(self) -> int:
        return EPOLLIN | EPOLLRDNORM if self.group.exited else 0

    def describe(self) -> bytes | None:
        return b"anon_inode:[pidfd]"

    def fdinfo(self) -> bytes:
        """Its lines in /proc/PID/fdinfo/N."""
        pid = -1 if self.reaped else self.tgid
        return b"Pid:\t%d\nNSpid:\t%d\n" % (pid, pid)
