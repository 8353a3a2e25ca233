"""The directory of a process (/proc/PID) and of a thread (/proc/PID/task/TID)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from sentry.abi.linux import CAP_SYS_RESOURCE, S_IFDIR, S_IFLNK
from sentry.errors import EACCES, EINVAL, EIO, ENOENT, EPERM, ESRCH
from sentry.fs.proc import maps, mounts, net, status
from sentry.fs.proc.access import ProcessFile, ProcessInode, check_look, owner
from sentry.fs.proc.fds import FdDirectory, FdinfoDirectory
from sentry.fs.proc.mem import MemInode
from sentry.fs.pseudo import OpenDirectory, PseudoDirectory, number
from sentry.vfs.mount import Path, d_path
from sentry.vfs.stat import DirEntry

if TYPE_CHECKING:
    from sentry.fs.proc.fs import Procfs
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode

DT_REG, DT_DIR, DT_LNK = 8, 4, 10

#: (reader, target) -> content
Make = Callable[["Task", "Task"], bytes]
#: (writer, target, data)
Store = Callable[["Task", "Task", bytes], None]


class Entry(NamedTuple):
    """A file of the directory. `look`: opening it needs ptrace access, too."""

    make: Make | None
    mode: int = 0o444
    store: Store | None = None
    sequential: bool = False  # written through a seq_file


def _comm(reader: Task, target: Task) -> bytes:
    return target.comm + b"\n"


def _set_comm(writer: Task, target: Task, data: bytes) -> None:
    """Threads of the process may name each other."""
    if writer.group is not target.group:
        raise EINVAL
    target.comm = data.partition(b"\0")[0][:15]


def _oom_score_adj(reader: Task, target: Task) -> bytes:
    return b"%d\n" % target.group.oom_score_adj


def _set_oom_score_adj(writer: Task, target: Task, data: bytes) -> None:
    value = number(data, -1000, 1000)
    if value < target.group.oom_score_adj and not writer.creds.has_cap(CAP_SYS_RESOURCE):
        raise EACCES
    target.group.oom_score_adj = value


def _oom_adj(reader: Task, target: Task) -> bytes:
    value = target.group.oom_score_adj
    return b"%d\n" % (15 if value == 1000 else value * 17 // 1000)


def _set_oom_adj(writer: Task, target: Task, data: bytes) -> None:
    value = number(data, -17, 15)
    scaled = 1000 if value == 15 else value * 1000 // 17
    _set_oom_score_adj(writer, target, b"%d" % scaled)


def _oom_score(reader: Task, target: Task) -> bytes:
    return b"%d\n" % max(0, 666 + target.group.oom_score_adj * 2 // 3)


def _id_map(reader: Task, target: Task) -> bytes:
    return b"%10d %10d %10d\n" % (0, 0, 4294967295)


def _cgroup(reader: Task, target: Task) -> bytes:
    return b"0::/\n"


def _personality(reader: Task, target: Task) -> bytes:
    check_look(reader, target)
    return b"%08x\n" % getattr(target, "personality", 0)


def _syscall(reader: Task, target: Task) -> bytes:
    check_look(reader, target)
    call = target.call
    if call is None:
        return b"running\n"
    return b"%d %s 0x0 0x0\n" % (call.nr, b" ".join(b"0x%x" % arg for arg in call.args))


def _wchan(reader: Task, target: Task) -> bytes:
    return b"0"


def _mounts(reader: Task, target: Task) -> bytes:
    return mounts.mounts(target)


def _mountinfo(reader: Task, target: Task) -> bytes:
    return mounts.mountinfo(target)


def _mountstats(reader: Task, target: Task) -> bytes:
    return mounts.mountstats(target)


def _refuse_map(writer: Task, target: Task, data: bytes) -> None:
    raise EPERM("the map is set")


#: What process and thread directories have in common.
_COMMON: dict[bytes, Entry] = {
    b"auxv": Entry(maps.auxv, 0o400),
    b"cgroup": Entry(_cgroup),
    b"cmdline": Entry(maps.cmdline),
    b"comm": Entry(_comm, 0o644, _set_comm, True),
    b"cpuset": Entry(lambda reader, target: b"/\n"),
    b"environ": Entry(maps.environ, 0o400),
    b"gid_map": Entry(_id_map, 0o644, _refuse_map, True),
    b"io": Entry(status.io, 0o400),
    b"limits": Entry(status.limits),
    b"loginuid": Entry(lambda reader, target: b"4294967295", 0o644, _refuse_map),
    b"maps": Entry(maps.maps),
    b"mountinfo": Entry(_mountinfo),
    b"mounts": Entry(_mounts),
    b"numa_maps": Entry(maps.numa_maps),
    b"oom_adj": Entry(_oom_adj, 0o644, _set_oom_adj),
    b"oom_score": Entry(_oom_score),
    b"oom_score_adj": Entry(_oom_score_adj, 0o644, _set_oom_score_adj),
    b"personality": Entry(_personality, 0o400),
    b"projid_map": Entry(_id_map, 0o644, _refuse_map, True),
    b"sched": Entry(status.sched),
    b"schedstat": Entry(status.schedstat),
    b"sessionid": Entry(lambda reader, target: b"4294967295"),
    b"setgroups": Entry(lambda reader, target: b"allow\n", 0o644, _refuse_map, True),
    b"smaps": Entry(maps.smaps),
    b"smaps_rollup": Entry(maps.smaps_rollup),
    b"stat": Entry(None),
    b"statm": Entry(status.statm),
    b"status": Entry(status.status),
    b"syscall": Entry(_syscall, 0o400),
    b"uid_map": Entry(_id_map, 0o644, _refuse_map, True),
    b"wchan": Entry(_wchan),
}
_PROCESS: dict[bytes, Entry] = {
    **_COMMON,
    b"coredump_filter": Entry(lambda reader, target: b"00000033\n", 0o644, lambda writer, target, data: None),
    b"mountstats": Entry(_mountstats, 0o400),
    b"timerslack_ns": Entry(lambda reader, target: b"50000\n", 0o666, lambda writer, target, data: None, True),
    b"timers": Entry(lambda reader, target: b""),
}
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
    name: slot for slot, name in enumerate([*_PROCESS, *_LINKS, b"ns", b"net", b"attr", b"task", b"mem"], start=2)
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
        self.entries = _COMMON if thread else _PROCESS

    def _ino(self, slot: int) -> int:
        return self.ino + slot

    async def lookup(self, name: bytes) -> Inode:
        target = self.target
        if not target.kernel.exists(target):
            raise ESRCH
        entry = self.entries.get(name)
        if entry is not None:
            return self._file(name, entry)
        if name in _LINKS:
            return TaskLink(self.fs, target, name, self._ino(_SLOTS[name]))
        if name == b"mem":
            return MemInode(self.fs, target, self._ino(_SLOTS[name]))
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

    def _file(self, name: bytes, entry: Entry) -> Inode:
        target, whole = self.target, not self.thread
        make, store = entry.make, entry.store

        def read(reader: Task) -> bytes:
            if not target.kernel.exists(target):
                raise ESRCH
            if make is None:
                return status.stat(reader, target, whole)
            return make(reader, target)

        def write(writer: Task, data: bytes) -> None:
            if store is None:
                raise EIO
            store(writer, target, data)

        ino = self._ino(_SLOTS[name])
        inode = ProcessFile(self.fs, read, write if store else None, entry.mode, ino, entry.sequential)
        inode.uid, inode.gid = owner(target)
        return inode

    async def readdir(self) -> list[DirEntry]:
        found = [DirEntry(name, self._ino(_SLOTS[name]), DT_REG) for name in self.entries]
        found += [DirEntry(name, self._ino(_SLOTS[name]), DT_LNK) for name in _LINKS]
        found += [
            DirEntry(b"mem", self._ino(_SLOTS[b"mem"]), DT_REG),
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
