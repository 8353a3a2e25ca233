"""Which guest file a host file is: how /proc/PID/maps names a mapping without showing the host's numbers.

C maps files for guests without asking us, so the answer is looked for when it is wanted: ``Index(mounts)``
goes over the names in the cache. What is in no cache (an executed memfd) is told by ``remember(host_fd,
path)``; the last few thousand are kept. A mapping of a forgotten file is shown as anonymous.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from sentry.abi.linux import S_IFMT, S_IFREG
from sentry.vfs.dentry import Dentry, cache
from sentry.vfs.mount import Path

if TYPE_CHECKING:
    from sentry.vfs.mount import MountNamespace

MAX_KEPT = 4096

_known: OrderedDict[tuple[int, int], Path] = OrderedDict()


def remember(host_fd: int, path: Path | None) -> None:
    """`host_fd`, which is about to be mapped, is the file at `path`."""
    if path is None:
        return
    try:
        host = os.fstat(host_fd)
    except OSError:
        return
    key = (host.st_dev, host.st_ino)
    known = _known
    if known.get(key) is not path:
        known[key] = path
        known.move_to_end(key)
        if len(known) > MAX_KEPT:
            known.popitem(last=False)


def find(dev: int, ino: int) -> Path | None:
    """The file of a mapping. Some host file systems show another device in maps than in stat(2): then the
    inode number decides, if only one file has it.
    """
    path = _known.get((dev, ino))
    if path is None:
        same = [each for (_, number), each in _known.items() if number == ino]
        path = same[0] if len(same) == 1 else None
    return path


class Index:
    """The host files behind cached names, as seen in one mount namespace; made for one reading of maps."""

    __slots__ = ("_by_id", "_by_number", "_mounts")

    def __init__(self, mounts: MountNamespace) -> None:
        self._mounts = mounts.mounts()
        self._by_id: dict[tuple[int, int], Dentry] = {}
        self._by_number: dict[int, Dentry] = {}
        for dentry in list(cache.fifo.values()):
            inode = dentry.inode
            if inode is None or inode.mode & S_IFMT != S_IFREG:
                continue
            real: Any = getattr(inode, "lower", None) or inode  # an overlay's file may still be the lower one
            host = getattr(real, "host", None)
            if host is not None:
                try:
                    stat = os.fstat(host.any_fd())
                except OSError:
                    continue
                self._by_id[stat.st_dev, stat.st_ino] = dentry
            elif hasattr(real, "handle"):  # the gofer's: it shows the host's inode numbers
                self._by_number.setdefault(real.ino, dentry)

    def find(self, dev: int, ino: int) -> Path | None:
        """The file of a mapping."""
        dentry = self._by_id.get((dev, ino)) or self._by_number.get(ino)
        if dentry is None or dentry.inode is None:
            return find(dev, ino)
        for mount in self._mounts:
            if mount.fs is dentry.inode.fs and mount.root.is_ancestor_of(dentry):
                return Path(mount, dentry)
        return find(dev, ino)


def forget_all() -> None:
    _known.clear()
