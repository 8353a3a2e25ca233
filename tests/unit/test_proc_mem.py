"""sentry/fs/proc/mem.py, with this process in the guest's place."""

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
from sentry.fs.proc.mem import MemInode
from sentry.kernel.creds import Credentials
from tests.unit.kernel_rig import KernelRig
from tests.unit.vfs_rig import run


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    yield made
    made.close()


@pytest.fixture
def place(rig: KernelRig) -> tuple[Any, Any, int]:
    """A task whose memory is ours, the file, and an address there."""
    task = rig.first_task()
    (rig.folder / str(task.host_tid) / "mem").symlink_to(f"/proc/{os.getpid()}/mem")
    cell = ffi.new("char[]", b"some words")
    place.kept = cell  # type: ignore[attr-defined]
    return task, MemInode(Procfs(rig.kernel), task, 5), int(ffi.cast("uintptr_t", cell))


def test_reading_and_writing(place: tuple[Any, Any, int]) -> None:
    task, inode, at = place
    file = run(inode.open(task, None, O_RDWR))
    assert run(file.pread(task, 4, at)) == b"some"
    assert run(file.pwrite(task, b"more", at)) == 4
    assert file.seek(at, 0) == at
    assert run(file.read(task, 10)) == b"more words"
    assert file.seek(-10, 1) == at
    assert run(file.write(task, b"S")) == 1 and file.pos == at + 1
    with pytest.raises(EINVAL):
        file.seek(0, 2)
    with pytest.raises(EIO):
        run(file.pread(task, 4, 8))
    with pytest.raises(EIO):
        run(file.pwrite(task, b"x", 8))
    file.release()


def test_for_reading_only(place: tuple[Any, Any, int]) -> None:
    task, inode, at = place
    file = run(inode.open(task, None, O_RDONLY))
    with pytest.raises(EIO):
        run(file.pwrite(task, b"x", at))
    file.release()


def test_who_may_not_trace_may_not_open(rig: KernelRig, place: tuple[Any, Any, int]) -> None:
    _, inode, _ = place
    other = rig.first_task(9)
    other.creds = Credentials(5, 5, 5, 5)
    with pytest.raises(EACCES):
        run(inode.open(other, None, O_RDONLY))


def test_a_process_that_is_gone(rig: KernelRig, place: tuple[Any, Any, int]) -> None:
    task, inode, _ = place
    (rig.folder / str(task.host_tid) / "mem").unlink()
    with pytest.raises(ESRCH):
        run(inode.open(task, None, O_WRONLY))
