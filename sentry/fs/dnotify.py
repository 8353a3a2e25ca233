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
    S_IFDIR,
    S_IFMT,
)
from sentry.errors import ENOTDIR
from sentry.fs.sigio import F_OWNER_PID, POLL_MSG, owner_of
from sentry.kernel.fdtable import at_release, forget_at_release
from sentry.vfs import notify

if TYPE_CHECKING:
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

_watches: dict[tuple[object, File], _Watch] = {}  # by descriptor table and description, as dnotify_flush finds them


class _Watch:
    """One open directory that is watched by one process."""

    __slots__ = ("file", "inode", "key", "mask", "once")

    def __init__(self, key: tuple[object, File]) -> None:
        self.key = key
        self.file = key[1]
        self.inode: Inode = self.file.inode
        self.mask = 0
        self.once = True

    def deliver(self, mask: int, name: bytes, cookie: int, unlinked: bool = False) -> None:
        """Only what happens to a name in the directory counts."""
        if not name or not mask & self.mask:
            return
        owner = owner_of(self.file)
        if self.once:
            self.drop(self.file)
        owner.tell(POLL_MSG)

    def unmounted(self) -> None:
        self.drop(self.file)

    def drop(self, file: File) -> None:
        if _watches.pop(self.key, None) is not None:
            notify.remove(self)
            forget_at_release(self.file, self.drop)


def set_notify(task: Task, fd: int, file: File, mask: int) -> None:
    """DN_* events are added to those the process waits for on this description; none: it waits no longer."""
    key = task.fds, file
    watch = _watches.get(key)
    if not mask & ~DN_MULTISHOT:
        if watch is not None:
            watch.drop(file)
        return
    if file.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    if watch is None:
        watch = _watches[key] = _Watch(key)
        notify.add(watch)
        at_release(file, watch.drop)
        owner_of(file).set(task, F_OWNER_PID, task.group.tgid)
    owner_of(file).fd = fd
    wanted = watch.mask
    for bit, events in _EVENTS.items():
        if mask & bit:
            wanted |= events
    notify.change(watch, wanted)
    watch.once = not mask & DN_MULTISHOT
