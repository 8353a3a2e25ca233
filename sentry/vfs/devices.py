"""Which driver answers when a device node is opened: a registry by type and (major, minor).

A driver registers an opener at import: ``register(1, 3, open_null)``. Any file system's device node then
opens through :func:`open_device` (mknod(2), null(4), tty(4)).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from sentry.abi.x86_64 import major, minor
from sentry.errors import ENXIO

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

#: (task, inode of the node, path it was opened by, flags) -> File, at once or awaited
Opener = Callable[["Task", "Inode", "Path", int], "File | Awaitable[File]"]

_chrdevs: dict[tuple[int, int | None], Opener] = {}


def register(major_: int, minor_: int | None, opener: Opener) -> None:
    """Answer opens of character device (major, minor); minor_ None: every minor without its own."""
    _chrdevs[major_, minor_] = opener


async def open_device(task: Task, inode: Inode, path: Path, flags: int) -> File:
    """Open the character device `inode` names; ENXIO without a driver. There are no block devices."""
    if inode.mode & 0o170000 != 0o020000:
        raise ENXIO("no block devices")
    number = major(inode.rdev), minor(inode.rdev)
    opener = _chrdevs.get(number) or _chrdevs.get((number[0], None))
    if opener is None:
        raise ENXIO(f"no driver for character device {number[0]}:{number[1]}")
    opened = opener(task, inode, path, flags)
    if isinstance(opened, Awaitable):
        return await opened
    return opened
