"""A call that the host runs with other registers: its stops, one by one."""

from types import SimpleNamespace
from typing import Any

import pytest

from sentry.abi.linux import ERESTARTSYS, SIGALRM, SIGSTOP, SIGTRAP, SIGUSR1
from sentry.errors import EBADF, EFAULT, EINTR
from sentry.kernel.rewrite import AGAIN, CALL_STOP, GOES_ON, Rewritten, RewrittenCall

NR, GUEST = 247, (3, 7, 0, 4, 0, 0)
WORD = (1 << 64) - 1


class Platform:
    """A stopped thread's registers, and what was asked for."""

    def __init__(self) -> None:
        self.regs = {"rip": 1002, "rax": -ERESTARTSYS & (1 << 64) - 1, "orig_rax": NR, "rdi": 3, "rsi": 7}
        self.asked: list[Any] = []
        self.dying = 0

    def interrupt(self, tid: int) -> int:
        self.asked.append("interrupt")
        return self.dying

    def reply(self, call_id: int, result: int) -> None:
        self.asked.append(("reply", result))

    def resume(self, tid: int, signal: int) -> None:
        self.asked.append("resume")

    def resume_to_call(self, tid: int, signal: int) -> None:
        self.asked.append(("to call", signal) if signal else "to call")

    def let_run(self, call_id: int) -> None:
        self.asked.append(("let run", call_id))

    def listen(self, tid: int) -> None:
        self.asked.append("listen")

    def get_regs(self, tid: int, regs: Any) -> int:
        for name, value in self.regs.items():
            setattr(regs, name, value)
        return 0

    def set_regs(self, tid: int, regs: Any) -> int:
        for name in self.regs:
            self.regs[name] = getattr(regs, name)
        return 0


class AtOnce(Rewritten):
    at_once = True


def started(what: Rewritten) -> RewrittenCall:
    pids = SimpleNamespace(caught=lambda tid, signal: signal == SIGALRM)
    kernel: Any = SimpleNamespace(
        platform=Platform(), trace_end=lambda task, call: None, on_call=None, pids=pids, seccomp_pass=0
    )
    task: Any = SimpleNamespace(host_tid=5, call=None, tracee=None)
    call = RewrittenCall(kernel, task, NR, GUEST, None, what)  # type: ignore[arg-type]
    call.begin(9)
    return call


@pytest.fixture
def call() -> RewrittenCall:
    return started(Rewritten({0: 1, 1: 42}))


def registers(call: RewrittenCall) -> tuple[int, int, int]:
    regs = call.kernel.platform.regs  # type: ignore[attr-defined]
    return regs["rdi"], regs["rsi"], regs["rip"]


def test_the_call_is_made_again_with_other_registers(call: RewrittenCall) -> None:
    platform: Any = call.kernel.platform
    assert call.task.call is call
    assert call.stopped(True, SIGTRAP)
    assert registers(call) == (1, 42, 1000) and platform.regs["rax"] == NR
    assert call.stopped(False, CALL_STOP)
    platform.regs.update(rip=1002, rax=0, orig_rax=NR)
    assert call.stopped(False, CALL_STOP)
    assert registers(call) == (3, 7, 1002) and platform.regs["rax"] == 0
    assert call.task.call is None and call.ended
    assert platform.asked == ["interrupt", ("reply", -ERESTARTSYS), "to call", "to call", "resume"]


def test_an_interrupted_call_restarts_with_the_guests_registers(call: RewrittenCall) -> None:
    platform: Any = call.kernel.platform
    call.stopped(True, SIGTRAP)
    call.stopped(False, CALL_STOP)
    call.notified(7, *MADE)
    platform.regs.update(rip=1002, rax=-ERESTARTSYS & (1 << 64) - 1, orig_rax=NR)
    call.stopped(False, CALL_STOP)
    assert registers(call) == (3, 7, 1002)
    assert platform.regs["rax"] == -ERESTARTSYS & (1 << 64) - 1 and platform.regs["orig_rax"] == NR


def test_a_call_that_a_signal_kept_from_the_listener_is_made_again(call: RewrittenCall) -> None:
    platform: Any = call.kernel.platform
    call.stopped(True, SIGTRAP)
    call.stopped(False, CALL_STOP)
    platform.regs.update(rip=1002, rax=-ERESTARTSYS & (1 << 64) - 1, orig_rax=NR)
    call.stopped(False, CALL_STOP)
    assert registers(call) == (3, 7, 1000) and platform.regs["rax"] == NR and call.ended


def test_a_signal_before_the_call_leaves_it_as_the_guest_wrote_it(call: RewrittenCall) -> None:
    call.stopped(True, SIGTRAP)
    assert not call.stopped(False, SIGUSR1)
    assert registers(call) == (3, 7, 1000)
    assert call.task.call is None


def test_a_group_stop_comes_first(call: RewrittenCall) -> None:
    assert call.stopped(True, SIGSTOP)
    assert registers(call) == (3, 7, 1000)  # made again, as the guest wrote it, after the stop
    assert call.kernel.platform.asked[-1] == "listen"  # type: ignore[attr-defined]
    assert call.task.call is None


def test_the_result_may_be_changed(call: RewrittenCall) -> None:
    call.what.finish = lambda result: -11 if result == 0 else result
    call.stopped(True, SIGTRAP)
    call.stopped(False, CALL_STOP)
    call.kernel.platform.regs["rax"] = 0  # type: ignore[attr-defined]
    call.stopped(False, CALL_STOP)
    assert call.kernel.platform.regs["rax"] == (1 << 64) - 11  # type: ignore[attr-defined]


def test_a_dying_task_is_left_alone() -> None:
    platform = Platform()
    platform.dying = -3
    kernel: Any = SimpleNamespace(platform=platform)
    task: Any = SimpleNamespace(host_tid=5, call=None, tracee=None)
    RewrittenCall(kernel, task, NR, GUEST, None, Rewritten({0: 1})).begin(9)  # type: ignore[arg-type]
    assert task.call is None and platform.asked == ["interrupt"]


def test_a_call_may_have_to_come_again(call: RewrittenCall) -> None:
    platform: Any = call.kernel.platform
    call.what.finish = lambda result: AGAIN
    call.stopped(True, SIGTRAP)
    call.stopped(False, CALL_STOP)
    platform.regs.update(rip=1002, rax=0)
    call.stopped(False, CALL_STOP)
    assert registers(call) == (3, 7, 1000) and platform.regs["rax"] == NR
    assert call.ended and platform.asked[-1] == "resume"


def wait_that_goes_on(call: RewrittenCall) -> None:
    """Up to where it is about to be made for the second time."""
    call.what.finish = lambda result: GOES_ON if result == -EINTR.errno else result
    call.stopped(True, SIGTRAP)
    call.stopped(False, CALL_STOP)
    call.kernel.platform.regs.update(rip=1002, rax=-EINTR.errno & WORD)  # type: ignore[attr-defined]
    call.stopped(False, CALL_STOP)
    assert registers(call) == (1, 42, 1000) and not call.ended


def test_a_wait_goes_on_after_a_signal_that_nobody_handles(call: RewrittenCall) -> None:
    platform: Any = call.kernel.platform
    wait_that_goes_on(call)
    assert call.stopped(False, SIGUSR1)
    assert platform.asked[-1] == ("to call", SIGUSR1)
    call.stopped(False, CALL_STOP)
    platform.regs.update(rip=1002, rax=5)
    call.stopped(False, CALL_STOP)
    assert registers(call) == (3, 7, 1002) and platform.regs["rax"] == 5 and call.ended


@pytest.mark.parametrize("stop", [(False, SIGALRM), (True, SIGSTOP)])
def test_a_wait_that_went_on_ends_with_a_handler_or_a_stop(call: RewrittenCall, stop: tuple[bool, int]) -> None:
    platform: Any = call.kernel.platform
    wait_that_goes_on(call)
    assert call.stopped(*stop) == stop[0]
    assert registers(call) == (3, 7, 1002) and platform.regs["rax"] == -EINTR.errno & WORD and call.ended


def test_a_call_that_will_not_wait_is_stopped_at_its_end_only() -> None:
    call = started(AtOnce({}))
    platform: Any = call.kernel.platform
    assert platform.asked == ["interrupt", ("let run", 9)]
    platform.regs.update(rip=1002, rax=128)
    assert call.stopped(True, SIGTRAP)
    assert platform.regs["rax"] == 128 and call.ended and platform.asked[-1] == "resume"


def test_a_call_that_will_not_wait_may_end_in_a_group_stop() -> None:
    call = started(AtOnce({}, finish=lambda result: 7))
    platform: Any = call.kernel.platform
    assert call.stopped(True, SIGSTOP)
    assert platform.regs["rax"] == 7 and call.ended and platform.asked[-1] == "listen"


def test_what_cannot_be_prepared_fails_the_call() -> None:
    class Refused(AtOnce):
        def notified(self, call_id: int) -> None:
            raise EBADF

    call = started(Refused({}))
    assert call.kernel.platform.asked == ["interrupt", ("reply", -EBADF.errno)]  # type: ignore[attr-defined]


def test_what_finish_cannot_read_is_the_result() -> None:
    def finish(result: int) -> int:
        raise EFAULT

    call = started(AtOnce({}, finish=finish))
    call.stopped(True, SIGTRAP)
    assert call.result == -EFAULT.errno


def test_whatever_becomes_of_a_call_it_is_told_once(call: RewrittenCall) -> None:
    told = []
    call.what.over = lambda: told.append("over")  # type: ignore[method-assign]
    call.stopped(True, SIGTRAP)
    call.stopped(False, SIGUSR1)
    assert told == ["over"]
    other = started(AtOnce({}))
    other.what.over = lambda: told.append("dead")  # type: ignore[method-assign]
    other.over()
    assert told == ["over", "dead"] and other.task.call is None


MADE = (NR, (1, 42, 0, 4, 0, 0))


@pytest.fixture
def entered(call: RewrittenCall) -> RewrittenCall:
    """The changed call has been entered."""
    call.stopped(True, SIGTRAP)
    call.stopped(False, CALL_STOP)
    call.kernel.platform.asked.clear()  # type: ignore[attr-defined]
    return call


def test_what_was_made_runs_once(entered: RewrittenCall) -> None:
    platform: Any = entered.kernel.platform
    assert entered.notified(7, *MADE) and platform.asked == [("let run", 7)]
    assert not entered.notified(8, *MADE)
    assert platform.asked == [("let run", 7)] and entered.task.call is None


@pytest.mark.parametrize("other", [(2, MADE[1]), (NR, GUEST), (NR, (1, 43, 0, 4, 0, 0))])
def test_another_call_does_not_run_in_its_stead(entered: RewrittenCall, other: tuple[int, tuple[int, ...]]) -> None:
    assert not entered.notified(7, *other)
    assert entered.kernel.platform.asked == [] and entered.ended  # type: ignore[attr-defined]


def test_a_call_that_was_not_seen_to_be_entered_does_not_run(call: RewrittenCall) -> None:
    call.stopped(True, SIGTRAP)
    assert not call.notified(7, *MADE)
    assert call.task.call is None
