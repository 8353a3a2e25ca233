"""Identifiers, keys and permissions that all System V IPC objects share (ipc/util.c)."""

from __future__ import annotations

from itertools import chain
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
_INDEX_MASK = (1 << INDEX_BITS) - 1
_SEQUENCE_MAX = (1 << 31) - 1 >> INDEX_BITS
_CYCLE_MIN = 64  # so many identifiers are used before an index comes again
_NOBODY = 0xFFFFFFFF  # no valid uid or gid
PERM = Struct("<iIIIIIHH4x16x")  # struct ipc64_perm
PERMISSIONS = 0o777  # of `mode`; the rest says what has become of the object


class IpcObject:
    """A semaphore set, a message queue or a segment of shared memory."""

    def __init__(self, task: Task, key: int, mode: int) -> None:
        creds = task.creds
        self.key = key
        self.id = -1
        self.mode = mode & PERMISSIONS
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
        """IPC_SET; EINVAL for an owner that there can't be."""
        _, uid, gid, _, _, mode, _, _ = PERM.unpack(data[: PERM.size])
        if _NOBODY in (uid, gid):
            raise EINVAL
        self.uid, self.gid = uid, gid
        self.mode = self.mode & ~PERMISSIONS | mode & PERMISSIONS
        self.ctime = int(time())


T = TypeVar("T", bound=IpcObject)


class Registry(Generic[T]):
    """All objects of one kind in a kernel."""

    def __init__(self) -> None:
        self.by_index: dict[int, T] = {}
        self._sequence = 0
        self._last = -1

    def get(
        self,
        task: Task,
        key: int,
        flags: int,
        most: int,
        make: Callable[[], T],
        check: Callable[[T], None] = lambda found: None,
    ) -> T:
        """semget(2), msgget(2), shmget(2): find by key, or make if there are not `most` yet. `check` says whether what
        was found is what is asked for."""
        if key != IPC_PRIVATE:
            for found in self.by_index.values():
                if found.key == key:
                    if flags & IPC_CREAT and flags & IPC_EXCL:
                        raise EEXIST
                    check(found)
                    found.check(task, flags & PERMISSIONS)
                    return found
            if not flags & IPC_CREAT:
                raise ENOENT
        made = make()
        if len(self.by_index) >= most:
            raise ENOSPC
        self._add(made)
        return made

    def _add(self, made: T) -> None:
        """Indices go round, and a round is a new sequence number (ipc_idr_alloc)."""
        end = min(max(len(self.by_index) * 3 // 2, _CYCLE_MIN), 1 << INDEX_BITS)
        index = next(each for each in chain(range(self._last + 1, end), range(end)) if each not in self.by_index)
        if index <= self._last:
            self._sequence = (self._sequence + 1) % _SEQUENCE_MAX
        self._last = index
        made.id = self._sequence << INDEX_BITS | index
        self.by_index[index] = made

    def find(self, ident: int) -> T:
        """By identifier; EINVAL for one that is not in use."""
        found = self.by_index.get(ident & _INDEX_MASK) if ident >= 0 else None
        if found is None or found.id != ident:
            raise EINVAL
        return found

    def at(self, index: int) -> T:
        """By place in the table (SEM_STAT, MSG_STAT, SHM_STAT)."""
        found = self.by_index.get(index & _INDEX_MASK) if index >= 0 else None
        if found is None:
            raise EINVAL
        return found

    def remove(self, gone: T) -> None:
        """IPC_RMID: whoever waits on it gets EIDRM."""
        self.by_index.pop(gone.id & _INDEX_MASK, None)
        gone.removed = True
        gone.queue.wake()

    def in_order(self) -> list[T]:
        """By place in the table."""
        return [self.by_index[index] for index in sorted(self.by_index)]

    @property
    def highest(self) -> int:
        return max(self.by_index, default=0)
