"""prctl(2), but for thread names (native.py): what a process or thread asks for itself.

What concerns its own memory or how the CPU treats it is the host kernel's; who it is and what becomes of it the
sentry's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentry.abi import linux
from sentry.abi.linux import CAP_SETPCAP, CAP_SYS_RESOURCE
from sentry.errors import EINVAL, EPERM
from sentry.fs.proc.maps import auxv
from sentry.kernel.creds import ALL_CAPS, SECBIT_KEEP_CAPS
from sentry.syscalls import seccomp
from sentry.syscalls.declare import CONTINUE, syscall
from sentry.syscalls.kinds import Int, ULong, int64

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.kernel.task import Task

CAP_LAST = ALL_CAPS.bit_length() - 1
SECBIT_KEEP_CAPS_LOCKED = 0x20
PR_GET_AUXV = 0x41555856  # newer than our headers
PR_SET_MDWE, PR_GET_MDWE = 65, 66
AUXV_SIZE = 52 * 8  # Linux's AT_VECTOR_SIZE, in bytes


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
    bits = task.creds.securebits
    if bits & SECBIT_KEEP_CAPS_LOCKED:
        raise EPERM
    bits = bits & ~SECBIT_KEEP_CAPS | (SECBIT_KEEP_CAPS if args[0] else 0)
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


def _timer_slack(task: Task, args: tuple[int, ...]) -> Any:
    task.timer_slack_ns = args[0] or task.usual_slack_ns
    return CONTINUE


def _set_timing(task: Task, args: tuple[int, ...]) -> int:
    if args[0] != linux.PR_TIMING_STATISTICAL:
        raise EINVAL
    return 0


def _io_flusher(task: Task, args: tuple[int, ...]) -> int:
    """For those who serve block devices: nobody here does."""
    raise EINVAL if task.creds.has_cap(CAP_SYS_RESOURCE) else EPERM


def _get_auxv(task: Task, args: tuple[int, ...]) -> int:
    """The host kernel's is the loader stub's."""
    if args[2] or args[3]:
        raise EINVAL
    task.mem.write(args[0], auxv(task, task).ljust(AUXV_SIZE, b"\0")[: min(args[1], AUXV_SIZE)])
    return AUXV_SIZE


def _host(task: Task, args: tuple[int, ...]) -> Any:
    """The host kernel's to answer."""
    return CONTINUE


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
    linux.PR_GET_TIMERSLACK: lambda task, args: int64(task.timer_slack_ns),
    linux.PR_SET_TIMERSLACK: _timer_slack,
    linux.PR_GET_TIMING: lambda task, args: linux.PR_TIMING_STATISTICAL,
    linux.PR_SET_TIMING: _set_timing,
    linux.PR_TASK_PERF_EVENTS_DISABLE: lambda task, args: 0,  # nobody has any
    linux.PR_TASK_PERF_EVENTS_ENABLE: lambda task, args: 0,
    linux.PR_SET_IO_FLUSHER: _io_flusher,
    linux.PR_GET_IO_FLUSHER: _io_flusher,
    PR_GET_AUXV: _get_auxv,
    # Own memory: how it is backed, named, described; the host asks for capabilities where that needs some.
    linux.PR_SET_THP_DISABLE: _host,
    linux.PR_GET_THP_DISABLE: _host,
    linux.PR_GET_TID_ADDRESS: _host,
    linux.PR_SET_VMA: _host,
    linux.PR_SET_MM: _host,
    PR_SET_MDWE: _host,
    PR_GET_MDWE: _host,
    linux.PR_MCE_KILL: _host,
    linux.PR_MCE_KILL_GET: _host,
    # Own instructions: whether the time-stamp counter may be read, how far the CPU may speculate.
    linux.PR_GET_TSC: _host,
    linux.PR_SET_TSC: _host,
    linux.PR_GET_SPECULATION_CTRL: _host,
    linux.PR_SET_SPECULATION_CTRL: _host,
}


@syscall(
    partial="core scheduling, page merging and syscall user dispatch are EINVAL",
    may_continue="a property of the caller's own process; memory is only read that is copied and checked there",
)
def sys_prctl(task: Task, option: Int, arg2: ULong, arg3: ULong, arg4: ULong, arg5: ULong) -> Any:
    action = _PRCTL.get(option)
    if action is None:
        raise EINVAL
    return action(task, (arg2, arg3, arg4, arg5))
