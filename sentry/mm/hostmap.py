"""Which guest file a host file is: how /proc/PID/maps names a mapping without showing the host's numbers.

Who maps a file for a guest calls ``remember(host_fd, path)``; ``find(dev, ino)`` answers for a line of the
host's maps. The last few thousand are kept; a mapping of a forgotten file is shown as anonymous.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentry.vfs.mount import Path

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


def forget_all() -> None:
    _known.clear()
