"""The dentry cache: what is in use stays, what is not goes, and what died holds nothing."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from sentry.fs.tmpfs import Tmpfs
from sentry.kernel.fdtable import drain
from sentry.syscalls import attrs, dirs, files, paths
from sentry.vfs.dentry import cache, evict
from sentry.vfs.mount import d_path
from tests.unit.vfs_rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    gc.collect()  # kernels of other tests, which refer to themselves
    evict(len(cache.fifo))
    rig = Rig()
    rig.call(paths.sys_mkdir, b"/d", 0o755)
    yield rig
    rig.close()


def names(rig: Rig) -> set[bytes]:
    return set(rig.fs.root_dentry.children or ())


def test_unused_dentries_are_evicted_and_looked_up_again(rig: Rig) -> None:
    rig.call(attrs.sys_stat, b"/d", rig.buffer)
    inode = (rig.fs.root_dentry.children or {})[b"d"].inode
    assert evict(10) == 1
    assert names(rig) == set()
    rig.call(attrs.sys_stat, b"/d", rig.buffer)
    assert (rig.fs.root_dentry.children or {})[b"d"].inode is inode


def test_open_files_and_working_directories_keep_their_names(rig: Rig) -> None:
    rig.call(dirs.sys_chdir, b"/d")
    fd = rig.call(files.sys_creat, b"f", 0o644)
    rig.call(paths.sys_mkdir, b"/other", 0o755)
    assert evict(10) == 1
    assert names(rig) == {b"d"}
    rig.call(paths.sys_rename, b"/d", b"/e")
    file = rig.task.fds.get(fd)
    assert file.path is not None
    assert d_path(file.path, rig.task.fs.root) == b"/e/f"
    rig.task.fds.close(fd)
    del file
    drain()
    assert evict(10) == 2  # f, and the "d" that is no more
    assert names(rig) == {b"e"}


def test_a_file_made_and_unlinked_leaves_no_inode_behind(rig: Rig) -> None:
    fs = rig.fs
    assert isinstance(fs, Tmpfs)
    before = fs.inodes
    for number in range(20):
        path = b"/d/%d" % number
        rig.task.fds.close(rig.call(files.sys_creat, path, 0o644))
        rig.call(attrs.sys_stat, path, rig.buffer)
        drain()
        rig.call(paths.sys_unlink, path)
    assert fs.inodes == before


def test_an_unlinked_file_lives_until_its_last_descriptor(rig: Rig) -> None:
    fs = rig.fs
    assert isinstance(fs, Tmpfs)
    before = fs.inodes
    fd = rig.call(files.sys_creat, b"/d/f", 0o644)
    rig.call(paths.sys_unlink, b"/d/f")
    file = rig.task.fds.get(fd)
    assert file.path is not None and d_path(file.path, rig.task.fs.root) == b"/d/f (deleted)"
    del file
    assert fs.inodes == before + 1
    rig.task.fds.close(fd)
    drain()
    assert fs.inodes == before


def test_unmounting_empties_the_cache() -> None:
    evict(len(cache.fifo))
    rig = Rig()
    before = len(cache.fifo)
    for number in range(5):
        rig.call(paths.sys_mkdir, b"/%d" % number, 0o755)
    assert len(cache.fifo) == before + 5
    rig.close()
    del rig
    assert len(cache.fifo) == before
