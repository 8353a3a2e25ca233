"""sentry/syscalls/oldfs.py: file system types by number, and what is free on a device."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from errno import EFAULT, EINVAL

import pytest

from sentry.fs import registry
from sentry.syscalls.oldfs import COUNT, INDEX_OF, NAME_OF, sys_sysfs, sys_ustat
from tests.unit.vfs_rig import Rig


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(registry, "_types", {b"tmpfs": None, b"proc": None})
    made = Rig()
    yield made
    made.close()


def test_types_have_numbers(rig: Rig) -> None:
    assert rig.call(sys_sysfs, COUNT, 0, 0) == 2
    assert rig.call(sys_sysfs, INDEX_OF, rig.task.mem.put(b"proc"), 0) == 1
    assert rig.call(sys_sysfs, NAME_OF, 1, rig.buffer) == 0
    assert rig.bytes(5) == b"proc\0"
    assert rig.errno(sys_sysfs, INDEX_OF, rig.task.mem.put(b"ext9"), 0) == EINVAL
    assert rig.errno(sys_sysfs, NAME_OF, 2, rig.buffer) == EINVAL
    assert rig.errno(sys_sysfs, 4, 0, 0) == EINVAL
    assert rig.errno(sys_sysfs, NAME_OF, 0, 0) == EFAULT


def test_a_device_says_what_is_free(rig: Rig) -> None:
    assert rig.call(sys_ustat, rig.fs.dev, rig.buffer) is None
    free, inodes, *names = struct.unpack("<i4xQ6s6s4x", rig.bytes(32))
    assert free > 0 and inodes >= 0 and names == [bytes(6), bytes(6)]
    assert rig.errno(sys_ustat, rig.fs.dev + 99, rig.buffer) == EINVAL
