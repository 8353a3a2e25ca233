"""The zygote: it waits in a magic call, whose answer makes it fork a first task (native/src/boot.c).

    OPEN ──fork──▶ BUSY (it forks, and calls again) ──▶ OPEN
    OPEN ──park──▶ STOPPING ──stop──▶ PARKED ──fork──▶ UNPARKING ──stop──▶ BUSY

Its call stays open: it costs the listener one entry. But a thread in an open call can't be frozen by the host: before
a freeze it is put to sleep in a native pause(2), as waiting tasks are (calls.py).
"""

from typing import TYPE_CHECKING

from sentry.abi.linux import ERESTARTSYS

if TYPE_CHECKING:
    from sentry.platform.base import Platform

BUSY, OPEN, STOPPING, PARKED, UNPARKING = range(5)


class Zygote:
    __slots__ = ("_call", "_orders", "_platform", "_state", "tid")

    def __init__(self, platform: "Platform") -> None:
        self._platform = platform
        self.tid = 0  # the host's id of it; 0 when there is none (any more)
        self._state = BUSY
        self._call = 0  # its open notification
        self._orders = 0

    def fork(self) -> None:
        """Have it fork, once for each time this is called, as soon as it can."""
        self._orders += 1
        self._go_on()

    def waits(self, call_id: int) -> None:
        """It has made its magic call."""
        self._state, self._call = OPEN, call_id
        self._go_on()

    def _go_on(self) -> None:
        if not self._orders:
            return
        if self._state == OPEN:
            self._orders -= 1
            self._state = BUSY
            self._platform.reply(self._call, 1)
        elif self._state == PARKED and not self._platform.interrupt(self.tid):
            self._state = UNPARKING

    def park(self) -> bool:
        """Put it where it can be frozen; True when it is there (as it is while it is busy)."""
        if self._state == OPEN and not self._platform.interrupt(self.tid):
            self._state = STOPPING
            self._platform.reply(self._call, -ERESTARTSYS)
        return self._state not in (OPEN, STOPPING) or not self.tid

    def stopped(self) -> bool:
        """A stop that was asked for by `interrupt`. False: none was, and the stop is left to the caller."""
        if self._state == STOPPING:
            self._state = PARKED
            self._platform.park(self.tid, 0)
            self._go_on()
            return True
        if self._state == UNPARKING:
            self._orders -= 1
            self._state = BUSY
            self._platform.finish(self.tid, -1, 1, 0)
            return True
        return False
