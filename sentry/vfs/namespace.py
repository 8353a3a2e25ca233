"""Changing names: mkdir(2), mknod(2), symlink(2), link(2), unlink(2), rmdir(2), rename(2), with their
checks in Linux's order, and the dentry cache kept true.

Names of one file system change one at a time (`fs.lock`), so between the look-up and the operation nothing
moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    AT_EMPTY_PATH,
    AT_SYMLINK_FOLLOW,
    CAP_DAC_READ_SEARCH,
    CAP_MKNOD,
    IN_ATTRIB,
    IN_CREATE,
    IN_DELETE,
    IN_ISDIR,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
    S_ISVTX,
)
from sentry.errors import (
    EBUSY,
    EEXIST,
    EINVAL,
    EISDIR,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
    EROFS,
    EXDEV,
)
from sentry.vfs import notify
from sentry.vfs.dentry import Dentry
from sentry.vfs.inode import ALWAYS, NEVER
from sentry.vfs.mount import Path
from sentry.vfs.perm import MAY_EXEC, MAY_WRITE, check, may_delete, may_link, new_owner, want_write
from sentry.vfs.walk import Walk, lookup, resolve

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode

_NO_NAME = (b".", b"..", b"/")


def is_dir(inode: Inode | None) -> bool:
    return inode is not None and inode.mode & S_IFMT == S_IFDIR


# --- the dentry cache after a change


def appeared(parent: Dentry, dentry: Dentry, inode: Inode) -> Dentry:
    """`dentry`, negative so far, now names `inode` (d_instantiate)."""
    policy = inode.fs.cache_policy
    if policy == NEVER:
        return Dentry(dentry.name, parent, inode)
    dentry.become(inode)
    return dentry


def vanished(parent: Dentry, dentry: Dentry) -> None:
    """`dentry` was removed from `parent`; whoever holds it sees it as deleted (d_delete)."""
    inode = dentry.inode
    assert inode is not None
    dentry.kill()
    if inode.mode & S_IFMT == S_IFDIR:
        dentry.drop_tree()
    if inode.fs.cache_policy == ALWAYS and not parent.complete:
        parent.add(dentry.name, None)


def moved(old_parent: Dentry, old: Dentry, new_parent: Dentry, new: Dentry, exchange: bool) -> None:
    """`old` took the place of `new` (d_move, d_exchange)."""
    old_name, new_name = old.name, new.name
    inode = old.inode
    old.unhash()
    if exchange:
        new.unhash()
        new.name, new.parent = old_name, old_parent
        new.hash()
    elif new.inode is not None:
        new.kill()
        new.drop_tree()
    else:
        new.unhash()
    old.name, old.parent = new_name, new_parent
    old.hash()
    if not exchange and inode is not None and inode.fs.cache_policy == ALWAYS and not old_parent.complete:
        old_parent.add(old_name, None)


# --- creating


class Creation:
    """filename_create: the place of a new name, between the look-up and the operation.

    ``async with Creation(task, dirfd, path, directory=False) as new:`` holds the file system's lock; EEXIST,
    EROFS and the permission checks of may_create are behind it.
    """

    __slots__ = ("_is_dir", "_walk", "dentry", "parent", "task")

    dentry: Dentry
    parent: Path

    def __init__(self, task: Task, dirfd: int, path: bytes, directory: bool = False) -> None:
        self.task = task
        self._is_dir = directory
        self._walk = Walk(task, dirfd, path)

    async def __aenter__(self) -> Creation:
        walk = self._walk
        await walk.to_parent()
        if walk.last in _NO_NAME:
            raise EEXIST
        self.parent = parent = walk.place
        self.dentry = dentry = await walk.__aenter__()
        try:
            if dentry.inode is not None:
                raise EEXIST
            if (walk.want_dir and not self._is_dir) or not parent.mount.fs.makes_names:
                raise ENOENT
            if parent.mount.read_only:
                raise EROFS
        except BaseException:
            await walk.__aexit__()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._walk.__aexit__()

    @property
    def name(self) -> bytes:
        return self.dentry.name

    @property
    def directory(self) -> Inode:
        return self.parent.inode

    def permit(self) -> None:
        """may_create: the directory still exists and may be written."""
        if self.parent.dentry.dead:
            raise ENOENT
        check(self.task, self.parent, MAY_WRITE | MAY_EXEC)

    def done(self, inode: Inode) -> Dentry:
        """The name exists now."""
        dentry = appeared(self.parent.dentry, self.dentry, inode)
        if notify.watching:
            mask = IN_CREATE | IN_ISDIR if is_dir(inode) else IN_CREATE
            notify.child_event(self.directory, mask, dentry.name)
        return dentry


async def mkdir(task: Task, dirfd: int, path: bytes, mode: int) -> None:
    """mkdir(2)."""
    async with Creation(task, dirfd, path, directory=True) as new:
        new.permit()
        mode = S_IFDIR | (mode & (0o777 | S_ISVTX) & ~task.fs.umask)
        mode, uid, gid = new_owner(task, new.directory, mode)
        new.done(await new.directory.mkdir(new.name, mode, uid, gid)).is_new_directory()


async def mknod(task: Task, dirfd: int, path: bytes, mode: int, rdev: int) -> None:
    """mknod(2). Device nodes need CAP_MKNOD, but for the whiteout device 0:0 of overlay file systems."""
    kind = mode & S_IFMT or S_IFREG
    if kind == S_IFDIR:
        raise EPERM
    if kind not in (S_IFREG, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK):
        raise EINVAL
    async with Creation(task, dirfd, path) as new:
        new.permit()
        whiteout = kind == S_IFCHR and rdev == 0
        if kind in (S_IFCHR, S_IFBLK) and not whiteout and not task.creds.has_cap(CAP_MKNOD):
            raise EPERM
        mode, uid, gid = new_owner(task, new.directory, kind | (mode & 0o7777 & ~task.fs.umask))
        if kind == S_IFREG:
            inode = await new.directory.create(new.name, mode, uid, gid)
        else:
            rdev = rdev if kind in (S_IFCHR, S_IFBLK) else 0
            inode = await new.directory.mknod(new.name, mode, rdev, uid, gid)
        new.done(inode)


async def make_socket(task: Task, path: bytes, mode: int) -> Path:
    """bind(2) of an AF_UNIX path: the new S_IFSOCK node. The caller turns EEXIST into EADDRINUSE."""
    async with Creation(task, -100, path) as new:
        new.permit()
        mode, uid, gid = new_owner(task, new.directory, S_IFSOCK | (mode & 0o7777 & ~task.fs.umask))
        dentry = new.done(await new.directory.mknod(new.name, mode, 0, uid, gid))
        return Path(new.parent.mount, dentry)


async def symlink(task: Task, target: bytes, dirfd: int, path: bytes) -> None:
    """symlink(2)."""
    if not target:
        raise ENOENT
    async with Creation(task, dirfd, path) as new:
        new.permit()
        _, uid, gid = new_owner(task, new.directory, S_IFLNK)
        new.done(await new.directory.symlink(new.name, target, uid, gid))


async def link(task: Task, olddirfd: int, old: bytes, newdirfd: int, new_path: bytes, flags: int) -> None:
    """link(2), linkat(2)."""
    if flags & ~(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH):
        raise EINVAL
    if flags & AT_EMPTY_PATH and not old:
        file = task.fds.get(olddirfd)
        if file.path is None or not (file.opened_by(task) or task.creds.has_cap(CAP_DAC_READ_SEARCH)):
            raise ENOENT
        source = file.path
    else:
        source = await resolve(task, olddirfd, old, follow=bool(flags & AT_SYMLINK_FOLLOW))
    async with Creation(task, newdirfd, new_path) as new:
        if source.mount is not new.parent.mount:
            raise EXDEV
        inode = source.inode
        if not may_link(task, inode):
            raise EPERM("protected link")
        new.permit()
        if is_dir(inode):
            raise EPERM
        if inode.nlink == 0 and not getattr(source.dentry, "linkable", False):
            raise ENOENT
        await new.directory.link(new.name, inode)
        new.done(inode)
        if notify.watching:
            notify.event(inode, IN_ATTRIB)


# --- removing


async def unlink(task: Task, dirfd: int, path: bytes) -> None:
    """unlink(2)."""
    walk = Walk(task, dirfd, path)
    await walk.to_parent()
    if walk.last in _NO_NAME:
        raise EISDIR
    parent = walk.place
    want_write(parent)
    async with walk as dentry:
        inode = dentry.inode
        if inode is None:
            raise ENOENT
        if walk.want_dir:
            raise EISDIR if is_dir(inode) else ENOTDIR
        may_delete(task, parent, inode)
        if is_dir(inode):
            raise EISDIR
        if parent.dentry.dead:
            raise ENOENT
        if dentry.mounted:
            raise EBUSY
        await parent.inode.unlink(dentry.name, inode)
        vanished(parent.dentry, dentry)
    if notify.watching:
        notify.event(inode, IN_ATTRIB)
        notify.deleted(dentry)
        del dentry  # nobody else has it? Then that was the end of it
        notify.child_event(parent.inode, IN_DELETE, walk.last)


async def rmdir(task: Task, dirfd: int, path: bytes) -> None:
    """rmdir(2)."""
    walk = Walk(task, dirfd, path)
    await walk.to_parent()
    if walk.last in _NO_NAME:
        raise {b"..": ENOTEMPTY, b".": EINVAL, b"/": EBUSY}[walk.last]
    parent = walk.place
    want_write(parent)
    async with walk as dentry:
        inode = dentry.inode
        if inode is None:
            raise ENOENT
        may_delete(task, parent, inode)
        if not is_dir(inode):
            raise ENOTDIR
        if parent.dentry.dead:
            raise ENOENT
        if dentry.mounted:
            raise EBUSY
        await parent.inode.rmdir(dentry.name, inode)
        vanished(parent.dentry, dentry)
    if notify.watching:
        notify.deleted(dentry)
        del dentry
        notify.child_event(parent.inode, IN_DELETE | IN_ISDIR, walk.last)


# --- renaming


async def rename(
    task: Task, olddirfd: int, old_path: bytes, newdirfd: int, new_path: bytes, flags: int
) -> None:
    """rename(2), renameat2(2)."""
    if flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT):
        raise EINVAL
    exchange = bool(flags & RENAME_EXCHANGE)
    if exchange and flags & (RENAME_NOREPLACE | RENAME_WHITEOUT):
        raise EINVAL
    old_walk = Walk(task, olddirfd, old_path)
    await old_walk.to_parent()
    new_walk = Walk(task, newdirfd, new_path)
    await new_walk.to_parent()
    old_dir, new_dir = old_walk.place, new_walk.place
    if old_dir.mount is not new_dir.mount:
        raise EXDEV
    if old_walk.last in _NO_NAME:
        raise EBUSY
    if new_walk.last in _NO_NAME:
        raise EEXIST if flags & RENAME_NOREPLACE else EBUSY
    want_write(old_dir)
    async with old_dir.mount.fs.lock:
        old = await lookup(old_dir, old_walk.last)
        if old.inode is None:
            raise ENOENT
        new = await lookup(new_dir, new_walk.last)
        if flags & RENAME_NOREPLACE and new.inode is not None:
            raise EEXIST
        if exchange:
            if new.inode is None:
                raise ENOENT
            if not is_dir(new.inode) and new_walk.want_dir:
                raise ENOTDIR
        if not is_dir(old.inode) and (old_walk.want_dir or (not exchange and new_walk.want_dir)):
            raise ENOTDIR
        if old_dir.dentry is not new_dir.dentry:
            if old.is_ancestor_of(new_dir.dentry):
                raise EINVAL("into itself")
            if new.inode is not None and new.is_ancestor_of(old_dir.dentry):
                raise EINVAL if exchange else ENOTEMPTY
        if old.inode is not new.inode:
            await _rename(task, old_dir, old, new_dir, new, flags)


async def _rename(task: Task, old_dir: Path, old: Dentry, new_dir: Path, new: Dentry, flags: int) -> None:
    """vfs_rename: permissions, types, then the file system's turn."""
    source, target = old.inode, new.inode
    assert source is not None
    exchange = bool(flags & RENAME_EXCHANGE)
    may_delete(task, old_dir, source)
    if old_dir.dentry.dead:
        raise ENOENT
    if target is None:
        if new_dir.dentry.dead:
            raise ENOENT
        check(task, new_dir, MAY_WRITE | MAY_EXEC)
    else:
        may_delete(task, new_dir, target)
        if not exchange:
            if is_dir(source) and not is_dir(target):
                raise ENOTDIR
            if not is_dir(source) and is_dir(target):
                raise EISDIR
        if new_dir.dentry.dead:
            raise ENOENT
    if old_dir.dentry is not new_dir.dentry:  # the ".." of a directory that moves is written
        if is_dir(source):
            check(task, Path(old_dir.mount, old), MAY_WRITE)
        if exchange and is_dir(target):
            check(task, Path(new_dir.mount, new), MAY_WRITE)
    if old.mounted or new.mounted:
        raise EBUSY
    old_name = old.name
    await old_dir.inode.rename(old.name, source, new_dir.inode, new.name, target, flags)
    moved(old_dir.dentry, old, new_dir.dentry, new, exchange)
    if flags & RENAME_WHITEOUT:  # the old name is not absent but a whiteout: ask again
        stale = old_dir.dentry.get(old_name)
        if stale is not None:
            stale.unhash()
        old_dir.dentry.is_incomplete()
    if notify.watching:
        replaced = None if exchange else target
        notify.moved(old_dir.inode, old_name, new_dir.inode, old.name, source, replaced)
        if exchange and target is not None:
            notify.moved(new_dir.inode, old.name, old_dir.inode, new.name, target)
        else:
            notify.deleted(new)
