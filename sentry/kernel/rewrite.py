"""Calls that the host kernel runs with other registers than the guest gave.

A notification cannot change registers, a ptrace stop can. A handler that returns Rewritten(...) has its call taken off
the listener and stopped, made again natively with the changed registers, and stopped at its end, where the guest's own
registers are put back (a system call changes no other register than the result's). An interrupted call is so restarted
with the guest's registers, and comes to the handler again.

    ASKED ──stop──▶ ENTERING ──entry──▶ EXITING ──exit──▶ over
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from native import ffi
from sentry.abi.linux import ERESTARTSYS, SIGSTOP, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.syscalls.declare import Entry

ASKED, ENTERING, EXITING = range(10, 13)  # apart from the states of a waiting Call
CALL_STOP = SIGTRAP | 0x80  # PTRACE_O_TRACESYSGOOD: entry to a call or exit from it
ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
SYSCALL_SIZE = 2  # the instruction's
_STOP_SIGNALS = (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU)

_regs = ffi.new("struct nc_regs *")


class Rewritten:
    """A handler's answer: run the call with `registers` (argument number -> value); `finish` may look at the result (a
    signed number, also one for a restart) and give another."""

    __slots__ = ("finish", "registers")

    def __init__(self, registers: dict[int, int], finish: Callable[[int], int] | None = None) -> None:
        self.registers = registers
        self.finish = finish


class RewrittenCall:
    """One such call on its way. Stands in `task.call`, as a waiting Call does."""

    __slots__ = ("args", "ended", "entry", "job", "kernel", "nr", "result", "state", "task", "what")

    def __init__(
        self, kernel: "Kernel", task: "Task", nr: int, args: tuple[int, ...], entry: "Entry", what: Rewritten
    ) -> None:
        self.kernel = kernel
        self.task = task
        self.nr = nr
        self.args = args
        self.entry = entry
        self.what = what
        self.state = ASKED
        self.ended = False
        self.job = None
        self.result = 0

    def begin(self, call_id: int) -> None:
        if self.kernel.platform.interrupt(self.task.host_tid):
            return  # it is dying
        self.task.call = self
        self.kernel.platform.reply(call_id, 0, -ERESTARTSYS)

    def stopped(self, event_stop: bool, signal: int) -> bool:
        """A ptrace stop of the task; False: the stop is for others to answer."""
        tid, platform = self.task.host_tid, self.kernel.platform
        if event_stop:
            group_stop = signal in _STOP_SIGNALS
            if self.state == ASKED:
                self._make_again({} if group_stop else self.what.registers)
                self.state = ENTERING
            elif group_stop:
                self._set_arguments(self.args)
            if group_stop:
                self._over()  # what is made after it comes to the handler again
                platform.listen(tid)
            else:
                platform.resume_to_call(tid)
            return True
        if signal == CALL_STOP:
            if self.state == ENTERING:
                self.state = EXITING
                platform.resume_to_call(tid)
            else:
                self._end()
                platform.resume(tid, 0)
            return True
        if self.state == ENTERING:  # a handler runs before the call, which is then made as the guest wrote it
            self._set_arguments(self.args)
            self._over()
        return False

    def _make_again(self, registers: dict[int, int]) -> None:
        """At the end of the call that was answered with -ERESTARTSYS: step back over it."""
        tid, platform = self.task.host_tid, self.kernel.platform
        if platform.get_regs(tid, _regs):
            return
        _regs.rip -= SYSCALL_SIZE
        _regs.rax = self.nr
        _regs.orig_rax = (1 << 64) - 1
        for number, value in registers.items():
            setattr(_regs, ARGUMENTS[number], value)
        platform.set_regs(tid, _regs)

    def _set_arguments(self, registers: tuple[int, ...]) -> None:
        tid, platform = self.task.host_tid, self.kernel.platform
        if platform.get_regs(tid, _regs):
            return
        for number in self.what.registers:
            setattr(_regs, ARGUMENTS[number], registers[number])
        platform.set_regs(tid, _regs)

    def _end(self) -> None:
        tid, platform = self.task.host_tid, self.kernel.platform
        if not platform.get_regs(tid, _regs):
            result = int(_regs.rax)
            result -= (result >> 63) << 64
            if self.what.finish is not None:
                result = self.what.finish(result)
            for number in self.what.registers:
                setattr(_regs, ARGUMENTS[number], self.args[number])
            _regs.rax = result & (1 << 64) - 1
            platform.set_regs(tid, _regs)
            self.result = result
        self._over()
        self.kernel.trace_end(self.task, self)

    def _over(self) -> None:
        self.ended = True
        self.task.call = None
