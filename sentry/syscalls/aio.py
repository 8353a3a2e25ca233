"""Asynchronous I/O: io_setup(2), io_submit(2), io_getevents(2), io_cancel(2), io_destroy(2).

A context is named by an address: on Linux that of a ring, which libaio reads by itself if it finds a magic number in
it. Ours are zeroes that the host kernel maps, so libaio asks.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from sentry.abi.linux import (
    EPOLLERR,
    EPOLLHUP,
    MAP_ANONYMOUS,
    MAP_PRIVATE,
    O_PATH,
    PROT_READ,
    PROT_WRITE,
    S_IFBLK,
    S_IFMT,
    S_IFREG,
)
from sentry.abi.x86_64 import NUMBERS, TIMESPEC
from sentry.errors import EAGAIN, EBADF, EFAULT, EINPROGRESS, EINTR, EINVAL, Interrupted, LinuxError
from sentry.fs.aio import MAX_EVENTS, Completion, Context, Poll, used
from sentry.fs.eventfd import EventFd
from sentry.fs.hostfile import AT_POS
from sentry.fs.io import read_iov, write_iov
from sentry.kernel.rewrite import Rewritten
from sentry.kernel.sched import sched, wait
from sentry.syscalls.declare import Restart, syscall
from sentry.syscalls.fdio import check_flags, one, vector
from sentry.syscalls.kinds import Addr, Long, UInt, ULong, int32
from sentry.syscalls.poll import read_sigmask

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File

_MMAP, _MUNMAP = NUMBERS["mmap"], NUMBERS["munmap"]
# data, key, rw_flags, opcode, reqprio, fildes, buf, nbytes, offset, reserved2, flags, resfd
_IOCB = Struct("<QIiHhIQQqQII")
_EVENT = Struct("<QQqq")
_SIGSET = Struct("<QQ")  # io_pgetevents(2): address and size of the mask
_KEY_AT = 8
PREAD, PWRITE, FSYNC, FDSYNC, POLL, NOOP, PREADV, PWRITEV = 0, 1, 2, 3, 5, 6, 7, 8
FLAG_RESFD, FLAG_IOPRIO = 1, 2
RING_HEADER, MAX_RING = 32, 0x10000000
PAGE = 4096


class Request:
    """A struct iocb, copied once."""

    def __init__(self, task: Task, addr: int) -> None:
        self.addr = addr
        (
            self.data, self.key, self.rw_flags, self.opcode, _, self.fd, self.buffer, self.size, self.offset,
            self.reserved, self.flags, self.resfd,
        ) = _IOCB.unpack(task.mem.read(addr, _IOCB.size))  # fmt: skip


@syscall
def sys_io_setup(task: Task, nr_events: UInt, ctxp: Addr) -> Any:
    if task.mem.read_u64(ctxp) or not nr_events:
        raise EINVAL
    # As many as Linux has room for: twice what is asked for, and up to the end of the last page.
    entries = max(nr_events, 4 * len(task.kernel.cpus)) * 2 & 0xFFFFFFFF
    if entries > MAX_RING // _EVENT.size:
        raise EINVAL
    if not entries or used(task.kernel) + nr_events > MAX_EVENTS:
        raise EAGAIN
    task.mem.write_u64(ctxp, 0)  # EFAULT before anything is mapped
    size = (RING_HEADER + entries * _EVENT.size + PAGE - 1) & -PAGE
    context = Context((size - RING_HEADER) // _EVENT.size - 1, nr_events)

    def mapped(result: int) -> int:
        if result < 0:
            return result
        group = task.group
        group.aio = group.aio or {}
        group.aio[result] = context
        task.mem.write_u64(ctxp, result)
        return 0

    registers = {0: 0, 1: size, 2: PROT_READ | PROT_WRITE, 3: MAP_PRIVATE | MAP_ANONYMOUS, 4: -1, 5: 0}
    return Rewritten(registers, nr=_MMAP, finish=mapped, pass_=False)


@syscall
def sys_io_destroy(task: Task, ctx: ULong) -> Any:
    context = find(task, ctx)
    assert task.group.aio is not None
    del task.group.aio[ctx]
    context.destroy()
    size = (RING_HEADER + context.size * _EVENT.size + PAGE - 1) & -PAGE
    return Rewritten({0: ctx, 1: size}, nr=_MUNMAP, finish=lambda result: 0)


def find(task: Task, ctx: int) -> Context:
    context = (task.group.aio or {}).get(ctx)
    if context is None:
        raise EINVAL
    return context


@syscall
async def sys_io_submit(task: Task, ctx: ULong, nr: Long, iocbpp: Addr) -> int:
    if nr < 0:
        raise EINVAL
    context = find(task, ctx)
    for number in range(min(nr, context.size)):
        try:
            await submit(task, context, Request(task, task.mem.read_u64(iocbpp + 8 * number)))
        except LinuxError:
            if number:
                return number
            raise
    return min(nr, context.size)


async def submit(task: Task, context: Context, request: Request) -> None:
    """One request, checked in the order of fs/aio.c; what goes wrong after that is its result."""
    if request.reserved or request.size >= 1 << 63:
        raise EINVAL
    context.check_room()
    file = task.fds.get(int32(request.fd))
    if file.flags & O_PATH:
        raise EBADF
    notify = _eventfd(task, request.resfd) if request.flags & FLAG_RESFD else None
    task.mem.write_u32(request.addr + _KEY_AT, 0)
    if request.opcode == POLL:
        poll(context, file, request, notify)
        return
    context.complete(Completion(request.data, request.addr, await perform(task, file, request)), notify)


def _eventfd(task: Task, fd: int) -> EventFd:
    file = task.fds.get(int32(fd))
    if not isinstance(file, EventFd):
        raise EINVAL
    return file


def poll(context: Context, file: File, request: Request, notify: EventFd | None) -> None:
    if request.buffer >> 16 or request.offset or request.size or request.rw_flags:
        raise EINVAL
    events = request.buffer | EPOLLERR | EPOLLHUP
    ready = file.poll() & events
    if ready:
        context.complete(Completion(request.data, request.addr, ready), notify)
    else:
        context.polls[request.addr] = Poll(context, file, events, request.data, request.addr, notify)


async def perform(task: Task, file: File, request: Request) -> int:
    """The result of a read, write or sync."""
    rwf = prepare(file, request)
    try:
        if request.opcode in (FSYNC, FDSYNC):
            await file.fsync(task, request.opcode == FDSYNC)
            return 0
        offset = request.offset if file.inode.mode & S_IFMT in (S_IFREG, S_IFBLK) else AT_POS
        writing = request.opcode in (PWRITE, PWRITEV)
        if request.opcode in (PREADV, PWRITEV):
            return await vector(task, file, request.buffer, request.size, writing, offset, rwf)
        move = write_iov if writing else read_iov
        return await move(task, file, one(request.buffer, request.size), offset, rwf)
    except LinuxError as error:
        return -error.errno
    except Interrupted:
        return -EINTR.errno


def prepare(file: File, request: Request) -> int:
    """What makes io_submit(2) itself fail; the RWF_* flags."""
    if request.opcode not in (PREAD, PWRITE, FSYNC, FDSYNC, PREADV, PWRITEV):
        raise EINVAL
    if request.opcode in (FSYNC, FDSYNC):
        if request.buffer or request.offset or request.size or request.rw_flags:
            raise EINVAL
        return 0
    writing = request.opcode in (PWRITE, PWRITEV)
    check_flags(file, request.rw_flags)
    if not (file.writable if writing else file.readable):
        raise EBADF
    if request.offset < 0:
        raise EINVAL
    return request.rw_flags


@syscall(restart=Restart.EINTR)
async def sys_io_getevents(task: Task, ctx: ULong, min_nr: Long, nr: Long, events: Addr, timeout: Addr) -> int:
    deadline_ns = time_left(task, timeout)
    return await collect(task, ctx, min_nr, nr, events, deadline_ns)


@syscall(restart=Restart.NOHAND)
async def sys_io_pgetevents(
    task: Task, ctx: ULong, min_nr: Long, nr: Long, events: Addr, timeout: Addr, usig: Addr
) -> int:
    deadline_ns = time_left(task, timeout)
    mask = None
    if usig:
        where, size = _SIGSET.unpack(task.mem.read(usig, _SIGSET.size))
        mask = read_sigmask(task, where, size)
    return await task.with_sigmask(mask, collect(task, ctx, min_nr, nr, events, deadline_ns))


def time_left(task: Task, timeout: int) -> int | None:
    """The deadline; this call refuses no timeout, and one below zero never ends."""
    if not timeout:
        return None
    seconds, fraction = TIMESPEC.unpack(task.mem.read(timeout, TIMESPEC.size))
    left = seconds * 1_000_000_000 + fraction
    return sched().now_ns() + left if left >= 0 else None


async def collect(task: Task, ctx: int, min_nr: int, nr: int, events: int, deadline_ns: int | None) -> int:
    """At least `min_nr` completions, unless time is up; those that can't be written are lost, as on Linux."""
    context = find(task, ctx)
    if not 0 <= min_nr <= nr:
        raise EINVAL
    taken = 0
    while True:
        while context.done and taken < nr:
            entry = context.done.popleft()
            packed = _EVENT.pack(entry.data, entry.iocb, entry.result, 0)
            try:
                task.mem.write(events + taken * _EVENT.size, packed)
            except EFAULT:
                if taken:
                    return taken
                raise
            taken += 1
        if taken >= min_nr or context.destroyed:
            return taken
        try:
            if not await wait(context.queue, deadline_ns=deadline_ns):
                return taken
        except Interrupted:
            if taken:
                return taken
            raise


@syscall
def sys_io_cancel(task: Task, ctx: ULong, iocb: Addr, result: Addr) -> int:
    if task.mem.read_u32((iocb + _KEY_AT) % (1 << 64)):
        raise EINVAL
    poll = find(task, ctx).polls.get(iocb)
    if poll is None:
        raise EINVAL
    poll.end(0)
    raise EINPROGRESS  # the completion tells
