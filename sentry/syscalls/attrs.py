"""Attributes: stat(2), statx(2), chmod(2), chown(2), utimensat(2), statfs(2)."""

from __future__ import annotations

from struct import Struct
from time import time_ns
from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_NO_AUTOMOUNT,
    AT_SYMLINK_NOFOLLOW,
    MS_MANDLOCK,
    MS_NOSYMFOLLOW,
    MS_RDONLY,
    MS_RELATIME,
    MS_SYNCHRONOUS,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
)
from sentry.abi.x86_64 import pack_stat, pack_statfs, pack_statx
from sentry.errors import EACCES, EINVAL, EOPNOTSUPP, EPERM
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import (
    Addr,
    AnyFile,
    DirFd,
    File,
    Gid,
    Kind,
    Mode,
    PathAddr,
    PathArg,
    Uid,
    UInt,
    flags,
    open_file,
)
from sentry.syscalls.paths import at_place
from sentry.vfs import notify
from sentry.vfs.filecaps import drop_caps
from sentry.vfs.mount import Path, anonymous_path
from sentry.vfs.names import KNOWN
from sentry.vfs.perm import MAY_WRITE, allowed, chmod_attrs, chown_attrs, owner_or_capable, want_write
from sentry.vfs.stat import SetAttr, Stat
from sentry.vfs.walk import resolve

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode

StatFlags = Annotated[
    int,
    flags(
        AT_SYMLINK_NOFOLLOW=AT_SYMLINK_NOFOLLOW,
        AT_NO_AUTOMOUNT=AT_NO_AUTOMOUNT,
        AT_EMPTY_PATH=AT_EMPTY_PATH,
        AT_STATX_FORCE_SYNC=0x2000,
        AT_STATX_DONT_SYNC=0x4000,
    ),
]
OwnerFlags = Annotated[int, flags(AT_SYMLINK_NOFOLLOW=AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH=AT_EMPTY_PATH)]

UtimeFlags = Annotated[  # looked at after the times
    int,
    Kind(
        "flags",
        "{a} & 0xFFFFFFFF",
        flags(AT_SYMLINK_NOFOLLOW=AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH=AT_EMPTY_PATH).show,
    ),
]

# --- stat(2)


def stat_bytes(stat: Stat) -> bytes:
    """struct stat as the guest's architecture lays it out."""
    return pack_stat(*stat[:13])


async def _write_stat(task: Task, inode: Inode, buffer: int) -> None:
    stat = inode.stat_now()
    if stat is None:
        stat = await inode.getattr()
    inode.publish(stat)
    task.mem.write(buffer, pack_stat(*stat[:13]))


@syscall(fast=KNOWN)
async def sys_stat(task: Task, path: PathArg, buffer: Addr) -> None:
    await _write_stat(task, (await resolve(task, AT_FDCWD, path)).inode, buffer)


@syscall(fast=KNOWN)
async def sys_lstat(task: Task, path: PathArg, buffer: Addr) -> None:
    await _write_stat(task, (await resolve(task, AT_FDCWD, path, False)).inode, buffer)


@syscall(fast=KNOWN + "; fstat, as C libraries make it")
async def sys_newfstatat(task: Task, dirfd: DirFd, path: PathAddr, buffer: Addr, flags: StatFlags) -> None:
    name = _maybe_null(task, path, flags)
    if flags & AT_EMPTY_PATH and not name and dirfd != AT_FDCWD:
        task.mem.write(buffer, stat_bytes(await task.fds.get(dirfd).getattr()))
    else:
        await _write_stat(task, (await at_place(task, dirfd, name, flags)).inode, buffer)


def _maybe_null(task: Task, path: int, flags: int) -> bytes:
    """With AT_EMPTY_PATH a null pointer is an empty path (getname_maybe_null)."""
    return task.mem.read_cstr(path) if path or not flags & AT_EMPTY_PATH else b""


@syscall(fast="a regular file, a directory or what O_PATH gave")
async def sys_fstat(task: Task, file: AnyFile, buffer: Addr) -> None:
    task.mem.write(buffer, stat_bytes(await file.getattr()))


STATX_BASIC_STATS = 0x7FF
STATX_BTIME = 0x800
STATX_MNT_ID = 0x1000
STATX_MNT_ID_UNIQUE = 0x4000
STATX_RESERVED = 0x80000000
STATX_ATTR_MOUNT_ROOT = 0x2000


@syscall(fast=KNOWN)
async def sys_statx(
    task: Task, dirfd: DirFd, path: PathAddr, flags: StatFlags, mask: UInt, buffer: Addr
) -> None:
    if mask & STATX_RESERVED or flags & 0x6000 == 0x6000:
        raise EINVAL
    name = _maybe_null(task, path, flags)
    place: Path | None
    if flags & AT_EMPTY_PATH and not name and dirfd != AT_FDCWD:
        file = task.fds.get(dirfd)
        place = file.path
        stat = await file.getattr()
    else:
        place = await at_place(task, dirfd, name, flags)
        stat = await place.inode.getattr()
        place.inode.publish(stat)
    given = STATX_BASIC_STATS
    if mask & STATX_BTIME and stat.btime_ns:
        given |= STATX_BTIME
    else:
        stat = stat._replace(btime_ns=0)
    mount_id = attributes = 0
    if place is not None:
        if mask & STATX_MNT_ID_UNIQUE:
            given |= STATX_MNT_ID_UNIQUE
            mount_id = place.mount.unique_id
        else:
            given |= STATX_MNT_ID
            mount_id = place.mount.id
        if place.dentry is place.mount.root:
            attributes = STATX_ATTR_MOUNT_ROOT
    data = pack_statx(
        given, *stat, attributes=attributes, attributes_mask=STATX_ATTR_MOUNT_ROOT, mnt_id=mount_id
    )
    task.mem.write(buffer, data)


# --- changing mode, owner and times


async def change(task: Task, inode: Inode, place: Path | None, attrs: SetAttr) -> None:
    """notify_change: apply, and let watchers know."""
    await inode.setattr(task, attrs)
    if notify.watching and place is not None:
        notify.attributes(place, attrs)


async def chmod(task: Task, place: Path, mode: int) -> None:
    want_write(place)
    if place.inode.mode & S_IFMT == S_IFLNK:
        raise EOPNOTSUPP
    await change(task, place.inode, place, chmod_attrs(task, place.inode, mode))


@syscall
async def sys_chmod(task: Task, path: PathArg, mode: Mode) -> None:
    await chmod(task, await resolve(task, AT_FDCWD, path), mode)


@syscall
async def sys_fchmodat(task: Task, dirfd: DirFd, path: PathArg, mode: Mode) -> None:
    await chmod(task, await resolve(task, dirfd, path), mode)


@syscall
async def sys_fchmodat2(task: Task, dirfd: DirFd, path: PathArg, mode: Mode, flags: OwnerFlags) -> None:
    await chmod(task, await at_place(task, dirfd, path, flags), mode)


@syscall
async def sys_fchmod(task: Task, file: File, mode: Mode) -> None:
    if file.path is not None:
        want_write(file.path)
    await change(task, file.inode, file.path, chmod_attrs(task, file.inode, mode))


def _id(value: int) -> int:
    """A uid_t or gid_t argument: the all-ones value leaves it alone."""
    return -1 if value == 0xFFFFFFFF else value


async def chown(task: Task, place: Path, uid: int, gid: int) -> None:
    want_write(place)
    await _change_owner(task, place.inode, place, uid, gid)


async def _change_owner(task: Task, inode: Inode, place: Path | None, uid: int, gid: int) -> None:
    attrs = chown_attrs(task, inode, _id(uid), _id(gid))
    if inode.mode & S_IFMT == S_IFREG and inode.mode & 0o111:
        await drop_caps(task, inode)
    await change(task, inode, place, attrs)


@syscall
async def sys_chown(task: Task, path: PathArg, uid: Uid, gid: Gid) -> None:
    await chown(task, await resolve(task, AT_FDCWD, path), uid, gid)


@syscall
async def sys_lchown(task: Task, path: PathArg, uid: Uid, gid: Gid) -> None:
    await chown(task, await resolve(task, AT_FDCWD, path, False), uid, gid)


@syscall
async def sys_fchownat(
    task: Task, dirfd: DirFd, path: PathArg, uid: Uid, gid: Gid, flags: OwnerFlags
) -> None:
    await chown(task, await at_place(task, dirfd, path, flags), uid, gid)


@syscall
async def sys_fchown(task: Task, file: File, uid: Uid, gid: Gid) -> None:
    if file.path is not None:
        want_write(file.path)
    await _change_owner(task, file.inode, file.path, uid, gid)


# --- times

_TWO_TIMES = Struct("<qqqq")
_UTIMBUF = Struct("<qq")
UTIME_NOW = 0x3FFFFFFF
UTIME_OMIT = 0x3FFFFFFE


#: (seconds, nanoseconds or UTIME_*) of access and modification
Times = tuple[tuple[int, int], tuple[int, int]]


async def set_times(task: Task, place: Path, given: Times | None) -> None:
    """vfs_utimes. None, or both UTIME_NOW: both become now, which a writer may do too."""
    times = None if given is None else _chosen(given)
    want_write(place)
    inode = place.inode
    if times is None:
        if not owner_or_capable(task, inode) and not allowed(task, inode, MAY_WRITE):
            raise EACCES
        now = time_ns()
        times = now, now
    elif not owner_or_capable(task, inode):
        raise EPERM
    await change(task, inode, place, SetAttr(atime_ns=times[0], mtime_ns=times[1]))


def _chosen(given: Times) -> tuple[int | None, int | None] | None:
    """In nanoseconds; None leaves one alone. All is None if both mean now."""
    if given[0][1] == given[1][1] == UTIME_NOW:
        return None
    now = time_ns()

    def one(seconds: int, nanoseconds: int) -> int | None:
        if nanoseconds == UTIME_OMIT:
            return None
        if nanoseconds == UTIME_NOW:
            return now
        if not 0 <= nanoseconds < 1_000_000_000:
            raise EINVAL
        return seconds * 1_000_000_000 + nanoseconds

    return one(*given[0]), one(*given[1])


def _read_timespecs(task: Task, addr: int) -> Times | None:
    if not addr:
        return None
    a, a_ns, m, m_ns = _TWO_TIMES.unpack(task.mem.read(addr, _TWO_TIMES.size))
    return (a, a_ns), (m, m_ns)


def _read_timevals(task: Task, addr: int) -> Times | None:
    if not addr:
        return None
    a, a_us, m, m_us = _TWO_TIMES.unpack(task.mem.read(addr, _TWO_TIMES.size))
    if not (0 <= a_us < 1_000_000 and 0 <= m_us < 1_000_000):
        raise EINVAL
    return (a, a_us * 1000), (m, m_us * 1000)


async def _change_times(task: Task, dirfd: int, path: int, times: Times | None, flags: int) -> None:
    """do_utimes: without a path, of the descriptor itself (futimens(3))."""
    if not path and dirfd != AT_FDCWD:
        if flags:
            raise EINVAL
        file = open_file(task, dirfd & 0xFFFFFFFF)
        place = file.path if file.path is not None else anonymous_path(file.inode, b"")
    else:
        if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
            raise EINVAL
        place = await at_place(task, dirfd, task.mem.read_cstr(path), flags)
    await set_times(task, place, times)


@syscall
async def sys_utimensat(task: Task, dirfd: DirFd, path: PathAddr, times: Addr, flags: UtimeFlags) -> None:
    both = _read_timespecs(task, times)
    if both is not None and both[0][1] == both[1][1] == UTIME_OMIT:
        return  # not even the path is looked at
    await _change_times(task, dirfd, path, both, flags)


@syscall
async def sys_futimesat(task: Task, dirfd: DirFd, path: PathAddr, times: Addr) -> None:
    await _change_times(task, dirfd, path, _read_timevals(task, times), 0)


@syscall
async def sys_utimes(task: Task, path: PathAddr, times: Addr) -> None:
    await _change_times(task, AT_FDCWD, path, _read_timevals(task, times), 0)


@syscall
async def sys_utime(task: Task, path: PathAddr, times: Addr) -> None:
    both = None
    if times:
        atime, mtime = _UTIMBUF.unpack(task.mem.read(times, _UTIMBUF.size))
        both = (atime, 0), (mtime, 0)
    await _change_times(task, AT_FDCWD, path, both, 0)


# --- statfs(2)

_ST_VALID = 0x20
_ST_RELATIME = 0x1000
_ST_NOSYMFOLLOW = 0x2000


async def _statfs_bytes(inode: Inode, place: Path | None) -> bytes:
    info = await inode.fs.statfs()
    flags = _ST_VALID | info.flags | (inode.fs.flags & (MS_RDONLY | MS_SYNCHRONOUS | MS_MANDLOCK))
    if place is not None:
        flags |= place.mount.flags & 0xC0F
        if place.mount.flags & MS_RELATIME:
            flags |= _ST_RELATIME
        if place.mount.flags & MS_NOSYMFOLLOW:
            flags |= _ST_NOSYMFOLLOW
    return pack_statfs(
        info.type, info.bsize, info.blocks, info.bfree, info.bavail, info.files, info.ffree, info.fsid,
        info.namelen, info.frsize, flags,
    )  # fmt: skip


@syscall
async def sys_statfs(task: Task, path: PathArg, buffer: Addr) -> None:
    place = await resolve(task, AT_FDCWD, path)
    task.mem.write(buffer, await _statfs_bytes(place.inode, place))


@syscall
async def sys_fstatfs(task: Task, file: AnyFile, buffer: Addr) -> None:
    task.mem.write(buffer, await _statfs_bytes(file.inode, file.path))
