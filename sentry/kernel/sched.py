"""The one module that sleeps: jobs (suspended coroutines), wait queues, deadlines, host descriptors.

A job is a coroutine that may wait. It waits by `await wait(queue, ...)`, which registers with the queues and
suspends up to the scheduler; a wake puts the job on the ready list, and `run_ready` resumes it. No threads, no
locks: what runs between two waits is atomic.

    while (data := pipe.take(size)) is None:
        if nonblocking:
            raise EAGAIN
        await wait(pipe.readers, deadline_ns=deadline)

Always look again after a wake: another job may have been faster.
"""

import heapq
import types
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from sentry.errors import Interrupted

if TYPE_CHECKING:
    from sentry.kernel.task import Task

T = TypeVar("T")
ALL = 0xFFFFFFFF
KNOWN = 1 << 32  # in the mask of a wake: all of it was so before, nothing has happened
_VOID_KEPT = 256


class WaitQueue:
    """Callbacks to call at an event (Linux: wait_queue_head). Each gets the event's poll mask."""

    __slots__ = ("_callbacks",)

    def __init__(self) -> None:
        self._callbacks: list[Callable[[int], None]] = []

    def add(self, callback: Callable[[int], None]) -> None:
        self._callbacks.append(callback)

    def remove(self, callback: Callable[[int], None]) -> None:
        """Take off one registration; one that is no longer there is no error."""
        try:
            self._callbacks.remove(callback)
        except ValueError:
            pass

    def wake(self, mask: int = ALL) -> None:
        if self._callbacks:
            for callback in tuple(self._callbacks):
                callback(mask)

    def __bool__(self) -> bool:
        return bool(self._callbacks)


class Timer:
    """A deadline that calls back once; `cancel` makes it void."""

    __slots__ = ("callback", "deadline_ns", "scheduler")

    def __init__(self, deadline_ns: int, callback: Callable[[], None], scheduler: "Scheduler") -> None:
        self.deadline_ns = deadline_ns
        self.callback: Callable[[], None] | None = callback
        self.scheduler = scheduler

    def cancel(self) -> None:
        if self.callback is not None:
            self.callback = None
            self.scheduler.timer_voided()


class Sleeper:
    """One suspended wait of one job: fires once, with True (woken), False (deadline) or an exception."""

    __slots__ = ("fired", "interruptible", "job", "scheduler", "stop_ends")

    def __init__(self, scheduler: "Scheduler", interruptible: bool, stop_ends: bool) -> None:
        self.scheduler = scheduler
        self.interruptible = interruptible
        self.stop_ends = stop_ends
        self.fired = False
        self.job: Job | None = None

    def fire(self, value: object) -> None:
        if not self.fired:
            self.fired = True
            self.scheduler.ready.append((self, value))

    def wake(self, mask: int) -> None:
        self.fire(True)

    def expire(self) -> None:
        self.fire(False)


@types.coroutine
def _suspend(sleeper: Sleeper) -> Generator[Sleeper, bool, bool]:
    return (yield sleeper)


async def _sleep(
    queues: tuple[WaitQueue, ...], deadline_ns: int | None, interruptible: bool, stop_ends: bool = False
) -> bool:
    scheduler = _current
    assert scheduler is not None
    sleeper = Sleeper(scheduler, interruptible, stop_ends)
    wake = sleeper.wake
    for queue in queues:
        queue.add(wake)
    timer = None if deadline_ns is None else scheduler.call_at(deadline_ns, sleeper.expire)
    try:
        return await _suspend(sleeper)
    finally:
        sleeper.fired = True
        for queue in queues:
            queue.remove(wake)
        if timer is not None:
            timer.cancel()


def wait(
    *queues: WaitQueue, deadline_ns: int | None = None, stop_ends: bool = False
) -> Coroutine[Any, Any, bool]:
    """Sleep until one of `queues` wakes (True) or `deadline_ns` (CLOCK_MONOTONIC) passes (False).

    Raises Interrupted when a signal has to be delivered to the sleeping task; with `stop_ends` also when its process
    is stopped, where a wait otherwise just goes on afterwards.
    """
    return _sleep(queues, deadline_ns, True, stop_ends)


def wait_uninterruptible(*queues: WaitQueue, deadline_ns: int | None = None) -> Coroutine[Any, Any, bool]:
    """As `wait`, but signals wait too: for replies that come soon, such as the gofer's."""
    return _sleep(queues, deadline_ns, False)


class Future(Generic[T]):
    """A value that will come once: `await future.wait()`."""

    __slots__ = ("_done", "_error", "_queue", "_value")

    def __init__(self) -> None:
        self._queue = WaitQueue()
        self._done = False
        self._value: T | None = None
        self._error: Exception | None = None

    def set(self, value: T) -> None:
        if not self._done:
            self._done, self._value = True, value
            self._queue.wake()

    def fail(self, error: Exception) -> None:
        if not self._done:
            self._done, self._error = True, error
            self._queue.wake()

    @property
    def done(self) -> bool:
        return self._done

    async def wait(self) -> T:
        while not self._done:
            await wait_uninterruptible(self._queue)
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


class Job:
    """A coroutine under way. `done(job)` is called once, when it has ended: look at `error`, then `value`."""

    __slots__ = ("coro", "done", "ended", "error", "frozen", "held", "sleeper", "task", "value")

    def __init__(
        self, coro: Coroutine[Any, Any, Any], task: "Task | None", done: "Callable[[Job], None] | None"
    ) -> None:
        self.coro = coro
        self.task = task
        self.done = done
        self.sleeper: Sleeper | None = None
        self.frozen = False
        self.held: tuple[Sleeper, object] | None = None  # what woke it while it was frozen
        self.ended = False
        self.value: Any = None
        self.error: BaseException | None = None

    def step(self, value: object = None) -> None:
        """Run to the next wait or to the end. `value` resumes a wait; an exception is thrown into it."""
        self.sleeper = None
        if self.task is not None:
            sched().running = self.task
        try:
            if isinstance(value, BaseException):
                sleeper = self.coro.throw(value)
            else:
                sleeper = self.coro.send(value)
        except StopIteration as stop:
            self.value = stop.value
        except (Exception, Interrupted) as error:
            self.error = error
        else:
            sleeper.job = self
            self.sleeper = sleeper
            return
        self.ended = True
        if self.done is not None:
            self.done(self)

    def interrupt(self) -> bool:
        """Make the wait raise Interrupted. False when it can't be interrupted now."""
        sleeper = self.sleeper
        if sleeper is None or sleeper.fired or not sleeper.interruptible:
            return False
        sleeper.fire(Interrupted())
        return True

    def freeze(self) -> None:
        """Its task is stopped (SIGSTOP and its like): what wakes it waits, so that it takes nothing from anybody."""
        self.frozen = True

    def thaw(self) -> None:
        """The task goes on; a wake that came meanwhile counts now."""
        self.frozen = False
        if self.held is not None:
            held, self.held = self.held, None
            held[0].scheduler.ready.append(held)

    def cancel(self) -> None:
        """End the coroutine where it waits (its task is gone); `done` is not called."""
        self.done = None
        if self.sleeper is not None:
            self.sleeper.fired = True
        if not self.ended:
            self.ended = True
            self.coro.close()


class Poller(Protocol):
    """What watches host descriptors for a scheduler: the platform's loop, or a fake."""

    def watch(self, host_fd: int, events: int, cookie: int) -> None: ...


class Scheduler:
    """Ready jobs, timers and watched host descriptors of one sandbox."""

    def __init__(self, clock: Callable[[], int] = monotonic_ns, poller: Poller | None = None) -> None:
        global _current
        self.now_ns = clock
        self.poller = poller
        self.ready: deque[tuple[Sleeper, object]] = deque()
        self._timers: list[tuple[int, int, Timer]] = []
        self._sequence = 0
        self._void = 0  # timers in the heap that were cancelled
        self._watches: dict[int, Callable[[int], None]] = {}
        self.running: Task | None = None  # whose call runs now (Linux: current)
        _current = self

    def spawn(
        self,
        coro: Coroutine[Any, Any, Any],
        task: "Task | None" = None,
        done: Callable[[Job], None] | None = None,
    ) -> Job:
        """Start a job; it runs at once, up to its first wait."""
        job = Job(coro, task, done)
        job.step()
        return job

    def call_at(self, deadline_ns: int, callback: Callable[[], None]) -> Timer:
        timer = Timer(deadline_ns, callback, self)
        self._sequence += 1
        heapq.heappush(self._timers, (deadline_ns, self._sequence, timer))
        return timer

    def timer_voided(self) -> None:
        """Void timers stay in the heap until their time; not so many that waits which end early fill the memory."""
        self._void += 1
        timers = self._timers
        if self._void > _VOID_KEPT and self._void > len(timers) // 2:
            timers[:] = [entry for entry in timers if entry[2].callback is not None]
            heapq.heapify(timers)
            self._void = 0

    def next_deadline_ns(self) -> int | None:
        """The earliest deadline still wanted."""
        timers = self._timers
        while timers and timers[0][2].callback is None:
            heapq.heappop(timers)
            self._void -= 1
        return timers[0][0] if timers else None

    def run_timers(self) -> None:
        """Call every timer whose deadline has passed."""
        timers = self._timers
        now = self.now_ns()
        while timers and timers[0][0] <= now:
            timer = heapq.heappop(timers)[2]
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
            else:
                self._void -= 1

    def run_ready(self) -> None:
        """Resume every job that has been woken, those woken meanwhile included."""
        ready = self.ready
        while ready:
            sleeper, value = ready.popleft()
            job = sleeper.job
            if job is not None and job.sleeper is sleeper:
                if job.frozen:
                    job.held = (sleeper, value)
                else:
                    job.step(value)

    def run_until_idle(self) -> None:
        """For tests with a moved clock: timers and jobs until nothing is due."""
        while True:
            self.run_timers()
            if not self.ready:
                return
            self.run_ready()

    def watch(self, host_fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` from the loop whenever the host descriptor is ready (level triggered)."""
        self._watches[host_fd] = callback
        if self.poller is not None:
            self.poller.watch(host_fd, events, host_fd)

    def unwatch(self, host_fd: int) -> None:
        if self._watches.pop(host_fd, None) is not None and self.poller is not None:
            self.poller.watch(host_fd, 0, host_fd)

    def dispatch(self, host_fd: int, events: int) -> None:
        """The platform reports a ready host descriptor."""
        callback = self._watches.get(host_fd)
        if callback is not None:
            callback(events)


_current: Scheduler | None = None


def sched() -> Scheduler:
    """The scheduler of this sentry."""
    assert _current is not None
    return _current


def running_task() -> "Task":
    """Whose call runs now: for the few things whose answer depends on who asks (Linux: current)."""
    task = sched().running
    assert task is not None
    return task
