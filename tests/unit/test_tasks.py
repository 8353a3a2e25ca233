"""sentry/syscalls/tasks.py: what clone checks, and how the sentry hears of the child."""

from __future__ import annotations

from collections.abc import Iterator
from errno import EFAULT, EINVAL, EMFILE, EPERM
from pathlib import Path
from signal import SIGCHLD, SIGTRAP, SIGUSR1
from typing import Any

import pytest

from native import lib
from sentry.abi import linux
from sentry.abi.linux import CLONE_FS, CLONE_NEWNS
from sentry.abi.x86_64 import NUMBERS
from sentry.fs.pidfd import PidFd
from sentry.kernel.lifecycle import EVENT_CLONE, EVENT_FORK, EVENT_STOP
from sentry.kernel.task import Task
from sentry.syscalls.declare import CONTINUE
from sentry.syscalls.tasks import Clone
from tests.unit.kernel_rig import Buffer, KernelRig, answer, with_memory
from tests.unit.test_lifecycle import THREAD
from tests.unit.test_program import TINY, put
from tests.unit.vfs_rig import Rig

CHILD = 8_600_000
CLONE_NR = NUMBERS["clone"]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    files = Rig(made.mounts.root.fs)
    put(files, b"/tool", TINY)
    put(files, b"/script", b"#!/tool -x\n")
    files.close()
    yield made
    made.close()


@pytest.fixture
def task(rig: KernelRig) -> Task:
    made = with_memory(rig.first_task())
    rig.done()
    return made


# --- clone


@pytest.mark.parametrize(
    ("flags", "result"),
    [
        (17, CONTINUE),
        (THREAD, CONTINUE),
        (linux.CLONE_VFORK | linux.CLONE_VM, CONTINUE),
        (CLONE_FS | CLONE_NEWNS, -EINVAL),
        (linux.CLONE_THREAD | linux.CLONE_VM, -EINVAL),
        (linux.CLONE_THREAD | linux.CLONE_SIGHAND, -EINVAL),
        (linux.CLONE_SIGHAND, -EINVAL),
        (linux.CLONE_PARENT | linux.CLONE_SIGHAND, -EINVAL),
        (CLONE_NEWNS, -EPERM),
        (linux.CLONE_NEWUSER, -EPERM),
        (linux.CLONE_PARENT, -EINVAL),  # container init's parent is not a guest's to give children
        (linux.CLONE_PIDFD | linux.CLONE_PARENT_SETTID, -EINVAL),
        (linux.CLONE_PIDFD | THREAD, -EINVAL),
    ],
)
def test_clone_of_container_init(task: Task, flags: int, result: Any) -> None:
    assert answer(task, "clone", flags) == result


def test_fork_and_vfork_are_the_hosts(task: Task) -> None:
    assert answer(task, "fork") is CONTINUE and answer(task, "vfork") is CONTINUE


def test_clone_parent_of_a_guests_child(rig: KernelRig, task: Task) -> None:
    assert answer(rig.fork(task), "clone", linux.CLONE_PARENT | 17) is CONTINUE


def clone(rig: KernelRig, task: Task, flags: int, *rest: int) -> None:
    """The call, up to its entry as it is made again."""

    def handler(task: Task, args: tuple[int, ...]) -> Any:
        return answer(task, "clone", *args)

    rig.call(task, handler, flags, *rest, name="clone")
    rig.platform.registers[task.host_tid] = {"rip": 102, "rdi": flags}
    rig.event_stop(task)
    rig.call_stop(task)
    rig.made_again(task)


@pytest.mark.parametrize("flags", [SIGUSR1, 0, THREAD & ~linux.CLONE_FILES])
def test_a_child_that_nobody_would_tell_of_is_announced(rig: KernelRig, task: Task, flags: int) -> None:
    assert isinstance(answer(task, "clone", flags), Clone)
    clone(rig, task, flags)
    assert ("trace_more", task.host_tid, lib.NC_TRACE_CLONE) in rig.done() and task.announces
    rig.stop(task, EVENT_CLONE, SIGTRAP, id=CHILD, args=(flags,))
    rig.stop(CHILD, EVENT_STOP)
    child = rig.kernel.tasks[CHILD]
    assert child.announces and (child.group is task.group) == bool(flags & linux.CLONE_THREAD)
    rig.call_stop(task)
    assert task.call is None
    assert answer(task, "clone", flags) is CONTINUE  # from now on


def test_threads_of_a_mixed_process_are_announced(rig: KernelRig, task: Task) -> None:
    task.group.mixed = True
    assert isinstance(answer(task, "clone", THREAD), Clone)


@pytest.mark.parametrize("flag", [linux.CLONE_PTRACE, linux.CLONE_UNTRACED])
def test_flags_that_would_mean_the_sentry_are_left_out(rig: KernelRig, task: Task, flag: int) -> None:
    clone(rig, task, flag | SIGCHLD)
    assert rig.platform.registers[task.host_tid]["rdi"] == SIGCHLD
    rig.stop(task, EVENT_FORK, SIGTRAP, id=CHILD, args=(SIGCHLD,))
    rig.platform.registers[CHILD] = {"rdi": SIGCHLD}
    rig.stop(CHILD, EVENT_STOP)
    assert rig.platform.registers[CHILD]["rdi"] == flag | SIGCHLD  # the child too finds what it gave
    rig.call_stop(task)
    assert rig.platform.registers[task.host_tid]["rdi"] == flag | SIGCHLD


def test_a_child_that_stops_early_finds_its_registers_too(rig: KernelRig, task: Task) -> None:
    flags = linux.CLONE_UNTRACED | SIGCHLD
    clone(rig, task, flags)
    rig.platform.registers[CHILD] = {"rdi": SIGCHLD}
    rig.stop(CHILD, EVENT_STOP)
    rig.stop(task, EVENT_FORK, SIGTRAP, id=CHILD, args=(SIGCHLD,))
    assert rig.platform.registers[CHILD]["rdi"] == flags


def test_clone_with_a_pidfd(rig: KernelRig, task: Task) -> None:
    where = Buffer()
    clone(rig, task, linux.CLONE_PIDFD | SIGCHLD, 0, where.addr)
    rig.status(CHILD, 7)
    rig.stop(task, EVENT_FORK, SIGTRAP, id=CHILD, args=(SIGCHLD,))
    rig.stop(CHILD, EVENT_STOP)
    rig.platform.registers[task.host_tid]["rax"] = 7
    rig.call_stop(task)
    (number, file), *_ = task.fds.items()
    assert isinstance(file, PidFd) and file.pid == 7
    assert task.fds.get_cloexec(number) and int.from_bytes(where.get(4), "little") == number


def test_a_pidfd_needs_room(task: Task) -> None:
    task.fds.set_limits(0, False)
    assert answer(task, "clone", linux.CLONE_PIDFD | SIGCHLD) == -EMFILE


def test_only_who_would_not_be_told_of_is_announced(rig: KernelRig, task: Task) -> None:
    answer(task, "clone", linux.CLONE_UNTRACED | SIGCHLD).at_stop(None)
    assert not task.announces
    answer(task, "clone", linux.CLONE_UNTRACED | SIGUSR1).at_stop(None)
    assert task.announces


def test_the_number_of_a_pidfd_needs_a_place(task: Task) -> None:
    assert answer(task, "clone", linux.CLONE_PIDFD | SIGCHLD, 0, 8) == -EFAULT
