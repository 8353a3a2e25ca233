"""poll(2), select(2), epoll(7), timerfd_create(2): sentry/syscalls/poll.py over a clock the test moves.

Covers: sentry.fs.epoll, sentry.fs.timerfd, sentry.syscalls.poll
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EAGAIN, EBADF, EEXIST, EFAULT, EINVAL, ELOOP, ENOENT, EPERM
from itertools import pairwise
from typing import Any

import pytest

from sentry.abi import linux
from sentry.abi.linux import (
    EPOLL_CTL_ADD,
    EPOLL_CTL_DEL,
    EPOLL_CTL_MOD,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
)
from sentry.abi.x86_64 import EPOLL_EVENT, ITIMERSPEC, POLLFD, TIMESPEC, TIMEVAL
from sentry.fs.memfd import create_memfd
from tests.unit.fd_rig import INTERRUPTED, PENDING, Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.finish()


def pollfds(rig: Rig, *entries: tuple[int, int]) -> tuple[int, Any]:
    return rig.buffer(b"".join(POLLFD.pack(fd, events, 0) for fd, events in entries))


def revents(view: Any) -> list[int]:
    return [entry[2] for entry in POLLFD.iter_unpack(view[:])]


# --- poll


def test_poll_answers_what_is_ready(rig: Rig) -> None:
    reader, writer = rig.pipe()
    addr, view = pollfds(rig, (reader, EPOLLIN), (writer, EPOLLOUT), (-1, EPOLLIN), (99, EPOLLIN))
    assert rig.call("poll", addr, 4, -1) == 2
    assert revents(view) == [0, EPOLLOUT, 0, linux.EPOLLNVAL]


def test_poll_waits_and_wakes(rig: Rig) -> None:
    reader, writer = rig.pipe()
    addr, view = pollfds(rig, (reader, EPOLLIN))
    job = rig.start("poll", addr, 1, -1)
    assert rig.result(job) == PENDING
    rig.write(writer, b"x")
    assert rig.result(job) == 1
    assert revents(view) == [EPOLLIN]


def test_poll_times_out(rig: Rig) -> None:
    reader, _ = rig.pipe()
    addr, view = pollfds(rig, (reader, EPOLLIN))
    job = rig.start("poll", addr, 1, 500)
    rig.advance(0.4)
    assert rig.result(job) == PENDING
    rig.advance(0.2)
    assert rig.result(job) == 0
    assert revents(view) == [0]
    assert rig.call("poll", addr, 1, 0) == 0


def test_poll_without_descriptors_sleeps(rig: Rig) -> None:
    job = rig.start("poll", 0, 0, 10)
    assert rig.result(job) == PENDING
    rig.advance(1)
    assert rig.result(job) == 0


def test_poll_sees_the_hangup(rig: Rig) -> None:
    reader, writer = rig.pipe()
    addr, view = pollfds(rig, (reader, 0))
    job = rig.start("poll", addr, 1, -1)
    rig.call("close", writer)
    assert rig.result(job) == 1
    assert revents(view) == [EPOLLHUP]


def test_ppoll_tells_the_time_left(rig: Rig) -> None:
    reader, writer = rig.pipe()
    addr, _ = pollfds(rig, (reader, EPOLLIN))
    timeout, left = rig.buffer(TIMESPEC.pack(10, 0))
    mask, _ = rig.buffer((1 << 14 | 1 << 8).to_bytes(8, "little"))
    job = rig.start("ppoll", addr, 1, timeout, mask, 8)
    rig.advance(4)
    rig.write(writer, b"x")
    assert rig.result(job) == 1
    assert TIMESPEC.unpack(left[:]) == (6, 0)
    assert rig.task.sigmask == [1 << 14]  # SIGKILL can't be blocked
    assert rig.call("ppoll", addr, 1, timeout, mask, 4) == -EINVAL


# --- select


def test_select(rig: Rig) -> None:
    reader, writer = rig.pipe()
    n = writer + 1
    readable, readable_view = rig.buffer((1 << reader).to_bytes(8, "little"))
    writable, writable_view = rig.buffer((1 << writer).to_bytes(8, "little"))
    assert rig.call("select", n, readable, writable, 0, 0) == 1
    assert readable_view[:] == bytes(8)
    assert writable_view[0] == bytes([1 << writer])
    readable, readable_view = rig.buffer((1 << reader).to_bytes(8, "little"))
    timeout, left = rig.buffer(TIMEVAL.pack(2, 500_000))
    job = rig.start("select", n, readable, 0, 0, timeout)
    rig.advance(1)
    rig.write(writer, b"x")
    assert rig.result(job) == 1
    assert TIMEVAL.unpack(left[:]) == (1, 500_000)
    rig.call("close", reader)
    assert rig.call("select", n, readable, 0, 0, timeout) == -EBADF
    assert rig.call("select", -1, 0, 0, 0, 0) == -EINVAL


# --- epoll


class Epoll:
    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.fd: int = rig.call("epoll_create1", 0)

    def ctl(self, operation: int, fd: int, events: int = 0, data: int | None = None) -> Any:
        event, _ = self.rig.buffer(EPOLL_EVENT.pack(events, fd if data is None else data))
        return self.rig.call("epoll_ctl", self.fd, operation, fd, event)

    def wait(self, limit: int = 8, timeout: int = 0) -> Any:
        addr, view = self.rig.buffer(limit * 12)
        got = self.rig.call("epoll_wait", self.fd, addr, limit, timeout)
        if not isinstance(got, int) or got < 0:
            return got
        return [EPOLL_EVENT.unpack_from(view, i * 12) for i in range(got)]


@pytest.fixture
def epoll(rig: Rig) -> Epoll:
    return Epoll(rig)


def test_epoll_level(rig: Rig, epoll: Epoll) -> None:
    reader, writer = rig.pipe()
    assert epoll.ctl(EPOLL_CTL_ADD, reader, EPOLLIN, 77) == 0
    assert epoll.wait() == []
    rig.write(writer, b"xy")
    assert epoll.wait() == epoll.wait() == [(EPOLLIN, 77)]
    rig.read(reader)
    assert epoll.wait() == []


def test_epoll_edge_tells_once_a_write(rig: Rig, epoll: Epoll) -> None:
    reader, writer = rig.pipe()
    epoll.ctl(EPOLL_CTL_ADD, reader, EPOLLIN | linux.EPOLLET, 1)
    rig.write(writer, b"x")
    assert len(epoll.wait()) == 1
    assert epoll.wait() == []
    rig.write(writer, b"x")
    assert len(epoll.wait()) == 1


def test_epoll_oneshot_until_rearmed(rig: Rig, epoll: Epoll) -> None:
    reader, writer = rig.pipe()
    epoll.ctl(EPOLL_CTL_ADD, reader, EPOLLIN | linux.EPOLLONESHOT, 1)
    rig.write(writer, b"x")
    assert len(epoll.wait()) == 1
    rig.write(writer, b"x")
    assert epoll.wait() == []
    epoll.ctl(EPOLL_CTL_MOD, reader, EPOLLIN | linux.EPOLLONESHOT, 2)
    assert epoll.wait() == [(EPOLLIN, 2)]


def test_epoll_wait_sleeps_and_wakes(rig: Rig, epoll: Epoll) -> None:
    reader, writer = rig.pipe()
    epoll.ctl(EPOLL_CTL_ADD, reader, EPOLLIN)
    addr, _ = rig.buffer(12)
    job = rig.start("epoll_wait", epoll.fd, addr, 1, -1)
    assert rig.result(job) == PENDING
    rig.write(writer, b"x")
    assert rig.result(job) == 1
    rig.read(reader)
    job = rig.start("epoll_wait", epoll.fd, addr, 1, 100)
    rig.advance(1)
    assert rig.result(job) == 0
    job = rig.start("epoll_wait", epoll.fd, addr, 1, -1)
    job.interrupt()
    assert rig.result(job) == INTERRUPTED


def test_epoll_serves_all_in_turn(rig: Rig, epoll: Epoll) -> None:
    pipes = [rig.pipe() for _ in range(3)]
    for reader, writer in pipes:
        epoll.ctl(EPOLL_CTL_ADD, reader, EPOLLIN)
        rig.write(writer, b"x")
    told = {data for _ in range(3) for _, data in epoll.wait(limit=1)}
    assert told == {reader for reader, _ in pipes}


def test_epoll_forgets_a_closed_file_but_not_a_duplicated_one(rig: Rig, epoll: Epoll) -> None:
    reader, writer = rig.pipe()
    epoll.ctl(EPOLL_CTL_ADD, reader, EPOLLIN)
    copy = rig.call("dup", reader)
    rig.write(writer, b"x")
    rig.call("close", reader)
    assert len(epoll.wait()) == 1  # the description is open: as on Linux
    rig.call("close", copy)
    assert epoll.wait() == []
    again, _ = rig.pipe()
    assert again == reader
    assert epoll.ctl(EPOLL_CTL_MOD, again, EPOLLIN) == -ENOENT


def test_epoll_ctl_errors(rig: Rig, epoll: Epoll) -> None:
    reader, _ = rig.pipe()
    task: Any = rig.task
    data = rig.task.fds.install(create_memfd(task, b"", False, 0o600))
    assert epoll.ctl(EPOLL_CTL_ADD, data, EPOLLIN) == -EPERM
    assert epoll.ctl(EPOLL_CTL_ADD, epoll.fd, EPOLLIN) == -EINVAL
    assert epoll.ctl(EPOLL_CTL_ADD, 99, EPOLLIN) == -EBADF
    assert epoll.ctl(EPOLL_CTL_DEL, reader) == -ENOENT
    assert epoll.ctl(EPOLL_CTL_ADD, reader, EPOLLIN) == 0
    assert epoll.ctl(EPOLL_CTL_ADD, reader, EPOLLIN) == -EEXIST
    assert epoll.ctl(9, reader) == -EINVAL
    assert rig.call("epoll_ctl", epoll.fd, EPOLL_CTL_MOD, reader, 0x1000) == -EFAULT
    assert rig.call("epoll_wait", reader, rig.buffer(12)[0], 1, 0) == -EINVAL
    assert rig.call("epoll_wait", epoll.fd, rig.buffer(12)[0], 0, 0) == -EINVAL
    assert epoll.ctl(EPOLL_CTL_MOD, reader, EPOLLIN | linux.EPOLLEXCLUSIVE) == -EINVAL


def test_epoll_of_epoll(rig: Rig, epoll: Epoll) -> None:
    inner = Epoll(rig)
    reader, writer = rig.pipe()
    assert epoll.ctl(EPOLL_CTL_ADD, inner.fd, EPOLLIN) == 0
    inner.ctl(EPOLL_CTL_ADD, reader, EPOLLIN)
    rig.write(writer, b"x")
    assert epoll.wait() == [(EPOLLIN, inner.fd)]
    assert inner.ctl(EPOLL_CTL_ADD, epoll.fd, EPOLLIN) == -ELOOP
    rig.read(reader)
    assert epoll.wait() == []


def test_epoll_nesting_is_bounded(rig: Rig, epoll: Epoll) -> None:
    chain = [epoll] + [Epoll(rig) for _ in range(5)]
    results = [above.ctl(EPOLL_CTL_ADD, below.fd, EPOLLIN) for above, below in pairwise(chain)]
    assert results == [0, 0, 0, 0, -ELOOP]


def test_epoll_error_of_a_pipe_without_reader(rig: Rig, epoll: Epoll) -> None:
    reader, writer = rig.pipe()
    epoll.ctl(EPOLL_CTL_ADD, writer, 0)
    assert epoll.wait() == []
    rig.call("close", reader)
    assert epoll.wait() == [(EPOLLERR, writer)]


def test_epoll_eventfd(rig: Rig, epoll: Epoll) -> None:
    fd = rig.call("eventfd2", 0, 0)
    epoll.ctl(EPOLL_CTL_ADD, fd, EPOLLIN | linux.EPOLLET)
    rig.write(fd, (1).to_bytes(8, "little"))
    assert epoll.wait() == [(EPOLLIN, fd)]
    rig.write(fd, (1).to_bytes(8, "little"))
    assert epoll.wait() == [(EPOLLIN, fd)]


# --- timerfd


def settime(rig: Rig, fd: int, value: float, interval: float = 0, flags: int = 0) -> Any:
    times = [int(part * 1_000_000_000) for part in (interval, value)]
    addr, _ = rig.buffer(ITIMERSPEC.pack(*(part for each in times for part in divmod(each, 1_000_000_000))))
    return rig.call("timerfd_settime", fd, flags, addr, 0)


def test_timerfd_expires_once(rig: Rig) -> None:
    fd = rig.call("timerfd_create", linux.CLOCK_MONOTONIC, linux.TFD_NONBLOCK)
    assert settime(rig, fd, 2) == 0
    assert rig.read(fd, 8) == -EAGAIN
    rig.advance(1.5)
    addr, view = rig.buffer(ITIMERSPEC.size)
    rig.call("timerfd_gettime", fd, addr)
    assert ITIMERSPEC.unpack(view[:]) == (0, 0, 0, 500_000_000)
    rig.advance(1)
    assert rig.read(fd, 8) == (1).to_bytes(8, "little")
    assert rig.read(fd, 8) == -EAGAIN


def test_timerfd_interval_counts_what_was_missed(rig: Rig) -> None:
    fd = rig.call("timerfd_create", linux.CLOCK_MONOTONIC, 0)
    settime(rig, fd, 1, 1)
    rig.advance(3.5)
    assert rig.read(fd, 8) == (3).to_bytes(8, "little")
    job = rig.start("read", fd, rig.buffer(8)[0], 8)
    assert rig.result(job) == PENDING
    rig.advance(0.6)
    assert rig.result(job) == 8


def test_timerfd_in_epoll_tells_every_tick(rig: Rig, epoll: Epoll) -> None:
    fd = rig.call("timerfd_create", linux.CLOCK_MONOTONIC, 0)
    epoll.ctl(EPOLL_CTL_ADD, fd, EPOLLIN | linux.EPOLLET)
    settime(rig, fd, 1, 1)
    assert epoll.wait() == []
    for _ in range(3):
        rig.advance(1)
        assert epoll.wait() == [(EPOLLIN, fd)]
        assert epoll.wait() == []
    settime(rig, fd, 0)
    rig.advance(5)
    assert epoll.wait() == []


def test_timerfd_tells_about_itself(rig: Rig) -> None:
    fd = rig.call("timerfd_create", linux.CLOCK_MONOTONIC, 0)
    settime(rig, fd, 5, 2, linux.TFD_TIMER_CANCEL_ON_SET)
    rig.advance(1)
    lines = rig.task.fds.get(fd).fdinfo().split(b"\n")
    assert lines[:3] == [b"clockid: 1", b"ticks: 0", b"settime flags: 02"]
    assert lines[3:] == [b"it_value: (4, 0)", b"it_interval: (2, 0)", b""]
    assert rig.call("lseek", fd, 5, 0) == 0  # it has no position


def test_a_timer_that_wakes_the_machine_needs_the_right_to(rig: Rig) -> None:
    rig.task.creds = rig.task.creds._replace(cap_effective=1 << linux.CAP_WAKE_ALARM)
    assert rig.call("timerfd_create", linux.CLOCK_BOOTTIME_ALARM, 0) >= 0
    rig.task.creds = rig.task.creds._replace(cap_effective=0)
    assert rig.call("timerfd_create", linux.CLOCK_BOOTTIME_ALARM, 0) == -EPERM


def test_timerfd_arguments(rig: Rig) -> None:
    assert rig.call("timerfd_create", 2, 0) == -EINVAL
    assert rig.call("timerfd_create", 1, 1) == -EINVAL
    fd = rig.call("timerfd_create", linux.CLOCK_REALTIME, 0)
    bad, _ = rig.buffer(ITIMERSPEC.pack(0, 0, 1, 1_000_000_000))
    assert rig.call("timerfd_settime", fd, 0, bad, 0) == -EINVAL
    assert rig.call("timerfd_gettime", rig.pipe()[0], bad) == -EINVAL
