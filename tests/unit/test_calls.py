"""sentry/kernel/calls.py: a waiting call in each of its states, and what the platform is told in them.

The whole kernel runs over a platform that takes notes (kernel_rig.py). Covers: sentry.kernel.kernel
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTSTP, SIGUSR1, SIGUSR2
from typing import Any

import pytest

from sentry.abi.linux import (
    ERESTART_RESTARTBLOCK,
    ERESTARTNOHAND,
    ERESTARTNOINTR,
    ERESTARTSYS,
)
from sentry.errors import EAGAIN, EINTR, Interrupted
from sentry.kernel.calls import HANDLER, OPEN, PAUSED, SIGNALED, STOPPING, UNPARKING
from sentry.kernel.rewrite import Rewritten
from sentry.kernel.sched import WaitQueue, wait, wait_uninterruptible
from sentry.syscalls.declare import CONTINUE
from tests.unit.kernel_rig import KernelRig

TICK = 3.0  # PARK_AFTER_NS, in milliseconds


class World(KernelRig):
    """One task, which waits in a call."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.task = self.first_task(10)
        self.tid = self.task.host_tid
        self.queue = WaitQueue()
        self.traced: list[int] = []
        self.kernel.on_result = lambda task, entry, args, result: self.traced.append(result)
        self.answer: Any = 42
        self.id = 0
        self.done()

    async def body(self, task: Any) -> Any:
        await wait(self.queue)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def wait(self, restart: int = ERESTARTSYS) -> None:
        self.id = self.call(self.task, self.body, restart=restart)

    @property
    def nr(self) -> int:
        """The number of the last call."""
        return max(self.entries)

    @property
    def state(self) -> int:
        assert self.task.call is not None
        return self.task.call.state

    def stopping(self, restart: int = ERESTARTSYS) -> None:
        """The call waits, and has been asked to stop."""
        self.wait(restart)
        self.advance(TICK)
        self.advance(TICK)
        assert self.state == STOPPING
        self.done()

    def paused(self, restart: int = ERESTARTSYS) -> None:
        """The call is parked."""
        self.stopping(restart)
        self.event_stop(self.task)
        assert self.state == PAUSED
        self.done()

    def wake(self) -> None:
        self.ready(self.queue.wake)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


# --- OPEN


def test_a_call_that_is_woken_soon_is_answered_at_its_notification(world: World) -> None:
    world.wait()
    assert world.state == OPEN and world.done() == []
    world.wake()
    assert world.done() == [("reply", world.id, 42)]
    assert world.task.call is None and world.traced == [42]


def test_an_error_after_a_wait_is_the_calls_result(world: World) -> None:
    world.answer = EAGAIN()
    world.wait()
    world.wake()
    assert world.done() == [("reply", world.id, -11)]


def test_no_value_is_zero(world: World) -> None:
    world.answer = None
    world.wait()
    world.wake()
    assert world.done() == [("reply", world.id, 0)]


def test_continue_after_a_wait_lets_the_host_run_the_call(world: World) -> None:
    world.kernel.on_result = None
    world.answer = CONTINUE
    world.wait()
    world.wake()
    assert world.done() == [("let_run", world.id)]


def test_an_observer_sees_what_the_host_has_answered(world: World) -> None:
    world.answer = CONTINUE
    world.wait()
    world.wake()
    assert world.done() == [("interrupt", world.tid), ("reply", world.id, -ERESTARTSYS)]
    world.platform.registers[world.tid] = {"rip": 102}
    world.event_stop(world.task)
    world.call_stop(world.task)
    again = world.made_again(world.task)
    world.platform.registers[world.tid] = {"rax": 7}
    world.call_stop(world.task)
    assert [note[0] for note in world.done() if note[0] != "set_regs"] == [
        "resume_to_call", "resume_to_call", "let_run", "resume",
    ]  # fmt: skip
    assert world.traced == [7] and again != world.id


def test_a_rewritten_call_after_a_wait(world: World) -> None:
    world.answer = Rewritten({1: 5})
    world.wait()
    world.wake()
    world.platform.registers[world.tid] = {"rip": 100, "rsi": 0}
    world.event_stop(world.task)
    assert (world.platform.registers[world.tid]["rip"], world.platform.registers[world.tid]["rsi"]) == (98, 5)


def test_a_rewritten_call_of_a_parked_task_is_made_anew(world: World) -> None:
    world.answer = Rewritten({1: 5})
    world.paused()
    world.wake()
    world.event_stop(world.task)
    assert world.done()[-1] == ("finish", world.tid, world.nr, -ERESTARTNOINTR, 0)


def test_a_call_is_parked_at_the_second_tick_not_at_the_first(world: World) -> None:
    world.wait()
    world.advance(TICK)
    assert world.state == OPEN and world.done() == []
    world.advance(TICK)
    assert world.state == STOPPING
    assert world.done() == [("interrupt", world.tid), ("reply", world.id, -ERESTARTSYS)]


def test_when_nobody_waits_no_timer_is_left(world: World) -> None:
    world.wait()
    world.wake()
    world.advance(TICK)
    assert world.kernel.scheduler.next_deadline_ns() is None


def test_a_signal_parks_an_open_call_at_once(world: World) -> None:
    world.wait()
    world.ready(lambda: world.kernel.send_signal(world.task.group, SIGUSR1))
    assert world.state == STOPPING
    assert world.done() == [
        ("signal", world.tid, SIGUSR1, "group"),
        ("interrupt", world.tid),
        ("reply", world.id, -ERESTARTSYS),
    ]
    world.ready(lambda: world.kernel.send_signal(world.task, SIGUSR2))  # the stop has been asked for already
    assert world.done() == [("signal", world.tid, SIGUSR2, "thread")]


def test_a_signal_to_a_task_that_waits_for_nothing_needs_no_stop(world: World) -> None:
    world.ready(lambda: world.kernel.send_signal(world.task, SIGUSR1))
    assert world.done() == [("signal", world.tid, SIGUSR1, "thread")]


def test_an_uninterruptible_wait_keeps_its_notification_until_it_ends(world: World) -> None:
    queue = WaitQueue()

    async def body(task: Any) -> int:
        await wait_uninterruptible(queue)
        await wait(world.queue)
        return 1

    call = world.call(world.task, body)
    for _ in range(4):
        world.advance(TICK)
    world.ready(lambda: world.kernel.send_signal(world.task, SIGUSR1))
    assert world.state == OPEN
    assert world.done() == [("signal", world.tid, SIGUSR1, "thread")]
    world.ready(queue.wake)  # and now it waits where a signal may interrupt it
    world.advance(TICK)
    world.advance(TICK)
    assert world.state == STOPPING
    assert world.done() == [("interrupt", world.tid), ("reply", call, -ERESTARTSYS)]


def test_a_task_that_can_not_be_stopped_is_dying_and_is_let_alone(world: World) -> None:
    world.wait()
    world.platform.gone.add(world.tid)
    world.advance(TICK)
    world.advance(TICK)
    assert world.state == OPEN
    assert world.done() == [("interrupt", world.tid)]


# --- STOPPING


def test_a_result_while_stopping_ends_the_call_at_the_stop(world: World) -> None:
    world.stopping()
    world.wake()
    assert world.done() == []  # no notification to answer, no stop yet
    world.event_stop(world.task)
    assert world.done() == [("unparked", world.tid), ("finish", world.tid, -1, 42, 0)]
    assert world.task.call is None and world.traced == [42]


def test_a_signal_stop_while_stopping_is_only_delivered(world: World) -> None:
    world.catches(world.task, SIGUSR1)
    world.stopping()
    world.signal_stop(world.task, SIGUSR1)
    assert world.state == STOPPING
    assert world.done() == [("resume", world.tid, SIGUSR1)]


# --- PAUSED


def test_the_stop_puts_the_task_to_sleep(world: World) -> None:
    world.stopping()
    world.event_stop(world.task)
    assert world.done() == [("park", world.tid, 0)]
    assert world.state == PAUSED


def test_a_result_stops_the_parked_task_and_ends_its_call_there(world: World) -> None:
    world.paused()
    world.wake()
    assert world.state == UNPARKING and world.done() == [("interrupt", world.tid)]
    world.event_stop(world.task)
    assert world.done() == [("unparked", world.tid), ("finish", world.tid, -1, 42, 0)]
    assert world.task.call is None


def test_continue_of_a_parked_call_makes_it_start_again(world: World) -> None:
    world.answer = CONTINUE
    world.paused()
    world.wake()
    world.event_stop(world.task)
    assert world.done()[-1] == ("finish", world.tid, world.nr, -ERESTARTNOINTR, 0)


def test_a_signal_without_a_handler_does_not_end_the_wait(world: World) -> None:
    world.paused()
    world.signal_stop(world.task, SIGUSR1)
    assert world.state == PAUSED
    assert world.done() == [("resume", world.tid, SIGUSR1)]  # ignored, or the task dies of it
    world.wake()
    world.event_stop(world.task)
    assert world.done()[-1] == ("finish", world.tid, -1, 42, 0)


@pytest.mark.parametrize(
    ("restart", "result", "again"),
    [
        (ERESTARTSYS, -ERESTARTSYS, True),
        (ERESTARTNOHAND, -ERESTARTNOHAND, True),
        (ERESTART_RESTARTBLOCK, -ERESTARTNOHAND, True),
        (4, -4, False),  # EINTR even under SA_RESTART
    ],
)
def test_a_signal_with_a_handler_interrupts_the_wait(world: World, restart: int, result: int, again: bool) -> None:
    world.catches(world.task, SIGUSR1)
    world.paused(restart)
    nr = world.task.call.nr
    world.signal_stop(world.task, SIGUSR1)
    assert world.done() == [
        ("unparked", world.tid),
        ("restart", world.tid, nr if again else -1, result, SIGUSR1),
    ]
    assert world.task.call is None and not world.queue


def test_partial_progress_at_an_interruption_is_the_result(world: World) -> None:
    async def body(task: Any) -> int:
        try:
            await wait(world.queue)
        except Interrupted:
            return 7
        return 0

    world.catches(world.task, SIGUSR1)
    world.id = world.call(world.task, body)
    world.advance(TICK)
    world.advance(TICK)
    world.event_stop(world.task)
    world.done()
    world.signal_stop(world.task, SIGUSR1)
    assert world.done() == [("unparked", world.tid), ("restart", world.tid, -1, 7, SIGUSR1)]


def test_a_wait_woken_just_before_the_signal_gives_its_result(world: World) -> None:
    world.catches(world.task, SIGUSR1)
    world.paused()
    world.queue.wake()  # not yet resumed
    world.signal_stop(world.task, SIGUSR1)
    assert world.done() == [("unparked", world.tid), ("restart", world.tid, -1, 42, SIGUSR1)]


def test_a_handler_waits_for_an_uninterruptible_part_of_the_call(world: World) -> None:
    queue = WaitQueue()

    async def body(task: Any) -> int:
        await wait(world.queue)
        await wait_uninterruptible(queue)
        return 3

    world.catches(world.task, SIGUSR1)
    world.call(world.task, body)
    world.advance(TICK)
    world.advance(TICK)
    world.event_stop(world.task)
    world.wake()
    world.done()
    world.signal_stop(world.task, SIGUSR1)
    assert world.state == SIGNALED and world.done() == []
    world.ready(queue.wake)
    assert world.done() == [("unparked", world.tid), ("restart", world.tid, -1, 3, SIGUSR1)]


def test_a_signal_at_the_stop_for_a_result_carries_the_result(world: World) -> None:
    """Both at once: the task stops for the signal first, the stop that was asked for comes later and means nothing."""
    world.catches(world.task, SIGUSR1)
    world.paused()
    world.wake()
    world.done()
    world.signal_stop(world.task, SIGUSR1)
    assert world.done() == [("unparked", world.tid), ("restart", world.tid, -1, 42, SIGUSR1)]
    assert world.task.call is None
    world.event_stop(world.task)
    assert world.done() == [("resume", world.tid, 0)]


def test_a_status_that_can_not_be_read_counts_as_a_handler(world: World) -> None:
    world.paused()
    (world.folder / str(world.tid) / "status").unlink()
    world.signal_stop(world.task, SIGUSR1)
    assert world.done()[-1][0] == "restart"


# --- group stops


def test_a_group_stop_of_a_parked_task_lasts_until_sigcont(world: World) -> None:
    world.paused()
    world.event_stop(world.task, SIGSTOP)
    assert world.done() == [("listen", world.tid)]
    world.wake()  # what it waits for is there, but a stopped process takes nothing
    assert world.done() == [] and world.state == PAUSED
    world.event_stop(world.task)  # SIGCONT ended the stop
    assert world.done() == [("resume", world.tid, 0), ("interrupt", world.tid)]
    world.event_stop(world.task)
    assert world.done() == [("unparked", world.tid), ("finish", world.tid, -1, 42, 0)]


def test_a_group_stop_without_a_result_goes_on_waiting(world: World) -> None:
    world.paused()
    world.event_stop(world.task, SIGTSTP)
    world.event_stop(world.task)
    assert world.done() == [("listen", world.tid), ("resume", world.tid, 0)]
    world.wake()
    assert world.done() == [("interrupt", world.tid)]


def test_a_stop_signal_that_comes_before_the_parking_parks_the_task_stopped(world: World) -> None:
    world.stopping()
    world.event_stop(world.task, SIGSTOP)
    assert world.done() == [("park", world.tid, 1)]
    world.wake()
    assert world.done() == []
    world.event_stop(world.task)
    assert world.done() == [("resume", world.tid, 0), ("interrupt", world.tid)]


def test_a_group_stop_while_unparking_keeps_the_finished_task_stopped(world: World) -> None:
    world.paused()
    world.wake()
    world.done()
    world.event_stop(world.task, SIGSTOP)
    assert world.done() == [("unparked", world.tid), ("finish", world.tid, -1, 42, 1)]


@pytest.mark.parametrize("stopping", [False, True])
def test_a_group_stop_ends_a_call_that_is_never_restarted(world: World, stopping: bool) -> None:
    """epoll_wait(2), semop(2): EINTR, once the process goes on."""
    (world.stopping if stopping else world.paused)(EINTR.errno)
    world.event_stop(world.task, SIGSTOP)
    assert world.done() == [("park", world.tid, 1) if stopping else ("listen", world.tid)]
    world.wake()  # too late
    world.event_stop(world.task)
    assert world.done() == [("unparked", world.tid), ("finish", world.tid, -1, -EINTR.errno, 0)]


def test_a_group_stop_ends_a_wait_that_asks_for_it(world: World) -> None:
    """A socket with SO_RCVTIMEO."""

    async def body(task: Any) -> Any:
        try:
            await wait(world.queue, stop_ends=True)
        except Interrupted:
            raise EINTR from None

    world.call(world.task, body)
    world.advance(TICK)
    world.advance(TICK)
    world.event_stop(world.task)
    world.done()
    world.event_stop(world.task, SIGTSTP)
    world.event_stop(world.task)
    assert world.done()[-1] == ("finish", world.tid, -1, -EINTR.errno, 0)


def test_sigcont_with_a_handler_interrupts(world: World) -> None:
    world.catches(world.task, SIGCONT)
    world.paused()
    world.event_stop(world.task, SIGSTOP)
    world.event_stop(world.task)
    world.done()
    world.signal_stop(world.task, SIGCONT)
    assert world.done()[-1][0] == "restart"


# --- a mask of the wait's own (ppoll, pselect6, epoll_pwait)




@pytest.fixture
def with_mask(world: World) -> World:
    async def body(task: Any) -> Any:
        return await task.with_sigmask(0b0110, world.body(task))

    world.platform.masks[world.tid] = 0b1000
    world.catches(world.task, SIGUSR1)
    world.id = world.call(world.task, body, restart=ERESTARTNOHAND)
    return world


def test_a_wait_with_its_own_mask_parks_at_once_and_has_it_while_it_sleeps(with_mask: World) -> None:
    world = with_mask
    assert world.state == STOPPING
    assert world.done() == [("interrupt", world.tid), ("reply", world.id, -ERESTARTSYS)]
    world.event_stop(world.task)
    assert world.done() == [("set_sigmask", world.tid, 0b0110), ("park", world.tid, 0)]
    world.wake()
    world.event_stop(world.task)
    assert world.done() == [
        ("interrupt", world.tid),
        ("set_sigmask", world.tid, 0b1000),
        ("unparked", world.tid),
        ("finish", world.tid, -1, 42, 0),
    ]
    assert world.task.sigmask_wait is None


def test_a_result_before_the_stop_never_changes_the_mask(with_mask: World) -> None:
    world = with_mask
    world.wake()
    world.done()
    world.event_stop(world.task)
    assert world.done() == [("unparked", world.tid), ("finish", world.tid, -1, 42, 0)]


def test_a_handler_begins_under_the_waits_mask_and_returns_to_the_old_one(with_mask: World) -> None:
    world = with_mask
    world.event_stop(world.task)
    world.done()
    nr = world.task.call.nr
    world.signal_stop(world.task, SIGUSR1)
    assert world.state == HANDLER
    assert world.done() == [("interrupt", world.tid), ("restart", world.tid, nr, -ERESTARTNOHAND, SIGUSR1)]
    world.event_stop(world.task)  # at the handler's first instruction; its frame can't be written, as it dies
    assert world.done() == [("unparked", world.tid), ("resume", world.tid, 0)]
    assert world.platform.masks[world.tid] == 0b0110  # sigreturn takes the frame's
    assert world.task.call is None


def test_the_handlers_frame_gets_the_mask_to_return_to(with_mask: World) -> None:
    import os

    from native import ffi
    from sentry.abi.x86_64 import FRAME_SIGMASK

    world = with_mask
    world.event_stop(world.task)
    world.signal_stop(world.task, SIGUSR1)
    frame = ffi.new("char[]", FRAME_SIGMASK + 8)
    world.task.mem.host_tid = os.getpid()
    world.platform.stack[world.tid] = int(ffi.cast("uintptr_t", frame))
    world.event_stop(world.task)
    assert int.from_bytes(ffi.buffer(frame)[FRAME_SIGMASK : FRAME_SIGMASK + 8], "little") == 0b1000


# --- death


@pytest.mark.parametrize("state", ["open", "stopping", "paused", "stopped", "unparking", "signaled"])
def test_death_in_any_state_drops_the_call_without_an_answer(world: World, state: str) -> None:
    cleaned = []

    async def body(task: Any) -> int:
        try:
            await wait(world.queue)
            await wait_uninterruptible(world.queue)
        finally:
            cleaned.append(True)
        return 0

    world.catches(world.task, SIGUSR1)
    if state == "signaled":
        world.call(world.task, body)
    else:
        world.body = body if state in ("open", "stopping", "paused", "stopped") else world.body  # type: ignore[method-assign]
        world.wait()
    if state != "open":
        world.advance(TICK)
        world.advance(TICK)
    if state in ("paused", "stopped", "unparking", "signaled"):
        world.event_stop(world.task)
    if state == "stopped":
        world.event_stop(world.task, SIGSTOP)
    if state == "unparking":
        world.wake()
        assert world.state == UNPARKING
    if state == "signaled":
        world.wake()
        world.signal_stop(world.task, SIGUSR1)
        assert world.state == SIGNALED
    world.done()
    world.dies(world.task, SIGKILL)
    assert not {note[0] for note in world.done()} - {"unparked"}
    assert world.kernel.tasks == {} and world.task.call is None
    assert not world.queue and (cleaned or state == "unparking")
    world.wake()  # nobody hears it
    assert world.done() == []


def test_a_late_tick_finds_the_dead_call_gone(world: World) -> None:
    world.wait()
    world.dies(world.task)
    world.done()
    world.advance(TICK)
    world.advance(TICK)
    assert world.done() == [] and world.kernel.scheduler.next_deadline_ns() is None


# --- the kernel's dispatch around it


def test_a_call_that_does_not_wait_is_answered_with_the_next_receive(world: World) -> None:
    call = world.call(world.task, lambda task, args: args[1], 5, 6)
    assert world.done() == [("reply", call, 6)]

    def fails(task: Any) -> None:
        raise EAGAIN

    call = world.call(world.task, fails)
    assert world.done() == [("reply", call, -11)]


def test_a_call_that_wakes_another_is_answered_before_that_runs(world: World) -> None:
    world.wait()
    other = world.first_task(11)
    world.done()
    call = world.call(other, lambda task, args: world.queue.wake())
    assert world.done() == [("reply", call, 0), ("reply", world.id, 42)]


def test_a_bug_in_a_handler_is_recorded_and_gives_eio(world: World) -> None:
    bugs = []
    world.kernel.panic_on_bug = False
    world.kernel.on_bug = lambda task, entry, args, error: bugs.append((entry.name, error))

    def broken(task: Any) -> int:
        return 1 // 0

    async def broken_later(task: Any) -> int:
        await wait(world.queue)
        return 1 // 0

    call = world.call(world.task, broken, name="broken")
    assert world.done() == [("reply", call, -5)]
    call = world.call(world.task, broken_later, name="broken_later")
    world.wake()
    assert world.done() == [("reply", call, -5)]
    assert [name for name, _ in bugs] == ["broken", "broken_later"]
    assert all(isinstance(error, ZeroDivisionError) for _, error in bugs)


def test_a_bug_ends_the_sandbox_when_that_is_wanted(world: World) -> None:
    def broken(task: Any) -> int:
        return 1 // 0

    with pytest.raises(SystemExit) as stopped:
        world.call(world.task, broken)
    assert stopped.value.code == 70


def test_the_timer_is_armed_for_the_earliest_deadline(world: World) -> None:
    async def body(task: Any) -> int:
        return int(await wait(world.queue, deadline_ns=world.now_ns + 1_000_000))

    call = world.call(world.task, body)
    assert world.platform.armed == world.now_ns + 1_000_000
    world.advance(1)
    assert world.done() == [("reply", call, 0)]
    world.advance(TICK)
    world.advance(TICK)
    assert world.platform.armed == -1
