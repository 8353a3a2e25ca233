"""Where the VFS tells that something happened, for inotify(7). Free while nobody watches: callers test
`watching`.

A watch is an object in `inode.watches` with `deliver(mask, name, cookie)` (sentry/fs/inotify.py). While
there are any, C leaves writes to regular files to Python, so that IN_MODIFY is seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sentry.abi.linux import (
    IN_DELETE_SELF,
    IN_ISDIR,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    S_IFDIR,
    S_IFMT,
)

if TYPE_CHECKING:
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

class Watch(Protocol):
    """Who is told: fs/inotify.py, fs/dnotify.py."""

    inode: Inode

    def deliver(self, mask: int, name: bytes, cookie: int) -> None: ...


watching = 0  #: watches in existence
_cookie = 0


def add(watch: Watch) -> None:
    """Begin to tell `watch` of its inode."""
    global watching
    inode = watch.inode
    if inode.watches is None:
        inode.watches = []
    inode.watches.append(watch)
    watching += 1
    if watching == 1:
        _tell_core(True)


def remove(watch: Watch) -> None:
    """Stop telling it."""
    global watching
    inode = watch.inode
    inode.watches.remove(watch)
    if not inode.watches:
        inode.watches = None
    watching -= 1
    if not watching:
        _tell_core(False)


def _tell_core(on: bool) -> None:
    from native import lib

    lib.nc_set_watched(on)


def event(inode: Inode, mask: int) -> None:
    """`mask` happened to `inode` itself."""
    for watch in tuple(inode.watches or ()):
        watch.deliver(mask | _isdir(inode), b"", 0)


def deleted(inode: Inode) -> None:
    """The last name of `inode` is gone."""
    for watch in tuple(inode.watches or ()):
        watch.deliver(IN_DELETE_SELF, b"", 0)


def child_event(directory: Inode, mask: int, name: bytes, cookie: int = 0) -> None:
    """`mask` happened to `name` in `directory`."""
    for watch in tuple(directory.watches or ()):
        watch.deliver(mask, name, cookie)


def place_event(place: Path, mask: int) -> None:
    """`mask` happened to what `place` names: its watchers and those of its directory hear of it."""
    dentry = place.dentry
    inode = dentry.inode
    if inode is None:
        return
    parent = dentry.parent
    if parent is not None and parent.inode is not None and parent.inode.watches and not dentry.dead:
        child_event(parent.inode, mask | _isdir(inode), dentry.name)
    if inode.watches:
        event(inode, mask)


def file_event(file: File, mask: int) -> None:
    """`mask` happened through an open file."""
    if file.path is not None:
        place_event(file.path, mask)
    elif file.inode.watches:
        event(file.inode, mask)


def moved(old_dir: Inode, old: bytes, new_dir: Inode, new: bytes, inode: Inode) -> None:
    """`inode` was renamed: IN_MOVED_FROM and IN_MOVED_TO with one cookie, IN_MOVE_SELF."""
    global _cookie
    _cookie = (_cookie + 1) & 0xFFFFFFFF or 1
    isdir = _isdir(inode)
    child_event(old_dir, IN_MOVED_FROM | isdir, old, _cookie)
    child_event(new_dir, IN_MOVED_TO | isdir, new, _cookie)
    for watch in tuple(inode.watches or ()):
        watch.deliver(IN_MOVE_SELF, b"", 0)


def _isdir(inode: Inode) -> int:
    return IN_ISDIR if inode.mode & S_IFMT == S_IFDIR else 0
