"""overlay: nothing reaches the lower tree, and what Linux's overlayfs gets wrong (hard links, renames)
is right here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import unpack_from

import pytest

from sentry.abi.linux import S_IFCHR
from sentry.errors import ENOENT, ENOSPC, ENOTEMPTY, EPERM
from sentry.fs.overlay import Overlay, OverlayFile
from sentry.fs.store import Store
from sentry.kernel.fdtable import drain
from sentry.syscalls import attrs, files, paths, xattrs
from sentry.vfs.dentry import cache, evict
from tests.unit.test_tmpfs import read, write
from tests.unit.test_vfs_differential import Ours, listing
from tests.unit.vfs_rig import Rig, run


@pytest.fixture
def lower() -> Iterator[Rig]:
    rig = Rig()
    for path in (b"/dir", b"/dir/sub", b"/empty"):
        rig.call(paths.sys_mkdir, path, 0o755)
    write(rig, b"/dir/file", b"lower")
    write(rig, b"/dir/sub/deep", b"deep")
    rig.call(paths.sys_link, b"/dir/file", b"/hard")
    rig.call(paths.sys_symlink, b"dir/file", b"/link")
    yield rig
    rig.close()


@pytest.fixture
def rig(lower: Rig) -> Iterator[Rig]:
    before = tree(lower)
    rig = Rig(Overlay(lower.fs, Store(None)))
    yield rig
    rig.close()
    assert tree(lower) == before


def tree(rig: Rig) -> dict[bytes, object]:
    ours = Ours.__new__(Ours)
    ours.rig = rig
    return ours.tree()


def stat(rig: Rig, path: bytes) -> tuple[int, ...]:
    """dev, ino, nlink, mode, uid, gid"""
    rig.call(attrs.sys_lstat, path, rig.buffer)
    return unpack_from("<QQQIII", rig.bytes(144))


def forget(rig: Rig) -> None:
    """Drop every dentry that can be dropped, and with them the unchanged overlay inodes."""
    drain()
    while evict(len(cache.fifo)):
        pass


def test_reading_changes_nothing_and_stores_nothing(rig: Rig) -> None:
    fs = rig.fs
    assert isinstance(fs, Overlay)
    assert read(rig, b"/link") == b"lower"
    assert fs.inodes == 0 and fs.used_bytes() == 0
    assert fs.root.entries == {}


def test_inode_numbers_stay_over_copy_up_and_eviction(rig: Rig) -> None:
    before = stat(rig, b"/dir/file")[:2], stat(rig, b"/dir")[:2]
    assert write(rig, b"/dir/file", b" and upper") == 10
    assert (stat(rig, b"/dir/file")[:2], stat(rig, b"/dir")[:2]) == before
    forget(rig)
    assert (stat(rig, b"/dir/file")[:2], stat(rig, b"/dir")[:2]) == before
    assert read(rig, b"/dir/file") == b"lower and upper"


def test_hard_links_of_the_lower_tree_stay_links(rig: Rig) -> None:
    write(rig, b"/hard", b"!")
    forget(rig)
    assert read(rig, b"/dir/file") == b"lower!"
    rig.call(paths.sys_unlink, b"/hard")
    forget(rig)
    assert read(rig, b"/dir/file") == b"lower!"
    assert stat(rig, b"/dir/file")[2] == 1
    assert rig.errno(attrs.sys_stat, b"/hard", rig.buffer) == ENOENT.errno
    rig.call(paths.sys_rename, b"/dir/file", b"/moved")
    rig.call(paths.sys_unlink, b"/moved")
    forget(rig)
    assert listing(rig, b"/dir") == [b"sub"]


def test_changed_attributes_are_kept_without_copying_data(rig: Rig) -> None:
    fs = rig.fs
    assert isinstance(fs, Overlay)
    rig.call(attrs.sys_chmod, b"/dir/sub/deep", 0o600)
    rig.call(attrs.sys_chown, b"/dir/sub", 5, 6)
    forget(rig)
    assert stat(rig, b"/dir/sub/deep")[3] == 0o100600
    assert stat(rig, b"/dir/sub")[4:] == (5, 6)
    assert fs.used_bytes() == 0
    assert read(rig, b"/dir/sub/deep") == b"deep"


def test_a_lower_directory_is_renamed_with_all_it_holds(rig: Rig) -> None:
    rig.call(paths.sys_rename, b"/dir", b"/empty/moved")
    forget(rig)
    assert read(rig, b"/empty/moved/sub/deep") == b"deep"
    assert rig.errno(attrs.sys_stat, b"/dir", rig.buffer) == ENOENT.errno
    rig.call(paths.sys_mkdir, b"/dir", 0o755)
    forget(rig)
    assert listing(rig, b"/dir") == []
    write(rig, b"/empty/moved/sub/deep", b"er")
    forget(rig)
    assert read(rig, b"/empty/moved/sub/deep") == b"deeper"


def test_removed_names_stay_removed_and_can_be_used_again(rig: Rig) -> None:
    assert rig.errno(paths.sys_rmdir, b"/dir") == ENOTEMPTY.errno
    for path in (b"/dir/file", b"/dir/sub/deep"):
        rig.call(paths.sys_unlink, path)
    rig.call(paths.sys_rmdir, b"/dir/sub")
    rig.call(paths.sys_rmdir, b"/dir")
    forget(rig)
    assert sorted(listing(rig, b"/")) == [b"empty", b"hard", b"link"]
    write(rig, b"/dir", b"a file now")
    rig.call(paths.sys_unlink, b"/dir")
    forget(rig)
    assert rig.errno(attrs.sys_stat, b"/dir", rig.buffer) == ENOENT.errno


def test_a_new_name_in_a_lower_directory_survives_eviction(rig: Rig) -> None:
    write(rig, b"/dir/sub/new", b"new")
    forget(rig)
    assert read(rig, b"/dir/sub/new") == b"new"
    assert sorted(listing(rig, b"/dir/sub")) == [b"deep", b"new"]
    rig.call(paths.sys_unlink, b"/dir/sub/new")
    forget(rig)
    assert listing(rig, b"/dir/sub") == [b"deep"]


def test_truncating_on_open_copies_nothing(rig: Rig) -> None:
    fd = rig.call(files.sys_open, b"/dir/sub/deep", os.O_WRONLY | os.O_TRUNC, 0)
    rig.task.fds.close(fd)
    assert read(rig, b"/dir/sub/deep") == b""


def test_an_open_reader_sees_the_old_data_after_copy_up(rig: Rig) -> None:
    """As overlayfs documents it: a descriptor opened for reading before the copy-up stays with the
    lower file.
    """
    fd = rig.call(files.sys_open, b"/dir/file", os.O_RDONLY, 0)
    write(rig, b"/dir/file", b"!")
    assert run(rig.task.fds.get(fd).pread(rig.task, 100, 0)) == b"lower"
    rig.task.fds.close(fd)


def test_extended_attributes_come_along(lower: Rig, rig: Rig) -> None:
    mem = lower.task.mem
    mem.write(mem.BASE, b"value")
    lower.call(xattrs.sys_setxattr, b"/dir/sub/deep", mem.put(b"user.a"), mem.BASE, 5, 0)
    mem = rig.task.mem
    write(rig, b"/dir/sub/deep", b"!")
    forget(rig)
    assert rig.call(xattrs.sys_getxattr, b"/dir/sub/deep", mem.put(b"user.a"), mem.BASE, 100) == 5
    rig.call(xattrs.sys_removexattr, b"/dir/sub/deep", mem.put(b"user.a"))
    forget(rig)
    assert rig.call(xattrs.sys_listxattr, b"/dir/sub/deep", mem.BASE, 100) == 0
    lower.call(xattrs.sys_removexattr, b"/dir/sub/deep", lower.task.mem.put(b"user.a"))


def test_the_size_limit_counts_what_is_copied_up(lower: Rig) -> None:
    write(lower, b"/big", bytes(100_000))
    rig = Rig(Overlay(lower.fs, Store(None), max_bytes=65536))
    assert rig.errno(files.sys_open, b"/big", os.O_WRONLY, 0) == ENOSPC.errno
    assert len(read(rig, b"/big")) == 100_000
    assert write(rig, b"/dir/file", b"!") == 1
    rig.close()


def test_a_guest_cannot_make_whiteouts(rig: Rig) -> None:
    assert rig.errno(paths.sys_mknod, b"/w", S_IFCHR | 0o600, 0) == EPERM.errno


def test_dropped_inodes_leave_nothing_in_the_overlay(rig: Rig) -> None:
    fs = rig.fs
    assert isinstance(fs, Overlay)
    read(rig, b"/dir/sub/deep")
    held = rig.call(files.sys_open, b"/dir/file", os.O_RDONLY, 0)
    assert isinstance(rig.task.fds.get(held).inode, OverlayFile)
    rig.task.fds.close(held)
    forget(rig)
    assert list(fs._wrapped.values()) == [] and len(fs._origins) == 1
