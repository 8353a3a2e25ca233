"""A kernel with one process, for tests of pseudo file systems: the test plays the guest on the host."""

import os
from time import monotonic_ns
from typing import Any

from sentry.errors import EFAULT
from sentry.fs.tty.jobs import ControllingTerminals
from sentry.kernel.creds import ALL_CAPS, Credentials
from sentry.kernel.sched import Scheduler
from sentry.kernel.task import PidTable, Rlimits, Task
from sentry.vfs.context import FsContext
from sentry.vfs.mount import Mount, MountNamespace

ROOT = Credentials(cap_permitted=ALL_CAPS, cap_effective=ALL_CAPS)
USER = Credentials(1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000)


def run(coro) -> Any:
    """The result of a coroutine that does not wait."""
    try:
        coro.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waits")


class FakePids(PidTable):
    def __init__(self) -> None:
        super().__init__(os.open("/proc", os.O_RDONLY | os.O_DIRECTORY))
        self.guests = {os.getpid(): 1}

    def guest_pid(self, host_pid: int, member: int = 0) -> int:
        return self.guests.get(host_pid, host_pid)


class FakeFds:
    def __init__(self) -> None:
        self.files: dict[int, Any] = {}

    def get(self, fd: int, path_ok: bool = True) -> Any:
        from sentry.errors import EBADF

        try:
            return self.files[fd]
        except KeyError:
            raise EBADF

    def items(self):
        return iter(sorted(self.files.items()))

    def get_cloexec(self, fd: int) -> bool:
        return False

    def install(self, file: Any, cloexec: bool = False, lowest: int = 0) -> int:
        fd = lowest
        while fd in self.files:
            fd += 1
        self.files[fd] = file
        return fd

    def check_room(self) -> None:
        pass

    def mind(self, inode: Any) -> None:
        self.minded = inode


class FakeMemory:
    def __init__(self) -> None:
        self.bytes = bytearray(1 << 16)

    def _check(self, addr: int, size: int) -> None:
        if not 0x100 <= addr <= addr + size <= len(self.bytes):
            raise EFAULT

    def read(self, addr: int, size: int) -> bytes:
        self._check(addr, size)
        return bytes(self.bytes[addr : addr + size])

    def read_some(self, addr: int, size: int) -> bytes:
        """High addresses are the test's own, for what the host's procfs tells of it."""
        with open("/proc/self/mem", "rb", 0) as memory:
            return os.pread(memory.fileno(), size, addr)

    def write(self, addr: int, data: bytes) -> None:
        self._check(addr, len(data))
        self.bytes[addr : addr + len(data)] = data

    def read_cstr(self, addr: int, limit: int = 4096) -> bytes:
        self._check(addr, 1)
        return bytes(self.bytes[addr : self.bytes.index(0, addr)])

    def read_u32(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 4), "little")

    def read_u64(self, addr: int) -> int:
        return int.from_bytes(self.read(addr, 8), "little")

    def write_u32(self, addr: int, value: int) -> None:
        self.write(addr, (value & 0xFFFFFFFF).to_bytes(4, "little"))

    def write_u64(self, addr: int, value: int) -> None:
        self.write(addr, (value & (1 << 64) - 1).to_bytes(8, "little"))


class FakeGroup:
    def __init__(self, kernel: "FakeKernel", tgid: int, parent: "FakeGroup | None" = None) -> None:
        self.kernel = kernel
        self.tgid = self.pgid_ = self.sid_ = tgid
        self.host_tgid = next((host for host, guest in kernel.pids.guests.items() if guest == tgid), tgid)
        self.parent = parent
        self.tasks: list[FakeTask] = []
        self.rlimits = Rlimits()
        self.exe: Any = None
        self.dumpable = 1
        self.oom_score_adj = 0
        self.coredump_filter = 0x33
        self.exec_count = 0
        self.places = (0x400000, 0x401000, 0x402000, 0x403000)
        self.children: set[Any] = set()
        self.start_ns = monotonic_ns()
        self.exited = False
        self.mounts: Any = None
        kernel.all_groups.append(self)

    def members(self) -> "list[FakeTask]":
        return self.tasks

    threads = members

    def pgid(self) -> int:
        return self.pgid_

    def sid(self) -> int:
        return self.sid_


class FakeTask:
    def __init__(self, kernel: "FakeKernel", group: FakeGroup, creds: Credentials = ROOT) -> None:
        self.kernel = kernel
        self.group = group
        self.host_tid = group.host_tgid
        self.tid = group.tgid
        self.creds = creds
        self.fds = FakeFds()
        self.mem = FakeMemory()
        self.comm = b"guest"
        self.call: Any = None
        self.tracee: Any = None
        self.timer_slack_ns = self.usual_slack_ns = 50_000
        self.spawn: Any = None
        self.container: Any = None
        self.fs: Any = None
        group.tasks.append(self)
        group.leader = self
        kernel.tasks[self.host_tid] = self

    @property
    def mounts(self) -> Any:
        return self.group.mounts

    affinity = Task.affinity


class FakeKernel:
    """`sent` records signals: (pid or -pgid, number)."""

    def __init__(self) -> None:
        self.now = 0
        self.scheduler = Scheduler(clock=lambda: self.now)
        self.pids = FakePids()
        self.tasks: dict[int, FakeTask] = {}
        self.all_groups: list[FakeGroup] = []
        self.ttys = ControllingTerminals()
        self.hostname, self.domainname = b"box", b"(none)"
        self.memory_limit: int | None = None
        self.cpus: tuple[int, ...] = (0, 1)
        self.cpu_max: tuple[int, int] | None = None
        self.pids_limit: int | None = None
        self.host_proc = self.pids.host_proc
        self.sent: list[tuple[int, int]] = []

    def groups(self) -> list[FakeGroup]:
        return self.all_groups

    def find_task(self, tid: int) -> FakeTask | None:
        return next((task for task in self.tasks.values() if task.tid == tid), None)

    def zombies(self) -> list[FakeTask]:
        return []

    def dead_children(self, parent: FakeGroup) -> list[FakeGroup]:
        return []

    def find_zombie(self, tgid: int) -> FakeTask | None:
        return None

    def exists(self, task: FakeTask) -> bool:
        return self.tasks.get(task.host_tid) is task

    def find_group(self, tgid: int) -> FakeGroup | None:
        return next((group for group in self.all_groups if group.tgid == tgid), None)

    def send_signal(self, target: Any, info: Any) -> None:
        group = target if isinstance(target, FakeGroup) else target.group
        self.sent.append((group.tgid, info if isinstance(info, int) else info.signo))

    def signal_pgrp(self, pgid: int, info: Any) -> bool:
        self.sent.append((-pgid, info if isinstance(info, int) else info.signo))
        return True

    def signals(self) -> list[tuple[int, int]]:
        sent, self.sent = self.sent, []
        return sent

    def process(self, tgid: int, parent: FakeGroup | None = None, creds: Credentials = ROOT) -> FakeTask:
        group = FakeGroup(self, tgid, parent)
        task = FakeTask(self, group, creds)
        if parent is not None:
            task.fs, group.mounts = parent.tasks[0].fs, parent.mounts
        return task

    def close(self) -> None:
        os.close(self.pids.host_proc)


def world(make_fs) -> tuple[FakeKernel, FakeTask]:
    """A kernel whose process 1 has the file system `make_fs(kernel)` as its root."""
    kernel = FakeKernel()
    task = kernel.process(1)
    mounts = MountNamespace(Mount(make_fs(kernel), source=b"root"))
    task.group.mounts = mounts
    task.fs = FsContext(mounts.root_path)
    return kernel, task
