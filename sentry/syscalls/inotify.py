"""inotify_init1(2), inotify_add_watch(2), inotify_rm_watch(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import (
    AT_FDCWD,
    IN_ALL_EVENTS,
    IN_CLOEXEC,
    IN_DONT_FOLLOW,
    IN_EXCL_UNLINK,
    IN_MASK_ADD,
    IN_MASK_CREATE,
    IN_NONBLOCK,
    IN_ONESHOT,
    IN_ONLYDIR,
    S_IFDIR,
    S_IFMT,
)
from sentry.errors import EINVAL, ENOTDIR
from sentry.fs.inotify import Inotify
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import File, Int, PathArg, UInt, flags
from sentry.vfs.perm import MAY_READ, check
from sentry.vfs.walk import resolve

if TYPE_CHECKING:
    from sentry.kernel.task import Task

InitFlags = Annotated[int, flags(IN_NONBLOCK=IN_NONBLOCK, IN_CLOEXEC=IN_CLOEXEC)]
_KNOWN = (
    IN_ALL_EVENTS | IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK | IN_MASK_ADD | IN_MASK_CREATE | IN_ONESHOT
)


@syscall
def sys_inotify_init(task: Task) -> int:
    return task.fds.install(Inotify())


@syscall
def sys_inotify_init1(task: Task, flags: InitFlags) -> int:
    return task.fds.install(Inotify(flags), bool(flags & IN_CLOEXEC))


@syscall(partial="no IN_ACCESS for regular files; writes through a mapping are not seen (nor on Linux)")
async def sys_inotify_add_watch(task: Task, file: File, path: PathArg, mask: UInt) -> int:
    if not mask & _KNOWN or (mask & IN_MASK_ADD and mask & IN_MASK_CREATE):
        raise EINVAL
    if not isinstance(file, Inotify):
        raise EINVAL
    place = await resolve(task, AT_FDCWD, path, not mask & IN_DONT_FOLLOW)
    if mask & IN_ONLYDIR and place.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    check(task, place, MAY_READ)
    return file.watch(place.inode, mask)


@syscall
def sys_inotify_rm_watch(task: Task, file: File, wd: Int) -> None:
    if not isinstance(file, Inotify):
        raise EINVAL
    file.unwatch(wd)
