"""What a process shares with others: unshare(2), setns(2).

Birth and exec are in tasks.py, what a process says of itself in prctl.py; death and waiting are the host kernel's
(native.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentry.abi.linux import CAP_SYS_ADMIN, CLONE_FILES, CLONE_FS, CLONE_NEWNS, CLONE_SYSVSEM
from sentry.errors import EINVAL, EPERM
from sentry.ipc import sem
from sentry.syscalls.declare import CONTINUE, syscall
from sentry.syscalls.kinds import Fd, Int, ULong

if TYPE_CHECKING:
    from sentry.kernel.task import Task

_NAMESPACES = 0x7E020080  # CLONE_NEW*
_OTHER_SHARES = 0x00000100 | 0x00000800 | 0x00010000 | 0x00040000  # CLONE_VM SIGHAND THREAD SYSVSEM


@syscall(
    partial="CLONE_FILES, CLONE_FS and CLONE_NEWNS only; other namespaces are EPERM",
    may_continue="the host's table, which holds copies of mapped descriptors, is parted as ours was",
)
def sys_unshare(task: Task, flags: ULong) -> Any:
    if flags & ~(CLONE_FILES | CLONE_FS | _NAMESPACES | _OTHER_SHARES):
        raise EINVAL
    if flags & _OTHER_SHARES and len(task.group.threads()) > 1:
        raise EINVAL
    namespaces = flags & _NAMESPACES
    if namespaces & ~CLONE_NEWNS or (namespaces and not task.creds.has_cap(CAP_SYS_ADMIN)):
        raise EPERM
    if flags & CLONE_SYSVSEM:
        sem.group_exited(task.group)
    if flags & (CLONE_FS | CLONE_FILES) or namespaces:
        task.kernel.threads.part(task)
    if flags & CLONE_FS or namespaces:
        task.set_fs(task.fs.copy())
    parted = False
    if flags & CLONE_FILES and task.fds.users > 1:
        fds = task.fds.fork()
        task.fds.drop()
        task.set_fds(fds)
        parted = True
    if namespaces:
        task.group.mounts, became = task.group.mounts.copy()
        task.fs.moved(became)
    return CONTINUE if parted and not namespaces else 0


@syscall(partial="there is no namespace that could be joined: a descriptor is never one, and EINVAL")
def sys_setns(task: Task, fd: Fd, nstype: Int) -> int:
    task.fds.get(fd)
    raise EINVAL
