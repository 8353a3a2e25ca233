"""Threads that the host kernel has made, met when it matters.

Covers: sentry.kernel.threads
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL, SIGTERM, SIGTRAP
from typing import Any

import pytest

from native import lib
from sentry.kernel.creds import Credentials
from sentry.kernel.lifecycle import EVENT_CLONE
from tests.unit.kernel_rig import FIRST_TID, KernelRig
from tests.unit.test_lifecycle import THREAD, some_file

QUIET = FIRST_TID + 5000


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    yield made
    made.close()


def test_a_thread_is_met_at_its_first_call(rig: KernelRig) -> None:
    leader = rig.first_task()
    leader.fds.install(some_file())
    rig.host_threads(leader, QUIET)
    callers: list[Any] = []

    def note(task: Any) -> None:
        callers.append(task)

    rig.done()
    call = rig.call(QUIET, note)
    (thread,) = callers
    assert rig.done() == [("seize", QUIET), ("started", QUIET), ("reply", call, 0)]
    assert thread.group is leader.group and leader.group.tasks == [leader, thread]
    assert thread.fds is leader.fds and leader.fds.users == 2
    assert thread.fs is leader.fs and thread.creds is leader.creds
    assert rig.kernel.tasks[QUIET] is thread and thread.tid == 5001
    rig.dies(QUIET)
    assert leader.fds.users == 1 and not leader.group.exited


def test_a_dying_caller_is_not_met(rig: KernelRig) -> None:
    leader = rig.first_task()
    rig.host_threads(leader, QUIET)
    rig.platform.gone.add(QUIET)
    rig.done()
    call = rig.call(QUIET, lambda task: 0)
    assert rig.done() == [("seize", QUIET), ("reply", call, -3)]
    assert leader.group.tasks == [leader]


def test_a_call_is_not_laid_to_a_thread_that_has_only_got_the_callers_number(rig: KernelRig) -> None:
    leader = rig.first_task()
    rig.host_threads(leader, QUIET)
    called: list[Any] = []

    def note(task: Any) -> None:
        called.append(task)

    rig.platform.gone.add(7_000_001)
    rig.done()
    call = rig.call(QUIET, note)
    assert call == 7_000_001 and called == []
    assert rig.done()[-1] == ("reply", call, -3)


def test_a_caller_of_no_process_of_ours_is_answered_esrch(rig: KernelRig) -> None:
    rig.first_task()
    rig.status(QUIET, 9, Tgid=str(QUIET - 1))
    rig.done()
    call = rig.call(QUIET, lambda task: 0)
    assert rig.done() == [("reply", call, -3)]


def test_all_are_met_before_the_process_is_signalled(rig: KernelRig) -> None:
    leader = rig.first_task()
    rig.host_threads(leader, QUIET, QUIET + 1)
    rig.done()
    rig.kernel.send_signal(leader.group, SIGKILL)  # shows nobody who sent it
    assert [note[0] for note in rig.done()] == ["signal"]
    rig.kernel.send_signal(leader.group, SIGTERM)
    assert [note[:2] for note in rig.done()] == [
        ("seize", QUIET), ("started", QUIET), ("seize", QUIET + 1), ("started", QUIET + 1), ("signal", leader.host_tid),
    ]  # fmt: skip
    assert len(leader.group.tasks) == 3


def test_a_thread_that_nobody_met_is_found_by_its_number(rig: KernelRig) -> None:
    leader = rig.first_task()
    rig.host_threads(leader, QUIET)
    found = rig.kernel.find_task(5001)
    assert found is not None and found.host_tid == QUIET
    assert rig.kernel.find_group(5001) is None
    assert [task.host_tid for task in leader.group.threads()] == [leader.host_tid, QUIET]


def test_threads_become_different(rig: KernelRig) -> None:
    leader = rig.first_task()
    rig.host_threads(leader, QUIET)
    leader.set_creds(Credentials(5, 5, 5, 5))
    (_, thread) = leader.group.tasks
    assert thread.creds.uid == 0 and leader.creds.uid == 5
    assert leader.group.mixed
    rig.stop(leader, EVENT_CLONE, SIGTRAP, id=QUIET + 1, args=(THREAD,))  # one more, announced
    assert rig.kernel.tasks[QUIET + 1].creds.uid == 5


def test_a_process_of_one_thread_is_not_mixed_by_new_credentials(rig: KernelRig) -> None:
    task = rig.first_task()
    rig.host_threads(task)
    task.set_creds(Credentials(5, 5, 5, 5))
    assert not task.group.mixed


def test_the_c_core_knows_who_may_not_make_threads_quietly(rig: KernelRig) -> None:
    task = rig.first_task()
    assert lib.nc_task_set_mixed(task.host_tid, 1) == 0
    assert lib.nc_task_set_mixed(QUIET, 1) == -3
