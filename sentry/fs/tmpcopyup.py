"""A tmpfs that begins with what it covers: `tmpcopyup`, an option of config.json that runc knows and podman gives.

    await copy_tree(task, covered, tmpfs.root)
"""

from __future__ import annotations

from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import TYPE_CHECKING

from sentry.errors import ENODATA, EOPNOTSUPP
from sentry.fs.tmpfs import TmpfsDirectory, TmpfsFile
from sentry.vfs.stat import SetAttr

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode
    from sentry.vfs.stat import Stat


async def copy_tree(task: Task, source: Inode, target: TmpfsDirectory) -> None:
    """Copy all that is below `source` into `target`, with owners, modes, times and extended attributes; names of one
    file become files of their own, as with runc. ENOSPC when it is more than the tmpfs may hold."""
    todo: list[tuple[Inode, Inode]] = [(source, target)]
    copied: list[tuple[Inode, Stat]] = []
    while todo:
        old, new = todo.pop()
        for entry in await old.readdir():
            inode = await old.lookup(entry.name)
            stat = await inode.getattr()
            copy = await _copy_one(task, inode, stat, new, entry.name)
            await _copy_xattrs(task, inode, copy)
            copied.append((copy, stat))
            if S_ISDIR(stat.mode):
                todo.append((inode, copy))
    for copy, stat in copied:  # now that nothing is written to them any more
        await copy.setattr(task, SetAttr(atime_ns=stat.atime_ns, mtime_ns=stat.mtime_ns))


async def _copy_one(task: Task, inode: Inode, stat: Stat, into: Inode, name: bytes) -> Inode:
    mode, uid, gid = stat.mode, stat.uid, stat.gid
    if S_ISDIR(mode):
        return await into.mkdir(name, mode, uid, gid)
    if S_ISLNK(mode):
        return await into.symlink(name, await inode.readlink(), uid, gid)
    if not S_ISREG(mode):
        return await into.mknod(name, mode, stat.rdev, uid, gid)
    copy = await into.create(name, mode, uid, gid)
    assert isinstance(copy, TmpfsFile)
    if stat.size:
        copy.fs.room_for(copy, stat.size)
        copy.fill_from((await inode.host_backing(task, False)).any_fd(), stat.size)
    return copy


async def _copy_xattrs(task: Task, inode: Inode, copy: Inode) -> None:
    try:
        for name in await inode.listxattr(task):
            await copy.setxattr(task, name, await inode.getxattr(task, name), 0)
    except (EOPNOTSUPP, ENODATA):
        pass  # the host's file system has none
