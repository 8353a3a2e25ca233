"""Identifiers, keys and permissions that all System V IPC objects share (ipc/util.c)."""

from __future__ import annotations

from struct import Struct
from time import time
from typing import TYPE_CHECKING, Generic, TypeVar

from sentry.abi.linux import CAP_IPC_OWNER, CAP_SYS_ADMIN, IPC_CREAT, IPC_EXCL, IPC_PRIVATE
from sentry.errors import EACCES, EEXIST, EINVAL, ENOENT, ENOSPC, EPERM
from sentry.kernel.sched import WaitQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.kernel.task import Task

INDEX_BITS = 15
PERM = Struct("<iIIIIIHH4x16x")  # struct ipc64_perm


class IpcObject:
    """A semaphore set or a message queue."""

    def __init__(self, task: Task, key: int, mode: int) -> None:
        creds = task.creds
        self.key = key
        self.id = -1
        self.mode = mode & 0o777
        self.uid = self.cuid = creds.euid
        self.gid = self.cgid = creds.egid
        self.ctime = int(time())
        self.removed = False
        self.queue = WaitQueue()

    def perm(self) -> bytes:
        """struct ipc64_perm."""
        return PERM.pack(
            self.key, self.uid, self.gid, self.cuid, self.cgid, self.mode, self.id >> INDEX_BITS, 0
        )

    def check(self, task: Task, wanted: int) -> None:
        """EACCES unless the task has `wanted`, permission bits in any of the three places (ipcperms)."""
        creds = task.creds
        requested = (wanted >> 6 | wanted >> 3 | wanted) & 7
        granted = self.mode
        if creds.euid in (self.cuid, self.uid):
            granted >>= 6
        elif creds.in_group(self.cgid) or creds.in_group(self.gid):
            granted >>= 3
        if requested & ~granted & 7 and not creds.has_cap(CAP_IPC_OWNER):
            raise EACCES

    def check_owner(self, task: Task) -> None:
        """EPERM unless the task may remove or change it."""
        if task.creds.euid not in (self.cuid, self.uid) and not task.creds.has_cap(CAP_SYS_ADMIN):
            raise EPERM

    def set_perm(self, data: bytes) -> None:
        """IPC_SET."""
        _, self.uid, self.gid, _, _, mode, _, _ = PERM.unpack(data[: PERM.size])
        self.mode = mode & 0o777
        self.ctime = int(time())


T = TypeVar("T", bound=IpcObject)


class Registry(Generic[T]):
    """All objects of one kind in a kernel."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.by_index: dict[int, T] = {}
        self._sequence = 0
        self._last = -1

    def get(self, task: Task, key: int, flags: int, make: Callable[[], T]) -> T:
        """semget(2), msgget(2): find by key, or make. The caller checks sizes of what was found."""
        if key != IPC_PRIVATE:
            for found in self.by_index.values():
                if found.key == key:
                    if flags & IPC_CREAT and flags & IPC_EXCL:
                        raise EEXIST
                    found.check(task, flags & 0o777)
                    return found
            if not flags & IPC_CREAT:
                raise ENOENT
        if len(self.by_index) >= self.most:
            raise ENOSPC
        made = make()
        index = 0
        while index in self.by_index:
            index += 1
        if index <= self._last:
            self._sequence = (self._sequence + 1) & 0xFFFF
        self._last = index
        made.id = self._sequence << INDEX_BITS | index
        self.by_index[index] = made
        return made

    def find(self, ident: int) -> T:
        """By identifier; EINVAL for one that is not in use."""
        found = self.by_index.get(ident & ((1 << INDEX_BITS) - 1)) if ident >= 0 else None
        if found is None or found.id != ident:
            raise EINVAL
        return found

    def at(self, index: int) -> T:
        """By place in the table (SEM_STAT, MSG_STAT)."""
        found = self.by_index.get(index)
        if found is None:
            raise EINVAL
        return found

    def remove(self, gone: T) -> None:
        """IPC_RMID: whoever waits on it gets EIDRM."""
        self.by_index.pop(gone.id & ((1 << INDEX_BITS) - 1), None)
        gone.removed = True
        gone.queue.wake()

    @property
    def highest(self) -> int:
        return max(self.by_index, default=0)
