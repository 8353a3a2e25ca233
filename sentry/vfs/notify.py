"""Where the VFS tells that something happened, for inotify(7) and fcntl(F_NOTIFY). Free while nobody watches: callers
test `watching`.

A watch is an object in `inode.watches` with `deliver(...)` (sentry/fs/inotify.py). While there are any, C leaves
writes to regular files to Python, so that IN_MODIFY is seen; reads too, while one wants IN_ACCESS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from weakref import ref

from sentry.abi.linux import (
    IN_ACCESS,
    IN_ATTRIB,
    IN_DELETE_SELF,
    IN_ISDIR,
    IN_MODIFY,
    IN_MOVE_SELF,
    IN_MOVED_FROM,
    IN_MOVED_TO,
    S_IFDIR,
    S_IFMT,
)

if TYPE_CHECKING:
    from sentry.vfs.dentry import Dentry
    from sentry.vfs.file import File
    from sentry.vfs.inode import Filesystem, Inode
    from sentry.vfs.mount import Path
    from sentry.vfs.stat import SetAttr


class Watch(Protocol):
    """Who is told: fs/inotify.py, fs/dnotify.py. `mask` holds the IN_* it wants."""

    inode: Inode
    mask: int

    def deliver(self, mask: int, name: bytes, cookie: int, unlinked: bool = False) -> None:
        """`mask` happened to the inode (name b"") or to `name` in it, which has lost that name if `unlinked`."""

    def unmounted(self) -> None:
        """The file system is gone."""


watching = 0  #: watches in existence
_watches: dict[Watch, None] = {}
_of_reads = 0  # how many want IN_ACCESS
_cookie = 0
_doomed: dict[ref[Dentry], Inode] = {}  # removed names that are still in use, of inodes that have no other


def add(watch: Watch) -> None:
    """Begin to tell `watch` of its inode."""
    if not watching:  # until now the core was in no hurry to tell of closes, nor of what it opened by itself
        from sentry.fs.lazyfile import take_up_all
        from sentry.kernel.fdtable import drain

        take_up_all()
        drain()
    inode = watch.inode
    if inode.watches is None:
        inode.watches = []
    inode.watches.append(watch)
    _watches[watch] = None
    _count(1, bool(watch.mask & IN_ACCESS))


def remove(watch: Watch) -> None:
    """Stop telling it."""
    inode = watch.inode
    inode.watches.remove(watch)
    if not inode.watches:
        inode.watches = None
    del _watches[watch]
    _count(-1, -bool(watch.mask & IN_ACCESS))


def change(watch: Watch, mask: int) -> None:
    """It wants other events from now on."""
    reads = bool(mask & IN_ACCESS) - bool(watch.mask & IN_ACCESS)
    watch.mask = mask
    _count(0, reads)


def _count(watches: int, of_reads: int) -> None:
    global watching, _of_reads
    before = bool(watching), bool(_of_reads)
    watching += watches
    _of_reads += of_reads
    if before != (bool(watching), bool(_of_reads)):
        from native import lib

        lib.nc_set_watched(bool(watching), bool(_of_reads))


# --- what happened


def event(inode: Inode, mask: int) -> None:
    """`mask` happened to `inode` itself."""
    for watch in tuple(inode.watches or ()):
        watch.deliver(mask | _isdir(inode), b"", 0)


def child_event(directory: Inode, mask: int, name: bytes, cookie: int = 0) -> None:
    """`mask` happened to `name` in `directory`."""
    for watch in tuple(directory.watches or ()):
        watch.deliver(mask, name, cookie)


def place_event(place: Path, mask: int) -> None:
    """`mask` happened to what `place` names: the watchers of its directory hear of it, and its own."""
    dentry = place.dentry
    inode = dentry.inode
    if inode is None:
        return
    mask |= _isdir(inode)
    unlinked = dentry.dead
    parent = dentry.parent
    if parent is not None and parent.inode is not None:
        for watch in tuple(parent.inode.watches or ()):
            watch.deliver(mask, dentry.name, 0, unlinked)
    for watch in tuple(inode.watches or ()):
        watch.deliver(mask, b"", 0, unlinked)


def file_event(file: File, mask: int) -> None:
    """`mask` happened through an open file."""
    if file.path is not None:
        place_event(file.path, mask)
    elif file.inode.watches:
        event(file.inode, mask)


def attributes(place: Path, attrs: SetAttr) -> None:
    """chmod(2), chown(2), utimensat(2) set `attrs` (fsnotify_change): a single time set counts as a use."""
    mask = 0
    if attrs.mode is not None or attrs.uid is not None or attrs.gid is not None:
        mask |= IN_ATTRIB
    if attrs.atime_ns is not None:
        mask |= IN_ATTRIB if attrs.mtime_ns is not None else IN_ACCESS
    elif attrs.mtime_ns is not None:
        mask |= IN_MODIFY
    if mask:
        place_event(place, mask)


def deleted(dentry: Dentry) -> None:
    """A name was removed. If it was the last and the inode is watched, IN_DELETE_SELF comes when nobody uses it."""
    inode = dentry.inode
    if inode is None or not inode.watches or (inode.nlink and inode.mode & S_IFMT != S_IFDIR):
        return
    _doomed[ref(dentry, _gone)] = inode


def _gone(weak: ref[Dentry]) -> None:
    inode = _doomed.pop(weak)
    for watch in tuple(inode.watches or ()):
        watch.deliver(IN_DELETE_SELF, b"", 0)


def moved(
    old_dir: Inode, old: bytes, new_dir: Inode, new: bytes, inode: Inode, replaced: Inode | None = None
) -> None:
    """`inode` was renamed: IN_MOVED_FROM and IN_MOVED_TO with one cookie; what it replaced lost a link."""
    global _cookie
    _cookie = (_cookie + 1) & 0xFFFFFFFF or 1
    isdir = _isdir(inode)
    child_event(old_dir, IN_MOVED_FROM | isdir, old, _cookie)
    child_event(new_dir, IN_MOVED_TO | isdir, new, _cookie)
    if replaced is not None:
        event(replaced, IN_ATTRIB)
    for watch in tuple(inode.watches or ()):
        watch.deliver(IN_MOVE_SELF, b"", 0)


def unmounted(fs: Filesystem) -> None:
    """The last mount of `fs` is gone."""
    for watch in tuple(_watches):
        if watch.inode.fs is fs:
            watch.unmounted()


def _isdir(inode: Inode) -> int:
    return IN_ISDIR if inode.mode & S_IFMT == S_IFDIR else 0
