"""A kernel with a tracer and its tracee: see kernel_rig.py.

    world = World(tmp_path)
    world.signal_stop(world.task, SIGUSR1)
    assert world.code() == (SIGNAL, SIGUSR1)
    world.ptrace(PTRACE_CONT)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentry.abi.linux import PTRACE_TRACEME
from sentry.kernel.ptrace import Tracee
from tests.unit.kernel_rig import KernelRig, answer, with_memory

ENTRY, EXIT = 1, 2  # PTRACE_EVENTMSG_SYSCALL_*


class World(KernelRig):
    """A tracer and its child, which asked to be traced."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.tracer = with_memory(self.first_task())
        self.task = self.fork(self.tracer)
        assert answer(self.task, "ptrace", PTRACE_TRACEME, 0, 0, 0) == 0
        self.platform.masks[self.task.host_tid] = 0
        self.done()

    @property
    def tracee(self) -> Tracee:
        assert self.task.tracee is not None
        return self.task.tracee

    def ptrace(self, request: int, addr: int = 0, data: int = 0) -> Any:
        return answer(self.tracer, "ptrace", request, self.task.tid, addr, data)

    def code(self) -> tuple[int, int]:
        """Kind and code of the stop that the tracer sees."""
        stop = self.tracee.stop
        assert stop is not None
        return stop.kind, stop.code

    def call_stop_of(self, message: int) -> None:
        self.platform.messages[self.task.host_tid] = message
        self.call_stop(self.task)

    def resumed(self) -> list[tuple[Any, ...]]:
        return [note[2:] for note in self.done() if note[:2] == ("resume", self.task.host_tid)]
