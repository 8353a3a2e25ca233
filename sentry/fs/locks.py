"""Advisory locks of files: POSIX and OFD record locks (fcntl(2)) and flock(2).

All locks of an inode hang on `inode.locks` (an InodeLocks, made with the first lock). A record lock is owned
by a descriptor table (POSIX) or by an open file description (OFD); a flock by a description. Waiters sleep on
the inode's queue and look again whenever a lock goes. Ranges are [start, end); END: to the end of the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sentry.abi.linux import F_RDLCK, F_UNLCK, F_WRLCK
from sentry.errors import EAGAIN, EDEADLK, ENOLCK
from sentry.kernel.fdtable import at_release
from sentry.kernel.sched import WaitQueue, wait

if TYPE_CHECKING:
    from sentry.fs.leases import Lease
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode

END = 1 << 63
MAX_RECORDS = 65536  #: of one file


class Record(NamedTuple):
    """A record lock. `pid` is what F_GETLK tells: the owner's process, -1 for OFD locks."""

    owner: Any
    kind: int  # F_RDLCK, F_WRLCK
    start: int
    end: int
    pid: int


class InodeLocks:
    """The locks of one inode."""

    __slots__ = ("flocks", "leases", "queue", "records")

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.flocks: dict[File, int] = {}
        self.leases: list[Lease] = []
        self.queue = WaitQueue()


#: Who waits for whom: POSIX owners only, for EDEADLK.
_waits_for: dict[Any, Any] = {}


def locks_of(inode: Inode) -> InodeLocks:
    if inode.locks is None:
        inode.locks = InodeLocks()
    return inode.locks


# --- record locks


def conflict(inode: Inode, wanted: Record) -> Record | None:
    """The first lock of another owner that excludes `wanted`."""
    if inode.locks is None:
        return None
    for held in inode.locks.records:
        if (
            held.owner is not wanted.owner
            and held.start < wanted.end
            and wanted.start < held.end
            and F_WRLCK in (held.kind, wanted.kind)
        ):
            return held
    return None


def set_record(inode: Inode, wanted: Record) -> None:
    """F_SETLK: take, change or (F_UNLCK) give back; EAGAIN when another owner's lock is in the way."""
    if wanted.kind != F_UNLCK and conflict(inode, wanted) is not None:
        raise EAGAIN
    locks = locks_of(inode)
    records: list[Record] = []
    for held in locks.records:
        if held.owner is not wanted.owner or held.end <= wanted.start or wanted.end <= held.start:
            records.append(held)
            continue
        if held.start < wanted.start:
            records.append(held._replace(end=wanted.start))
        if wanted.end < held.end:
            records.append(held._replace(start=wanted.end))
    if wanted.kind != F_UNLCK:
        records.append(wanted)
    if len(records) > MAX_RECORDS:
        raise ENOLCK
    locks.records = _merged(records)
    locks.queue.wake()


def _merged(records: list[Record]) -> list[Record]:
    """In order of their start; neighbours of one owner and kind made one."""
    merged: list[Record] = []
    latest: dict[tuple[int, int], int] = {}  # an owner's locks do not overlap: only its latest can be a neighbour
    for record in sorted(records, key=lambda each: each.start):
        key = id(record.owner), record.kind
        at = latest.get(key, -1)
        if at >= 0 and merged[at].end == record.start:
            merged[at] = merged[at]._replace(end=record.end)
        else:
            latest[key] = len(merged)
            merged.append(record)
    return merged


async def set_record_wait(inode: Inode, wanted: Record, posix: bool) -> None:
    """F_SETLKW: wait for the lock; EDEADLK when the owner in the way waits for us (POSIX locks only)."""
    while wanted.kind != F_UNLCK and (held := conflict(inode, wanted)) is not None:
        if posix:
            _check_deadlock(wanted.owner, held.owner)
            _waits_for[wanted.owner] = held.owner
        try:
            await wait(locks_of(inode).queue)
        finally:
            if posix:
                _waits_for.pop(wanted.owner, None)
    set_record(inode, wanted)


def _check_deadlock(owner: Any, blocker: Any) -> None:
    for _ in range(len(_waits_for) + 1):
        if blocker is owner:
            raise EDEADLK
        blocker = _waits_for.get(blocker)
        if blocker is None:
            return


def drop_owner(inode: Inode, owner: Any) -> None:
    """The record locks of a table or a description on `inode` go."""
    locks = inode.locks
    if locks is not None:
        locks.records = [held for held in locks.records if held.owner is not owner]
        locks.queue.wake()


def own_until_release(file: File) -> None:
    """OFD locks and flocks of `file` end with the description."""
    if not file.locks:
        file.locks = True
        at_release(file, _released)


def _released(file: File) -> None:
    drop_owner(file.inode, file)
    locks = file.inode.locks
    if locks is not None and locks.flocks.pop(file, None) is not None:
        locks.queue.wake()


# --- flock(2)


def try_flock(file: File, exclusive: bool) -> bool:
    """Take or convert; False when another description is in the way. Converting loses the old lock first."""
    locks = locks_of(file.inode)
    wanted = F_WRLCK if exclusive else F_RDLCK
    if locks.flocks.get(file) == wanted:
        return True
    if locks.flocks.pop(file, None) is not None:
        locks.queue.wake()
    for other in locks.flocks.values():
        if exclusive or other == F_WRLCK:
            return False
    locks.flocks[file] = wanted
    own_until_release(file)
    return True


async def flock(file: File, exclusive: bool, nonblock: bool) -> None:
    while not try_flock(file, exclusive):
        if nonblock:
            raise EAGAIN("another description holds it")
        await wait(locks_of(file.inode).queue)


def unflock(file: File) -> None:
    locks = file.inode.locks
    if locks is not None and locks.flocks.pop(file, None) is not None:
        locks.queue.wake()
