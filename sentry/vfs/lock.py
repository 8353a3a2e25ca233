"""Mutex: lets one coroutine at a time through a section that waits (a file system's name changes, a copy-up).

``async with mutex:``. Sections that never wait pay two attribute accesses; a waiter sleeps uninterruptibly,
as on Linux's inode rwsem.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentry.kernel.sched import WaitQueue


class Mutex:
    """Not recursive. Waiters are served in no particular order."""

    __slots__ = ("_held", "_queue")

    def __init__(self) -> None:
        self._held = False
        self._queue: WaitQueue | None = None

    @property
    def held(self) -> bool:
        """Whether who wants it now must wait."""
        return self._held

    async def __aenter__(self) -> None:
        while self._held:
            from sentry.kernel.sched import WaitQueue, wait_uninterruptible

            if self._queue is None:
                self._queue = WaitQueue()
            await wait_uninterruptible(self._queue)
        self._held = True

    async def __aexit__(self, *exc: object) -> None:
        self.give()

    def take(self) -> None:
        """When it is not held: as ``async with`` begins."""
        self._held = True

    def give(self) -> None:
        """As ``async with`` ends."""
        self._held = False
        if self._queue is not None:
            self._queue.wake()
