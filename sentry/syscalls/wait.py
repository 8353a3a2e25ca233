"""Waiting for children: wait4(2), waitid(2).

Children are the host kernel's to report. Only a tracer's wait is ours as well: its tracees' stops are known here alone.
It asks the host without waiting (the call made again with WNOHANG), and sleeps here until something has happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from sentry.abi.linux import (
    O_NONBLOCK,
    P_ALL,
    P_PGID,
    P_PID,
    P_PIDFD,
    WCLONE,
    WCONTINUED,
    WEXITED,
    WNOHANG,
    WNOTHREAD,
    WNOWAIT,
    WSTOPPED,
)
from sentry.abi.x86_64 import NUMBERS
from sentry.errors import EAGAIN, EBADF, ECHILD, EINVAL, ESRCH
from sentry.fs.pidfd import PidFd
from sentry.kernel import ptrace
from sentry.kernel.rewrite import AGAIN, Rewritten
from sentry.kernel.sched import wait
from sentry.syscalls.declare import CONTINUE, syscall
from sentry.syscalls.kinds import Addr, Pid
from sentry.syscalls.native import IdType, WaitOptions

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File

OWN_PIDS = "names processes of the caller's own PID namespace only"
FAST = "nobody is traced by the caller's process"
SI_PID_AT = 16  # in struct siginfo as waitid(2) fills it
_WAIT4 = NUMBERS["wait4"]
_BELOW_STACK = 512 + 128  # the red zone and room, and a struct siginfo
RUSAGE_SIZE = 144
WAIT4_OPTIONS = WNOHANG | WSTOPPED | WCONTINUED | WNOTHREAD | WCLONE | 0x40000000  # __WALL
WAITID_OPTIONS = WNOHANG | WNOWAIT | WEXITED | WSTOPPED | WCONTINUED | WNOTHREAD | WCLONE | 0x40000000


@syscall(fast=FAST, may_continue=OWN_PIDS)
async def sys_wait4(task: Task, pid: Pid, status: Addr, options: WaitOptions, rusage: Addr) -> Any:
    if options & ~WAIT4_OPTIONS:
        raise EINVAL
    if pid == -(1 << 31):
        raise ESRCH
    if not traces(task):
        return CONTINUE
    found = await next_of_ours(task, _chosen(task, pid), options | WEXITED | WSTOPPED)
    if not isinstance(found, Report):
        return found
    if status:
        task.mem.write_u32(status, found.status)
    if rusage:
        task.mem.write(rusage, bytes(RUSAGE_SIZE))
    return found.tid


@syscall(fast=FAST, may_continue=OWN_PIDS)
async def sys_waitid(
    task: Task, idtype: IdType, number: Pid, infop: Addr, options: WaitOptions, rusage: Addr
) -> Any:
    if options & ~WAITID_OPTIONS or not options & (WEXITED | WSTOPPED | WCONTINUED):
        raise EINVAL
    registers: dict[int, int] = {}
    nonblocking = False
    if idtype == P_PIDFD:
        file = _pidfd(task, number)
        registers = {0: P_PID, 1: file.pid}
        nonblocking = bool(file.flags & O_NONBLOCK) and not options & WNOHANG
        idtype, number = P_PID, file.pid
    if not traces(task):
        if nonblocking:
            finish = lambda result: _nothing_yet(task, infop, result)  # noqa: E731
            return Rewritten({**registers, 3: options | WNOHANG}, finish=finish)
        return Rewritten(registers) if registers else CONTINUE
    pid = {P_ALL: -1, P_PID: number, P_PGID: -number}.get(idtype)
    if pid is None or (idtype == P_PID and number <= 0) or (idtype == P_PGID and number < 0):
        raise EINVAL
    found = await next_of_ours(task, _chosen(task, pid), options, registers)
    if not isinstance(found, Report):
        return found
    if infop:
        task.mem.write(infop, found.info)
    if rusage:
        task.mem.write(rusage, bytes(RUSAGE_SIZE))
    return 0


def _pidfd(task: Task, fd: int) -> PidFd:
    if fd < 0:
        raise EINVAL
    file: File = task.fds.get(fd)
    if not isinstance(file, PidFd):
        raise EBADF
    return file


def _nothing_yet(task: Task, infop: int, result: int) -> int:
    """With PIDFD_NONBLOCK it is an error that there is nothing to report."""
    if result == 0 and infop and not task.mem.read_u32(infop + SI_PID_AT):
        return -EAGAIN.errno
    return result


# --- tracers


class Report(NamedTuple):
    """What the call gives of one tracee: its number, the wait status, struct siginfo."""

    tid: int
    status: int
    info: bytes


def traces(task: Task) -> bool:
    return bool(task.group.tracees or task.group.ended)


def _chosen(task: Task, pid: int) -> Any:
    """Whether a tracee (its number, its process group) is among those asked for."""
    if pid > 0:
        return lambda tid, pgid: tid == pid
    if pid == -1:
        return lambda tid, pgid: True
    wanted = task.group.pgid() if pid == 0 else -pid
    return lambda tid, pgid: pgid == wanted


async def next_of_ours(task: Task, chosen: Any, options: int, registers: dict[int, int] | None = None) -> Any:
    """A Report of a tracee, or the question to the host kernel, as a call to make."""
    events = task.group.child_events
    while True:
        seen, task.wait_seen = task.wait_seen, -1
        report = _take(task, chosen, options)
        if report is not None:
            return report
        if seen != events.count:
            return AskHost(task, chosen, options, registers or {}, events.count)
        await wait(events.queue)


def _take(task: Task, chosen: Any, options: int) -> Report | None:
    group = task.group
    for ended in group.ended if options & WEXITED else ():
        if chosen(ended.tid, 0):
            if not options & WNOWAIT:
                group.ended.remove(ended)
            return Report(ended.tid, ended.status, ptrace.child_info(ended.tid, ended.uid, ended.status))
    for tracee in group.tracees if options & WSTOPPED else ():
        stop = tracee.stop
        if stop is None or tracee.reported or (options & WNOTHREAD and tracee.tracer is not task):
            continue
        tid = tracee.task.tid
        if chosen(tid, tracee.task.group.pgid()):
            tracee.reported = not options & WNOWAIT
            return Report(tid, stop.code << 8 | 0x7F, ptrace.trapped_info(tracee, stop.code))
    return None


class AskHost(Rewritten):
    """The same wait, of the host kernel and without waiting. With nothing there, the call is made anew, and sleeps as
    long as there are no more than `seen` events."""

    def __init__(self, task: Task, chosen: Any, options: int, registers: dict[int, int], seen: int) -> None:
        super().__init__(registers, finish=self._answered)
        self._task = task
        self._chosen = chosen
        self._options = options
        self._seen = seen
        self._info_at = 0

    def at_stop(self, regs: Any) -> dict[int, int]:
        if regs.rax == _WAIT4:
            return {**self.registers, 2: regs.rdx & 0xFFFFFFFF | WNOHANG}
        # waitid(2) gives 0 for a child too, whose number is in the siginfo: it must have one.
        self._info_at = regs.rdx or (regs.rsp - _BELOW_STACK) & -16
        self._task.mem.write_u32(self._info_at + SI_PID_AT, 0)
        return {**self.registers, 2: self._info_at, 3: regs.r10 & 0xFFFFFFFF | WNOHANG}

    def _answered(self, result: int) -> int:
        task = self._task
        if result == 0 and self._info_at and task.mem.read_u32(self._info_at + SI_PID_AT):
            return 0
        if result and result != -ECHILD.errno:
            return result
        ours = any(self._chosen(one.task.tid, one.task.group.pgid()) for one in task.group.tracees)
        if result and not ours:
            return result
        if self._options & WNOHANG:
            return 0
        task.wait_seen = self._seen
        return AGAIN
