"""A tracer among the guests, over a platform that takes notes.

Covers: sentry.kernel.ptrace, sentry.syscalls.ptrace
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from errno import EINVAL, EIO, EPERM, ESRCH
from pathlib import Path
from signal import SIGCHLD, SIGKILL, SIGSTOP, SIGTRAP, SIGUSR1, SIGUSR2
from typing import Any

import pytest

from native import lib
from sentry.abi import linux as L
from sentry.kernel.calls import PAUSED
from sentry.kernel.creds import Credentials
from sentry.kernel.lifecycle import EVENT_CLONE, EVENT_FORK, EVENT_STOP
from sentry.kernel.ptrace import CALL_ENTRY, CALL_EXIT, EVENT, GROUP, SIGNAL
from sentry.kernel.rewrite import CALL_STOP
from sentry.kernel.sched import WaitQueue, wait
from tests.unit.kernel_rig import Buffer, answer
from tests.unit.ptrace_rig import ENTRY, EXIT, World

CHILD = 8_600_000


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


# --- beginning and ending


def test_who_may_be_traced(world: World) -> None:
    other = world.fork(world.tracer)
    assert answer(world.task, "ptrace", L.PTRACE_TRACEME, 0, 0, 0) == -EPERM
    assert answer(world.tracer, "ptrace", L.PTRACE_TRACEME, 0, 0, 0) == -EPERM  # its parent is no guest
    assert answer(world.tracer, "ptrace", L.PTRACE_ATTACH, world.tracer.tid, 0, 0) == -EPERM
    assert answer(other, "ptrace", L.PTRACE_ATTACH, world.task.tid, 0, 0) == -EPERM  # traced already
    assert answer(other, "ptrace", L.PTRACE_CONT, world.task.tid, 0, 0) == -ESRCH  # not by this one
    assert answer(world.tracer, "ptrace", L.PTRACE_SEIZE, other.tid, 1, 0) == -EIO
    assert answer(world.tracer, "ptrace", L.PTRACE_SEIZE, other.tid, 0, 1 << 30) == -EIO
    other.creds = Credentials(5, 5, 5, 5)
    world.tracer.creds = Credentials(6, 6, 6, 6)
    assert answer(world.tracer, "ptrace", L.PTRACE_ATTACH, other.tid, 0, 0) == -EPERM


def test_attach_stops_by_a_signal_that_only_the_tracer_sees(world: World) -> None:
    other = world.fork(world.tracer)
    assert answer(world.tracer, "ptrace", L.PTRACE_ATTACH, other.tid, 0, 0) == 0
    assert ("signal", other.host_tid, SIGSTOP, "thread") in world.done()
    world.signal_stop(other, SIGSTOP)
    assert other.tracee is not None and other.tracee.stop is not None and other.tracee.stop.code == SIGSTOP
    assert answer(world.tracer, "ptrace", L.PTRACE_DETACH, other.tid, 0, 0) == 0
    assert world.done()[-1] == ("resume", other.host_tid, 0) and other.tracee is None


def test_a_running_tracee_answers_nothing(world: World) -> None:
    for request in (L.PTRACE_CONT, L.PTRACE_GETREGS, L.PTRACE_DETACH, L.PTRACE_PEEKDATA, L.PTRACE_SETOPTIONS):
        assert world.ptrace(request) == -ESRCH
    assert world.ptrace(L.PTRACE_INTERRUPT) == -EIO  # not seized
    assert world.ptrace(L.PTRACE_KILL) == 0


def test_a_tracer_that_ends_lets_go_or_kills(world: World) -> None:
    second = world.fork(world.tracer)
    answer(second, "ptrace", L.PTRACE_TRACEME, 0, 0, 0)
    world.signal_stop(second, SIGUSR1)
    world.tracee.options = L.PTRACE_O_EXITKILL
    world.done()
    world.dies(world.tracer)
    notes = world.done()
    assert ("signal", world.task.host_tid, SIGKILL, "group") in notes
    assert ("resume", second.host_tid, 0) in notes
    assert world.task.tracee is second.tracee is None


# --- stops


def test_a_signal_is_the_tracers_to_decide(world: World) -> None:
    world.signal_stop(world.task, SIGUSR1)
    assert world.code() == (SIGNAL, SIGUSR1) and world.resumed() == []
    world.ptrace(L.PTRACE_CONT)
    assert world.resumed() == [(0,)]
    world.signal_stop(world.task, SIGUSR1)
    world.ptrace(L.PTRACE_CONT, data=SIGUSR1)
    assert world.resumed() == [(SIGUSR1,)]
    world.signal_stop(world.task, SIGUSR1)
    world.ptrace(L.PTRACE_CONT, data=SIGUSR2)
    notes = world.done()
    (info,) = [note[2] for note in notes if note[0] == "set_siginfo"]
    assert struct.unpack_from("<iiiii", info) == (SIGUSR2, 0, L.SI_USER, 0, world.tracer.tid)
    assert notes[-1] == ("resume", world.task.host_tid, SIGUSR2)
    world.signal_stop(world.task, SIGUSR1)
    assert world.ptrace(L.PTRACE_CONT, data=65) == -EIO


def test_the_tracer_is_told_by_sigchld(world: World) -> None:
    world.signal_stop(world.task, SIGUSR1)
    assert ("signal", world.tracer.host_tid, SIGCHLD, "group") in world.done()


def test_a_group_stop_and_its_end(world: World) -> None:
    world.event_stop(world.task, SIGSTOP)
    assert world.code() == (GROUP, SIGSTOP)
    assert world.ptrace(L.PTRACE_GETSIGINFO, data=Buffer().addr) == -EINVAL
    assert world.ptrace(L.PTRACE_LISTEN) == -EIO
    world.ptrace(L.PTRACE_CONT)
    assert world.resumed() == [(0,)]
    world.event_stop(world.task)  # nobody asked for it
    assert world.tracee.stop is None and world.resumed() == [(0,)]


def test_listening(world: World) -> None:
    world.tracee.seized = True
    world.event_stop(world.task, SIGSTOP)
    assert world.code() == (GROUP, SIGSTOP | L.PTRACE_EVENT_STOP << 8)
    assert world.ptrace(L.PTRACE_LISTEN) == 0
    assert world.done()[-1] == ("listen", world.task.host_tid)
    assert world.ptrace(L.PTRACE_CONT) == -ESRCH
    world.event_stop(world.task)
    assert world.code() == (EVENT, SIGTRAP | L.PTRACE_EVENT_STOP << 8)
    world.ptrace(L.PTRACE_CONT)
    assert world.ptrace(L.PTRACE_INTERRUPT) == 0
    assert ("interrupt", world.task.host_tid) in world.done()
    world.event_stop(world.task)
    assert world.code() == (EVENT, SIGTRAP | L.PTRACE_EVENT_STOP << 8)


def test_an_interrupt_waits_until_the_sentry_has_done_its_own(world: World) -> None:
    world.tracee.seized = True
    queue = WaitQueue()

    async def sleeps(task: Any) -> int:
        return int(await wait(queue))

    world.call(world.task, sleeps)
    world.ptrace(L.PTRACE_INTERRUPT)
    world.event_stop(world.task)  # the parking's
    assert world.tracee.stop is None and world.task.call is not None and world.task.call.state == PAUSED
    assert world.done()[-1] == ("interrupt", world.task.host_tid)
    world.event_stop(world.task)
    assert world.code() == (EVENT, SIGTRAP | L.PTRACE_EVENT_STOP << 8)
    registers = Buffer()
    world.ptrace(L.PTRACE_GETREGS, data=registers.addr)
    assert struct.unpack_from("<27Q", registers.get(216))[15] == world.task.call.nr  # orig_rax: its call, not our pause
    world.ptrace(L.PTRACE_CONT)
    assert world.task.call is not None  # it waits on


# --- calls


def test_calls_are_shown_at_entry_and_exit(world: World) -> None:
    world.signal_stop(world.task, SIGSTOP)
    world.ptrace(L.PTRACE_SETOPTIONS, data=L.PTRACE_O_TRACESYSGOOD)
    world.ptrace(L.PTRACE_SYSCALL)
    world.call_stop_of(ENTRY)
    assert world.code() == (CALL_ENTRY, SIGTRAP | 0x80)
    world.ptrace(L.PTRACE_SYSCALL)
    world.call_stop_of(EXIT)
    assert world.code() == (CALL_EXIT, SIGTRAP | 0x80)
    world.ptrace(L.PTRACE_SETOPTIONS)
    world.ptrace(L.PTRACE_SYSCALL)
    world.call_stop_of(ENTRY)
    assert world.code() == (CALL_ENTRY, SIGTRAP)
    world.ptrace(L.PTRACE_CONT)
    world.done()
    world.call_stop_of(EXIT)  # it has changed its mind
    assert world.tracee.stop is None and world.resumed() == [(0,)]


def test_a_parked_call_leaves_when_its_result_comes(world: World) -> None:
    world.signal_stop(world.task, SIGSTOP)
    world.ptrace(L.PTRACE_SYSCALL)
    world.call_stop_of(ENTRY)
    world.ptrace(L.PTRACE_SYSCALL)
    queue = WaitQueue()

    async def sleeps(task: Any) -> int:
        await wait(queue)
        return 42

    world.call(world.task, sleeps)
    world.advance(3)
    world.advance(3)
    world.call_stop_of(EXIT)  # the host's, of the call that was taken off the listener: the tracer does not see it
    assert world.tracee.stop is None and world.done()[-1][0] == "park"
    world.ready(queue.wake)
    world.event_stop(world.task)
    assert ("finish", world.task.host_tid, -1, 42, lib.NC_LEAVE) in world.done()
    assert world.code() == (CALL_EXIT, SIGTRAP)


def test_a_signal_in_a_parked_call_shows_its_end_first(world: World) -> None:
    world.signal_stop(world.task, SIGSTOP)
    world.ptrace(L.PTRACE_SYSCALL)
    world.call_stop_of(ENTRY)
    world.ptrace(L.PTRACE_SYSCALL)
    queue = WaitQueue()

    async def sleeps(task: Any) -> int:
        return int(await wait(queue))

    world.call(world.task, sleeps)
    world.advance(3)
    world.advance(3)
    world.call_stop_of(EXIT)
    nr = world.task.call.nr if world.task.call else 0
    world.signal_stop(world.task, SIGUSR1)
    assert world.code() == (CALL_EXIT, SIGTRAP)
    world.ptrace(L.PTRACE_SYSCALL)
    assert world.code() == (SIGNAL, SIGUSR1)
    world.done()
    world.ptrace(L.PTRACE_CONT)  # without the signal the call is made again
    assert ("finish", world.task.host_tid, nr, -L.ERESTARTNOINTR, lib.NC_LEAVE) in world.done()
    assert world.task.call is None and not queue


def test_a_step_over_a_call_that_is_made_again_ends_after_it(world: World) -> None:
    from sentry.kernel.rewrite import Rewritten

    world.signal_stop(world.task, SIGSTOP)
    world.ptrace(L.PTRACE_SINGLESTEP)
    world.call(world.task, lambda task: Rewritten({0: 1}))
    world.platform.registers[world.task.host_tid] = {"rip": 102, "rdi": 0}
    world.event_stop(world.task)
    world.signal_stop(world.task, SIGTRAP)  # the host's step
    assert world.tracee.stop is None
    world.call_stop(world.task)
    world.call_stop(world.task)
    assert world.code() == (SIGNAL, SIGTRAP)
    where = Buffer()
    assert world.ptrace(L.PTRACE_GETSIGINFO, data=where.addr) == 0
    assert struct.unpack_from("<iii", where.get(12)) == (SIGTRAP, 0, L.TRAP_TRACE)


# --- births


@pytest.mark.parametrize("early", [False, True])
@pytest.mark.parametrize("seized", [False, True])
def test_a_child_that_the_tracer_wants_too(world: World, early: bool, seized: bool) -> None:
    world.tracee.seized = seized
    world.signal_stop(world.task, SIGSTOP)
    world.ptrace(L.PTRACE_SETOPTIONS, data=L.PTRACE_O_TRACEFORK)
    world.ptrace(L.PTRACE_CONT)
    world.status(CHILD, 77)
    if early:
        world.stop(CHILD, EVENT_STOP)
    world.stop(world.task, EVENT_FORK, id=CHILD, args=(17,))
    assert world.code() == (EVENT, SIGTRAP | L.PTRACE_EVENT_FORK << 8)
    where = Buffer()
    world.ptrace(L.PTRACE_GETEVENTMSG, data=where.addr)
    assert int.from_bytes(where.get(8), "little") == 77
    if not early:
        world.stop(CHILD, EVENT_STOP)
    child = world.kernel.tasks[CHILD]
    assert child.tracee is not None and child.tracee.stop is not None
    assert child.tracee.stop.code == (SIGTRAP | L.PTRACE_EVENT_STOP << 8 if seized else SIGSTOP)
    assert ("resume", CHILD, 0) not in world.done()
    answer(world.tracer, "ptrace", L.PTRACE_CONT, 77, 0, 0)
    assert ("resume", CHILD, 0) in world.done()


def test_a_child_that_nobody_wants_runs(world: World) -> None:
    world.status(CHILD, 77)
    world.stop(world.task, EVENT_CLONE, id=CHILD, args=(17,))
    world.stop(CHILD, EVENT_STOP)
    assert world.kernel.tasks[CHILD].tracee is None and ("resume", CHILD, 0) in world.done()


# --- reading and writing


def test_memory_and_registers(world: World) -> None:
    world.signal_stop(world.task, SIGSTOP)
    where = Buffer()
    world.platform.words[0x1000] = 5
    assert world.ptrace(L.PTRACE_PEEKDATA, 0x1000, where.addr) == 0 and where.get(1) == b"\5"
    assert world.ptrace(L.PTRACE_PEEKTEXT, 0x2000, where.addr) == -EIO
    assert world.ptrace(L.PTRACE_POKETEXT, 0x2000, 9) == 0 and world.platform.words[0x2000] == 9
    world.platform.registers[world.task.host_tid] = {"rip": 11, "rdi": 12}
    assert world.ptrace(L.PTRACE_PEEKUSR, 14 * 8, where.addr) == 0 and where.get(1) == bytes([12])
    assert world.ptrace(L.PTRACE_POKEUSR, 14 * 8, 99) == 0
    assert world.platform.registers[world.task.host_tid]["rdi"] == 99
    assert world.ptrace(L.PTRACE_PEEKUSR, 3, where.addr) == -EIO
    assert world.ptrace(L.PTRACE_PEEKUSR, 912, where.addr) == -EIO
    assert world.ptrace(L.PTRACE_PEEKUSR, 848, where.addr) == 0 and where.get(1) == b"\7"
    assert world.ptrace(L.PTRACE_POKEUSR, 300, 1) == -EIO
    assert world.ptrace(L.PTRACE_GETFPREGS, 0, where.addr) == 0
    vector = Buffer()
    vector.put(struct.pack("<QQ", where.addr, 16))
    assert world.ptrace(L.PTRACE_GETREGSET, L.NT_PRSTATUS, vector.addr) == 0
    assert struct.unpack("<QQ", vector.get(16)) == (where.addr, 16)
    assert world.ptrace(L.PTRACE_GETREGSET, 0x777, vector.addr) == -EINVAL
    assert world.ptrace(4711) == -EIO


def test_new_registers_end_a_wait(world: World) -> None:
    queue = WaitQueue()

    async def sleeps(task: Any) -> int:
        return int(await wait(queue))

    world.call(world.task, sleeps)
    world.advance(3)
    world.advance(3)
    world.event_stop(world.task)
    world.signal_stop(world.task, SIGUSR1)
    where = Buffer()
    world.ptrace(L.PTRACE_GETREGS, data=where.addr)
    assert world.ptrace(L.PTRACE_SETREGS, data=where.addr) == 0 and queue  # the same: nothing happens
    changed = bytearray(where.get(216))
    changed[16 * 8] ^= 1  # rip
    where.put(bytes(changed))
    assert world.ptrace(L.PTRACE_SETREGS, data=where.addr) == 0
    assert not queue and world.task.call is None


def test_a_calls_description(world: World) -> None:
    world.signal_stop(world.task, SIGSTOP)
    where = Buffer()
    assert world.ptrace(L.PTRACE_GET_SYSCALL_INFO, 88, where.addr) == 24
    world.ptrace(L.PTRACE_SYSCALL)
    world.platform.registers[world.task.host_tid] = {"orig_rax": 60, "rdi": 3, "rax": 5}
    world.call_stop_of(ENTRY)
    assert world.ptrace(L.PTRACE_GET_SYSCALL_INFO, 88, where.addr) == 80
    assert struct.unpack_from("<B23xQQ", where.get(80)) == (L.PTRACE_SYSCALL_INFO_ENTRY, 60, 3)
    world.ptrace(L.PTRACE_SYSCALL)
    world.platform.registers[world.task.host_tid]["rax"] = -2 & (1 << 64) - 1
    world.call_stop_of(EXIT)
    assert world.ptrace(L.PTRACE_GET_SYSCALL_INFO, 88, where.addr) == 33
    assert struct.unpack_from("<B23xqB", where.get(80)) == (L.PTRACE_SYSCALL_INFO_EXIT, -2, 1)


def test_the_sentrys_own_stops_are_not_shown(world: World) -> None:
    assert CALL_STOP == SIGTRAP | 0x80
    world.call_stop_of(EXIT)
    assert world.tracee.stop is None and world.resumed() == [(0,)]
