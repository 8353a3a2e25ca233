"""Where the VFS tells that something happened, for inotify(7). Free while nobody watches: callers test
`watching`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

watching = 0  #: watches in existence


def event(inode: Inode, mask: int) -> None:
    """`mask` happened to `inode` itself."""


def child_event(directory: Inode, mask: int, name: bytes, cookie: int = 0) -> None:
    """`mask` happened to `name` in `directory`."""


def place_event(place: Path, mask: int) -> None:
    """`mask` happened to what `place` names: its watchers and those of its directory hear of it."""


def moved(old_dir: Inode, old: bytes, new_dir: Inode, new: bytes, inode: Inode) -> None:
    """`inode` was renamed: IN_MOVED_FROM and IN_MOVED_TO with one cookie, IN_MOVE_SELF."""
