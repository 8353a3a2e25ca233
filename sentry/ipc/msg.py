"""Message queues of System V: typed messages, first in first out (msgop(2))."""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, NamedTuple

from sentry.abi.linux import IPC_NOWAIT, MSG_EXCEPT, MSG_NOERROR
from sentry.errors import E2BIG, EAGAIN, EIDRM, EINVAL, ENOMSG
from sentry.fs.proc import sysctl
from sentry.ipc.ids import IpcObject, Registry
from sentry.kernel.sched import wait

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task


def limit(kernel: Kernel, name: bytes) -> int:
    """/proc/sys/kernel/NAME: msgmni queues, of msgmnb bytes at first, in messages of at most msgmax."""
    return int(sysctl.read(kernel, b"kernel/" + name))


class Message(NamedTuple):
    type: int
    data: bytes


class MessageQueue(IpcObject):
    def __init__(self, task: Task, key: int, mode: int) -> None:
        super().__init__(task, key, mode)
        self.messages: list[Message] = []
        self.bytes = 0
        self.max_bytes = limit(task.kernel, b"msgmnb")
        self.stime = self.rtime = 0
        self.last_sender = self.last_receiver = 0

    async def send(self, task: Task, message: Message, flags: int) -> None:
        """msgsnd(2)."""
        while True:
            self.check(task, 0o222)
            size = len(message.data)
            if self.bytes + size <= self.max_bytes and len(self.messages) < self.max_bytes:
                break
            if flags & IPC_NOWAIT:
                raise EAGAIN
            await wait(self.queue)
            if self.removed:
                raise EIDRM
        self.messages.append(message)
        self.bytes += size
        self.last_sender = task.group.tgid
        self.stime = int(time())
        self.queue.wake()

    async def receive(self, task: Task, size: int, kind: int, flags: int) -> Message:
        """msgrcv(2); the data is cut to `size` under MSG_NOERROR."""
        while True:
            self.check(task, 0o444)
            index = self._choose(kind, flags)
            if index is not None:
                break
            if flags & IPC_NOWAIT:
                raise ENOMSG
            await wait(self.queue)
            if self.removed:
                raise EIDRM
        message = self.messages[index]
        if len(message.data) > size and not flags & MSG_NOERROR:
            raise E2BIG
        del self.messages[index]
        self.bytes -= len(message.data)
        self.last_receiver = task.group.tgid
        self.rtime = int(time())
        self.queue.wake()
        return Message(message.type, message.data[:size])

    def peek(self, task: Task, size: int, number: int, flags: int) -> Message:
        """MSG_COPY: message `number` of the queue, which stays there."""
        self.check(task, 0o444)
        if not 0 <= number < len(self.messages):
            raise ENOMSG
        message = self.messages[number]
        if len(message.data) > size:
            raise EINVAL if flags & MSG_NOERROR else E2BIG
        return message

    def _choose(self, kind: int, flags: int) -> int | None:
        """Which message a receiver of `kind` gets."""
        best: int | None = None
        for index, message in enumerate(self.messages):
            if kind == 0:
                return index
            if kind > 0:
                if (message.type == kind) != bool(flags & MSG_EXCEPT):
                    return index
            elif message.type <= -kind and (best is None or message.type < self.messages[best].type):
                best = index
        return best


queues: Registry[MessageQueue] = Registry()
