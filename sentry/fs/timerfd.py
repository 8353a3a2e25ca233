"""timerfd_create(2): a timer that is read. Expirations are counted from the clock, not from callbacks."""

from __future__ import annotations

from time import clock_gettime_ns
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    CLOCK_BOOTTIME,
    CLOCK_BOOTTIME_ALARM,
    CLOCK_MONOTONIC,
    CLOCK_REALTIME,
    CLOCK_REALTIME_ALARM,
    EPOLLIN,
    O_NONBLOCK,
    O_RDWR,
    TFD_IOC_SET_TICKS,
    TFD_TIMER_ABSTIME,
)
from sentry.errors import EAGAIN, EINVAL
from sentry.fs.anon import AnonFile, anon_inode
from sentry.kernel.sched import Timer, sched, wait

if TYPE_CHECKING:
    from sentry.kernel.task import Task

ALARM_CLOCKS = frozenset((CLOCK_REALTIME_ALARM, CLOCK_BOOTTIME_ALARM))
CLOCKS = ALARM_CLOCKS | {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME}
NS = 1_000_000_000
_IN = EPOLLIN


class TimerFd(AnonFile):
    """Armed while `_next_ns` (in its own clock) is set; `_ticks` are the expirations not yet read."""

    __slots__ = ("_clock", "_interval_ns", "_next_ns", "_settime_flags", "_ticks", "_timer")

    nowait = True

    def __init__(self, clock: int, flags: int = 0) -> None:
        super().__init__(anon_inode(), None, O_RDWR | (flags & O_NONBLOCK))
        self._clock = clock
        self._interval_ns = 0
        self._next_ns: int | None = None
        self._ticks = 0
        self._settime_flags = 0
        self._timer: Timer | None = None

    def _now_ns(self) -> int:
        """The timer's clock. Monotonic time is the scheduler's, which a test may move."""
        if self._clock == CLOCK_MONOTONIC:
            return sched().now_ns()
        if self._clock in (CLOCK_BOOTTIME, CLOCK_BOOTTIME_ALARM):
            return clock_gettime_ns(CLOCK_BOOTTIME)
        return clock_gettime_ns(CLOCK_REALTIME)

    def settime(self, value_ns: int, interval_ns: int, flags: int) -> tuple[int, int]:
        """Arm (value 0: disarm); `flags`: TFD_TIMER_*. Gives what gettime() gave before."""
        old = self.gettime()
        self._settime_flags = flags
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._ticks = 0
        self._interval_ns = interval_ns
        self._next_ns = None
        if value_ns:
            self._next_ns = value_ns if flags & TFD_TIMER_ABSTIME else self._now_ns() + value_ns
            self._arm()
        return old

    def gettime(self) -> tuple[int, int]:
        """(time to the next expiration, 0 when disarmed; interval), nanoseconds."""
        self._advance()
        if self._next_ns is None:
            return 0, self._interval_ns
        return max(self._next_ns - self._now_ns(), 1), self._interval_ns

    def _arm(self) -> None:
        assert self._next_ns is not None
        scheduler = sched()
        left_ns = max(self._next_ns - self._now_ns(), 0)
        self._timer = scheduler.call_at(scheduler.now_ns() + left_ns, self._expired)

    def _expired(self) -> None:
        self._timer = None
        before = self._ticks
        self._advance()
        # A periodic timer that nobody watches needs no more wake-ups: it is readable and counts by the clock.
        if self._next_ns is not None and (self._timer is None) and self._ticks == before:
            self._arm()  # the realtime clock was set back
        if self._ticks != before:
            if self._next_ns is not None and self.wait_queue:
                self._arm()
            self.wait_queue.wake(_IN)

    def _advance(self) -> None:
        """Count the expirations up to now."""
        if self._next_ns is None:
            return
        late_ns = self._now_ns() - self._next_ns
        if late_ns < 0:
            return
        if self._interval_ns:
            passed = late_ns // self._interval_ns + 1
            self._ticks += passed
            self._next_ns += passed * self._interval_ns
        else:
            self._ticks += 1
            self._next_ns = None

    def poll(self) -> int:
        self._advance()
        if not self._ticks and self._next_ns is not None and self._timer is None:
            self._arm()
        return _IN if self._ticks else 0

    async def read(self, task: Task, size: int) -> bytes:
        if size < 8:
            raise EINVAL
        while not self.poll():
            if self.flags & O_NONBLOCK:
                raise EAGAIN
            await wait(self.wait_queue)
        ticks, self._ticks = self._ticks, 0
        if self._next_ns is not None and self._timer is None:
            self._arm()
        return ticks.to_bytes(8, "little")

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        if cmd != TFD_IOC_SET_TICKS:
            return await super().ioctl(task, cmd, arg)
        ticks = task.mem.read_u64(arg)
        if not ticks:
            raise EINVAL
        self._ticks = ticks
        self.wait_queue.wake(_IN)
        return 0

    def release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def describe(self) -> bytes | None:
        return b"anon_inode:[timerfd]"

    def fdinfo(self) -> bytes:
        """Its lines in /proc/PID/fdinfo/N."""
        left_ns, interval_ns = self.gettime()
        return b"clockid: %d\nticks: %d\nsettime flags: 0%o\nit_value: (%d, %d)\nit_interval: (%d, %d)\n" % (
            self._clock, self._ticks, self._settime_flags, *divmod(left_ns, NS), *divmod(interval_ns, NS)
        )  # fmt: skip
