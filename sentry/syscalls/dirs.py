"""Working directory, root and umask (chdir(2), chroot(2), getcwd(2), umask(2)); reading directories
(getdents(2)).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from sentry.abi.linux import AT_FDCWD, CAP_SYS_CHROOT, IN_ACCESS, S_IFDIR, S_IFMT
from sentry.errors import EFAULT, EINVAL, ENAMETOOLONG, ENOENT, ENOTDIR, EPERM, ERANGE
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import PATH_MAX, Addr, AnyFile, File, Mode, PathArg, Size, UInt
from sentry.vfs import notify
from sentry.vfs.mount import d_path
from sentry.vfs.perm import MAY_EXEC, check
from sentry.vfs.walk import resolve_dir

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File as OpenFile

# --- where the task is


@syscall
async def sys_chdir(task: Task, path: PathArg) -> None:
    place = await resolve_dir(task, AT_FDCWD, path)
    check(task, place, MAY_EXEC)
    task.fs.cwd = place


@syscall
def sys_fchdir(task: Task, file: AnyFile) -> None:
    if file.path is None or file.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    check(task, file.path, MAY_EXEC)
    task.fs.cwd = file.path


@syscall
async def sys_chroot(task: Task, path: PathArg) -> None:
    place = await resolve_dir(task, AT_FDCWD, path)
    check(task, place, MAY_EXEC)
    if not task.creds.has_cap(CAP_SYS_CHROOT):
        raise EPERM
    task.fs.root = place


@syscall
def sys_getcwd(task: Task, buffer: Addr, size: Size) -> int:
    cwd = task.fs.cwd
    if cwd.dentry.dead:
        raise ENOENT
    text = d_path(cwd, task.fs.root) + b"\0"
    if len(text) > PATH_MAX:
        raise ENAMETOOLONG
    if len(text) > size:
        raise ERANGE
    task.mem.write(buffer, text)
    return len(text)


@syscall
def sys_umask(task: Task, mask: Mode) -> int:
    old = task.fs.umask
    task.fs.umask = mask & 0o777
    return old


# --- reading a directory

_DIRENT64 = Struct("<QqHB")  # ino, off, reclen, type, then the name
_DIRENT = Struct("<QQH")  # ino, off, reclen, then the name; the type is the record's last byte


@syscall
async def sys_getdents64(task: Task, file: File, buffer: Addr, size: UInt) -> int:
    return await _getdents(task, file, buffer, size, True)


@syscall
async def sys_getdents(task: Task, file: File, buffer: Addr, size: UInt) -> int:
    return await _getdents(task, file, buffer, size, False)


async def _getdents(task: Task, file: OpenFile, buffer: int, size: int, wide: bool) -> int:
    """As many whole records as fit into `size`; EINVAL if not even one does."""
    entries = await file.readdir(task)
    if notify.watching:
        notify.file_event(file, IN_ACCESS)
    pos = file.pos
    out = bytearray()
    ends = []
    for name, ino, dtype in entries:
        reclen = 20 + len(name) + 7 & ~7  # header (19 bytes or 18 and the type), name, NUL, on 8 bytes
        if len(out) + reclen > size:
            if not out:
                raise EINVAL
            break
        ends.append(len(out) + reclen)
        if wide:
            record = _DIRENT64.pack(ino, pos + len(ends), reclen, dtype) + name
            out += record.ljust(reclen, b"\0")
        else:
            record = _DIRENT.pack(ino, pos + len(ends), reclen) + name
            out += record.ljust(reclen - 1, b"\0")
            out.append(dtype)
    if not out:
        return 0
    if not buffer:
        raise EFAULT
    put = task.mem.write_some(buffer, bytes(out))
    if put < len(out):  # a fault on the way: the whole records before it count
        ends = [end for end in ends if end <= put]
        if not ends:
            raise EFAULT
    file.pos = pos + len(ends)
    return ends[-1]
