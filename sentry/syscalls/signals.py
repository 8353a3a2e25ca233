"""Sending signals: kill(2), tgkill(2), rt_sigqueueinfo(2).

Handlers, masks and waiting for signals are the host kernel's (native.py).
"""

from __future__ import annotations

from struct import unpack_from
from typing import TYPE_CHECKING

from sentry.abi.linux import CAP_KILL, SI_TKILL, SIGCONT, SIGKILL, SIGSTOP
from sentry.errors import EINVAL, EPERM, ESRCH
from sentry.kernel.signals import SigInfo, user_info
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Int, Pid

if TYPE_CHECKING:
    from sentry.kernel.task import Task, ThreadGroup

SIGRTMAX = 64
SIGINFO_SIZE = 128


def may_signal(sender: Task, target: Task, signo: int) -> bool:
    """kill_ok_by_cred, and the exception for SIGCONT within a session (kill(2))."""
    own, other = sender.creds, target.creds
    if own.euid in (other.suid, other.uid) or own.uid in (other.suid, other.uid) or own.has_cap(CAP_KILL):
        return True
    if sender.group is target.group:
        return True
    return signo == SIGCONT and sender.group.sid() == target.group.sid()


def send(sender: Task, target: Task, info: SigInfo, whole_group: bool) -> None:
    """Check (check_kill_permission), then send. A container's init is not killed or stopped from inside
    (pid_namespaces(7))."""
    if not 0 <= info.signo <= SIGRTMAX:
        raise EINVAL
    if not may_signal(sender, target, info.signo):
        raise EPERM
    if info.signo == 0 or target.group.exited:
        return
    if info.signo in (SIGKILL, SIGSTOP) and target.group.tgid == 1:
        return
    sender.kernel.send_signal(target.group if whole_group else target, info)


def _send_to_groups(sender: Task, groups: list[ThreadGroup], info: SigInfo) -> int:
    """kill(2) of many: success if one could be signalled; EPERM if none might be, ESRCH if there is none."""
    if not groups:
        raise ESRCH
    done = denied = False
    for group in groups:
        try:
            send(sender, group.leader, info, True)
            done = True
        except EPERM:
            denied = True
        except ESRCH:
            continue
    if done:
        return 0
    raise EPERM if denied else ESRCH


@syscall
def sys_kill(task: Task, pid: Pid, sig: Int) -> int:
    info = user_info(sig, task)
    kernel = task.kernel
    if pid > 0:
        target = kernel.find_task(pid) or kernel.find_zombie(pid)
        if target is None:
            raise ESRCH
        send(task, target.group.leader, info, True)
        return 0
    if pid == -1:
        others = [group for group in kernel.groups() if group is not task.group and group.tgid != 1]
        return _send_to_groups(task, others or [zombie.group for zombie in kernel.zombies()], info)
    if pid == -(1 << 31):
        raise ESRCH
    return signal_group(task, task.group.pgid() if pid == 0 else -pid, info)


def signal_group(task: Task, pgid: int, info: SigInfo) -> int:
    """To every process of a group (kill_pgrp_info)."""
    kernel = task.kernel
    members = [group for group in kernel.groups() if group.pgid() == pgid]
    if not members:
        members = [zombie.group for zombie in kernel.zombies() if zombie.group.pgid() == pgid]
    return _send_to_groups(task, members, info)


def _thread(task: Task, tgid: int | None, tid: int) -> Task:
    target = task.kernel.find_task(tid) or task.kernel.find_zombie(tid)
    if target is None or (tgid is not None and target.group.tgid != tgid):
        raise ESRCH
    return target


@syscall
def sys_tgkill(task: Task, tgid: Pid, tid: Pid, sig: Int) -> int:
    if tgid <= 0 or tid <= 0:
        raise EINVAL
    send(task, _thread(task, tgid, tid), user_info(sig, task, SI_TKILL), False)
    return 0


@syscall
def sys_tkill(task: Task, tid: Pid, sig: Int) -> int:
    if tid <= 0:
        raise EINVAL
    send(task, _thread(task, None, tid), user_info(sig, task, SI_TKILL), False)
    return 0


def queued_info(task: Task, sig: int, info: int) -> SigInfo:
    """The siginfo that the guest gives."""
    raw = task.mem.read(info, SIGINFO_SIZE)
    _, _, code, _, pid, uid, value = unpack_from("<iiiiiIQ", raw)
    packed = (sig & 0xFFFFFFFF).to_bytes(4, "little") + raw[4:]
    return SigInfo(sig, code, pid & 0xFFFFFFFF, uid, value, packed)


def _own_code(task: Task, queued: SigInfo, pid: int) -> SigInfo:
    """Codes of the kernel's are only for signals to oneself: EPERM."""
    if (queued.code >= 0 or queued.code == SI_TKILL) and task.tid != pid:  # task_pid_vnr(current): the thread's own
        raise EPERM
    return queued


@syscall
def sys_rt_sigqueueinfo(task: Task, pid: Pid, sig: Int, info: Addr) -> int:
    queued = _own_code(task, queued_info(task, sig, info), pid)
    target = task.kernel.find_task(pid) or task.kernel.find_zombie(pid)
    if target is None:
        raise ESRCH
    send(task, target.group.leader, queued, True)
    return 0


@syscall
def sys_rt_tgsigqueueinfo(task: Task, tgid: Pid, tid: Pid, sig: Int, info: Addr) -> int:
    if tgid <= 0 or tid <= 0:
        raise EINVAL
    queued = _own_code(task, queued_info(task, sig, info), tid)
    send(task, _thread(task, tgid, tid), queued, False)
    return 0
