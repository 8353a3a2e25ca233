"""inotify_init1(2), inotify_add_watch(2), inotify_rm_watch(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import (
    AT_FDCWD,
    IN_ALL_EVENTS,
    IN_CLOEXEC,
    IN_DONT_FOLLOW,
    IN_EXCL_UNLINK,
    IN_IGNORED,
    IN_ISDIR,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_NONBLOCK,
    IN_ONESHOT,
    IN_ONLYDIR,
    IN_Q_OVERFLOW,
    IN_UNMOUNT,
    S_IFDIR,
    S_IFMT,
)
from sentry.errors import EINVAL, ENOTDIR
from sentry.fs.inotify import Inotify
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import File, Int, PathAddr, UInt, flags, open_file
from sentry.vfs.perm import MAY_READ, check
from sentry.vfs.walk import resolve

if TYPE_CHECKING:
    from sentry.kernel.task import Task

InitFlags = Annotated[int, flags(IN_NONBLOCK=IN_NONBLOCK, IN_CLOEXEC=IN_CLOEXEC)]
_KNOWN = (
    IN_ALL_EVENTS | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED | IN_ISDIR | IN_ONLYDIR | IN_DONT_FOLLOW
    | IN_EXCL_UNLINK | IN_MASK_ADD | IN_MASK_CREATE | IN_ONESHOT
)  # fmt: skip


@syscall
def sys_inotify_init(task: Task) -> int:
    return task.fds.install(Inotify())


@syscall
def sys_inotify_init1(task: Task, flags: InitFlags) -> int:
    return task.fds.install(Inotify(flags), bool(flags & IN_CLOEXEC))


@syscall
async def sys_inotify_add_watch(task: Task, fd: UInt, path: PathAddr, mask: UInt) -> int:
    if not mask or mask & ~_KNOWN:
        raise EINVAL
    file = open_file(task, fd)
    if (mask & IN_MASK_ADD and mask & IN_MASK_CREATE) or not isinstance(file, Inotify):
        raise EINVAL
    place = await resolve(task, AT_FDCWD, task.mem.read_cstr(path), not mask & IN_DONT_FOLLOW)
    if mask & IN_ONLYDIR and place.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    check(task, place, MAY_READ)
    return file.watch(place.inode, mask)


@syscall
def sys_inotify_rm_watch(task: Task, file: File, wd: Int) -> None:
    if not isinstance(file, Inotify):
        raise EINVAL
    file.unwatch(wd)
