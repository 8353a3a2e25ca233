"""Inodes that keep their host descriptors for the next open(2), though no guest has them open now.

`kept_open.add(inode)` when one got some: when there are too many, those that are idle lose theirs, the oldest first.
"""

from __future__ import annotations

import resource
from collections import deque
from typing import TYPE_CHECKING, Protocol
from weakref import ref

if TYPE_CHECKING:
    from collections.abc import Callable

MOST = 4096  #: inodes that keep descriptors, where the limit of descriptors allows it
SHARE = 4  #: of the limit
LOOKS = 8  #: inodes looked at for each that is added


class Keeper(Protocol):
    def close_idle(self) -> bool:
        """Close the host descriptors; False while some guest has the file open."""


class KeptOpen:
    """The inodes with host descriptors, in the order in which they got them."""

    __slots__ = ("_inodes", "_limit", "_most")

    def __init__(self, most: Callable[[], int]) -> None:
        self._inodes: deque[ref[Keeper]] = deque()
        self._most = most
        self._limit = 0

    def add(self, inode: Keeper) -> None:
        inodes = self._inodes
        inodes.append(ref(inode))
        if not self._limit:
            self._limit = self._most()
        for _ in range(min(len(inodes) - self._limit, LOOKS)):
            oldest = inodes.popleft()
            idle = oldest()
            if idle is not None and not idle.close_idle():
                inodes.append(oldest)


def _most() -> int:
    return min(MOST, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // SHARE)


kept_open = KeptOpen(_most)
