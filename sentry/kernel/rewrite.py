"""Calls that the host kernel runs with other registers than the guest gave.

A notification cannot change registers, a ptrace stop can. A handler that returns Rewritten(...) has its call taken off
the listener and stopped, made again with the changed registers, and stopped at its end, where the guest's own registers
are put back (a system call changes no other register than the result's). An interrupted call is so restarted with the
guest's registers, and comes to the handler again.

    ASKED ──stop──▶ ENTERING ──entry──▶ EXITING (──notification──▶ EXITING) ──exit──▶ over

What is made may be a call that the guests' filter hands to the sentry; then it comes once more as a notification, whose
answer is that the host shall run it. Under --strace calls of the host's own go this way too, for the sake of their
results.
"""

from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.abi.linux import ERESTARTNOINTR, ERESTARTSYS, SIGSTOP, SIGTRAP, SIGTSTP, SIGTTIN, SIGTTOU
from sentry.errors import LinuxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.syscalls.declare import Entry

ASKED, ENTERING, EXITING = range(10, 13)  # apart from the states of a waiting Call
CALL_STOP = SIGTRAP | 0x80  # PTRACE_O_TRACESYSGOOD: entry to a call or exit from it
ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
SYSCALL_SIZE = 2  # the instruction's
ENDLESS = frozenset(("exit", "exit_group"))  # calls that have no end to stop at
_STOP_SIGNALS = (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU)
_WORD = (1 << 64) - 1

_regs = ffi.new("struct nc_regs *")


class Rewritten:
    """A handler's answer: run the call with `registers` (argument number -> value), as number `nr` if one is given.
    `finish` may look at the result (a signed number, also one for a restart) and give another; -ERESTARTNOINTR: the
    guest's call is made anew. A call that needs its
    sixth argument has no `pass_`: the guest's own filters judge it again (syscalls/seccomp.py)."""

    def __init__(
        self,
        registers: dict[int, int],
        *,
        nr: int | None = None,
        finish: "Callable[[int], int] | None" = None,
        pass_: bool = True,
    ) -> None:
        self.registers = registers
        self.nr = nr
        self.finish = finish
        self.pass_ = pass_

    def at_stop(self, regs: Any) -> dict[int, int]:
        """The registers to change, asked for when the task is stopped with `regs` (struct nc_regs). An error fails the
        call."""
        return self.registers

    def notified(self, call_id: int) -> None:
        """The call as it was made has come to the listener, and will be let run."""

    def begin(
        self, kernel: "Kernel", task: "Task", nr: int, args: tuple[int, ...], entry: "Entry", call_id: int
    ) -> None:
        """Take the call off the listener."""
        RewrittenCall(kernel, task, nr, args, entry, self).begin(call_id)


class StoppedCall:
    """A call of a task that the sentry brings to a stop. Stands in `task.call`, as a waiting Call does."""

    __slots__ = ("args", "ended", "entry", "job", "kernel", "nr", "result", "state", "task")

    def __init__(self, kernel: "Kernel", task: "Task", nr: int, args: tuple[int, ...], entry: "Entry") -> None:
        self.kernel = kernel
        self.task = task
        self.nr = nr
        self.args = args
        self.entry = entry
        self.state = ASKED
        self.ended = False
        self.job = None
        self.result = 0

    def begin(self, call_id: int) -> None:
        tid = self.task.host_tid
        if self.kernel.platform.interrupt(tid):
            return  # it is dying
        self.task.call = self
        lib.nc_task_set_aside(tid, 1)
        self.kernel.platform.reply(call_id, 0, -ERESTARTSYS)

    def over(self) -> None:
        """The task is out of the call."""
        self.ended = True
        self.task.call = None
        lib.nc_task_set_aside(self.task.host_tid, 0)

    def stopped(self, event_stop: bool, signal: int) -> bool:
        """A ptrace stop of the task; False: the stop is for others to answer."""
        raise NotImplementedError


class RewrittenCall(StoppedCall):
    """One that is made again."""

    __slots__ = ("changed", "what")

    def __init__(
        self, kernel: "Kernel", task: "Task", nr: int, args: tuple[int, ...], entry: "Entry", what: Rewritten
    ) -> None:
        super().__init__(kernel, task, nr, args, entry)
        self.what = what
        self.changed: dict[int, int] = {}

    def stopped(self, event_stop: bool, signal: int) -> bool:
        tid, platform = self.task.host_tid, self.kernel.platform
        if event_stop:
            group_stop = signal in _STOP_SIGNALS
            if self.state == ASKED:
                if not self._step_back(group_stop):
                    return True
                self.state = ENTERING
            elif group_stop and self.state == ENTERING:
                self._give_back()
            if group_stop:
                self.over()  # what is made after it comes to the handler again
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
                tracee = self.task.tracee
                if tracee is None or not tracee.call_ended():
                    platform.resume(tid, 0)
            return True
        if self.state == ENTERING:  # a handler runs before the call, which is then made as the guest wrote it
            self._give_back()
            self.over()
        return False

    def notified(self, call_id: int) -> None:
        """The filter hands what was made to the sentry."""
        self.what.notified(call_id)
        self.kernel.platform.let_run(call_id)

    def resume(self) -> None:
        """Go on from a life-cycle stop within the call."""
        self.kernel.platform.resume_to_call(self.task.host_tid)

    def _step_back(self, as_the_guest_wrote_it: bool) -> bool:
        """At the end of the call that was answered with -ERESTARTSYS: before it again, with the changed registers.
        False: it has failed instead."""
        tid, platform = self.task.host_tid, self.kernel.platform
        if platform.get_regs(tid, _regs):
            return True  # it is dying
        _regs.rip -= SYSCALL_SIZE
        _regs.rax = self.nr
        _regs.orig_rax = _WORD
        if not as_the_guest_wrote_it:
            try:
                self.changed = self.what.at_stop(_regs)
                if self.kernel.seccomp_pass and self.what.pass_:
                    self.changed = {**self.changed, 5: self.kernel.seccomp_pass}
            except LinuxError as error:
                self.result = -error.errno
                self.over()
                self.kernel.trace_end(self.task, self)
                platform.finish(tid, -1, self.result, lib.NC_GO)
                return False
            for number, value in self.changed.items():
                setattr(_regs, ARGUMENTS[number], value & _WORD)
            if self.what.nr is not None:
                _regs.rax = self.what.nr
        platform.set_regs(tid, _regs)
        return True

    def give_back(self, tid: int) -> None:
        """To a child that was born in the call: the registers that the guest gave."""
        if self.changed and not self.kernel.platform.get_regs(tid, _regs):
            self._restore_arguments()
            self.kernel.platform.set_regs(tid, _regs)

    def _give_back(self) -> None:
        """Before the call: the guest's own registers again."""
        tid, platform = self.task.host_tid, self.kernel.platform
        if not platform.get_regs(tid, _regs):
            self._restore_arguments()
            _regs.rax = self.nr
            platform.set_regs(tid, _regs)

    def _end(self) -> None:
        tid, platform = self.task.host_tid, self.kernel.platform
        if not platform.get_regs(tid, _regs):
            given = int(_regs.rax)
            given -= (given >> 63) << 64
            result = given if self.what.finish is None else self.what.finish(given)
            self._restore_arguments()
            if result == -ERESTARTNOINTR != given:  # the host kernel restarts only what a signal has ended
                _regs.rip -= SYSCALL_SIZE
                _regs.rax, _regs.orig_rax = self.nr, _WORD
            else:
                if self.what.nr is not None and _regs.orig_rax != _WORD:
                    _regs.orig_rax = self.nr
                _regs.rax = result & _WORD
            platform.set_regs(tid, _regs)
            self.result = result
        self.over()
        self.kernel.trace_end(self.task, self)

    def _restore_arguments(self) -> None:
        for number in self.changed:
            setattr(_regs, ARGUMENTS[number], self.args[number])
