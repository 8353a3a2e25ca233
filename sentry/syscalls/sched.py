"""Priorities and CPUs: getpriority(2), sched_setscheduler(2), sched_setaffinity(2), ioprio_set(2).

Niceness and CPU masks are applied to the guest's host threads; only the ordinary scheduling policies exist.
"""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import (
    CAP_SYS_ADMIN,
    CAP_SYS_NICE,
    IOPRIO_CLASS_BE,
    IOPRIO_CLASS_IDLE,
    IOPRIO_CLASS_NONE,
    IOPRIO_CLASS_RT,
    IOPRIO_CLASS_SHIFT,
    PRIO_PGRP,
    PRIO_PROCESS,
    PRIO_USER,
    RLIMIT_NICE,
    SCHED_BATCH,
    SCHED_DEADLINE,
    SCHED_FIFO,
    SCHED_IDLE,
    SCHED_NORMAL,
    SCHED_RESET_ON_FORK,
    SCHED_RR,
)
from sentry.abi.x86_64 import TIMESPEC
from sentry.errors import E2BIG, EACCES, EINVAL, EPERM, ESRCH, from_host
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Int, Pid, UInt, choice

if TYPE_CHECKING:
    from sentry.kernel.task import Task

Which = Annotated[int, choice(strict=False, PRIO_PROCESS=0, PRIO_PGRP=1, PRIO_USER=2)]
Policy = Annotated[
    int,
    choice(
        strict=False, SCHED_OTHER=0, SCHED_FIFO=1, SCHED_RR=2, SCHED_BATCH=3, SCHED_IDLE=5, SCHED_DEADLINE=6
    ),
]

_INT = Struct("<i")
_ATTR = Struct("<IIQiIQQQ")  # struct sched_attr, version 0: 48 bytes
_REALTIME = (SCHED_FIFO, SCHED_RR)
_ORDINARY = (SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE)
RR_SLICE_NS = 100_000_000
NORMAL_SLICE_NS = 4_000_000
NICE_MIN, NICE_MAX = -20, 19

# --- niceness


@syscall
def sys_getpriority(task: Task, which: Which, who: Int) -> int:
    """The raw result is 20 - nice, so that it is never negative."""
    nices = [_nice(each) for each in _chosen(task, which, who)]
    if not nices:
        raise ESRCH
    return 20 - min(nices)


@syscall
def sys_setpriority(task: Task, which: Which, who: Int, nice: Int) -> None:
    nice = max(NICE_MIN, min(nice, NICE_MAX))
    chosen = _chosen(task, which, who)
    if not chosen:
        raise ESRCH
    error: type[EPERM | EACCES] | None = None
    for each in chosen:
        error = _set_nice(task, each, nice) or error
    if error is not None:
        raise error


def _chosen(task: Task, which: int, who: int) -> list[Task]:
    """The threads which the two arguments name."""
    kernel = task.kernel
    if which == PRIO_PROCESS:
        one = task if who == 0 else kernel.find_task(who)
        return [] if one is None else [one]
    if which == PRIO_PGRP:
        pgid = who or task.group.pgid()
        return [each for group in kernel.groups() if group.pgid() == pgid for each in group.threads()]
    if which == PRIO_USER:
        uid = who or task.creds.uid
        return [each for group in kernel.groups() for each in group.threads() if each.creds.uid == uid]
    raise EINVAL


def _nice(target: Task) -> int:
    try:
        return os.getpriority(os.PRIO_PROCESS, target.host_tid)
    except OSError:
        return 0


def _set_nice(task: Task, target: Task, nice: int) -> type[EPERM | EACCES] | None:
    """set_one_prio: the error, if any."""
    mine, theirs = task.creds, target.creds
    capable = mine.has_cap(CAP_SYS_NICE)
    if mine.euid not in (theirs.uid, theirs.euid) and not capable:
        return EPERM
    if nice < _nice(target) and not capable:
        if 20 - nice > task.group.rlimits.get(RLIMIT_NICE)[0]:
            return EACCES
    try:
        os.setpriority(os.PRIO_PROCESS, target.host_tid, nice)
    except OSError:
        return EACCES
    return None


# --- policies


@syscall(partial="ordinary policies only, and they make no difference")
def sys_sched_setscheduler(task: Task, pid: Pid, policy: Policy, param: Addr) -> int:
    if policy < 0 or not param or pid < 0:
        raise EINVAL
    priority = _INT.unpack(task.mem.read(param, 4))[0]
    _set_policy(task, _target(task, pid), policy, priority)
    return 0


@syscall(partial="ordinary policies only")
def sys_sched_setparam(task: Task, pid: Pid, param: Addr) -> int:
    if not param or pid < 0:
        raise EINVAL
    priority = _INT.unpack(task.mem.read(param, 4))[0]
    _set_policy(task, _target(task, pid), SCHED_NORMAL, priority)
    return 0


@syscall
def sys_sched_getscheduler(task: Task, pid: Pid) -> int:
    if pid < 0:
        raise EINVAL
    _target(task, pid)
    return SCHED_NORMAL


@syscall
def sys_sched_getparam(task: Task, pid: Pid, param: Addr) -> None:
    if not param or pid < 0:
        raise EINVAL
    _target(task, pid)
    task.mem.write(param, _INT.pack(0))


@syscall(partial="ordinary policies only")
def sys_sched_setattr(task: Task, pid: Pid, attr: Addr, flags: UInt) -> None:
    if not attr or pid < 0 or flags:
        raise EINVAL
    size = task.mem.read_u32(attr)
    if size and size < _ATTR.size:
        task.mem.write_u32(attr, _ATTR.size)
        raise E2BIG
    _, policy, _, nice, priority, _, _, _ = _ATTR.unpack(task.mem.read(attr, _ATTR.size))
    target = _target(task, pid)
    _set_policy(task, target, policy, priority)
    error = _set_nice(task, target, max(NICE_MIN, min(nice, NICE_MAX)))
    if error is not None:
        raise EPERM


@syscall
def sys_sched_getattr(task: Task, pid: Pid, attr: Addr, size: UInt, flags: UInt) -> None:
    if not attr or pid < 0 or flags or not _ATTR.size <= size <= 4096:
        raise EINVAL
    target = _target(task, pid)
    task.mem.write(attr, _ATTR.pack(_ATTR.size, SCHED_NORMAL, 0, _nice(target), 0, 0, 0, 0))


@syscall
def sys_sched_get_priority_max(task: Task, policy: Policy) -> int:
    if policy in _REALTIME:
        return 99
    if policy in _ORDINARY or policy == SCHED_DEADLINE:
        return 0
    raise EINVAL


@syscall
def sys_sched_get_priority_min(task: Task, policy: Policy) -> int:
    if policy in _REALTIME:
        return 1
    if policy in _ORDINARY or policy == SCHED_DEADLINE:
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


def _set_policy(task: Task, target: Task, policy: int, priority: int) -> None:
    policy &= ~SCHED_RESET_ON_FORK
    if policy in _REALTIME:
        if not 1 <= priority <= 99:
            raise EINVAL
        raise EPERM("real-time policies would let a guest starve the host")
    if policy == SCHED_DEADLINE:
        raise EPERM
    if policy not in _ORDINARY or priority:
        raise EINVAL
    mine, theirs = task.creds, target.creds
    if mine.euid not in (theirs.uid, theirs.euid) and not mine.has_cap(CAP_SYS_NICE):
        raise EPERM


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


# --- input and output


@syscall(partial="checked and forgotten")
def sys_ioprio_set(task: Task, which: Int, who: Int, ioprio: Int) -> None:
    kind, data = ioprio >> IOPRIO_CLASS_SHIFT & 7, ioprio & ((1 << IOPRIO_CLASS_SHIFT) - 1)
    if kind == IOPRIO_CLASS_RT:
        if not (task.creds.has_cap(CAP_SYS_ADMIN) or task.creds.has_cap(CAP_SYS_NICE)):
            raise EPERM
    elif kind not in (IOPRIO_CLASS_NONE, IOPRIO_CLASS_BE, IOPRIO_CLASS_IDLE):
        raise EINVAL
    if kind == IOPRIO_CLASS_NONE and data:
        raise EINVAL
    if kind in (IOPRIO_CLASS_RT, IOPRIO_CLASS_BE) and data & 7 != data:
        raise EINVAL
    if not _chosen(task, which - 1, who):
        raise ESRCH


@syscall
def sys_ioprio_get(task: Task, which: Int, who: Int) -> int:
    if not _chosen(task, which - 1, who):
        raise ESRCH
    return 0
