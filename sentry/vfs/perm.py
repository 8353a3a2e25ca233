"""May these credentials do that to this inode? path_resolution(7), capabilities(7), inode(7).

`permission` is Linux's inode_permission without the read-only check (sentry/vfs/walk.py's `check` adds that).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    CAP_CHOWN,
    CAP_DAC_OVERRIDE,
    CAP_DAC_READ_SEARCH,
    CAP_FOWNER,
    CAP_FSETID,
    S_IFDIR,
    S_IFIFO,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_ISGID,
    S_ISUID,
    S_ISVTX,
    S_IXGRP,
)
from sentry.errors import EACCES, EPERM, EROFS
from sentry.vfs.stat import SetAttr

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

MAY_EXEC = 1
MAY_WRITE = 2
MAY_READ = 4

_OVERRIDE = 1 << CAP_DAC_OVERRIDE
_READ_SEARCH = 1 << CAP_DAC_READ_SEARCH


def allowed(task: Task, inode: Inode, mask: int, creds: Credentials | None = None) -> bool:
    """True if `creds` (default: the task's) may do all of the MAY_* in `mask`."""
    if inode.own_permission:
        answer = inode.permission(task, mask)
        if answer is not None:
            return answer
    if creds is None:
        creds = task.creds
    mode = inode.mode
    if creds.fsuid == inode.uid:
        granted = mode >> 6
    elif creds.in_group(inode.gid):
        granted = mode >> 3
    else:
        granted = mode
    if not mask & ~granted & 7:
        return True
    capabilities = creds.cap_effective
    if mode & S_IFMT == S_IFDIR:
        return bool(capabilities & _OVERRIDE or (capabilities & _READ_SEARCH and not mask & MAY_WRITE))
    if mask == MAY_READ and capabilities & _READ_SEARCH:
        return True
    # Executing still needs one x bit, even for root.
    return bool(capabilities & _OVERRIDE and (not mask & MAY_EXEC or mode & 0o111))


def check(task: Task, path: Path, mask: int) -> None:
    """EROFS or EACCES unless the task may do `mask` to what `path` names (inode_permission)."""
    inode = path.inode
    if mask & MAY_WRITE and path.mount.fs.read_only and inode.mode & S_IFMT in (S_IFREG, S_IFDIR, S_IFLNK):
        raise EROFS
    if not allowed(task, inode, mask):
        raise EACCES


def want_write(path: Path) -> None:
    """EROFS on a read-only mount or file system (mnt_want_write)."""
    if path.mount.read_only:
        raise EROFS


def owner_or_capable(task: Task, inode: Inode) -> bool:
    """The task owns the inode or has CAP_FOWNER."""
    return task.creds.fsuid == inode.uid or task.creds.has_cap(CAP_FOWNER)


def may_delete(task: Task, directory: Path, inode: Inode) -> None:
    """EACCES without write and search permission, EPERM by the sticky bit (may_delete, unlink(2))."""
    check(task, directory, MAY_WRITE | MAY_EXEC)
    parent = directory.inode
    if parent.mode & S_ISVTX and task.creds.fsuid not in (inode.uid, parent.uid):
        if not task.creds.has_cap(CAP_FOWNER):
            raise EPERM("sticky directory")


# --- sticky world-writable directories and hard links (proc_sys_fs(5), protected_*)


class Protected:
    """The values /proc/sys/fs/protected_* have: at boot the host's are taken, which hold for any container on it."""

    hardlinks = 1
    symlinks = 1
    regular = 2
    fifos = 1

    @classmethod
    def take(cls, values: dict[str, int]) -> None:
        for name, value in values.items():
            setattr(cls, name, value)


def may_follow(task: Task, directory: Inode, link: Inode) -> bool:
    """A trailing link in a sticky world-writable directory leads only its owner, or if the directory's
    made it.
    """
    if not Protected.symlinks or directory.mode & _STICKY_WRITABLE != _STICKY_WRITABLE:
        return True
    return link.uid in (task.creds.fsuid, directory.uid)


def may_create_in_sticky(task: Task, directory: Inode, inode: Inode) -> bool:
    """open(O_CREAT) of an existing file of someone else's in a sticky directory."""
    level = {S_IFREG: Protected.regular, S_IFIFO: Protected.fifos}.get(inode.mode & S_IFMT, 0)
    if not level or not directory.mode & S_ISVTX or inode.uid in (directory.uid, task.creds.fsuid):
        return True
    return not (directory.mode & 0o002 or (directory.mode & 0o020 and level >= 2))


def may_link(task: Task, inode: Inode) -> bool:
    """Hard links to other people's files only where one could read and write them anyway."""
    if not Protected.hardlinks or owner_or_capable(task, inode):
        return True
    mode = inode.mode
    if mode & S_IFMT != S_IFREG or mode & S_ISUID or mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP:
        return False
    return allowed(task, inode, MAY_READ | MAY_WRITE)


_STICKY_WRITABLE = S_ISVTX | 0o002


def new_owner(task: Task, directory: Inode, mode: int) -> tuple[int, int, int]:
    """(mode, uid, gid) of something new in `directory` (inode_init_owner, mode_strip_sgid; inode(7))."""
    creds = task.creds
    gid = creds.fsgid
    if directory.mode & S_ISGID:
        gid = directory.gid
        if mode & S_IFMT == S_IFDIR:
            mode |= S_ISGID
        elif mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP:
            if not creds.in_group(gid) and not creds.has_cap(CAP_FSETID):
                mode &= ~S_ISGID
    return mode, creds.fsuid, gid


def killed_mode(task: Task | None, inode: Inode) -> int | None:
    """The permission bits a write leaves if it must clear setuid or setgid, else None
    (should_remove_suid).
    """
    mode = inode.mode
    if not mode & (S_ISUID | S_ISGID) or mode & S_IFMT != S_IFREG:
        return None
    kill = mode & S_ISUID
    if mode & S_ISGID:
        in_group = task is not None and (task.creds.in_group(inode.gid) or task.creds.has_cap(CAP_FSETID))
        if mode & S_IXGRP or not in_group:
            kill |= S_ISGID
    if not kill or (task is not None and task.creds.has_cap(CAP_FSETID)):
        return None
    return mode & 0o7777 & ~kill


def chmod_attrs(task: Task, inode: Inode, mode: int) -> SetAttr:
    """The change chmod(2) makes: EPERM unless owner; setgid goes if the group is not the caller's."""
    if not owner_or_capable(task, inode):
        raise EPERM
    mode &= 0o7777
    if mode & S_ISGID and not task.creds.in_group(inode.gid) and not task.creds.has_cap(CAP_FSETID):
        mode &= ~S_ISGID
    return SetAttr(mode=mode)


def chown_attrs(task: Task, inode: Inode, uid: int, gid: int) -> SetAttr:
    """The change chown(2) makes; -1 leaves an id alone. Clears setuid and setgid of what is no directory."""
    creds = task.creds
    privileged = creds.has_cap(CAP_CHOWN)
    attrs = SetAttr()
    if uid != -1:
        if not privileged and not (creds.fsuid == inode.uid == uid):
            raise EPERM
        attrs.uid = uid
    if gid != -1:
        same_owner = creds.fsuid == inode.uid
        if not privileged and not (same_owner and (creds.in_group(gid) or gid == inode.gid)):
            raise EPERM
        attrs.gid = gid
    mode = inode.mode
    if mode & S_IFMT != S_IFDIR:
        kept = mode & 0o7777 & ~S_ISUID
        # setgid without group execution once meant mandatory locking and stays for those in the group
        in_group = creds.in_group(inode.gid) or creds.has_cap(CAP_FSETID)
        if mode & S_IXGRP or not in_group:
            kept &= ~S_ISGID
        if kept != mode & 0o7777:
            if not owner_or_capable(task, inode):
                raise EPERM
            attrs.mode = kept
    return attrs
