"""Calls that take names: access(2), readlink(2), mkdir(2), unlink(2), rename(2), link(2), symlink(2),
mknod(2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from sentry.abi.linux import (
    AT_EACCESS,
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_REMOVEDIR,
    AT_SYMLINK_FOLLOW,
    AT_SYMLINK_NOFOLLOW,
    MS_NOEXEC,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    RENAME_WHITEOUT,
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
)
from sentry.errors import EACCES, EINVAL, ENOENT, EROFS
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Dev, DirFd, FileMode, Int, Mode, PathArg, flags
from sentry.vfs import namespace
from sentry.vfs.mount import Path, anonymous_path
from sentry.vfs.names import KNOWN, real_user
from sentry.vfs.perm import MAY_EXEC, MAY_WRITE, check
from sentry.vfs.walk import resolve

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.task import Task

AccessMode = Annotated[int, flags(F_OK=0, R_OK=4, W_OK=2, X_OK=1)]
AccessFlags = Annotated[
    int,
    flags(AT_EACCESS=AT_EACCESS, AT_SYMLINK_NOFOLLOW=AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH=AT_EMPTY_PATH),
]
UnlinkFlags = Annotated[int, flags(AT_REMOVEDIR=AT_REMOVEDIR)]
RenameFlags = Annotated[
    int,
    flags(
        RENAME_NOREPLACE=RENAME_NOREPLACE, RENAME_EXCHANGE=RENAME_EXCHANGE, RENAME_WHITEOUT=RENAME_WHITEOUT
    ),
]
LinkFlags = Annotated[int, flags(AT_SYMLINK_FOLLOW=AT_SYMLINK_FOLLOW, AT_EMPTY_PATH=AT_EMPTY_PATH)]


async def at_place(task: Task, dirfd: int, path: bytes, flags: int) -> Path:
    """What an *at() call means by (dirfd, path, flags): AT_EMPTY_PATH and AT_SYMLINK_NOFOLLOW are heeded."""
    if flags & AT_EMPTY_PATH and not path:
        if dirfd == AT_FDCWD:
            return task.fs.cwd
        file = task.fds.get(dirfd)
        return file.path if file.path is not None else anonymous_path(file.inode, b"")
    return await resolve(task, dirfd, path, not flags & AT_SYMLINK_NOFOLLOW)


# --- access(2)


class _As:
    """The task with other credentials, for the length of one walk."""

    __slots__ = ("_task", "creds")

    def __init__(self, task: Task, creds: Credentials) -> None:
        self._task = task
        self.creds = creds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)


def _as_real_user(task: Task) -> Task:
    """access(2) asks for the real ids."""
    real = real_user(task.creds)
    return task if real is task.creds else _As(task, real)  # type: ignore[return-value]


async def access(task: Task, dirfd: int, path: bytes, mode: int, flags: int) -> None:
    """access(2), faccessat2(2)."""
    if not flags & AT_EACCESS:
        task = _as_real_user(task)
    place = await at_place(task, dirfd, path, flags)
    if not mode:
        return
    kind = place.inode.mode & S_IFMT
    if mode & MAY_EXEC and kind == S_IFREG and place.mount.flags & MS_NOEXEC:
        raise EACCES
    check(task, place, mode)
    if mode & MAY_WRITE and kind in (S_IFREG, S_IFDIR, S_IFLNK) and place.mount.read_only:
        raise EROFS


@syscall(fast=KNOWN)
async def sys_access(task: Task, path: PathArg, mode: AccessMode) -> None:
    await access(task, AT_FDCWD, path, mode, 0)


@syscall(fast=KNOWN)
async def sys_faccessat(task: Task, dirfd: DirFd, path: PathArg, mode: AccessMode) -> None:
    await access(task, dirfd, path, mode, 0)


@syscall(fast=KNOWN)
async def sys_faccessat2(
    task: Task, dirfd: DirFd, path: PathArg, mode: AccessMode, flags: AccessFlags
) -> None:
    await access(task, dirfd, path, mode, flags)


# --- readlink(2)


@syscall(fast=KNOWN)
async def sys_readlink(task: Task, path: PathArg, buffer: Addr, size: Int) -> int:
    return await readlink(task, AT_FDCWD, path, buffer, size)


@syscall(fast=KNOWN)
async def sys_readlinkat(task: Task, dirfd: DirFd, path: PathArg, buffer: Addr, size: Int) -> int:
    return await readlink(task, dirfd, path, buffer, size)


async def readlink(task: Task, dirfd: int, path: bytes, buffer: int, size: int) -> int:
    """readlink(2): the text, cut at `size`, without a NUL."""
    if size <= 0:
        raise EINVAL
    place = await at_place(task, dirfd, path, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW)
    inode = place.inode
    if inode.mode & S_IFMT != S_IFLNK:
        raise EINVAL if path else ENOENT
    text = inode.readlink_for(task)
    if text is None:
        text = await inode.readlink()
    task.mem.write(buffer, text[:size])
    return min(len(text), size)


# --- making names


@syscall
async def sys_mkdir(task: Task, path: PathArg, mode: Mode) -> None:
    await namespace.mkdir(task, AT_FDCWD, path, mode)


@syscall
async def sys_mkdirat(task: Task, dirfd: DirFd, path: PathArg, mode: Mode) -> None:
    await namespace.mkdir(task, dirfd, path, mode)


@syscall
async def sys_mknod(task: Task, path: PathArg, mode: FileMode, dev: Dev) -> None:
    await namespace.mknod(task, AT_FDCWD, path, mode, dev)


@syscall
async def sys_mknodat(task: Task, dirfd: DirFd, path: PathArg, mode: FileMode, dev: Dev) -> None:
    await namespace.mknod(task, dirfd, path, mode, dev)


@syscall
async def sys_symlink(task: Task, target: PathArg, path: PathArg) -> None:
    await namespace.symlink(task, target, AT_FDCWD, path)


@syscall
async def sys_symlinkat(task: Task, target: PathArg, dirfd: DirFd, path: PathArg) -> None:
    await namespace.symlink(task, target, dirfd, path)


@syscall
async def sys_link(task: Task, old: PathArg, new: PathArg) -> None:
    await namespace.link(task, AT_FDCWD, old, AT_FDCWD, new, 0)


@syscall
async def sys_linkat(
    task: Task, olddirfd: DirFd, old: PathArg, newdirfd: DirFd, new: PathArg, flags: LinkFlags
) -> None:
    await namespace.link(task, olddirfd, old, newdirfd, new, flags)


# --- removing and moving them


@syscall
async def sys_unlink(task: Task, path: PathArg) -> None:
    await namespace.unlink(task, AT_FDCWD, path)


@syscall
async def sys_unlinkat(task: Task, dirfd: DirFd, path: PathArg, flags: UnlinkFlags) -> None:
    if flags:
        await namespace.rmdir(task, dirfd, path)
    else:
        await namespace.unlink(task, dirfd, path)


@syscall
async def sys_rmdir(task: Task, path: PathArg) -> None:
    await namespace.rmdir(task, AT_FDCWD, path)


@syscall
async def sys_rename(task: Task, old: PathArg, new: PathArg) -> None:
    await namespace.rename(task, AT_FDCWD, old, AT_FDCWD, new, 0)


@syscall
async def sys_renameat(task: Task, olddirfd: DirFd, old: PathArg, newdirfd: DirFd, new: PathArg) -> None:
    await namespace.rename(task, olddirfd, old, newdirfd, new, 0)


@syscall
async def sys_renameat2(
    task: Task, olddirfd: DirFd, old: PathArg, newdirfd: DirFd, new: PathArg, flags: RenameFlags
) -> None:
    await namespace.rename(task, olddirfd, old, newdirfd, new, flags)
