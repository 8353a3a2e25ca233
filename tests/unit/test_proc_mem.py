"""sentry/fs/proc/mem.py and its entries in taskfiles.py, with this process in the guest's place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from native import ffi
from sentry.abi.linux import O_RDONLY, O_RDWR, O_WRONLY
from sentry.errors import EACCES, EINVAL, EIO, ESRCH
from sentry.fs.proc.fs import Procfs
from sentry.fs.proc.mem import MemoryFile
from sentry.fs.proc.taskfiles import PROCESS, TaskFile
from sentry.kernel.creds import Credentials
from tests.unit.kernel_rig import KernelRig
from tests.unit.vfs_rig import run


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    yield made
    made.close()


def inode(rig: KernelRig, task: Any, name: bytes) -> TaskFile:
    return TaskFile(Procfs(rig.kernel), task, name, PROCESS[name], True, 5)


@pytest.fixture
def place(rig: KernelRig) -> tuple[Any, Any, int]:
    """A task whose memory is ours, the file, and an address there."""
    task = rig.first_task()
    for name in ("mem", "pagemap"):
        (rig.folder / str(task.host_tid) / name).symlink_to(f"/proc/{os.getpid()}/{name}")
    cell = ffi.new("char[]", b"some words")
    place.kept = cell  # type: ignore[attr-defined]
    return task, inode(rig, task, b"mem"), int(ffi.cast("uintptr_t", cell))


def test_reading_and_writing(place: tuple[Any, Any, int]) -> None:
    task, mem, at = place
    file = run(mem.open(task, None, O_RDWR))
    assert run(file.pread(task, 4, at)) == b"some"
    assert run(file.pwrite(task, b"more", at)) == 4
    assert file.seek(at, 0) == at
    assert run(file.read(task, 10)) == b"more words"
    assert file.seek(-10, 1) == at
    assert run(file.write(task, b"S")) == 1 and file.pos == at + 1
    with pytest.raises(EINVAL):
        file.seek(0, 2)
    for nowhere in (8, -4096, 1 << 63):
        with pytest.raises(EIO):
            run(file.pread(task, 4, nowhere))
    with pytest.raises(EIO):
        run(file.pwrite(task, b"x", 8))
    file.release()


def test_positions_are_numbers_of_64_bits(place: tuple[Any, Any, int]) -> None:
    task, mem, _ = place
    file = run(mem.open(task, None, O_RDONLY))
    assert file.seek(-4096, 0) == -4096
    assert file.seek((1 << 63) - 1, 0) == (1 << 63) - 1
    assert file.seek(1, 1) == -(1 << 63)
    file.release()


def test_a_page_map_has_eight_bytes_a_page_and_is_not_written(
    rig: KernelRig, place: tuple[Any, Any, int]
) -> None:
    task, _, at = place
    file = run(inode(rig, task, b"pagemap").open(task, None, O_RDWR))
    assert isinstance(file, MemoryFile)
    assert len(run(file.pread(task, 8, at // 4096 * 8))) == 8
    with pytest.raises(EINVAL):
        run(file.pwrite(task, b"x", 0))
    file.release()


def test_for_reading_only(place: tuple[Any, Any, int]) -> None:
    task, mem, at = place
    file = run(mem.open(task, None, O_RDONLY))
    with pytest.raises(EINVAL):
        run(file.pwrite(task, b"x", at))
    file.release()


def test_who_may_not_trace_may_not_open(rig: KernelRig, place: tuple[Any, Any, int]) -> None:
    _, mem, _ = place
    other = rig.first_task(9)
    other.creds = Credentials(5, 5, 5, 5)
    with pytest.raises(EACCES):
        run(mem.open(other, None, O_RDONLY))


def test_a_process_that_is_gone(rig: KernelRig, place: tuple[Any, Any, int]) -> None:
    task, mem, _ = place
    (rig.folder / str(task.host_tid) / "mem").unlink()
    with pytest.raises(ESRCH):
        run(mem.open(task, None, O_WRONLY))
