"""inotify(7): an instance is an open file from which the events of its watches are read."""

from __future__ import annotations

from collections import deque
from struct import Struct
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    FIONREAD,
    IN_ALL_EVENTS,
    IN_DELETE_SELF,
    IN_EXCL_UNLINK,
    IN_IGNORED,
    IN_ISDIR,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_ONESHOT,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
    O_NONBLOCK,
    O_RDONLY,
)
from sentry.errors import EAGAIN, EEXIST, EINVAL
from sentry.fs.anon import AnonFile, anon_inode
from sentry.kernel.sched import wait
from sentry.vfs import notify

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode

MAX_QUEUED = 16384  # /proc/sys/fs/inotify/max_queued_events
_EVENT = Struct("<iIII")  # wd, mask, cookie, len, then the name
_EPOLLIN = 0x41  # EPOLLIN | EPOLLRDNORM


class Watch:
    """One inode watched by one instance. It keeps the inode, as on Linux."""

    __slots__ = ("inode", "instance", "mask", "wd")

    def __init__(self, instance: Inotify, wd: int, inode: Inode, mask: int) -> None:
        self.instance = instance
        self.wd = wd
        self.inode = inode
        self.mask = mask

    def deliver(self, mask: int, name: bytes, cookie: int, unlinked: bool = False) -> None:
        if not mask & self.mask & IN_ALL_EVENTS or (unlinked and self.mask & IN_EXCL_UNLINK):
            return
        shown = mask & (self.mask & IN_ALL_EVENTS | IN_ISDIR)
        self.instance.queue_event(self.wd, shown, cookie, name)
        if mask & IN_DELETE_SELF or self.mask & IN_ONESHOT:
            self.instance.drop(self)

    def unmounted(self) -> None:
        self.instance.queue_event(self.wd, IN_UNMOUNT, 0, b"")
        self.instance.drop(self)


class Inotify(AnonFile):
    """An inotify instance."""

    __slots__ = ("_events", "_last_wd", "_watches")
    async_io = True

    def __init__(self, flags: int = 0) -> None:
        super().__init__(anon_inode(), None, O_RDONLY | (flags & O_NONBLOCK))
        self._events: deque[tuple[int, int, int, bytes]] = deque()
        self._watches: dict[int, Watch] = {}
        self._last_wd = 0

    # --- watches

    def watch(self, inode: Inode, mask: int) -> int:
        """inotify_add_watch(2): the watch descriptor; an inode already watched gets its mask changed."""
        for watch in self._watches.values():
            if watch.inode is inode:
                if mask & IN_MASK_CREATE:
                    raise EEXIST
                kept = watch.mask if mask & IN_MASK_ADD else 0
                notify.change(watch, kept | (mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK)))
                return watch.wd
        self._last_wd += 1
        watch = Watch(self, self._last_wd, inode, mask & (IN_ALL_EVENTS | IN_ONESHOT | IN_EXCL_UNLINK))
        self._watches[watch.wd] = watch
        notify.add(watch)
        return watch.wd

    def unwatch(self, wd: int) -> None:
        """inotify_rm_watch(2)."""
        watch = self._watches.get(wd)
        if watch is None:
            raise EINVAL
        self.drop(watch)

    def drop(self, watch: Watch) -> None:
        """End a watch, which IN_IGNORED tells."""
        if self._watches.pop(watch.wd, None) is not None:
            notify.remove(watch)
            self.queue_event(watch.wd, IN_IGNORED, 0, b"")

    # --- events

    def queue_event(self, wd: int, mask: int, cookie: int, name: bytes) -> None:
        event = wd, mask, cookie, name
        if self._events and self._events[-1] == event:  # equal neighbours are one
            return
        if len(self._events) >= MAX_QUEUED:
            event = -1, IN_Q_OVERFLOW, 0, b""
            if self._events[-1] == event:
                return
        self._events.append(event)
        if self.queue is not None:
            self.queue.wake(_EPOLLIN)

    async def read(self, task: Task, size: int) -> bytes:
        while not self._events:
            if self.flags & O_NONBLOCK:
                raise EAGAIN
            await wait(self.wait_queue)
        out = bytearray()
        while self._events:
            record = _pack(*self._events[0])
            if len(out) + len(record) > size:
                if not out:
                    raise EINVAL("no room for one event")
                break
            self._events.popleft()
            out += record
        return bytes(out)

    def poll(self) -> int:
        return _EPOLLIN if self._events else 0

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        if cmd == FIONREAD:
            task.mem.write_u32(arg, sum(len(_pack(*event)) for event in self._events))
            return 0
        return await super().ioctl(task, cmd, arg)

    def describe(self) -> bytes | None:
        return b"anon_inode:inotify"

    def release(self) -> None:
        for watch in self._watches.values():
            notify.remove(watch)
        self._watches.clear()
        self._events.clear()


def _pack(wd: int, mask: int, cookie: int, name: bytes) -> bytes:
    """struct inotify_event; the name is NUL-terminated and fills whole multiples of the struct's size."""
    padded = (len(name) + _EVENT.size) // _EVENT.size * _EVENT.size if name else 0
    return _EVENT.pack(wd, mask, cookie, padded) + name.ljust(padded, b"\0")
