"""inotify(7) beside the host's: the same calls, the same events.

Covers: sentry.fs.inotify, sentry.vfs.notify
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from struct import unpack_from
from typing import Any

import pytest

from native import ffi
from sentry.abi.linux import (
    AT_FDCWD,
    IN_ALL_EVENTS,
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_MODIFY,
    IN_MOVE,
    IN_NONBLOCK,
    IN_ONESHOT,
    IN_ONLYDIR,
)
from sentry.errors import EAGAIN, EEXIST, EINVAL, ENOTDIR
from sentry.fs.io import write_iov
from sentry.kernel.fdtable import drain
from sentry.kernel.sched import Scheduler
from sentry.syscalls import attrs, files, inotify, paths
from sentry.vfs import notify
from tests.unit.vfs_rig import Rig, run

libc = ctypes.CDLL(None, use_errno=True)
BYTE = ffi.new("char[]", b"x")
Events = list[tuple[int, int, bool, bytes]]


def events(data: bytes) -> Events:
    """(wd, mask, has a cookie, name)"""
    out = []
    at = 0
    while at < len(data):
        wd, mask, cookie, size = unpack_from("<iIII", data, at)
        out.append((wd, mask, bool(cookie), data[at + 16 : at + 16 + size].rstrip(b"\0")))
        assert size % 16 == 0
        at += 16 + size
    return out


class Host:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.fd = libc.inotify_init1(IN_NONBLOCK)

    def path(self, path: bytes) -> bytes:
        return os.fsencode(self.root) + path

    def watch(self, path: bytes, mask: int) -> int:
        return libc.inotify_add_watch(self.fd, self.path(path), ctypes.c_uint32(mask))

    def read(self) -> Events:
        try:
            return events(os.read(self.fd, 65536))
        except BlockingIOError:
            return []

    def do(self, name: str, *args: Any) -> None:
        if name == "write":
            fd = os.open(self.path(args[0]), os.O_WRONLY | os.O_CREAT, 0o644)
            os.write(fd, b"x")
            os.close(fd)
        elif name in ("rename", "link"):
            getattr(os, name)(self.path(args[0]), self.path(args[1]))
        else:
            getattr(os, name)(self.path(args[0]), *args[1:])


class Ours:
    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.fd = rig.call(inotify.sys_inotify_init1, IN_NONBLOCK)
        self.file = rig.task.fds.get(self.fd)

    def watch(self, path: bytes, mask: int) -> int:
        return self.rig.call(inotify.sys_inotify_add_watch, self.fd, path, mask)

    def read(self) -> Events:
        try:
            return events(run(self.file.read(self.rig.task, 65536)))
        except EAGAIN:
            return []

    def do(self, name: str, *args: Any) -> None:
        rig = self.rig
        if name == "write":
            fd = rig.call(files.sys_open, args[0], os.O_WRONLY | os.O_CREAT, 0o644)
            run(write_iov(rig.task, rig.task.fds.get(fd), [(int(ffi.cast("uintptr_t", BYTE)), 1)]))
            rig.task.fds.close(fd)
        elif name in ("chmod",):
            rig.call(attrs.sys_chmod, *args)
        elif name == "truncate":
            rig.call(files.sys_truncate, *args)
        elif name == "mkdir":
            rig.call(paths.sys_mkdir, args[0], 0o755)
        else:
            rig.call(getattr(paths, "sys_" + name), *args)
        drain()


@pytest.fixture
def both() -> Iterator[tuple[Host, Ours]]:
    Scheduler()
    root = Path("/dev/shm" if os.path.isdir("/dev/shm") else "/tmp") / f"inotify-{os.getpid()}"
    root.mkdir()
    rig = Rig()
    ours, host = Ours(rig), Host(root)
    yield host, ours
    os.close(host.fd)
    shutil.rmtree(root)
    del ours
    rig.close()
    drain()
    assert notify.watching == 0


@pytest.mark.parametrize(
    "calls",
    [
        [("write", b"/d/f"), ("write", b"/d/f"), ("unlink", b"/d/f")],
        [("mkdir", b"/d/sub"), ("rmdir", b"/d/sub")],
        [
            ("write", b"/d/f"),
            ("rename", b"/d/f", b"/d/g"),
            ("rename", b"/d/g", b"/h"),
            ("rename", b"/h", b"/d/i"),
        ],
        [("write", b"/d/f"), ("chmod", b"/d/f", 0o600), ("chmod", b"/d", 0o700)],
        [("write", b"/d/f"), ("truncate", b"/d/f", 0)],
        [("write", b"/d/f"), ("link", b"/d/f", b"/d/l"), ("unlink", b"/d/f")],
        [("symlink", b"x", b"/d/l"), ("unlink", b"/d/l")],
        [("rename", b"/d", b"/e"), ("write", b"/e/f"), ("unlink", b"/e/f"), ("rmdir", b"/e")],
    ],
)
def test_a_watched_directory_tells_what_the_hosts_tells(both: tuple[Host, Ours], calls: list[Any]) -> None:
    host, ours = both
    for side in both:
        if isinstance(side, Host):
            os.mkdir(side.path(b"/d"))
        else:
            side.do("mkdir", b"/d")
        assert side.watch(b"/d", IN_ALL_EVENTS) == 1
    for name, *args in calls:
        if name == "symlink":
            os.symlink(args[0], host.path(args[1]))
        else:
            host.do(name, *args)
        ours.do(name, *args)
        assert ours.read() == host.read(), (name, args)


def test_a_watched_file_tells_what_the_hosts_tells(both: tuple[Host, Ours]) -> None:
    host, ours = both
    for side in both:
        side.do("write", b"/f")
        assert side.watch(b"/f", IN_ALL_EVENTS) == 1
    for name, *args in (
        ("write", b"/f"), ("chmod", b"/f", 0o600), ("link", b"/f", b"/g"), ("rename", b"/f", b"/h"),
        ("unlink", b"/g"), ("unlink", b"/h"),
    ):  # fmt: skip
        host.do(name, *args)
        ours.do(name, *args)
        assert ours.read() == host.read(), (name, args)


def test_masks_are_replaced_added_and_checked(both: tuple[Host, Ours]) -> None:
    _, ours = both
    ours.do("write", b"/f")
    assert ours.watch(b"/f", IN_ATTRIB) == 1
    assert ours.watch(b"/f", IN_MODIFY | IN_MASK_ADD) == 1
    ours.do("chmod", b"/f", 0o600)
    assert ours.read() == [(1, IN_ATTRIB, False, b"")]
    for mask, error in (
        (IN_MODIFY | IN_MASK_CREATE, EEXIST),
        (IN_MODIFY | IN_ONLYDIR, ENOTDIR),
        (0, EINVAL),
        (IN_MODIFY | IN_MASK_ADD | IN_MASK_CREATE, EINVAL),
    ):
        with pytest.raises(error):
            ours.watch(b"/f", mask)
    assert ours.rig.errno(inotify.sys_inotify_rm_watch, ours.file, 7) == EINVAL.errno
    assert ours.rig.errno(inotify.sys_inotify_rm_watch, ours.file, 1) == 0
    assert [mask for _, mask, _, _ in ours.read()] == [0x8000]
    assert notify.watching == 0


def test_oneshot_a_small_buffer_and_equal_neighbours(both: tuple[Host, Ours]) -> None:
    _, ours = both
    ours.do("mkdir", b"/d")
    ours.watch(b"/d", IN_CREATE | IN_DELETE | IN_MOVE)
    ours.do("write", b"/d/a")
    with pytest.raises(EINVAL):
        run(ours.file.read(ours.rig.task, 31))
    assert len(run(ours.file.read(ours.rig.task, 32))) == 32
    ours.do("write", b"/f")
    ours.watch(b"/f", IN_ATTRIB | IN_ONESHOT)
    ours.do("chmod", b"/f", 0o600)
    ours.do("chmod", b"/f", 0o644)
    assert [mask for _, mask, _, _ in ours.read()] == [IN_ATTRIB, 0x8000]
    assert ours.rig.errno(attrs.sys_newfstatat, AT_FDCWD, b"/f", ours.rig.buffer, 0) == 0
