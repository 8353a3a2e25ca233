"""Procfs: the file system, its root directory and the list of processes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentry.abi.linux import PROC_SUPER_MAGIC, S_IFDIR, S_IFLNK
from sentry.errors import EIO, ENOENT
from sentry.fs.proc import sysctl, system
from sentry.fs.proc.task import TaskDirectory
from sentry.fs.pseudo import OpenDirectory, PseudoDirectory, PseudoFilesystem, PseudoInode
from sentry.vfs.inode import NEVER
from sentry.vfs.stat import DirEntry

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

DT_DIR, DT_LNK = 4, 10
PID_SHIFT = 24
SELF_INO, THREAD_SELF_INO = (1 << PID_SHIFT) - 2, (1 << PID_SHIFT) - 1


class Procfs(PseudoFilesystem):
    """One /proc; all of a sandbox show the same."""

    name = b"proc"
    magic = PROC_SUPER_MAGIC
    cache_policy = NEVER
    makes_names = False
    no_mapping = EIO

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.root = RootDirectory(self)


class RootDirectory(PseudoInode):
    """/proc itself."""

    __slots__ = ("_static",)
    fs: Procfs

    def __init__(self, fs: Procfs) -> None:
        super().__init__(fs, 1, S_IFDIR | 0o555, nlink=2)
        fs.next_ino()
        tree: dict[bytes, Any] = system.tree()
        tree[b"sys"] = sysctl.tree(fs.kernel)
        self._static = PseudoDirectory(fs, tree)

    async def lookup(self, name: bytes) -> Inode:
        if name.isdigit():
            if len(name) > 10 or name[:1] == b"0":
                raise ENOENT
            task = self.fs.kernel.find_task(int(name)) or self.fs.kernel.find_zombie(int(name))
            if task is None:
                raise ENOENT
            return TaskDirectory(self.fs, task, False)
        if name == b"self":
            return SelfLink(self.fs, False)
        if name == b"thread-self":
            return SelfLink(self.fs, True)
        return self._static.child(name)

    async def readdir(self) -> list[DirEntry]:
        found = [DirEntry(b"self", SELF_INO, DT_LNK), DirEntry(b"thread-self", THREAD_SELF_INO, DT_LNK)]
        found += await self._static.readdir()
        kernel = self.fs.kernel
        pids = sorted([*(group.tgid for group in kernel.groups()), *(task.tid for task in kernel.zombies())])
        return found + [DirEntry(b"%d" % pid, (pid << PID_SHIFT) + 1, DT_DIR) for pid in pids if pid]

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return OpenDirectory(self, path, flags)


class SelfLink(PseudoInode):
    """/proc/self and /proc/thread-self: they name whoever reads them."""

    __slots__ = ("thread",)

    def __init__(self, fs: Procfs, thread: bool) -> None:
        super().__init__(fs, THREAD_SELF_INO if thread else SELF_INO, S_IFLNK | 0o777)
        self.thread = thread

    def readlink_for(self, task: Task) -> bytes:
        if self.thread:
            return b"%d/task/%d" % (task.group.tgid, task.tid)
        return b"%d" % task.group.tgid

    async def readlink(self) -> bytes:
        raise ENOENT
