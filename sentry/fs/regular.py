"""StoredFile: a regular file whose data is a host file of the sentry's own store (tmpfs, overlay's upper,
memfd).

The inode owns at most two host descriptors, opened when first needed and shared by all descriptions: a
read-only one, so that a guest which may only read cannot get a writable mapping, and a read-write one.
Size, blocks and times are the host file's; mode, owner and links are ours, and the change time is the later
of both.
"""

from __future__ import annotations

import os
from time import time_ns
from typing import TYPE_CHECKING

from sentry.abi.linux import O_ACCMODE, XATTR_CREATE, XATTR_REPLACE
from sentry.errors import EEXIST, ENODATA, from_host
from sentry.vfs.inode import Filesystem, Inode
from sentry.vfs.stat import SetAttr, Stat

if TYPE_CHECKING:
    from sentry.fs.store import Store
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.mount import Path

_FRESH_NS = 2_000_000  # a host file made this soon after its inode has the right times


class KeptXattrs(Inode):
    """An inode with extended attributes kept in a dictionary, as Linux's simple_xattr does (xattr(7))."""

    __slots__ = ("xattrs",)

    def __init__(
        self, fs: Filesystem, ino: int, mode: int, uid: int = 0, gid: int = 0, nlink: int = 1, rdev: int = 0
    ) -> None:
        super().__init__(fs, ino, mode, uid, gid, nlink, rdev)
        self.xattrs: dict[bytes, bytes] | None = None

    async def getxattr(self, task: Task, name: bytes) -> bytes:
        if self.xattrs is None or name not in self.xattrs:
            raise ENODATA
        return self.xattrs[name]

    async def setxattr(self, task: Task, name: bytes, value: bytes, flags: int) -> None:
        present = self.xattrs is not None and name in self.xattrs
        if flags & XATTR_CREATE and present:
            raise EEXIST
        if flags & XATTR_REPLACE and not present:
            raise ENODATA
        if self.xattrs is None:
            self.xattrs = {}
        self.xattrs[name] = value
        self.ctime_ns = time_ns()

    async def listxattr(self, task: Task) -> list[bytes]:
        return list(self.xattrs or ())

    async def removexattr(self, task: Task, name: bytes) -> None:
        if self.xattrs is None or self.xattrs.pop(name, None) is None:
            raise ENODATA
        self.ctime_ns = time_ns()


class StoredFile(KeptXattrs):
    """A regular file in `store`. The host file is made at the first open or change of size."""

    __slots__ = ("host_ro", "host_rw", "number", "store")

    def __init__(
        self, fs: Filesystem, ino: int, mode: int, uid: int, gid: int, store: Store, nlink: int = 1
    ) -> None:
        super().__init__(fs, ino, mode, uid, gid, nlink)
        self.store = store
        self.number = 0  # of the host file; 0: none yet
        self.host_ro = -1
        self.host_rw = -1

    # --- the host file

    def writable_fd(self) -> int:
        """The read-write host descriptor."""
        if self.host_rw < 0:
            if self.number:
                self.host_rw = self.store.reopen(self.number, True)
            else:
                self.number, self.host_rw = self.store.create()
                if time_ns() - self.btime_ns > _FRESH_NS or self.mtime_ns != self.btime_ns:
                    self._set_times(self.host_rw, self.atime_ns, self.mtime_ns)
        return self.host_rw

    def readable_fd(self) -> int:
        """The read-only host descriptor."""
        if self.host_ro < 0:
            if not self.number:
                self.writable_fd()
            self.host_ro = self.store.reopen(self.number, False, self.host_rw)
        return self.host_ro

    def any_fd(self) -> int:
        """A descriptor good for fstat."""
        return self.host_rw if self.host_rw >= 0 else self.readable_fd()

    def _host_stat(self) -> os.stat_result | None:
        if not self.number:
            return None
        if self.host_rw >= 0:
            return os.fstat(self.host_rw)
        if self.host_ro >= 0:
            return os.fstat(self.host_ro)
        return self.store.stat(self.number)

    def close_idle(self) -> None:
        """Give the descriptors back while nobody has the file open; it can be opened again by its number."""
        if self.store.reopens:
            for host_fd in (self.host_ro, self.host_rw):
                if host_fd >= 0:
                    os.close(host_fd)
            self.host_ro = self.host_rw = -1
            self.host = None

    def __del__(self) -> None:
        for host_fd in (getattr(self, "host_ro", -1), getattr(self, "host_rw", -1)):
            if host_fd >= 0:
                os.close(host_fd)
        if getattr(self, "number", 0):
            self.store.remove(self.number)

    # --- inode operations

    def stat_now(self) -> Stat:
        host = self._host_stat()
        if host is None:
            size = blocks = 0
            atime_ns, mtime_ns, ctime_ns = self.atime_ns, self.mtime_ns, self.ctime_ns
        else:
            size, blocks = host.st_size, host.st_blocks
            atime_ns, mtime_ns = host.st_atime_ns, host.st_mtime_ns
            ctime_ns = max(self.ctime_ns, host.st_ctime_ns)
        fs = self.fs
        return Stat(
            fs.dev, self.ino, self.mode, self.nlink, self.uid, self.gid, 0, size, fs.blksize, blocks,
            atime_ns, mtime_ns, ctime_ns, self.btime_ns,
        )  # fmt: skip

    def blocks(self) -> int:
        """512-byte blocks the data takes."""
        host = self._host_stat()
        return 0 if host is None else host.st_blocks

    async def setattr(self, task: Task, attrs: SetAttr) -> None:
        if attrs.size is not None:
            try:
                os.ftruncate(self.writable_fd(), attrs.size)
            except OSError as error:
                raise from_host(error)
        self.apply(attrs)
        if attrs.atime_ns is not None or attrs.mtime_ns is not None:
            host = self._host_stat()
            if host is not None:
                atime_ns = host.st_atime_ns if attrs.atime_ns is None else attrs.atime_ns
                mtime_ns = host.st_mtime_ns if attrs.mtime_ns is None else attrs.mtime_ns
                self._set_times(self.any_fd(), atime_ns, mtime_ns)

    @staticmethod
    def _set_times(host_fd: int, atime_ns: int, mtime_ns: int) -> None:
        try:
            os.utime(host_fd, ns=(atime_ns, mtime_ns))
        except OSError as error:
            raise from_host(error)

    async def host_fds(self, task: Task, write: bool) -> tuple[int, int]:
        return self.readable_fd(), self.writable_fd() if write else self.host_rw

    def open_now(self, task: Task, path: Path, flags: int) -> File:
        from sentry.fs.hostfile import HostFile

        if flags & O_ACCMODE == 0:
            return HostFile(self, path, flags, self.readable_fd(), self.host_rw)
        if flags & O_ACCMODE == 1:
            return HostFile(self, path, flags, self.host_ro, self.writable_fd())
        return HostFile(self, path, flags, self.readable_fd(), self.writable_fd())

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return self.open_now(task, path, flags)

    async def fill_from(self, host_fd: int, size: int) -> None:
        """Become a copy of the first `size` bytes of a host file (copy-up), holes included."""
        target = self.writable_fd()
        try:
            os.ftruncate(target, size)
            copied = 0
            while copied < size:
                try:
                    start = os.lseek(host_fd, copied, os.SEEK_DATA)
                    end = min(size, os.lseek(host_fd, start, os.SEEK_HOLE))
                except OSError:  # no data behind, or the host file system cannot tell
                    start, end = copied, size
                copied = copy_range(host_fd, target, start, end)
        except OSError as error:
            raise from_host(error)


def copy_range(source: int, target: int, start: int, end: int) -> int:
    """Copy bytes [start, end) between host files at the same offsets; where it stopped (end, or the
    source's).
    """
    while start < end:
        data = os.pread(source, min(end - start, 1 << 20), start)
        if not data:
            return max(end, start)
        os.pwrite(target, data, start)
        start += len(data)
    return start
