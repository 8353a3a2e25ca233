"""Niceness and the priority of input and output: getpriority(2), setpriority(2), ioprio_set(2).

Both are the host threads' own, so that children inherit them. Who may change whose is decided here.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

from native import lib
from sentry.abi.linux import (
    CAP_SYS_ADMIN,
    CAP_SYS_NICE,
    IOPRIO_CLASS_BE,
    IOPRIO_CLASS_IDLE,
    IOPRIO_CLASS_NONE,
    IOPRIO_CLASS_RT,
    IOPRIO_CLASS_SHIFT,
    IOPRIO_WHO_PROCESS,
    PRIO_PGRP,
    PRIO_PROCESS,
    PRIO_USER,
    RLIMIT_NICE,
    SCHED_IDLE,
)
from sentry.errors import EACCES, EINVAL, EPERM, ESRCH, from_errno
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Int, choice

if TYPE_CHECKING:
    from sentry.kernel.task import Task

Which = Annotated[int, choice(strict=False, PRIO_PROCESS=0, PRIO_PGRP=1, PRIO_USER=2)]
IoWho = Annotated[int, choice(strict=False, IOPRIO_WHO_PROCESS=1, IOPRIO_WHO_PGRP=2, IOPRIO_WHO_USER=3)]

NICE_MIN, NICE_MAX = -20, 19
_LEVELS = (1 << IOPRIO_CLASS_SHIFT) - 1

# --- niceness


@syscall
def sys_getpriority(task: Task, which: Which, who: Int) -> int:
    """The raw result is 20 - nice, so that it is never negative."""
    nices = [nice_of(each) for each in _chosen(task, which, who)]
    if not nices:
        raise ESRCH
    return 20 - min(nices)


@syscall
def sys_setpriority(task: Task, which: Which, who: Int, nice: Int) -> None:
    nice = max(NICE_MIN, min(nice, NICE_MAX))
    chosen = _chosen(task, which, who)
    if not chosen:
        raise ESRCH
    error: EPERM | EACCES | None = None
    for each in chosen:
        try:
            _renice(task, each, nice)
        except (EPERM, EACCES) as failed:
            error = failed
    if error is not None:
        raise type(error)


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


def nice_of(target: Task) -> int:
    try:
        return os.getpriority(os.PRIO_PROCESS, target.host_tid)
    except OSError:
        return 0


def set_nice(target: Task, nice: int) -> None:
    """Permission is settled. EACCES where the host has a limit of its own."""
    try:
        os.setpriority(os.PRIO_PROCESS, target.host_tid, nice)
    except OSError:
        raise EACCES from None


def may_renice(target: Task, nice: int) -> bool:
    """Whether RLIMIT_NICE lets the target have a niceness lower than now (is_nice_reduction)."""
    return 20 - nice <= target.group.rlimits.get(RLIMIT_NICE)[0]


def may_command(task: Task, target: Task) -> bool:
    """Whether the target has no capability that the caller lacks (cap_safe_nice)."""
    return task.creds.has_cap(CAP_SYS_NICE) or not target.creds.cap_permitted & ~task.creds.cap_permitted


def _renice(task: Task, target: Task, nice: int) -> None:
    """set_one_prio."""
    mine, theirs = task.creds, target.creds
    capable = mine.has_cap(CAP_SYS_NICE)
    if mine.euid not in (theirs.uid, theirs.euid) and not capable:
        raise EPERM
    if nice < nice_of(target) and not capable and not may_renice(target, nice):
        raise EACCES
    if not may_command(task, target):
        raise EPERM
    set_nice(target, nice)


# --- input and output


@syscall(partial="the host has no real-time class for guests")
def sys_ioprio_set(task: Task, which: IoWho, who: Int, ioprio: Int) -> None:
    kind, data = ioprio >> IOPRIO_CLASS_SHIFT & 7, ioprio & _LEVELS
    if kind == IOPRIO_CLASS_RT:
        if not (task.creds.has_cap(CAP_SYS_ADMIN) or task.creds.has_cap(CAP_SYS_NICE)):
            raise EPERM
    elif kind not in (IOPRIO_CLASS_NONE, IOPRIO_CLASS_BE, IOPRIO_CLASS_IDLE):
        raise EINVAL
    if kind == IOPRIO_CLASS_NONE and data & 7:
        raise EINVAL
    chosen = _chosen(task, which - 1, who)
    if not chosen:
        raise ESRCH
    for target in chosen:
        mine, theirs = task.creds, target.creds
        if theirs.uid not in (mine.euid, mine.uid) and not mine.has_cap(CAP_SYS_NICE):
            raise EPERM
        if not may_command(task, target):
            raise EPERM
        failed = lib.nc_set_ioprio(target.host_tid, ioprio)
        if failed:
            raise from_errno(-failed)


@syscall
def sys_ioprio_get(task: Task, which: IoWho, who: Int) -> int:
    """Of several threads the best; a thread that nobody gave one has that of its niceness then."""
    chosen = _chosen(task, which - 1, who)
    if not chosen:
        raise ESRCH
    found = [(target, max(lib.nc_ioprio(target.host_tid), 0)) for target in chosen]
    if which == IOPRIO_WHO_PROCESS:
        return found[0][1]
    return min(prio if prio >> IOPRIO_CLASS_SHIFT else _of_niceness(target) for target, prio in found)


def _of_niceness(target: Task) -> int:
    kind = IOPRIO_CLASS_IDLE if policy_of(target) == SCHED_IDLE else IOPRIO_CLASS_BE
    return kind << IOPRIO_CLASS_SHIFT | (nice_of(target) + 20) // 5


def policy_of(target: Task) -> int:
    """SCHED_*, with SCHED_RESET_ON_FORK beside it; 0 when the thread is gone."""
    try:
        return os.sched_getscheduler(target.host_tid)
    except OSError:
        return 0
