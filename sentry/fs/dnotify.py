"""fcntl(F_NOTIFY): a signal when something happens in a directory; inotify(7)'s older brother."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    DN_ACCESS,
    DN_ATTRIB,
    DN_CREATE,
    DN_DELETE,
    DN_MODIFY,
    DN_MULTISHOT,
    DN_RENAME,
    IN_ACCESS,
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_MODIFY,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    POLL_MSG,
    S_IFDIR,
    S_IFMT,
)
from sentry.errors import ENOTDIR
from sentry.kernel import sigio
from sentry.vfs import notify

if TYPE_CHECKING:
    from sentry.kernel.fdtable import FdTable
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode

_EVENTS = {
    DN_ACCESS: IN_ACCESS,
    DN_MODIFY: IN_MODIFY,
    DN_CREATE: IN_CREATE | IN_MOVED_TO,
    DN_DELETE: IN_DELETE | IN_MOVED_FROM,
    DN_RENAME: IN_MOVED_FROM,
    DN_ATTRIB: IN_ATTRIB,
}


class _Watch:
    """One open directory that is watched by one process, until it closes any descriptor of it (`FdTable.noted`)."""

    __slots__ = ("fd", "fds", "file", "inode", "kernel", "mask", "once")

    def __init__(self, task: Task, file: File) -> None:
        self.kernel = task.kernel
        self.fds: FdTable = task.fds
        self.fd = -1
        self.file = file
        self.inode: Inode = file.inode
        self.mask = 0
        self.once = True

    def deliver(self, mask: int, name: bytes, cookie: int, unlinked: bool = False) -> None:
        """Only what happens to a name in the directory counts."""
        if not name or not mask & self.mask:
            return
        if self.once:
            self.drop()
        sigio.tell(self.kernel, self.file, self.fd, POLL_MSG)

    def unmounted(self) -> None:
        self.drop()

    def drop(self) -> None:
        del self.fds.noted[self.file]
        self.fds.mind_closes()
        notify.remove(self)


def set_notify(task: Task, fd: int, file: File, mask: int) -> None:
    """DN_* events are added to those the process waits for on this description; none: it waits no longer."""
    watch = task.fds.noted.get(file)
    if not mask & ~DN_MULTISHOT:
        if watch is not None:
            watch.drop()
        return
    if file.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    if watch is None:
        watch = task.fds.noted[file] = _Watch(task, file)
        task.fds.mind_closes()
        notify.add(watch)
    watch.fd = fd
    sigio.own_unless_owned(task, file)
    wanted = watch.mask
    for bit, events in _EVENTS.items():
        if mask & bit:
            wanted |= events
    notify.change(watch, wanted)
    watch.once = not mask & DN_MULTISHOT
