"""File: an open file description. Every default answers as Linux does for a NULL file operation.

A file type overrides what it supports. The caller (the system call) has checked that the description is
open for reading or writing (EBADF) and that the access mode fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentry.errors import EINVAL, ENODEV, ENOTDIR, ENOTTY, EOPNOTSUPP, ESPIPE

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.rewrite import Rewritten
    from sentry.kernel.sched import WaitQueue
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path
    from sentry.vfs.stat import DirEntry, Stat

_DEFAULT_POLL = 0x145  # EPOLLIN | EPOLLOUT | EPOLLRDNORM | EPOLLWRNORM: Linux's DEFAULT_POLLMASK

O_ACCMODE = 0o3
O_PATH = 0o10000000


class File:
    """What a descriptor refers to; shared by dup(2) and fork(2)."""

    __slots__ = ("__weakref__", "creds", "flags", "inode", "locks", "nc", "path", "pos", "queue")

    stream: bool = False  #: opened by name, too, it has no positions (stream_open)
    async_io: bool = False  #: O_ASYNC is understood (f_op->fasync)
    tells_room: bool = True  #: O_ASYNC: whether room for output is told as well
    nowait: bool = False  #: RWF_NOWAIT is understood (FMODE_NOWAIT)
    takes_splice: bool = False  #: splice(2) and sendfile(2) may write to it (f_op->splice_write)
    gives_splice: bool = False  #: and read from it (f_op->splice_read)

    creds: Credentials  # who opened it, if it was opened by name

    only_a_place: bool = False  #: a directory or what O_PATH gives: fstat(2) is stat(2) of its path

    def __init__(self, inode: Inode, path: Path | None, flags: int) -> None:
        self.inode = inode
        self.path = path  # None: not reached by a name (pipe, socket, eventfd)
        self.flags = flags  # O_*: access mode and status flags
        self.pos = 0
        self.nc: Any = None  # the C twin (struct nc_file), kept by the descriptor table
        self.locks: Any = None  # flock(2) state of this description
        self.queue: WaitQueue | None = None

    # --- access mode

    @property
    def readable(self) -> bool:
        return self.flags & (O_ACCMODE | O_PATH) in (0, 2)

    @property
    def writable(self) -> bool:
        return self.flags & (O_ACCMODE | O_PATH) in (1, 2)

    def positioned(self, writing: bool) -> bool:
        """Whether pread(2), or pwrite(2), is there at all (FMODE_PREAD, FMODE_PWRITE); else it gives ESPIPE."""
        return self.path is not None and not self.stream

    @property
    def direct(self) -> bool:
        """Whether O_DIRECT is understood (FMODE_CAN_ODIRECT)."""
        return False

    @property
    def wait_queue(self) -> WaitQueue:
        """Woken with the EPOLL* mask when readiness changes; made on first use."""
        if self.queue is None:
            from sentry.kernel.sched import WaitQueue

            self.queue = WaitQueue()
        return self.queue

    # --- data

    async def read(self, task: Task, size: int) -> bytes:
        """At most `size` bytes at the position, advancing it; b"" at the end."""
        raise EINVAL

    async def write(self, task: Task, data: bytes) -> int:
        """Write at the position (or the end, O_APPEND), advancing it; the number of bytes taken."""
        raise EINVAL

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        raise ESPIPE

    async def pwrite(self, task: Task, data: bytes, offset: int) -> int:
        raise ESPIPE

    def seek(self, offset: int, whence: int) -> int:
        """lseek(2): the new position."""
        raise ESPIPE

    def poll(self) -> int:
        """EPOLL* events ready now. Files without a poll operation are always ready."""
        return _DEFAULT_POLL

    def to_wait(self, task: Task) -> Rewritten | None:
        """What `task` has to make before it gets on `wait_queue`, for files of which the host kernel knows."""
        return None

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        raise ENOTTY

    async def fsync(self, task: Task, datasync: bool) -> None:
        raise EINVAL

    async def ftruncate(self, task: Task, size: int) -> None:
        raise EINVAL

    async def fallocate(self, task: Task, mode: int, offset: int, length: int) -> None:
        """Asked of regular files only."""
        raise EOPNOTSUPP

    def being_written(self) -> bool:
        """Whether somebody has the file open for writing, which then can't be executed (ETXTBSY)."""
        return False

    def mapping(self) -> int:
        """The host descriptor that mmap(2) maps."""
        raise ENODEV

    # --- directories

    async def readdir(self, task: Task) -> list[DirEntry]:
        """The entries from position `pos` on, . and .. included; the caller advances `pos` by what it
        used.
        """
        raise ENOTDIR

    # --- attributes and life

    def hot(self) -> tuple[int, Any] | None:
        """The kind and the object of its C twin, where C answers data calls that need not wait; None: nothing."""
        return None

    async def getattr(self) -> Stat:
        """fstat(2)."""
        return await self.inode.getattr()

    def opened_by(self, task: Task) -> bool:
        """Whether it was opened by name with the credentials that `task` has."""
        return getattr(self, "creds", None) is task.creds

    def describe(self) -> bytes | None:
        """What /proc/PID/fd/N reads as where there is no path (b"socket:[12]"); None: the path says it."""
        return None

    def set_flags(self, flags: int) -> None:
        """fcntl(F_SETFL): `flags` holds only O_APPEND, O_ASYNC, O_DIRECT, O_NOATIME, O_NONBLOCK."""
        settable = 0o2000 | 0o20000 | 0o40000 | 0o1000000 | 0o4000
        self.flags = (self.flags & ~settable) | (flags & settable)

    def async_owner(self, task: Task) -> tuple[int, int] | None:
        """Whom O_ASYNC tells where nobody has said (F_OWNER_*, number): terminals have somebody."""
        return None

    def release(self) -> None:
        """The last descriptor is closed."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.inode!r} flags={self.flags:o}>"


class PathFile(File):
    """open(2) with O_PATH: names a place in the tree and nothing else; read, write and ioctl give EBADF."""

    __slots__ = ()
    only_a_place = True
