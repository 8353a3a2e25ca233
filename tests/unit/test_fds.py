"""Descriptor tables, pipes, eventfds, locks: sentry/kernel/fdtable.py, sentry/syscalls/fds.py.

Covers: sentry.fs.locks, sentry.syscalls.fds, sentry.syscalls.fcntl
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EAGAIN, EBADF, EBUSY, EDEADLK, EFAULT, EINVAL, EMFILE, ENOTTY, EPERM, EPIPE
from signal import SIGPIPE
from typing import Any

import pytest

from sentry.abi import linux
from sentry.abi.x86_64 import FLOCK
from sentry.errors import EMFILE as Emfile
from sentry.errors import ENOMEM as Enomem
from sentry.fs.anon import anon_inode
from sentry.fs.eventfd import EventFd
from sentry.fs.memfd import create_memfd
from sentry.fs.pipe import make_pipe, open_fifo
from sentry.kernel.fdtable import FdTable, hold, unhold
from sentry.vfs.file import File
from sentry.vfs.inode import Inode
from tests.unit.fd_rig import INTERRUPTED, PENDING, Rig, Task


class Probe(File):
    """A Python file that counts its releases."""

    __slots__ = ("released",)

    def __init__(self, flags: int = 2) -> None:
        super().__init__(anon_inode(), None, flags)
        self.released = 0

    def release(self) -> None:
        self.released += 1


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.finish()


# --- the table


def test_install_takes_the_lowest_and_close_releases(rig: Rig) -> None:
    fds, file = rig.task.fds, Probe()
    assert [fds.install(file), fds.install(file), fds.install(file)] == [0, 1, 2]
    assert rig.call("close", 1) == 0
    assert rig.call("dup", 0) == 1
    assert fds.get(2) is file
    for fd in range(3):
        assert file.released == 0
        rig.call("close", fd)
    assert file.released == 1
    assert rig.call("close", 0) == -EBADF


def test_full_table_releases_what_it_refuses() -> None:
    fds, file = FdTable(limit=1), Probe()
    fds.install(Probe())
    with pytest.raises(Emfile):
        fds.install(file)
    assert file.released == 1
    fds.drop()


def test_fork_shares_descriptions_not_descriptors(rig: Rig) -> None:
    fds, file = rig.task.fds, Probe()
    fds.install(file)
    child = fds.fork()
    rig.call("close", 0)
    assert child.get(0) is file
    assert file.released == 0
    child.drop()
    assert file.released == 1


def test_shared_table_lives_until_its_last_user() -> None:
    fds, file = FdTable(), Probe()
    fds.install(file)
    fds.share().drop()
    assert file.released == 0
    fds.drop()
    assert file.released == 1


def test_close_on_exec_closes_only_the_marked(rig: Rig) -> None:
    fds, kept, gone = rig.task.fds, Probe(), Probe()
    fds.install(kept)
    fds.install(gone, cloexec=True)
    fds.close_on_exec()
    assert (kept.released, gone.released) == (0, 1)
    assert [fd for fd, _ in fds.items()] == [0]


def test_a_held_file_outlives_its_descriptors(rig: Rig) -> None:
    file = Probe()
    fd = rig.task.fds.install(file)
    hold(file)
    rig.call("close", fd)
    assert file.released == 0
    unhold(file)
    rig.settle()
    assert file.released == 1


def test_dup2_replaces_and_releases(rig: Rig) -> None:
    fds, one, two = rig.task.fds, Probe(), Probe()
    fds.install(one)
    fds.install(two)
    assert rig.call("dup2", 0, 1) == 1
    assert two.released == 1
    assert rig.call("dup3", 0, 0, 0) == -EINVAL
    assert rig.call("dup3", 0, 5, linux.O_CLOEXEC) == 5
    assert rig.call("fcntl", 5, linux.F_GETFD) == 1
    assert rig.call("fcntl", 0, linux.F_DUPFD, 1 << 20) == -EINVAL
    assert rig.call("dup2", 0, -1) == -EBADF


def test_close_range(rig: Rig) -> None:
    for _ in range(6):
        rig.task.fds.install(Probe())
    assert rig.call("close_range", 1, 2, 0) == 0
    assert rig.call("close_range", 4, 0xFFFFFFFF, linux.CLOSE_RANGE_CLOEXEC) == 0
    assert [(fd, rig.task.fds.get_cloexec(fd)) for fd, _ in rig.task.fds.items()] == [
        (0, False),
        (3, False),
        (4, True),
        (5, True),
    ]
    assert rig.call("close_range", 5, 4, 0) == -EINVAL


def test_close_range_unshare_leaves_the_other_user_alone(rig: Rig) -> None:
    shared = rig.task.fds
    shared.install(Probe())
    shared.share()
    rig.call("close_range", 0, 10, linux.CLOSE_RANGE_UNSHARE)
    assert len(rig.task.fds) == 0
    assert len(shared) == 1
    shared.drop()


def test_status_flags_are_the_descriptions(rig: Rig) -> None:
    rig.task.fds.install(Probe())
    rig.call("dup", 0)
    assert rig.call("fcntl", 0, linux.F_SETFL, linux.O_NONBLOCK | linux.O_CREAT) == 0
    assert rig.call("fcntl", 1, linux.F_GETFL) == linux.O_NONBLOCK | linux.O_RDWR


# --- pipes


def test_pipe_blocks_until_written(rig: Rig) -> None:
    reader, writer = rig.pipe()
    addr, view = rig.buffer(10)
    job = rig.start("read", reader, addr, 10)
    assert rig.result(job) == PENDING
    assert rig.write(writer, b"hello") == 5
    assert rig.result(job) == 5
    assert bytes(view[:5]) == b"hello"


def test_close_while_blocked_in_read(rig: Rig) -> None:
    reader, writer = rig.pipe()
    addr, _ = rig.buffer(10)
    job = rig.start("read", reader, addr, 10)
    rig.call("close", reader)
    assert rig.write(writer, b"late") == 4  # the read end lives on in the call
    assert rig.result(job) == 4
    assert rig.write(writer, b"gone") == -EPIPE
    assert rig.signals == [SIGPIPE]


def test_blocking_write_is_finished_in_parts(rig: Rig) -> None:
    reader, writer = rig.pipe()
    data = bytes(range(256)) * 1000
    job = rig.start("write", writer, rig.buffer(data)[0], len(data))
    got = b""
    while rig.result(job) == PENDING:
        got += rig.read(reader, 50_000)
    assert rig.result(job) == len(data)
    while len(got) < len(data):
        got += rig.read(reader, 50_000)
    assert got == data


def test_interrupted_write_tells_what_it_wrote(rig: Rig) -> None:
    _, writer = rig.pipe()
    addr, _ = rig.buffer(100_000)
    job = rig.start("write", writer, addr, 100_000)
    assert rig.result(job) == PENDING
    assert job.interrupt()
    assert rig.result(job) == 65536
    job = rig.start("write", writer, addr, 10)
    job.interrupt()
    assert rig.result(job) == INTERRUPTED


def test_pipe_writer_gone_ends_the_waiting_reader(rig: Rig) -> None:
    reader, writer = rig.pipe()
    job = rig.start("read", reader, rig.buffer(1)[0], 1)
    rig.call("close", writer)
    assert rig.result(job) == 0


def test_pipe_size(rig: Rig) -> None:
    reader, writer = rig.pipe(linux.O_NONBLOCK)
    assert rig.call("fcntl", reader, linux.F_GETPIPE_SZ) == 65536
    assert rig.call("fcntl", writer, linux.F_SETPIPE_SZ, 5000) == 8192
    assert rig.write(writer, bytes(10000)) == 8192
    assert rig.call("fcntl", writer, linux.F_SETPIPE_SZ, 4096) == -EBUSY
    rig.task.creds = rig.task.creds._replace(cap_effective=0)
    assert rig.call("fcntl", writer, linux.F_SETPIPE_SZ, 1 << 21) == -EPERM
    addr, view = rig.buffer(4)
    assert rig.call("ioctl", reader, linux.FIONREAD, addr) == 0
    assert int.from_bytes(view[:], "little") == 8192


def test_pipe2_with_a_bad_address_leaves_no_descriptor(rig: Rig) -> None:
    assert rig.call("pipe2", 0x1000, 0) == -EFAULT
    assert len(rig.task.fds) == 0
    rig.task.fds.set_limits(1, False)
    assert rig.call("pipe2", rig.buffer(8)[0], 0) == -EMFILE
    assert len(rig.task.fds) == 0


def fifo() -> Inode:
    return Inode(anon_inode().fs, 1, linux.S_IFIFO | 0o600)


def test_fifo_open_waits_for_the_other_end(rig: Rig) -> None:
    inode = fifo()
    path: Any = None
    task: Any = rig.task
    reading = rig.scheduler.spawn(open_fifo(task, inode, path, linux.O_RDONLY))
    assert rig.result(reading) == PENDING
    writing = rig.scheduler.spawn(open_fifo(task, inode, path, linux.O_WRONLY))
    reader, writer = rig.result(reading), rig.result(writing)
    rig.task.fds.install(reader)
    rig.task.fds.install(writer)
    assert rig.write(1, b"through") == 7
    rig.call("close", 1)
    assert rig.read(0) == b"through"
    assert rig.read(0) == b""
    rig.call("close", 0)
    assert inode.pipe is None


def test_fifo_interrupted_open_leaves_nothing(rig: Rig) -> None:
    inode = fifo()
    path: Any = None
    task: Any = rig.task
    reading = rig.scheduler.spawn(open_fifo(task, inode, path, linux.O_RDONLY))
    reading.interrupt()
    assert rig.result(reading) == INTERRUPTED
    assert inode.pipe is None
    lone = rig.scheduler.spawn(open_fifo(task, inode, path, linux.O_WRONLY | linux.O_NONBLOCK))
    assert rig.result(lone) == -6  # ENXIO
    both = rig.result(rig.scheduler.spawn(open_fifo(task, inode, path, linux.O_RDWR)))
    rig.task.fds.install(both)


def test_fifo_reader_before_any_writer_sees_no_hangup(rig: Rig) -> None:
    inode = fifo()
    path: Any = None
    task: Any = rig.task
    opening = open_fifo(task, inode, path, linux.O_RDONLY | linux.O_NONBLOCK)
    reader = rig.result(rig.scheduler.spawn(opening))
    rig.task.fds.install(reader)
    assert reader.poll() == 0
    assert rig.read(0) == b""
    writer = rig.result(rig.scheduler.spawn(open_fifo(task, inode, path, linux.O_WRONLY)))
    rig.task.fds.install(writer)
    assert rig.read(0) == -EAGAIN
    rig.call("close", 1)
    assert reader.poll() == linux.EPOLLHUP


# --- eventfd


def test_eventfd_counts_and_waits(rig: Rig) -> None:
    fd = rig.call("eventfd2", 2, 0)
    assert rig.read(fd, 8) == (2).to_bytes(8, "little")
    addr, view = rig.buffer(8)
    job = rig.start("read", fd, addr, 8)
    assert rig.result(job) == PENDING
    rig.write(fd, (7).to_bytes(8, "little"))
    assert rig.result(job) == 8
    assert view[0] == b"\x07"
    assert rig.read(fd, 4) == -EINVAL


def test_eventfd_semaphore(rig: Rig) -> None:
    fd = rig.call("eventfd2", 2, linux.EFD_SEMAPHORE | linux.EFD_NONBLOCK)
    assert rig.read(fd, 8) == rig.read(fd, 8) == (1).to_bytes(8, "little")
    assert rig.read(fd, 8) == -EAGAIN
    assert rig.call("eventfd2", 0, 2) == -EINVAL


# --- locks


def regular(rig: Rig) -> int:
    task: Any = rig.task
    return rig.task.fds.install(create_memfd(task, b"data", True, 0o600))


def lock(rig: Rig, fd: int, cmd: int, kind: int, start: int, size: int, task: Task | None = None) -> Any:
    addr, view = rig.buffer(FLOCK.pack(kind, 0, start, size, 0))
    result = rig.call("fcntl", fd, cmd, addr, task=task)
    if cmd in (linux.F_GETLK, linux.F_OFD_GETLK) and result == 0:
        return FLOCK.unpack(view[:])
    return result


def test_record_locks_exclude_other_processes(rig: Rig) -> None:
    fd = regular(rig)
    other = Task(rig, rig.task.fds.fork(), pid=2)
    assert lock(rig, fd, linux.F_SETLK, linux.F_WRLCK, 10, 10) == 0
    assert lock(rig, fd, linux.F_SETLK, linux.F_RDLCK, 15, 1, other) == -EAGAIN
    assert lock(rig, fd, linux.F_SETLK, linux.F_RDLCK, 20, 0, other) == 0
    assert lock(rig, fd, linux.F_GETLK, linux.F_WRLCK, 0, 0, other)[:5] == (linux.F_WRLCK, 0, 10, 10, 1)
    assert lock(rig, fd, linux.F_GETLK, linux.F_WRLCK, 0, 0)[:5] == (linux.F_RDLCK, 0, 20, 0, 2)
    assert lock(rig, fd, linux.F_SETLK, linux.F_UNLCK, 12, 2) == 0  # splits
    assert lock(rig, fd, linux.F_SETLK, linux.F_WRLCK, 12, 2, other) == 0
    assert lock(rig, fd, linux.F_SETLK, linux.F_WRLCK, 14, 1, other) == -EAGAIN
    other.fds.drop()
    assert lock(rig, fd, linux.F_SETLK, linux.F_WRLCK, 0, 0) == 0


def test_waiting_lock_is_granted_when_the_holder_closes(rig: Rig) -> None:
    fd = regular(rig)
    other = Task(rig, rig.task.fds.fork(), pid=2)
    lock(rig, fd, linux.F_SETLK, linux.F_WRLCK, 0, 0)
    addr, _ = rig.buffer(FLOCK.pack(linux.F_WRLCK, 0, 5, 1, 0))
    job = rig.start("fcntl", fd, linux.F_SETLKW, addr, task=other)
    assert rig.result(job) == PENDING
    second = rig.call("dup", fd)
    rig.call("close", second)  # any descriptor of the file will do
    assert rig.result(job) == 0
    other.fds.drop()


def test_lock_deadlock(rig: Rig) -> None:
    fd = regular(rig)
    other = Task(rig, rig.task.fds.fork(), pid=2)
    lock(rig, fd, linux.F_SETLK, linux.F_WRLCK, 0, 1)
    lock(rig, fd, linux.F_SETLK, linux.F_WRLCK, 1, 1, other)
    addr, _ = rig.buffer(FLOCK.pack(linux.F_WRLCK, 0, 1, 1, 0))
    job = rig.start("fcntl", fd, linux.F_SETLKW, addr)
    assert rig.result(job) == PENDING
    assert lock(rig, fd, linux.F_SETLKW, linux.F_WRLCK, 0, 1, other) == -EDEADLK
    other.fds.drop()
    assert rig.result(job) == 0


def test_ofd_locks_belong_to_the_description(rig: Rig) -> None:
    fd = regular(rig)
    task: Any = rig.task
    inode: Any = rig.task.fds.get(fd).inode
    second = rig.task.fds.install(inode.open_now(task, rig.task.fds.get(fd).path, linux.O_RDWR))
    assert lock(rig, fd, linux.F_OFD_SETLK, linux.F_WRLCK, 0, 0) == 0
    assert lock(rig, second, linux.F_OFD_SETLK, linux.F_WRLCK, 0, 0) == -EAGAIN
    assert lock(rig, second, linux.F_OFD_GETLK, linux.F_WRLCK, 0, 0)[4] == -1
    copy = rig.call("dup", fd)
    rig.call("close", fd)
    assert lock(rig, second, linux.F_OFD_SETLK, linux.F_WRLCK, 0, 0) == -EAGAIN
    rig.call("close", copy)
    assert lock(rig, second, linux.F_OFD_SETLK, linux.F_WRLCK, 0, 0) == 0


def test_flock(rig: Rig) -> None:
    fd = regular(rig)
    task: Any = rig.task
    inode: Any = rig.task.fds.get(fd).inode
    second = rig.task.fds.install(inode.open_now(task, rig.task.fds.get(fd).path, linux.O_RDWR))
    assert rig.call("flock", fd, linux.LOCK_SH) == 0
    assert rig.call("flock", second, linux.LOCK_SH) == 0
    assert rig.call("flock", second, linux.LOCK_EX | linux.LOCK_NB) == -EAGAIN
    job = rig.start("flock", second, linux.LOCK_EX)
    assert rig.result(job) == PENDING
    rig.call("close", fd)
    assert rig.result(job) == 0
    assert rig.call("flock", second, 0) == -EINVAL


def test_ioctl_on_what_is_no_terminal(rig: Rig) -> None:
    reader, _ = rig.pipe()
    assert rig.call("ioctl", reader, linux.TCGETS, 0) == -ENOTTY
    assert rig.call("ioctl", reader, linux.FIOCLEX) == 0
    assert rig.call("fcntl", reader, linux.F_GETFD) == 1
    addr, _ = rig.buffer((1).to_bytes(4, "little"))
    assert rig.call("ioctl", reader, linux.FIONBIO, addr) == 0
    assert rig.read(reader) == -EAGAIN


def test_seals_of_a_memfd(rig: Rig) -> None:
    fd = regular(rig)
    assert rig.call("fcntl", fd, linux.F_GET_SEALS) == 0
    assert rig.call("fcntl", fd, linux.F_ADD_SEALS, linux.F_SEAL_WRITE) == 0
    assert rig.write(fd, b"x") == -EPERM
    reader, _ = rig.pipe()
    assert rig.call("fcntl", reader, linux.F_GET_SEALS) == -EINVAL


def test_unused_pipe_is_no_leak(rig: Rig) -> None:
    make_pipe(None)


def test_numbers_are_lent_for_one_call_each(rig: Rig) -> None:
    fds = rig.task.fds
    fds.stub_fd = 7
    fd = fds.install(EventFd(0), lowest=8)
    assert fd == 8
    assert [fds.lend(range(5, 10)) for _ in range(3)] == [9, 6, 5]
    with pytest.raises(Enomem):
        fds.lend(range(5, 10))
    fds.give_back(6)
    assert fds.lend(range(5, 10)) == 6
    assert fds.lend() == 999
    fds.close(fd)
    fds.stub_fd = -1
