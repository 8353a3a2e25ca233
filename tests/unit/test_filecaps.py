"""sentry/vfs/filecaps.py: what security.capability says, and when a file loses it."""

from __future__ import annotations

from struct import pack
from types import SimpleNamespace
from typing import Any

import pytest

from sentry.errors import EINVAL, ENODATA
from sentry.fs.store import Store
from sentry.fs.tmpfs import Tmpfs, TmpfsFile
from sentry.vfs import filecaps
from sentry.vfs.filecaps import NAME, FileCaps, caps_were_set, check_value, drop_caps, file_caps, parse
from sentry.vfs.inode import REVALIDATE

ONE, TWO, THREE = 0x01000000, 0x02000000, 0x03000000
TASK: Any = SimpleNamespace()


def now(coro: Any) -> Any:
    """Run what never waits."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pack("<III", ONE | 1, 0x21, 0x3), FileCaps(0x21, 0x3, True)),
        (pack("<IIIII", TWO, 0x21, 0x3, 1, 2), FileCaps(1 << 32 | 0x21, 2 << 32 | 0x3, False)),
        (pack("<IIIIII", THREE | 1, 1, 0, 0, 0, 0), FileCaps(1, 0, True)),
        (pack("<IIIIII", THREE | 1, 1, 0, 0, 0, 1000), None),  # another namespace's root
    ],
)
def test_every_revision_is_understood(data: bytes, expected: FileCaps | None) -> None:
    assert parse(data) == expected


@pytest.mark.parametrize(
    "data",
    [b"", b"\1\0", pack("<II", TWO, 1), pack("<IIIIII", TWO, 1, 0, 0, 0, 0), pack("<III", 0x04000000, 1, 1), bytes(20)],
)
def test_what_is_malformed_is_an_error(data: bytes) -> None:
    with pytest.raises(EINVAL):
        parse(data)


def test_the_first_revision_is_read_but_not_set() -> None:
    check_value(pack("<IIIII", TWO, 1, 0, 0, 0))
    with pytest.raises(EINVAL):
        check_value(pack("<III", ONE, 1, 1))


class Asked(TmpfsFile):
    """A file that counts how often its attribute is asked for."""

    __slots__ = ("asked", "told")

    def __init__(self, fs: Tmpfs) -> None:
        super().__init__(fs, 0o100755, 0, 0)
        self.asked = self.told = 0

    async def getxattr(self, task: Any, name: bytes) -> bytes:
        self.asked += 1
        return await super().getxattr(task, name)

    def changed(self) -> None:
        super().changed()
        self.told += 1


@pytest.fixture
def file() -> Asked:
    return Asked(Tmpfs(Store(None)))


def test_a_tree_that_nobody_else_changes_is_asked_once(file: Asked) -> None:
    assert now(file_caps(TASK, file)) is None and now(file_caps(TASK, file)) is None
    assert file.asked == 1 and file.told == 0
    file.fs.cache_policy = REVALIDATE
    now(file_caps(TASK, file))
    assert file.asked == 2


def test_c_hears_of_capabilities_and_of_their_end(file: Asked) -> None:
    now(file.setxattr(TASK, NAME, pack("<IIIII", TWO, 1, 0, 0, 0), 0))
    told = file.told
    now(caps_were_set(TASK, file))
    assert file.caps == FileCaps(1, 0, False) and file.told == told + 1
    now(drop_caps(TASK, file))
    assert file.caps is None and file.told > told + 1
    with pytest.raises(ENODATA):
        now(file.getxattr(TASK, NAME))
    now(drop_caps(TASK, file))  # none any more: nothing happens


def test_the_name_is_linux_s() -> None:
    assert filecaps.NAME == b"security.capability"
