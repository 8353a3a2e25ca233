"""sockfs: the file system that gives sockets their inodes; mounted nowhere. Also the list of all live
sockets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import S_IFSOCK, SOCKFS_MAGIC
from sentry.vfs.inode import Filesystem, Inode

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.net.socket import Socket


FIRST_INO = 1000  # netstat(8) finds nobody behind a number of one digit


class SockFs(Filesystem):
    """One per sentry."""

    name = b"sockfs"
    magic = SOCKFS_MAGIC

    def __init__(self) -> None:
        super().__init__()
        self.next_ino = FIRST_INO


_sockfs: SockFs | None = None

#: every socket that is not released yet, by inode number (for /proc/net)
live: dict[int, Socket] = {}


def new_inode(creds: Credentials) -> Inode:
    """An inode for a new socket, owned by its maker."""
    global _sockfs
    if _sockfs is None:
        _sockfs = SockFs()
    ino = _sockfs.next_ino
    _sockfs.next_ino += 1
    return Inode(_sockfs, ino, S_IFSOCK | 0o777, creds.fsuid, creds.fsgid)
