"""StoredFile: a regular file whose data is a host file of the sentry's own store (tmpfs, overlay's upper,
memfd).

The inode's HostBacking has at most two host descriptors, opened when first needed and shared by all
descriptions: a read-only one, so that a guest which may only read cannot get a writable mapping, and a
read-write one. Once there is a host file, size, blocks and times are its; mode, owner and links are ours,
and the later change time counts.
"""

from __future__ import annotations

import os
from collections import deque
from sys import getrefcount
from time import time_ns
from typing import TYPE_CHECKING
from weakref import ref

from sentry.abi.linux import MS_NOEXEC, O_ACCMODE, O_RDONLY, O_WRONLY, XATTR_CREATE, XATTR_REPLACE
from sentry.errors import EEXIST, ENODATA, ENOSPC, ENXIO, from_host
from sentry.vfs.inode import Filesystem, Inode
from sentry.vfs.stat import SetAttr, Stat

if TYPE_CHECKING:
    from sentry.fs.hostfile import HostBacking
    from sentry.fs.store import Store
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.mount import Path

MAX_OPEN = 512  #: files that keep their host descriptors while no guest has them open
XATTR_NAME_CAPS = b"security.capability"
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
        self.changed()

    def has_file_caps(self) -> bool:
        return self.xattrs is not None and XATTR_NAME_CAPS in self.xattrs

    def drop_file_caps(self) -> None:
        if self.xattrs is not None and self.xattrs.pop(XATTR_NAME_CAPS, None) is not None:
            self.changed()

    def changed(self) -> None:
        """Mode, owner, links or extended attributes changed: the change time moves."""
        self.ctime_ns = time_ns()


class StoredFile(KeptXattrs):
    """A regular file in `store`. The host file is made at the first open or change of size."""

    __slots__ = ("number", "store")
    host: HostBacking | None

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
        from sentry.fs.hostfile import HostBacking

        if not self.number:
            self.number, host_rw = self.store.create()
            self.host = host = HostBacking(-1, host_rw)
            if time_ns() - self.btime_ns > _FRESH_NS or self.mtime_ns != self.btime_ns:
                self._set_times(self.atime_ns, self.mtime_ns)
        else:
            host_fd = self.store.reopen(self.number, write)
            self.host = host = HostBacking(-1, host_fd) if write else HostBacking(host_fd, -1)
        host.publish(self)
        if self.store.reopens:
            _keep_open(self)
        return host

    def changed(self) -> None:
        """The host file's change time moves too, and C's fstat(2) learns of it."""
        super().changed()
        if self.host is not None:
            os.fchmod(self.host.any_fd(), 0o600)  # changes nothing but the host file's change time
            self.host.publish(self)

    def close_idle(self) -> bool:
        """Give the host descriptors back unless the file is open; it can be opened again by its number."""
        if self.host is not None and getrefcount(self.host) > 2:
            return False
        self.host = None
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

    def stored_blocks(self) -> int:
        """512-byte blocks the data takes in the store."""
        return StoredFile.stat_now(self).blocks

    async def setattr(self, task: Task, attrs: SetAttr) -> None:
        if attrs.size is not None:
            try:
                os.ftruncate(self.backing(False, True).host_fd(True), attrs.size)
            except OSError as error:
                raise from_host(error)
        self.apply(attrs)
        if self.number and (attrs.atime_ns is not None or attrs.mtime_ns is not None):
            stat = self.stat_now()
            self._set_times(
                stat.atime_ns if attrs.atime_ns is None else attrs.atime_ns,
                stat.mtime_ns if attrs.mtime_ns is None else attrs.mtime_ns,
            )
        self.changed()

    def _set_times(self, atime_ns: int, mtime_ns: int) -> None:
        try:
            os.utime(self.backing(False, False).any_fd(), ns=(atime_ns, mtime_ns))
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
        from sentry.fs.hostfile import HostFile

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


_kept_open: deque[ref[StoredFile]] = deque()


def _keep_open(inode: StoredFile) -> None:
    """`inode` got host descriptors; when too many have some, idle ones lose theirs, the oldest first."""
    _kept_open.append(ref(inode))
    for _ in range(min(len(_kept_open) - MAX_OPEN, 8)):
        oldest = _kept_open.popleft()
        idle = oldest()
        if idle is not None and not idle.close_idle():
            _kept_open.append(oldest)
