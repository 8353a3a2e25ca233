"""Signals that tell of a ready file: O_ASYNC, F_SETOWN, F_SETSIG, SIGURG (fcntl(2); Linux: fs/fcntl.c).

    set_owner(task, file, F_OWNER_PID, pid)     # whom to tell
    switch(task, file, fd, True)                # O_ASYNC was set: from now on a wake of the file's queue is a signal
    urgent(task.kernel, file)                   # out-of-band data came
    tell(task.kernel, file, fd, POLL_MSG)       # one signal, whatever happened (leases, F_NOTIFY)

Who owns a file is a number and the ids of who set it: that the owner may be signalled is checked when it is.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from native import lib
from sentry.abi.linux import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLMSG,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
    F_GETOWN,
    F_GETOWN_EX,
    F_GETSIG,
    F_OWNER_PGRP,
    F_OWNER_PID,
    F_OWNER_TID,
    F_SETOWN_EX,
    F_SETSIG,
    FIOGETOWN,
    POLL_HUP,
    POLL_IN,
    POLL_MSG,
    POLL_OUT,
    S_IFIFO,
    S_IFMT,
    S_IFSOCK,
    SIGIO,
    SIGURG,
    SIOCGPGRP,
)
from sentry.abi.x86_64 import F_OWNER_EX
from sentry.errors import EAGAIN, EINVAL, ESRCH
from sentry.kernel.fdtable import at_release, forget_at_release
from sentry.kernel.sched import KNOWN
from sentry.kernel.signals import SigInfo, kernel_info

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.vfs.file import File

_NSIG = 64
NC_TAKEN: int = lib.NC_TAKEN
_SIGPOLL = Struct("<iiiiqi")  # struct siginfo: number, errno, code, padding, band, descriptor
_BANDS = {  # band_table of fs/fcntl.c
    POLL_IN: EPOLLIN | EPOLLRDNORM,
    POLL_OUT: EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND,
    POLL_MSG: EPOLLIN | EPOLLRDNORM | EPOLLMSG,
    POLL_HUP: EPOLLHUP | EPOLLERR,
}


class Owner:
    """F_SETOWN: `kind` is F_OWNER_TID, _PID or _PGRP. `signo` is F_SETSIG's, 0: SIGIO without details."""

    __slots__ = ("creds", "kind", "pid", "signo")

    def __init__(self) -> None:
        self.kind = F_OWNER_TID
        self.pid = 0  # 0: nobody
        self.creds: Credentials | None = None  # of whoever set it
        self.signo = 0


_owners: WeakKeyDictionary[File, Owner] = WeakKeyDictionary()
_enabled: WeakKeyDictionary[File, Callable[[int], None]] = WeakKeyDictionary()


def owner_of(file: File) -> Owner:
    """Made at the first use."""
    owner = _owners.get(file)
    if owner is None:
        owner = _owners[file] = Owner()
    return owner


def set_owner(task: Task, file: File, kind: int, pid: int) -> None:
    """ESRCH for a process or group that there is not."""
    if pid:
        kernel = task.kernel
        exists = kernel.find_task(pid) is not None or kernel.find_zombie(pid) is not None
        if not exists and not any(group.pgid() == pid for group in kernel.groups()):
            raise ESRCH
    owner = owner_of(file)
    owner.kind, owner.pid, owner.creds = kind, pid, task.creds


def own_unless_owned(task: Task, file: File) -> None:
    """The process owns the file if nobody does yet."""
    if not owner_of(file).pid:
        set_owner(task, file, F_OWNER_PID, task.group.tgid)


def fcntl(task: Task, file: File, cmd: int, arg: int) -> int:
    """F_SETOWN, F_SETSIG and their like."""
    owner = owner_of(file)
    if cmd == F_GETOWN:
        return -owner.pid if owner.kind == F_OWNER_PGRP else owner.pid
    if cmd == F_GETSIG:
        return owner.signo
    if cmd == F_GETOWN_EX:
        task.mem.write(arg, F_OWNER_EX.pack(owner.kind, owner.pid))
    elif cmd == F_SETSIG:
        if arg > _NSIG:
            raise EINVAL
        owner.signo = arg
    elif cmd == F_SETOWN_EX:
        kind, pid = F_OWNER_EX.unpack(task.mem.read(arg, F_OWNER_EX.size))
        if kind not in (F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP):
            raise EINVAL
        set_owner(task, file, kind, pid)
    else:
        _set_number(task, file, arg & 0xFFFFFFFF)
    return 0


def ioctl(task: Task, file: File, cmd: int, arg: int) -> None:
    """The same by ioctl(2), which sockets have."""
    if cmd in (SIOCGPGRP, FIOGETOWN):
        task.mem.write_u32(arg, fcntl(task, file, F_GETOWN, 0) & 0xFFFFFFFF)
    else:
        _set_number(task, file, task.mem.read_u32(arg))


def _set_number(task: Task, file: File, unsigned: int) -> None:
    """A negative number means a process group."""
    number = (unsigned ^ 0x80000000) - 0x80000000
    if number == -0x80000000:
        raise EINVAL
    set_owner(task, file, F_OWNER_PGRP if number < 0 else F_OWNER_PID, abs(number))


def switch(task: Task, file: File, fd: int, on: bool) -> None:
    """Set or clear O_ASYNC of a file that has it (`file.async_io`). si_fd will show `fd`."""
    if not on:
        _disable(file)
    elif file not in _enabled:
        default = file.async_owner(task)
        if default is not None and not owner_of(file).pid:
            set_owner(task, file, *default)
        _enable(task.kernel, file, fd)


def _enable(kernel: Kernel, file: File, fd: int) -> None:
    reason_of = _pipe_reason if file.inode.mode & S_IFMT == S_IFIFO else _reason

    def wake(mask: int) -> None:
        reason = reason_of(file, mask)
        if reason and not mask & KNOWN and (reason != POLL_OUT or file.tells_room):
            tell(kernel, file, fd, reason)

    _enabled[file] = wake
    file.wait_queue.add(wake)
    at_release(file, _disable)


def _disable(file: File) -> None:
    wake = _enabled.pop(file, None)
    if wake is not None:
        file.wait_queue.remove(wake)
        forget_at_release(file, _disable)


def urgent(kernel: Kernel, file: File) -> None:
    """send_sigurg: SIGURG to the owner, whether O_ASYNC is set or not."""
    owner = _owners.get(file)
    if owner is not None and owner.pid:
        _send(kernel, owner, kernel_info(SIGURG))


def _pipe_reason(file: File, mask: int) -> int:
    """Each end is told of its own side: of every write, every read, and the other end's close (pipe_release)."""
    if file.readable and mask & (EPOLLIN | EPOLLHUP):
        return POLL_IN
    return POLL_OUT if file.writable and mask & (EPOLLOUT | EPOLLERR | NC_TAKEN) else 0


def _reason(file: File, mask: int) -> int:
    """Sockets tell of the end of both directions, other files of what can be read then."""
    if file.inode.mode & S_IFMT == S_IFSOCK and mask & EPOLLHUP:
        return POLL_HUP
    if mask & (EPOLLIN | EPOLLRDNORM | EPOLLPRI):
        return POLL_IN
    if mask & (EPOLLHUP | EPOLLERR):
        return POLL_HUP
    return POLL_OUT if mask & (EPOLLOUT | EPOLLWRNORM) else 0


def tell(kernel: Kernel, file: File, fd: int, reason: int) -> None:
    """send_sigio_to_task: a queued signal that names the descriptor; plain SIGIO when none was asked for or fits."""
    owner = _owners.get(file)
    if owner is None or not owner.pid:
        return
    if owner.signo:
        raw = _SIGPOLL.pack(owner.signo, 0, reason, 0, _BANDS[reason], fd)
        try:
            _send(kernel, owner, SigInfo(owner.signo, reason, raw=raw))
            return
        except EAGAIN:
            pass
    _send(kernel, owner, kernel_info(SIGIO))


def _send(kernel: Kernel, owner: Owner, info: SigInfo) -> None:
    try:
        if owner.kind == F_OWNER_PGRP:
            for group in kernel.groups():
                if group.pgid() == owner.pid and _allowed(owner, group.leader):
                    kernel.send_signal(group, info)
            return
        task = kernel.find_task(owner.pid)
        if task is None or not _allowed(owner, task):
            return
        kernel.send_signal(task if owner.kind == F_OWNER_TID else task.group, info)
    except ESRCH:
        pass


def _allowed(owner: Owner, target: Task) -> bool:
    """sigio_perm."""
    if owner.creds is None or owner.creds.euid == 0:
        return True
    theirs = (target.creds.suid, target.creds.uid)
    return owner.creds.euid in theirs or owner.creds.uid in theirs
