"""What is known of a host directory's names without asking: all of them (`AllNames`), and answers that came before
they were asked for (`Ahead`). Only of directories in an exclusive tree, which nobody else changes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING
from weakref import ref

if TYPE_CHECKING:
    from sentry.fs.goferfs import GoferInode

AHEAD = 32  # names looked up together when a listing is walked in its order
LISTINGS = 32  # directories whose listing is kept for that
NAMES_MAX = 1 << 16  # names of directories that are known in full


class AllNames:
    """The directories of which every name is known (`GoferInode.names`), so that what is absent need not be asked for.
    The longest known are forgotten when there are many names."""

    __slots__ = ("_about", "_order")

    def __init__(self) -> None:
        self._order: deque[ref[GoferInode]] = deque()
        self._about = 0  # names held, or more: those that went are counted until the next look

    def learn(self, inode: GoferInode, names: set[bytes]) -> None:
        """`names` is what `inode` holds, now and from now on."""
        if inode.names is None:
            self._order.append(ref(inode))
        inode.names = names
        self.added(len(names) + 1)

    def added(self, count: int = 1) -> None:
        self._about += count
        if self._about > NAMES_MAX:
            self._forget_some()

    def _forget_some(self) -> None:
        held: deque[ref[GoferInode]] = deque()
        count = 0
        for known in reversed(self._order):
            inode = known()
            if inode is None or inode.names is None:
                continue
            count += len(inode.names) + 1
            if count > NAMES_MAX // 2:
                inode.names = None
            else:
                held.appendleft(known)
        self._order = held
        self._about = min(count, NAMES_MAX // 2)


all_names = AllNames()


class Ahead:
    """A listing just read, and answers for its names that came before they were asked for."""

    __slots__ = ("index", "last", "names", "ready", "when_ns")

    def __init__(self, names: list[bytes]) -> None:
        self.names = names
        self.index: dict[bytes, int] | None = None
        self.last = -1
        self.ready: dict[bytes, tuple[int, int, bytes]] = {}  # name -> errno, handle, data
        self.when_ns = 0

    def wanted(self, name: bytes) -> list[bytes] | None:
        """The names to look up together with this one, if names are asked for in the listing's order."""
        if self.index is None:
            self.index = {known: number for number, known in enumerate(self.names)}
        number = self.index.get(name)
        if number is None:
            return None
        in_order = number == self.last + 1
        self.last = number
        if not in_order:
            return None
        names = self.names[number : number + AHEAD]
        self.last = number + len(names) - 1
        return names


_listed: deque[ref[GoferInode]] = deque()  # whose listings are kept, oldest first


def keep_listing(inode: GoferInode, names: list[bytes]) -> None:
    """`inode` was just listed: its names may be asked for in that order."""
    inode.ahead = Ahead(names)
    _listed.append(ref(inode))
    if len(_listed) > LISTINGS:
        oldest = _listed.popleft()()
        if oldest is not None and oldest is not inode:
            oldest.drop_ahead()
