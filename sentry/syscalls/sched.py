"""Scheduling policies and CPUs: sched_setscheduler(2), sched_setattr(2), sched_setaffinity(2).

Policies and CPU masks are those of the guest's host threads, so that children inherit them. Guests have the ordinary
policies only: a real-time one would let them starve the host.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, Annotated, NamedTuple

from sentry.abi.linux import (
    CAP_SYS_NICE,
    RLIMIT_RTPRIO,
    SCHED_BATCH,
    SCHED_DEADLINE,
    SCHED_FIFO,
    SCHED_FLAG_ALL,
    SCHED_FLAG_KEEP_PARAMS,
    SCHED_FLAG_KEEP_POLICY,
    SCHED_FLAG_RESET_ON_FORK,
    SCHED_FLAG_UTIL_CLAMP,
    SCHED_IDLE,
    SCHED_NORMAL,
    SCHED_RESET_ON_FORK,
    SCHED_RR,
)
from sentry.abi.x86_64 import TIMESPEC
from sentry.errors import E2BIG, EINVAL, EOPNOTSUPP, EPERM, ESRCH, from_host
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Pid, UInt, choice
from sentry.syscalls.priority import NICE_MAX, NICE_MIN, may_command, may_renice, nice_of, policy_of, set_nice

if TYPE_CHECKING:
    from sentry.kernel.task import Task

Policy = Annotated[
    int,
    choice(
        strict=False, SCHED_OTHER=0, SCHED_FIFO=1, SCHED_RR=2, SCHED_BATCH=3, SCHED_IDLE=5, SCHED_DEADLINE=6
    ),
]

_INT = Struct("<i")
_ATTR = Struct("<IIQiIQQQII")  # struct sched_attr, version 1
_ATTR_SIZE_0 = 48
_REALTIME = (SCHED_FIFO, SCHED_RR)
_ORDINARY = (SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE)
_KNOWN = (*_REALTIME, *_ORDINARY, SCHED_DEADLINE)
PRIORITY_MAX = 99
NORMAL_SLICE_NS = 4_000_000
ORDINARY_ONLY = "ordinary policies only"

# --- policies


class Wanted(NamedTuple):
    """struct sched_attr. No `policy`: it stays; no `nice`: that stays."""

    policy: int | None
    flags: int = 0
    nice: int | None = None
    priority: int = 0
    runtime: int = 0
    deadline: int = 0
    period: int = 0


@syscall(partial=ORDINARY_ONLY)
def sys_sched_setscheduler(task: Task, pid: Pid, policy: Policy, param: Addr) -> None:
    if policy < 0 or not param or pid < 0:
        raise EINVAL
    priority = _INT.unpack(task.mem.read(param, 4))[0]
    flags = SCHED_FLAG_RESET_ON_FORK if policy & SCHED_RESET_ON_FORK else 0
    _set(task, _target(task, pid), Wanted(policy & ~SCHED_RESET_ON_FORK, flags, priority=priority))


@syscall(partial=ORDINARY_ONLY)
def sys_sched_setparam(task: Task, pid: Pid, param: Addr) -> None:
    if not param or pid < 0:
        raise EINVAL
    priority = _INT.unpack(task.mem.read(param, 4))[0]
    _set(task, _target(task, pid), Wanted(None, priority=priority))


@syscall
def sys_sched_getscheduler(task: Task, pid: Pid) -> int:
    if pid < 0:
        raise EINVAL
    return policy_of(_target(task, pid))


@syscall
def sys_sched_getparam(task: Task, pid: Pid, param: Addr) -> None:
    if not param or pid < 0:
        raise EINVAL
    _target(task, pid)
    task.mem.write(param, _INT.pack(0))


@syscall(partial=ORDINARY_ONLY)
def sys_sched_setattr(task: Task, pid: Pid, attr: Addr, flags: UInt) -> None:
    if not attr or pid < 0 or flags:
        raise EINVAL
    wanted = _read_attr(task, attr)
    target = _target(task, pid)
    if wanted.flags & SCHED_FLAG_KEEP_POLICY:
        wanted = wanted._replace(policy=None)
    if wanted.flags & SCHED_FLAG_KEEP_PARAMS:
        wanted = wanted._replace(nice=None, priority=0)
    _set(task, target, wanted)


def _read_attr(task: Task, attr: int) -> Wanted:
    """sched_copy_attr: an older or newer structure is taken, if what we do not know is zero."""
    size = task.mem.read_u32(attr) or _ATTR_SIZE_0
    data = b""
    if _ATTR_SIZE_0 <= size <= 4096:
        data = task.mem.read(attr, size)
    if not data or any(data[_ATTR.size :]):
        task.mem.write_u32(attr, _ATTR.size)
        raise E2BIG
    _, policy, flags, nice, priority, runtime, deadline, period, _, _ = _ATTR.unpack(
        data[: _ATTR.size].ljust(_ATTR.size, b"\0")
    )
    if (flags & SCHED_FLAG_UTIL_CLAMP and size < _ATTR.size) or policy >= 1 << 31:
        raise EINVAL
    return Wanted(policy, flags, max(NICE_MIN, min(nice, NICE_MAX)), priority, runtime, deadline, period)


@syscall
def sys_sched_getattr(task: Task, pid: Pid, attr: Addr, size: UInt, flags: UInt) -> None:
    if not attr or pid < 0 or flags or not _ATTR_SIZE_0 <= size <= 4096:
        raise EINVAL
    target = _target(task, pid)
    now = policy_of(target)
    shown = min(size, _ATTR.size)
    reset = SCHED_FLAG_RESET_ON_FORK if now & SCHED_RESET_ON_FORK else 0
    packed = _ATTR.pack(shown, now & ~SCHED_RESET_ON_FORK, reset, nice_of(target), 0, 0, 0, 0, 0, 0)
    task.mem.write(attr, packed[:shown])


@syscall
def sys_sched_get_priority_max(task: Task, policy: Policy) -> int:
    if policy in _REALTIME:
        return PRIORITY_MAX
    if policy in _KNOWN:
        return 0
    raise EINVAL


@syscall
def sys_sched_get_priority_min(task: Task, policy: Policy) -> int:
    if policy in _REALTIME:
        return 1
    if policy in _KNOWN:
        return 0
    raise EINVAL


@syscall
def sys_sched_rr_get_interval(task: Task, pid: Pid, interval: Addr) -> None:
    if pid < 0:
        raise EINVAL
    _target(task, pid)
    task.mem.write(interval, TIMESPEC.pack(0, NORMAL_SLICE_NS))


def _target(task: Task, pid: int) -> Task:
    if not pid:
        return task
    found = task.kernel.find_task(pid)
    if found is None:
        raise ESRCH
    return found


def _set(task: Task, target: Task, wanted: Wanted) -> None:
    """__sched_setscheduler."""
    now = policy_of(target)
    if wanted.policy is None:
        policy, reset = now & ~SCHED_RESET_ON_FORK, bool(now & SCHED_RESET_ON_FORK)
    else:
        policy, reset = wanted.policy, bool(wanted.flags & SCHED_FLAG_RESET_ON_FORK)
    if policy not in _KNOWN or wanted.flags & ~SCHED_FLAG_ALL:
        raise EINVAL
    if not 0 <= wanted.priority <= PRIORITY_MAX or (policy in _REALTIME) != bool(wanted.priority):
        raise EINVAL
    if policy == SCHED_DEADLINE and not _deadline_is_sound(wanted):
        raise EINVAL
    if not task.creds.has_cap(CAP_SYS_NICE) and not _permitted(task, target, now, policy, reset, wanted):
        raise EPERM
    if not may_command(task, target):
        raise EPERM
    if wanted.flags & SCHED_FLAG_UTIL_CLAMP:
        raise EOPNOTSUPP
    if policy not in _ORDINARY:
        raise EPERM("a real-time policy would let a guest starve the host")
    try:
        host_policy = policy | (SCHED_RESET_ON_FORK if reset else 0)
        os.sched_setscheduler(target.host_tid, host_policy, os.sched_param(0))
    except OSError as error:
        raise from_host(error)
    if wanted.nice is not None and policy != SCHED_IDLE:
        set_nice(target, wanted.nice)


def _deadline_is_sound(wanted: Wanted) -> bool:
    """__checkparam_dl, as far as it needs no settings of the machine's."""
    period = wanted.period or wanted.deadline
    return bool(wanted.deadline) and 1024 <= wanted.runtime <= wanted.deadline <= period < 1 << 63


def _permitted(task: Task, target: Task, now: int, policy: int, reset: bool, wanted: Wanted) -> bool:
    """user_check_sched_setscheduler: what needs no CAP_SYS_NICE."""
    mine, theirs = task.creds, target.creds
    nice = nice_of(target)
    if policy in (SCHED_NORMAL, SCHED_BATCH) and wanted.nice is not None and wanted.nice < nice:
        if not may_renice(target, wanted.nice):
            return False
    if policy in _REALTIME and wanted.priority > target.group.rlimits.get(RLIMIT_RTPRIO)[0]:
        return False
    if policy == SCHED_DEADLINE:
        return False
    if now & ~SCHED_RESET_ON_FORK == SCHED_IDLE and policy != SCHED_IDLE and not may_renice(target, nice):
        return False
    if mine.euid not in (theirs.uid, theirs.euid):
        return False
    return reset or not now & SCHED_RESET_ON_FORK


# --- CPUs


@syscall
def sys_sched_getaffinity(task: Task, pid: Pid, size: UInt, mask: Addr) -> int:
    cpus = _target(task, pid).affinity()
    words = max(cpus) // 64 + 1
    if size < words * 8 or size & 7:
        raise EINVAL
    bits = sum(1 << cpu for cpu in cpus)
    task.mem.write(mask, bits.to_bytes(words * 8, "little"))
    return words * 8


@syscall
def sys_sched_setaffinity(task: Task, pid: Pid, size: UInt, mask: Addr) -> None:
    bits = int.from_bytes(task.mem.read(mask, min(size, 1024)), "little")
    target = _target(task, pid)
    mine, theirs = task.creds, target.creds
    if mine.euid not in (theirs.uid, theirs.euid) and not mine.has_cap(CAP_SYS_NICE):
        raise EPERM
    cpus = {cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1}
    if not cpus & os.sched_getaffinity(0):
        raise EINVAL
    try:
        os.sched_setaffinity(target.host_tid, cpus)
    except OSError as error:
        raise from_host(error)
