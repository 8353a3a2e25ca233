"""Inodes without a name in any tree: pipefs, and the one inode of all anon_inode files (eventfd, epoll)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import S_IFIFO
from sentry.errors import EOPNOTSUPP
from sentry.vfs.file import File
from sentry.vfs.inode import Filesystem, Inode

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.stat import SetAttr


class PseudoFs(Filesystem):
    """A file system that is mounted nowhere and only numbers its inodes."""

    def __init__(self, name: bytes, magic: int) -> None:
        super().__init__()
        self.name = name
        self.magic = magic
        self._next_ino = 0

    def next_ino(self) -> int:
        self._next_ino += 1
        return self._next_ino


PIPEFS_MAGIC = 0x50495045
_pipefs: PseudoFs | None = None
_anon_inode: Inode | None = None


def pipe_inode(task: Task | None) -> Inode:
    """A new pipe's inode: mode 0600, the creator's."""
    global _pipefs
    if _pipefs is None:
        _pipefs = PseudoFs(b"pipefs", PIPEFS_MAGIC)
    uid, gid = (task.creds.fsuid, task.creds.fsgid) if task is not None else (0, 0)
    return Inode(_pipefs, _pipefs.next_ino(), S_IFIFO | 0o600, uid, gid)


def anon_inode() -> Inode:
    """The inode of every anon_inode file: no type, mode 0600, root's."""
    global _anon_inode
    if _anon_inode is None:
        fs = PseudoFs(b"anon_inodefs", 0x09041934)
        _anon_inode = AnonInode(fs, fs.next_ino(), 0o600)
    return _anon_inode


class AnonInode(Inode):
    """Shared by all: nobody may change it."""

    __slots__ = ()

    async def setattr(self, task: Task, attrs: SetAttr) -> None:
        raise EOPNOTSUPP


class AnonFile(File):
    """A file of that inode which answers lseek(2), though it has no position (noop_llseek)."""

    __slots__ = ()

    def seek(self, offset: int, whence: int) -> int:
        return self.pos
