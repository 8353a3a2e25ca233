"""StoredFile: a regular file whose data is a host file of the sentry's own store (tmpfs, overlay's upper,
memfd).

The inode's HostBacking has at most two host descriptors, opened when first needed and shared by all
descriptions: a read-only one, so that a guest which may only read cannot get a writable mapping, and a
read-write one. Once there is a host file, size, blocks and times are its; mode, owner and links are ours,
and the later change time counts.
"""

from __future__ import annotations

import os
from sys import getrefcount
from time import time_ns
from typing import TYPE_CHECKING

from sentry.abi.linux import MS_NOEXEC, O_ACCMODE, O_RDONLY, O_WRONLY, XATTR_CREATE, XATTR_REPLACE
from sentry.errors import EEXIST, ENODATA, ENOSPC, ENXIO, from_host
from sentry.fs.hostfile import HostBacking, HostFile
from sentry.fs.keptopen import kept_open
from sentry.vfs.inode import Filesystem, Inode
from sentry.vfs.stat import SetAttr, Stat

if TYPE_CHECKING:
    from sentry.fs.store import Store
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.mount import Path

XATTRS_MAX = 1 << 20  #: bytes of extended attributes of one inode, names included
_FRESH_NS = 2_000_000  # a host file made this soon after its inode has the right times


class KeptXattrs(Inode):
    """An inode with extended attributes kept in a dictionary, as Linux's simple_xattr does (xattr(7))."""

    __slots__ = ("xattrs",)

    def __init__(
        self, fs: Filesystem, ino: int, mode: int, uid: int = 0, gid: int = 0, nlink: int = 1, rdev: int = 0
    ) -> None:
        super().__init__(fs, ino, mode, uid, gid, nlink, rdev)
        self.xattrs: dict[bytes, bytes] | None = None

    async def load_xattrs(self, task: Task) -> None:
        """For subclasses that have attributes elsewhere: read them into `xattrs`."""

    async def getxattr(self, task: Task, name: bytes) -> bytes:
        await self.load_xattrs(task)
        if self.xattrs is None or name not in self.xattrs:
            raise ENODATA
        return self.xattrs[name]

    async def setxattr(self, task: Task, name: bytes, value: bytes, flags: int) -> None:
        await self.load_xattrs(task)
        present = self.xattrs is not None and name in self.xattrs
        if flags & XATTR_CREATE and present:
            raise EEXIST
        if flags & XATTR_REPLACE and not present:
            raise ENODATA
        kept = self.xattrs or {}
        others = sum(len(key) + len(data) for key, data in kept.items() if key != name)
        if others + len(name) + len(value) > XATTRS_MAX:
            raise ENOSPC
        if self.xattrs is None:
            self.xattrs = {}
        self.xattrs[name] = value
        self.mark()
        self.changed()

    async def setattr(self, task: Task, attrs: SetAttr) -> None:
        self.apply(attrs)
        self.changed()

    async def listxattr(self, task: Task) -> list[bytes]:
        await self.load_xattrs(task)
        return list(self.xattrs or ())

    async def removexattr(self, task: Task, name: bytes) -> None:
        await self.load_xattrs(task)
        if self.xattrs is None or self.xattrs.pop(name, None) is None:
            raise ENODATA
        self.mark()
        self.changed()

    def has_no_xattrs(self) -> bool:
        return not self.xattrs

    def mark(self) -> None:
        """Tell C whether there are extended attributes."""
        if self.node is not None:
            self.node.unmarked = self.has_no_xattrs()

    def changed(self) -> None:
        """Mode, owner, links or extended attributes changed: the change time moves."""
        self.ctime_ns = time_ns()
        self.touched()


class StoredFile(KeptXattrs):
    """A regular file in `store`. The host file is made at the first open or change of size."""

    __slots__ = ("number", "store")
    host: HostBacking | None
    open_file = HostFile

    def __init__(
        self, fs: Filesystem, ino: int, mode: int, uid: int, gid: int, store: Store, nlink: int = 1
    ) -> None:
        super().__init__(fs, ino, mode, uid, gid, nlink)
        self.store = store
        self.number = 0  # of the host file; 0: none yet

    # --- the host file

    def backing(self, read: bool, write: bool) -> HostBacking:
        """The host file, with the descriptors asked for."""
        host = self.host
        if host is None:
            host = self._open_backing(write)
        host_ro, host_rw = host.host_fds()
        if write and host_rw < 0:
            host.set_fds(host_ro, self.store.reopen(self.number, True, host_ro))
        elif read and host_ro < 0:
            host.set_fds(self.store.reopen(self.number, False, host_rw), host_rw)
        return host

    def _open_backing(self, write: bool) -> HostBacking:
        if not self.number:
            self.number, host_rw = self.store.create()
            host = HostBacking(-1, host_rw)
            self.set_host(host)
            if time_ns() - self.btime_ns > _FRESH_NS or self.mtime_ns != self.btime_ns:
                self._set_times(self.atime_ns, self.mtime_ns)
        else:
            host_fd = self.store.reopen(self.number, write)
            host = HostBacking(-1, host_fd) if write else HostBacking(host_fd, -1)
            self.set_host(host)
        host.publish(self)
        if self.store.reopens:
            kept_open.add(self)
        return host

    def noexec_fd(self, write: bool) -> int:
        return self.store.reopen_noexec(self.number, write) if self.number else -1

    def changed(self) -> None:
        """The host file's change time moves too, and C's fstat(2) learns of it."""
        super().changed()
        if self.host is not None and (self.nlink or self.host.in_use()):
            os.fchmod(self.host.any_fd(), 0o600)  # changes nothing but the host file's change time
            self.host.publish(self)

    def close_idle(self) -> bool:
        """Give the host descriptors back unless the file is open; it can be opened again by its number."""
        if self.host is not None and (getrefcount(self.host) > 2 or self.host.in_use()):
            return False
        self.set_host(None)
        return True

    def __del__(self) -> None:
        self.host = None
        if getattr(self, "number", 0):
            self.store.remove(self.number)

    # --- inode operations

    def stat_now(self) -> Stat:
        fs = self.fs
        if self.host is not None:
            size, blocks, atime_ns, mtime_ns, ctime_ns, _ = self.host.host_stat()
            ctime_ns = max(self.ctime_ns, ctime_ns)
        elif self.number:
            stat = self.store.stat(self.number)
            size, blocks = stat.st_size, stat.st_blocks
            atime_ns, mtime_ns, ctime_ns = stat.st_atime_ns, stat.st_mtime_ns, stat.st_ctime_ns
            ctime_ns = max(self.ctime_ns, ctime_ns)
        else:
            size = blocks = 0
            atime_ns, mtime_ns, ctime_ns = self.atime_ns, self.mtime_ns, self.ctime_ns
        return Stat(
            fs.dev, self.ino, self.mode, self.nlink, self.uid, self.gid, 0, size, fs.blksize, blocks,
            atime_ns, mtime_ns, ctime_ns, self.btime_ns,
        )  # fmt: skip

    async def setattr(self, task: Task, attrs: SetAttr) -> None:
        if attrs.size is not None:
            try:
                os.ftruncate(self.backing(False, True).host_fd(True), attrs.size)
            except OSError as error:
                raise from_host(error)
        self.apply(attrs)
        atime_ns, mtime_ns = attrs.atime_ns, attrs.mtime_ns
        if not self.number or (atime_ns is None and mtime_ns is None):
            self.changed()
            return
        if atime_ns is None or mtime_ns is None:
            stat = self.stat_now()
            atime_ns = stat.atime_ns if atime_ns is None else atime_ns
            mtime_ns = stat.mtime_ns if mtime_ns is None else mtime_ns
        self._set_times(atime_ns, mtime_ns)  # moves the host file's change time
        self.touched()
        if self.host is not None:
            self.host.publish(self)

    def _set_times(self, atime_ns: int, mtime_ns: int) -> None:
        if self.host is None:
            self.store.set_times(self.number, atime_ns, mtime_ns)
            return
        try:
            os.utime(self.host.any_fd(), ns=(atime_ns, mtime_ns))
        except OSError as error:
            raise from_host(error)

    async def host_backing(self, task: Task, write: bool) -> HostBacking:
        return self.backing(True, write)

    def open_now(self, task: Task, path: Path, flags: int) -> File | None:
        return self.describe(path, flags)

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return self.describe(path, flags)

    def describe(self, path: Path, flags: int) -> File:
        """An open file description."""
        access = flags & O_ACCMODE
        host = self.backing(access != O_WRONLY, access != O_RDONLY)
        return HostFile(self, path, flags, host, bool(path.mount.flags & MS_NOEXEC))

    def fill_from(self, host_fd: int, size: int) -> None:
        """Become a copy of the first `size` bytes of a host file (copy-up), holes included."""
        target = self.backing(False, True).host_fd(True)
        try:
            os.ftruncate(target, size)
            copied = 0
            while copied < size:
                try:
                    start = os.lseek(host_fd, copied, os.SEEK_DATA)
                    end = min(size, os.lseek(host_fd, start, os.SEEK_HOLE))
                except OSError as error:
                    if error.errno == ENXIO.errno:  # a hole to the end
                        break
                    start, end = copied, size
                copied = copy_range(host_fd, target, start, end)
        except OSError as error:
            raise from_host(error)


def copy_range(source: int, target: int, start: int, end: int) -> int:
    """Copy bytes [start, end) between host files at the same offsets, in the host kernel; always `end`."""
    while start < end:
        os.lseek(target, start, os.SEEK_SET)
        copied = os.sendfile(target, source, start, min(end - start, 1 << 24))
        if not copied:
            return end
        start += copied
    return start
