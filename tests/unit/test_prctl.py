"""sentry/syscalls/prctl.py: what a process asks for itself."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EFAULT, EINVAL, EPERM
from pathlib import Path
from typing import Any

import pytest

from sentry.abi import linux
from sentry.kernel.creds import Credentials
from sentry.kernel.task import Task
from sentry.syscalls import prctl as module
from sentry.syscalls.declare import CONTINUE
from tests.unit.kernel_rig import Buffer, KernelRig, answer, with_memory

USER = Credentials(5, 5, 5, 5, 5, 5, 5, 5)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    yield made
    made.close()


@pytest.fixture
def task(rig: KernelRig) -> Task:
    return with_memory(rig.first_task())


def prctl(task: Task, option: int, *args: int) -> Any:
    return answer(task, "prctl", option, *args)


def test_no_new_privs_is_for_ever(task: Task) -> None:
    assert prctl(task, linux.PR_GET_NO_NEW_PRIVS) == 0
    for args in ((0,), (2,), (1, 1), (1, 0, 0, 5)):
        assert prctl(task, linux.PR_SET_NO_NEW_PRIVS, *args) == -EINVAL
    assert prctl(task, linux.PR_SET_NO_NEW_PRIVS, 1) == 0
    assert prctl(task, linux.PR_GET_NO_NEW_PRIVS) == 1
    assert prctl(task, linux.PR_GET_NO_NEW_PRIVS, 1) == -EINVAL


def test_the_bounding_set_only_shrinks(task: Task) -> None:
    assert prctl(task, linux.PR_CAPBSET_READ, 5) == 1
    assert prctl(task, linux.PR_CAPBSET_DROP, 5) == 0
    assert prctl(task, linux.PR_CAPBSET_READ, 5) == 0
    assert prctl(task, linux.PR_CAPBSET_READ, 63) == -EINVAL
    assert prctl(task, linux.PR_CAPBSET_DROP, 63) == -EINVAL
    task.creds = USER
    assert prctl(task, linux.PR_CAPBSET_DROP, 6) == -EPERM


def test_the_ambient_set_needs_permitted_and_inheritable(task: Task) -> None:
    def ambient(what: int, *args: int) -> Any:
        return prctl(task, linux.PR_CAP_AMBIENT, what, *args)

    task.creds = USER._replace(cap_permitted=0b11, cap_inheritable=0b10)
    assert ambient(linux.PR_CAP_AMBIENT_RAISE, 0) == -EPERM
    assert ambient(linux.PR_CAP_AMBIENT_RAISE, 1) == 0
    assert ambient(linux.PR_CAP_AMBIENT_IS_SET, 1) == 1 and ambient(linux.PR_CAP_AMBIENT_IS_SET, 0) == 0
    assert ambient(linux.PR_CAP_AMBIENT_LOWER, 1) == 0 and task.creds.cap_ambient == 0
    assert ambient(linux.PR_CAP_AMBIENT_RAISE, 1) == 0
    assert ambient(linux.PR_CAP_AMBIENT_CLEAR_ALL, 1) == -EINVAL
    assert ambient(linux.PR_CAP_AMBIENT_CLEAR_ALL) == 0 and task.creds.cap_ambient == 0
    assert ambient(linux.PR_CAP_AMBIENT_RAISE, 63) == -EINVAL
    assert ambient(linux.PR_CAP_AMBIENT_RAISE, 1, 1) == -EINVAL
    assert ambient(9, 1) == -EINVAL
    task.creds = task.creds._replace(securebits=0x40)  # SECBIT_NO_CAP_AMBIENT_RAISE
    assert ambient(linux.PR_CAP_AMBIENT_RAISE, 1) == -EPERM


@pytest.mark.parametrize(
    ("old", "new", "result"),
    [
        (0, 0x03, 0),  # noroot, locked
        (0, 0x100, -EPERM),  # no such bit
        (0x02, 0x03, -EPERM),  # locked: may not be set
        (0x03, 0x02, -EPERM),  # nor cleared
        (0x03, 0x01, -EPERM),  # a lock is never taken off
        (0x03, 0x07, 0),
    ],
)
def test_secure_bits_and_their_locks(task: Task, old: int, new: int, result: int) -> None:
    task.creds = task.creds._replace(securebits=old)
    assert prctl(task, linux.PR_SET_SECUREBITS, new) == result
    assert prctl(task, linux.PR_GET_SECUREBITS) == (old if result else new)
    task.creds = USER
    assert prctl(task, linux.PR_SET_SECUREBITS, 0) == -EPERM


def test_keepcaps_is_a_secure_bit(task: Task) -> None:
    assert prctl(task, linux.PR_SET_KEEPCAPS, 1) == 0
    assert (prctl(task, linux.PR_GET_KEEPCAPS), task.creds.securebits) == (1, 0x10)
    assert prctl(task, linux.PR_SET_KEEPCAPS, 0) == 0 and prctl(task, linux.PR_GET_KEEPCAPS) == 0
    assert prctl(task, linux.PR_SET_KEEPCAPS, 2) == -EINVAL


def test_properties_of_the_process(task: Task) -> None:
    buffer = Buffer()
    assert prctl(task, linux.PR_SET_DUMPABLE, 0) == 0 and prctl(task, linux.PR_GET_DUMPABLE) == 0
    assert prctl(task, linux.PR_SET_DUMPABLE, 2) == -EINVAL
    assert prctl(task, linux.PR_SET_CHILD_SUBREAPER, 7) is CONTINUE and task.group.subreaper
    assert prctl(task, linux.PR_GET_CHILD_SUBREAPER, buffer.addr) == 0 and buffer.get(4) == b"\1\0\0\0"
    assert prctl(task, linux.PR_SET_PDEATHSIG, 9) is CONTINUE
    assert prctl(task, linux.PR_GET_PDEATHSIG, buffer.addr) == 0 and buffer.get(4) == b"\x09\0\0\0"
    assert prctl(task, linux.PR_SET_PDEATHSIG, 65) == -EINVAL
    assert prctl(task, linux.PR_GET_PDEATHSIG, 0) == -EFAULT
    assert prctl(task, 0x7FFF) == -EINVAL


def test_every_option_is_known_by_its_name() -> None:
    known = {**vars(linux), **vars(module)}
    assert set(module._PRCTL) <= {value for name, value in known.items() if name.startswith("PR_")}


def test_a_locked_keepcaps_stays(task: Task) -> None:
    task.creds = task.creds._replace(securebits=module.SECBIT_KEEP_CAPS_LOCKED)
    assert prctl(task, linux.PR_SET_KEEPCAPS, 1) == -EPERM


def test_timer_slack_is_inherited_and_reset_to_what_was_inherited(rig: KernelRig, task: Task) -> None:
    assert prctl(task, linux.PR_GET_TIMERSLACK) == 50_000
    assert prctl(task, linux.PR_SET_TIMERSLACK, 7) is CONTINUE and prctl(task, linux.PR_GET_TIMERSLACK) == 7
    child = rig.fork(task)
    prctl(child, linux.PR_SET_TIMERSLACK, 9)
    prctl(child, linux.PR_SET_TIMERSLACK, 0)
    assert prctl(child, linux.PR_GET_TIMERSLACK) == 7


def test_what_nobody_here_may_is_refused_as_linux_refuses_it(task: Task) -> None:
    assert prctl(task, linux.PR_SET_TIMING, linux.PR_TIMING_STATISTICAL) == 0
    assert prctl(task, linux.PR_SET_TIMING, linux.PR_TIMING_TIMESTAMP) == -EINVAL
    assert prctl(task, linux.PR_SET_IO_FLUSHER, 1) == -EINVAL
    task.creds = USER
    assert prctl(task, linux.PR_SET_IO_FLUSHER, 1) == -EPERM


def test_the_auxiliary_vector_is_the_programs(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = Buffer()
    monkeypatch.setattr(module, "auxv", lambda reader, target: b"vector")
    assert prctl(task, module.PR_GET_AUXV, buffer.addr, 10) == module.AUXV_SIZE
    assert buffer.get(10) == b"vector\0\0\0\0"
    assert prctl(task, module.PR_GET_AUXV, buffer.addr, 10, 1) == -EINVAL
