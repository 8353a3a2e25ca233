"""The mount table as a guest changes it: mount(2), umount2(2), pivot_root(2). All need CAP_SYS_ADMIN.

The newer calls, which do the same in steps (fsopen(2), open_tree(2), ...), are ENOSYS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import (
    AT_FDCWD,
    CAP_SYS_ADMIN,
    MNT_DETACH,
    MNT_EXPIRE,
    MNT_FORCE,
    MS_BIND,
    MS_DIRSYNC,
    MS_LAZYTIME,
    MS_MANDLOCK,
    MS_MGC_MSK,
    MS_MGC_VAL,
    MS_MOVE,
    MS_NOATIME,
    MS_NODIRATIME,
    MS_NOUSER,
    MS_PRIVATE,
    MS_RDONLY,
    MS_REC,
    MS_RELATIME,
    MS_REMOUNT,
    MS_SHARED,
    MS_SILENT,
    MS_SLAVE,
    MS_STRICTATIME,
    MS_SYNCHRONOUS,
    MS_UNBINDABLE,
    S_IFDIR,
    S_IFMT,
    UMOUNT_NOFOLLOW,
)
from sentry.errors import EAGAIN, EBUSY, EFAULT, EINVAL, ELOOP, ENOENT, ENOTDIR, EPERM
from sentry.fs.registry import create
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, PathAddr, ULong, flags
from sentry.vfs.mount import Mount, Path, keeps_writable, mount_flags
from sentry.vfs.propagate import copy_tree, join, make_private, make_shared, make_slave, make_unbindable, received
from sentry.vfs.walk import resolve, resolve_dir

if TYPE_CHECKING:
    from sentry.kernel.task import Task

PAGE = 4096
_PROPAGATION = {
    MS_SHARED: make_shared,
    MS_SLAVE: make_slave,
    MS_PRIVATE: make_private,
    MS_UNBINDABLE: make_unbindable,
}
_ANY_PROPAGATION = MS_SHARED | MS_SLAVE | MS_PRIVATE | MS_UNBINDABLE
_ATIME = MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_STRICTATIME
#: flags of a file system, set when it is mounted; and those that remounting changes
SUPER_FLAGS = MS_RDONLY | MS_SYNCHRONOUS | MS_MANDLOCK | MS_DIRSYNC | MS_LAZYTIME
REMOUNT_FLAGS = SUPER_FLAGS & ~MS_DIRSYNC

UmountFlags = Annotated[
    int,
    flags(MNT_FORCE=MNT_FORCE, MNT_DETACH=MNT_DETACH, MNT_EXPIRE=MNT_EXPIRE, UMOUNT_NOFOLLOW=UMOUNT_NOFOLLOW),
]


def check_may_mount(task: Task) -> None:
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM


@syscall(partial="types: tmpfs, ramfs, proc, sysfs, devpts, mqueue, cgroup, and binds")
async def sys_mount(
    task: Task, source: Addr, target: PathAddr, fstype: Addr, mountflags: ULong, data: Addr
) -> None:
    kind = _text(task, fstype)
    device = _text(task, source)
    options = _options(task, data)
    mountflags &= 0xFFFFFFFF
    if mountflags & MS_MGC_MSK == MS_MGC_VAL:
        mountflags &= ~MS_MGC_MSK
    at = await resolve(task, AT_FDCWD, task.mem.read_cstr(target))
    if mountflags & MS_NOUSER:
        raise EINVAL
    check_may_mount(task)
    if mountflags & MS_REMOUNT:
        remount(task, at, mountflags, options)
    elif mountflags & MS_BIND:
        await _bind(task, device, at, bool(mountflags & MS_REC))
    elif mountflags & _ANY_PROPAGATION:
        _propagation(at, mountflags)
    elif mountflags & MS_MOVE:
        if not device:
            raise EINVAL
        move(task, await resolve(task, AT_FDCWD, device), at)
    else:
        if kind is None:
            raise EINVAL
        source_name = b"none" if device is None else device
        fs = create(kind, source_name, options, mountflags, guest=True)
        fs.flags |= mountflags & SUPER_FLAGS
        if fs is at.mount.fs and is_root(at):
            raise EBUSY
        new = Mount(fs, mount_flags(mountflags), source_name)
        check_graft(task, fs.root.mode, 1, at)
        task.mounts.mount(new, at)


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


def is_root(place: Path) -> bool:
    return place.dentry is place.mount.root


def check_graft(task: Task, mode: int, count: int, at: Path) -> None:
    """Whether `count` mounts, the topmost of a file of `mode`, may go on `at` (graft_tree): a directory on a directory,
    anything else on a non-directory. Asked before they are made: a shared one is known to its peers from then on."""
    if at.mount.ns is not task.mounts:
        raise EINVAL
    if at.dentry.dead:
        raise ENOENT
    if (mode & S_IFMT == S_IFDIR) != (at.inode.mode & S_IFMT == S_IFDIR):
        raise ENOTDIR
    task.mounts.check_room(count, at)


def remount(task: Task, at: Path, flags: int, options: bytes) -> None:
    """MS_REMOUNT changes the file system, MS_REMOUNT|MS_BIND this mount only."""
    mount = at.mount
    if not is_root(at) or mount.ns is not task.mounts:
        raise EINVAL
    if not flags & _ATIME:
        flags |= mount.flags & (MS_NOATIME | MS_NODIRATIME | MS_RELATIME)
        if not mount.flags & (MS_NOATIME | MS_RELATIME):
            flags |= MS_STRICTATIME
    if flags & MS_BIND:
        if flags & MS_RDONLY and not mount.flags & MS_RDONLY and mount.open_for_writing():
            raise EBUSY
    else:
        if flags & MS_RDONLY and not mount.fs.read_only and keeps_writable(mount.fs):
            raise EBUSY
        mount.fs.remount(flags, options)
        mount.fs.flags = (mount.fs.flags & ~REMOUNT_FLAGS) | (flags & REMOUNT_FLAGS)
    mount.flags = mount_flags(flags)


async def _bind(task: Task, source: bytes | None, at: Path, recursive: bool) -> None:
    if not source:
        raise EINVAL
    old = await resolve(task, AT_FDCWD, source)
    if old.mount.unbindable or old.mount.ns is not task.mounts:
        raise EINVAL
    check_graft(task, old.inode.mode, sum(1 for _ in old.mount.walk()) if recursive else 1, at)
    if recursive:
        new = copy_tree(old.mount, old)
    else:
        new = old.mount.clone(old.dentry)
        join(new, old.mount)
    task.mounts.mount(new, at)


def _propagation(at: Path, flags: int) -> None:
    change = _PROPAGATION.get(flags & ~(MS_REC | MS_SILENT))
    if not is_root(at) or change is None:
        raise EINVAL
    for mount in at.mount.walk() if flags & MS_REC else (at.mount,):
        change(mount)


def move(task: Task, old: Path, at: Path) -> None:
    """MS_MOVE (do_move_mount)."""
    mount = old.mount
    if not is_root(old) or mount.parent is None or mount.ns is not task.mounts:
        raise EINVAL
    if (old.inode.mode & S_IFMT == S_IFDIR) != (at.inode.mode & S_IFMT == S_IFDIR):
        raise EINVAL
    if mount.parent.group is not None:
        raise EINVAL
    if at.mount.group is not None and any(each.unbindable for each in mount.walk()):
        raise EINVAL
    above: Mount | None = at.mount
    while above is not None:
        if above is mount:
            raise ELOOP
        above = above.parent
    check_graft(task, old.inode.mode, sum(1 for _ in mount.walk()), at)
    mount.detach()
    task.mounts.mount(mount, at)


@syscall
async def sys_umount2(task: Task, target: PathAddr, flags: UmountFlags) -> None:
    place = await resolve(task, AT_FDCWD, task.mem.read_cstr(target), not flags & UMOUNT_NOFOLLOW)
    check_may_mount(task)
    mount = place.mount
    if not is_root(place) or mount.ns is not task.mounts:
        raise EINVAL
    if mount is task.mounts.root or mount.parent is None:
        raise EINVAL
    del place
    if flags & MNT_EXPIRE:
        if flags & (MNT_FORCE | MNT_DETACH):
            raise EINVAL
        if mount.children or mount.in_use():
            raise EBUSY
        if not mount.expiring:  # the second call takes it away
            mount.expiring = True
            raise EAGAIN
    tree = list(mount.walk())
    going = received(tree)
    if not flags & MNT_DETACH:
        if len(tree) > 1:
            raise EBUSY
        del mount, tree  # whoever holds one now is a user
        if any(going[index].in_use() for index in range(len(going))):
            raise EBUSY
    task.mounts.umount(going)


@syscall
async def sys_pivot_root(task: Task, new_root: PathAddr, put_old: PathAddr) -> None:
    check_may_mount(task)
    new = await resolve_dir(task, AT_FDCWD, task.mem.read_cstr(new_root))
    old = await resolve_dir(task, AT_FDCWD, task.mem.read_cstr(put_old))
    root = task.fs.root
    above_new = new.mount.parent
    above_root = root.mount.parent
    for each in (old.mount, above_new, above_root):
        if each is not None and each.group is not None:
            raise EINVAL
    if root.mount in (new.mount, old.mount):
        raise EBUSY
    if not is_root(new) or not is_root(root) or above_new is None:
        raise EINVAL
    if above_root is not None and root.mount.mountpoint is None:
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
        for task_there in group.threads():
            for name in ("root", "cwd"):
                here: Path = getattr(task_there.fs, name)
                if here.mount is root.mount and here.dentry is root.dentry:
                    setattr(task_there.fs, name, new)
