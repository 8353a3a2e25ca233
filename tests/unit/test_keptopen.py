"""Which host descriptors stay open: the youngest, and those in use; and how many there may be."""

from __future__ import annotations

import os

import pytest

from sentry.errors import ENFILE
from sentry.fs import keptopen
from sentry.fs.keptopen import LOOKS, MOST, SHARE, KeptOpen


class Inode:
    def __init__(self) -> None:
        self.used = False
        self.closed = False

    def close_idle(self) -> bool:
        self.closed = not self.used
        return self.closed


def test_the_oldest_that_nobody_uses_are_closed() -> None:
    kept = KeptOpen(lambda: 10 * SHARE)
    inodes = [Inode() for _ in range(10)]
    inodes[0].used = True
    for inode in inodes:
        kept.add(inode)
    assert not any(inode.closed for inode in inodes)
    more = [Inode() for _ in range(3)]
    for inode in more:
        kept.add(inode)
    assert [inode.closed for inode in inodes] == [False, True, True, True] + [False] * 6
    assert not any(inode.closed for inode in more)


def test_many_in_use_are_not_all_looked_at_each_time() -> None:
    kept = KeptOpen(lambda: SHARE)
    inodes = [Inode() for _ in range(100)]
    looks = 0

    for inode in inodes:
        inode.used = True
        kept.add(inode)
    for inode in inodes:
        inode.used = False
    kept.add(Inode())
    looks = sum(inode.closed for inode in inodes)
    assert looks == LOOKS


def test_the_dead_are_passed_over() -> None:
    kept = KeptOpen(lambda: SHARE)
    for _ in range(5):
        kept.add(Inode())
    last = Inode()
    kept.add(last)
    assert not last.closed


def test_there_are_no_more_than_is_useful() -> None:
    kept = KeptOpen(lambda: 1 << 20)
    inodes = [Inode() for _ in range(MOST + 1)]
    for inode in inodes:
        kept.add(inode)
    assert inodes[0].closed and not inodes[1].closed


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@pytest.fixture(autouse=True)
def one_in_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keptopen, "RESERVE", 1)


def test_a_low_descriptor_is_admitted_as_it_is() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    inode = Inode()
    kept = KeptOpen(lambda: fd + 2)
    kept.add(inode)
    assert kept.admit(fd) == fd and _is_open(fd) and not inode.closed
    os.close(fd)


class HighInode(Inode):
    """Has the last descriptor that guests may have."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self.fd = fd

    def close_idle(self) -> bool:
        if not super().close_idle():
            return False
        os.close(self.fd)
        return True


def _nearly_full() -> tuple[KeptOpen, HighInode, int]:
    """All of which guests may have is open but for one; one above that."""
    last, above = sorted(os.open("/dev/null", os.O_RDONLY) for _ in range(2))
    kept = KeptOpen(lambda: above + 1)
    inode = HighInode(last)
    kept.add(inode)
    return kept, inode, above


def test_the_idle_make_room() -> None:
    kept, inode, above = _nearly_full()
    assert kept.admit(above) == inode.fd
    assert inode.closed and not _is_open(above)
    os.close(inode.fd)


def test_files_in_use_leave_descriptors_for_others() -> None:
    kept, inode, above = _nearly_full()
    inode.used = True
    with pytest.raises(ENFILE):
        kept.admit(above)
    assert not _is_open(above)
    inode.used = False
    with pytest.raises(ENFILE):  # the host had none at all: this call fails, and the next one has room
        kept.admit(-1)
    assert inode.closed
