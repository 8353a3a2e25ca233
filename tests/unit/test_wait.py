"""sentry/syscalls/wait.py: what a tracer's wait(2) tells, and when it asks the host kernel."""

from __future__ import annotations

from collections.abc import Iterator
from errno import ECHILD, EINVAL
from pathlib import Path
from signal import SIGSTOP, SIGUSR1
from typing import Any

import pytest

from sentry import errors
from sentry.abi import linux as L
from sentry.abi.x86_64 import NUMBERS
from sentry.kernel.ptrace import Ended
from sentry.syscalls.declare import CONTINUE
from sentry.syscalls.wait import AskHost, sys_wait4, sys_waitid
from tests.unit.kernel_rig import Buffer
from tests.unit.ptrace_rig import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def finished(coro: Any) -> Any:
    """The result of a handler that does not sleep."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return stop.value
    coro.close()
    raise AssertionError("it sleeps")


def wait4(world: World, pid: int = -1, status: int = 0, options: int = 0) -> Any:
    return finished(sys_wait4(world.tracer, pid, status, options, 0))


def test_who_traces_nobody_leaves_it_to_the_host(world: World) -> None:
    assert finished(sys_wait4(world.task, -1, 0, 0, 0)) is CONTINUE
    assert finished(sys_waitid(world.task, L.P_ALL, 0, 0, L.WEXITED, 0)) is CONTINUE
    with pytest.raises(errors.EINVAL):
        finished(sys_wait4(world.task, -1, 0, 1 << 20, 0))


def test_a_stop_is_told_once(world: World) -> None:
    where = Buffer()
    world.signal_stop(world.task, SIGUSR1)
    tid = world.task.tid
    info = Buffer()
    options = L.WSTOPPED | L.WNOWAIT
    assert finished(sys_waitid(world.tracer, L.P_PID, tid, info.addr, options, 0)) == 0
    assert int.from_bytes(info.get(12)[8:], "little") == L.CLD_TRAPPED
    assert wait4(world, status=where.addr) == tid
    assert int.from_bytes(where.get(4), "little") == SIGUSR1 << 8 | 0x7F
    assert isinstance(wait4(world), AskHost)  # nothing of ours any more


def test_only_those_asked_for(world: World) -> None:
    world.signal_stop(world.task, SIGUSR1)
    assert isinstance(wait4(world, world.task.tid + 1), AskHost)
    world.tracer.wait_seen = -1
    world.pgids[world.task.host_tid] = world.tracer.host_tid
    assert isinstance(wait4(world, -(world.task.tid + 1)), AskHost)
    assert wait4(world, -world.tracer.tid) == world.task.tid


def test_the_end_of_one_that_is_no_child(world: World) -> None:
    where = Buffer()
    world.tracer.group.ended.append(Ended(55, 0, 9, False))
    assert wait4(world, 55, where.addr) == 55
    assert int.from_bytes(where.get(4), "little") == 9
    assert world.tracer.group.ended == []


def ask(world: World, result: int, options: int = 0, info_at: int = 0) -> int:
    question = AskHost(world.tracer, lambda tid, pgid: True, options, {}, 7)
    question._info_at = info_at
    return question._answered(result)


def test_what_the_hosts_answer_becomes(world: World) -> None:
    assert ask(world, 12) == 12
    assert ask(world, -EINVAL) == -EINVAL
    assert ask(world, 0, L.WNOHANG) == 0
    assert ask(world, -ECHILD, L.WNOHANG) == 0  # it has a tracee, which runs
    assert ask(world, 0) == -L.ERESTARTNOINTR and world.tracer.wait_seen == 7
    found = Buffer()
    found.put(b"\0" * 16 + b"\5\0\0\0")
    assert ask(world, 0, info_at=found.addr) == 0
    world.tracee.forget()
    assert ask(world, -ECHILD) == -ECHILD


def test_the_question_does_not_wait_and_has_room_for_the_answer(world: World) -> None:
    question = AskHost(world.tracer, lambda tid, pgid: True, 0, {0: L.P_PID, 1: 9}, 7)

    class Regs:
        rax, rdx, r10, rsp = NUMBERS["wait4"], L.WSTOPPED, 5, 0

    assert question.at_stop(Regs) == {0: L.P_PID, 1: 9, 2: L.WSTOPPED | L.WNOHANG}
    stack = Buffer(8192)
    Regs.rax, Regs.rdx, Regs.r10, Regs.rsp = NUMBERS["waitid"], 0, L.WEXITED, stack.addr + 8192
    changed = question.at_stop(Regs)
    assert changed[3] == L.WEXITED | L.WNOHANG and stack.addr < changed[2] < stack.addr + 8192 - 128


def test_it_sleeps_until_something_happens(world: World) -> None:
    async def waits(task: Any) -> Any:
        return await sys_wait4(task, -1, 0, 0, 0)

    world.tracer.wait_seen = world.tracer.group.child_events.count
    call = world.call(world.tracer, waits, name="wait4")
    assert world.tracer.call is not None
    world.signal_stop(world.task, SIGSTOP)
    assert ("reply", call, world.task.tid) in world.done()
    assert world.tracee.reported
