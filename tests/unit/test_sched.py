"""sentry/kernel/sched.py: who wakes when, in which order, and what an interruption does; the test moves the clock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sentry.errors import EAGAIN, Interrupted
from sentry.kernel.sched import ALL, Future, Job, Scheduler, WaitQueue, sched, wait, wait_uninterruptible


class Clock:
    def __init__(self) -> None:
        self.now = 100

    def __call__(self) -> int:
        return self.now


class Poller:
    def __init__(self) -> None:
        self.calls: list[tuple[int, int, int]] = []

    def watch(self, host_fd: int, events: int, cookie: int) -> None:
        self.calls.append((host_fd, events, cookie))


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scheduler(clock: Clock) -> Iterator[Scheduler]:
    yield Scheduler(clock, Poller())


def test_the_last_scheduler_made_is_the_current_one(scheduler: Scheduler) -> None:
    assert sched() is scheduler


def test_a_job_runs_at_once_up_to_its_first_wait(scheduler: Scheduler) -> None:
    seen = []
    queue = WaitQueue()

    async def job() -> None:
        seen.append("before")
        await wait(queue)
        seen.append("after")

    scheduler.spawn(job())
    assert seen == ["before"]
    queue.wake()
    assert seen == ["before"]  # a wake only makes it ready
    scheduler.run_ready()
    assert seen == ["before", "after"]


def test_a_job_that_never_waits_ends_in_spawn_and_calls_done(scheduler: Scheduler) -> None:
    ended = []

    async def job() -> int:
        return 7

    made = scheduler.spawn(job(), done=ended.append)
    assert ended == [made]
    assert (made.ended, made.value, made.error) == (True, 7, None)


def test_sleepers_wake_in_the_order_in_which_they_went_to_sleep(scheduler: Scheduler) -> None:
    queue, order = WaitQueue(), []

    async def job(name: int) -> None:
        await wait(queue)
        order.append(name)

    for name in range(5):
        scheduler.spawn(job(name))
    queue.wake()
    scheduler.run_ready()
    assert order == [0, 1, 2, 3, 4]


def test_a_job_woken_by_another_runs_in_the_same_round(scheduler: Scheduler) -> None:
    first, second, seen = WaitQueue(), WaitQueue(), []

    async def passes_on() -> None:
        await wait(first)
        second.wake()

    async def ends() -> None:
        await wait(second)
        seen.append("woken")

    scheduler.spawn(passes_on())
    scheduler.spawn(ends())
    first.wake()
    scheduler.run_ready()
    assert seen == ["woken"]


def test_several_queues_and_a_double_wake_resume_once_and_leave_nothing_behind(
    scheduler: Scheduler, clock: Clock
) -> None:
    left, right, seen = WaitQueue(), WaitQueue(), []

    async def job() -> None:
        seen.append(await wait(left, right, deadline_ns=200))

    scheduler.spawn(job())
    assert left and right
    left.wake()
    right.wake()
    clock.now = 300
    scheduler.run_until_idle()
    assert seen == [True]
    assert not left and not right
    assert scheduler.next_deadline_ns() is None


def test_a_deadline_gives_false_and_not_before_its_time(scheduler: Scheduler, clock: Clock) -> None:
    seen = []

    async def job() -> None:
        seen.append(await wait(WaitQueue(), deadline_ns=200))

    scheduler.spawn(job())
    assert scheduler.next_deadline_ns() == 200
    clock.now = 199
    scheduler.run_until_idle()
    assert seen == []
    clock.now = 200
    scheduler.run_until_idle()
    assert seen == [False]


def test_timers_fire_in_order_of_deadline_then_of_making(scheduler: Scheduler, clock: Clock) -> None:
    seen: list[str] = []
    for name, at in (("late", 300), ("early", 200), ("early too", 200), ("void", 150)):
        timer = scheduler.call_at(at, lambda name=name: seen.append(name))
    timer.cancel()
    assert scheduler.next_deadline_ns() == 200  # a cancelled one is not waited for
    clock.now = 1000
    scheduler.run_timers()
    assert seen == ["early", "early too", "late"]


def test_a_timer_may_make_another_that_is_due_at_once(scheduler: Scheduler, clock: Clock) -> None:
    seen: list[str] = []
    scheduler.call_at(100, lambda: scheduler.call_at(100, lambda: seen.append("second")))
    scheduler.run_until_idle()
    assert seen == ["second"]


def interruptible(scheduler: Scheduler, queue: WaitQueue, seen: list[Any]) -> Job:
    async def job() -> str:
        try:
            seen.append(await wait(queue, deadline_ns=500))
        except Interrupted:
            seen.append("interrupted")
            raise
        return "whole"

    return scheduler.spawn(job())


def test_an_interruption_raises_in_the_wait_and_ends_the_job(scheduler: Scheduler) -> None:
    queue, seen = WaitQueue(), []
    job = interruptible(scheduler, queue, seen)
    assert job.interrupt()
    scheduler.run_ready()
    assert seen == ["interrupted"]
    assert job.ended and isinstance(job.error, Interrupted)
    assert not queue and scheduler.next_deadline_ns() is None


def test_a_wait_that_was_woken_can_not_be_interrupted_any_more(scheduler: Scheduler) -> None:
    queue, seen = WaitQueue(), []
    job = interruptible(scheduler, queue, seen)
    queue.wake()
    assert not job.interrupt()
    scheduler.run_ready()
    assert seen == [True] and job.value == "whole"
    assert not job.interrupt()  # nor one that has ended


def test_an_uninterruptible_wait_only_wakes(scheduler: Scheduler) -> None:
    queue = WaitQueue()

    async def job() -> bool:
        return await wait_uninterruptible(queue)

    made = scheduler.spawn(job())
    assert not made.interrupt()
    queue.wake()
    scheduler.run_ready()
    assert made.value is True


def test_cancel_closes_the_coroutine_leaves_the_queues_and_tells_nobody(scheduler: Scheduler) -> None:
    queue, ended, cleaned = WaitQueue(), [], []

    async def job() -> None:
        try:
            await wait(queue, deadline_ns=500)
        finally:
            cleaned.append(True)

    made = scheduler.spawn(job(), done=ended.append)
    made.cancel()
    assert (cleaned, ended, bool(queue), made.ended) == ([True], [], False, True)
    made.cancel()
    scheduler.run_until_idle()
    assert ended == []


def test_cancel_of_a_woken_job_that_has_not_run_yet(scheduler: Scheduler) -> None:
    queue, seen = WaitQueue(), []
    job = interruptible(scheduler, queue, seen)
    queue.wake()
    job.cancel()
    scheduler.run_ready()
    assert seen == []


def test_an_error_of_the_coroutine_is_the_jobs(scheduler: Scheduler) -> None:
    async def job() -> None:
        await wait(WaitQueue(), deadline_ns=0)
        raise EAGAIN("nothing there")

    made = scheduler.spawn(job())
    scheduler.run_until_idle()
    assert isinstance(made.error, EAGAIN)


def test_futures_give_their_first_value_to_all_who_wait(scheduler: Scheduler) -> None:
    future: Future[int] = Future()
    jobs = [scheduler.spawn(future.wait()) for _ in range(2)]
    assert not future.done
    future.set(5)
    future.set(6)
    future.fail(EAGAIN())
    jobs.append(scheduler.spawn(future.wait()))  # who comes late need not wait
    scheduler.run_ready()
    assert [job.value for job in jobs] == [5, 5, 5]


def test_a_failed_future_raises_in_everyone(scheduler: Scheduler) -> None:
    future: Future[int] = Future()
    before = scheduler.spawn(future.wait())
    future.fail(EAGAIN())
    after = scheduler.spawn(future.wait())
    scheduler.run_ready()
    assert isinstance(before.error, EAGAIN) and isinstance(after.error, EAGAIN)


def test_a_wait_on_a_future_is_not_interrupted(scheduler: Scheduler) -> None:
    future: Future[int] = Future()
    job = scheduler.spawn(future.wait())
    assert not job.interrupt()
    future.set(1)
    scheduler.run_ready()
    assert job.value == 1


def test_queue_callbacks_get_the_mask_and_may_leave_while_they_are_called() -> None:
    queue, seen = WaitQueue(), []

    def once(mask: int) -> None:
        seen.append(("once", mask))
        queue.remove(once)
        queue.remove(once)  # once more is no error

    def always(mask: int) -> None:
        seen.append(("always", mask))

    queue.add(once)
    queue.add(always)
    queue.wake(4)
    queue.wake()
    assert seen == [("once", 4), ("always", 4), ("always", ALL)]


def test_a_watched_descriptor_calls_back_until_it_is_unwatched(scheduler: Scheduler) -> None:
    seen: list[int] = []
    scheduler.watch(9, 1, seen.append)
    scheduler.dispatch(9, 5)
    scheduler.unwatch(9)
    scheduler.dispatch(9, 5)  # an event that was under way
    scheduler.unwatch(9)
    assert seen == [5]
    assert scheduler.poller is not None
    assert scheduler.poller.calls == [(9, 1, 9), (9, 0, 9)]  # type: ignore[attr-defined]
