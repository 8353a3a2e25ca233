"""File leases: fcntl(F_SETLEASE). Who opens or truncates a leased file waits until its holder lets go.

A lease belongs to an open description; all of an inode's hang on its locks (`InodeLocks.leases`). The holder is
signalled (kernel/sigio.py) and has /proc/sys/fs/lease-break-time to answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    CAP_LEASE,
    F_RDLCK,
    F_UNLCK,
    F_WRLCK,
    O_ACCMODE,
    O_NONBLOCK,
    O_RDONLY,
    POLL_MSG,
    S_IFMT,
    S_IFREG,
)
from sentry.errors import EACCES, EAGAIN, EINVAL
from sentry.fs.locks import locks_of
from sentry.kernel import sigio
from sentry.kernel.fdtable import at_release
from sentry.kernel.sched import Timer, sched, wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode

BREAK_TIME_S = 45


class Lease:
    """`kind` is F_RDLCK or F_WRLCK; while it is being broken, `becomes` is what may be left of it."""

    __slots__ = ("becomes", "fd", "file", "kernel", "kind", "timer")

    def __init__(self, task: Task, fd: int, file: File, kind: int) -> None:
        self.kernel = task.kernel
        self.fd = fd
        self.file = file
        self.kind = kind
        self.becomes: int | None = None
        self.timer: Timer | None = None


def held(file: File) -> int:
    """F_GETLEASE: what the holder has, or what it must come down to."""
    lease = _find(file)
    if lease is None:
        return F_UNLCK
    return lease.kind if lease.becomes is None else lease.becomes


def set_lease(task: Task, fd: int, file: File, kind: int) -> None:
    """F_SETLEASE by `task`, through descriptor `fd`."""
    if kind not in (F_RDLCK, F_WRLCK, F_UNLCK):
        raise EINVAL
    inode = file.inode
    if task.creds.fsuid != inode.uid and not task.creds.has_cap(CAP_LEASE):
        raise EACCES
    if inode.mode & S_IFMT != S_IFREG:
        raise EINVAL
    lease = _find(file)
    if kind == F_UNLCK:
        if lease is None:
            raise EAGAIN
        _change(lease, F_UNLCK)
        return
    readers, writers = inode.open_counts()
    if kind == F_RDLCK and writers:
        raise EAGAIN
    if kind == F_WRLCK and (readers, writers) != (int(not file.writable), int(file.writable)):
        raise EAGAIN
    others = [each for each in locks_of(inode).leases if each is not lease]
    if others and (kind == F_WRLCK or any(each.becomes == F_UNLCK for each in others)):
        raise EAGAIN
    if lease is not None:
        _change(lease, kind)
        return
    locks_of(inode).leases.append(Lease(task, fd, file, kind))
    _tell_core(inode)
    at_release(file, _released)
    sigio.own_unless_owned(task, file)


async def break_leases(inode: Inode, flags: int) -> None:
    """`inode` is about to be opened with `flags` (or truncated: O_WRONLY). EAGAIN if that would have to wait."""
    writing = flags & O_ACCMODE != O_RDONLY
    while True:
        in_the_way = [each for each in locks_of(inode).leases if writing or each.kind == F_WRLCK]
        if not in_the_way:
            return
        for lease in in_the_way:
            if lease.becomes is None:
                lease.becomes = F_UNLCK if writing else F_RDLCK
                lease.timer = sched().call_at(sched().now_ns() + BREAK_TIME_S * 1_000_000_000, _overdue(lease))
                sigio.tell(lease.kernel, lease.file, lease.fd, POLL_MSG)
            elif writing:
                lease.becomes = F_UNLCK
        if flags & O_NONBLOCK:
            raise EAGAIN
        await wait(locks_of(inode).queue)


def _overdue(lease: Lease) -> Callable[[], None]:
    def take() -> None:
        if lease.becomes is not None:
            _change(lease, lease.becomes)

    return take


def _change(lease: Lease, kind: int) -> None:
    """The lease is what it shall be, or is gone; who waited for that may look again."""
    locks = locks_of(lease.file.inode)
    if lease.timer is not None:
        lease.timer.cancel()
        lease.timer = None
    lease.becomes = None
    lease.kind = kind
    if kind == F_UNLCK and lease in locks.leases:
        locks.leases.remove(lease)
        _tell_core(lease.file.inode)
    locks.queue.wake()


def _tell_core(inode: Inode) -> None:
    """C opens nothing by itself that somebody holds a lease on."""
    if inode.node is not None:
        inode.node.leased = bool(locks_of(inode).leases)


def _find(file: File) -> Lease | None:
    locks = file.inode.locks
    return None if locks is None else next((each for each in locks.leases if each.file is file), None)


def _released(file: File) -> None:
    lease = _find(file)
    if lease is not None:
        _change(lease, F_UNLCK)
