"""The mount table as a guest changes it: mount(2), umount2(2), pivot_root(2). All need CAP_SYS_ADMIN."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import (
    AT_FDCWD,
    CAP_SYS_ADMIN,
    MNT_DETACH,
    MNT_EXPIRE,
    MNT_FORCE,
    MS_BIND,
    MS_MGC_MSK,
    MS_MGC_VAL,
    MS_MOVE,
    MS_NOATIME,
    MS_NODIRATIME,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_REMOUNT,
    MS_SHARED,
    MS_SLAVE,
    MS_STRICTATIME,
    MS_UNBINDABLE,
    S_IFDIR,
    S_IFMT,
    UMOUNT_NOFOLLOW,
)
from sentry.errors import EAGAIN, EBUSY, EFAULT, EINVAL, ELOOP, ENOTDIR, EPERM
from sentry.fs.registry import create
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, PathArg, ULong, flags
from sentry.vfs.mount import Mount, Path, mount_flags
from sentry.vfs.walk import resolve, resolve_dir

if TYPE_CHECKING:
    from sentry.kernel.task import Task

PAGE = 4096
_PROPAGATION = MS_SHARED | MS_PRIVATE | MS_SLAVE | MS_UNBINDABLE

UmountFlags = Annotated[
    int,
    flags(MNT_FORCE=MNT_FORCE, MNT_DETACH=MNT_DETACH, MNT_EXPIRE=MNT_EXPIRE, UMOUNT_NOFOLLOW=UMOUNT_NOFOLLOW),
]


@syscall(partial="propagation is accepted and ignored; types: tmpfs, proc, sysfs, devpts and binds")
async def sys_mount(
    task: Task, source: Addr, target: PathArg, fstype: Addr, mountflags: ULong, data: Addr
) -> None:
    kind = _text(task, fstype)
    device = _text(task, source)
    options = _options(task, data)
    mountflags &= 0xFFFFFFFF
    if mountflags & MS_MGC_MSK == MS_MGC_VAL:
        mountflags &= ~MS_MGC_MSK
    at = await resolve(task, AT_FDCWD, target)
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    if mountflags & MS_REMOUNT:
        _remount(at, mountflags, options)
    elif mountflags & MS_BIND:
        await _bind(task, device, at, bool(mountflags & MS_REC))
    elif mountflags & _PROPAGATION:
        _propagation(at, mountflags)
    elif mountflags & MS_MOVE:
        await _move(task, device, at)
    else:
        if kind is None:
            raise EINVAL
        fs = create(kind, device or b"none", options, mountflags, guest=True)
        fs.flags |= mountflags & MS_RDONLY
        _same_type(fs.root.mode, at)
        task.mounts.mount(Mount(fs, mount_flags(mountflags), device or b"none"), at)


def _text(task: Task, addr: int) -> bytes | None:
    return task.mem.read_cstr(addr) if addr else None


def _options(task: Task, addr: int) -> bytes:
    """The data page: as much of 4096 bytes as can be read, up to a NUL."""
    if not addr:
        return b""
    size = PAGE
    while True:
        try:
            return task.mem.read(addr, size).partition(b"\0")[0]
        except EFAULT:
            rest = PAGE - addr % PAGE  # the string may end before an unmapped page
            if size <= rest:
                raise
            size = rest


def _same_type(mode: int, at: Path) -> None:
    """A directory goes on a directory, anything else on a non-directory (graft_tree)."""
    if (mode & S_IFMT == S_IFDIR) != (at.inode.mode & S_IFMT == S_IFDIR):
        raise ENOTDIR


def _is_root(place: Path) -> bool:
    return place.dentry is place.mount.root


def _remount(at: Path, flags: int, options: bytes) -> None:
    """MS_REMOUNT changes the file system, MS_REMOUNT|MS_BIND this mount only."""
    if not _is_root(at):
        raise EINVAL
    mount = at.mount
    if not flags & (MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME):
        flags |= mount.flags & (MS_NOATIME | MS_NODIRATIME | MS_RELATIME)
    if not flags & MS_BIND:
        mount.fs.remount(flags, options)
        mount.fs.flags = (mount.fs.flags & ~MS_RDONLY) | (flags & MS_RDONLY)
    mount.flags = mount_flags(flags)


async def _bind(task: Task, source: bytes | None, at: Path, recursive: bool) -> None:
    if not source:
        raise EINVAL
    old = await resolve(task, AT_FDCWD, source)
    if old.mount.propagation & MS_UNBINDABLE or old.mount.ns is not task.mounts:
        raise EINVAL
    _same_type(old.inode.mode, at)
    new = old.mount.clone(old.dentry)
    if recursive:
        _clone_below(old.mount, old, new)
    task.mounts.mount(new, at)


def _clone_below(mount: Mount, source: Path, new: Mount) -> None:
    """MS_REC: what is mounted below `source` comes along."""
    for child in list(mount.children.values()):
        point = child.mountpoint
        if point is None or child.propagation & MS_UNBINDABLE:
            continue
        if mount is source.mount and not source.dentry.is_ancestor_of(point):
            continue
        copy = child.clone()
        copy.attach(new, point)
        _clone_below(child, source, copy)


def _propagation(at: Path, flags: int) -> None:
    kind = flags & _PROPAGATION
    if kind & (kind - 1) or flags & ~(_PROPAGATION | MS_REC | 0x8000):
        raise EINVAL
    if not _is_root(at):
        raise EINVAL
    for mount in at.mount.walk() if flags & MS_REC else (at.mount,):
        mount.propagation = kind


async def _move(task: Task, source: bytes | None, at: Path) -> None:
    if not source:
        raise EINVAL
    old = await resolve(task, AT_FDCWD, source)
    mount = old.mount
    if not _is_root(old) or mount.parent is None or mount.ns is not task.mounts:
        raise EINVAL
    _same_type(old.inode.mode, at)
    above: Mount | None = at.mount
    while above is not None:
        if above is mount:
            raise ELOOP
        above = above.parent
    children = list(mount.walk())
    mount.detach()
    task.mounts.mount(mount, at)
    for each in children:
        each.ns = task.mounts


@syscall
async def sys_umount2(task: Task, target: PathArg, flags: UmountFlags) -> None:
    if flags & MNT_EXPIRE and flags & (MNT_FORCE | MNT_DETACH):
        raise EINVAL
    place = await resolve(task, AT_FDCWD, target, not flags & UMOUNT_NOFOLLOW)
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    mount = place.mount
    if not _is_root(place) or mount.ns is not task.mounts:
        raise EINVAL
    if mount is task.mounts.root or mount.parent is None:
        raise EINVAL
    del place
    if flags & MNT_EXPIRE:
        raise EAGAIN  # the first call only marks it; nothing expires here
    if not flags & MNT_DETACH and (mount.children or mount.in_use()):
        raise EBUSY
    task.mounts.umount(mount)


@syscall
async def sys_pivot_root(task: Task, new_root: PathArg, put_old: PathArg) -> None:
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    new = await resolve_dir(task, AT_FDCWD, new_root)
    old = await resolve_dir(task, AT_FDCWD, put_old)
    root = task.fs.root
    if root.mount in (new.mount, old.mount):
        raise EBUSY
    if not _is_root(new) or not _is_root(root) or new.mount.parent is None:
        raise EINVAL
    if root.mount.parent is not None and root.mount.mountpoint is None:
        raise EINVAL
    place: Path | None = old  # put_old lies at or below new_root
    while place is not None and not (place.mount is new.mount and new.dentry.is_ancestor_of(place.dentry)):
        above = place.mount.parent
        point = place.mount.mountpoint
        place = Path(above, point) if above is not None and point is not None else None
    if place is None:
        raise EINVAL
    task.mounts.pivot(new.mount, root.mount, old)
    for group in task.kernel.groups():
        for each in group.threads():
            for name in ("root", "cwd"):
                here: Path = getattr(each.fs, name)
                if here.mount is root.mount and here.dentry is root.dentry:
                    setattr(each.fs, name, new)
