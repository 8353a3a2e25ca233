"""Setting the time, which no guest may: settimeofday(2), clock_settime(2), adjtimex(2). Reading it is native.

The sandbox's clock is the host's, so EPERM is the answer even to CAP_SYS_TIME.
"""

from __future__ import annotations

from time import CLOCK_REALTIME, clock_gettime_ns
from typing import TYPE_CHECKING

from sentry.abi.linux import ADJ_OFFSET_SINGLESHOT, ADJ_OFFSET_SS_READ
from sentry.abi.x86_64 import TIMESPEC, TIMEVAL, TIMEX, TIMEZONE
from sentry.errors import EINVAL, EOPNOTSUPP, EPERM
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, ClockId

if TYPE_CHECKING:
    from sentry.kernel.task import Task

ADJ_ADJTIME = 0x8000  # the old adjtime(3) inside adjtimex(2)
CLOCK_OF_FD = 3  # the low three bits of a negative clock id; others are a CPU clock's
KNOWN_CLOCKS = frozenset((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11))
STA_UNSYNC, TIME_ERROR = 0x40, 5
MAX_ERROR_US, TOLERANCE, TICK_US, TIME_CONSTANT = 16_000_000, 32_768_000, 10_000, 2
NO_CLOCK = "the clock is the host's"


@syscall
def sys_settimeofday(task: Task, tv: Addr, tz: Addr) -> None:
    if tv:
        seconds, microseconds = TIMEVAL.unpack(task.mem.read(tv, TIMEVAL.size))
        if not 0 <= microseconds < 1_000_000 or seconds < 0:
            raise EINVAL
    if tz:
        task.mem.read(tz, TIMEZONE.size)
    raise EPERM(NO_CLOCK)


@syscall
def sys_clock_settime(task: Task, clock: ClockId, tp: Addr) -> None:
    if clock > 0:
        raise EINVAL("no clock, or one that can't be set")
    seconds, nanoseconds = TIMESPEC.unpack(task.mem.read(tp, TIMESPEC.size))
    if clock == CLOCK_REALTIME and not (seconds >= 0 and 0 <= nanoseconds < 1_000_000_000):
        raise EINVAL
    if clock < 0:
        pid = ~(clock >> 3)
        if clock & 3 == 3 or (pid and task.kernel.find_task(pid) is None):
            raise EINVAL("a clock behind a descriptor, or nobody's")
    raise EPERM(NO_CLOCK)


@syscall
def sys_adjtimex(task: Task, timex: Addr) -> int:
    return _adjust(task, timex)


@syscall
def sys_clock_adjtime(task: Task, clock: ClockId, timex: Addr) -> int:
    task.mem.read(timex, TIMEX.size)
    if clock != CLOCK_REALTIME:
        raise EOPNOTSUPP if clock in KNOWN_CLOCKS or (clock < 0 and clock & 7 != CLOCK_OF_FD) else EINVAL
    return _adjust(task, timex)


def _adjust(task: Task, timex: int) -> int:
    """Only reading: a clock that nothing synchronizes, as the guest can't know what the host does."""
    modes, *rest = TIMEX.unpack(task.mem.read(timex, TIMEX.size))
    if modes & ADJ_ADJTIME:
        if not modes & ADJ_OFFSET_SINGLESHOT & ~ADJ_ADJTIME:
            raise EINVAL
        if modes & ADJ_OFFSET_SS_READ != ADJ_OFFSET_SS_READ:
            raise EPERM(NO_CLOCK)
    elif modes:
        raise EPERM(NO_CLOCK)
    seconds, nanoseconds = divmod(clock_gettime_ns(CLOCK_REALTIME), 1_000_000_000)
    state = (0, 0, MAX_ERROR_US, MAX_ERROR_US, STA_UNSYNC, TIME_CONSTANT, 1, TOLERANCE)
    shown = (*state, seconds, nanoseconds // 1000, TICK_US)
    task.mem.write(timex, TIMEX.pack(modes, *shown, *[0] * (len(rest) - len(shown))))
    return TIME_ERROR
