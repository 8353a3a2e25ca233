"""The sentry's host descriptors of regular files: which are kept for the next open(2) though no guest has the file open
now, and how many there may be at all.

`kept_open.add(inode)` when one got some: when there are too many, those that are idle lose theirs, the oldest first.
Each new descriptor goes through `kept_open.admit`, so that guests leave the sentry some for everything else.
"""

from __future__ import annotations

import os
import resource
from collections import deque
from typing import TYPE_CHECKING, Protocol
from weakref import ref

from sentry.errors import ENFILE
from sentry.kernel.fdtable import drain

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 4096  #: inodes that keep descriptors, where the limit of descriptors allows it
SHARE = 4  #: of the limit: what may be kept, and what is left to others
RESERVE = 1024  #: descriptors that are left to others at most
LOOKS = 8  #: inodes looked at for each that is added


class Keeper(Protocol):
    def close_idle(self) -> bool:
        """Close the host descriptors; False while some guest has the file open."""


class KeptOpen:
    """The inodes with host descriptors, in the order in which they got them. `descriptors` tells the limit."""

    __slots__ = ("_descriptors", "_end", "_inodes", "_limit")

    def __init__(self, descriptors: Callable[[], int]) -> None:
        self._inodes: deque[ref[Keeper]] = deque()
        self._descriptors = descriptors
        self._limit = 0  # inodes
        self._end = 0  # the first descriptor that is not for regular files

    def add(self, inode: Keeper) -> None:
        inodes = self._inodes
        inodes.append(ref(inode))
        if not self._limit:
            self._measure()
        self._close_idle(min(len(inodes) - self._limit, LOOKS))

    def admit(self, host_fd: int) -> int:
        """What has just been opened, maybe as another descriptor; -1 where the host had none left. ENFILE when
        guests have too many files open; it is closed then.
        """
        if not self._end:
            self._measure()
        if 0 <= host_fd < self._end:  # the host gives the lowest that is free
            return host_fd
        drain()  # what is closed is idle then
        self._close_idle(len(self._inodes))
        if host_fd < 0:
            raise ENFILE
        try:
            lower = os.dup(host_fd)
        except OSError:
            raise ENFILE
        finally:
            os.close(host_fd)
        if lower >= self._end:
            os.close(lower)
            raise ENFILE
        return lower

    def _measure(self) -> None:
        descriptors = self._descriptors()
        self._limit = min(MOST, descriptors // SHARE)
        self._end = descriptors - min(RESERVE, descriptors // SHARE)

    def _close_idle(self, looks: int) -> None:
        inodes = self._inodes
        for _ in range(looks):
            oldest = inodes.popleft()
            idle = oldest()
            if idle is not None and not idle.close_idle():
                inodes.append(oldest)


kept_open = KeptOpen(lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0])
