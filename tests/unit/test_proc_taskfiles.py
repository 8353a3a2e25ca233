"""sentry/fs/proc/taskfiles.py: who may open a process's files, and what they take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from sentry.abi.linux import AT_FDCWD, O_RDONLY, O_WRONLY
from sentry.errors import EACCES, EINVAL, EPERM, ERANGE, ESRCH
from sentry.fs.proc import taskfiles
from sentry.fs.proc.fs import Procfs
from sentry.vfs.open import open_path
from tests.unit.pseudo_world import USER, run, world

NO_CAPS = USER._replace(uid=0, euid=0, suid=0, fsuid=0, gid=0, egid=0, sgid=0, fsgid=0)


@pytest.fixture
def proc() -> Iterator[Any]:
    kernel, task = world(Procfs)
    yield kernel, task
    kernel.close()


def opened(task: Any, path: str, flags: int = O_RDONLY) -> Any:
    return run(open_path(task, AT_FDCWD, path.encode(), flags, 0))


def read(task: Any, path: str) -> bytes:
    return run(opened(task, path).read(task, 1 << 16))


def write(task: Any, path: str, data: bytes) -> None:
    run(opened(task, path, O_WRONLY).write(task, data))


# --- who may open them


@pytest.mark.parametrize("name", ["maps", "smaps"])
def test_files_about_memory_are_refused_when_they_are_opened(proc: Any, name: str) -> None:
    kernel, task = proc
    stranger = kernel.process(9, task.group, USER)
    with pytest.raises(EACCES):
        opened(stranger, f"/1/{name}")


@pytest.mark.parametrize(
    ("name", "error"),
    [("auxv", ESRCH), ("environ", ESRCH), ("mem", ESRCH), ("smaps_rollup", ESRCH), ("mounts", EINVAL)],
)
def test_a_zombie_has_no_memory_and_no_place(proc: Any, name: str, error: type[Exception]) -> None:
    kernel, task = proc
    kernel.process(9, task.group).group.exited = True
    with pytest.raises(error):
        opened(task, f"/9/{name}")


def test_the_maps_of_a_zombie_are_empty(proc: Any) -> None:
    kernel, task = proc
    kernel.process(9, task.group).group.exited = True
    assert read(task, "/9/maps") == read(task, "/9/coredump_filter") == b""


def test_what_a_tracer_would_see_is_eperm_and_the_kernels_stack_eacces(proc: Any) -> None:
    kernel, task = proc
    other = kernel.process(9, task.group, NO_CAPS)
    task.group.dumpable = 0
    for name in ("personality", "syscall"):
        with pytest.raises(EPERM):
            read(other, f"/1/{name}")
    with pytest.raises(EACCES):
        read(other, "/9/stack")
    assert read(task, "/1/stack") == b""


def test_children_are_those_of_the_whole_process(proc: Any) -> None:
    kernel, task = proc
    task.group.children = {kernel.process(pid, task.group).group for pid in (7, 9)}
    assert read(task, "/1/task/1/children") == b"7 9 "


# --- what they take


def test_what_has_no_write_operation_gives_einval(proc: Any) -> None:
    _, task = proc
    with pytest.raises(EINVAL):
        write(task, "/1/stat", b"x")


def test_the_core_dump_filter_is_kept(proc: Any) -> None:
    _, task = proc
    write(task, "/1/coredump_filter", b"0x7f\n")
    assert read(task, "/1/coredump_filter") == b"0000007f\n"
    for data, error in ((b"x", EINVAL), (b"-1", ERANGE), (b"0x100000000", ERANGE)):
        with pytest.raises(error):
            write(task, "/1/coredump_filter", data)


def test_timer_slack_is_for_oneself(proc: Any) -> None:
    kernel, task = proc
    write(task, "/1/timerslack_ns", b"123")
    assert task.timer_slack_ns == 123 and read(task, "/1/timerslack_ns") == b"123\n"
    write(task, "/1/timerslack_ns", b"0")
    assert task.timer_slack_ns == task.usual_slack_ns
    stranger = kernel.process(9, task.group, USER)
    with pytest.raises(EPERM):
        read(stranger, "/1/timerslack_ns")
    with pytest.raises(EPERM):
        write(stranger, "/1/timerslack_ns", b"1")


def test_references_are_cleared_on_the_host(proc: Any) -> None:
    _, task = proc
    write(task, "/1/clear_refs", b"1")
    for data in (b"0", b"6", b"x"):
        with pytest.raises(EINVAL):
            write(task, "/1/clear_refs", data)


def test_the_map_of_groups_is_set(proc: Any) -> None:
    kernel, task = proc
    with pytest.raises(EPERM):
        write(task, "/1/setgroups", b"deny")
    other = kernel.process(9, task.group, NO_CAPS)
    with pytest.raises(EACCES):
        write(other, "/9/setgroups", b"deny")


def test_timers_name_guest_ids(proc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel, task = proc
    text = b"ID: 0\nsignal: 10/0000000000000000\nnotify: signal/pid.%d\nClockID: 1\n" % os.getpid()
    monkeypatch.setattr(kernel.pids, "read", lambda tid, name, limit=0: text)
    assert taskfiles._timers(task, task) == text.replace(b".%d" % os.getpid(), b".1")
