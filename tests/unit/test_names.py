"""Walks in C beside walks in Python, which are the reference, over trees that change at random."""

from __future__ import annotations

import gc
import random
from collections.abc import Iterator
from stat import S_ISCHR
from typing import Any

import pytest

from native import ffi, lib
from sentry.abi.linux import AT_FDCWD, RENAME_WHITEOUT
from sentry.errors import ENOENT, LinuxError
from sentry.fs.store import Store
from sentry.fs.tmpfs import Tmpfs
from sentry.kernel.fdtable import drain
from sentry.syscalls import attrs, dirs, files, mounts, paths, xattrs
from sentry.vfs import names, walk
from sentry.vfs.dentry import cache, evict
from sentry.vfs.mount import Mount, Path
from sentry.vfs.names import find, real_user
from sentry.vfs.walk import Walk, resolve
from tests.unit.vfs_rig import ROOT, Rig, run, user


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    for path in (b"/a", b"/a/b", b"/mnt"):
        rig.call(paths.sys_mkdir, path, 0o755)
    rig.call(files.sys_creat, b"/a/file", 0o644)
    yield rig
    rig.close()


def known(rig: Rig, path: bytes, follow: bool = True) -> Path | None:
    return find(rig.task, AT_FDCWD, path, follow)


def test_what_was_found_once_is_known_until_it_changes(rig: Rig) -> None:
    place = run(resolve(rig.task, AT_FDCWD, b"/a/file"))
    assert known(rig, b"/a/file") == place
    rig.call(paths.sys_rename, b"/a/file", b"/a/other")
    with pytest.raises(ENOENT):
        known(rig, b"/a/file")
    assert known(rig, b"/a/other") == place
    rig.call(paths.sys_rename, b"/a", b"/c")
    with pytest.raises(ENOENT):
        known(rig, b"/a/other")
    assert known(rig, b"/c/other") == place
    rig.call(attrs.sys_chmod, b"/c", 0)
    assert known(rig.sub(user(7, 7)), b"/c/other") is None  # no permission: for Python to say


def test_an_absent_name_is_known_until_it_is_made(rig: Rig) -> None:
    assert known(rig, b"/later") is None
    assert rig.errno(attrs.sys_stat, b"/later", rig.buffer) == ENOENT.errno
    with pytest.raises(ENOENT):
        known(rig, b"/later")
    rig.call(paths.sys_symlink, b"a/file", b"/later")
    assert known(rig, b"/later") == known(rig, b"/a/file")
    assert known(rig, b"/later", False) != known(rig, b"/a/file")


def test_a_directory_made_here_has_no_unknown_names(rig: Rig) -> None:
    rig.call(paths.sys_mkdir, b"/new", 0o755)
    for name in (b"/new/x", b"/new/x/y"):
        with pytest.raises(ENOENT):
            known(rig, name)
    rig.call(files.sys_creat, b"/new/x", 0o644)
    assert known(rig, b"/new/x") is not None
    rig.call(paths.sys_unlink, b"/new/x")
    rig.call(paths.sys_rename, b"/mnt", b"/new/y")
    assert known(rig, b"/new/y") is not None
    rig.call(paths.sys_rename, b"/new", b"/a/moved")
    with pytest.raises(ENOENT):
        known(rig, b"/a/moved/z")
    drain()
    while evict(len(cache.fifo)):
        pass
    run(resolve(rig.task, AT_FDCWD, b"/a/moved"))
    assert known(rig, b"/a/moved/y") is None  # it was evicted: the file system must be asked
    assert known(rig, b"/a/moved/z") is None


def test_names_made_without_dentries_are_found(rig: Rig) -> None:
    rig.call(paths.sys_mkdir, b"/new", 0o755)
    place = run(resolve(rig.task, AT_FDCWD, b"/new"))
    run(place.inode.mkdir(b"below", 0o40755, 0, 0))
    place.dentry.is_incomplete()
    assert run(resolve(rig.task, AT_FDCWD, b"/new/below")).inode.mode & 0o40000


def test_a_whiteout_in_a_new_directory_is_found(rig: Rig) -> None:
    rig.call(paths.sys_mkdir, b"/new", 0o755)
    rig.call(files.sys_creat, b"/new/x", 0o644)
    rig.call(paths.sys_renameat2, AT_FDCWD, b"/new/x", AT_FDCWD, b"/new/y", RENAME_WHITEOUT)
    assert S_ISCHR(run(resolve(rig.task, AT_FDCWD, b"/new/x")).inode.mode)


def test_attributes_are_known_from_a_stat_until_a_change(rig: Rig) -> None:
    place = run(resolve(rig.task, AT_FDCWD, b"/a"))
    for change in (
        lambda: rig.call(paths.sys_mkdir, b"/a/new", 0o755),
        lambda: rig.call(paths.sys_rmdir, b"/a/new"),
        lambda: rig.call(attrs.sys_chmod, b"/a", 0o700),
        lambda: rig.call(attrs.sys_chown, b"/a", 5, 6),
    ):
        rig.call(attrs.sys_stat, b"/a", rig.buffer)
        assert_same(place)
        assert place.inode.node.fresh
        change()
        assert not place.inode.node.fresh
        assert_same(place)


def test_a_large_directory_of_names_is_found_and_let_go(rig: Rig) -> None:
    gc.collect()
    before = lib.nc_names_count()
    for number in range(3000):
        rig.call(paths.sys_symlink, b"x", b"/a/%d" % number)
    assert lib.nc_names_count() == before + 3000
    assert all(known(rig, b"/a/%d" % number, False) for number in range(0, 3000, 7))
    evict(len(cache.fifo))
    assert lib.nc_names_count() <= before


def test_real_ids_count_for_access() -> None:
    assert real_user(ROOT) is ROOT
    plain = user(7, 7)
    assert real_user(plain) is plain
    assert real_user(ROOT._replace(uid=7)).fsuid == 0 or real_user(ROOT._replace(uid=7)).cap_effective == 0
    assert real_user(plain._replace(fsuid=8)).fsuid == 7


# --- at random


def assert_same(place: Path) -> None:
    """What C would say of the attributes is what Python says."""
    inode = place.dentry.inode
    if inode is None or inode.node is None:
        return
    node, stat = inode.node, inode.stat_now()
    assert stat is not None
    assert (node.mode, node.uid, node.gid, node.btime_ns) == (stat.mode, stat.uid, stat.gid, stat.btime_ns)
    assert node.unmarked == inode.has_no_xattrs()
    assert node.inode == (ffi.NULL if inode.host is None else inode.host.nc)
    if node.fresh and inode.host is None:
        assert (
            node.dev, node.ino, node.nlink, node.rdev, node.size, node.blksize, node.blocks,
            node.atime_ns, node.mtime_ns, node.ctime_ns,
        ) == (
            stat.dev, stat.ino, stat.nlink, stat.rdev, stat.size, stat.blksize, stat.blocks,
            stat.atime_ns, stat.mtime_ns, stat.ctime_ns,
        )  # fmt: skip


def compare(rig: Rig, dirfd: int, path: bytes, follow: bool) -> bool:
    """Whether C knew the path; if so, Python finds the same."""
    found: Path | None = None
    error = 0
    try:
        found = find(rig.task, dirfd, path, follow)
        if found is None:
            return False
    except LinuxError as failure:
        error = failure.errno
    try:
        place = run(Walk(rig.task, dirfd, path).to_end(follow))
        expected = 0 if place.dentry.inode is not None else ENOENT.errno
    except LinuxError as failure:
        place, expected = None, failure.errno
    assert error == expected, path
    if found is not None:
        assert found == place, path
        assert_same(found)
    return True


NAMES = [b"a", b"b", b"c", b"d"]


def random_path(chance: random.Random) -> bytes:
    parts = [chance.choice([*NAMES, *NAMES, b".", b"..", b"m"]) for _ in range(chance.randint(1, 5))]
    slashes = (b"/", b"/", b"//")
    path = b"".join(part + chance.choice(slashes) for part in parts)
    if chance.random() < 0.8:
        path = path.rstrip(b"/")
    return chance.choice((b"", b"/")) + path


def change(rig: Rig, chance: random.Random) -> None:
    path, other = random_path(chance), random_path(chance)
    name = rig.task.mem.put(b"user.x")
    rig.errno(*chance.choice([
        (paths.sys_mkdir, path, chance.choice((0o755, 0o755, 0o700, 0o1777))),
        (paths.sys_mkdir, path, 0o755),
        (files.sys_creat, path, 0o644),
        (paths.sys_symlink, other, path),
        (paths.sys_symlink, other, path),
        (paths.sys_link, path, other),
        (paths.sys_rename, path, other),
        (paths.sys_renameat2, AT_FDCWD, path, AT_FDCWD, other, 2),
        (paths.sys_unlink, path),
        (paths.sys_rmdir, path),
        (attrs.sys_chmod, path, chance.choice((0o755, 0o777, 0o700, 0o1777, 0))),
        (attrs.sys_chown, path, chance.choice((0, 7)), chance.choice((0, 7, 8))),
        (dirs.sys_chdir, path),
        (xattrs.sys_lsetxattr, path, name, name, chance.choice((0, 3)), 0),
        (xattrs.sys_lremovexattr, path, name),
        (attrs.sys_stat, path, rig.buffer),
        (attrs.sys_newfstatat, AT_FDCWD, path, rig.buffer, 0x100),
    ]))  # fmt: skip
    if chance.random() < 0.02:
        try:
            rig.mounts.mount(Mount(Tmpfs(Store(None), mode=0o755)), run(resolve(rig.task, AT_FDCWD, path)))
        except LinuxError:
            pass
    if chance.random() < 0.02:
        rig.errno(mounts.sys_umount2, path, chance.choice((0, 2)))
    if chance.random() < 0.02:
        evict(chance.randint(1, 50))
    if chance.random() < 0.02:
        rig.errno(dirs.sys_chroot, path)
    if chance.random() < 0.02:
        rig.task.fs.root = rig.mounts.root_path


@pytest.mark.parametrize("seed", range(6))
def test_c_finds_what_python_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "find_parent", lambda *_: None)
    chance = random.Random(seed)
    rig = Rig()
    users = [rig, rig.sub(user(7, 7, (8,))), rig.sub(user(9, 9))]
    answered = 0
    for _ in range(1500):
        who = chance.choice((rig, rig, *users))
        change(who, chance)
        if chance.random() < 0.05:
            close_all(who)
        who = chance.choice(users)
        dirfd: Any = AT_FDCWD
        if chance.random() < 0.3:
            try:
                dirfd = who.call(files.sys_open, random_path(chance), 0o200000, 0)
            except LinuxError:
                pass
        for _ in range(3):
            answered += compare(who, dirfd, random_path(chance), chance.random() < 0.5)
    assert answered > 1000
    for each in users:
        close_all(each)
    rig.close()


def close_all(rig: Rig) -> None:
    for fd in [fd for fd, _ in rig.task.fds.items()]:
        rig.task.fds.close(fd)
    drain()


@pytest.mark.parametrize("seed", range(3))
def test_c_finds_the_parent_that_python_finds(seed: int) -> None:
    chance = random.Random(seed)
    rig = Rig()
    answered = 0
    for _ in range(1500):
        change(rig, chance)
        path = random_path(chance)
        mine = Walk(rig.task, AT_FDCWD, path)
        found = names.find_parent(rig.task, mine.start, path)
        if found is None:
            continue
        mine.flags = 1 << 30  # none that means anything, but not 0: C is not asked
        run(mine.to_parent())
        assert (mine.place, mine.last) == found
        answered += 1
    assert answered > 300
    rig.close()
