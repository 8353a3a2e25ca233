"""Processes by descriptor: pidfd_open(2), pidfd_send_signal(2), pidfd_getfd(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import O_NONBLOCK, SI_TKILL, SI_USER
from sentry.errors import EBADF, EINVAL, ENOENT, EPERM, ESRCH
from sentry.fs.pidfd import PIDFD_THREAD, PidFd
from sentry.fs.proc.access import may_attach
from sentry.fs.proc.task import TaskDirectory
from sentry.kernel.signals import user_info
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Fd, File, Int, Pid, UInt, flags
from sentry.syscalls.signals import queued_info, send, signal_group

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File as VfsFile

PidfdFlags = Annotated[int, flags(PIDFD_NONBLOCK=O_NONBLOCK, PIDFD_THREAD=PIDFD_THREAD)]
SIGNAL_THREAD, SIGNAL_THREAD_GROUP, SIGNAL_PROCESS_GROUP = 1, 2, 4  # PIDFD_SIGNAL_*


@syscall
def sys_pidfd_open(task: Task, pid: Pid, flags: PidfdFlags) -> int:
    if pid <= 0:
        raise EINVAL
    target = task.kernel.find_task(pid) or task.kernel.find_zombie(pid)
    if target is None:
        raise ESRCH
    if not flags & PIDFD_THREAD and target is not target.group.leader:
        raise ENOENT("a thread that leads no group")
    return task.fds.install(PidFd(target, flags), cloexec=True)


@syscall
def sys_pidfd_send_signal(task: Task, pidfd: Fd, sig: Int, info: Addr, flags: UInt) -> int:
    if flags not in (0, SIGNAL_THREAD, SIGNAL_THREAD_GROUP, SIGNAL_PROCESS_GROUP):
        raise EINVAL
    file = task.fds.get(pidfd)
    target = _named(file)
    one_thread = flags == SIGNAL_THREAD or (not flags and isinstance(file, PidFd) and file.is_thread)
    if info:
        sent = queued_info(task, sig, info)
        if int.from_bytes(task.mem.read(info, 4), "little", signed=True) != sig:
            raise EINVAL
        if (target is not task or flags == SIGNAL_PROCESS_GROUP) and (sent.code >= 0 or sent.code == SI_TKILL):
            raise EPERM
    else:
        sent = user_info(sig, task, SI_TKILL if one_thread else SI_USER)
    if flags == SIGNAL_PROCESS_GROUP:
        return signal_group(task, file.pid if isinstance(file, PidFd) else target.tid if target else 0, sent)
    if target is None:
        raise ESRCH
    send(task, target, sent, not one_thread)
    return 0


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
    if target is None:
        raise ESRCH
    if not may_attach(task, target):
        raise EPERM
    if target.group.exited:
        raise ESRCH
    return task.fds.install(target.fds.get(targetfd), cloexec=True)
