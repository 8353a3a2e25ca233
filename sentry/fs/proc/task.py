"""The directory of a process (/proc/PID) and of a thread (/proc/PID/task/TID): files (taskfiles.py), links, threads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import S_IFDIR, S_IFLNK
from sentry.errors import ENOENT, ESRCH
from sentry.fs.proc import net
from sentry.fs.proc.access import ProcessInode, check_look, owner
from sentry.fs.proc.fds import FdDirectory, FdinfoDirectory
from sentry.fs.proc.taskfiles import PROCESS, THREAD, TaskFile
from sentry.fs.pseudo import OpenDirectory, PseudoDirectory
from sentry.vfs.mount import Path, d_path
from sentry.vfs.stat import DirEntry

if TYPE_CHECKING:
    from sentry.fs.proc.fs import Procfs
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode

DT_REG, DT_DIR, DT_LNK = 8, 4, 10

_LINKS = (b"cwd", b"exe", b"root")
_NAMESPACES = {
    b"cgroup": 4026531835,
    b"ipc": 4026531839,
    b"mnt": 4026531841,
    b"net": 4026531840,
    b"pid": 4026531836,
    b"pid_for_children": 4026531836,
    b"time": 4026531834,
    b"time_for_children": 4026531834,
    b"user": 4026531837,
    b"uts": 4026531838,
}

# Inode numbers: (id << 24) + slot; bit 23 of the slot tells a thread's directory from its process's.
_SHIFT = 24
_THREAD = 1 << 23
_SLOTS = {
    name: slot for slot, name in enumerate([*PROCESS, b"children", *_LINKS, b"ns", b"net", b"attr", b"task"], start=2)
}
_FD, _FDINFO, _NS, _NET = 0x1000, 0x200000, 0x400, 0x800


class TaskDirectory(ProcessInode):
    """/proc/PID, or /proc/PID/task/TID with `thread`."""

    __slots__ = ("entries", "target", "thread")
    fs: Procfs

    def __init__(self, fs: Procfs, target: Task, thread: bool) -> None:
        ino = (target.tid << _SHIFT) + (_THREAD if thread else 0) + 1
        super().__init__(fs, ino, S_IFDIR | 0o555, *owner(target, True), nlink=9)
        self.target = target
        self.thread = thread
        self.entries = THREAD if thread else PROCESS

    def _ino(self, slot: int) -> int:
        return self.ino + slot

    async def lookup(self, name: bytes) -> Inode:
        target = self.target
        if not target.kernel.exists(target):
            raise ESRCH
        entry = self.entries.get(name)
        if entry is not None:
            return TaskFile(self.fs, target, name, entry, not self.thread, self._ino(_SLOTS[name]))
        if name in _LINKS:
            return TaskLink(self.fs, target, name, self._ino(_SLOTS[name]))
        if name == b"fd":
            return FdDirectory(self.fs, target, self._ino(_FD))
        if name == b"fdinfo":
            return FdinfoDirectory(self.fs, target, self._ino(_FDINFO))
        if name == b"task" and not self.thread:
            return ThreadsDirectory(self.fs, target, self._ino(_SLOTS[name]))
        if name == b"ns":
            return NamespaceDirectory(self.fs, target, self._ino(_NS))
        if name == b"net":
            return PseudoDirectory(self.fs, net.tree(), 0o555, self._ino(_SLOTS[name]))
        if name == b"attr":
            return PseudoDirectory(self.fs, {}, 0o555, self._ino(_SLOTS[name]))
        raise ENOENT

    async def readdir(self) -> list[DirEntry]:
        found = [DirEntry(name, self._ino(_SLOTS[name]), DT_REG) for name in self.entries]
        found += [DirEntry(name, self._ino(_SLOTS[name]), DT_LNK) for name in _LINKS]
        found += [
            DirEntry(b"fd", self._ino(_FD), DT_DIR),
            DirEntry(b"fdinfo", self._ino(_FDINFO), DT_DIR),
            DirEntry(b"ns", self._ino(_NS), DT_DIR),
            DirEntry(b"net", self._ino(_SLOTS[b"net"]), DT_DIR),
        ]
        if not self.thread:
            found.append(DirEntry(b"task", self._ino(_SLOTS[b"task"]), DT_DIR))
        return found

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return OpenDirectory(self, path, flags)


class TaskLink(ProcessInode):
    """cwd, exe and root: magic links to places of the process."""

    __slots__ = ("name", "target")

    def __init__(self, fs: Procfs, target: Task, name: bytes, ino: int) -> None:
        super().__init__(fs, ino, S_IFLNK | 0o777, *owner(target))
        self.target = target
        self.name = name

    def _place(self) -> Path:
        target = self.target
        if self.name == b"exe":
            exe = target.group.exe
            if exe is None:
                raise ENOENT("a process without a program")
            return exe
        return target.fs.cwd if self.name == b"cwd" else target.fs.root

    def magic_link(self, task: Task) -> Path:
        check_look(task, self.target)
        if self.target.group.exited:
            raise ENOENT("a zombie is nowhere")
        return self._place()

    def readlink_for(self, task: Task) -> bytes:
        return d_path(self.magic_link(task), task.fs.root)

    async def readlink(self) -> bytes:
        return d_path(self._place(), self.target.fs.root)


class ThreadsDirectory(ProcessInode):
    """/proc/PID/task."""

    __slots__ = ("target",)
    fs: Procfs

    def __init__(self, fs: Procfs, target: Task, ino: int) -> None:
        super().__init__(fs, ino, S_IFDIR | 0o555, *owner(target, True), nlink=2 + len(target.group.threads()))
        self.target = target

    async def lookup(self, name: bytes) -> Inode:
        for task in self.target.group.members():
            if b"%d" % task.tid == name:
                return TaskDirectory(self.fs, task, True)
        raise ENOENT

    async def readdir(self) -> list[DirEntry]:
        return [
            DirEntry(b"%d" % task.tid, (task.tid << _SHIFT) + _THREAD + 1, DT_DIR)
            for task in self.target.group.members()
        ]

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return OpenDirectory(self, path, flags)


class NamespaceDirectory(ProcessInode):
    """/proc/PID/ns: every process of the sandbox is in the same namespaces, mounts apart."""

    __slots__ = ("target",)
    fs: Procfs

    def __init__(self, fs: Procfs, target: Task, ino: int) -> None:
        super().__init__(fs, ino, S_IFDIR | 0o511, *owner(target), nlink=2)
        self.target = target

    async def lookup(self, name: bytes) -> Inode:
        if name not in _NAMESPACES:
            raise ENOENT
        return NamespaceLink(self.fs, self.target, name, self.ino + 1 + list(_NAMESPACES).index(name))

    async def readdir(self) -> list[DirEntry]:
        return [DirEntry(name, self.ino + 1 + slot, DT_LNK) for slot, name in enumerate(_NAMESPACES)]

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return OpenDirectory(self, path, flags)


class NamespaceLink(ProcessInode):
    """/proc/PID/ns/NAME. It can be read, not opened."""

    __slots__ = ("name", "target")

    def __init__(self, fs: Procfs, target: Task, name: bytes, ino: int) -> None:
        super().__init__(fs, ino, S_IFLNK | 0o777, *owner(target))
        self.target = target
        self.name = name

    def readlink_for(self, task: Task) -> bytes:
        check_look(task, self.target)
        kind = self.name.partition(b"_")[0]
        ident = _NAMESPACES[self.name]
        if kind == b"mnt":
            ident += self.target.mounts.root.id - 1
        return b"%s:[%d]" % (kind, ident)

    async def readlink(self) -> bytes:
        return self.readlink_for(self.target)

    def magic_link(self, task: Task) -> Path | None:
        return None
