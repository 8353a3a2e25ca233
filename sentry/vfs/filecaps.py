"""File capabilities: what the attribute security.capability grants to who executes a program (capabilities(7)).

    caps = await file_caps(task, inode)     # None: none
    await drop_caps(task, inode)            # the file is written, cut or given away: it loses them

Of an inode that is known to have some, C leaves writes to Python, as it does for set-id files. So they are looked for
before an executable file is opened for writing.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from sentry.errors import EINVAL, ENODATA, EOPNOTSUPP
from sentry.vfs.inode import ALWAYS

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode

NAME = b"security.capability"
_MAGIC = Struct("<I")
_WORDS = Struct("<II")  # permitted, inheritable: 32 capabilities of each
_REVISIONS = {0x01000000: (12, 1), 0x02000000: (20, 2), 0x03000000: (24, 2)}  # size, pairs of words
_REVISION_MASK, _EFFECTIVE = 0xFF000000, 1


class FileCaps(NamedTuple):
    """Bit masks as credentials have them; `effective`: what is permitted is raised at once."""

    permitted: int
    inheritable: int
    effective: bool


def parse(data: bytes) -> FileCaps | None:
    """The attribute's value (struct vfs_ns_cap_data). EINVAL for a malformed one; None for one that belongs to another
    user namespace's root."""
    if len(data) < _MAGIC.size:
        raise EINVAL
    (magic,) = _MAGIC.unpack_from(data)
    size, pairs = _REVISIONS.get(magic & _REVISION_MASK, (0, 0))
    if len(data) != size:
        raise EINVAL
    if size == 24 and data[20:] != bytes(4):
        return None
    permitted = inheritable = 0
    for pair in range(pairs):
        low, high = _WORDS.unpack_from(data, 4 + 8 * pair)
        permitted |= low << 32 * pair
        inheritable |= high << 32 * pair
    return FileCaps(permitted, inheritable, bool(magic & _EFFECTIVE))


def check_value(data: bytes) -> None:
    """setxattr(2) of it: EINVAL unless it is of revision 2 or 3 (cap_convert_nscap)."""
    parse(data)
    if len(data) == 12:
        raise EINVAL


async def file_caps(task: Task, inode: Inode) -> FileCaps | None:
    """What executing the file grants; remembered where nobody but us changes it. EINVAL for a malformed attribute."""
    if inode.caps_known and inode.fs.cache_policy == ALWAYS:
        return inode.caps
    try:
        data = await inode.getxattr(task, NAME)
    except (ENODATA, EOPNOTSUPP):
        data = b""
    had = inode.caps
    inode.caps, inode.caps_known = (parse(data) if data else None), True
    if inode.caps != had:
        inode.changed()
    return inode.caps


async def caps_were_set(task: Task, inode: Inode) -> None:
    """The attribute has been set or removed."""
    inode.caps_known = False
    await file_caps(task, inode)


async def drop_caps(task: Task, inode: Inode) -> None:
    """Take them from a file that has some, whoever changes it (cap_inode_killpriv)."""
    if await file_caps(task, inode) is None:
        return
    try:
        await inode.removexattr(task, NAME)
    except ENODATA:
        pass
    await caps_were_set(task, inode)
