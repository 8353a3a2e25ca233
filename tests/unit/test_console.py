"""The container's console over a host pty, and standard streams that are no terminal.

Covers: sentry.fs.tty.console
"""

import fcntl
import os
import socket
import struct

import pytest

from sentry.abi import linux as L
from sentry.errors import EACCES, EAGAIN, EPIPE, ESPIPE
from sentry.fs.devpts import Devpts, open_console
from sentry.fs.hoststream import HostStream
from tests.unit.pseudo_world import run, world


class Poller:
    """Stands in for the loop: tells which watched descriptors are ready now."""

    def __init__(self) -> None:
        self.watched: dict[int, int] = {}

    def watch(self, host_fd: int, events: int, cookie: int) -> None:
        if events:
            self.watched[host_fd] = events
        else:
            self.watched.pop(host_fd, None)

    def dispatch(self, scheduler, rounds: int = 3) -> None:
        import select

        for _ in range(rounds):
            poll = select.poll()
            for host_fd, events in self.watched.items():
                poll.register(host_fd, events)
            for host_fd, events in poll.poll(5):
                scheduler.dispatch(host_fd, events)
            scheduler.run_ready()


@pytest.fixture
def rig():
    kernel, task = world(lambda kernel: Devpts())
    kernel.scheduler.poller = Poller()
    kernel.loop = lambda: kernel.scheduler.poller.dispatch(kernel.scheduler)
    yield kernel, task
    assert not kernel.scheduler.poller.watched
    kernel.close()


@pytest.fixture
def console(rig):
    kernel, task = rig
    master, slave = os.openpty()
    file = open_console(kernel, task.mounts, slave)
    kernel.ttys.set(1, file.tty, 1)
    yield file, master
    file.release()
    os.close(master)


def test_typing_reaches_a_reader_and_is_echoed(rig, console) -> None:
    kernel, task = rig
    file, master = console
    assert file.path.dentry.name == b"0"
    reading = kernel.scheduler.spawn(file.read(task, 100))
    os.write(master, b"hi\r")
    kernel.loop()
    assert reading.value == b"hi\n"
    assert os.read(master, 100) == b"hi\r\n"
    assert run(file.write(task, b"out\n")) == 4
    assert os.read(master, 100) == b"out\r\n"


def test_interrupt_and_window_size(rig, console) -> None:
    kernel, task = rig
    file, master = console
    os.write(master, b"\x03")
    kernel.loop()
    assert kernel.signals() == [(-1, L.SIGINT)]
    reading = kernel.scheduler.spawn(file.read(task, 100))
    fcntl.ioctl(master, L.TIOCSWINSZ, struct.pack("<4H", 30, 90, 0, 0))
    kernel.now += 250_000_000
    kernel.scheduler.run_until_idle()
    assert kernel.signals() == [(-1, L.SIGWINCH)]
    assert file.tty.get_winsize() == struct.pack("<4H", 30, 90, 0, 0)
    assert not reading.ended
    reading.cancel()


def test_a_slow_client_makes_the_writer_wait(rig, console) -> None:
    kernel, task = rig
    file, master = console
    writing = kernel.scheduler.spawn(file.write(task, b"x" * 40_000))
    assert not writing.ended
    got = 0
    while got < 40_000:
        got += len(os.read(master, 65536))
        kernel.loop()
    assert writing.value == 40_000


def test_a_client_that_leaves_hangs_the_console_up(rig) -> None:
    kernel, task = rig
    master, slave = os.openpty()
    file = open_console(kernel, task.mounts, slave)
    kernel.ttys.set(1, file.tty, 1)
    os.close(master)
    kernel.loop()
    assert kernel.signals() == [(1, L.SIGHUP), (1, L.SIGCONT)]
    assert run(file.read(task, 1)) == b""
    file.release()


def test_a_pipe_as_stdin(rig) -> None:
    kernel, task = rig
    reader, writer = os.pipe()
    stream = HostStream(kernel, reader)
    reading = kernel.scheduler.spawn(stream.read(task, 100))
    assert not reading.ended
    os.write(writer, b"data")
    kernel.loop()
    assert reading.value == b"data"
    assert os.get_blocking(stream.host_fd)
    stat = run(stream.getattr())
    assert stat.mode & L.S_IFMT == L.S_IFIFO
    assert stream.poll() == L.EPOLLOUT & 0
    os.close(writer)
    assert run(stream.read(task, 1)) == b""
    assert stream.poll() & L.EPOLLHUP
    with pytest.raises(ESPIPE):
        stream.seek(0, 0)
    stream.release()


def test_reopening_dev_stdin_gives_the_same_pipe(rig) -> None:
    kernel, task = rig
    reader, writer = os.pipe()
    stream = HostStream(kernel, reader)
    os.write(writer, b"data")
    again = run(stream.inode.open(task, None, L.O_RDONLY))
    assert run(again.read(task, 10)) == b"data"
    with pytest.raises(EACCES):
        run(stream.inode.open(task, None, L.O_WRONLY))
    again.release()
    stream.release()
    os.close(writer)


def test_a_full_pipe_never_blocks_the_sentry(rig) -> None:
    kernel, task = rig
    reader, writer = os.pipe()
    fcntl.fcntl(writer, L.F_SETPIPE_SZ, 4096)
    stream = HostStream(kernel, writer)
    writing = kernel.scheduler.spawn(stream.write(task, b"x" * 20_000))
    assert not writing.ended
    got = 0
    while got < 20_000:
        got += len(os.read(reader, 65536))
        kernel.loop()
    assert writing.value == 20_000
    stream.flags |= L.O_NONBLOCK
    assert run(stream.write(task, b"y" * 10_000)) == 4096
    with pytest.raises(EAGAIN):
        run(stream.write(task, b"y"))
    stream.flags &= ~L.O_NONBLOCK
    os.close(reader)
    with pytest.raises(EPIPE):
        run(stream.write(task, b"z"))
    assert kernel.signals() == [(1, L.SIGPIPE)]
    stream.release()


def test_a_socket_as_stdout(rig) -> None:
    kernel, task = rig
    ours, theirs = socket.socketpair()
    stream = HostStream(kernel, ours.detach())
    assert run(stream.write(task, b"hello")) == 5
    assert theirs.recv(10) == b"hello"
    writing = kernel.scheduler.spawn(stream.write(task, b"x" * 600_000))
    got = 0
    while got < 600_000:
        got += len(theirs.recv(1 << 20))
        kernel.loop()
    assert writing.value == 600_000
    theirs.close()
    stream.release()


def test_a_file_and_null(rig, tmp_path) -> None:
    kernel, task = rig
    out = tmp_path / "out"
    stream = HostStream(kernel, os.open(out, os.O_RDWR | os.O_CREAT))
    run(stream.write(task, b"text"))
    assert out.read_bytes() == b"text"
    assert run(stream.getattr()).size == 4
    assert stream.seek(1, 0) == 1
    assert run(stream.read(task, 10)) == b"ext"
    stream.release()
    null = HostStream(kernel, os.open("/dev/null", os.O_RDWR))
    assert run(null.write(task, b"gone")) == 4
    assert run(null.read(task, 10)) == b""
    assert run(null.getattr()).rdev == 0x103
    null.release()
