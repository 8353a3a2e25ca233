"""sentry/syscalls/process.py and memory.py: unshare, file mappings.

Covers: sentry.syscalls.process
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EACCES, EBADF, EINVAL, ENODEV, ENOMEM, EPERM
from pathlib import Path
from typing import Any

import pytest

from sentry.abi import linux
from sentry.abi.linux import CLONE_FILES, CLONE_FS, CLONE_NEWNS
from sentry.fs.anon import anon_inode
from sentry.fs.memfd import create_memfd
from sentry.kernel.creds import Credentials
from sentry.kernel.task import Task
from sentry.syscalls import memory
from sentry.syscalls.declare import CONTINUE
from sentry.vfs.file import File
from tests.unit.kernel_rig import KernelRig, answer, with_memory
from tests.unit.test_lifecycle import THREAD

USER = Credentials(5, 5, 5, 5, 5, 5, 5, 5)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    yield made
    made.close()


@pytest.fixture
def task(rig: KernelRig) -> Task:
    return with_memory(rig.first_task())


# --- unshare


def test_unshare_takes_tables_of_its_own(rig: KernelRig, task: Task) -> None:
    thread = rig.fork(task, THREAD)
    before = thread.fds
    assert answer(thread, "unshare", CLONE_FS | CLONE_FILES) in (0, CONTINUE)
    assert thread.fs is not task.fs and thread.fds is not before
    assert task.fds.users == thread.fds.users == 1
    assert thread.group.mixed
    assert answer(thread, "unshare", linux.CLONE_VM) == -EINVAL  # it has other threads


def test_unshare_of_mounts_needs_the_capability(task: Task) -> None:
    mounts = task.mounts
    assert answer(task, "unshare", CLONE_NEWNS) == 0
    assert task.mounts is not mounts and task.fs.root.mount is task.mounts.root
    task.group.mounts.drop()
    task.group.mounts = mounts
    task.creds = USER
    assert answer(task, "unshare", CLONE_NEWNS) == -EPERM
    assert answer(task, "unshare", linux.CLONE_NEWNET) == -EPERM
    assert answer(task, "unshare", 1) == -EINVAL


def test_setns_looks_at_the_descriptor_first(task: Task) -> None:
    assert answer(task, "setns", 99, 0) == -EBADF
    fd = task.fds.install(File(anon_inode(), None, 0))
    assert answer(task, "setns", fd, 0) == -EINVAL


# --- mmap

READ, WRITE, EXEC = linux.PROT_READ, linux.PROT_WRITE, linux.PROT_EXEC
SHARED, PRIVATE, ANONYMOUS = linux.MAP_SHARED, linux.MAP_PRIVATE, linux.MAP_ANONYMOUS


def mmap(task: Task, prot: int, flags: int, fd: int = -1, length: int = 4096, offset: int = 0) -> Any:
    return answer(task, "mmap", 0, length, prot, flags, fd, offset)


def test_anonymous_memory_is_the_hosts(task: Task) -> None:
    assert mmap(task, READ, PRIVATE | ANONYMOUS) is CONTINUE
    assert mmap(task, READ, PRIVATE | ANONYMOUS | linux.MAP_HUGETLB) == -ENOMEM
    assert os.sysconf("SC_PAGESIZE") == memory.PAGE


@pytest.fixture
def descriptors(task: Task) -> dict[str, int]:
    """A memory file, opened in each way."""
    whole: Any = create_memfd(task, b"data", False, 0o600)
    found = {"rw": task.fds.install(whole)}
    for name, flags in (("r", os.O_RDONLY), ("w", os.O_WRONLY)):
        found[name] = task.fds.install(whole.inode.describe(whole.path, flags))
    found["path"] = task.fds.install(File(anon_inode(), None, linux.O_PATH))
    found["none"] = task.fds.install(File(anon_inode(), None, os.O_RDWR))
    return found


@pytest.mark.parametrize(
    ("name", "prot", "flags", "result"),
    [
        ("w", READ, PRIVATE, -EACCES),  # what is mapped can be read
        ("w", WRITE, SHARED, -EACCES),
        ("r", READ | WRITE, SHARED, -EACCES),
        ("path", READ, PRIVATE, -EBADF),
        ("none", READ, PRIVATE, -ENODEV),
        ("rw", READ, 0, -EINVAL),
        ("rw", READ, 0xF, -EINVAL),
    ],
)
def test_file_mappings_that_are_refused(
    task: Task, descriptors: dict[str, int], name: str, prot: int, flags: int, result: int
) -> None:
    assert mmap(task, prot, flags, descriptors[name]) == result


def test_the_order_of_the_checks(task: Task, descriptors: dict[str, int]) -> None:
    assert mmap(task, READ, PRIVATE, 99) == -EBADF
    assert mmap(task, READ, PRIVATE, 99, offset=5) == -EINVAL  # the offset comes first
    assert mmap(task, READ, PRIVATE, descriptors["rw"], length=0) == -EINVAL


def test_a_noexec_mount_gives_no_program_text(rig: KernelRig, task: Task, descriptors: dict[str, int]) -> None:
    file = task.fds.get(descriptors["rw"])
    file.path = rig.mounts.root_path
    rig.mounts.root.flags |= linux.MS_NOEXEC
    assert mmap(task, READ | EXEC, PRIVATE, descriptors["rw"]) == -EPERM
