"""Holding the sandbox still, so that the host can freeze it: what the container's owner knows as pause.

The host's freezer takes a thread where it would take a signal. A guest in a call that the sentry has received and not
answered is not there, and with the sentry frozen too it would never come. So before a freeze every waiting call is
parked (calls.py), and no new one is received: its caller then waits where the freezer finds it. Guests notice nothing.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel

LOOK_NS = 500_000
GIVE_UP_NS = 2_000_000_000  # a wait for the gofer can't be parked, and may be long


class Holding:
    def __init__(self, kernel: "Kernel") -> None:
        self._kernel = kernel
        self._done: Callable[[bool], None] | None = None
        self._give_up_ns = 0

    def begin(self, done: Callable[[bool], None]) -> None:
        """Receive no more calls. `done` is told once none is open (True), or that it took too long (False)."""
        self._kernel.platform.hold(1)
        self._done = done
        self._give_up_ns = self._kernel.scheduler.now_ns() + GIVE_UP_NS
        self._look()

    def end(self) -> None:
        """Go on. Nothing if nothing is held."""
        self._done = None
        self._kernel.platform.hold(0)

    def _look(self) -> None:
        done, scheduler = self._done, self._kernel.scheduler
        if done is None:
            return
        zygote, waiting = self._kernel.life.zygote.park(), self._kernel.waiting.park_all()
        if zygote and waiting:
            self._done = None
            done(True)
        elif scheduler.now_ns() >= self._give_up_ns:
            self.end()
            done(False)
        else:
            scheduler.call_at(scheduler.now_ns() + LOOK_NS, self._look)
