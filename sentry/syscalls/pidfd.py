"""Processes by descriptor: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import O_NONBLOCK, SI_TKILL
from sentry.errors import EBADF, EINVAL, EPERM, ESRCH
from sentry.fs.pidfd import PidFd
from sentry.fs.proc.access import may_attach
from sentry.fs.proc.task import TaskDirectory
from sentry.kernel.signals import user_info
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, AnyFile, File, Int, Pid, UInt, flags
from sentry.syscalls.signals import check_number, queued_info, send

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File as VfsFile

PidfdFlags = Annotated[int, flags(PIDFD_NONBLOCK=O_NONBLOCK)]


@syscall
def sys_pidfd_open(task: Task, pid: Pid, flags: PidfdFlags) -> int:
    if pid <= 0:
        raise EINVAL
    target = task.kernel.find_task(pid) or task.kernel.find_zombie(pid)
    if target is None:
        raise ESRCH
    if target is not target.group.leader:
        raise EINVAL("a thread that leads no group")
    return task.fds.install(PidFd(target.group, flags), cloexec=True)


@syscall
def sys_pidfd_send_signal(task: Task, pidfd: AnyFile, sig: Int, info: Addr, flags: UInt) -> None:
    if flags:
        raise EINVAL
    target = _named(pidfd)
    if info:
        queued = queued_info(task, sig, info)
        if int.from_bytes(task.mem.read(info, 4), "little", signed=True) != sig:
            raise EINVAL
        if (target is None or target.group is not task.group) and (queued.code >= 0 or queued.code == SI_TKILL):
            raise EPERM
    else:
        queued = user_info(sig, task)
    check_number(sig)
    if target is None:
        raise ESRCH
    send(task, target, queued, True)


def _named(file: VfsFile) -> Task | None:
    """The process that a pidfd or a descriptor of /proc/PID means; None when it is reaped; EBADF for other files."""
    if isinstance(file, PidFd):
        return file.target()
    inode = file.inode
    if not isinstance(inode, TaskDirectory) or inode.thread:
        raise EBADF
    return inode.target if inode.target.kernel.exists(inode.target) else None


@syscall
def sys_pidfd_getfd(task: Task, pidfd: File, targetfd: Int, flags: UInt) -> int:
    if flags:
        raise EINVAL
    if not isinstance(pidfd, PidFd):
        raise EBADF
    target = pidfd.target()
    if target is None or pidfd.group.exited:
        raise ESRCH
    if not may_attach(task, target):
        raise EPERM
    return task.fds.install(target.fds.get(targetfd), cloexec=True)
