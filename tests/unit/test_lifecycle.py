"""sentry/kernel/lifecycle.py: what the kernel makes of forks, execs and deaths that the host reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from signal import SIGBUS, SIGCHLD, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGTRAP, SIGTSTP, SIGUSR1
from struct import unpack_from
from types import SimpleNamespace
from typing import Any

import pytest

from native import lib
from sentry.abi.linux import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_PARENT,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_VFORK,
    CLONE_VM,
    SI_KERNEL,
    SI_USER,
)
from sentry.fs.anon import anon_inode
from sentry.kernel.lifecycle import (
    EVENT_CLONE,
    EVENT_EXEC,
    EVENT_FORK,
    EVENT_STOP,
    EVENT_VFORK,
    MAGIC_ZYGOTE,
    NOWHERE,
    exit_code,
)
from sentry.kernel.sched import WaitQueue, wait
from sentry.kernel.signals import SigInfo
from sentry.kernel.spawn import Spawn
from sentry.vfs.file import File
from tests.unit.kernel_rig import KernelRig, container

CLD_EXITED, SEGV_MAPERR = 1, 1
THREAD = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    yield made
    made.close()


def some_file() -> File:
    return File(anon_inode(), None, 0)


# --- fork, clone


def test_fork_copies_places_descriptors_and_limits(rig: KernelRig) -> None:
    parent = rig.first_task()
    parent.fds.install(some_file())
    parent.group.argv, parent.group.oom_score_adj = (b"sh",), 5
    parent.group.rlimits.set(7, 10, 20)
    child = rig.fork(parent)
    assert child.group is not parent.group and child.group.parent is parent.group
    assert child.group in parent.group.children
    assert child.fs is not parent.fs and child.fs.root == parent.fs.root
    assert child.fds is not parent.fds and child.fds.get(0) is parent.fds.get(0)
    assert (child.group.argv, child.group.oom_score_adj) == ((b"sh",), 5)
    assert child.creds is parent.creds
    child.group.rlimits.set(7, 1, 1)
    assert parent.group.rlimits.get(7) == (10, 20)
    child.fds.close(0)
    parent.fds.get(0)


def test_a_thread_shares_places_and_descriptors_and_its_group(rig: KernelRig) -> None:
    leader = rig.first_task()
    thread = rig.fork(leader, THREAD)
    assert thread.group is leader.group and leader.group.tasks == [leader, thread]
    assert thread.fs is leader.fs
    number = thread.fds.install(some_file())
    assert leader.fds.get(number) is thread.fds.get(number)
    assert leader.fds.users == 2
    rig.dies(thread)
    assert leader.fds.users == 1 and leader.group.tasks == [leader] and not leader.group.exited


def test_vfork_gives_a_process_of_its_own(rig: KernelRig) -> None:
    parent = rig.first_task()
    child = rig.fork(parent, CLONE_VM | CLONE_VFORK | SIGCHLD)
    assert child.group is not parent.group and child.fds is not parent.fds and child.fs is not parent.fs


@pytest.mark.parametrize(("flags", "same_fs", "same_fds"), [(CLONE_FS, True, False), (CLONE_FILES, False, True)])
def test_a_process_may_share_places_or_descriptors(rig: KernelRig, flags: int, same_fs: bool, same_fds: bool) -> None:
    parent = rig.first_task()
    child = rig.fork(parent, flags | SIGCHLD)
    assert (child.fs is parent.fs) is same_fs
    number = child.fds.install(some_file())
    assert (dict(parent.fds.items()).get(number) is not None) is same_fds


def test_clone_parent_makes_a_sibling(rig: KernelRig) -> None:
    init = rig.first_task()
    parent = rig.fork(init)
    sibling = rig.fork(parent, CLONE_PARENT | SIGCHLD)
    assert sibling.group.parent is init.group
    assert init.group.children == {parent.group, sibling.group}


def test_a_childs_stop_after_its_parents_event_lets_it_run(rig: KernelRig) -> None:
    parent = rig.first_task()
    rig.done()
    rig.stop(parent, EVENT_FORK, id=9_000_001, args=(17,))
    assert rig.done() == [("resume", parent.host_tid, 0)]
    rig.stop(9_000_001, EVENT_STOP, SIGTRAP)
    assert rig.done() == [("resume", 9_000_001, 0)]


@pytest.mark.parametrize("event", [EVENT_FORK, EVENT_VFORK, EVENT_CLONE])
def test_a_child_that_stops_before_its_parents_event_waits_for_it(rig: KernelRig, event: int) -> None:
    parent = rig.first_task()
    rig.done()
    rig.stop(9_000_001, EVENT_STOP, SIGTRAP)
    assert rig.done() == [] and 9_000_001 not in rig.kernel.tasks
    rig.stop(parent, event, id=9_000_001, args=(17,))
    assert rig.done() == [("started", 9_000_001), ("resume", 9_000_001, 0), ("resume", parent.host_tid, 0)]
    assert rig.kernel.tasks[9_000_001].group.parent is parent.group


def test_an_early_child_that_is_killed_leaves_nothing(rig: KernelRig) -> None:
    rig.stop(9_000_001, EVENT_STOP, SIGTRAP)
    rig.dies(9_000_001, SIGKILL)
    assert rig.life._early == {}


def test_a_fork_whose_child_is_unknown_only_lets_the_parent_go_on(rig: KernelRig) -> None:
    parent = rig.first_task()
    rig.done()
    rig.stop(parent, EVENT_FORK, id=0)
    assert rig.done() == [("resume", parent.host_tid, 0)]
    assert len(rig.kernel.tasks) == 1


def test_a_reused_thread_id_is_learnt_anew(rig: KernelRig) -> None:
    parent = rig.first_task()
    tid = 9_000_001
    for pid in (5, 6):
        rig.status(tid, pid)
        rig.stop(parent, EVENT_FORK, id=tid, args=(17,))
        child = rig.kernel.tasks[tid]
        assert child.tid == pid and rig.kernel.find_task(pid) is child
        rig.dies(child)
    assert rig.kernel.find_task(5) is None


# --- stops that have nothing to do with a call


def test_a_group_stop_is_kept_and_its_end_resumes(rig: KernelRig) -> None:
    task = rig.first_task()
    rig.done()
    rig.event_stop(task, SIGTSTP)
    rig.event_stop(task)
    assert rig.done() == [("listen", task.host_tid), ("resume", task.host_tid, 0)]


def test_a_signal_is_delivered(rig: KernelRig) -> None:
    task = rig.first_task()
    rig.done()
    rig.signal_stop(task, SIGUSR1)
    assert rig.done() == [("resume", task.host_tid, SIGUSR1)]


def test_a_fault_of_container_init_is_let_go_so_that_it_dies(rig: KernelRig) -> None:
    init = rig.first_task(1)
    child = rig.fork(init)
    rig.done()
    rig.platform.siginfos[init.host_tid] = SigInfo(SIGSEGV, SEGV_MAPERR).pack()
    rig.signal_stop(child, SIGSEGV)
    rig.signal_stop(init, SIGBUS)
    rig.signal_stop(init, SIGUSR1)
    rig.catches(init, SIGBUS)
    rig.signal_stop(init, SIGBUS)
    assert rig.done() == [
        ("resume", child.host_tid, SIGSEGV),
        ("detach", init.host_tid, SIGBUS),
        ("resume", init.host_tid, SIGUSR1),
        ("resume", init.host_tid, SIGBUS),
    ]


@pytest.mark.parametrize(("signal", "after"), [(SIGTRAP, 99), (SIGSEGV, NOWHERE), (SIGILL, 100)])
def test_container_init_meets_its_fault_again(rig: KernelRig, signal: int, after: int) -> None:
    init = rig.first_task(1)
    rig.platform.siginfos[init.host_tid] = SigInfo(signal, SI_KERNEL).pack()
    rig.platform.registers[init.host_tid] = {"rip": 100}
    rig.signal_stop(init, signal)
    assert rig.platform.registers[init.host_tid]["rip"] == after


def test_a_signal_sent_to_container_init_is_no_fault(rig: KernelRig) -> None:
    init = rig.first_task(1)
    rig.platform.siginfos[init.host_tid] = SigInfo(SIGSEGV, SI_USER).pack()
    rig.done()
    rig.signal_stop(init, SIGSEGV)
    assert rig.done() == [("resume", init.host_tid, SIGSEGV)]  # the host kernel drops it


def test_sigchld_names_the_user_of_the_child(rig: KernelRig) -> None:
    init = rig.first_task(1)
    child = rig.fork(init, pid=7)
    child.creds = child.creds._replace(uid=1000)
    rig.platform.siginfos[init.host_tid] = SigInfo(SIGCHLD, CLD_EXITED, 7, 0, 3).pack()
    rig.signal_stop(init, SIGCHLD)
    shown = next(note[2] for note in rig.done() if note[0] == "set_siginfo")
    assert unpack_from("<iiiiiI", shown) == (SIGCHLD, 0, CLD_EXITED, 0, 7, 1000)
    rig.platform.siginfos[init.host_tid] = SigInfo(SIGCHLD, SI_USER, 7, 5).pack()  # somebody has sent one
    rig.signal_stop(init, SIGCHLD)
    assert rig.done() == [("resume", init.host_tid, SIGCHLD)]


# --- exec


def test_exec_from_a_thread_takes_the_leaders_id_and_ends_the_others(rig: KernelRig) -> None:
    seen = []
    rig.life.executed = seen.append
    leader = rig.first_task()
    tid = leader.host_tid
    winner = rig.fork(leader, THREAD)
    other = rig.fork(leader, THREAD)
    former = winner.host_tid
    waits = WaitQueue()

    async def sleeps(task: Any) -> int:
        return int(await wait(waits))

    rig.call(leader, sleeps)
    rig.dies(other)
    rig.exec_event(tid, former)
    assert seen == [winner]
    assert rig.kernel.tasks == {tid: winner}
    assert winner.host_tid == winner.mem.host_tid == tid
    assert winner.group.leader is winner and winner.group.tasks == [winner]
    assert winner.fds.users == 1
    assert leader.call is None and not waits  # its own call is over
    assert rig.done()[-1] == ("resume", tid, 0)
    assert lib.nc_task_free(former) == -3


def test_exec_of_the_leader_keeps_it(rig: KernelRig) -> None:
    seen = []
    rig.life.executed = seen.append
    task = rig.first_task()
    rig.exec_event(task, task.host_tid)
    assert seen == [task] and rig.kernel.tasks == {task.host_tid: task}


# --- death


def test_a_process_ends_with_its_last_thread(rig: KernelRig) -> None:
    exits = []
    rig.life.on_exit = lambda task, status: exits.append((task, status))
    init = rig.first_task()
    leader = rig.fork(init)
    thread = rig.fork(leader, THREAD)
    group = leader.group
    group.exit_queue = WaitQueue()
    woken: list[int] = []
    group.exit_queue.add(woken.append)
    rig.dies(leader, 3 << 8)
    assert not group.exited and woken == [] and group.tasks == [thread]
    rig.dies(thread, 3 << 8)
    assert group.exited and len(woken) == 1
    assert group not in init.group.children
    assert exits == [(leader, 3 << 8), (thread, 3 << 8)]


def test_descriptors_of_the_dead_are_closed(rig: KernelRig) -> None:
    released = []

    class Noted(File):
        def release(self) -> None:
            released.append(self)

    task = rig.first_task()
    child = rig.fork(task)
    child.fds.install(Noted(anon_inode(), None, 0))
    rig.ready(lambda: rig.dies(child, SIGKILL))
    assert len(released) == 1


def test_orphans_go_to_the_nearest_subreaper_else_to_init(rig: KernelRig) -> None:
    init = rig.first_task()
    reaper = rig.fork(init)
    reaper.group.subreaper = True
    middle = rig.fork(reaper)
    child = rig.fork(middle)
    rig.dies(middle)
    assert child.group.parent is reaper.group and child.group in reaper.group.children
    rig.dies(reaper)
    assert child.group.parent is init.group


def test_orphans_of_an_execd_process_go_to_container_init(rig: KernelRig) -> None:
    init = rig.first_task()
    box = container(rig)
    box.init_group = init.group
    added = rig.first_task(20)
    added.group.container = box
    child = rig.fork(added)
    rig.dies(added)
    assert child.group.parent is init.group


def test_an_unreaped_child_of_the_dead_has_a_new_parent_too(rig: KernelRig) -> None:
    init = rig.first_task()
    parent = rig.fork(init)
    child = rig.fork(parent)
    rig.becomes_zombie(child)
    assert [zombie.group for zombie in rig.kernel.zombies()] == [child.group]
    rig.becomes_zombie(parent)
    assert child.group.parent is init.group
    rig.reaped(child)
    rig.reaped(parent)
    assert rig.kernel.zombies() == []


def test_a_zombie_is_found_until_it_is_reaped(rig: KernelRig) -> None:
    init = rig.first_task()
    child = rig.fork(init, pid=7)
    rig.becomes_zombie(child)
    assert rig.kernel.find_task(7) is None and rig.kernel.find_zombie(7) is child
    assert rig.kernel.exists(child)
    rig.reaped(child)
    assert rig.kernel.find_zombie(7) is None and not rig.kernel.exists(child)


def test_a_death_of_an_unknown_thread_is_nothing(rig: KernelRig) -> None:
    rig.dies(9_999_999)


# --- finding and signalling


def test_groups_are_found_by_the_guests_numbers(rig: KernelRig) -> None:
    init = rig.first_task()
    child = rig.fork(init, pid=12)
    thread = rig.fork(child, THREAD, pid=13)
    assert rig.kernel.find_task(13) is thread
    assert rig.kernel.find_group(12) is child.group and rig.kernel.find_group(13) is None
    assert rig.kernel.groups() == [init.group, child.group]


# --- the zygote


class Order:
    """A spawn as the life cycle sees it."""

    def __init__(self, rig: KernelRig) -> None:
        self.tasks: list[Any] = []
        process = SimpleNamespace(
            args=[b"sh"], env=[], cwd=b"/", uid=5, gid=6, groups=(7,), umask=None, no_new_privs=True,
            caps={"permitted": 1 << 10, "bounding": 1 << 63}, rlimits={7: (64, 128)}, oom_score_adj=300,
        )  # fmt: skip
        self.spawn = Spawn(rig.kernel, container(rig), process, {1: some_file()}, 61)  # type: ignore[arg-type]
        self.make_task = self.spawn.make_task

    def forked(self, task: Any) -> None:
        self.tasks.append(task)


def test_the_zygote_forks_when_it_waits_and_when_somebody_asks(rig: KernelRig) -> None:
    zygote = rig.life.zygote.tid = 8_500_000
    first, second = Order(rig), Order(rig)
    rig.life.order(first)  # before the zygote is there
    assert rig.done() == []

    def asks() -> int:
        call = next(rig.call_ids)
        rig.push(lib.NC_EV_SYSCALL, tid=zygote, nr=MAGIC_ZYGOTE, id=call)
        rig.run()
        return call

    call = asks()
    assert rig.done() == [("reply", call, 1)]
    rig.life.order(second)  # while the zygote is busy
    assert rig.done() == []
    rig.platform.messages[zygote] = 8_500_001
    rig.stop(zygote, EVENT_FORK)
    assert [task.host_tid for task in first.tasks] == [8_500_001]
    assert rig.done() == [("resume", zygote, 0)]
    call = asks()
    assert rig.done() == [("reply", call, 1)]


def test_a_first_task_is_made_as_its_process_says(rig: KernelRig) -> None:
    zygote = rig.life.zygote.tid = 8_500_000
    order = Order(rig)
    rig.life.order(order)
    rig.platform.messages[zygote] = 8_500_001
    rig.stop(8_500_001, EVENT_STOP, SIGSTOP)  # early
    rig.stop(zygote, EVENT_FORK)
    (task,) = order.tasks
    assert ("resume", 8_500_001, 0) in rig.done()
    assert (task.creds.uid, task.creds.fsgid, task.creds.groups, task.creds.no_new_privs) == (5, 6, (7,), True)
    assert (task.creds.cap_permitted, task.creds.cap_bounding) == (1 << 10, 0)  # unknown capabilities are dropped
    assert task.group.rlimits.get(7) == (64, 128)
    assert task.group.argv == (b"sh",) and task.group.parent is None and task.group.oom_score_adj == 300
    assert [number for number, *_ in task.fds.items()] == [1]
    assert task.fs.umask == 0o022 and task.spawn is order


def test_the_zygotes_own_stops_are_resumed_without_its_first_sigstop(rig: KernelRig) -> None:
    zygote = rig.life.zygote.tid = 8_500_000
    rig.stop(zygote, 0, SIGSTOP)
    rig.stop(zygote, 0, SIGUSR1)
    rig.stop(zygote, EVENT_EXEC)
    assert rig.done() == [("resume", zygote, 0), ("resume", zygote, SIGUSR1), ("resume", zygote, 0)]
    rig.dies(zygote)
    assert rig.life.zygote.tid == 0


def test_a_call_of_a_thread_that_is_nobody_fails_and_the_zygotes_own_go_on(rig: KernelRig) -> None:
    rig.life.zygote.tid = 8_500_000
    stranger = rig.call(8_600_000, lambda task: 0)
    own = rig.call(8_500_000, lambda task: 0)
    assert rig.done() == [("reply", stranger, -3), ("let_run", own)]


@pytest.mark.parametrize(("status", "code"), [(0, 0), (3 << 8, 3), (SIGKILL, 137), (SIGSEGV | 0x80, 139)])
def test_exit_codes_are_a_shells(status: int, code: int) -> None:
    assert exit_code(status) == code
