"""ioctl(2): what the VFS answers itself (do_vfs_ioctl); the rest is each file's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    CAP_SYS_ADMIN,
    CAP_SYS_RAWIO,
    FASYNC,
    FIBMAP,
    FICLONE,
    FICLONERANGE,
    FIFREEZE,
    FIGETBSZ,
    FIOASYNC,
    FIOCLEX,
    FIOGETOWN,
    FIONBIO,
    FIONCLEX,
    FIONREAD,
    FIOQSIZE,
    FIOSETOWN,
    FITHAW,
    FS_IOC_FIEMAP,
    O_NONBLOCK,
    O_PATH,
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_IFSOCK,
    SIOCGPGRP,
    SIOCSPGRP,
)
from sentry.errors import EBADF, EINVAL, ENOTTY, EOPNOTSUPP, EPERM, EXDEV
from sentry.kernel import sigio
from sentry.kernel.fdtable import set_status_flags
from sentry.syscalls.declare import syscall
from sentry.syscalls.fdio import check_regular
from sentry.syscalls.fds import FAST
from sentry.syscalls.kinds import Fd, UInt, ULong, int64, open_file

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File

_SOCKET_OWNER = frozenset((FIOSETOWN, SIOCSPGRP, FIOGETOWN, SIOCGPGRP))


@syscall(fast=FAST, partial="no FIEMAP, FIDEDUPERANGE, FS_IOC_SETFLAGS or file system of its own kind of ioctl")
async def sys_ioctl(task: Task, fd: Fd, cmd: UInt, arg: ULong) -> int:
    file = task.fds.get(fd)
    if file.flags & O_PATH:
        raise EBADF
    if cmd in (FIOCLEX, FIONCLEX):
        task.fds.set_cloexec(fd, cmd == FIOCLEX)
        return 0
    if cmd == FIONBIO:
        on = task.mem.read_u32(arg)
        set_status_flags(file, file.flags | O_NONBLOCK if on else file.flags & ~O_NONBLOCK)
        return 0
    if cmd == FIOASYNC:
        on = task.mem.read_u32(arg)
        if bool(on) != bool(file.flags & FASYNC):
            if not file.async_io:
                raise ENOTTY
            sigio.switch(task, file, fd, bool(on))
            set_status_flags(file, file.flags ^ FASYNC)
        return 0
    kind = file.inode.mode & S_IFMT
    if cmd in _SOCKET_OWNER and kind == S_IFSOCK:
        sigio.ioctl(task, file, cmd, arg)
        return 0
    if cmd == FIONREAD and kind == S_IFREG:
        left = (await file.getattr()).size - file.pos
        task.mem.write_u32(arg, left & 0xFFFFFFFF)
        return 0
    if cmd == FIOQSIZE:
        if kind not in (S_IFREG, S_IFDIR, S_IFLNK):
            raise ENOTTY
        stat = await file.getattr()
        task.mem.write_u64(arg, stat.blocks * 512)
        return 0
    if cmd == FIGETBSZ:
        if not file.inode.fs.block_size:
            raise EINVAL
        task.mem.write_u32(arg, file.inode.fs.block_size)
        return 0
    if cmd in (FIFREEZE, FITHAW):
        raise EOPNOTSUPP if task.creds.has_cap(CAP_SYS_ADMIN) else EPERM
    if cmd in (FICLONE, FICLONERANGE):
        clone(task, file, arg if cmd == FICLONE else task.mem.read_u64(arg))
    if cmd == FS_IOC_FIEMAP:
        raise EOPNOTSUPP
    if cmd == FIBMAP and kind == S_IFREG and not task.creds.has_cap(CAP_SYS_RAWIO):
        raise EPERM
    return await file.ioctl(task, cmd, arg)


def clone(task: Task, target: File, source_fd: int) -> None:
    """Sharing blocks: always refused, with the errno a file system that has none gives (vfs_clone_file_range)."""
    source = open_file(task, int64(source_fd) & 0xFFFFFFFF)
    if source.inode.fs is not target.inode.fs:
        raise EXDEV
    check_regular(source, target)
    raise EOPNOTSUPP
