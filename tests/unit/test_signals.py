"""Signals from the sender to the stop: sentry/kernel/signals.py, and the calls that send (sentry/syscalls/signals.py)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EINVAL, EPERM, ESRCH
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, SIGUSR1
from struct import pack, unpack_from
from typing import Any

import pytest

from native import ffi
from sentry.abi.linux import SI_KERNEL, SI_QUEUE, SI_TKILL, SI_USER
from sentry.errors import LinuxError
from sentry.kernel import signals
from sentry.kernel.creds import Credentials
from sentry.kernel.signals import SigInfo, SignalSender, kernel_info, user_info
from sentry.kernel.task import Task
from sentry.syscalls.signals import (
    may_signal,
    sys_kill,
    sys_rt_sigqueueinfo,
    sys_rt_tgsigqueueinfo,
    sys_tgkill,
    sys_tkill,
)
from tests.unit.kernel_rig import FakePlatform, KernelRig
from tests.unit.test_lifecycle import THREAD

USER = Credentials(5, 5, 5, 5, 5, 5, 5, 5)
OTHER = Credentials(6, 6, 6, 6, 6, 6, 6, 6)


class World(KernelRig):
    """Container init (pid 1) and three processes of it: 10 and 11 of one user, 12 of another."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.init = self.first_task(1)
        self.mine, self.friend, self.other = (self.fork(self.init, pid=pid) for pid in (10, 11, 12))
        self.mine.creds, self.friend.creds, self.other.creds = USER, USER, OTHER
        self.done()

    def group(self, leader: int, *members: Task) -> None:
        """Processes of one process group and session."""
        for task in members:
            self.pgids[task.host_tid] = leader

    def sent(self) -> list[tuple[int, int, str]]:
        """(guest pid, signal, to whom)."""
        return [
            (self.kernel.tasks[note[1]].tid, note[2], note[3]) for note in self.done() if note[0] == "signal"
        ]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def errno(call: Any, *args: Any) -> int:
    try:
        assert call(*args) in (0, None)
    except LinuxError as error:
        return error.errno
    return 0


# --- siginfo and cookies


def test_siginfo_is_packed_as_linux_lays_it_out() -> None:
    data = SigInfo(10, SI_QUEUE, 7, 8, 9).pack()
    assert len(data) == 128
    assert unpack_from("<iii", data) == (10, 0, SI_QUEUE)
    assert unpack_from("<iIQ", data, 16) == (7, 8, 9)
    assert not any(data[32:])
    assert SigInfo(10, raw=b"abc").pack() == b"abc" + bytes(125)
    assert kernel_info(13).code == SI_KERNEL


def test_a_stop_shows_the_guest_who_sent(world: World) -> None:
    world.ready(lambda: sys_kill(world.mine, 11, SIGUSR1))
    world.signal_stop(world.friend, SIGUSR1)
    shown = next(note[2] for note in world.done() if note[0] == "set_siginfo")
    assert unpack_from("<iiiiiI", shown) == (SIGUSR1, 0, SI_USER, 0, 10, 5)
    world.signal_stop(world.friend, SIGUSR1)  # one of the host kernel's own keeps what it says
    assert world.done() == [("resume", world.friend.host_tid, SIGUSR1)]


def test_a_signal_that_could_not_be_sent_leaves_no_cookie() -> None:
    platform = FakePlatform()
    sender = SignalSender(platform)
    platform.gone.add(5)
    assert errno(sender.send, 5, 0, SigInfo(10)) == ESRCH
    platform.gone.clear()
    sender.identify(5)
    assert [note[0] for note in platform.notes] == ["signal", "signal_cookie"]


def test_cookies_of_signals_that_merged_are_forgotten_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_COOKIES_KEPT", 2)
    platform = FakePlatform()
    sender = SignalSender(platform)
    for tid in (1, 2, 3):
        sender.send(tid, 0, SigInfo(10, pid=tid))
    for tid in (1, 2, 3):
        sender.identify(tid)
    assert [note[1] for note in platform.notes if note[0] == "set_siginfo"] == [2, 3]


def test_user_info_names_the_sending_process(world: World) -> None:
    thread = world.fork(world.mine, THREAD, pid=20)
    assert user_info(9, thread, SI_TKILL) == SigInfo(9, SI_TKILL, 10, 5)


# --- who may


@pytest.mark.parametrize(
    ("sender", "target", "may"),
    [
        (USER, USER, True),
        (USER, OTHER, False),
        (Credentials(6, 5, 5, 5), USER, True),  # the effective id
        (Credentials(5, 6, 6, 6), USER, True),  # the real id
        (USER, Credentials(6, 6, 5, 6), True),  # the target's saved id
        (USER, Credentials(6, 5, 6, 5), False),  # not its effective id
        (OTHER._replace(cap_effective=1 << 5), USER, True),
    ],
)
def test_permission_by_ids(world: World, sender: Credentials, target: Credentials, may: bool) -> None:
    world.mine.creds, world.friend.creds = sender, target
    assert may_signal(world.mine, world.friend, SIGTERM) is may


def test_sigcont_may_go_to_everybody_of_the_session(world: World) -> None:
    world.group(world.init.host_tid, world.mine, world.other)
    assert may_signal(world.mine, world.other, SIGCONT)
    assert not may_signal(world.mine, world.other, SIGTERM)


def test_a_thread_may_always_signal_its_own_process(world: World) -> None:
    thread = world.fork(world.mine, THREAD)
    thread.creds = OTHER
    assert may_signal(thread, world.mine, SIGTERM)


# --- kill


def test_kill_one(world: World) -> None:
    assert errno(sys_kill, world.mine, 11, SIGTERM) == 0
    assert errno(sys_kill, world.mine, 12, SIGTERM) == EPERM
    assert errno(sys_kill, world.mine, 99, SIGTERM) == ESRCH
    assert errno(sys_kill, world.mine, 11, 65) == EINVAL
    assert errno(sys_kill, world.mine, 11, -1) == EINVAL
    assert errno(sys_kill, world.mine, -(1 << 31), SIGTERM) == ESRCH
    assert world.sent() == [(11, SIGTERM, "group")]


def test_signal_zero_only_asks(world: World) -> None:
    assert errno(sys_kill, world.mine, 11, 0) == 0
    assert errno(sys_kill, world.mine, 12, 0) == EPERM
    assert world.sent() == []


def test_a_threads_id_names_its_process(world: World) -> None:
    world.fork(world.friend, THREAD, pid=30)
    assert errno(sys_kill, world.mine, 30, SIGTERM) == 0
    assert world.sent() == [(11, SIGTERM, "group")]


def test_kill_of_everybody_spares_the_caller_and_init(world: World) -> None:
    root = world.fork(world.init, pid=13)
    assert errno(sys_kill, root, -1, SIGTERM) == 0
    assert world.sent() == [(10, SIGTERM, "group"), (11, SIGTERM, "group"), (12, SIGTERM, "group")]
    assert errno(sys_kill, world.mine, -1, SIGTERM) == 0  # those it may
    assert world.sent() == [(11, SIGTERM, "group")]


def test_kill_of_a_process_group(world: World) -> None:
    leader = world.mine.host_tid
    world.group(leader, world.mine, world.friend, world.other)
    assert errno(sys_kill, world.mine, -10, SIGTERM) == 0
    assert world.sent() == [(10, SIGTERM, "group"), (11, SIGTERM, "group")]
    assert errno(sys_kill, world.mine, 0, SIGTERM) == 0
    assert len(world.sent()) == 2
    assert errno(sys_kill, world.mine, -99, SIGTERM) == ESRCH
    world.mine.creds = world.mine.creds._replace(uid=9, euid=9)
    world.group(world.init.host_tid, world.mine)
    assert errno(sys_kill, world.mine, -10, SIGTERM) == EPERM
    assert world.sent() == []


def test_init_is_not_killed_or_stopped_from_inside(world: World) -> None:
    root = world.fork(world.init, pid=13)
    for signo in (SIGKILL, SIGSTOP):
        assert errno(sys_kill, root, 1, signo) == 0
    assert world.sent() == []
    assert errno(sys_kill, root, 1, SIGTERM) == 0  # reaches it if it has a handler: the host kernel sees to that
    assert world.sent() == [(1, SIGTERM, "group")]


def test_a_zombie_can_be_signalled_without_effect(world: World) -> None:
    world.becomes_zombie(world.friend)
    world.done()
    assert errno(sys_kill, world.mine, 11, SIGTERM) == 0
    world.reaped(world.friend)
    assert errno(sys_kill, world.mine, 11, SIGTERM) == ESRCH
    assert world.sent() == []


# --- threads


def test_tgkill_and_tkill_reach_one_thread(world: World) -> None:
    world.fork(world.friend, THREAD, pid=30)
    assert errno(sys_tgkill, world.mine, 11, 30, SIGTERM) == 0
    assert errno(sys_tkill, world.mine, 30, SIGTERM) == 0
    assert world.sent() == [(30, SIGTERM, "thread")] * 2
    assert errno(sys_tgkill, world.mine, 10, 30, SIGTERM) == ESRCH  # another process's thread
    assert errno(sys_tgkill, world.mine, 0, 30, SIGTERM) == EINVAL
    assert errno(sys_tgkill, world.mine, 11, -1, SIGTERM) == EINVAL
    assert errno(sys_tkill, world.mine, 0, SIGTERM) == EINVAL
    assert errno(sys_tkill, world.mine, 99, SIGTERM) == ESRCH
    assert errno(sys_tkill, world.mine, 30, 65) == EINVAL


# --- queued signals


@pytest.fixture
def info(world: World) -> Any:
    """Puts a siginfo into the caller's memory; its address."""
    memory = ffi.new("char[128]")
    world.mine.mem.host_tid = os.getpid()

    def put(code: int, signo: int = 99) -> int:
        ffi.memmove(memory, pack("<iiiiiIQ", signo, 1, code, 0, 77, 88, 99).ljust(128, b"\0"), 128)
        return int(ffi.cast("uintptr_t", memory))

    put.memory = memory  # type: ignore[attr-defined]
    return put


def test_a_queued_signal_arrives_as_it_was_given_but_for_its_number(world: World, info: Any) -> None:
    world.ready(lambda: sys_rt_sigqueueinfo(world.mine, 11, SIGUSR1, info(SI_QUEUE)))
    world.signal_stop(world.friend, SIGUSR1)
    shown = next(note[2] for note in world.done() if note[0] == "set_siginfo")
    assert unpack_from("<iiiiiIQ", shown) == (SIGUSR1, 1, SI_QUEUE, 0, 77, 88, 99)


@pytest.mark.parametrize("code", [SI_USER, SI_KERNEL, SI_TKILL])
def test_nobody_else_may_be_sent_a_forged_code(world: World, info: Any, code: int) -> None:
    assert errno(sys_rt_sigqueueinfo, world.mine, 11, SIGUSR1, info(code)) == EPERM
    assert errno(sys_rt_sigqueueinfo, world.mine, 10, SIGUSR1, info(code)) == 0  # but oneself


def test_a_thread_may_forge_a_code_to_itself_only(world: World, info: Any) -> None:
    thread = world.fork(world.mine, THREAD, pid=30)
    thread.mem.host_tid = os.getpid()
    assert errno(sys_rt_tgsigqueueinfo, thread, 10, 30, SIGUSR1, info(SI_TKILL)) == 0
    assert errno(sys_rt_tgsigqueueinfo, thread, 10, 10, SIGUSR1, info(SI_TKILL)) == EPERM


def test_queueing_errors(world: World, info: Any) -> None:
    assert errno(sys_rt_sigqueueinfo, world.mine, 11, 65, info(SI_QUEUE)) == EINVAL
    assert errno(sys_rt_sigqueueinfo, world.mine, 99, SIGUSR1, info(SI_QUEUE)) == ESRCH
    assert errno(sys_rt_sigqueueinfo, world.mine, 11, SIGUSR1, 0) == 14
    assert errno(sys_rt_tgsigqueueinfo, world.mine, 0, 11, SIGUSR1, info(SI_QUEUE)) == EINVAL
    assert errno(sys_rt_tgsigqueueinfo, world.mine, 10, 11, SIGUSR1, info(SI_QUEUE)) == ESRCH
    world.done()
    assert errno(sys_rt_tgsigqueueinfo, world.mine, 11, 11, SIGUSR1, info(SI_QUEUE)) == 0
    assert world.sent() == [(11, SIGUSR1, "thread")]
