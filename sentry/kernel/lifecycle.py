"""Birth, exec and death of guest tasks, as ptrace reports them; and the zygote's forks.

The host kernel forks and reaps; the sentry mirrors: a PTRACE_EVENT_FORK of a task makes a Task for the child that
shares or copies what the clone flags say, an exit gives back what the task held. A child's own first stop may come
before its parent's event: it is kept until then.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.abi.linux import (
    CLONE_FILES,
    CLONE_FS,
    CLONE_PARENT,
    CLONE_THREAD,
    CLONE_VM,
    EPOLLIN,
    EPOLLRDNORM,
    SI_USER,
    SIGBUS,
    SIGCHLD,
    SIGFPE,
    SIGILL,
    SIGKILL,
    SIGSEGV,
    SIGSTOP,
    SIGSYS,
    SIGTRAP,
)
from sentry.errors import ESRCH
from sentry.fs import aio
from sentry.ipc import sem, shm
from sentry.kernel.calls import PAUSED, STOP_SIGNALS, STOPPING, Call
from sentry.kernel.ptrace import SIGNAL, Tracee, task_gone
from sentry.kernel.rewrite import ASKED, CALL_STOP, RUNNING, SYSCALL_SIZE, RewrittenCall
from sentry.kernel.signals import SigInfo, child_uid
from sentry.kernel.task import Task, ThreadGroup
from sentry.kernel.zygote import Zygote

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.spawn import Spawn

EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_STOP = 1, 2, 3, 4, 128
MAGIC_LOAD, MAGIC_ZYGOTE, MAGIC_READY = 5000, 5001, 5002
ORPHAN_AFTER_NS = 1_000_000_000  # a parent's event is some microseconds behind its child's first stop
FAULTS = frozenset((SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS))
REPEATS = {SIGTRAP: 1, SIGSYS: SYSCALL_SIZE}  # how far behind the instruction that raised it: int3, syscall
NOWHERE = 0xFFFF_8000_0000_0000  # the kernel's half of the addresses

_regs = ffi.new("struct nc_regs *")


class Lifecycle:
    """Handles every ptrace stop that is not a waiting call's (calls.py)."""

    def __init__(self, kernel: "Kernel") -> None:
        self.kernel = kernel
        self.zygote = Zygote(kernel.platform)
        self._spawns: list[Spawn] = []  # asked for, not yet forked
        self._early: dict[int, int] = {}  # children stopped before their parent's event: tid -> parent process
        self._altered: dict[int, RewrittenCall] = {}  # children not yet stopped: the call that made them
        self._seen: set[int] = set()  # those at the last look for orphans
        self._looking = False
        self.on_exit: Callable[[Task, int], None] | None = None
        self.executed: Callable[[Task], None]  # kernel/execute.py: the host's exec has happened

    # --- first tasks

    def order(self, spawn: "Spawn") -> None:
        """Have the zygote fork a first task for `spawn`."""
        self._spawns.append(spawn)
        self.zygote.fork()

    def unknown_caller(self, tid: int, nr: int, call_id: int) -> Task | None:
        """A notification of a thread that is no task yet, which it now becomes; of the zygote, or of a task that has
        just died."""
        if tid != self.zygote.tid:
            task = self.kernel.threads.meet_caller(tid)
            # Until it was seized the thread could die and its number go to another, whose call this is not.
            if task is None or self.kernel.platform.is_open(call_id) < 0:
                self.kernel.platform.reply(call_id, -ESRCH.errno)
                return None
            return task
        if nr == MAGIC_ZYGOTE:
            self.zygote.waits(call_id)
        else:
            self.kernel.platform.let_run(call_id)  # our own code, before any guest's: closing the listener, clone
        return None

    # --- stops

    def stop(self, event: Any) -> None:
        tid, status = event.tid, event.status
        task = self.kernel.tasks.get(tid)
        if status & 0x7F != 0x7F:  # not WIFSTOPPED
            self._gone(tid, task, status)
            return
        what, signal = status >> 16, status >> 8 & 0xFF
        if task is None:
            self._stranger(tid, what, signal)
            return
        if what == EVENT_STOP:
            self.kernel.platform.stop_seen(tid)
            self._first_stop(tid)
            if task.tracee is not None:
                self._watched_stop(task, task.tracee, signal)
            elif not self.kernel.waiting.stopped(task, True, signal):
                if signal in STOP_SIGNALS:
                    self.kernel.platform.listen(tid)
                else:
                    self.kernel.platform.resume(tid, 0)
        elif what in (EVENT_FORK, EVENT_VFORK, EVENT_CLONE):
            self._forked(task, what, int(event.id), int(event.args[0]))
        elif what == EVENT_EXEC:
            self._executed(task, int(event.id))
        elif what and task.tracee is not None and task.tracee.wants(what):
            task.tracee.hold_event(what, task.tracee.run, self.kernel.platform.event_message(tid))
        elif what:
            self.kernel.platform.resume(tid, 0)
        else:
            self._signal(task, signal)

    def _watched_stop(self, task: Task, tracee: Tracee, signal: int) -> None:
        """An EVENT_STOP of a guest's tracee."""
        if tracee.fresh:
            tracee.first_stop()
            return
        if signal in STOP_SIGNALS:
            tracee.wanted = signal
        call = task.call
        if call is None or (isinstance(call, Call) and call.state == PAUSED):
            tracee.event_stop(signal)
            return
        self.kernel.waiting.stopped(task, True, SIGTRAP)
        if tracee.wanted:
            self.kernel.platform.interrupt(task.host_tid)

    def _signal(self, task: Task, signal: int) -> None:
        """A signal-delivery stop that C left to us."""
        kernel, tid, tracee = self.kernel, task.host_tid, task.tracee
        if signal == CALL_STOP:
            call = task.call
            if call is not None and call.state in (ASKED, RUNNING, STOPPING):
                # Its tracer has it stop at the end of the call, and this stop is instead of the one we asked for.
                kernel.platform.stop_seen(tid)
                kernel.waiting.stopped(task, True, SIGTRAP)
            elif isinstance(call, RewrittenCall):
                call.stopped(False, signal)
            elif call is not None or tracee is None or not tracee.call_stop():  # it has got out of one
                kernel.platform.resume(tid, 0)
            return
        kernel.signals.identify(tid)
        if signal == SIGCHLD:
            self._name_childs_user(tid)
            task.group.child_event()
        if tracee is None:
            self._deliver(task, signal)
            return
        if isinstance(task.call, RewrittenCall):
            if signal == SIGTRAP and tracee.mode == lib.NC_RUN_STEP:
                kernel.platform.resume_to_call(tid, 0)  # the step is over when the call is
                return
            task.call.stopped(False, signal)
        elif task.call is not None and signal == SIGTRAP and tracee.mode == lib.NC_RUN_STEP:
            kernel.platform.resume(tid, 0)
            return
        if task.call is not None and tracee.call_ended(lambda unused: self._show_signal(task, signal, True)):
            return  # a call that waits leaves first
        self._show_signal(task, signal, False)

    def _show_signal(self, task: Task, signal: int, left: bool) -> None:
        """Its tracer shall say which signal the task gets. `left`: it has seen the task leave the call it waits in."""
        if task.tracee is None:
            self._deliver(task, signal)
        else:
            task.tracee.hold(SIGNAL, signal, lambda chosen: self._chosen(task, signal, chosen, left))

    def _chosen(self, task: Task, signal: int, chosen: int, left: bool) -> None:
        if not chosen:
            if left:
                self.kernel.waiting.make_again(task)
            else:
                self.kernel.platform.resume(task.host_tid, 0)
            return
        if chosen != signal and task.tracee is not None:
            tracer = task.tracee.tracer
            info = SigInfo(chosen, SI_USER, tracer.group.tgid, tracer.creds.uid)
            self.kernel.platform.set_siginfo(task.host_tid, info.pack())
        self._deliver(task, chosen)

    def _deliver(self, task: Task, signal: int) -> None:
        """At the delivery of a signal, which nobody keeps from the task."""
        kernel, tid = self.kernel, task.host_tid
        if signal == SIGSYS and task.strict:
            kernel.platform.signal(task.group.host_tgid, 0, SIGKILL, 0)
        if kernel.waiting.stopped(task, False, signal):
            return
        if signal in FAULTS and task.group.tgid == 1 and kernel.signals.origin(tid)[0] > 0:
            if not kernel.pids.caught(tid, signal):
                self._die_of_fault(tid, signal)
                return
        kernel.platform.resume(tid, signal)

    def _name_childs_user(self, tid: int) -> None:
        """The siginfo of a SIGCHLD gets the real user id of the child it tells of."""
        kernel = self.kernel
        code, pid = kernel.signals.origin(tid)
        if code > 0:
            uid = child_uid(kernel, pid)
            if uid is not None:
                kernel.signals.name_user(tid, uid)

    def _die_of_fault(self, tid: int, signal: int) -> None:
        """The host kernel does not kill a traced init of a PID namespace for its own fault: it would fault for ever.
        Let go, it dies of the next one: so it has to do again what a trap has let it pass, or be where nothing is."""
        platform = self.kernel.platform
        if (signal == SIGSEGV or signal in REPEATS) and not platform.get_regs(tid, _regs):
            _regs.rip = NOWHERE if signal == SIGSEGV else _regs.rip - REPEATS[signal]
            platform.set_regs(tid, _regs)
        platform.detach(tid, signal)

    def _stranger(self, tid: int, what: int, signal: int) -> None:
        """A stop of the zygote, or of a child whose parent's event is still to come."""
        if tid != self.zygote.tid:
            self._early[tid] = self._parent_of(tid)
            if not self._looking:
                self._look_later()
            return
        if what in (EVENT_FORK, EVENT_VFORK, EVENT_CLONE):
            child = self.kernel.platform.event_message(tid)
            if child > 0:
                self._first_task(child)
        elif what == EVENT_STOP and self.zygote.stopped():
            return
        self.kernel.platform.resume(tid, 0 if what or signal == SIGSTOP else signal)

    def _first_task(self, tid: int) -> None:
        spawn = self._spawns.pop(0)
        group = ThreadGroup(self.kernel, tid, None)
        task = spawn.make_task(group, tid)
        self.adopt(task)
        task.spawn = spawn
        spawn.forked(task)

    def _forked(self, parent: Task, event: int, child_tid: int, flags: int) -> None:
        """fork(2), vfork(2), clone(2): the host kernel has made the child."""
        tracee = parent.tracee
        if child_tid > 0:
            traced = tracee is not None and tracee.wants(event)
            child = self._make_child(parent, child_tid, flags, traced)
            if tracee is not None and traced:
                tracee.hold_event(event, lambda signal: self._go_on(parent), child.tid)
                return
        self._go_on(parent)

    def _go_on(self, parent: Task) -> None:
        if isinstance(parent.call, RewrittenCall):
            parent.call.resume()
        else:
            self.kernel.platform.resume(parent.host_tid, 0)

    def _make_child(self, parent: Task, child_tid: int, flags: int, traced: bool = False) -> Task:
        group = parent.group
        if not flags & CLONE_THREAD:
            origin = group.parent if flags & CLONE_PARENT else group
            new = ThreadGroup(self.kernel, child_tid, origin)
            new.maker = parent
            new.rlimits, new.exe, new.argv = group.rlimits.copy(), group.exe, group.argv
            new.mounts, new.container, new.oom_score_adj = group.mounts, group.container, group.oom_score_adj
            if not flags & CLONE_VM:
                shm.segments.forked(group, new)
            group = new
        fs = parent.fs if flags & CLONE_FS else parent.fs.copy()
        fds = parent.fds.share() if flags & CLONE_FILES else parent.fds.fork()
        child = Task(self.kernel, child_tid, group, fs, fds)
        child.inherit(parent)
        child.announces = parent.announces
        if isinstance(parent.call, RewrittenCall):
            self._altered[child_tid] = parent.call
        if traced and parent.tracee is not None:
            tracee = parent.tracee
            Tracee(child, tracee.tracer, tracee.options, tracee.seized, fresh=True)
        self.adopt(child)
        return child

    def _parent_of(self, tid: int) -> int:
        """The host's id of the process whose child `tid` is; 0 for a thread."""
        text = self.kernel.pids.read(tid, "status", 512)
        _, here, rest = text.partition(b"\nTgid:\t%d\n" % tid)
        if not here:
            return 0
        return int(rest.partition(b"\nPPid:\t")[2].partition(b"\n")[0] or b"0")

    def _orphans(self, parent: Task) -> None:
        """Children whose maker was killed before it could report them: `parent` is the last of the threads it can
        have been. They live on, as after a plain fork."""
        for tid in [tid for tid, maker in self._early.items() if maker == parent.group.host_tgid]:
            self._make_child(parent, tid, 0)

    def _look_later(self) -> None:
        self._looking = True
        self.kernel.scheduler.call_at(self.kernel.scheduler.now_ns() + ORPHAN_AFTER_NS, self._look_for_orphans)

    def _look_for_orphans(self) -> None:
        """A child that nobody reports: its maker was gone before its own first stop. It never ran and never will."""
        for tid in self._seen.intersection(self._early):
            del self._early[tid]
            self.kernel.platform.signal(tid, 0, SIGKILL, 0)
        self._seen = set(self._early)
        self._looking = False
        if self._early:
            self._look_later()

    def adopt(self, task: Task) -> None:
        """Make a new task known to the C core and let it run."""
        kernel, tid = self.kernel, task.host_tid
        kernel.pids.forget(tid)
        kernel.reused(tid)
        kernel.tasks[tid] = task
        self._introduce(task)
        if self._early.pop(tid, None) is not None:
            kernel.platform.started(tid)
            self._first_stop(tid)
            if task.tracee is not None:
                task.tracee.first_stop()
            else:
                kernel.platform.resume(tid, 0)
        elif tid in self._altered or task.tracee is not None:
            kernel.platform.ask_first_stop(tid)

    def _introduce(self, task: Task) -> None:
        """Make the task known to the C core."""
        tid, group = task.host_tid, task.group
        lib.nc_task_new(tid, task.fds.nc)
        lib.nc_task_set_mixed(tid, group.mixed)
        lib.nc_task_set_watched(tid, task.tracee is not None)
        lib.nc_task_set_waits(tid, bool(group.tracees or group.ended))
        lib.nc_task_set_fast(tid, self.kernel.on_call is None)
        task.set_creds(task.creds)

    def _first_stop(self, tid: int) -> None:
        """A child born in a rewritten call gets the registers that its parent had before."""
        call = self._altered.pop(tid, None)
        if call is not None:
            call.give_back(tid)

    def announce(self, task: Task) -> None:
        """At a stop: have ptrace report whatever `task` and its children make."""
        task.announces = True
        if task.tracee is not None:
            task.tracee.apply_options()
        else:
            self.kernel.platform.trace_more(task.host_tid, lib.NC_TRACE_CLONE)

    def _executed(self, task: Task, former_tid: int) -> None:
        """PTRACE_EVENT_EXEC: the other threads are gone, and an execing thread has taken the leader's id."""
        kernel, tid = self.kernel, task.host_tid
        if former_tid > 0 and former_tid != tid:
            winner = kernel.tasks.pop(former_tid, None)
            if winner is not None:
                if winner.tracee is not None:
                    winner.tracee.former = winner.tid
                if task.tracee is not None:
                    task.tracee.forget()  # it ends without a word
                lib.nc_task_free(former_tid)
                self._release(task)
                lib.nc_task_free(tid)
                winner.host_tid = winner.mem.host_tid = tid
                winner.group.leader = winner
                kernel.tasks[tid] = winner
                self._introduce(winner)
                self.kernel.platform.started(tid)
                task = winner
        if self._early:
            self._orphans(task)
        self.executed(task)
        self.kernel.platform.resume(tid, 0)

    # --- death

    def _gone(self, tid: int, task: Task | None, status: int) -> None:
        self._early.pop(tid, None)
        self._altered.pop(tid, None)
        if tid == self.zygote.tid:
            self.zygote.tid = 0
        if task is None:
            return
        kernel = self.kernel
        del kernel.tasks[tid]
        group = task.group
        if self._early and len(group.tasks) == 1:
            self._orphans(task)
        if tid == group.host_tgid:
            group.tgid  # noqa: B018 - learnt now, while a status line can still be read, for those who ask later
        task_gone(task, status)
        self._release(task)
        lib.nc_task_free(tid)
        if not group.tasks:
            group.exited = True
            if group.parent is not None:
                group.parent.child_event()
            self._bury(group)
            kernel.died(group.leader)
            if group.exit_queue is not None:
                group.exit_queue.wake(EPOLLIN | EPOLLRDNORM)
            kernel.sigwatch.group_exited(group)
            kernel.ttys.group_exited(group, kernel)
            sem.group_exited(group)
            aio.leave(group)
            shm.segments.exited(group)
        if task.exit_queue is not None:
            task.exit_queue.wake(EPOLLIN | EPOLLRDNORM)
        if self.on_exit is not None:
            self.on_exit(task, status)
        kernel.pids.forget(tid)

    def _release(self, task: Task) -> None:
        """Give back what a thread holds."""
        self.kernel.waiting.drop(task)
        if task.spawn is not None:
            task.spawn.died()
        if task in task.group.tasks:
            task.group.tasks.remove(task)
        task.fds.drop()

    def _bury(self, group: ThreadGroup) -> None:
        """The last thread of a process is gone: its children get a new parent (the nearest subreaper, or init)."""
        parent = group.parent
        if parent is not None:
            parent.children.discard(group)
        heir = parent
        while heir is not None and (heir.exited or not (heir.subreaper or heir.parent is None)):
            heir = heir.parent
        if heir is None and group.container is not None:
            heir = group.container.init_group
        for child in [*group.children, *self.kernel.dead_children(group)]:
            child.parent = heir if heir is not child else None
            if child.parent is not None and not child.exited:
                child.parent.children.add(child)
        group.children = set()


def exit_code(status: int) -> int:
    """A wait status as a shell shows it: the exit code, or 128 + the signal."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
