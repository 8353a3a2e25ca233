"""sentry/kernel/task.py: guest ids from what the host's procfs shows, names, limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sentry.abi.linux import RLIM_INFINITY, RLIMIT_AS, RLIMIT_NOFILE
from sentry.errors import EINVAL
from sentry.kernel.pids import PidTable
from sentry.kernel.task import Rlimits
from tests.unit.kernel_rig import KernelRig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    yield made
    made.close()


@pytest.fixture
def pids(rig: KernelRig) -> PidTable:
    return rig.kernel.pids


def test_a_guest_id_is_the_innermost_and_is_read_once(rig: KernelRig, pids: PidTable) -> None:
    rig.status(500, NSpid="500\t12\t3")
    assert pids.guest_pid(500) == 3
    rig.status(500, NSpid="500\t77")
    assert pids.guest_pid(500) == 3 and pids.host_pid(3) == 500
    pids.forget(500)
    assert pids.host_pid(3) is None and pids.guest_pid(500) == 77


@pytest.mark.parametrize("line", ["500", ""])
def test_a_thread_outside_of_the_guests_namespace_has_no_id(rig: KernelRig, pids: PidTable, line: str) -> None:
    rig.status(500, NSpid=line)
    assert pids.guest_pid(500) == 0 and pids.host_pid(0) is None


def test_nobody_is_nobody(pids: PidTable) -> None:
    assert pids.guest_pid(0) == 0 and pids.guest_pid(999) == 0
    assert pids.status(999) == {} and pids.comm(999) is None


def test_a_groups_number_outlives_its_leader_in_its_members(rig: KernelRig, pids: PidTable) -> None:
    rig.status(600, NSpgid="500\t12", NSsid="400\t11")
    assert pids.guest_pid(500, 600) == 12
    assert pids.guest_pid(400, 600) == 11
    assert pids.guest_pid(300, 600) == 0
    assert pids.guest_pid(500, 999) == 0


def test_forgetting_the_old_owner_of_a_number_keeps_the_new(rig: KernelRig, pids: PidTable) -> None:
    rig.status(500, 7)
    assert pids.guest_pid(500) == 7
    rig.status(600, 7)
    assert pids.guest_pid(600) == 7
    pids.forget(500)
    assert pids.host_pid(7) == 600


def test_caught_signals_are_bits_of_a_mask(rig: KernelRig, pids: PidTable) -> None:
    rig.status(500, SigCgt="8000000000000201")
    assert [signo for signo in range(1, 65) if pids.caught(500, signo)] == [1, 10, 64]
    assert pids.caught(999, 1)  # it can't be told


@pytest.mark.parametrize("comm", ["plain", "with (paren) Z", "Name:\tx"])
def test_names_are_taken_as_they_are(rig: KernelRig, pids: PidTable, comm: str) -> None:
    rig.status(500, comm=comm)
    assert pids.comm(500) == comm.encode()


def test_a_name_given_through_proc_counts_until_the_thread_renames_itself(rig: KernelRig) -> None:
    task = rig.first_task()
    assert task.comm == b"guest"
    task.comm = b"a name longer than fits"
    assert task.comm == b"a name longer t"
    rig.status(task, comm="itself")
    assert task.comm == b"itself"
    rig.status(task, comm="guest")
    assert task.comm == b"guest"  # the other name does not come back


def test_the_name_of_the_dead_is_the_last_known(rig: KernelRig) -> None:
    task = rig.first_task()
    task.name = b"last"
    rig.reaped(task)
    assert task.comm == b"last"


def test_limits_have_defaults_and_are_copied(rig: KernelRig) -> None:
    limits = Rlimits({RLIMIT_NOFILE: (5, 6)})
    assert limits.get(RLIMIT_NOFILE) == (5, 6) and limits.get(RLIMIT_AS) == (RLIM_INFINITY, RLIM_INFINITY)
    other = limits.copy()
    other.set(RLIMIT_NOFILE, 1, 2)
    assert limits.get(RLIMIT_NOFILE) == (5, 6)
    for resource in (-1, 16):
        with pytest.raises(EINVAL):
            limits.get(resource)


def test_groups_and_sessions_are_the_hosts_in_guest_numbers(rig: KernelRig) -> None:
    init = rig.first_task(1)
    child = rig.fork(init, pid=8)
    assert (child.group.pgid(), child.group.sid()) == (8, 8)
    rig.pgids[child.host_tid] = init.host_tid
    assert (child.group.pgid(), child.group.sid()) == (1, 1)
    rig.dies(child)
    del rig.pgids[child.host_tid]
    assert (child.group.pgid(), child.group.sid()) == (0, 0)
