"""The descriptions every file system opens the same way: directories, fifos and device nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFMT,
    SEEK_CUR,
    SEEK_SET,
)
from sentry.errors import EINVAL, EISDIR, ENOENT, ENXIO
from sentry.vfs.devices import open_device
from sentry.vfs.file import File
from sentry.vfs.stat import DirEntry

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path


async def open_special(task: Task, inode: Inode, path: Path, flags: int) -> File:
    """A description of `inode` by its type; ENXIO for sockets (and for types that need a file system's
    own).
    """
    kind = inode.mode & S_IFMT
    if kind == S_IFDIR:
        return Directory(inode, path, flags)
    if kind == S_IFIFO:
        from sentry.fs.pipe import open_fifo

        return await open_fifo(task, inode, path, flags)
    if kind in (S_IFCHR, S_IFBLK):
        return await open_device(task, inode, path, flags)
    raise ENXIO


class Directory(File):
    """An open directory: a snapshot of the names, taken at the first read and at every rewind."""

    __slots__ = ("_snapshot",)
    only_a_place = True

    def __init__(self, inode: Inode, path: Path | None, flags: int) -> None:
        super().__init__(inode, path, flags)
        self._snapshot: list[DirEntry] | None = None

    async def readdir(self, task: Task) -> list[DirEntry]:
        """The entries from `pos` on; `pos` counts entries, "." being the first."""
        if self.path is not None and self.path.dentry.dead:
            raise ENOENT("removed directory")
        if self._snapshot is None or self.pos == 0:
            parent = self.path.dentry.parent if self.path is not None else None
            above = self.inode if parent is None or parent.inode is None else parent.inode
            own = [DirEntry(b".", self.inode.ino, 4), DirEntry(b"..", above.ino, 4)]
            self._snapshot = own + await self.inode.readdir()
        return self._snapshot[self.pos :]

    def seek(self, offset: int, whence: int) -> int:
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence != SEEK_SET:
            raise EINVAL
        if offset < 0:
            raise EINVAL
        if offset != self.pos:
            self.pos = offset
            if offset == 0:
                self._snapshot = None
        return offset

    async def read(self, task: Task, size: int) -> bytes:
        raise EISDIR

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        raise EISDIR

    async def fsync(self, task: Task, datasync: bool) -> None:
        pass
