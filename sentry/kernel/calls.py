"""Calls that wait: a task's suspended system call, and how it is ended, parked and interrupted.

A call that waits keeps its seccomp notification open for a few milliseconds (most waits are short). Then it is parked:
the host call is ended with -ERESTARTSYS at a ptrace stop and the task put to sleep in a native pause(2), where

* it costs the listener nothing (its list is walked on every receive),
* every signal, from whoever, wakes it as it would on Linux, and the signal stop tells the sentry.

    OPEN ──park──▶ STOPPING ──stop──▶ PAUSED ──result──▶ UNPARKING ──stop──▶ ended
                                        └──signal with a handler──▶ SIGNALED ──interrupted or result──▶ ended
                                            (or, if the wait had a mask of its own, HANDLER ──stop──▶ ended)

A task killed in any state just vanishes; its job is cancelled.
"""

from typing import TYPE_CHECKING

from native import lib
from sentry.abi.linux import (
    ERESTART_RESTARTBLOCK,
    ERESTARTNOHAND,
    ERESTARTNOINTR,
    ERESTARTSYS,
    SIGSTOP,
    SIGTSTP,
    SIGTTIN,
    SIGTTOU,
)
from sentry.abi.x86_64 import FRAME_SIGMASK
from sentry.errors import EFAULT, EINTR, Interrupted, LinuxError
from sentry.kernel.rewrite import Rewritten, StoppedCall

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.sched import Job
    from sentry.kernel.task import Task
    from sentry.syscalls.declare import Entry

OPEN, STOPPING, PAUSED, UNPARKING, SIGNALED, HANDLER = range(6)

STOP_SIGNALS = frozenset((SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU))
# Long enough that a pipe's other end or the gofer has answered, short enough that a signal is not felt to be late.
PARK_AFTER_NS = 3_000_000


class Call:
    """One waiting system call."""

    __slots__ = (
        "args", "ended", "entry", "id", "job", "nr", "result", "saved_mask", "signal", "started_ns", "state", "stopped",
        "task",
    )  # fmt: skip

    def __init__(self, task: "Task", call_id: int, nr: int, args: tuple[int, ...], entry: "Entry", job: "Job") -> None:
        self.task = task
        self.id = call_id
        self.nr = nr
        self.args = args
        self.entry = entry
        self.job = job
        self.state = OPEN
        self.started_ns = 0
        self.ended = False
        self.result = 0  # value, or -errno, or -ERESTART*
        self.stopped = False  # PAUSED in a group stop (SIGSTOP and its like)
        self.signal = 0  # SIGNALED: the signal the task is stopped with
        self.saved_mask: int | None = None  # the task's own mask, while the wait has another

    @property
    def is_stopped(self) -> bool:
        return self.stopped


class Waiting:
    """All waiting calls of a kernel: starts their parking, moves them through their states."""

    def __init__(self, kernel: "Kernel") -> None:
        self.kernel = kernel
        self._candidates: list[Call] = []
        self._armed = False

    def add(self, call: Call) -> None:
        """A call has suspended for the first time."""
        call.task.call = call
        call.job.done = self._ended
        if call.task.sigmask_wait is not None:
            self.park(call)
            return
        self._candidates.append(call)
        if not self._armed:
            self._arm()

    def _arm(self) -> None:
        self._armed = True
        scheduler = self.kernel.scheduler
        scheduler.call_at(scheduler.now_ns() + PARK_AFTER_NS, self._park_due)

    def _park_due(self) -> None:
        """Park those that have waited since the last look; later ones get their turn."""
        self._armed = False
        candidates, self._candidates = self._candidates, []  # park puts back what can't be interrupted yet
        for call in candidates:
            if call.ended or call.state != OPEN:
                continue
            if call.started_ns == 0:
                call.started_ns = 1
                self._candidates.append(call)
                continue
            self.park(call)
        if self._candidates and not self._armed:
            self._arm()

    def park(self, call: Call) -> None:
        """Take an open call off the listener, if its wait may be interrupted."""
        sleeper = call.job.sleeper
        if call.state != OPEN or call.ended or sleeper is None:
            return
        if not sleeper.interruptible:
            self._candidates.append(call)
            if not self._armed:
                self._arm()
            return
        if self.kernel.platform.interrupt(call.task.host_tid):
            return  # it is dying
        call.state = STOPPING
        self.kernel.platform.reply(call.id, -ERESTARTSYS)

    def park_all(self) -> bool:
        """Park every open call whose wait may be interrupted; True when none is open, or about to be parked."""
        quiet = True
        for task in self.kernel.tasks.values():
            call = task.call
            if isinstance(call, Call) and call.state in (OPEN, STOPPING):
                quiet = False
                if call.job.sleeper is not None and call.job.sleeper.interruptible:
                    self.park(call)
        return quiet

    def kick(self, task: "Task") -> None:
        """A signal was sent to `task`: if it waits with an open notification, let it see the signal."""
        call = task.call
        if isinstance(call, Call) and call.state == OPEN:
            self.park(call)

    def _ended(self, job: "Job") -> None:
        """The call's coroutine has returned or raised."""
        task = job.task
        assert task is not None and isinstance(task.call, Call)
        call = task.call
        call.ended = True
        call.result = self._result(call, job)
        if call.state == OPEN:
            self._answer(call, job)
        elif call.state == PAUSED and not call.stopped:  # a stopped process goes on when SIGCONT ends its stop
            if not self.kernel.platform.interrupt(task.host_tid):
                call.state = UNPARKING
        elif call.state == SIGNALED:
            self._finish_signaled(call)

    def _answer(self, call: Call, job: "Job") -> None:
        """End a call whose notification is still open."""
        kernel, task = self.kernel, call.task
        task.call = None
        if job.error is None and job.value is kernel.continue_:
            kernel.let_run(task, call.entry, call.nr, call.id, call.args)
            return
        if job.error is None and isinstance(job.value, Rewritten):
            job.value.begin(kernel, task, call.nr, call.args, call.entry, call.id)
            return
        kernel.trace_end(task, call)
        kernel.platform.reply(call.id, call.result)

    def _result(self, call: Call, job: "Job") -> int:
        error = job.error
        if error is None:
            if job.value is self.kernel.continue_ or isinstance(job.value, Rewritten):
                return -ERESTARTNOINTR  # off the listener the host can't run it: it is made again, and soon answered
            return 0 if job.value is None else int(job.value)
        if isinstance(error, LinuxError):
            return -error.errno
        if isinstance(error, Interrupted):
            # A handler runs (else nothing would have been interrupted), and after one these two end alike: EINTR.
            restart = call.entry.restart
            return -(ERESTARTNOHAND if restart == ERESTART_RESTARTBLOCK else restart)
        return -self.kernel.bug(call.task, call.entry, call.args, error)

    def stopped(self, task: "Task", event_stop: bool, signal: int) -> bool:
        """A ptrace stop of a task that is in a call. False: the stop has nothing to do with the call.

        `event_stop`: PTRACE_EVENT_STOP (asked for, a group stop or its end); else a signal is about to be delivered.
        """
        call = task.call
        if call is None:
            return False
        if not isinstance(call, Call):
            return call.stopped(event_stop, signal)
        tid = task.host_tid
        state = call.state
        platform = self.kernel.platform
        if event_stop:
            call.stopped = signal in STOP_SIGNALS
            if call.stopped:
                if not self._stop_ends(call):
                    call.job.freeze()
            elif call.job.frozen:
                call.job.thaw()  # its result, if it has one now, comes after the resume below
            if state == HANDLER:
                self._at_handler(call)
                if call.stopped:
                    platform.listen(tid)
                else:
                    platform.resume(tid, 0)
            elif state == UNPARKING or (call.ended and not call.stopped):
                self._leave(call)
                self._finish(call)
            elif state == STOPPING:
                self._swap_mask(call)
                call.state = PAUSED
                platform.park(tid, call.stopped)
            elif call.stopped:
                platform.listen(tid)
            else:
                platform.resume(tid, 0)  # a group stop has ended: pause(2) starts again by itself
            return True
        if state == UNPARKING:
            self._leave(call)
            # The stop we asked for still comes.
            self.kernel.platform.restart(tid, _to_restart(call), call.result, signal)
            return True
        if state != PAUSED:
            return False
        if not self.kernel.pids.caught(tid, signal):
            self.kernel.platform.resume(tid, signal)  # no handler runs: the wait goes on (or the task dies)
            return True
        call.state = SIGNALED
        call.signal = signal
        call.job.interrupt()  # when it can't be interrupted now, its end finishes the stop
        self.kernel.scheduler.run_ready()
        return True

    def _stop_ends(self, call: Call) -> bool:
        """At a group stop: whether the call ends because of it: some fail with EINTR even without a handler."""
        sleeper = call.job.sleeper
        if sleeper is None or not (sleeper.stop_ends or call.entry.restart == EINTR.errno):
            return call.ended
        if call.job.interrupt():
            self.kernel.scheduler.run_ready()
        return call.ended

    def _finish(self, call: Call) -> None:
        """At a stop in the parked pause(2): the call's result, which a guest's tracer may want to see."""
        task, platform = call.task, self.kernel.platform
        tracee = task.tracee
        watched = tracee is not None and tracee.mode != lib.NC_RUN
        then = lib.NC_LEAVE if watched else lib.NC_STAY if call.stopped else lib.NC_GO
        platform.finish(task.host_tid, _to_restart(call), call.result, then)
        if tracee is not None and watched and not tracee.call_ended():
            tracee.run(0)

    def _finish_signaled(self, call: Call) -> None:
        """At the stop for a signal with a handler: end the call so that the host kernel restarts it or not."""
        tid, platform = call.task.host_tid, self.kernel.platform
        nr = _to_restart(call)
        if call.saved_mask is None:
            self._leave(call)
        else:
            # The signal may be blocked but for the wait, and the host kernel would queue it again if the mask were
            # put back now. As on Linux the handler begins under the wait's mask, and its return restores the other.
            call.state = HANDLER
            platform.interrupt(tid)
        platform.restart(tid, nr, call.result, call.signal)

    def _at_handler(self, call: Call) -> None:
        """The stop at the first instruction of the handler: its frame gets the mask to return to."""
        task = call.task
        assert call.saved_mask is not None
        try:
            task.mem.write_u64(self.kernel.platform.stack_pointer(task.host_tid) + FRAME_SIGMASK, call.saved_mask)
        except EFAULT:
            pass  # the handler's own stack is gone: so will be the task
        call.saved_mask = None
        self._leave(call)

    def _swap_mask(self, call: Call) -> None:
        mask = call.task.sigmask_wait
        if mask is not None and not call.ended:
            tid = call.task.host_tid
            call.saved_mask = self.kernel.platform.get_sigmask(tid)
            self.kernel.platform.set_sigmask(tid, mask)

    def _leave(self, call: Call) -> None:
        """The task leaves the call: its own mask again, nothing pending."""
        tid = call.task.host_tid
        if call.saved_mask is not None:
            self.kernel.platform.set_sigmask(tid, call.saved_mask)
            call.saved_mask = None
        self.kernel.platform.unparked(tid)
        call.task.call = None
        self.kernel.trace_end(call.task, call)

    def drop(self, task: "Task") -> None:
        """The task is gone: end its call without an answer."""
        call = task.call
        if isinstance(call, StoppedCall):
            call.over()
        elif call is not None:
            task.call = None
            call.ended = True
            call.job.cancel()

    def make_again(self, task: "Task") -> None:
        """At a signal stop in a parked call: it is over, and the task makes it once more."""
        call = task.call
        assert isinstance(call, Call)
        self.drop(task)
        self.kernel.platform.finish(task.host_tid, call.nr, -ERESTARTNOINTR, lib.NC_LEAVE)
        self.kernel.platform.unparked(task.host_tid)
        self.kernel.platform.resume(task.host_tid, 0)

    def escaped(self, task: "Task") -> None:
        """The task makes a call although it waits in one: it has changed the code it was to sleep in, or set a handler
        as the signal was on its way. The wait is over: its result would be taken for the new call's."""
        self.drop(task)
        self.kernel.platform.unparked(task.host_tid)


def _to_restart(call: Call) -> int:
    """The number of the call if the host kernel may have to make it again; else -1."""
    return call.nr if -ERESTARTNOHAND <= call.result <= -ERESTARTSYS else -1
