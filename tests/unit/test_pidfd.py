"""pidfds, and reaching into processes, without a sandbox: the errors, and what needs no host.

Covers: sentry.fs.pidfd sentry.syscalls.pidfd sentry.syscalls.procmem sentry.syscalls.mempolicy sentry.syscalls.time
sentry.syscalls.signals sentry.fs.proc.access
"""

from __future__ import annotations

import errno
from types import SimpleNamespace
from typing import Any

import pytest

from sentry.abi.linux import EPOLLHUP, EPOLLIN, EPOLLRDNORM, O_NONBLOCK, P_PID, P_PIDFD, WNOHANG
from sentry.abi.x86_64 import TIMESPEC, TIMEVAL, TIMEX
from sentry.fs.pidfd import PIDFD_THREAD, PidFd
from sentry.fs.proc.access import may_attach
from sentry.kernel.creds import ALL_CAPS, Credentials
from sentry.kernel.rewrite import Rewritten
from tests.unit.fd_rig import PENDING, Rig, Task

USER = Credentials(5, 5, 5, 5, 5, 5, 5, 5)


class World(Rig):
    """Two processes, 1 and 7, the second with another's credentials if a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.dead: set[int] = set()
        self.other = Task(self, pid=7)
        self.tasks = {1: self.task, 7: self.other}
        for task in self.tasks.values():
            group: Any = task.group
            group.kernel, group.leader, group.exit_queue, group.exited, group.dumpable = self, task, None, False, 1
            group.sid = group.pgid = lambda: 1
            group.tracees, group.ended = [], []
            task.exit_queue = None
        self.targets: list[Any] = []

    def send_signal(self, target: Any, info: Any) -> None:
        self.targets.append(target)
        super().send_signal(target, info)

    def groups(self) -> list[Any]:
        return [self.task.group, self.other.group]

    def zombies(self) -> list[Any]:
        return []

    def thread(self) -> Task:
        """One more of the second process: 8."""
        made = Task(self, pid=8)
        made.fds.drop()
        made.fds = self.other.fds
        made.group, made.exit_queue = self.other.group, None
        self.tasks[8] = made
        return made

    def find_task(self, tid: int) -> Task | None:
        return self.tasks.get(tid)

    def find_zombie(self, tid: int) -> Task | None:
        return self.other if tid in self.dead else None

    def exists(self, task: Task) -> bool:
        return task.tid in self.tasks or task.tid in self.dead

    def die(self) -> None:
        del self.tasks[7]
        self.dead.add(7)
        self.other.group.exited = True
        if self.other.group.exit_queue is not None:
            self.other.group.exit_queue.wake(EPOLLIN | EPOLLRDNORM)


@pytest.fixture
def world() -> Any:
    world = World()
    yield world
    world.other.fds.drop()
    world.finish()


def waitid(world: World, fd: int, options: int = 4, infop: int = 0) -> Rewritten:
    got = world.call("waitid", P_PIDFD, fd, infop, options, 0)
    assert isinstance(got, Rewritten)
    return got


def test_a_pidfd_is_closed_at_exec(world: World) -> None:
    fd = world.call("pidfd_open", 7, 0)
    assert world.task.fds.get_cloexec(fd)
    assert isinstance(world.task.fds.get(fd), PidFd)


@pytest.mark.parametrize(("pid", "flags", "error"), [(0, 0, "EINVAL"), (-1, 0, "EINVAL"), (9, 0, "ESRCH"), (1, 1, "EINVAL")])
def test_pidfd_open_refuses(world: World, pid: int, flags: int, error: str) -> None:
    assert world.call("pidfd_open", pid, flags) == -getattr(errno, error)


def test_a_wait_for_a_process_ends_with_it(world: World) -> None:
    fd = world.call("pidfd_open", 7, 0)
    pollfd, _ = world.buffer(fd.to_bytes(4, "little") + b"\1\0\0\0")
    job = world.start("poll", pollfd, 1, -1)
    assert world.result(job) == PENDING
    world.die()
    assert world.result(job) == 1


def test_a_zombie_can_be_signalled_and_a_reaped_process_not(world: World) -> None:
    fd = world.call("pidfd_open", 7, 0)
    assert world.call("pidfd_send_signal", fd, 15, 0, 0) == 0
    assert world.signals == [15]
    world.die()
    assert world.call("pidfd_send_signal", fd, 15, 0, 0) == 0
    assert world.signals == [15]
    file: Any = world.task.fds.get(fd)
    assert file.fdinfo() == b"Pid:\t7\nNSpid:\t7\n"
    world.dead.clear()
    assert world.call("pidfd_send_signal", fd, 15, 0, 0) == -errno.ESRCH
    assert file.fdinfo() == b"Pid:\t-1\nNSpid:\t-1\n"


def test_a_pidfd_of_a_thread_is_the_threads(world: World) -> None:
    thread = world.thread()
    assert world.call("pidfd_open", 8, 0) == -errno.ENOENT
    fd = world.call("pidfd_open", 8, PIDFD_THREAD)
    assert world.call("pidfd_send_signal", fd, 15, 0, 0) == 0
    assert world.call("pidfd_send_signal", fd, 16, 0, 2) == 0  # PIDFD_SIGNAL_THREAD_GROUP
    assert [(target is thread, target is thread.group) for target in world.targets] == [(True, False), (False, True)]
    file: Any = world.task.fds.get(fd)
    assert file.poll() == 0 and file.fdinfo().startswith(b"Pid:\t8\n")
    del world.tasks[8]
    assert file.poll() == EPOLLIN | EPOLLRDNORM | EPOLLHUP
    assert world.call("pidfd_send_signal", fd, 15, 0, 0) == -errno.ESRCH


def test_a_signal_to_the_group_that_a_process_leads(world: World) -> None:
    fd = world.call("pidfd_open", 7, 0)
    assert world.call("pidfd_send_signal", fd, 15, 0, 4) == -errno.ESRCH
    world.other.group.pgid = lambda: 7
    assert world.call("pidfd_send_signal", fd, 15, 0, 4) == 0
    assert world.targets == [world.other.group]
    assert world.call("pidfd_send_signal", fd, 15, 0, 3) == -errno.EINVAL
    assert world.call("pidfd_send_signal", 99, 15, 0, 8) == -errno.EINVAL


def test_a_reaped_process_hangs_up(world: World) -> None:
    file: Any = world.task.fds.get(world.call("pidfd_open", 7, 0))
    assert file.poll() == 0
    world.die()
    assert file.poll() == EPOLLIN | EPOLLRDNORM
    world.dead.clear()
    assert file.poll() == EPOLLIN | EPOLLRDNORM | EPOLLHUP


def test_waitid_looks_at_its_options_before_the_descriptor(world: World) -> None:
    assert world.call("waitid", P_PIDFD, 99, 0, 0, 0) == -errno.EINVAL
    assert world.call("waitid", P_PIDFD, 99, 0, 4, 0) == -errno.EBADF


def test_waitid_is_rewritten_to_the_pid(world: World) -> None:
    fd = world.call("pidfd_open", 7, 0)
    rewritten = waitid(world, fd)
    assert rewritten.registers == {0: P_PID, 1: 7} and rewritten.finish is None


def test_waitid_does_not_wait_for_a_nonblocking_pidfd(world: World) -> None:
    fd = world.call("pidfd_open", 7, O_NONBLOCK)
    infop, info = world.buffer(128)
    rewritten = waitid(world, fd, 4, infop)
    assert rewritten.registers == {0: P_PID, 1: 7, 3: 4 | WNOHANG}
    assert rewritten.finish is not None
    assert rewritten.finish(0) == -errno.EAGAIN
    info[16:20] = b"\7\0\0\0"
    assert rewritten.finish(0) == 0
    assert waitid(world, fd, 4 | WNOHANG).finish is None


def test_getfd_takes_the_same_description(world: World) -> None:
    from sentry.fs.eventfd import EventFd

    theirs = world.other.fds.install(EventFd(0, 0))
    fd = world.call("pidfd_open", 7, 0)
    got = world.call("pidfd_getfd", fd, theirs, 0)
    assert world.task.fds.get(got) is world.other.fds.get(theirs)
    assert world.call("pidfd_getfd", fd, 99, 0) == -errno.EBADF
    assert world.call("pidfd_getfd", got, theirs, 0) == -errno.EBADF
    mine, world.task.creds = world.task.creds, USER
    assert world.call("pidfd_getfd", fd, theirs, 0) == -errno.EPERM
    world.die()
    assert world.call("pidfd_getfd", fd, theirs, 0) == -errno.EPERM  # a zombie is not for everyone either
    world.task.creds = mine
    assert world.call("pidfd_getfd", fd, theirs, 0) == -errno.ESRCH


def test_who_may_reach_into_whom() -> None:
    def task(creds: Credentials, dumpable: int = 1) -> Any:
        return SimpleNamespace(creds=creds, group=SimpleNamespace(dumpable=dumpable))

    root = Credentials(cap_permitted=ALL_CAPS, cap_effective=ALL_CAPS)
    assert may_attach(task(root), task(USER, 0))
    assert may_attach(task(USER), task(USER))
    assert not may_attach(task(USER), task(USER, 0))
    assert not may_attach(task(USER), task(USER._replace(suid=0)))
    assert not may_attach(task(USER), task(USER._replace(cap_permitted=1)))
    own = task(USER, 0)
    assert may_attach(own, own)


def test_memory_is_copied_between_vectors_of_other_shapes(world: World) -> None:
    source, _ = world.buffer(b"abcdefgh")
    sink, got = world.buffer(8)
    local = b"".join(part.to_bytes(8, "little") for part in (sink, 3, sink + 3, 2))
    remote = b"".join(part.to_bytes(8, "little") for part in (source, 1, source + 4, 0, source + 2, 6))
    world.other.mem = world.task.mem
    assert world.call("process_vm_readv", 7, world.buffer(local)[0], 2, world.buffer(remote)[0], 3, 0) == 5
    assert bytes(got) == b"acdef\0\0\0"
    assert world.call("process_vm_readv", 7, world.buffer(local)[0], 2, world.buffer(remote)[0], 3, 1) == -errno.EINVAL
    assert world.call("process_vm_writev", 9, world.buffer(local)[0], 2, world.buffer(remote)[0], 3, 0) == -errno.ESRCH


def test_nobody_sets_the_time(world: World) -> None:
    assert world.call("settimeofday", world.buffer(TIMEVAL.pack(1, 0))[0], 0) == -errno.EPERM
    assert world.call("settimeofday", world.buffer(TIMEVAL.pack(1, 1_000_000))[0], 0) == -errno.EINVAL
    assert world.call("clock_settime", 0, world.buffer(TIMESPEC.pack(1, 0))[0]) == -errno.EPERM
    assert world.call("clock_settime", -1, 0) == -errno.EFAULT  # read before the clock is looked at
    assert world.call("clock_settime", -1, world.buffer(TIMESPEC.pack(1, 0))[0]) == -errno.EINVAL
    assert world.call("clock_settime", ~99 << 3, world.buffer(TIMESPEC.pack(1, 0))[0]) == -errno.EINVAL
    assert world.call("clock_settime", -8, world.buffer(TIMESPEC.pack(1, 0))[0]) == -errno.EPERM
    assert world.call("clock_settime", 1, world.buffer(TIMESPEC.pack(1, 0))[0]) == -errno.EINVAL
    asked = TIMEX.pack(*[0] * 21)
    addr, timex = world.buffer(asked)
    assert world.call("adjtimex", addr) == 5
    assert TIMEX.unpack(bytes(timex))[11] == 10_000
    addr, _ = world.buffer(TIMEX.pack(0x4000, *[0] * 20))
    assert world.call("adjtimex", addr) == -errno.EPERM
    assert TIMEX.size == 208


def test_policies_of_the_one_node(world: World) -> None:
    mode, shown = world.buffer(b"\xff\xff\xff\xff")
    mask, nodes = world.buffer(b"\xff" * 16)
    assert world.call("get_mempolicy", mode, mask, 128, 0, 0) == 0
    assert bytes(shown) == bytes(4) and bytes(nodes) == bytes(16)
    assert world.call("get_mempolicy", 0, mask, 128, 0, 4) == 0
    assert bytes(nodes) == b"\1" + bytes(15)
    assert world.call("set_mempolicy", 2, mask, 128) == 0
    nodes[:1] = b"\2"
    assert world.call("set_mempolicy", 2, mask, 128) == -errno.EINVAL
