"""Descriptors: close(2), close_range(2), dup(2); and new ones: pipe(2), eventfd(2)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import (
    CLOSE_RANGE_CLOEXEC,
    CLOSE_RANGE_UNSHARE,
    EFD_CLOEXEC,
    EFD_NONBLOCK,
    EFD_SEMAPHORE,
    O_CLOEXEC,
    O_DIRECT,
    O_NONBLOCK,
)
from sentry.errors import EINVAL, LinuxError
from sentry.fs.eventfd import EventFd
from sentry.fs.pipe import make_pipe
from sentry.syscalls.declare import CONTINUE, Continue, syscall
from sentry.syscalls.kinds import Addr, AnyFile, Fd, UInt, flags

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File as OpenFile

FAST = "descriptor tables are the C core's"
CLOSE_TOO = "closes the copy of the descriptor that an earlier mmap put into the host's table"

PipeFlags = Annotated[int, flags(O_NONBLOCK=O_NONBLOCK, O_CLOEXEC=O_CLOEXEC, O_DIRECT=O_DIRECT)]
EventFlags = Annotated[
    int, flags(EFD_SEMAPHORE=EFD_SEMAPHORE, EFD_NONBLOCK=EFD_NONBLOCK, EFD_CLOEXEC=EFD_CLOEXEC)
]
DupFlags = Annotated[int, flags(O_CLOEXEC=O_CLOEXEC)]
CloseFlags = Annotated[
    int, flags(CLOSE_RANGE_UNSHARE=CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC=CLOSE_RANGE_CLOEXEC)
]

# --- close and dup


@syscall(fast=FAST, may_continue=CLOSE_TOO)
def sys_close(task: Task, fd: Fd) -> int | Continue:
    return CONTINUE if task.fds.close(fd) and not task.fds.uninject(task.kernel.call_id, fd) else 0


@syscall
def sys_close_range(task: Task, first: UInt, last: UInt, flags: CloseFlags) -> None:
    if first > last:
        raise EINVAL
    if flags & CLOSE_RANGE_UNSHARE:
        task.kernel.threads.part(task)
    if flags & CLOSE_RANGE_UNSHARE and task.fds.users > 1:
        shared = task.fds
        task.set_fds(shared.fork())
        shared.drop()
    fds = task.fds
    fd = fds.next_open(min(first, 0x7FFFFFFF))
    while 0 <= fd <= last:
        if flags & CLOSE_RANGE_CLOEXEC:
            fds.set_cloexec(fd, True)
        else:
            fds.close(fd)
        fd = fds.next_open(fd + 1)


@syscall(fast=FAST)
def sys_dup(task: Task, file: AnyFile) -> int:
    return task.fds.install(file)


@syscall(fast=FAST)
def sys_dup2(task: Task, old: Fd, new: Fd) -> int:
    file = task.fds.get(old)
    return new if old == new else task.fds.install_at(new, file)


@syscall(fast=FAST)
def sys_dup3(task: Task, old: Fd, new: Fd, flags: DupFlags) -> int:
    if old == new:
        raise EINVAL
    return task.fds.install_at(new, task.fds.get(old), bool(flags & O_CLOEXEC))


# --- new descriptors


_PAIR = Struct("<ii")


def install_pair(task: Task, first: OpenFile, second: OpenFile, cloexec: bool, addr: int) -> None:
    """Two descriptors, told in the int[2] at `addr`; neither stays if the second or the address fails."""
    one = task.fds.install(first, cloexec)
    try:
        two = task.fds.install(second, cloexec)
    except LinuxError:
        task.fds.close(one)
        raise
    try:
        task.mem.write(addr, _PAIR.pack(one, two))
    except LinuxError:
        task.fds.close(one)
        task.fds.close(two)
        raise


@syscall
def sys_pipe2(task: Task, fds: Addr, flags: PipeFlags) -> None:
    reader, writer = make_pipe(task, flags & (O_NONBLOCK | O_DIRECT))
    install_pair(task, reader, writer, bool(flags & O_CLOEXEC), fds)


@syscall
def sys_pipe(task: Task, fds: Addr) -> None:
    install_pair(task, *make_pipe(task), False, fds)


@syscall
def sys_eventfd2(task: Task, count: UInt, flags: EventFlags) -> int:
    file = EventFd(count, bool(flags & EFD_SEMAPHORE), flags & EFD_NONBLOCK)
    return task.fds.install(file, bool(flags & EFD_CLOEXEC))


@syscall
def sys_eventfd(task: Task, count: UInt) -> int:
    return task.fds.install(EventFd(count))
