"""Taking signals without a handler: sentry/fs/signalfd.py and sentry/syscalls/sigwait.py, without the host's part.

Covers: sentry.syscalls.sigwait
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EAGAIN, EBADF, EFAULT, EINTR, EINVAL
from pathlib import Path
from signal import SIGALRM, SIGCHLD, SIGKILL, SIGSEGV, SIGUSR1, SIGUSR2
from struct import pack, pack_into, unpack_from
from typing import Any

import pytest

from sentry.abi.linux import EPOLLIN, ERESTARTSYS, O_NONBLOCK, RWF_NOWAIT, SI_QUEUE, SI_SIGIO, SI_TIMER, SI_USER
from sentry.errors import LinuxError
from sentry.fs.signalfd import SignalFd, record
from sentry.kernel.creds import Credentials
from sentry.kernel.fdtable import FdTable
from sentry.kernel.rewrite import AGAIN, GOES_ON, Rewritten, RewrittenCall
from sentry.kernel.signals import SigInfo
from sentry.kernel.sigwatch import queue_of
from sentry.kernel.task import Task
from tests.unit.kernel_rig import Buffer, KernelRig, answer, with_memory

USR1, USR2 = 1 << SIGUSR1 - 1, 1 << SIGUSR2 - 1


class World(KernelRig):
    """A process, whose memory is the test's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.task = with_memory(self.first_task())
        self.kernel.scheduler.running = self.task
        self.buffer = Buffer()

    def pends(self, task: Task, private: int = 0, shared: int = 0) -> None:
        self.status(task, SigPnd=f"{private:016x}", ShdPnd=f"{shared:016x}")

    def signalfd(self, mask: int, flags: int = 0, fd: int = -1) -> Any:
        self.buffer.put(pack("<Q", mask))
        return answer(self.task, "signalfd4", fd, self.buffer.addr, 8, flags)

    def file(self, mask: int, flags: int = 0) -> SignalFd:
        file = self.task.fds.get(self.signalfd(mask, flags))
        assert isinstance(file, SignalFd)
        return file

    def sent(self, info: SigInfo) -> int:
        """Have it on its way to the process; its cookie."""
        self.kernel.signals.send(self.task.group.host_tgid, 0, info)
        return self.platform.cookies[self.task.group.host_tgid]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def errno(call: Any, *args: Any) -> int:
    with pytest.raises(LinuxError) as caught:
        call(*args)
    return caught.value.errno


# --- signalfd


def test_signalfd_arguments(world: World) -> None:
    at = world.buffer.put(pack("<Q", USR1))
    for fd, addr, size, flags, wanted in (
        (-1, at, 4, 0, EINVAL), (-1, 8, 8, 1, EFAULT), (-1, at, 8, 1, EINVAL), (9, at, 8, 0, EBADF), (-2, at, 8, 0, EBADF),
    ):  # fmt: skip
        assert answer(world.task, "signalfd4", fd, addr, size, flags) == -wanted
    fd = answer(world.task, "signalfd", -1, at, 8)
    assert answer(world.task, "signalfd4", fd, at, 8, O_NONBLOCK) == fd
    other = world.task.fds.install(world.file(USR1))
    assert world.signalfd(USR2 | 1 << SIGKILL - 1, fd=other) == other
    file = world.task.fds.get(other)
    assert isinstance(file, SignalFd) and file.mask == USR2 and file.fdinfo() == b"sigmask:\t%016x\n" % USR2
    assert file.describe() == b"anon_inode:[signalfd]" and file.seek(5, 0) == 0


def test_readiness_is_that_of_who_asks(world: World) -> None:
    file = world.file(USR1)
    other = world.fork(world.task)
    world.pends(world.task, private=USR2)
    world.pends(other, shared=USR1)
    assert file.poll() == 0
    assert file.wait_queue is queue_of(world.task.group)
    world.kernel.scheduler.running = other
    assert file.poll() == EPOLLIN
    assert file.wait_queue is queue_of(other.group)
    assert world.kernel.pids.pending(1) == 0  # nobody's


def test_status_flags_are_the_hosts_too(world: World) -> None:
    file = world.file(USR1, O_NONBLOCK)
    assert not os.get_blocking(file.host_fd)
    file.set_flags(0)
    assert os.get_blocking(file.host_fd) and not file.flags & O_NONBLOCK


def test_reads_that_need_no_host(world: World) -> None:
    file = world.file(USR1)
    assert errno(file.read_by_host, world.task, [(0, 127)], 0) == EINVAL
    assert errno(file.read_by_host, world.task, [(0, 128)], RWF_NOWAIT) == EAGAIN
    assert not file.read_by_host(world.task, [(0, 128)], 0).at_once
    file.set_flags(O_NONBLOCK)
    assert errno(file.read_by_host, world.task, [(0, 128)], 0) == EAGAIN
    world.pends(world.task, private=USR1)
    assert file.read_by_host(world.task, [(0, 128)], 0).at_once


def test_a_read_is_run_on_the_hosts_signalfd(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    injected = []
    monkeypatch.setattr(FdTable, "inject", lambda fds, call_id, fd, host_fd: injected.append((call_id, fd, host_fd)))
    file = world.file(USR1)
    fd = world.task.fds.install(file)
    what = file.read_by_host(world.task, [(0, 128)], 0)
    world.task.call = RewrittenCall(world.kernel, world.task, 0, (fd, 0, 128, 0, 0, 0), None, what)  # type: ignore[arg-type]
    what.notified(5)
    assert injected == [(5, fd, file.host_fd)]
    world.task.fds.install_at(fd, world.file(USR2))
    assert errno(what.notified, 5) == EBADF
    world.task.call = None
    assert what.finish is not None
    assert what.finish(-ERESTARTSYS) == -ERESTARTSYS and what.finish(-EAGAIN) == -EAGAIN
    what.at_once = True
    assert what.finish(-ERESTARTSYS) == AGAIN


def test_records_name_the_sender(world: World) -> None:
    cookies = [world.sent(SigInfo(SIGUSR1, SI_USER, 7, 1000)), world.sent(SigInfo(SIGUSR2, SI_QUEUE, 8, 1001, 42))]
    data = bytearray(3 * 128)
    for i, (signo, cookie) in enumerate(zip((SIGUSR1, SIGUSR2), cookies, strict=True)):
        pack_into("<Iii", data, 128 * i, signo, 0, SI_QUEUE)
        pack_into("<Q", data, 128 * i + 48, cookie)
    pack_into("<Iii", data, 256, SIGALRM, 0, SI_TIMER)
    file, addr = world.file(USR1 | USR2), world.buffer.put(bytes(data))
    what = file.read_by_host(world.task, [(addr, 200), (addr + 200, 184)], 0)
    assert what.finish is not None and what.finish(384) == 384
    got = world.buffer.get(384)
    assert got[:128] == record(SigInfo(SIGUSR1, SI_USER, 7, 1000).pack())
    assert got[128:256] == record(SigInfo(SIGUSR2, SI_QUEUE, 8, 1001, 42).pack())
    assert got[256:] == bytes(data[256:])


def test_the_signal_of_a_childs_end_names_its_user(world: World) -> None:
    child = world.fork(world.task, pid=40)
    child.creds = Credentials(uid=1000)
    world.becomes_zombie(child)
    data = bytearray(256)
    for i, pid in enumerate((40, 41)):  # the second is gone for good
        pack_into("<IiiiI", data, 128 * i, SIGCHLD, 0, 1, pid, 0)
    addr = world.buffer.put(bytes(data))
    what = world.file(1).read_by_host(world.task, [(addr, 256)], 0)
    addr = world.buffer.put(bytes(data))
    assert what.finish is not None and what.finish(256) == 256
    got = world.buffer.get(256)
    assert [unpack_from("<iI", got, at) for at in (12, 140)] == [(40, 1000), (41, 0)]
    info = Buffer()
    info.put(pack("<iii4xiI", SIGCHLD, 0, 1, 40, 0))
    taking = waiting(world, info=info.addr)
    assert taking.finish(SIGCHLD) == SIGCHLD
    assert unpack_from("<iI", info.get(24), 16) == (40, 1000)


def test_a_cookie_says_nothing_to_another_process_nor_of_another_signal(world: World) -> None:
    other = world.fork(world.task)
    cookie = world.sent(SigInfo(SIGUSR1, SI_USER, 7))
    assert world.kernel.signals.taken(other, SIGUSR1, cookie) is None
    assert world.kernel.signals.taken(world.task, SIGUSR2, cookie) is None
    assert world.kernel.signals.taken(world.task, SIGUSR1, cookie) is not None
    assert world.kernel.signals.taken(world.task, SIGUSR1, cookie) is None


def test_another_mask_makes_who_waits_look_again(world: World) -> None:
    file = world.file(USR1)
    reader = world.fork(world.task)
    what = file.read_by_host(reader, [(0, 128)], 0)
    reader.call = RewrittenCall(world.kernel, reader, 0, (0,) * 6, None, what)  # type: ignore[arg-type]
    woken: list[int] = []
    queue_of(world.task.group).add(woken.append)
    world.done()
    file.set_mask(world.task, USR2)
    assert woken == [EPOLLIN] and world.done() == [("interrupt", reader.host_tid)]
    reader.call = None


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        (("<iii4xiIQ", SIGUSR1, 0, SI_QUEUE, 5, 6, 7), {12: 5, 16: 6, 44: 7, 48: 7}),
        (("<iii4xiIQ", SIGUSR1, 0, SI_USER, 5, 6, 7), {12: 5, 16: 6}),
        (("<iii4xiIQ", SIGUSR1, 0, SI_TIMER, 5, 6, 7), {24: 5, 32: 6, 44: 7, 48: 7}),
        (("<iii4xqi", SIGUSR1, 0, SI_SIGIO, 5, 6), {28: 5, 20: 6}),
        (("<iii4xiIiiqq", SIGCHLD, 0, 1, 5, 6, 7, 0, 8, 9), {12: 5, 16: 6, 40: 7, 56: 8, 64: 9}),
        (("<iii4xQ", SIGSEGV, 0, 1, 5), {72: 5}),
    ],
)
def test_a_record_is_laid_out_as_linux_does(fields: tuple[Any, ...], wanted: dict[int, int]) -> None:
    got = record(pack(*fields).ljust(128, b"\0"))
    assert len(got) == 128
    assert {i: got[i] for i in range(12, 128) if got[i]} == wanted


# --- sigtimedwait


def waiting(world: World, timeout: tuple[int, int] | None = None, info: int = 0) -> Any:
    at = world.buffer.put(pack("<QQQ", USR1, *(timeout or (0, 0))))
    return answer(world.task, "rt_sigtimedwait", at, info, at + 8 if timeout else 0, 8)


def test_sigtimedwait_arguments(world: World) -> None:
    at = world.buffer.put(pack("<Qqq", USR1, 0, 1_000_000_000))
    assert answer(world.task, "rt_sigtimedwait", at, 0, 0, 4) == -EINVAL
    assert answer(world.task, "rt_sigtimedwait", 8, 0, 0, 8) == -EFAULT
    assert answer(world.task, "rt_sigtimedwait", at, 0, 8, 8) == -EFAULT
    assert answer(world.task, "rt_sigtimedwait", at, 0, at + 8, 8) == -EINVAL
    assert waiting(world, (0, 0)) == -EAGAIN
    world.pends(world.task, shared=USR2)
    assert waiting(world, (0, 0)) == -EAGAIN
    world.pends(world.task, shared=USR1)
    assert waiting(world, (0, 0)).at_once


def test_what_is_taken_names_the_sender(world: World) -> None:
    info = Buffer()
    cookie = world.sent(SigInfo(SIGUSR1, SI_USER, 7, 1000))
    info.put(pack("<iii4xiIQ", SIGUSR1, 0, SI_QUEUE, 0, 0, cookie))
    what = waiting(world, info=info.addr)
    assert isinstance(what, Rewritten) and what.finish is not None
    assert what.finish(SIGUSR1) == SIGUSR1
    assert info.get(128) == SigInfo(SIGUSR1, SI_USER, 7, 1000).pack()
    world.task.mem.write(info.addr, pack("<iii4xiIQ", SIGUSR1, 0, SI_QUEUE, 0, 0, cookie))
    assert what.finish(SIGUSR1) == SIGUSR1  # a forged one
    assert info.get(24) == pack("<iii4xiI", SIGUSR1, 0, SI_QUEUE, 0, 0)
    assert waiting(world, info=8).finish(SIGUSR1) == SIGUSR1  # it is gone, and so is the place


def test_the_sentry_keeps_the_time(world: World) -> None:
    what = waiting(world, (1, 0))
    assert what.registers == {2: 0}
    world.task.call = RewrittenCall(world.kernel, world.task, 0, (0,) * 6, None, what)  # type: ignore[arg-type]
    what.notified(1)
    assert what.finish(-EINTR) == GOES_ON
    what.notified(2)
    world.done()
    world.advance(milliseconds=999)
    assert world.done() == []
    world.advance(milliseconds=1)
    assert world.done() == [("interrupt", world.task.host_tid)]
    assert what.finish(-EINTR) == -EAGAIN
    assert errno(what.notified, 3) == EAGAIN
    what.over()
    world.task.call = None


def test_a_signal_that_another_took_is_waited_for_again(world: World) -> None:
    world.pends(world.task, shared=USR1)
    what = waiting(world, (1, 0))
    what.notified(1)
    assert what.finish(-EINTR) == AGAIN
