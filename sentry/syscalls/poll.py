"""Waiting for descriptors: poll(2), select(2), epoll(7), timerfd_create(2)."""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import (
    CAP_WAKE_ALARM,
    EPOLL_CLOEXEC,
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLL_MAX_EVENTS,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLNVAL,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDBAND,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
    O_PATH,
    RLIMIT_NOFILE,
    SIGKILL,
    SIGSTOP,
    TFD_CLOEXEC,
    TFD_NONBLOCK,
    TFD_TIMER_ABSTIME,
    TFD_TIMER_CANCEL_ON_SET,
)
from sentry.abi.x86_64 import EPOLL_EVENT, ITIMERSPEC, POLLFD, TASK_SIZE, TIMESPEC, TIMEVAL
from sentry.errors import EBADF, EFAULT, EINVAL, EPERM
from sentry.fs.epoll import Epoll, can_poll
from sentry.fs.timerfd import ALARM_CLOCKS, CLOCKS, TimerFd
from sentry.kernel.fdtable import hold, unhold
from sentry.kernel.rewrite import MadeFirst, Rewritten
from sentry.kernel.sched import WaitQueue, sched, wait
from sentry.syscalls.declare import Restart, syscall
from sentry.syscalls.kinds import Addr, ClockId, Fd, Int, Size, UInt, flags

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File as OpenFile

FAST = "every descriptor is the C core's, and one is ready or none is waited for"
NSEC = 1_000_000_000
POLLIN_SET = EPOLLRDNORM | EPOLLRDBAND | EPOLLIN | EPOLLHUP | EPOLLERR
POLLOUT_SET = EPOLLWRBAND | EPOLLWRNORM | EPOLLOUT | EPOLLERR
POLLEX_SET = EPOLLPRI
SETS = (POLLIN_SET, POLLOUT_SET, POLLEX_SET)

# --- times and masks from guest memory


def deadline_ms(timeout: int) -> int | None:
    """None: wait for ever."""
    return None if timeout < 0 else sched().now_ns() + timeout * 1_000_000


def read_timeout(task: Task, addr: int, unit: Struct = TIMESPEC) -> int | None:
    """The deadline a struct timespec (or timeval) of time left gives; None for a null pointer."""
    if not addr:
        return None
    seconds, fraction = unit.unpack(task.mem.read(addr, unit.size))
    if unit is TIMEVAL:
        seconds, fraction = seconds + fraction // 1_000_000, fraction % 1_000_000 * 1000
    if seconds < 0 or not 0 <= fraction < NSEC:
        raise EINVAL
    return sched().now_ns() + seconds * NSEC + fraction


def write_left(task: Task, addr: int, deadline_ns: int | None, unit: Struct = TIMESPEC) -> None:
    """Linux tells select and ppoll callers the time left, and minds no fault there."""
    if deadline_ns is None:
        return
    seconds, fraction = divmod(max(deadline_ns - sched().now_ns(), 0), NSEC)
    try:
        task.mem.write(addr, unit.pack(seconds, fraction // 1000 if unit is TIMEVAL else fraction))
    except EFAULT:
        pass


_UNBLOCKABLE = 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1)


def read_sigmask(task: Task, addr: int, size: int) -> int | None:
    if not addr:
        return None
    if size != 8:
        raise EINVAL
    return task.mem.read_u64(addr) & ~_UNBLOCKABLE


# --- poll

Watched = tuple["OpenFile | None", int]  # a file (None: nothing to ask) and the events wanted of it


def look(watched: Sequence[Watched], out: list[int]) -> int:
    """Ask every file; how many are ready."""
    ready = 0
    for i, (file, events) in enumerate(watched):
        if file is not None:
            out[i] = file.poll() & events
        if out[i]:
            ready += 1
    return ready


async def wait_for_any(
    task: Task, watched: Sequence[Watched], out: list[int], deadline_ns: int | None, mask: int | None = None
) -> int:
    """Fill `out` with what is ready, sleeping until something is; 0 at the deadline."""
    ready = look(watched, out)
    if ready:
        return ready
    if deadline_ns is not None and deadline_ns <= sched().now_ns():
        if mask is not None:
            await let_signals_in(task, mask)
        return 0
    files = {file for file, _ in watched if file is not None}
    for file in files:
        if (first := file.to_wait(task)) is not None:
            raise MadeFirst(first)
    queues: set[WaitQueue] = {file.wait_queue for file in files}
    for file in files:
        hold(file)  # closed meanwhile, they stay open until we are done
    try:
        while not ready:
            woken = await wait(*queues, deadline_ns=deadline_ns)
            ready = look(watched, out)
            if not woken:
                break
        return ready
    finally:
        for file in files:
            unhold(file)


async def let_signals_in(task: Task, mask: int) -> None:
    """Linux delivers a signal that `mask` unblocks even to a call that does not wait."""
    if task.kernel.pids.pending(task.host_tid) & ~mask:
        # The wait under the mask meets the signal; an ignored one does not end it.
        await wait(deadline_ns=sched().now_ns() + SIGNAL_COMES_NS)


SIGNAL_COMES_NS = 20_000_000


async def do_poll(task: Task, addr: int, count: int, deadline_ns: int | None, mask: int | None = None) -> int:
    if count > task.group.rlimits.get(RLIMIT_NOFILE)[0]:
        raise EINVAL
    data = task.mem.read(addr, count * POLLFD.size)
    out = [0] * count
    watched: list[Watched] = []
    for i, (fd, events, _) in enumerate(POLLFD.iter_unpack(data)):
        file = None
        if fd >= 0:
            try:
                file = task.fds.get(fd)
                if file.flags & O_PATH:
                    file = None
            except EBADF:
                pass
            if file is None:
                out[i] = EPOLLNVAL
        watched.append((file, (events & 0xFFFF) | EPOLLERR | EPOLLHUP))
    if any(out):
        deadline_ns = 0  # one answer is there already
    ready = await wait_for_any(task, watched, out, deadline_ns, mask)
    if count:
        # Only the revents members are ours to write, but they are written with their neighbours, just read.
        entries = bytearray(data)
        for i, revents in enumerate(out):
            entries[i * 8 + 6 : i * 8 + 8] = revents.to_bytes(2, "little")
        task.mem.write(addr, bytes(entries))
    return ready


@syscall(restart=Restart.RESTARTBLOCK, fast=FAST)
async def sys_poll(task: Task, fds: Addr, count: UInt, timeout: Int) -> int:
    return await do_poll(task, fds, count, deadline_ms(timeout))


@syscall(restart=Restart.NOHAND, fast=FAST)
async def sys_ppoll(task: Task, fds: Addr, count: UInt, timeout: Addr, sigmask: Addr, size: Size) -> int:
    deadline_ns = read_timeout(task, timeout)
    mask = read_sigmask(task, sigmask, size)
    try:
        return await task.with_sigmask(mask, do_poll(task, fds, count, deadline_ns, mask))
    finally:
        write_left(task, timeout, deadline_ns)


# --- select


async def do_select(
    task: Task, n: int, sets: tuple[int, int, int], deadline_ns: int | None, mask: int | None = None
) -> int:
    """`sets` are the addresses of the three bit maps, 0 for none."""
    if n < 0:
        raise EINVAL
    n = min(n, task.fds.size)  # what lies beyond the table is not looked at
    size = (n + 63) // 64 * 8
    bits = (1 << n) - 1
    asked = [int.from_bytes(task.mem.read(addr, size), "little") & bits if addr else 0 for addr in sets]
    fds: list[int] = []
    watched: list[Watched] = []
    rest = asked[0] | asked[1] | asked[2]
    while rest:
        fd = (rest & -rest).bit_length() - 1
        rest &= rest - 1
        file = task.fds.get(fd)
        if file.flags & O_PATH:
            raise EBADF
        wanted = 0
        for one, events in zip(asked, SETS, strict=True):
            if one >> fd & 1:
                wanted |= events
        fds.append(fd)
        watched.append((file, wanted))
    out = [0] * len(fds)
    await wait_for_any(task, watched, out, deadline_ns, mask)
    count = 0
    for one, events, addr in zip(asked, SETS, sets, strict=True):
        result = 0
        for fd, ready in zip(fds, out, strict=True):
            if ready & events and one >> fd & 1:
                result |= 1 << fd
                count += 1
        if addr:
            task.mem.write(addr, result.to_bytes(size, "little"))
    return count


@syscall(restart=Restart.NOHAND)
async def sys_select(task: Task, n: Int, readable: Addr, writable: Addr, urgent: Addr, timeout: Addr) -> int:
    deadline_ns = read_timeout(task, timeout, TIMEVAL)
    try:
        return await do_select(task, n, (readable, writable, urgent), deadline_ns)
    finally:
        write_left(task, timeout, deadline_ns, TIMEVAL)


_MASK_ARGUMENT = Struct("<QQ")


@syscall(restart=Restart.NOHAND)
async def sys_pselect6(
    task: Task, n: Int, readable: Addr, writable: Addr, urgent: Addr, timeout: Addr, argument: Addr
) -> int:
    mask = None
    if argument:
        addr, size = _MASK_ARGUMENT.unpack(task.mem.read(argument, _MASK_ARGUMENT.size))
        mask = read_sigmask(task, addr, size)
    deadline_ns = read_timeout(task, timeout)
    try:
        sets = readable, writable, urgent
        return await task.with_sigmask(mask, do_select(task, n, sets, deadline_ns, mask))
    finally:
        write_left(task, timeout, deadline_ns)


# --- epoll

EpollFlags = Annotated[int, flags(EPOLL_CLOEXEC=EPOLL_CLOEXEC)]


@syscall
def sys_epoll_create1(task: Task, flags: EpollFlags) -> int:
    return task.fds.install(Epoll(), bool(flags & EPOLL_CLOEXEC))


@syscall
def sys_epoll_create(task: Task, size: Int) -> int:
    if size <= 0:
        raise EINVAL
    return task.fds.install(Epoll())


@syscall
def sys_epoll_ctl(task: Task, epfd: Fd, operation: Int, fd: Fd, event: Addr) -> Rewritten | None:
    events = data = 0
    if operation != EPOLL_CTL_DEL:
        events, data = EPOLL_EVENT.unpack(task.mem.read(event, EPOLL_EVENT.size))
    epoll = task.fds.get(epfd)
    file = task.fds.get(fd)
    if epoll.flags & O_PATH or file.flags & O_PATH:
        raise EBADF
    if not isinstance(epoll, Epoll):
        raise EINVAL if can_poll(file) else EPERM
    if operation == EPOLL_CTL_ADD:
        if (first := file.to_wait(task)) is not None:
            return first
        epoll.add(fd, file, events, data)
    elif operation == EPOLL_CTL_MOD:
        epoll.modify(fd, file, events, data)
    elif operation == EPOLL_CTL_DEL:
        epoll.delete(fd, file)
    else:
        raise EINVAL
    return None


async def do_epoll_wait(epoll: Epoll, task: Task, events: int, limit: int, deadline_ns: int | None) -> int:
    while not (found := epoll.collect(limit)):
        if deadline_ns is not None and deadline_ns <= sched().now_ns():
            return 0
        hold(epoll)
        try:
            woken = await wait(epoll.wait_queue, deadline_ns=deadline_ns)
        finally:
            unhold(epoll)
        if not woken:
            deadline_ns = 0
    task.mem.write(events, b"".join([EPOLL_EVENT.pack(mask, data) for mask, data in found]))
    return len(found)


def epoll_at(task: Task, fd: int, events: int, limit: int) -> Epoll:
    """The descriptor, then ep_check_params(): the count, the address, its kind."""
    file = task.fds.get(fd)
    if file.flags & O_PATH:
        raise EBADF
    if not 0 < limit <= EPOLL_MAX_EVENTS:
        raise EINVAL
    if events + limit * EPOLL_EVENT.size > TASK_SIZE:
        raise EFAULT
    if not isinstance(file, Epoll):
        raise EINVAL
    return file


@syscall(restart=Restart.EINTR)
async def sys_epoll_wait(task: Task, fd: Fd, events: Addr, limit: Int, timeout: Int) -> int:
    epoll = epoll_at(task, fd, events, limit)
    return await do_epoll_wait(epoll, task, events, limit, deadline_ms(timeout))


@syscall(restart=Restart.EINTR)
async def sys_epoll_pwait(
    task: Task, fd: Fd, events: Addr, limit: Int, timeout: Int, sigmask: Addr, size: Size
) -> int:
    mask = read_sigmask(task, sigmask, size)
    epoll = epoll_at(task, fd, events, limit)
    return await task.with_sigmask(mask, do_epoll_wait(epoll, task, events, limit, deadline_ms(timeout)))


@syscall(restart=Restart.EINTR)
async def sys_epoll_pwait2(
    task: Task, fd: Fd, events: Addr, limit: Int, timeout: Addr, sigmask: Addr, size: Size
) -> int:
    deadline_ns = read_timeout(task, timeout)
    mask = read_sigmask(task, sigmask, size)
    epoll = epoll_at(task, fd, events, limit)
    return await task.with_sigmask(mask, do_epoll_wait(epoll, task, events, limit, deadline_ns))


# --- timerfd

TimerFlags = Annotated[int, flags(TFD_CLOEXEC=TFD_CLOEXEC, TFD_NONBLOCK=TFD_NONBLOCK)]
SettimeFlags = Annotated[
    int,
    flags(TFD_TIMER_ABSTIME=TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET=TFD_TIMER_CANCEL_ON_SET),
]


@syscall
def sys_timerfd_create(task: Task, clock: ClockId, flags: TimerFlags) -> int:
    if clock not in CLOCKS:
        raise EINVAL
    if clock in ALARM_CLOCKS and not task.creds.has_cap(CAP_WAKE_ALARM):
        raise EPERM
    return task.fds.install(TimerFd(clock, flags & TFD_NONBLOCK), bool(flags & TFD_CLOEXEC))


@syscall(partial="TFD_TIMER_CANCEL_ON_SET never cancels")
def sys_timerfd_settime(task: Task, fd: Fd, flags: SettimeFlags, new: Addr, old: Addr) -> None:
    i_sec, i_nsec, v_sec, v_nsec = ITIMERSPEC.unpack(task.mem.read(new, ITIMERSPEC.size))
    for seconds, nanoseconds in ((i_sec, i_nsec), (v_sec, v_nsec)):
        if seconds < 0 or not 0 <= nanoseconds < NSEC:
            raise EINVAL
    timer = timer_file(task, fd)
    before = timer.settime(v_sec * NSEC + v_nsec, i_sec * NSEC + i_nsec, flags)
    if old:
        write_itimerspec(task, old, *before)


@syscall
def sys_timerfd_gettime(task: Task, fd: Fd, current: Addr) -> None:
    write_itimerspec(task, current, *timer_file(task, fd).gettime())


def timer_file(task: Task, fd: int) -> TimerFd:
    file = task.fds.get(fd)
    if file.flags & O_PATH:
        raise EBADF
    if not isinstance(file, TimerFd):
        raise EINVAL
    return file


def write_itimerspec(task: Task, addr: int, value_ns: int, interval_ns: int) -> None:
    task.mem.write(addr, ITIMERSPEC.pack(*divmod(interval_ns, NSEC), *divmod(value_ns, NSEC)))
