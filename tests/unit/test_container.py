"""sentry/container.py without a gofer: mounts in the order given, points that are missing, covers, descriptors.

Covers: sentry.fs.tmpcopyup
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sentry import container
from sentry.abi.linux import AT_FDCWD, MS_NOSUID, MS_RDONLY, MS_RELATIME, O_CREAT, O_RDONLY, O_WRONLY, S_IFDIR, S_IFMT
from sentry.boot import BootError, MountConfig, ProcessConfig, SandboxConfig
from sentry.container import Container, _Builder, _cover, _mount, _working_directory
from sentry.errors import EROFS, LinuxError
from sentry.fs.store import Store
from sentry.fs.types import register_types
from sentry.kernel.fdtable import drain, release_unused
from sentry.vfs.open import open_path
from sentry.vfs.walk import resolve
from tests.unit.kernel_rig import KernelRig
from tests.unit.vfs_rig import run


class World(KernelRig):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kernel.store = Store(None)
        register_types(self.kernel)
        self.task = self.first_task()
        self.builder: Any = _Builder(self.kernel, self.mounts.root_path, self.mounts)

    def mount(self, destination: bytes, fstype: str = "tmpfs", flags: int = 0, data: bytes = b"") -> None:
        run(_mount(self.builder, MountConfig(destination, fstype, None, flags, data), None))

    def at(self, path: bytes) -> Any:
        return run(resolve(self.builder, AT_FDCWD, path))

    def write(self, path: bytes) -> None:
        file = run(open_path(self.task, AT_FDCWD, path, O_CREAT | O_WRONLY, 0o644))
        run(file.write(self.task, b"secret"))
        release_unused(file)

    def read(self, path: bytes) -> bytes:
        file = run(open_path(self.task, AT_FDCWD, path, O_RDONLY, 0))
        data = run(file.read(self.task, 100))
        release_unused(file)
        return data


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.builder.fs = None
    made.close()
    drain()


def test_a_later_mount_covers_an_earlier_one(world: World) -> None:
    world.mount(b"/a")
    world.mount(b"/a/b", flags=MS_NOSUID)
    inner = world.at(b"/a/b").mount
    assert inner.parent is world.at(b"/a").mount and inner.flags & MS_NOSUID
    world.mount(b"/a")
    with pytest.raises(LinuxError):
        world.at(b"/a/b")


def test_missing_mount_points_are_made_with_their_parents(world: World) -> None:
    world.mount(b"/x/y/z")
    assert world.at(b"/x/y").inode.mode & 0o7777 == 0o755
    assert world.at(b"/x/y").mount is world.mounts.root and world.at(b"/x/y/z").mount is not world.mounts.root


def test_dev_is_a_tmpfs(world: World) -> None:
    world.mount(b"/dev", "dev")
    assert world.at(b"/dev").mount.fs.name == b"tmpfs"


def test_a_tmpfs_takes_over_what_it_covers(world: World) -> None:
    world.mount(b"/data/deep/er")
    world.write(b"/data/deep/file")
    world.at(b"/data").inode.mode = S_IFDIR | 0o750
    for copy_up in (True, False):
        run(_mount(world.builder, MountConfig(b"/data", "tmpfs", source=b"mine", copy_up=copy_up), None))
        place = world.at(b"/data")
        assert (place.inode.mode, place.mount.source, place.mount.flags) == (S_IFDIR | 0o750, b"mine", MS_RELATIME)
        if copy_up:
            assert world.read(b"/data/deep/file") == b"secret"
            assert world.at(b"/data/deep/er").mount is place.mount
    with pytest.raises(LinuxError):
        world.at(b"/data/deep")  # the last one is plain


def test_what_is_taken_over_must_fit(world: World) -> None:
    world.write(b"/file")
    with pytest.raises(BootError, match="ENOSPC"):
        run(_mount(world.builder, MountConfig(b"/", "tmpfs", data=b"nr_inodes=1", copy_up=True), None))


def test_a_missing_working_directory_is_made(world: World) -> None:
    run(_working_directory(world.builder, b"/srv/app"))
    assert world.at(b"/srv/app").inode.mode & 0o7777 == 0o755
    world.write(b"/file")
    run(_working_directory(world.builder, b"/file/below"))  # the first task's chdir says what is wrong


def test_a_type_nobody_knows_and_bad_options_name_the_place(world: World) -> None:
    for fstype, data in (("nonsense", b""), ("tmpfs", b"size=many")):
        with pytest.raises(BootError, match=f'error mounting "{fstype}" to rootfs at "/m"'):
            world.mount(b"/m", fstype, data=data)


def test_a_read_only_place_can_be_read_but_not_written(world: World) -> None:
    world.mount(b"/data")
    world.write(b"/data/file")
    run(_cover(world.builder, b"/data", True))
    assert world.read(b"/data/file") == b"secret"
    with pytest.raises(EROFS):
        world.write(b"/data/file")
    assert world.at(b"/data").mount.flags & MS_RDONLY


def test_a_read_only_place_keeps_its_other_flags(world: World) -> None:
    world.mount(b"/data", flags=MS_NOSUID)
    run(_cover(world.builder, b"/data", True))
    assert world.at(b"/data").mount.flags & (MS_RDONLY | MS_NOSUID) == MS_RDONLY | MS_NOSUID


def test_masked_places_are_empty(world: World) -> None:
    world.mount(b"/data")
    world.write(b"/data/file")
    run(_cover(world.builder, b"/data/file", False))
    assert world.read(b"/data/file") == b""
    world.write(b"/data/file")  # into /dev/null, as under runc
    assert world.read(b"/data/file") == b""
    run(_cover(world.builder, b"/data", False))
    assert world.at(b"/data").inode.mode & S_IFMT == S_IFDIR
    with pytest.raises(LinuxError):
        world.at(b"/data/file")
    with pytest.raises(EROFS):
        world.write(b"/data/new")


def test_a_missing_place_needs_no_cover(world: World) -> None:
    before = len(world.mounts.mounts())
    for readable in (True, False):
        run(_cover(world.builder, b"/nowhere", readable))
    assert len(world.mounts.mounts()) == before


def test_a_sysctl_that_cannot_be_set_is_an_error_of_the_container(world: World) -> None:
    with pytest.raises(BootError, match=r"sysctl no\.such=1"):
        container._sysctls(world.kernel, {"no.such": "1"})


def test_equal_descriptors_become_one_file(world: World) -> None:
    config = SandboxConfig("c", ProcessConfig([b"sh"], []))
    made = Container(world.kernel, config, world.mounts, SimpleNamespace())  # type: ignore[arg-type]
    read, write = os.pipe()
    files = made.stdio_files(False, [read, write, write], [])
    assert sorted(files) == [0, 1, 2]
    assert files[1] is files[2] and files[0] is not files[1]
    extra_r, extra_w = os.pipe()
    files |= made.exec_files(False, {7: extra_r, 9: extra_w})
    assert sorted(files) == [0, 1, 2, 7, 9]
    for file in set(files.values()):
        release_unused(file)
    for fd in (read, write, extra_r, extra_w):
        with pytest.raises(OSError):
            os.fstat(fd)  # they were the files', and are closed with them
