"""What programs of long ago ask about file systems: sysfs(2), ustat(2)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from sentry.errors import EINVAL
from sentry.fs.registry import names
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Int, UInt, ULong

if TYPE_CHECKING:
    from sentry.kernel.task import Task

INDEX_OF, NAME_OF, COUNT = 1, 2, 3
_USTAT = Struct("<i4xQ6s6s4x")


@syscall
def sys_sysfs(task: Task, option: Int, first: ULong, buffer: Addr) -> int:
    """The types of file systems by number: as good as any, the order in which they were registered."""
    known = names()
    if option == INDEX_OF:
        name = task.mem.read_cstr(first)
        if name not in known:
            raise EINVAL
        return known.index(name)
    if option == NAME_OF:
        if first >= len(known):
            raise EINVAL
        task.mem.write(buffer, known[first] + b"\0")
        return 0
    if option == COUNT:
        return len(known)
    raise EINVAL


@syscall
async def sys_ustat(task: Task, dev: UInt, buffer: Addr) -> None:
    """Free blocks and inodes of what is mounted from a device, as stat(2) numbers it."""
    mount = next((mount for mount in task.mounts.mounts() if mount.fs.dev & 0xFFFFFFFF == dev), None)
    if mount is None:
        raise EINVAL
    free = await mount.fs.statfs()
    task.mem.write(buffer, _USTAT.pack(min(free.bfree, 0x7FFFFFFF), free.ffree, b"", b""))
