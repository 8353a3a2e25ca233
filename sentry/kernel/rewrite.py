"""Calls that the host kernel runs with other registers than the guest gave.

A notification cannot change registers, a ptrace stop can. A handler that returns Rewritten(...) has its call taken off
the listener and stopped, made again with the changed registers, and stopped at its end, where the guest's own registers
are put back (a system call changes no other register than the result's). An interrupted call is so restarted with the
guest's registers, and comes to the handler again.

    ASKED ──stop──▶ ENTERING ──entry──▶ EXITING (──notification──▶ EXITING) ──exit──▶ over

A call that will not wait needs the last of these stops only, if its registers are the guest's (`at_once`): its caller
is asked to stop and the host let run it, which ends a wait as a signal does, so the stop is at its end.

    RUNNING ──stop──▶ over

What is made may be a call that the guests' filter hands to the sentry; then it comes once more as a notification, whose
answer is that the host shall run it: that call, with those registers, once. Under --strace calls of the host's own go
this way too, for the sake of their results.

A handler that finds out deep inside that the host has to be told something first raises MadeFirst.
"""

from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.abi.linux import (
    ERESTART_RESTARTBLOCK,
    ERESTARTNOINTR,
    ERESTARTSYS,
    SIGSTOP,
    SIGTRAP,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
)
from sentry.errors import EINTR, LinuxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.kernel.kernel import Kernel
    from sentry.kernel.ptrace import Tracee
    from sentry.kernel.task import Task
    from sentry.syscalls.declare import Entry

ASKED, ENTERING, EXITING, RUNNING = range(10, 14)  # apart from the states of a waiting Call
CALL_STOP = SIGTRAP | 0x80  # PTRACE_O_TRACESYSGOOD: entry to a call or exit from it
ARGUMENTS = ("rdi", "rsi", "rdx", "r10", "r8", "r9")
SYSCALL_SIZE = 2  # the instruction's
ENDLESS = frozenset(("exit", "exit_group"))  # calls that have no end to stop at
AGAIN = -ERESTARTNOINTR  # a result: the call is made again as the guest wrote it, whatever happens meanwhile
GOES_ON = -ERESTART_RESTARTBLOCK  # a result: what was made is made again; a handler or a stop ends it with EINTR
_STOP_SIGNALS = (SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU)
_WORD = (1 << 64) - 1

_regs = ffi.new("struct nc_regs *")


class Rewritten:
    """A handler's answer: run the call with `registers` (argument number -> value), as number `nr` if one is given.
    `finish` may look at the result (a signed number, also one for a restart) and give another, AGAIN or GOES_ON. A call
    that needs its sixth argument has no `pass_`: the guest's own filters judge it again (syscalls/seccomp.py)."""

    at_once = False  # run as the guest wrote it, without a wait

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
        """The call as it was made has come to the listener, and will be let run. An error fails it."""

    def over(self) -> None:
        """The task is out of the call, with or without having made it, or dead."""

    def begin(
        self, kernel: "Kernel", task: "Task", nr: int, args: tuple[int, ...], entry: "Entry", call_id: int
    ) -> None:
        """Take the call off the listener."""
        RewrittenCall(kernel, task, nr, args, entry, self).begin(call_id)


class MadeFirst(Exception):
    """The handler's task has to make `what` first; its finish gives AGAIN, and the guest's call comes anew."""

    def __init__(self, what: Rewritten) -> None:
        self.what = what


class StoppedCall:
    """A call of a task that the sentry brings to a stop. Stands in `task.call`, as a waiting Call does."""

    is_stopped = False  # a group stop ends it

    __slots__ = ("args", "ended", "entry", "kernel", "nr", "result", "state", "task")

    def __init__(self, kernel: "Kernel", task: "Task", nr: int, args: tuple[int, ...], entry: "Entry") -> None:
        self.kernel = kernel
        self.task = task
        self.nr = nr
        self.args = args
        self.entry = entry
        self.state = ASKED
        self.ended = False
        self.result = 0

    def begin(self, call_id: int) -> None:
        """Take the call off the listener."""
        if self.asks():
            self.kernel.platform.reply(call_id, -ERESTARTSYS)

    def asks(self) -> bool:
        """The task is asked to stop. False: it is dying."""
        tid = self.task.host_tid
        if self.kernel.platform.interrupt(tid):
            return False
        self.task.call = self
        lib.nc_task_set_aside(tid, 1)
        return True

    def over(self) -> None:
        """The task is out of the call, or dead."""
        self.ended = True
        self.task.call = None
        lib.nc_task_set_aside(self.task.host_tid, 0)

    def stopped(self, event_stop: bool, signal: int) -> bool:
        """A ptrace stop of the task; False: the stop is for others to answer."""
        raise NotImplementedError


class RewrittenCall(StoppedCall):
    """One that is made again."""

    __slots__ = ("changed", "ran", "waited", "what")

    def __init__(
        self, kernel: "Kernel", task: "Task", nr: int, args: tuple[int, ...], entry: "Entry", what: Rewritten
    ) -> None:
        super().__init__(kernel, task, nr, args, entry)
        self.what = what
        self.changed: dict[int, int] = {}
        self.ran = False  # it has come to the listener, and was let run
        self.waited = False  # it has been made once

    def begin(self, call_id: int) -> None:
        if not self.what.at_once:
            super().begin(call_id)
        elif self.asks():
            self.state = RUNNING
            self._let_run(call_id)
        if self.task.call is not self:
            self.what.over()

    def over(self) -> None:
        super().over()
        self.what.over()

    def stopped(self, event_stop: bool, signal: int) -> bool:
        tid, platform = self.task.host_tid, self.kernel.platform
        if event_stop:
            group_stop = signal in _STOP_SIGNALS
            if self.state == RUNNING:
                self._end()
                if group_stop:
                    platform.listen(tid)
                else:
                    self._go_on()
                return True
            if self.state == ASKED:
                if not self._step_back(group_stop):
                    return True
                self.state = ENTERING
            elif group_stop and self.state == ENTERING:
                self._leave_unmade()
            if group_stop:
                self.over()  # what is made after it comes to the handler again
                platform.listen(tid)
            else:
                platform.resume_to_call(tid, 0)
            return True
        if signal == CALL_STOP:
            if self.state == ENTERING:
                self.state = EXITING
            else:
                self._end()
            if self.ended:
                self._go_on()
            else:
                platform.resume_to_call(tid, 0)
            return True
        if self.state == ENTERING:
            if self.waited and not self.kernel.pids.caught(tid, signal):
                platform.resume_to_call(tid, signal)
                return True
            self._leave_unmade()  # a handler runs first
            self.over()
        return False

    def _go_on(self) -> None:
        """With the result, which a guest's tracer may want to see."""
        tracee = self.task.tracee
        if tracee is None or not tracee.call_ended(lambda signal: self._seen(tracee, signal)):
            self.kernel.platform.resume(self.task.host_tid, 0)

    def _seen(self, tracee: "Tracee", signal: int) -> None:
        """The tracer has seen the result, and lets the task go on."""
        if self.result == AGAIN and not self.kernel.platform.get_regs(self.task.host_tid, _regs):
            self._make_again(self.nr)
        tracee.run(signal)

    def notified(self, call_id: int, nr: int, args: tuple[int, ...]) -> bool:
        """The filter hands a call to the sentry. If it is what was made, it runs. False: it is another, so this one is
        over: the task has got out of it, and is not to have anything run unseen."""
        if self.state != EXITING or self.ran or (nr, args) != self.made:
            self.over()
            return False
        self._let_run(call_id)
        return True

    def _let_run(self, call_id: int) -> None:
        self.ran = True
        try:
            self.what.notified(call_id)
        except LinuxError as error:
            self.kernel.platform.reply(call_id, -error.errno)
        else:
            self.kernel.platform.let_run(call_id)

    @property
    def made(self) -> tuple[int, tuple[int, ...]]:
        """Number and registers of the call that is made."""
        nr = self.nr if self.what.nr is None else self.what.nr
        return nr, tuple(self.changed.get(number, arg) & _WORD for number, arg in enumerate(self.args))

    def resume(self) -> None:
        """Go on from a life-cycle stop within the call."""
        self.kernel.platform.resume_to_call(self.task.host_tid, 0)

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
            _regs.rax = self.made[0]
        platform.set_regs(tid, _regs)
        return True

    def give_back(self, tid: int) -> None:
        """To a child that was born in the call: the registers that the guest gave."""
        if self.changed and not self.kernel.platform.get_regs(tid, _regs):
            self._restore_arguments()
            self.kernel.platform.set_regs(tid, _regs)

    def _leave_unmade(self) -> None:
        """Before the call: the guest's own registers again. One that has waited already is interrupted for good;
        another is made as the guest wrote it, after what comes first."""
        tid, platform = self.task.host_tid, self.kernel.platform
        if not platform.get_regs(tid, _regs):
            self._restore_arguments()
            if self.waited:
                self.result = -EINTR.errno
                _regs.rip += SYSCALL_SIZE
                _regs.rax = self.result & _WORD
                self.kernel.trace_end(self.task, self)
            else:
                _regs.rax = self.nr
            platform.set_regs(tid, _regs)

    def _end(self) -> None:
        tid, platform = self.task.host_tid, self.kernel.platform
        if not platform.get_regs(tid, _regs):
            given = int(_regs.rax) - (int(_regs.rax) >> 63 << 64)
            if given == -ERESTARTSYS and self._was_not_received():
                result = GOES_ON if self.waited else AGAIN
            else:
                result = self._finished(given)
            if result == GOES_ON:
                self._make_again(self.made[0])
                self.state, self.ran, self.waited = ENTERING, False, True
                return
            self._restore_arguments()
            if result == AGAIN and not (self.task.tracee and self.task.tracee.sees_call_end()):
                self._make_again(self.nr)
            else:
                if self.what.nr is not None and _regs.orig_rax != _WORD:
                    _regs.orig_rax = self.nr
                _regs.rax = result & _WORD
                platform.set_regs(tid, _regs)
                if result == -ERESTARTSYS:
                    lib.nc_task_interrupted(tid)
            self.result = result
        self.over()
        self.kernel.trace_end(self.task, self)

    def _was_not_received(self) -> bool:
        """A signal was faster than the listener, so nothing has happened: the filter hands the guest's own call to the
        sentry each time, unless it carries the pass."""
        return not self.ran and self.what.nr is None and 5 not in self.changed

    def _finished(self, result: int) -> int:
        try:
            return result if self.what.finish is None else self.what.finish(result)
        except LinuxError as error:
            return -error.errno

    def _make_again(self, nr: int) -> None:
        """At the end of the call: before it again."""
        _regs.rip -= SYSCALL_SIZE
        _regs.rax = nr
        _regs.orig_rax = _WORD
        self.kernel.platform.set_regs(self.task.host_tid, _regs)

    def _restore_arguments(self) -> None:
        for number in self.changed:
            setattr(_regs, ARGUMENTS[number], self.args[number])
