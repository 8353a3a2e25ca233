"""ptrace(2) among guests: who traces whom, and a tracee's stops as its tracer sees them.

Every guest thread is traced by the sentry already, and a thread has one tracer. So a guest's tracer is told by us: what
stops a tracee for the host kernel is held (`Tracee.hold`), shown to the tracer, and goes on when the tracer says so, by
the function that it was held with. Stops that the sentry makes for itself (parking, calls made again) are never shown.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from native import lib
from sentry.abi.linux import (
    CAP_SYS_PTRACE,
    CLD_DUMPED,
    CLD_EXITED,
    CLD_KILLED,
    CLD_TRAPPED,
    PTRACE_EVENT_CLONE,
    PTRACE_EVENT_EXEC,
    PTRACE_EVENT_EXIT,
    PTRACE_EVENT_FORK,
    PTRACE_EVENT_STOP,
    PTRACE_EVENT_VFORK,
    PTRACE_EVENT_VFORK_DONE,
    PTRACE_EVENTMSG_SYSCALL_ENTRY,
    PTRACE_O_EXITKILL,
    PTRACE_O_TRACECLONE,
    PTRACE_O_TRACEEXEC,
    PTRACE_O_TRACEEXIT,
    PTRACE_O_TRACEFORK,
    PTRACE_O_TRACESYSGOOD,
    PTRACE_O_TRACEVFORK,
    PTRACE_O_TRACEVFORKDONE,
    SI_USER,
    SIGCHLD,
    SIGKILL,
    SIGSTOP,
    SIGTRAP,
    TRAP_TRACE,
)
from sentry.errors import EPERM, ESRCH, LinuxError
from sentry.kernel.signals import SigInfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.kernel.task import Task, ThreadGroup

# Kinds of stops.
SIGNAL, EVENT, GROUP, CALL_ENTRY, CALL_EXIT = range(5)
OPTION_OF = {
    PTRACE_EVENT_FORK: PTRACE_O_TRACEFORK,
    PTRACE_EVENT_VFORK: PTRACE_O_TRACEVFORK,
    PTRACE_EVENT_CLONE: PTRACE_O_TRACECLONE,
    PTRACE_EVENT_EXEC: PTRACE_O_TRACEEXEC,
    PTRACE_EVENT_VFORK_DONE: PTRACE_O_TRACEVFORKDONE,
    PTRACE_EVENT_EXIT: PTRACE_O_TRACEEXIT,
}
_CHILD = Struct("<iiiiiIi")  # struct siginfo of SIGCHLD, as far as status
_TRAP = Struct("<iiiiQ")  # of SIGTRAP, as far as the address


class Stop(NamedTuple):
    """`code`: a signal, and an event above it, as wait(2) gives them. `message`: PTRACE_GETEVENTMSG. `go(signal)`
    continues, with that signal in place of the one that stopped it (0: none)."""

    kind: int
    code: int
    message: int
    go: Callable[[int], None]
    info: bytes  # struct siginfo of a SIGNAL stop that is not the host kernel's


class Ended(NamedTuple):
    """A tracee that has ended and is no child of its tracer's: what wait(2) gives of it."""

    tid: int
    uid: int
    status: int
    thread: bool


class Tracee:
    """What one task is to its tracer. `fresh`: traced from its birth, its first stop is still to come."""

    def __init__(self, task: Task, tracer: Task, options: int, seized: bool, fresh: bool = False) -> None:
        self.task = task
        self.tracer = tracer
        self.options = options
        self.seized = seized
        self.fresh = fresh
        self.stop: Stop | None = None
        self.reported = True  # wait(2) has told of the stop
        self.listening = False
        self.mode: int = lib.NC_RUN
        self.in_call = False
        self.entry = 0, 0  # where the program that is being loaded begins, and its stack
        self.former = 0  # the thread that has executed a program, by its number before
        self.wanted = 0  # the signal of an EVENT_STOP to show as soon as the task is in no stop of the sentry's own
        task.tracee = self
        group = tracer.group
        group.tracees.append(self)
        for thread in group.threads():
            lib.nc_task_set_waits(thread.host_tid, 1)
        lib.nc_task_set_watched(task.host_tid, 1)

    # --- stops

    def hold(
        self, kind: int, code: int, go: Callable[[int], None], message: int = 0, info: bytes = b""
    ) -> None:
        """The task is stopped, and stays so until its tracer lets it go on."""
        self.stop = Stop(kind, code, message, go, info)
        self.reported = self.listening = False
        task, group = self.task, self.tracer.group
        group.child_event()
        task.kernel.scheduler.run_ready()  # a wait that sleeps is over before the signal could take it off its sleep
        _tell(group, _CHILD.pack(SIGCHLD, 0, CLD_TRAPPED, 0, task.tid, task.creds.uid, code & 0x7F))

    def hold_event(self, event: int, go: Callable[[int], None], message: int = 0) -> None:
        self.hold(EVENT, SIGTRAP | event << 8, go, message)

    @property
    def holds_back(self) -> bool:
        """Whether the task gains no rights by a program, for its tracer has not all of them (ptracer_capable)."""
        return not self.tracer.creds.has_cap(CAP_SYS_PTRACE)

    def wants(self, event: int) -> bool:
        return bool(self.options & OPTION_OF[event])

    def first_stop(self) -> None:
        """Of a child that is traced from its birth."""
        self.fresh = False
        self.apply_options()
        if self.seized:
            self.hold_event(PTRACE_EVENT_STOP, self.run)
        else:
            self.hold(SIGNAL, SIGSTOP, self.run, info=SigInfo(SIGSTOP).pack())

    def event_stop(self, signal: int) -> None:
        """At an EVENT_STOP in which the sentry has nothing to do: a group stop, or one that was asked for."""
        if not self.wanted and not self.listening:
            self.run(0)
            return
        signal, self.wanted = self.wanted or SIGTRAP, 0
        if self.seized:
            self.hold(EVENT if signal == SIGTRAP else GROUP, signal | PTRACE_EVENT_STOP << 8, self.run)
        else:
            self.hold(GROUP, signal, self.run)

    def run(self, signal: int) -> None:
        """Go on from a stop that is no signal's; one that the tracer gives is sent."""
        if signal:
            try:
                self.task.kernel.send_signal(self.task, SigInfo(signal, SI_USER, self.tracer.group.tgid))
            except LinuxError:
                pass
        self.task.kernel.platform.resume(self.task.host_tid, 0)

    def stopped(self) -> Stop:
        """The stop it is in; ESRCH when it runs, or listens."""
        if self.stop is None or self.listening:
            raise ESRCH
        return self.stop

    def resume(self, mode: int, signal: int) -> None:
        """PTRACE_CONT and its like (NC_RUN_*)."""
        stop = self.stopped()
        self.stop = None
        self.set_mode(mode)
        stop.go(signal)

    def set_mode(self, mode: int) -> None:
        self.mode = mode
        self.apply_mode()

    def apply_mode(self, off: bool = False) -> None:
        """Have the C core resume it so. `off`: not while our own code runs in the task."""
        lib.nc_task_set_mode(self.task.host_tid, lib.NC_RUN if off else self.mode)

    def set_options(self, options: int) -> None:
        """Of a stopped task."""
        self.options = options
        self.apply_options()

    def apply_options(self) -> None:
        """Have the host kernel stop it where it otherwise would not."""
        what = lib.NC_TRACE_VFORK_DONE if self.options & PTRACE_O_TRACEVFORKDONE else 0
        if what or self.options & PTRACE_O_TRACECLONE or self.task.announces:
            self.task.announces = True
            self.task.kernel.platform.trace_more(self.task.host_tid, what | lib.NC_TRACE_CLONE)

    def wanted_by_attach(self) -> None:
        """PTRACE_ATTACH: stop it, by a signal that only its tracer sees."""
        self.task.kernel.send_signal(self.task, SigInfo(SIGSTOP))

    def interrupt(self) -> None:
        """PTRACE_INTERRUPT."""
        if self.listening:
            assert self.stop is not None
            self.listening = False
            self.hold(EVENT, SIGTRAP | PTRACE_EVENT_STOP << 8, self.stop.go)
        elif self.stop is None:
            self.wanted = self.wanted or SIGTRAP
            self.task.kernel.waiting.kick(self.task)
            self.task.kernel.platform.interrupt(self.task.host_tid)

    # --- calls

    def call_stop(self) -> bool:
        """At the entry to a call or at its exit. False: nobody wants to know."""
        if self.mode != lib.NC_RUN_TO_CALL:
            self.in_call = False
            return False
        self.in_call = self.task.kernel.platform.event_message(self.task.host_tid) == PTRACE_EVENTMSG_SYSCALL_ENTRY
        self._hold_call(CALL_ENTRY if self.in_call else CALL_EXIT, self.run)
        return True

    def sees_call_end(self) -> bool:
        return self.mode == lib.NC_RUN_STEP or (self.mode == lib.NC_RUN_TO_CALL and self.in_call)

    def call_ended(self, go: Callable[[int], None] | None = None) -> bool:
        """A call that the sentry had parked or made again has its result, and the task is stopped. False: nobody wants
        to know."""
        if self.mode == lib.NC_RUN_TO_CALL and self.in_call:
            self.in_call = False
            self._hold_call(CALL_EXIT, go or self.run)
            return True
        if self.mode == lib.NC_RUN_STEP:  # the step was over the call
            self.hold(SIGNAL, SIGTRAP, go or self.run, info=_TRAP.pack(SIGTRAP, 0, TRAP_TRACE, 0, 0))
            return True
        return False

    def _hold_call(self, kind: int, go: Callable[[int], None]) -> None:
        self.hold(kind, SIGTRAP | (0x80 if self.options & PTRACE_O_TRACESYSGOOD else 0), go)

    # --- its end

    def release(self, signal: int = 0) -> None:
        """PTRACE_DETACH, or the tracer has ended: it goes on by itself."""
        stop, self.stop = self.stop, None
        self.forget()
        lib.nc_task_set_watched(self.task.host_tid, 0)
        self.set_mode(lib.NC_RUN)
        if stop is not None:
            stop.go(signal)

    def forget(self) -> None:
        """Nobody's tracee any more."""
        self.task.tracee = None
        group = self.tracer.group
        group.tracees.remove(self)
        if not group.tracees and not group.ended:
            for thread in group.tasks:
                lib.nc_task_set_waits(thread.host_tid, 0)


def attach(tracer: Task, target: Task, options: int, seized: bool) -> Tracee:
    """PTRACE_TRACEME, PTRACE_ATTACH, PTRACE_SEIZE. Permission has been checked; EPERM for who is traced already."""
    if target.tracee is not None or target.group.exited:
        raise EPERM
    return Tracee(target, tracer, options, seized)


def task_gone(task: Task, status: int) -> None:
    """A thread has ended: as a tracee, and as a tracer."""
    tracee = task.tracee
    if tracee is not None:
        thread = task.host_tid != task.group.host_tgid
        if thread or tracee.tracer.group is not task.group.parent:
            _report_end(tracee.tracer.group, task, status, thread)
        tracee.forget()
    for other in [other for other in task.group.tracees if other.tracer is task]:
        if other.options & PTRACE_O_EXITKILL:
            other.task.kernel.platform.signal(other.task.group.host_tgid, 0, SIGKILL, 0)
            other.forget()
        else:
            other.release()


def _report_end(group: ThreadGroup, task: Task, status: int, thread: bool) -> None:
    group.ended.append(Ended(task.tid, task.creds.uid, status, thread))
    group.child_event()
    if not thread:
        _tell(group, child_info(task.tid, task.creds.uid, status))


def child_info(tid: int, uid: int, status: int) -> bytes:
    """struct siginfo of SIGCHLD for the wait status of an end."""
    if status & 0x7F:
        code, value = CLD_DUMPED if status & 0x80 else CLD_KILLED, status & 0x7F
    else:
        code, value = CLD_EXITED, status >> 8 & 0xFF
    return _CHILD.pack(SIGCHLD, 0, code, 0, tid, uid, value)


def trapped_info(tracee: Tracee, code: int) -> bytes:
    """The same for a stop: CLD_TRAPPED."""
    return _CHILD.pack(SIGCHLD, 0, CLD_TRAPPED, 0, tracee.task.tid, tracee.task.creds.uid, code)


def _tell(group: ThreadGroup, info: bytes) -> None:
    try:
        group.kernel.send_signal(group, SigInfo(SIGCHLD, raw=info))
    except LinuxError:
        pass  # it has just died
