"""epoll(7): items on the wait queues of the files they watch, and a list of those that may be ready.

An item comes on the list when its file's queue wakes with an event it asked for; collecting asks the file
again (poll), so a stale entry costs a look and nothing else. Level-triggered items stay listed while ready.
"""

from __future__ import annotations

from collections.abc import Callable

from sentry.abi.linux import (
    EPOLLERR,
    EPOLLET,
    EPOLLEXCLUSIVE,
    EPOLLHUP,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    EPOLLRDNORM,
    EPOLLWAKEUP,
    O_RDWR,
)
from sentry.errors import EEXIST, EINVAL, ELOOP, ENOENT, EPERM
from sentry.fs.anon import AnonFile, anon_inode
from sentry.kernel.fdtable import at_release, file_id, forget_at_release
from sentry.kernel.sched import KNOWN
from sentry.kernel.sigwatch import SignalQueue
from sentry.vfs.file import File

_PRIVATE = EPOLLWAKEUP | EPOLLONESHOT | EPOLLET | EPOLLEXCLUSIVE
_EXCLUSIVE_OK = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE
MAX_NESTS = 4  # EP_MAX_NESTS: epolls that watch epolls
MAX_WAYS_UP = 1000


class Item:
    """One descriptor watched. Disarmed (EPOLLONESHOT has fired) when `events` has only private bits."""

    __slots__ = ("data", "epoll", "events", "fd", "file", "queue")

    def __init__(self, epoll: Epoll, fd: int, file: File, events: int, data: int) -> None:
        self.epoll = epoll
        self.fd = fd
        self.file = file
        self.queue = file.wait_queue  # of a signalfd it is that of the task which adds it
        self.events = events
        self.data = data

    def wake(self, mask: int) -> None:
        """The file's queue has something to tell."""
        if mask & self.events & ~_PRIVATE and not mask & KNOWN:
            self.epoll.may_be_ready(self)

    def released(self, file: File) -> None:
        """The file's last descriptor was closed."""
        self.epoll.drop(self)

    def ready(self) -> int:
        events = self.events & ~_PRIVATE
        return self.file.poll() & events if events else 0


class Epoll(AnonFile):
    """An epoll instance. Items hold no reference to their file: its last close takes them off."""

    __slots__ = ("_items", "_look", "_ready")

    def __init__(self) -> None:
        super().__init__(anon_inode(), None, O_RDWR)
        self._items: dict[tuple[int, int], Item] = {}
        self._ready: dict[Item, None] = {}  # ordered: who comes first is told first
        self._look: Callable[[], None] | None = None  # of signals, which the host tells of later

    # --- epoll_ctl(2)

    def add(self, fd: int, file: File, events: int, data: int) -> None:
        if not can_poll(file):
            raise EPERM
        if file is self:
            raise EINVAL
        if events & EPOLLEXCLUSIVE and (events & ~_EXCLUSIVE_OK or isinstance(file, Epoll)):
            raise EINVAL
        key = fd, file_id(file)
        if key in self._items:
            raise EEXIST
        if isinstance(file, Epoll):
            self._check_nesting(file)
        item = self._items[key] = Item(self, fd, file, _always(events), data)
        item.queue.add(item.wake)
        at_release(file, item.released)
        if isinstance(item.queue, SignalQueue):
            self._look = item.queue.look
        if item.ready():
            self.may_be_ready(item)

    def modify(self, fd: int, file: File, events: int, data: int) -> None:
        item = self._find(fd, file)
        if events & EPOLLEXCLUSIVE or item.events & EPOLLEXCLUSIVE:
            raise EINVAL
        item.events = _always(events)
        item.data = data
        if item.ready():
            self.may_be_ready(item)

    def delete(self, fd: int, file: File) -> None:
        item = self._find(fd, file)
        self.drop(item)
        forget_at_release(file, item.released)

    def _find(self, fd: int, file: File) -> Item:
        if not can_poll(file):
            raise EPERM
        if file is self:
            raise EINVAL
        item = self._items.get((fd, file_id(file)))
        if item is None:
            raise ENOENT
        return item

    def drop(self, item: Item) -> None:
        """The item is watched no longer."""
        item.queue.remove(item.wake)
        del self._items[item.fd, file_id(item.file)]
        self._ready.pop(item, None)

    def _check_nesting(self, target: Epoll) -> None:
        """ELOOP for a circle, and for a chain of more than MAX_NESTS links; EINVAL when an event would have too many
        ways up (reverse_path_check)."""
        below: dict[Epoll, int] = {}
        if self._below(target, below) + self._above({}) > MAX_NESTS:
            raise ELOOP
        known: dict[Epoll, int] = {}
        ours = 1 + self._ways_up(known)
        for epoll in below:
            if epoll._ways_up(known) + ours > MAX_WAYS_UP:
                raise EINVAL("too many ways for one event")

    def _below(self, epoll: Epoll, known: dict[Epoll, int]) -> int:
        """Links in the longest chain from us over `epoll` downwards. `known`: epolls already looked at."""
        if epoll is self:
            raise ELOOP
        if epoll not in known:
            nested = [item.file for item in epoll._items.values() if isinstance(item.file, Epoll)]
            known[epoll] = 1 + max((self._below(file, known) for file in nested), default=0)
        return known[epoll]

    def _watchers(self) -> list[Epoll]:
        """The epolls that watch us, one for each item."""
        found = []
        if self.queue is not None:
            for callback in self.queue._callbacks:
                watcher = getattr(callback, "__self__", None)
                if isinstance(watcher, Item):
                    found.append(watcher.epoll)
        return found

    def _above(self, known: dict[Epoll, int]) -> int:
        """Links in the longest chain of epolls that watch us."""
        if self not in known:
            known[self] = max((watcher._above(known) + 1 for watcher in self._watchers()), default=0)
        return known[self]

    def _ways_up(self, known: dict[Epoll, int]) -> int:
        """How many epolls an event of ours is told to, each as often as there are chains to it."""
        if self not in known:
            known[self] = sum(watcher._ways_up(known) + 1 for watcher in self._watchers())
        return known[self]

    # --- readiness

    def may_be_ready(self, item: Item) -> None:
        self._ready[item] = None
        self.wait_queue.wake(EPOLLIN | EPOLLRDNORM)

    def collect(self, limit: int) -> list[tuple[int, int]]:
        """Up to `limit` (events, data) of items that are ready now."""
        if self._look is not None:
            self._look()
        found: list[tuple[int, int]] = []
        again: list[Item] = []
        for item in list(self._ready):
            if len(found) >= limit:
                break
            del self._ready[item]
            events = item.ready()
            if not events:
                continue
            found.append((events, item.data))
            if item.events & EPOLLONESHOT:
                item.events &= _PRIVATE
            elif not item.events & EPOLLET:
                again.append(item)
        for item in again:  # behind those not told this time, so that all get their turn
            self._ready[item] = None
        return found

    def poll(self) -> int:
        """Readable while an item is ready."""
        if self._look is not None:
            self._look()
        for item in list(self._ready):
            if item.ready():
                return EPOLLIN | EPOLLRDNORM
            del self._ready[item]
        return 0

    def release(self) -> None:
        for item in list(self._items.values()):
            forget_at_release(item.file, item.released)
            self.drop(item)

    def targets(self) -> list[tuple[int, int, int]]:
        """(fd, events, data) of each item, for /proc/PID/fdinfo."""
        return [(item.fd, item.events, item.data) for item in self._items.values()]

    def describe(self) -> bytes | None:
        return b"anon_inode:[eventpoll]"


def _always(events: int) -> int:
    return events | EPOLLERR | EPOLLHUP


def can_poll(file: File) -> bool:
    """Whether the file has a poll operation of its own (file_can_poll)."""
    return type(file).poll is not File.poll and not isinstance(file, _never_polls())


_regular: tuple[type, ...] = ()


def _never_polls() -> tuple[type, ...]:
    global _regular
    if not _regular:
        from sentry.fs.hostfile import HostFile

        _regular = (HostFile,)
    return _regular
