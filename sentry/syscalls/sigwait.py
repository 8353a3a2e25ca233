"""Taking signals without a handler: signalfd(2), signalfd4(2), sigtimedwait(2)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from sentry.abi.linux import O_PATH, SFD_CLOEXEC, SFD_NONBLOCK, SI_QUEUE, SI_USER, SIGCHLD
from sentry.abi.x86_64 import TIMESPEC
from sentry.errors import EAGAIN, EBADF, EFAULT, EINTR, EINVAL
from sentry.fs.signalfd import SignalFd
from sentry.kernel.rewrite import AGAIN, GOES_ON, Rewritten, RewrittenCall
from sentry.kernel.sched import Timer, sched
from sentry.kernel.signals import child_uid
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Int, Size, TimespecPtr

if TYPE_CHECKING:
    from sentry.kernel.task import Task

SIGSET_SIZE = 8
NSEC = 1_000_000_000
_INFO = Struct("<8xi4xi4xQ")  # of struct siginfo: the code, the sender's pid, the value
_UID_AT = 20


@syscall
def sys_signalfd4(task: Task, fd: Int, mask: Addr, size: Size, flags: Int) -> int:
    if size != SIGSET_SIZE:
        raise EINVAL
    signals = task.mem.read_u64(mask)
    if flags & ~(SFD_CLOEXEC | SFD_NONBLOCK):
        raise EINVAL
    if fd == -1:
        task.fds.check_room()
        return task.fds.install(SignalFd(signals, flags), bool(flags & SFD_CLOEXEC))
    file = task.fds.get(fd)
    if file.flags & O_PATH:
        raise EBADF
    if not isinstance(file, SignalFd):
        raise EINVAL
    file.set_mask(task, signals)
    return fd


@syscall
def sys_signalfd(task: Task, fd: Int, mask: Addr, size: Size) -> int:
    return sys_signalfd4(task, fd, mask, size, 0)


@syscall
def sys_rt_sigtimedwait(task: Task, these: Addr, info: Addr, timeout: TimespecPtr, size: Size) -> Rewritten:
    if size != SIGSET_SIZE:
        raise EINVAL
    signals = task.mem.read_u64(these)
    left_ns = None
    if timeout:
        seconds, nanoseconds = TIMESPEC.unpack(task.mem.read(timeout, TIMESPEC.size))
        if seconds < 0 or not 0 <= nanoseconds < NSEC:
            raise EINVAL
        left_ns = seconds * NSEC + nanoseconds
    pending = task.kernel.pids.pending(task.host_tid) & signals
    if left_ns == 0 and not pending:
        raise EAGAIN
    return Taking(task, info, None if left_ns is None else sched().now_ns() + left_ns, bool(pending))


class Taking(Rewritten):
    """The host's rt_sigtimedwait, but for two things: the sender in what it gives, and the timeout. The host ends it
    with EINTR for signals that nobody handles too, as they reach a traced task: it goes on for the rest of its time."""

    def __init__(self, task: Task, info: int, deadline_ns: int | None, at_once: bool) -> None:
        super().__init__({2: 0}, finish=self._took)
        self.at_once = at_once
        self._task = task
        self._info = info
        self._deadline_ns = deadline_ns
        self._timer: Timer | None = None

    def notified(self, call_id: int) -> None:
        if self._deadline_ns is None or self.at_once:
            return
        if self._timer is not None:
            if self._is_late():
                raise EAGAIN
            self._timer.cancel()
        self._timer = sched().call_at(self._deadline_ns, self._expire)

    def _is_late(self) -> bool:
        return self._deadline_ns is not None and sched().now_ns() >= self._deadline_ns

    def _expire(self) -> None:
        call = self._task.call
        if isinstance(call, RewrittenCall) and call.what is self:
            self._task.kernel.platform.interrupt(self._task.host_tid)

    def over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _took(self, result: int) -> int:
        if result == -EINTR.errno and self.at_once:
            return AGAIN  # another thread was faster
        if result == -EINTR.errno:
            return -EAGAIN.errno if self._is_late() else GOES_ON
        if result > 0 and self._info:
            self._name_sender(result)
        return result

    def _name_sender(self, signo: int) -> None:
        task = self._task
        try:
            code, pid, cookie = _INFO.unpack(task.mem.read(self._info, _INFO.size))
            if code == SI_QUEUE:
                sent = task.kernel.signals.taken(task, signo, cookie)
                if sent is not None:
                    task.mem.write(self._info, sent.pack())
            elif signo == SIGCHLD and code > SI_USER:
                uid = child_uid(task.kernel, pid)
                if uid is not None:
                    task.mem.write_u32(self._info + _UID_AT, uid)
        except EFAULT:
            pass  # another thread has unmapped it
