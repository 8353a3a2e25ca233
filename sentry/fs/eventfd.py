"""eventfd(2): a counter in C (native/src/eventfd.c) with a File over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.abi.linux import O_NONBLOCK, O_RDWR
from sentry.fs.anon import anon_inode
from sentry.fs.hostfile import AT_POS, CFile
from sentry.kernel.fdtable import SourceQueue

if TYPE_CHECKING:
    from sentry.kernel.sched import WaitQueue


class EventFd(CFile):
    """`count` to start with; `semaphore`: each read takes one."""

    __slots__ = ("_event", "_queue")

    KIND = lib.NC_EVENTFD
    nowait = True

    def __init__(self, count: int, semaphore: bool = False, flags: int = 0) -> None:
        self._event: Any = ffi.gc(lib.nc_eventfd_new(count, semaphore), lib.nc_eventfd_put)
        self._queue = SourceQueue(self._event, lib.nc_eventfd_id(self._event), lib.nc_eventfd_watch)
        super().__init__(anon_inode(), None, O_RDWR | (flags & O_NONBLOCK), self._event)

    @property
    def wait_queue(self) -> WaitQueue:
        return self._queue

    @property
    def count(self) -> int:
        return lib.nc_eventfd_count(self._event)

    def signal(self) -> None:
        """The kernel's own count of one (eventfd_signal); a full counter stays full."""
        lib.nc_file_write_buf(self.nc, ffi.from_buffer((1).to_bytes(8, "little")), 8, AT_POS)

    def describe(self) -> bytes | None:
        return b"anon_inode:[eventfd]"
