"""Opening: open(2), openat2(2), creat(2) and everything may_open checks on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    IN_CREATE,
    IN_MODIFY,
    IN_OPEN,
    MS_NODEV,
    O_ACCMODE,
    O_APPEND,
    O_CLOEXEC,
    O_CREAT,
    O_DIRECT,
    O_DIRECTORY,
    O_EXCL,
    O_LARGEFILE,
    O_NOATIME,
    O_NOCTTY,
    O_NOFOLLOW,
    O_PATH,
    O_TMPFILE,
    O_TRUNC,
    S_IFBLK,
    S_IFCHR,
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
)
from sentry.errors import EACCES, EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOTDIR, EPERM, EROFS, ETXTBSY
from sentry.fs.leases import break_leases
from sentry.kernel.fdtable import release_unused
from sentry.vfs import notify
from sentry.vfs.dentry import Dentry
from sentry.vfs.file import File, PathFile
from sentry.vfs.filecaps import drop_caps, file_caps
from sentry.vfs.mount import Path, cross_down
from sentry.vfs.namespace import appeared
from sentry.vfs.perm import (
    MAY_EXEC,
    MAY_READ,
    MAY_WRITE,
    allowed,
    check,
    killed_mode,
    may_create_in_sticky,
    new_owner,
    owner_or_capable,
    want_write,
)
from sentry.vfs.stat import SetAttr
from sentry.vfs.walk import Walk, resolve

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode

_TMPFILE = O_TMPFILE & ~O_DIRECTORY
_ACCESS = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE, MAY_READ | MAY_WRITE)
_NOT_KEPT = O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC
_NO_NAME = (b".", b"..", b"/")


async def open_path(
    task: Task, dirfd: int, path: bytes, flags: int, mode: int = 0, resolve_flags: int = 0
) -> File:
    """open(2): an open file description for `path`. `flags` as openat(2) takes them, unknown bits removed,
    impossible combinations refused (`check_combination`).
    """
    if flags & (O_PATH | O_CREAT | _TMPFILE):
        if flags & O_PATH:
            return await _open_o_path(task, dirfd, path, flags, resolve_flags)
        if flags & _TMPFILE:
            return await _open_tmpfile(task, dirfd, path, flags, mode, resolve_flags)
        place, created = await _find_or_create(task, dirfd, path, flags, mode, resolve_flags)
        if created:
            return await _opened(task, place, flags & ~O_TRUNC)
    else:
        opening = not flags & (O_ACCMODE | O_DIRECTORY | O_TRUNC)
        place = await resolve(task, dirfd, path, not flags & O_NOFOLLOW, resolve_flags, opening)
    return await open_place(task, place, flags)


async def open_place(task: Task, place: Path, flags: int) -> File:
    """Open what exists: do_open with may_open's checks."""
    inode = place.dentry.inode
    assert inode is not None
    kind = inode.mode & S_IFMT
    access = _ACCESS[flags & O_ACCMODE]
    if flags & O_TRUNC:
        access |= MAY_WRITE
    if kind != S_IFREG:
        if flags & O_DIRECTORY and kind != S_IFDIR:
            raise ENOTDIR
        if kind == S_IFLNK:
            raise ELOOP
        if kind == S_IFDIR and access & MAY_WRITE:
            raise EISDIR
        if kind in (S_IFCHR, S_IFBLK) and place.mount.flags & MS_NODEV:
            raise EACCES("mount forbids devices")
        flags &= ~O_TRUNC
    elif flags & O_DIRECTORY:
        raise ENOTDIR
    if access & MAY_WRITE:
        check(task, place, access)
        if kind == S_IFREG:
            want_write(place)
            if inode.mode & 0o111:
                if task.kernel.is_running(inode):
                    raise ETXTBSY
                await file_caps(task, inode)
    elif not allowed(task, inode, access):
        raise EACCES
    if flags & O_NOATIME and not owner_or_capable(task, inode):
        raise EPERM
    if inode.locks is not None and inode.locks.leases:
        await break_leases(inode, flags)
    return await _opened(task, place, flags)


async def _opened(task: Task, place: Path, flags: int) -> File:
    """Permission is settled: ask the file system for the description, then truncate."""
    inode = place.inode
    kept = (flags & ~_NOT_KEPT) | O_LARGEFILE
    if inode.mode & S_IFMT == S_IFCHR and flags & O_NOCTTY:
        device = await inode.open(task, place, kept | O_NOCTTY)  # a terminal's open looks at it
        device.flags &= ~O_NOCTTY
        device.creds = task.creds
        return device
    file = inode.open_now(task, place, kept)
    if file is None:
        file = await inode.open(task, place, kept)
    file.creds = task.creds
    if flags & O_DIRECT and not file.direct:
        release_unused(file)
        raise EINVAL
    if notify.watching:
        notify.place_event(place, IN_OPEN)
    if flags & O_TRUNC:
        await truncate(task, inode, 0, place)
    return file


async def truncate(task: Task, inode: Inode, size: int, place: Path | None = None) -> None:
    """do_truncate: permission is checked; setuid, setgid, capabilities go. `place` is for watchers of the directory."""
    if inode.mode & 0o111:
        await drop_caps(task, inode)
    await inode.setattr(task, SetAttr(size=size, mode=killed_mode(task, inode)))
    if notify.watching:
        if place is not None:
            notify.place_event(place, IN_MODIFY)
        else:
            notify.event(inode, IN_MODIFY)


async def _open_o_path(task: Task, dirfd: int, path: bytes, flags: int, resolve_flags: int) -> File:
    flags &= O_DIRECTORY | O_NOFOLLOW | O_PATH
    place = await resolve(task, dirfd, path, not flags & O_NOFOLLOW, resolve_flags)
    if flags & O_DIRECTORY and place.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    file = PathFile(place.inode, place, flags)
    file.creds = task.creds
    return file


class TmpfileDentry(Dentry):
    """The "name" of an O_TMPFILE file, `linkable` unless it was opened with O_EXCL."""

    __slots__ = ("linkable",)
    linkable: bool


async def _open_tmpfile(
    task: Task, dirfd: int, path: bytes, flags: int, mode: int, resolve_flags: int
) -> File:
    """open(O_TMPFILE): a file in the directory's file system that has no name."""
    place = await resolve(task, dirfd, path, not flags & O_NOFOLLOW, resolve_flags)
    directory = place.inode
    if directory.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    want_write(place)
    check(task, place, MAY_WRITE | MAY_EXEC)
    mode, uid, gid = new_owner(task, directory, S_IFREG | (mode & 0o7777 & ~task.fs.umask))
    inode = await directory.tmpfile(mode, uid, gid)
    dentry = TmpfileDentry(b"#%d" % inode.ino, place.dentry, inode)
    dentry.dead = True
    dentry.linkable = not flags & O_EXCL
    return await _opened(task, Path(place.mount, dentry), flags & ~O_TRUNC)


async def _find_or_create(
    task: Task, dirfd: int, path: bytes, flags: int, mode: int, resolve_flags: int
) -> tuple[Path, bool]:
    """open(O_CREAT)'s last component: (the place, whether it was created)."""
    walk = Walk(task, dirfd, path, resolve_flags)
    while True:
        await walk.to_parent()
        if walk.last in _NO_NAME:
            raise EEXIST if flags & O_EXCL else EISDIR
        if walk.want_dir:
            raise EISDIR
        parent = walk.place
        async with walk as dentry:
            created = dentry.inode is None
            if created and not parent.mount.fs.makes_names:
                raise ENOENT
            if created:
                dentry = await _create(task, parent, dentry, mode)
        if created:
            if notify.watching:
                notify.child_event(parent.inode, IN_CREATE, dentry.name)
            return Path(parent.mount, dentry), True
        place = cross_down(Path(parent.mount, dentry))
        inode = place.inode
        if flags & O_EXCL:
            raise EEXIST
        if inode.mode & S_IFMT != S_IFLNK:
            if inode.mode & S_IFMT == S_IFDIR:
                raise EISDIR
            if not may_create_in_sticky(task, parent.inode, inode):
                raise EACCES("protected file")
            return place, False
        if flags & O_NOFOLLOW:
            raise ELOOP
        await walk.follow(inode)
        if not walk.names:  # a magic link, or "/"
            if walk.place.inode.mode & S_IFMT == S_IFDIR:
                raise EISDIR
            return walk.place, False


async def _create(task: Task, parent: Path, dentry: Dentry, mode: int) -> Dentry:
    """Make the file that `dentry`, negative so far, names in `parent`, whose lock is held."""
    if parent.dentry.dead:
        raise ENOENT
    if parent.mount.read_only:
        raise EROFS
    check(task, parent, MAY_WRITE | MAY_EXEC)
    directory = parent.inode
    mode, uid, gid = new_owner(task, directory, S_IFREG | (mode & 0o7777 & ~task.fs.umask))
    inode = await directory.create(dentry.name, mode, uid, gid)
    return appeared(parent.dentry, dentry, inode)


def openat2_flags(flags: int, mode: int, resolve_flags: int) -> int:
    """build_open_flags for openat2(2), which refuses what openat(2) ignores."""
    if flags & ~_VALID_FLAGS or resolve_flags & ~0x3F:
        raise EINVAL
    if resolve_flags & 0x18 == 0x18:  # RESOLVE_BENEATH and RESOLVE_IN_ROOT
        raise EINVAL
    if flags & (O_CREAT | _TMPFILE):
        if mode & ~0o7777:
            raise EINVAL
    elif mode:
        raise EINVAL
    check_combination(flags)
    if flags & O_PATH and flags & ~(O_DIRECTORY | O_NOFOLLOW | O_PATH | O_CLOEXEC):
        raise EINVAL
    if resolve_flags & 0x20 and flags & (O_TRUNC | O_CREAT | _TMPFILE):  # RESOLVE_CACHED
        from sentry.errors import EAGAIN

        raise EAGAIN
    return flags


def check_combination(flags: int) -> None:
    """EINVAL for what no path makes right. open(2)'s decoder sees to it (OpenFlags), where O_PATH drops the rest."""
    if flags & O_CREAT and flags & O_DIRECTORY:
        raise EINVAL
    if flags & _TMPFILE and (not flags & O_DIRECTORY or not _ACCESS[flags & O_ACCMODE] & MAY_WRITE):
        raise EINVAL


_VALID_FLAGS = (
    O_ACCMODE | O_APPEND | _NOT_KEPT | O_TMPFILE | O_NOFOLLOW | O_NOATIME | O_PATH | 0o174000 | 0o4010000
)
