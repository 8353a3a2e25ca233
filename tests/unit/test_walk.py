"""Path resolution beyond what the differential test reaches: mounts, `..`, openat2's flags, magic
links, deleted places.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from struct import unpack_from

import pytest

from sentry.abi.linux import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    RESOLVE_BENEATH,
    RESOLVE_CACHED,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
)
from sentry.errors import EAGAIN, EBADF, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ERANGE, EXDEV
from sentry.fs.store import Store
from sentry.fs.tmpfs import Tmpfs, TmpfsSymlink
from sentry.syscalls import attrs, dirs, files, paths
from sentry.vfs.mount import Mount, Path, d_path
from sentry.vfs.names import find
from sentry.vfs.walk import resolve
from tests.unit.vfs_rig import Rig, run


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    for path in (b"/a", b"/a/b", b"/mnt"):
        rig.call(paths.sys_mkdir, path, 0o755)
    rig.call(files.sys_creat, b"/a/file", 0o644)
    yield rig
    rig.close()


def at(rig: Rig, path: bytes, resolve_flags: int = 0, dirfd: int = AT_FDCWD) -> Path:
    return run(resolve(rig.task, dirfd, path, True, resolve_flags))


def opened(rig: Rig, path: bytes) -> int:
    return rig.call(files.sys_open, path, os.O_RDONLY, 0)


def mounted(rig: Rig) -> Tmpfs:
    fs = Tmpfs(Store(None))
    rig.mounts.mount(Mount(fs), at(rig, b"/mnt"))
    return fs


def test_dot_dot_leaves_a_mount_and_stays_at_the_root(rig: Rig) -> None:
    fs = mounted(rig)
    rig.call(paths.sys_mkdir, b"/mnt/in", 0o755)
    assert at(rig, b"/mnt").inode is fs.root
    assert at(rig, b"/mnt/in/..").inode is fs.root
    assert at(rig, b"/mnt/in/../../a") == at(rig, b"/a")
    assert at(rig, b"/../../a/../mnt/../..") == at(rig, b"/")


def test_stacked_mounts_show_the_last_one(rig: Rig) -> None:
    mounted(rig)
    top = mounted(rig)
    assert at(rig, b"/mnt").inode is top.root
    assert at(rig, b"/mnt/..") == at(rig, b"/")


def test_forty_links_are_followed_and_forty_one_are_not(rig: Rig) -> None:
    rig.call(paths.sys_symlink, b"/a", b"/l0")
    for number in range(1, 41):
        rig.call(paths.sys_symlink, b"l%d" % (number - 1), b"/l%d" % number)
    assert at(rig, b"/l39").inode is at(rig, b"/a").inode
    with pytest.raises(ELOOP):
        at(rig, b"/l40")


def test_beneath_refuses_every_way_out(rig: Rig) -> None:
    fd = opened(rig, b"/a")
    rig.call(paths.sys_symlink, b"../mnt", b"/a/out")
    rig.call(paths.sys_symlink, b"/a/b", b"/a/absolute")
    for path in (b"..", b"b/../..", b"/a", b"out", b"absolute"):
        with pytest.raises(EXDEV):
            at(rig, path, RESOLVE_BENEATH, fd)
    assert at(rig, b"b/..", RESOLVE_BENEATH, fd) == at(rig, b"/a")


def test_in_root_makes_the_descriptor_the_root(rig: Rig) -> None:
    fd = opened(rig, b"/a")
    rig.call(paths.sys_symlink, b"/b", b"/a/absolute")
    b = at(rig, b"/a/b")
    for path in (b"/b", b"../../b", b"absolute", b"absolute/../../b"):
        assert at(rig, path, RESOLVE_IN_ROOT, fd) == b


def test_no_xdev_stops_at_a_mount_both_ways(rig: Rig) -> None:
    mounted(rig)
    with pytest.raises(EXDEV):
        at(rig, b"/mnt", RESOLVE_NO_XDEV)
    rig.call(dirs.sys_chdir, b"/mnt")
    with pytest.raises(EXDEV):
        at(rig, b"..", RESOLVE_NO_XDEV)


def test_no_symlinks_and_cached(rig: Rig) -> None:
    rig.call(paths.sys_symlink, b"a", b"/l")
    with pytest.raises(ELOOP):
        at(rig, b"/l/b", RESOLVE_NO_SYMLINKS)
    at(rig, b"/a/b")
    assert at(rig, b"/a/b", RESOLVE_CACHED)
    with pytest.raises(EAGAIN):
        at(rig, b"/a/unknown", RESOLVE_CACHED)


def test_openat2_checks_what_openat_ignores(rig: Rig) -> None:
    mem = rig.task.mem

    def openat2(flags: int, mode: int, resolve_flags: int, size: int = 24, rest: bytes = b"") -> int:
        how = b"".join(value.to_bytes(8, "little") for value in (flags, mode, resolve_flags)) + rest
        mem.write(mem.BASE, how)
        mem.write(mem.BASE + 64, b"/a/file\0")
        return rig.errno(files.sys_openat2, AT_FDCWD, mem.BASE + 64, mem.BASE, size)

    assert openat2(0, 0, 0) == 0
    assert openat2(0, 0o644, 0) == 22
    assert openat2(1 << 40, 0, 0) == 22
    assert openat2(0, 0, 0x40) == 22
    assert openat2(0, 0, RESOLVE_BENEATH | RESOLVE_IN_ROOT) == 22
    assert openat2(0, 0, 0, 16) == 22
    assert openat2(0, 0, 0, 32, bytes(8)) == 0
    assert openat2(0, 0, 0, 32, b"\1" + bytes(7)) == 7


def test_magic_links_jump_and_can_be_refused(rig: Rig) -> None:
    target = at(rig, b"/a/b")

    class Magic(TmpfsSymlink):
        __slots__ = ()

        def magic_link(self, task: object) -> Path:
            return target

    fs = rig.fs
    assert isinstance(fs, Tmpfs)
    fs.root._add(b"magic", Magic(fs, b"text", 0, 0))  # type: ignore[attr-defined]
    assert at(rig, b"/magic") == target
    assert at(rig, b"/magic/..") == at(rig, b"/a")
    assert find(rig.task, AT_FDCWD, b"/magic/b", True) is None
    with pytest.raises(ELOOP):
        at(rig, b"/magic", RESOLVE_NO_MAGICLINKS)
    with pytest.raises(EXDEV):
        at(rig, b"/magic", RESOLVE_IN_ROOT)


def test_a_removed_working_directory_still_has_a_parent(rig: Rig) -> None:
    rig.call(dirs.sys_chdir, b"/a/b")
    rig.call(paths.sys_rmdir, b"/a/b")
    assert rig.errno(dirs.sys_getcwd, rig.buffer, 4096) == ENOENT.errno
    assert rig.errno(paths.sys_mkdir, b"new", 0o755) == ENOENT.errno
    assert rig.errno(files.sys_creat, b"new", 0o644) == ENOENT.errno
    assert at(rig, b"..") == at(rig, b"/a")
    assert d_path(rig.task.fs.cwd, rig.task.fs.root) == b"/a/b (deleted)"
    rig.call(paths.sys_mkdir, b"/a/b", 0o755)
    assert rig.errno(attrs.sys_stat, b"x", rig.buffer) == ENOENT.errno
    fd = opened(rig, b".")
    assert rig.errno(dirs.sys_getdents64, rig.task.fds.get(fd), rig.buffer, 4096) == ENOENT.errno


def test_getcwd_names_the_place_from_the_root(rig: Rig) -> None:
    rig.call(dirs.sys_chdir, b"/a/b")
    assert rig.call(dirs.sys_getcwd, rig.buffer, 4096) == 5
    assert rig.bytes(5) == b"/a/b\0"
    assert rig.errno(dirs.sys_getcwd, rig.buffer, 4) == ERANGE.errno
    rig.call(paths.sys_rename, b"/a", b"/z")
    assert rig.call(dirs.sys_getcwd, rig.buffer, 4096) == 5
    assert rig.bytes(4) == b"/z/b"
    rig.call(dirs.sys_chroot, b"/mnt")
    rig.call(dirs.sys_getcwd, rig.buffer, 4096)
    assert rig.bytes(18) == b"(unreachable)/z/b\0"


def test_chroot_bounds_absolute_paths_and_dot_dot(rig: Rig) -> None:
    rig.call(dirs.sys_chdir, b"/a")
    rig.call(dirs.sys_chroot, b"/a")
    assert rig.errno(attrs.sys_stat, b"/mnt", rig.buffer) == ENOENT.errno
    assert at(rig, b"../..").inode is at(rig, b"/").inode


def test_dirfd_errors(rig: Rig) -> None:
    fd = opened(rig, b"/a/file")
    assert rig.errno(attrs.sys_newfstatat, 99, b"x", rig.buffer, 0) == EBADF.errno
    assert rig.errno(attrs.sys_newfstatat, 99, b"/a", rig.buffer, 0) == 0
    assert rig.errno(attrs.sys_newfstatat, fd, b"x", rig.buffer, 0) == ENOTDIR.errno
    assert rig.errno(attrs.sys_newfstatat, fd, b"", rig.buffer, 0) == ENOENT.errno
    assert rig.errno(attrs.sys_newfstatat, fd, b"", rig.buffer, AT_EMPTY_PATH) == 0
    assert unpack_from("<QQ", rig.bytes(16))[1] == at(rig, b"/a/file").inode.ino


def test_o_path_of_a_link_and_reading_it_by_descriptor(rig: Rig) -> None:
    rig.call(paths.sys_symlink, b"target", b"/l")
    fd = rig.call(files.sys_open, b"/l", 0o10000000 | os.O_NOFOLLOW, 0)
    assert rig.call(paths.sys_readlinkat, fd, b"", rig.buffer, 3) == 3
    assert rig.bytes(3) == b"tar"
    assert rig.errno(files.sys_open, b"/l", os.O_NOFOLLOW, 0) == ELOOP.errno
    assert rig.errno(paths.sys_readlink, b"/a", rig.buffer, 10) == EINVAL.errno
    assert rig.errno(paths.sys_readlink, b"/l", rig.buffer, 0) == EINVAL.errno


def test_names_of_256_bytes_are_too_long_everywhere(rig: Rig) -> None:
    name = b"/" + b"n" * 256
    for call in (
        lambda: at(rig, name),
        lambda: at(rig, name + b"/x"),
        lambda: rig.call(paths.sys_mkdir, name, 0o755),
        lambda: rig.call(paths.sys_unlink, name),
    ):
        with pytest.raises(ENAMETOOLONG):
            call()


def test_an_unlinked_file_is_let_go_though_its_path_was_remembered() -> None:
    rig = Rig()
    fs = rig.fs
    assert isinstance(fs, Tmpfs)
    rig.task.fds.close(rig.call(files.sys_creat, b"/f", 0o644))
    rig.call(attrs.sys_stat, b"/f", rig.buffer)
    from sentry.kernel.fdtable import drain

    drain()
    before = fs.inodes
    rig.call(paths.sys_unlink, b"/f")
    assert fs.inodes == before - 1
    rig.close()
