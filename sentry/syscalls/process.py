"""Processes: prctl(2) but for thread names, unshare(2), setns(2), exit notification addresses, process memory access.

Birth and exec are in tasks.py; death and waiting are the host kernel's (native.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentry.abi import linux
from sentry.abi.linux import CAP_SETPCAP, CAP_SYS_ADMIN, CLONE_FILES, CLONE_FS, CLONE_NEWNS
from sentry.errors import EINVAL, EPERM
from sentry.kernel.creds import ALL_CAPS
from sentry.syscalls import seccomp
from sentry.syscalls.declare import CONTINUE, syscall
from sentry.syscalls.kinds import Fd, Int, ULong

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.kernel.task import Task

CAP_LAST = ALL_CAPS.bit_length() - 1
_NAMESPACES = 0x7E020080  # CLONE_NEW*
_OTHER_SHARES = 0x00000100 | 0x00000800 | 0x00010000 | 0x00040000  # CLONE_VM SIGHAND THREAD SYSVSEM


def _pdeathsig(task: Task, args: tuple[int, ...]) -> Any:
    if args[0] > 64:
        raise EINVAL
    task.parent_death_signal = args[0]
    return CONTINUE


def _get_pdeathsig(task: Task, args: tuple[int, ...]) -> int:
    task.mem.write_u32(args[0], task.parent_death_signal)
    return 0


def _get_name(task: Task, args: tuple[int, ...]) -> int:
    task.mem.write(args[0], task.comm.ljust(16, b"\0"))
    return 0


def _set_dumpable(task: Task, args: tuple[int, ...]) -> int:
    if args[0] > 1:
        raise EINVAL
    task.group.dumpable = args[0]
    return 0


def _set_keepcaps(task: Task, args: tuple[int, ...]) -> int:
    if args[0] > 1:
        raise EINVAL
    bits = task.creds.securebits & ~0x10 | (0x10 if args[0] else 0)
    task.set_creds(task.creds._replace(securebits=bits))
    return 0


def _bounding_read(task: Task, args: tuple[int, ...]) -> int:
    if args[0] > CAP_LAST:
        raise EINVAL
    return task.creds.cap_bounding >> args[0] & 1


def _bounding_drop(task: Task, args: tuple[int, ...]) -> int:
    if not task.creds.has_cap(CAP_SETPCAP):
        raise EPERM
    if args[0] > CAP_LAST:
        raise EINVAL
    task.set_creds(task.creds._replace(cap_bounding=task.creds.cap_bounding & ~(1 << args[0])))
    return 0


def _no_new_privs(task: Task, args: tuple[int, ...]) -> int:
    if args[0] != 1 or any(args[1:]):
        raise EINVAL
    task.set_creds(task.creds._replace(no_new_privs=True))
    return 0


def _get_no_new_privs(task: Task, args: tuple[int, ...]) -> int:
    if any(args):
        raise EINVAL
    return int(task.creds.no_new_privs)


def _subreaper(task: Task, args: tuple[int, ...]) -> Any:
    task.group.subreaper = bool(args[0])
    return CONTINUE


def _get_subreaper(task: Task, args: tuple[int, ...]) -> int:
    task.mem.write_u32(args[0], int(task.group.subreaper))
    return 0


def _set_securebits(task: Task, args: tuple[int, ...]) -> int:
    old, new = task.creds.securebits, args[0]
    locks = (old & 0xAA) >> 1  # each lock bit sits above the bit it locks
    if not task.creds.has_cap(CAP_SETPCAP) or new & ~0xFF or (old ^ new) & locks or old & 0xAA & ~new:
        raise EPERM
    task.set_creds(task.creds._replace(securebits=new))
    return 0


def _ambient(task: Task, args: tuple[int, ...]) -> int:
    what, cap, creds = args[0], args[1], task.creds
    if what == linux.PR_CAP_AMBIENT_CLEAR_ALL:
        if any(args[1:]):
            raise EINVAL
        task.set_creds(creds._replace(cap_ambient=0))
        return 0
    if cap > CAP_LAST or args[2] or args[3]:
        raise EINVAL
    bit = 1 << cap
    if what == linux.PR_CAP_AMBIENT_IS_SET:
        return int(bool(creds.cap_ambient & bit))
    if what == linux.PR_CAP_AMBIENT_RAISE:
        if not creds.cap_permitted & creds.cap_inheritable & bit or creds.securebits & 0x40:
            raise EPERM
        task.set_creds(creds._replace(cap_ambient=creds.cap_ambient | bit))
    elif what == linux.PR_CAP_AMBIENT_LOWER:
        task.set_creds(creds._replace(cap_ambient=creds.cap_ambient & ~bit))
    else:
        raise EINVAL
    return 0


_PRCTL: dict[int, Callable[[Any, tuple[int, ...]], Any]] = {
    linux.PR_SET_PDEATHSIG: _pdeathsig,
    linux.PR_GET_PDEATHSIG: _get_pdeathsig,
    linux.PR_GET_NAME: _get_name,
    linux.PR_GET_DUMPABLE: lambda task, args: task.group.dumpable,
    linux.PR_SET_DUMPABLE: _set_dumpable,
    linux.PR_GET_KEEPCAPS: lambda task, args: task.creds.securebits >> 4 & 1,
    linux.PR_SET_KEEPCAPS: _set_keepcaps,
    linux.PR_CAPBSET_READ: _bounding_read,
    linux.PR_CAPBSET_DROP: _bounding_drop,
    linux.PR_SET_NO_NEW_PRIVS: _no_new_privs,
    linux.PR_GET_NO_NEW_PRIVS: _get_no_new_privs,
    linux.PR_SET_CHILD_SUBREAPER: _subreaper,
    linux.PR_GET_CHILD_SUBREAPER: _get_subreaper,
    linux.PR_GET_SECUREBITS: lambda task, args: task.creds.securebits,
    linux.PR_SET_SECUREBITS: _set_securebits,
    linux.PR_CAP_AMBIENT: _ambient,
    linux.PR_GET_SECCOMP: lambda task, args: seccomp.mode(task),
    linux.PR_SET_SECCOMP: lambda task, args: seccomp.prctl_set(task, args[0], args[1]),
    linux.PR_GET_TIMERSLACK: lambda task, args: CONTINUE,
    linux.PR_SET_TIMERSLACK: lambda task, args: CONTINUE,
    linux.PR_SET_THP_DISABLE: lambda task, args: CONTINUE,
    linux.PR_GET_THP_DISABLE: lambda task, args: CONTINUE,
    linux.PR_GET_TID_ADDRESS: lambda task, args: CONTINUE,
}


@syscall(
    partial="core scheduling, PR_SET_MM, syscall user dispatch and speculation control are EINVAL",
    may_continue="registers only, and a property of the caller's own process",
)
def sys_prctl(task: Task, option: Int, arg2: ULong, arg3: ULong, arg4: ULong, arg5: ULong) -> Any:
    action = _PRCTL.get(option)
    if action is None:
        raise EINVAL
    return action(task, (arg2, arg3, arg4, arg5))


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
    if flags & (CLONE_FS | CLONE_FILES) or namespaces:
        task.kernel.threads.part(task)
    if flags & CLONE_FS or namespaces:
        task.fs = task.fs.copy()
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


@syscall(partial="joining namespaces is EPERM")
def sys_setns(task: Task, fd: Fd, nstype: Int) -> int:
    task.fds.get(fd)
    raise EPERM
