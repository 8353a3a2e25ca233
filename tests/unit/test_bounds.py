"""What a guest can make grow in the sentry has an end, and nothing recurses as deep as a guest likes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sentry.abi.linux import EPOLLIN, F_UNLCK, F_WRLCK
from sentry.errors import EINVAL, ELOOP, ENOLCK, ENOSPC
from sentry.fs import locks
from sentry.fs.epoll import MAX_WAYS_UP, Epoll
from sentry.fs.eventfd import EventFd
from sentry.fs.regular import XATTRS_MAX
from sentry.fs.store import Store
from sentry.fs.tmpfs import Tmpfs
from sentry.kernel.sched import Scheduler
from sentry.vfs.dentry import Dentry
from tests.unit.vfs_rig import run

TASK: Any = None


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Tmpfs]:
    dirfd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield Tmpfs(Store(dirfd))
    os.close(dirfd)


def test_timers_that_are_cancelled_do_not_stay_until_their_time() -> None:
    scheduler = Scheduler(lambda: 0)
    kept = scheduler.call_at(1 << 60, lambda: None)
    for _ in range(10_000):
        scheduler.call_at(1 << 59, lambda: None).cancel()
    assert len(scheduler._timers) < 1000
    assert scheduler.next_deadline_ns() == 1 << 60
    kept.cancel()
    kept.cancel()
    assert scheduler.next_deadline_ns() is None
    assert scheduler._void == 0


def test_timers_still_come_in_order_after_others_were_cancelled() -> None:
    clock = SimpleNamespace(now=0)
    scheduler = Scheduler(lambda: clock.now)
    told: list[int] = []
    timers = [scheduler.call_at(at, partial(told.append, at)) for at in range(2000)]
    for timer in timers[::2] + timers[1::4]:
        timer.cancel()
    clock.now = 3000
    scheduler.run_timers()
    assert told == list(range(3, 2000, 4))
    assert scheduler._void == 0


def test_many_record_locks_cost_no_square_of_time_and_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    inode: Any = SimpleNamespace(locks=None)
    owner = object()
    monkeypatch.setattr(locks, "MAX_RECORDS", 800)
    start = time.monotonic()
    for at in range(800):
        locks.set_record(inode, locks.Record(owner, F_WRLCK, 2 * at, 2 * at + 1, 1))
    assert time.monotonic() - start < 20
    with pytest.raises(ENOLCK):
        locks.set_record(inode, locks.Record(owner, F_WRLCK, 5000, 5001, 1))
    locks.set_record(inode, locks.Record(owner, F_WRLCK, 0, 4000, 1))  # one instead of all
    assert len(inode.locks.records) == 1
    locks.set_record(inode, locks.Record(owner, F_UNLCK, 0, locks.END, 1))
    assert inode.locks.records == []


def test_neighbouring_locks_of_several_owners_are_merged() -> None:
    inode: Any = SimpleNamespace(locks=None)
    one, two = object(), object()
    for owner, start in ((one, 0), (two, 10), (one, 1), (two, 11), (one, 20), (one, 2)):
        locks.set_record(inode, locks.Record(owner, F_WRLCK, start, start + 1, 1))
    found = [(record.owner, record.start, record.end) for record in inode.locks.records]
    assert found == [(one, 0, 3), (two, 10, 12), (one, 20, 21)]


def test_extended_attributes_have_an_end(tmpfs: Tmpfs) -> None:
    inode = tmpfs.root
    with pytest.raises(ENOSPC):
        for number in range(1000):
            run(inode.setxattr(TASK, b"user.%d" % number, bytes(60_000), 0))
    names = run(inode.listxattr(TASK))
    assert 10 < len(names) <= XATTRS_MAX // 60_000
    run(inode.setxattr(TASK, names[0], bytes(60_000), 0))  # another value of the same size still fits


def test_inodes_have_an_end_where_none_was_asked_for(tmpfs: Tmpfs) -> None:
    tmpfs._most_inodes = 100
    with pytest.raises(ENOSPC):
        for number in range(200):
            run(tmpfs.root.mkdir(b"%d" % number, 0o777, 0, 0))
    assert tmpfs.inodes == 100
    assert tmpfs.inode_limit() == 100
    assert tmpfs.options() == b""


def test_a_deep_tree_goes_as_a_whole(tmpfs: Tmpfs) -> None:
    directory, dentry = tmpfs.root, Dentry(b"", None, tmpfs.root)
    top = dentry
    for _ in range(20_000):
        directory = run(directory.mkdir(b"d", 0o777, 0, 0))
        dentry = dentry.add(b"d", directory)
    del directory, dentry
    top.drop_tree()
    tmpfs.release()
    assert tmpfs.inodes == 1


def test_epolls_that_watch_epolls_give_an_event_few_ways_up() -> None:
    """With 20 on each of four levels, one event would be told 20⁴ times."""
    levels = [[Epoll() for _ in range(20)] for _ in range(4)]
    source = EventFd(0, 0)
    refused = 0
    for number, epoll in enumerate(levels[0]):
        epoll.add(number, source, EPOLLIN, 0)
    for below, above in pairwise(levels):
        for epoll in above:
            for number, target in enumerate(below):
                try:
                    epoll.add(number, target, EPOLLIN, 0)
                except EINVAL:
                    refused += 1
    assert refused
    assert all(epoll._ways_up({}) <= MAX_WAYS_UP for level in levels for epoll in level)
    for level in levels:
        for epoll in level:
            epoll.release()


def test_a_chain_or_a_circle_of_epolls_ends() -> None:
    chain = [Epoll() for _ in range(5)]
    for number in range(4):
        chain[number + 1].add(3, chain[number], EPOLLIN, 0)
    with pytest.raises(ELOOP):
        Epoll().add(3, chain[4], EPOLLIN, 0)
    with pytest.raises(ELOOP):
        chain[0].add(3, chain[4], EPOLLIN, 0)
    for epoll in chain:
        epoll.release()
