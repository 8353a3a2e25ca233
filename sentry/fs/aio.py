"""Contexts of asynchronous I/O (io_setup(2), fs/aio.c): what was completed and not yet asked for, and polls under way.

Reads, writes and syncs are done when they are submitted, as Linux does them for files that go through the page cache.
Only a poll is left under way; its file stays open until then.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from sentry.abi.linux import EPOLLIN
from sentry.errors import EAGAIN
from sentry.kernel.fdtable import hold, unhold
from sentry.kernel.sched import ALL, WaitQueue

if TYPE_CHECKING:
    from sentry.fs.eventfd import EventFd
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import ThreadGroup
    from sentry.vfs.file import File

MAX_EVENTS = 65536  # /proc/sys/fs/aio-max-nr: of all contexts together


class Completion(NamedTuple):
    """struct io_event: the request's own data, the address of its iocb, its result (or -errno)."""

    data: int
    iocb: int
    result: int


class Poll:
    """One IOCB_CMD_POLL: ends with the first of `events` that its file has."""

    def __init__(self, context: Context, file: File, events: int, data: int, iocb: int, notify: EventFd | None) -> None:
        self.context = context
        self.file = file
        self.events = events
        self.data = data
        self.iocb = iocb
        self.notify = notify
        hold(file)
        if notify is not None:
            hold(notify)
        self.queue = file.wait_queue
        self.queue.add(self._woken)

    def _woken(self, mask: int) -> None:
        now = self.file.poll()
        if now & self.events:
            self.end(now & (self.events if mask == ALL else mask))  # an event is told whole

    def end(self, result: int | None) -> None:
        """`result` None: nobody will ask."""
        self.queue.remove(self._woken)
        self.context.polls.pop(self.iocb, None)
        if result is not None:
            self.context.complete(Completion(self.data, self.iocb, result), self.notify)
        unhold(self.file)
        if self.notify is not None:
            unhold(self.notify)


class Context:
    """One io_context. `size`: requests that may be under way or uncollected."""

    def __init__(self, size: int, asked: int) -> None:
        self.size = size
        self.asked = asked
        self.done: deque[Completion] = deque()
        self.polls: dict[int, Poll] = {}  # by the address of the iocb
        self.queue = WaitQueue()
        self.destroyed = False

    def check_room(self) -> None:
        if len(self.done) + len(self.polls) >= self.size:
            raise EAGAIN

    def complete(self, completion: Completion, notify: EventFd | None) -> None:
        self.done.append(completion)
        if notify is not None:
            notify.signal()
        self.queue.wake(EPOLLIN)

    def destroy(self) -> None:
        """io_destroy(2), or the end of the address space: polls are forgotten, who waits is woken."""
        self.destroyed = True
        for poll in list(self.polls.values()):
            poll.end(None)
        self.queue.wake(EPOLLIN)


def used(kernel: Kernel) -> int:
    """/proc/sys/fs/aio-nr."""
    return sum(context.asked for group in kernel.groups() for context in (group.aio or {}).values())


def leave(group: ThreadGroup) -> None:
    """The process's address space goes: exit, or exec."""
    contexts, group.aio = group.aio, None
    for context in (contexts or {}).values():
        context.destroy()
