"""A VFS without guests: a task with memory, descriptors and credentials of its own, and calls that run to
their end.

    rig = Rig()                       # a tmpfs as root
    rig.call(paths.sys_mkdir, b"/a", 0o755)
    rig.errno(paths.sys_rmdir, b"/")  # 16, or 0

Path arguments are bytes and buffers are ints (addresses of `rig.memory`), as handlers get them.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from sentry.abi.linux import CAP_LAST_CAP
from sentry.errors import EFAULT, ENAMETOOLONG, LinuxError
from sentry.fs.store import Store
from sentry.fs.tmpfs import Tmpfs
from sentry.kernel.creds import Credentials
from sentry.kernel.fdtable import FdTable
from sentry.vfs.context import FsContext
from sentry.vfs.inode import Filesystem, Inode
from sentry.vfs.mount import Mount, MountNamespace

ALL_CAPS = (1 << (CAP_LAST_CAP + 1)) - 1
ROOT = Credentials(cap_permitted=ALL_CAPS, cap_effective=ALL_CAPS)


def user(uid: int, gid: int, groups: tuple[int, ...] = ()) -> Credentials:
    """An ordinary user's credentials."""
    return Credentials(uid, uid, uid, uid, gid, gid, gid, gid, groups)


class Memory:
    """Guest memory: one block at `BASE`; whatever lies outside is EFAULT."""

    BASE = 0x10000

    host_tid = 0  # the core means our own memory by it

    def __init__(self, size: int = 1 << 17) -> None:
        self.block = bytearray(size)

    def read(self, addr: int, size: int) -> bytes:
        start = addr - self.BASE
        if start < 0 or start + size > len(self.block):
            raise EFAULT
        return bytes(self.block[start : start + size])

    def write(self, addr: int, data: bytes) -> None:
        start = addr - self.BASE
        if start < 0 or start + len(data) > len(self.block):
            raise EFAULT
        self.block[start : start + len(data)] = data

    def write_some(self, addr: int, data: bytes) -> int:
        self.write(addr, data)
        return len(data)

    def read_cstr(self, addr: int | bytes, limit: int = 4096) -> bytes:
        if isinstance(addr, bytes):  # a test may give a handler the string itself
            return addr
        text, end, _ = bytes(self.block[addr - self.BASE :][:limit]).partition(b"\0")
        if addr < self.BASE or not end:
            raise ENAMETOOLONG if addr >= self.BASE else EFAULT
        return text

    def put(self, data: bytes) -> int:
        """Write `data` and a NUL somewhere; its address."""
        self.write(self.BASE + (1 << 16), data + b"\0")
        return self.BASE + (1 << 16)


class Limits:
    def get(self, resource: int) -> tuple[int, int]:
        return (1 << 64) - 1, (1 << 64) - 1


class Group:
    rlimits = Limits()

    def __init__(self) -> None:
        self.tasks: list[Any] = []

    def threads(self) -> list[Any]:
        return self.tasks


class Task:
    """What handlers use of a task."""

    def __init__(self, fs: FsContext, mounts: MountNamespace, creds: Credentials) -> None:
        self.fs = fs
        self.mounts = mounts
        self.creds = creds
        self.fds = FdTable()
        self.mem = Memory()
        self.group = Group()
        self.group.tasks.append(self)
        self.kernel = self
        self.tracee: Any = None

    def groups(self) -> list[Group]:
        return [self.group]

    def is_running(self, inode: Inode) -> bool:
        return False

    def shares_place(self, task: Any) -> bool:
        return False


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that must not wait."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("the call waits")


class Rig:
    """A root file system and a task in it."""

    def __init__(self, fs: Filesystem | None = None, creds: Credentials = ROOT) -> None:
        self.fs = fs or Tmpfs(Store(None), mode=0o755)
        self.mounts = MountNamespace(Mount(self.fs))
        self.task: Any = Task(FsContext(self.mounts.root_path), self.mounts, creds)
        self.buffer = Memory.BASE
        self.subs: list[Rig] = []

    def call(self, handler: Any, *args: Any) -> Any:
        result = handler(self.task, *args)
        return run(result) if isinstance(result, Coroutine) else result

    def errno(self, handler: Any, *args: Any) -> int:
        """The errno a call fails with; 0 if it succeeds."""
        try:
            self.call(handler, *args)
        except LinuxError as error:
            return error.errno
        return 0

    def bytes(self, size: int, addr: int = 0) -> bytes:
        """What a call put into the buffer."""
        return self.task.mem.read(addr or self.buffer, size)

    def sub(self, creds: Credentials) -> Rig:
        """The same tree for another user."""
        other = Rig.__new__(Rig)
        other.fs, other.mounts, other.buffer = self.fs, self.mounts, self.buffer
        other.task = Task(self.task.fs.copy(), self.mounts, creds)
        other.subs = []
        self.subs.append(other)
        return other

    def close(self) -> None:
        """Let everything go: descriptors, mounts, file systems."""
        for other in self.subs:
            other.close()
        task = self.task
        task.fds.drop()
        task.fs = task.kernel = task.mounts = None
        task.group.tasks.clear()
        self.mounts.drop()
        del self.task, self.mounts
