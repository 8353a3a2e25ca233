"""sentry/kernel/sigwatch.py and native/src/sigwatch.c: who hears of a signal, and how a process joins."""

from __future__ import annotations

import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from native import ffi, lib
from sentry.abi.linux import EPOLL_CTL_ADD, EPOLLEXCLUSIVE, EPOLLIN
from sentry.abi.x86_64 import NUMBERS
from sentry.errors import EFAULT, ENOMEM
from sentry.kernel import sigwatch
from sentry.kernel.rewrite import AGAIN, MadeFirst
from sentry.kernel.sigwatch import Joining, SignalWatch, queue_of
from tests.unit.kernel_rig import KernelRig


def in_child(body: Callable[[], None]) -> None:
    """In a process of its own, for which a signal pends from then on."""
    pid = os.fork()
    if not pid:
        try:
            body()
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def until_told(limit_s: float = 5) -> list[int]:
    """The cookies that the set tells, once it tells any."""
    out = ffi.new("uint64_t[]", 8)
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        select.select([lib.nc_sigwatch_set()], [], [], limit_s)
        if count := lib.nc_sigwatch_take(out, 8):
            return list(out[0:count])
    return []


def nothing_is_told() -> bool:
    return not select.select([lib.nc_sigwatch_set()], [], [], 0)[0] and not until_told(0)


def test_the_set_hears_of_blocked_signals_to_processes_that_joined() -> None:
    def body() -> None:
        host_set = lib.nc_sigwatch_set()
        assert lib.nc_sigwatch_set() == host_set >= 0
        watch, ready = lib.nc_sigwatch_new(), os.pipe()
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGRTMIN, signal.SIGALRM])
        guest = os.fork()
        if not guest:
            select.epoll.fromfd(host_set).register(watch, select.EPOLLPRI | select.EPOLLONESHOT)
            os.write(ready[1], b"x")
            os.read(os.pipe()[0], 1)
        os.read(ready[0], 1)
        assert lib.nc_sigwatch_arm(watch, 77) == 0
        until_told()  # it may be told once at the start
        assert nothing_is_told()
        os.kill(guest, signal.SIGUSR1)
        assert until_told() == [77] and nothing_is_told()
        os.kill(guest, signal.SIGUSR1)  # pends already
        assert nothing_is_told()
        for _ in range(2):  # real-time signals queue
            os.kill(guest, signal.SIGRTMIN)
            assert until_told() == [77] and nothing_is_told()
        os.kill(os.getpid(), signal.SIGUSR1)  # our own
        assert nothing_is_told()
        assert lib.nc_sigwatch_disarm(watch) == 0
        os.kill(guest, signal.SIGALRM)
        assert nothing_is_told()
        os.kill(guest, signal.SIGKILL)

    in_child(body)


class HostSet:
    """Stands in for the C functions: notes what is asked."""

    def __init__(self) -> None:
        self.noted: list[Any] = []
        self.told: list[int] = []
        self.refuses = False

    def nc_sigwatch_set(self) -> int:
        return 900

    def nc_sigwatch_new(self) -> int:
        return os.open("/dev/null", os.O_RDONLY)

    def nc_sigwatch_arm(self, number: int, cookie: int) -> int:
        self.noted.append(("arm", cookie))
        return -22 if self.refuses else 0

    def nc_sigwatch_disarm(self, number: int) -> int:
        self.noted.append("disarm")
        return 0

    def nc_sigwatch_take(self, out: Any, most: int) -> int:
        told, self.told = self.told[:most], self.told[most:]
        out[0 : len(told)] = told
        return len(told)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[HostSet]:
    made = HostSet()
    monkeypatch.setattr(sigwatch, "lib", made)
    sigwatch.reserve_all()
    yield made
    for numbers in sigwatch.RESERVED:
        os.closerange(numbers.start, numbers.stop)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    yield made
    assert not set(os.listdir("/proc/self/fd")) - before
    made.close()


def stack(words: list[int]) -> tuple[Any, Any]:
    """Registers of a thread with that on its stack, and what keeps it alive."""
    memory = ffi.new("uint32_t[]", words)
    return SimpleNamespace(rsp=int(ffi.cast("uintptr_t", memory))), memory


def joining(rig: KernelRig, task: Any) -> Joining:
    made = rig.kernel.sigwatch.joining(task)
    assert isinstance(made, Joining)
    task.mem.host_tid = os.getpid()
    return made


def test_a_process_joins_before_it_first_waits(rig: KernelRig, host: HostSet) -> None:
    task = rig.first_task()
    queue, woken = queue_of(task.group), []
    queue.add(woken.append)
    what = joining(rig, task)
    regs, _keep = stack([EPOLLEXCLUSIVE, 0, 0, 0, 0])
    registers = what.at_stop(regs)
    assert what.nr == NUMBERS["epoll_ctl"] and what.finish is not None
    assert registers[1] == EPOLL_CTL_ADD and registers[3] == regs.rsp + 4
    rig.done()
    what.notified(9)
    assert rig.done() == [("inject", 9, registers[0], 1), ("inject", 9, registers[2], 1)]
    assert what.finish(0) == AGAIN
    what.over()
    assert host.noted == [("arm", 1)]
    assert rig.kernel.sigwatch.joining(task) is None
    host.told = [1, 55]
    rig.kernel.sigwatch.look()
    assert woken == [EPOLLIN]
    rig.dies(task)
    host.told = [1]
    rig.kernel.sigwatch.look()
    assert woken == [EPOLLIN]


def test_a_signal_that_the_sentry_sends_is_told_at_once(rig: KernelRig, host: HostSet) -> None:
    task = rig.first_task()
    what = joining(rig, task)
    assert what.finish is not None and what.finish(0) == AGAIN
    what.over()
    woken: list[int] = []
    queue_of(task.group).add(woken.append)
    host.told = [1]
    rig.kernel.send_signal(task, 10)
    assert woken == [EPOLLIN]
    rig.dies(task)


def test_of_two_threads_that_join_one_is_enough(rig: KernelRig, host: HostSet) -> None:
    task = rig.first_task()
    for what in (joining(rig, task), joining(rig, task)):
        what.notified(9)
        assert what.finish is not None and what.finish(0) == AGAIN
        what.over()
    assert host.noted == [("arm", 1), "disarm"]
    rig.dies(task)


@pytest.mark.parametrize("how", ["call", "arm", "never", "dies"])
def test_what_fails_leaves_nothing(rig: KernelRig, host: HostSet, how: str) -> None:
    task = rig.first_task()
    what = joining(rig, task)
    assert what.finish is not None
    what.notified(9)
    host.refuses = how == "arm"
    if how != "never":
        assert what.finish(-22 if how == "call" else 0) == (-ENOMEM.errno if how != "dies" else AGAIN)
    what.over()
    if how == "dies":
        rig.dies(task)
    assert queue_of(task.group).host_fd == -1


def test_a_stack_without_a_word_to_borrow(rig: KernelRig, host: HostSet) -> None:
    task = rig.first_task()
    what = joining(rig, task)
    regs, _keep = stack([EPOLLEXCLUSIVE] * 260)
    with pytest.raises(EFAULT):
        what.at_stop(regs)
    what.over()


def test_a_process_without_a_free_number_gets_no_memory(rig: KernelRig, host: HostSet) -> None:
    task = rig.first_task()
    made = [joining(rig, task) for numbers in sigwatch.RESERVED for _ in numbers]
    with pytest.raises(ENOMEM):
        rig.kernel.sigwatch.joining(task)
    for what in made:
        what.over()
    joining(rig, task).over()


def test_a_waiting_call_makes_its_process_join_first(rig: KernelRig, host: HostSet) -> None:
    task = rig.first_task()

    async def waits(task: Any) -> int:
        first = rig.kernel.sigwatch.joining(task)
        if first is not None:
            raise MadeFirst(first)
        return 5

    rig.call(task, waits)
    assert task.call is not None and isinstance(task.call.what, Joining)  # type: ignore[union-attr]
    task.mem.host_tid = os.getpid()
    regs, _keep = stack([0] * 8)
    rig.platform.registers[task.host_tid] = {"rip": 0x1002, "rsp": regs.rsp}
    rig.event_stop(task)
    assert rig.platform.registers[task.host_tid]["rax"] == NUMBERS["epoll_ctl"]
    rig.call_stop(task)
    rig.platform.registers[task.host_tid].update(rax=0, rip=0x1002)
    rig.call_stop(task)
    assert task.call is None and rig.platform.registers[task.host_tid]["rip"] == 0x1000
    rig.dies(task)


def test_the_set_is_emptied_however_much_it_tells(host: HostSet) -> None:
    watch = SignalWatch(SimpleNamespace())  # type: ignore[arg-type]
    host.told = list(range(200))
    watch.look()
    assert not host.told
