"""A call that the host runs with other registers: its stops, one by one."""

from types import SimpleNamespace
from typing import Any

import pytest

from sentry.abi.linux import ERESTARTSYS, SIGSTOP, SIGTRAP, SIGUSR1
from sentry.kernel.rewrite import CALL_STOP, Rewritten, RewrittenCall

NR, GUEST = 247, (3, 7, 0, 4, 0, 0)


class Platform:
    """A stopped thread's registers, and what was asked for."""

    def __init__(self) -> None:
        self.regs = {"rip": 1002, "rax": -ERESTARTSYS & (1 << 64) - 1, "orig_rax": NR, "rdi": 3, "rsi": 7}
        self.asked: list[Any] = []
        self.dying = 0

    def interrupt(self, tid: int) -> int:
        self.asked.append("interrupt")
        return self.dying

    def reply(self, call_id: int, value: int, error: int) -> None:
        self.asked.append(("reply", error))

    def resume(self, tid: int, signal: int) -> None:
        self.asked.append("resume")

    def resume_to_call(self, tid: int) -> None:
        self.asked.append("to call")

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


@pytest.fixture
def call() -> RewrittenCall:
    kernel: Any = SimpleNamespace(platform=Platform(), trace_end=lambda task, call: None, on_call=None, seccomp_pass=0)
    task: Any = SimpleNamespace(host_tid=5, call=None, tracee=None)
    call = RewrittenCall(kernel, task, NR, GUEST, None, Rewritten({0: 1, 1: 42}))  # type: ignore[arg-type]
    call.begin(9)
    return call


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
    platform.regs.update(rip=1002, rax=-ERESTARTSYS & (1 << 64) - 1, orig_rax=NR)
    call.stopped(False, CALL_STOP)
    assert registers(call) == (3, 7, 1002)
    assert platform.regs["rax"] == -ERESTARTSYS & (1 << 64) - 1 and platform.regs["orig_rax"] == NR


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
