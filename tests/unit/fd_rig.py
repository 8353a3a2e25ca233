"""System calls on descriptors without a sandbox: this process is its own guest, and its memory too."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace
from typing import Any

from native import ffi
from sentry.abi.x86_64 import NUMBERS
from sentry.errors import Interrupted, LinuxError
from sentry.kernel import fdtable
from sentry.kernel.creds import ALL_CAPS, Credentials
from sentry.kernel.memory import Memory
from sentry.kernel.sched import Job, Scheduler
from sentry.kernel.task import Rlimits
from sentry.syscalls import load_all
from sentry.syscalls.declare import CONTINUE, lookup

load_all()

PENDING = "pending"
INTERRUPTED = "interrupted"


class Task:
    """As much of a task as the handlers look at."""

    def __init__(self, rig: Rig, fds: fdtable.FdTable | None = None, pid: int = 1) -> None:
        self.fds = fds or fdtable.FdTable()
        self.mem = Memory(threading.get_native_id())
        self.creds = Credentials(cap_effective=ALL_CAPS)
        self.group = SimpleNamespace(rlimits=Rlimits(), tgid=pid, tasks=[self])
        self.kernel = rig
        self.tid = self.host_tid = pid
        self.sigmask: list[int | None] = []

    def set_fds(self, fds: fdtable.FdTable) -> None:
        self.fds = fds

    async def with_sigmask(self, mask: int | None, coro: Any) -> Any:
        self.sigmask.append(mask)
        return await coro


class Rig:
    """A scheduler with a clock that the test moves, one task, and calls by name."""

    def __init__(self) -> None:
        self.now_ns = 1_000_000_000
        self.scheduler = Scheduler(lambda: self.now_ns)
        self.signals: list[int] = []
        self.pids = SimpleNamespace(status=lambda host_tid: {})
        self.threads = SimpleNamespace(part=lambda task: None)
        self.task = Task(self)
        self._keep: list[Any] = []
        self.before = fdtable.statistics()
        self.host_fds = set(os.listdir("/proc/self/fd"))

    def send_signal(self, target: object, info: Any) -> None:
        self.signals.append(info.signo)

    def buffer(self, data: bytes | int) -> tuple[int, Any]:
        """(address, the bytes behind it as a buffer)."""
        size = data if isinstance(data, int) else len(data)
        memory = ffi.new("char[]", size + 1)
        if isinstance(data, bytes):
            ffi.memmove(memory, data, size)
        self._keep.append(memory)
        return int(ffi.cast("uintptr_t", memory)), ffi.buffer(memory, size)

    def start(self, name: str, *args: int, task: Task | None = None) -> Job:
        """A call under way; look at it with `result`."""
        return self.scheduler.spawn(self._call(name, args, task or self.task))

    async def _call(self, name: str, args: tuple[int, ...], task: Task) -> Any:
        registers = tuple(arg & 0xFFFFFFFFFFFFFFFF for arg in args) + (0,) * (6 - len(args))
        entry = lookup(NUMBERS[name])
        result = entry.handler(task, registers)
        if entry.is_async and result is not CONTINUE:
            result = await result
        return 0 if result is None else result

    def result(self, job: Job) -> Any:
        """The value, -errno, PENDING or INTERRUPTED; events under way are brought home first."""
        self.settle()
        if not job.ended:
            return PENDING
        if isinstance(job.error, LinuxError):
            return -job.error.errno
        if isinstance(job.error, Interrupted):
            return INTERRUPTED
        if job.error is not None:
            raise job.error
        return job.value

    def call(self, name: str, *args: int, task: Task | None = None) -> Any:
        return self.result(self.start(name, *args, task=task))

    def settle(self) -> None:
        for _ in range(100):
            fdtable.drain()
            self.scheduler.run_until_idle()
            if not self.scheduler.ready:
                break
        fdtable.drain()

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * 1_000_000_000)
        self.settle()

    def write(self, fd: int, data: bytes) -> Any:
        return self.call("write", fd, self.buffer(data)[0], len(data))

    def read(self, fd: int, size: int = 100) -> Any:
        """The bytes read, or what else the call gave."""
        addr, view = self.buffer(size)
        got = self.call("read", fd, addr, size)
        return bytes(view[:got]) if isinstance(got, int) and got >= 0 else got

    def pipe(self, flags: int = 0) -> tuple[int, int]:
        addr, view = self.buffer(8)
        assert self.call("pipe2", addr, flags) == 0
        return int.from_bytes(view[:4], "little"), int.from_bytes(view[4:8], "little")

    def finish(self) -> None:
        """Everything closed: nothing of a test may be left."""
        self.task.fds.drop()
        self.settle()
        assert fdtable.statistics() == self.before
