"""mount(2), umount2(2), pivot_root(2) and read-only, nodev, noexec mounts."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from sentry.abi.linux import (
    MNT_DETACH,
    MS_BIND,
    MS_MOVE,
    MS_NODEV,
    MS_NOEXEC,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_REMOUNT,
    MS_SHARED,
    S_IFCHR,
)
from sentry.errors import EACCES, EBUSY, EINVAL, ELOOP, ENODEV, ENOSPC, ENOTDIR, ENXIO, EPERM, EROFS, EXDEV
from sentry.fs import registry
from sentry.fs.store import Store
from sentry.fs.tmpfs import factory
from sentry.kernel.fdtable import drain
from sentry.syscalls import attrs, dirs, files, mounts, paths
from sentry.vfs import mount as vfs_mount
from tests.unit.vfs_rig import Rig, run, user


@pytest.fixture
def rig() -> Iterator[Rig]:
    registry.register(b"tmpfs", factory(Store(None)))
    rig = Rig()
    for path in (b"/a", b"/a/in", b"/b", b"/m"):
        rig.call(paths.sys_mkdir, path, 0o755)
    rig.task.fds.close(rig.call(files.sys_creat, b"/file", 0o755))
    yield rig
    rig.close()


def mount(rig: Rig, source: bytes, target: bytes, kind: bytes, flags: int = 0, data: bytes = b"") -> int:
    mem = rig.task.mem
    addresses = []
    at = mem.BASE
    for text in (source, kind, data):
        mem.write(at, text + b"\0")
        addresses.append(at)
        at += 4096
    return rig.errno(mounts.sys_mount, addresses[0], target, addresses[1], flags, addresses[2])


def exists(rig: Rig, path: bytes) -> bool:
    return rig.errno(attrs.sys_stat, path, rig.buffer) == 0


def test_a_tmpfs_covers_and_umount_uncovers(rig: Rig) -> None:
    assert mount(rig, b"none", b"/a", b"tmpfs", 0, b"size=64k,mode=700") == 0
    assert not exists(rig, b"/a/in")
    assert rig.errno(paths.sys_rmdir, b"/a") == EBUSY.errno
    assert rig.errno(paths.sys_rename, b"/a", b"/z") == EBUSY.errno
    assert rig.errno(mounts.sys_umount2, b"/a", 0) == 0
    assert exists(rig, b"/a/in")
    assert rig.errno(mounts.sys_umount2, b"/a", 0) == EINVAL.errno
    assert rig.errno(mounts.sys_umount2, b"/", 0) == EINVAL.errno


def test_errors_of_mount(rig: Rig) -> None:
    assert mount(rig, b"none", b"/a", b"nosuch") == ENODEV.errno
    assert mount(rig, b"none", b"/a", b"tmpfs", 0, b"nosuch=1") == EINVAL.errno
    assert mount(rig, b"none", b"/file", b"tmpfs") == ENOTDIR.errno
    assert mount(rig, b"/file", b"/a", b"", MS_BIND) == ENOTDIR.errno
    other = rig.sub(user(1000, 1000))
    assert mount(other, b"none", b"/a", b"tmpfs") == EPERM.errno
    assert other.errno(mounts.sys_umount2, b"/a", 0) == EPERM.errno


def test_umount_is_refused_while_a_file_is_open_or_somebody_is_inside(rig: Rig) -> None:
    mount(rig, b"none", b"/m", b"tmpfs")
    fd = rig.call(files.sys_creat, b"/m/f", 0o644)
    assert rig.errno(mounts.sys_umount2, b"/m", 0) == EBUSY.errno
    rig.task.fds.close(fd)
    drain()
    rig.call(dirs.sys_chdir, b"/m")
    assert rig.errno(mounts.sys_umount2, b"/m", 0) == EBUSY.errno
    rig.call(dirs.sys_chdir, b"/")
    assert rig.errno(mounts.sys_umount2, b"/m", 0) == 0


def test_a_detached_mount_lives_until_its_last_file_is_closed(rig: Rig) -> None:
    mount(rig, b"none", b"/m", b"tmpfs")
    fd = rig.call(files.sys_creat, b"/m/f", 0o644)
    assert rig.errno(mounts.sys_umount2, b"/m", MNT_DETACH) == 0
    assert run(rig.task.fds.get(fd).write(rig.task, b"still")) == 5
    rig.task.fds.close(fd)


def test_bind_and_recursive_bind(rig: Rig) -> None:
    mount(rig, b"none", b"/a/in", b"tmpfs")
    rig.call(paths.sys_mkdir, b"/a/in/deep", 0o755)
    assert mount(rig, b"/a", b"/b", b"", MS_BIND) == 0
    assert exists(rig, b"/b/in") and not exists(rig, b"/b/in/deep")
    rig.call(mounts.sys_umount2, b"/b", 0)
    assert mount(rig, b"/a", b"/b", b"", MS_BIND | MS_REC) == 0
    assert exists(rig, b"/b/in/deep")
    assert rig.errno(paths.sys_rename, b"/b/in/deep", b"/a/in/moved") == EXDEV.errno
    assert rig.errno(mounts.sys_umount2, b"/b", 0) == EBUSY.errno
    assert rig.errno(mounts.sys_umount2, b"/b", MNT_DETACH) == 0
    assert exists(rig, b"/a/in/deep")


def test_a_file_can_be_bound_over_a_file(rig: Rig) -> None:
    rig.call(files.sys_creat, b"/target", 0o600)
    assert mount(rig, b"/file", b"/target", b"", MS_BIND) == 0
    assert rig.errno(paths.sys_unlink, b"/target") == EBUSY.errno
    assert rig.errno(paths.sys_access, b"/target", 1) == 0


def test_read_only_bind_refuses_every_change(rig: Rig) -> None:
    mount(rig, b"/a", b"/b", b"", MS_BIND)
    rig.call(files.sys_creat, b"/a/f", 0o644)
    assert mount(rig, b"none", b"/b", b"", MS_BIND | MS_REMOUNT | MS_RDONLY) == 0
    for refused in (
        (files.sys_open, b"/b/f", os.O_WRONLY, 0),
        (files.sys_open, b"/b/f", os.O_RDONLY | os.O_TRUNC, 0),
        (files.sys_creat, b"/b/new", 0o644),
        (files.sys_truncate, b"/b/f", 0),
        (paths.sys_mkdir, b"/b/new", 0o755),
        (paths.sys_unlink, b"/b/f"),
        (paths.sys_unlink, b"/b/nothing"),
        (paths.sys_rmdir, b"/b/in"),
        (paths.sys_rename, b"/b/f", b"/b/g"),
        (paths.sys_access, b"/b/f", 2),
        (attrs.sys_chmod, b"/b/f", 0o600),
        (attrs.sys_chown, b"/b/f", 1, 1),
        (attrs.sys_utime, b"/b/f", 0),
    ):
        assert rig.errno(*refused) == EROFS.errno, refused
    assert rig.errno(paths.sys_mkdir, b"/b/in", 0o755) == 17
    assert rig.errno(files.sys_open, b"/b/f", os.O_RDONLY | os.O_CREAT, 0o644) == 0
    assert rig.errno(files.sys_creat, b"/a/new", 0o644) == 0
    assert mount(rig, b"none", b"/b", b"", MS_BIND | MS_REMOUNT) == 0
    assert rig.errno(files.sys_open, b"/b/f", os.O_WRONLY, 0) == 0


def test_a_read_only_file_system_is_read_only_through_all_its_mounts(rig: Rig) -> None:
    mount(rig, b"none", b"/m", b"tmpfs")
    mount(rig, b"/m", b"/b", b"", MS_BIND)
    assert mount(rig, b"none", b"/m", b"", MS_REMOUNT | MS_RDONLY) == 0
    assert rig.errno(files.sys_creat, b"/b/new", 0o644) == EROFS.errno


def test_nodev_and_noexec(rig: Rig) -> None:
    mount(rig, b"none", b"/m", b"tmpfs", MS_NODEV | MS_NOEXEC)
    rig.call(paths.sys_mknod, b"/m/dev", S_IFCHR | 0o666, 0x9999)
    rig.call(paths.sys_mknod, b"/dev", S_IFCHR | 0o666, 0x9999)
    assert rig.errno(files.sys_open, b"/m/dev", os.O_RDONLY, 0) == EACCES.errno
    assert rig.errno(files.sys_open, b"/dev", os.O_RDONLY, 0) == ENXIO.errno
    rig.call(files.sys_creat, b"/m/program", 0o755)
    assert rig.errno(paths.sys_access, b"/m/program", 1) == EACCES.errno


def test_move_and_its_loops(rig: Rig) -> None:
    mount(rig, b"none", b"/m", b"tmpfs")
    rig.call(paths.sys_mkdir, b"/m/here", 0o755)
    assert mount(rig, b"/m", b"/m/here", b"", MS_MOVE) == ELOOP.errno
    assert mount(rig, b"/a", b"/b", b"", MS_MOVE) == EINVAL.errno
    assert mount(rig, b"/m", b"/b", b"", MS_MOVE) == 0
    assert exists(rig, b"/b/here") and not exists(rig, b"/m/here")


def test_propagation_flags_are_accepted_one_at_a_time(rig: Rig) -> None:
    assert mount(rig, b"none", b"/", b"", MS_PRIVATE | MS_REC) == 0
    assert mount(rig, b"none", b"/", b"", MS_PRIVATE | MS_SHARED) == EINVAL.errno
    assert mount(rig, b"none", b"/a", b"", MS_SHARED) == EINVAL.errno


def test_pivot_root_moves_everybody(rig: Rig) -> None:
    mount(rig, b"none", b"/m", b"tmpfs")
    rig.call(paths.sys_mkdir, b"/m/old", 0o755)
    assert rig.errno(mounts.sys_pivot_root, b"/a", b"/a/in") == EBUSY.errno
    assert rig.errno(mounts.sys_pivot_root, b"/m", b"/b") == EBUSY.errno
    assert rig.errno(mounts.sys_pivot_root, b"/m", b"/m/old") == 0
    assert exists(rig, b"/old/a/in") and not exists(rig, b"/a")
    assert rig.errno(mounts.sys_umount2, b"/old", MNT_DETACH) == 0
    assert not exists(rig, b"/old/a")


def test_a_copied_namespace_changes_by_itself(rig: Rig) -> None:
    mount(rig, b"none", b"/m", b"tmpfs")
    rig.call(paths.sys_mkdir, b"/m/in", 0o755)
    other = rig.sub(rig.task.creds)
    other.mounts, became = rig.mounts.copy()
    other.task.mounts = other.mounts
    other.task.fs.moved(became)
    assert exists(other, b"/m/in")
    assert other.errno(mounts.sys_umount2, b"/m", MNT_DETACH) == 0
    assert exists(rig, b"/m/in") and not exists(other, b"/m/in")


def peers(rig: Rig) -> int:
    group = rig.task.mounts.root.group
    assert group is not None
    return len(group.members)


def test_a_shared_bind_that_fails_leaves_nothing_with_its_peers(rig: Rig) -> None:
    assert mount(rig, b"none", b"/", b"", MS_SHARED) == 0
    before = peers(rig)
    assert mount(rig, b"/a", b"/file", b"", MS_BIND) == ENOTDIR.errno
    assert mount(rig, b"/a", b"/file", b"", MS_BIND | MS_REC) == ENOTDIR.errno
    assert peers(rig) == before


def test_mounts_on_mounts_as_deep_as_anybody_likes_and_no_more_than_allowed(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vfs_mount, "MOUNT_MAX", 3000)
    count = 1
    while (error := mount(rig, b"/a", b"/a", b"", MS_BIND)) == 0:
        count += 1
        assert count <= 3000
    assert error == ENOSPC.errno
    assert len(rig.task.mounts.mounts()) == 3000
    assert rig.call(mounts.sys_umount2, b"/a", 0) is None
    assert mount(rig, b"/a", b"/b", b"", MS_BIND) == 0


def test_trees_mounted_into_themselves_come_to_an_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vfs_mount, "MOUNT_MAX", 2000)
    assert mount(rig, b"none", b"/", b"", MS_SHARED) == 0
    for _ in range(20):
        if error := mount(rig, b"/", b"/m", b"", MS_BIND | MS_REC):
            break
    assert error == ENOSPC.errno
    here = rig.task.mounts
    assert len(here.mounts()) <= 2000
    assert rig.call(mounts.sys_umount2, b"/m", MNT_DETACH) is None
    assert peers(rig) == len([each for each in here.mounts() if each.group is here.root.group])
