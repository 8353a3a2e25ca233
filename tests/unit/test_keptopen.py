"""Which host descriptors stay open: the youngest, and those in use."""

from __future__ import annotations

from sentry.fs.keptopen import LOOKS, KeptOpen, kept_open


class Inode:
    def __init__(self) -> None:
        self.used = False
        self.closed = False

    def close_idle(self) -> bool:
        self.closed = not self.used
        return self.closed


def test_the_oldest_that_nobody_uses_are_closed() -> None:
    kept = KeptOpen(lambda: 10)
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
    kept = KeptOpen(lambda: 1)
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
    kept = KeptOpen(lambda: 1)
    for _ in range(5):
        kept.add(Inode())
    last = Inode()
    kept.add(last)
    assert not last.closed


def test_the_limit_leaves_descriptors_for_others() -> None:
    import resource

    assert 0 < kept_open._most() <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
