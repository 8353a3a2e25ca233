"""Ptys, job control and controlling terminals, with processes that are only names.

Covers: sentry.fs.tty.ioctls, sentry.fs.tty.pty, sentry.fs.tty.tty
"""

import os
import struct

import pytest

from sentry.abi import linux as L
from sentry.errors import EAGAIN, EIO, ENODEV, ENOENT, ENOTTY, ENXIO, EPERM, ESRCH, Interrupted
from sentry.fs.devpts import Devpts, give_terminal
from sentry.fs.tty.jobs import is_orphaned
from sentry.fs.tty.termios import Termios
from sentry.fs.tty.tty import INPUT_MAX
from sentry.kernel.sched import Job
from sentry.vfs.open import open_path
from tests.unit.pseudo_world import run, world

ARG = 0x1000


class Rig:
    def __init__(self) -> None:
        self.kernel, self.init = world(lambda kernel: Devpts(b"ptmxmode=0666,mode=0620,gid=5"))
        self.shell = self.kernel.process(10, self.init.group)
        self.statuses: dict[int, dict[bytes, bytes]] = {}
        self.kernel.pids.status = lambda host_tid: self.statuses.get(host_tid, {})

    def open(self, path: bytes, flags: int = L.O_RDWR, task=None):
        return run(open_path(task or self.shell, L.AT_FDCWD, path, flags, 0))

    def pair(self, task=None):
        master = self.open(b"/ptmx", L.O_RDWR | L.O_NOCTTY)
        self.ioctl(master, L.TIOCSPTLCK, struct.pack("<i", 0))
        slave = self.open(b"/%d" % master.slave.index, task=task)
        return master, slave

    def ioctl(self, file, cmd: int, data: bytes | int = b"", task=None) -> bytes:
        task = task or self.shell
        if isinstance(data, int):
            run(file.ioctl(task, cmd, data))
            return b""
        task.mem.write(ARG, data)
        run(file.ioctl(task, cmd, ARG))
        return task.mem.read(ARG, 64)

    def job(self, coro) -> Job:
        return self.kernel.scheduler.spawn(coro)

    def settle(self) -> None:
        self.kernel.scheduler.run_until_idle()


@pytest.fixture
def rig():
    made = Rig()
    yield made
    made.kernel.close()


def test_a_slave_appears_is_locked_and_goes_with_its_master(rig) -> None:
    master = rig.open(b"/ptmx")
    assert struct.unpack_from("<I", rig.ioctl(master, L.TIOCGPTN))[0] == 0
    with pytest.raises(EIO):
        rig.open(b"/0")
    rig.ioctl(master, L.TIOCSPTLCK, struct.pack("<i", 0))
    slave = rig.open(b"/0")
    stat = run(slave.getattr())
    assert (stat.mode, stat.gid, stat.rdev) == (L.S_IFCHR | 0o620, 5, 136 << 8)
    second = rig.open(b"/ptmx")
    assert second.slave.index == 1
    master.release()
    with pytest.raises(ENOENT):
        rig.open(b"/0")
    assert rig.open(b"/ptmx").slave.index == 0


def test_a_line_goes_through_with_echo(rig) -> None:
    master, slave = rig.pair()
    assert run(master.write(rig.shell, b"hi\r")) == 3
    assert run(master.read(rig.shell, 100)) == b"hi\r\n"
    assert run(slave.read(rig.shell, 100)) == b"hi\n"
    assert run(slave.write(rig.shell, b"a\nb")) == 3
    assert run(master.read(rig.shell, 100)) == b"a\r\nb"


def test_bytes_put_in_without_end_are_lost_not_kept(rig) -> None:
    master, slave = rig.pair()
    rig.ioctl(slave, L.TCSETS, Termios(lflag=0).pack())
    for _ in range(20_000):
        rig.ioctl(slave, L.TIOCSTI, b"x")
    rig.ioctl(master, L.TCXONC, L.TCIOFF)
    assert master.slave.backlog == INPUT_MAX


def test_a_reader_waits_for_a_whole_line(rig) -> None:
    master, slave = rig.pair()
    job = rig.job(slave.read(rig.shell, 100))
    run(master.write(rig.shell, b"ab"))
    rig.settle()
    assert not job.ended
    run(master.write(rig.shell, b"c\n"))
    rig.settle()
    assert job.value == b"abc\n"
    slave.flags |= L.O_NONBLOCK
    with pytest.raises(EAGAIN):
        run(slave.read(rig.shell, 100))


def test_vtime_ends_a_read(rig) -> None:
    _, slave = rig.pair()
    raw = Termios(lflag=0, cc=Termios().cc[:5] + b"\x0a\x00" + Termios().cc[7:])
    rig.ioctl(slave, L.TCSETS, raw.pack())
    job = rig.job(slave.read(rig.shell, 100))
    rig.kernel.now += 999_999_999
    rig.settle()
    assert not job.ended
    rig.kernel.now += 1
    rig.settle()
    assert job.value == b""


def test_vmin_with_vtime_waits_between_bytes(rig) -> None:
    master, slave = rig.pair()
    raw = Termios(lflag=0, cc=Termios().cc[:5] + b"\x01\x05" + Termios().cc[7:])
    rig.ioctl(slave, L.TCSETS, raw.pack())
    job = rig.job(slave.read(rig.shell, 100))
    rig.kernel.now += 10**10
    rig.settle()
    assert not job.ended
    run(master.write(rig.shell, b"ab"))
    rig.settle()
    assert not job.ended
    rig.kernel.now += 10**8
    rig.settle()
    assert job.value == b"ab"


def test_a_writer_waits_for_room_and_interruption_keeps_what_was_written(rig) -> None:
    master, slave = rig.pair()
    job = rig.job(slave.write(rig.shell, b"x" * 20000))
    assert not job.ended
    assert slave.poll() & L.EPOLLOUT == 0
    got = b""
    while len(got) < 20000:
        got += run(master.read(rig.shell, 4096))
        rig.settle()
    assert job.value == 20000
    job = rig.job(slave.write(rig.shell, b"y" * 20000))
    job.interrupt()
    rig.settle()
    assert job.value == 12288


def test_a_leader_that_opens_a_terminal_gets_it(rig) -> None:
    with pytest.raises(ENXIO):
        run(_open_dev_tty(rig))
    _, slave = rig.pair()
    assert rig.kernel.ttys.of(rig.shell.group) is slave.tty
    assert (slave.tty.session, slave.tty.pgrp) == (10, 10)
    assert struct.unpack_from("<I", rig.ioctl(slave, L.TIOCGPGRP))[0] == 10
    assert run(_open_dev_tty(rig)).tty is slave.tty


async def _open_dev_tty(rig):
    from sentry.fs.devpts import _open_current_tty

    return _open_current_tty(rig.shell, rig.init.fs.root.inode, rig.init.fs.root, L.O_RDWR)


def test_no_terminal_for_others(rig) -> None:
    child = rig.kernel.process(11, rig.shell.group)
    child.group.sid_ = 10
    _, slave = rig.pair(child)
    assert slave.tty.session == 0
    for cmd in (L.TIOCGPGRP, L.TIOCGSID, L.TIOCNOTTY):
        with pytest.raises(ENOTTY):
            rig.ioctl(slave, cmd, task=child)
    with pytest.raises(EPERM):
        rig.ioctl(slave, L.TIOCSCTTY, 0, task=child)


def test_control_c_signals_the_foreground(rig) -> None:
    master, slave = rig.pair()
    run(master.write(rig.shell, b"abc\x03"))
    assert rig.kernel.signals() == [(-10, L.SIGINT)]
    assert not slave.tty.ldisc.available()


def test_foreground_changes_only_within_the_session(rig) -> None:
    _, slave = rig.pair()
    job = rig.kernel.process(12, rig.shell.group)
    job.group.sid_ = 10
    rig.ioctl(slave, L.TIOCSPGRP, struct.pack("<i", 12))
    assert slave.tty.pgrp == 12
    rig.ioctl(slave, L.TIOCSPGRP, struct.pack("<i", 12), task=job)
    with pytest.raises(ESRCH):
        rig.ioctl(slave, L.TIOCSPGRP, struct.pack("<i", 99), task=job)
    with pytest.raises(EPERM):
        rig.ioctl(slave, L.TIOCSPGRP, struct.pack("<i", 1), task=job)


def test_a_background_reader_is_stopped_until_it_is_in_the_foreground(rig) -> None:
    master, slave = rig.pair()
    job = rig.kernel.process(12, rig.shell.group)
    job.group.sid_ = 10
    run(master.write(rig.shell, b"line\n"))
    reading = rig.job(slave.read(job, 100))
    assert rig.kernel.signals() == [(-12, L.SIGTTIN)]
    assert not reading.ended
    rig.ioctl(slave, L.TIOCSPGRP, struct.pack("<i", 12))
    rig.settle()
    assert reading.value == b"line\n"


def test_a_background_process_that_ignores_the_signal(rig) -> None:
    _, slave = rig.pair()
    job = rig.kernel.process(12, rig.shell.group)
    job.group.sid_ = 10
    rig.statuses[job.host_tid] = {b"SigIgn": b"%016x" % (1 << L.SIGTTIN - 1 | 1 << L.SIGTTOU - 1)}
    with pytest.raises(EIO):
        run(slave.read(job, 1))
    rig.ioctl(slave, L.TCSETS, Termios().pack(), task=job)
    assert rig.kernel.signals() == []


def test_an_orphaned_group_gets_an_error(rig) -> None:
    _, slave = rig.pair()
    job = rig.kernel.process(12, rig.init.group)
    job.group.sid_ = 10
    assert is_orphaned(rig.kernel, 12)
    with pytest.raises(EIO):
        run(slave.read(job, 1))


def test_tostop_holds_background_output(rig) -> None:
    _, slave = rig.pair()
    job = rig.kernel.process(12, rig.shell.group)
    job.group.sid_ = 10
    assert run(slave.write(job, b"x")) == 1
    tostop = Termios()
    tostop.lflag |= L.TOSTOP
    rig.ioctl(slave, L.TCSETS, tostop.pack())
    writing = rig.job(slave.write(job, b"x"))
    assert rig.kernel.signals() == [(-12, L.SIGTTOU)]
    writing.interrupt()
    rig.settle()
    assert isinstance(writing.error, Interrupted)


def test_the_window_size_is_shared_and_announced(rig) -> None:
    master, slave = rig.pair()
    size = struct.pack("<4H", 24, 80, 0, 0)
    rig.ioctl(master, L.TIOCSWINSZ, size)
    assert rig.kernel.signals() == [(-10, L.SIGWINCH)]
    assert rig.ioctl(slave, L.TIOCGWINSZ)[:8] == size
    rig.ioctl(slave, L.TIOCSWINSZ, size)
    assert rig.kernel.signals() == []


def test_hang_up(rig) -> None:
    master, slave = rig.pair()
    reading = rig.job(slave.read(rig.shell, 10))
    master.release()
    rig.settle()
    assert reading.error.errno == EIO.errno or reading.value == b""
    assert rig.kernel.signals() == [(10, L.SIGHUP), (10, L.SIGCONT)]
    assert run(slave.read(rig.shell, 10)) == b""
    with pytest.raises(EIO):
        run(slave.write(rig.shell, b"x"))
    with pytest.raises(EIO):
        rig.ioctl(slave, L.TCGETS, bytes(36))
    assert slave.poll() & L.EPOLLHUP
    rig.kernel.ttys.group_exited(rig.shell.group, rig.kernel)
    assert rig.kernel.signals() == [(-10, L.SIGHUP), (-10, L.SIGCONT)]


def test_the_master_sees_the_last_slave_close(rig) -> None:
    master, slave = rig.pair()
    run(slave.write(rig.shell, b"last"))
    slave.release()
    assert run(master.read(rig.shell, 10)) == b"last"
    with pytest.raises(EIO):
        run(master.read(rig.shell, 10))
    assert master.poll() & L.EPOLLHUP
    again = rig.open(b"/0")
    assert not master.poll() & L.EPOLLHUP
    again.release()


def test_a_leaders_exit_frees_the_terminal(rig) -> None:
    _, slave = rig.pair()
    rig.kernel.ttys.group_exited(rig.shell.group, rig.kernel)
    assert rig.kernel.signals() == [(-10, L.SIGHUP)]
    assert slave.tty.session == 0


def test_giving_the_terminal_up(rig) -> None:
    _, slave = rig.pair()
    rig.ioctl(slave, L.TIOCNOTTY)
    assert rig.kernel.signals() == [(-10, L.SIGHUP), (-10, L.SIGCONT)]
    assert rig.kernel.ttys.of(rig.shell.group) is None


def test_peer_by_ioctl(rig) -> None:
    master, _ = rig.pair()
    rig.ioctl(master, L.TIOCGPTPEER, L.O_RDWR | L.O_NOCTTY)
    peer = rig.shell.fds.get(0)
    run(peer.write(rig.shell, b"hello"))
    assert run(master.read(rig.shell, 10)) == b"hello"
    assert peer.path.dentry.name == b"0"


def test_packet_mode(rig) -> None:
    master, slave = rig.pair()
    rig.ioctl(master, L.TIOCPKT, struct.pack("<i", 1))
    run(slave.write(rig.shell, b"x"))
    assert run(master.read(rig.shell, 10)) == b"\0x"
    run(master.write(rig.shell, b"\x13"))
    assert run(master.read(rig.shell, 10)) == bytes([L.TIOCPKT_STOP])
    run(master.write(rig.shell, b"\x11"))
    assert run(master.read(rig.shell, 10)) == bytes([L.TIOCPKT_START])


def test_termios_round_trip_as_on_the_host(rig) -> None:
    import fcntl

    _, slave = rig.pair()
    host_master, host_slave = os.openpty()
    try:
        for cmd, size in ((L.TCGETS, 36), (L.TCGETS2, 44), (L.TCGETA, 17)):
            assert rig.ioctl(slave, cmd)[:size] == fcntl.ioctl(host_slave, cmd, bytes(64))[:size], hex(cmd)
        changed = bytearray(fcntl.ioctl(host_slave, L.TCGETS, bytes(36)))
        changed[8] = 0x0D  # another speed, seven bits
        for flags in (bytes(changed), bytes(36)):
            rig.ioctl(slave, L.TCSETS, flags)
            fcntl.ioctl(host_slave, L.TCSETS, flags)
            assert rig.ioctl(slave, L.TCGETS2)[:44] == fcntl.ioctl(host_slave, L.TCGETS2, bytes(44))
    finally:
        os.close(host_master)
        os.close(host_slave)


def test_ptmx_needs_a_devpts_beside_it(rig) -> None:
    from sentry.fs.devpts import _open_ptmx

    root = rig.init.fs.root
    with pytest.raises(ENODEV):
        _open_ptmx(rig.shell, root.inode, root, L.O_RDWR)


def test_give_terminal_to_a_first_task(rig) -> None:
    _, slave = rig.pair(rig.init)
    rig.kernel.ttys.forget(slave.tty)
    rig.shell.fds.files[0] = slave
    give_terminal(rig.shell)
    assert rig.kernel.ttys.of(rig.shell.group) is slave.tty
