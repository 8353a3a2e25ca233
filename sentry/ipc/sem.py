"""Semaphore sets: semop(2) all or nothing, undo at exit."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, NamedTuple

from sentry.abi.linux import IPC_NOWAIT, SEM_UNDO, SEMVMX
from sentry.errors import EAGAIN, EFBIG, EIDRM, ERANGE
from sentry.fs.proc import sysctl
from sentry.ipc.ids import IpcObject, Registry
from sentry.kernel.sched import sched, wait

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task, ThreadGroup


class Limits(NamedTuple):
    """/proc/sys/kernel/sem: semaphores a set and in all, operations a call, sets."""

    per_set: int
    in_all: int
    operations: int
    sets: int


def limits(kernel: Kernel) -> Limits:
    return Limits(*map(int, sysctl.read(kernel, b"kernel/sem").split()))


class Operation(NamedTuple):
    """struct sembuf."""

    number: int
    change: int
    flags: int


class Blocked(NamedTuple):
    """Which operation must wait."""

    operation: Operation


class SemaphoreSet(IpcObject):
    def __init__(self, task: Task, key: int, mode: int, count: int) -> None:
        super().__init__(task, key, mode)
        self.values = [0] * count
        self.pids = [0] * count
        self.otime = 0
        self.undo: dict[ThreadGroup, dict[int, int]] = {}
        self.waiting: list[Operation] = []  # what each sleeper is stuck on, for GETNCNT and GETZCNT

    async def operate(self, task: Task, operations: list[Operation], deadline_ns: int | None) -> None:
        """semtimedop(2)."""
        if max(operation.number for operation in operations) >= len(self.values):
            raise EFBIG
        altering = any(operation.change for operation in operations)
        self.check(task, 0o222 if altering else 0o444)
        while (blocked := self._try(task, operations)) is not None:
            if blocked.operation.flags & IPC_NOWAIT:
                raise EAGAIN
            if deadline_ns is not None and sched().now_ns() >= deadline_ns:
                raise EAGAIN
            self.waiting.append(blocked.operation)
            try:
                await wait(self.queue, deadline_ns=deadline_ns)
            finally:
                self.waiting.remove(blocked.operation)
            if self.removed:
                raise EIDRM

    def _try(self, task: Task, operations: list[Operation]) -> Blocked | None:
        """Do all operations, or none and say which one must wait."""
        values = list(self.values)
        undo = dict(self.undo.get(task.group, {}))
        for operation in operations:
            number, change, flags = operation
            value = values[number]
            if change == 0:
                if value:
                    return Blocked(operation)
                continue
            if value + change < 0:
                return Blocked(operation)
            if value + change > SEMVMX:
                raise ERANGE
            values[number] = value + change
            if flags & SEM_UNDO:
                adjust = undo.get(number, 0) - change
                if not -SEMVMX - 1 <= adjust <= SEMVMX:
                    raise ERANGE
                undo[number] = adjust
        pid = task.group.tgid
        for operation in operations:
            self.pids[operation.number] = pid
        self.otime = int(time())
        if any(undo.values()) or task.group in self.undo:
            self.undo[task.group] = undo
        if values != self.values:
            self.values = values
            self.queue.wake()
        return None

    def set_value(self, task: Task, number: int, value: int) -> None:
        """SETVAL; pending undos of the semaphore are forgotten."""
        if not 0 <= value <= SEMVMX:
            raise ERANGE
        self.values[number] = value
        self.pids[number] = task.group.tgid
        for undo in self.undo.values():
            undo.pop(number, None)
        self._changed()

    def set_all(self, task: Task, values: list[int]) -> None:
        """SETALL."""
        if any(value > SEMVMX for value in values):
            raise ERANGE
        self.values = values
        self.pids = [task.group.tgid] * len(values)
        self.undo.clear()
        self._changed()

    def _changed(self) -> None:
        self.ctime = int(time())
        self.queue.wake()

    def count_waiting(self, number: int, for_zero: bool) -> int:
        """GETNCNT and GETZCNT."""
        return sum(1 for each in self.waiting if each.number == number and (each.change == 0) == for_zero)

    def exited(self, group: ThreadGroup) -> None:
        """A process is gone: its SEM_UNDO adjustments take effect."""
        undo = self.undo.pop(group, None)
        if not undo:
            return
        for number, adjust in undo.items():
            if adjust:
                self.values[number] = max(0, min(SEMVMX, self.values[number] + adjust))
                self.pids[number] = group.tgid
        self.otime = int(time())
        self.queue.wake()


sets: Registry[SemaphoreSet] = Registry()


def in_use() -> int:
    """Semaphores of all sets."""
    return sum(len(each.values) for each in sets.by_index.values())


def group_exited(group: ThreadGroup) -> None:
    """To be called when a process is gone, or wants no more to do with its adjustments (exit_sem)."""
    for each in sets.by_index.values():
        if each.undo:
            each.exited(group)
