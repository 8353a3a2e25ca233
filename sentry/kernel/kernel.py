"""Kernel: the state of one sandbox and its loop.

`run` takes events from the platform one by one. A system call is dispatched through the table: its handler's result
is answered together with the wait for the next event (one trip into C a call). A handler that must wait becomes a
Job and its task a waiting Call (calls.py). Stops go to lifecycle.py (fork, exec, exit) or, for a waiting task, to
calls.py.
"""

import os
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.abi.linux import SIGKILL, SIGSTOP
from sentry.errors import EIO, ESRCH, Interrupted, LinuxError
from sentry.fs.tty.jobs import ControllingTerminals
from sentry.kernel.calls import Call, Waiting
from sentry.kernel.holding import Holding
from sentry.kernel.lifecycle import Lifecycle
from sentry.kernel.pids import PidTable
from sentry.kernel.rewrite import ENDLESS, MadeFirst, Rewritten, RewrittenCall, StoppedCall
from sentry.kernel.sched import Job, Scheduler
from sentry.kernel.signals import SigInfo, SignalSender, kernel_info
from sentry.kernel.sigwatch import SignalWatch
from sentry.kernel.task import Task, ThreadGroup
from sentry.kernel.threads import Threads

if TYPE_CHECKING:
    from sentry.platform.base import Platform
    from sentry.syscalls.declare import Entry
    from sentry.vfs.inode import Inode

_EVENT = Struct("<iiiiQQQQQQQQ")
_IO = Struct("<QI4x")  # struct nc_io
_MAX_IO = 64
_LAST_NS = (1 << 63) - 1
_LAST_NUMBER = 1024  # no architecture has so many calls
_SHOWN_TO_NOBODY = frozenset((SIGKILL, SIGSTOP))
_DEAD_KEPT = 64  # so many dead processes are remembered before the host is asked which were reaped


class Kernel:
    """One sandbox's kernel. `lookup` gives the table entry of a system call number."""

    def __init__(
        self, platform: "Platform", lookup: "Callable[[int], Entry]", continue_: object, host_proc: int = -1
    ) -> None:
        self.platform = platform
        self.scheduler = Scheduler(poller=_Poller(platform))
        self.lookup = lookup
        self.continue_ = continue_
        self.host_proc = host_proc
        self.pids = PidTable(host_proc)
        self.tasks: dict[int, Task] = {}
        self.signals = SignalSender(platform)
        self.sigwatch = SignalWatch(self)
        self.waiting = Waiting(self)
        self.threads = Threads(self)
        self.life = Lifecycle(self)
        self.holding = Holding(self)
        self.hostname: bytes = b"localhost"
        self.domainname: bytes = b"(none)"
        self.memory_limit: int | None = None
        self.cpus: tuple[int, ...] = (0,)  # those the sandbox may use, by the host's numbers, which getcpu(2) tells
        self.cpu_max: tuple[int, int] | None = None  # quota and period in microseconds
        self.pids_limit: int | None = None
        self.seccomp_pass = 0  # what the guests' filters let through (syscalls/seccomp.py); 0: none has any
        self.panic_on_bug = False
        self.store: Any = None
        self.facts: Any = None  # fs/proc/facts.py: what is shown of the host
        self.ttys = ControllingTerminals()
        self.running = True
        self.call_id = 0  # the notification whose handler runs now, for descriptor injection
        # Observers: the strace log, the record of bugs.
        self.on_call: Callable[[Task, Entry, tuple[int, ...]], None] | None = None
        self.on_result: Callable[[Task, Entry, tuple[int, ...], int], None] | None = None
        self.on_bug: Callable[[Task | None, Entry | None, tuple[int, ...], BaseException], None] | None = None
        self.drain_objects: Callable[[], None] = lambda: None
        self._handlers: dict[int, Entry] = {}
        self._io = ffi.new("struct nc_io[]", _MAX_IO)
        self._dead: dict[int, Task] = {}
        self._dead_limit = _DEAD_KEPT

    # --- finding tasks

    def find_task(self, tid: int) -> Task | None:
        """The task with guest id `tid`."""
        host = self.pids.host_pid(tid)
        if host is not None:
            task = self.tasks.get(host)
            if task is not None:
                return task
        for task in (*self.tasks.values(), *(new for group in self.groups() for new in self.threads.meet(group))):
            if task.tid == tid:
                return task
        return None

    def find_group(self, tgid: int) -> ThreadGroup | None:
        """The process with guest id `tgid`."""
        task = self.find_task(tgid)
        return task.group if task is not None and task.group.host_tgid == task.host_tid else None

    def groups(self) -> list[ThreadGroup]:
        """All processes, oldest first."""
        return sorted({task.group for task in self.tasks.values()}, key=lambda group: group.start_ns)

    # --- the dead that nobody has reaped: the host kernel knows which

    def zombies(self) -> list[Task]:
        """Leaders of the processes that are dead and not yet reaped."""
        for host_tid in [tid for tid in self._dead if not _unreaped(tid)]:
            del self._dead[host_tid]
            self.pids.forget(host_tid)
        return list(self._dead.values())

    def find_zombie(self, tgid: int) -> Task | None:
        """The leader of the unreaped process with guest id `tgid`."""
        return next((task for task in self.zombies() if task.tid == tgid), None) if self._dead else None

    def exists(self, task: Task) -> bool:
        """Whether the task has not yet been reaped."""
        tid = task.host_tid
        return self.tasks.get(tid) is task or (self._dead.get(tid) is task and _unreaped(tid))

    def died(self, leader: Task) -> None:
        """The last thread of a process has ended; its parent may wait for it."""
        self._dead[leader.host_tid] = leader
        if len(self._dead) >= self._dead_limit:
            self._dead_limit = max(_DEAD_KEPT, 2 * len(self.zombies()))

    def dead_children(self, parent: ThreadGroup) -> list[ThreadGroup]:
        """Those that `parent` has not reaped, or had not when somebody last asked."""
        return [task.group for task in self._dead.values() if task.group.parent is parent]

    def reused(self, host_tid: int) -> None:
        """A new thread has that id: whoever had it has been reaped."""
        self._dead.pop(host_tid, None)

    def is_running(self, inode: "Inode") -> bool:
        """Whether some process runs the program in `inode`, which then can't be opened for writing (ETXTBSY)."""
        return any(task.group.exe is not None and task.group.exe.dentry.inode is inode for task in self.tasks.values())

    def shares_place(self, task: Task) -> bool:
        """Whether another process has the task's root and working directory, too (CLONE_FS)."""
        return any(each.fs is task.fs and each.group is not task.group for each in self.tasks.values())

    # --- signals

    def send_signal(self, target: Task | ThreadGroup, info: SigInfo | int) -> None:
        """Send to a thread or to a process. Permission has been checked. ESRCH when it is gone."""
        if isinstance(info, int):
            info = kernel_info(info)
        if isinstance(target, Task):
            group, host_tid = target.group, target.host_tid
        else:
            group, host_tid = target, 0
            if info.signo not in _SHOWN_TO_NOBODY:
                self.threads.meet(group)  # whichever thread takes it is to read who sent it
        self.signals.send(group.host_tgid, host_tid, info)
        if group.signal_queue is not None:
            self.sigwatch.look()  # it has just become ready
        for task in (target,) if isinstance(target, Task) else tuple(group.tasks):
            self.waiting.kick(task)

    def signal_pgrp(self, pgid: int, info: SigInfo | int) -> bool:
        """Send to every process of a group (a guest pid). False: there is none."""
        found = False
        for group in self.groups():
            if group.pgid() == pgid:
                try:
                    self.send_signal(group, info)
                    found = True
                except ESRCH:
                    continue
        return found

    # --- system calls

    def run(self) -> None:
        """Serve events until the sandbox ends."""
        event = ffi.new("struct nc_event *")
        buffer = ffi.buffer(event)
        unpack = _EVENT.unpack_from
        next_event, reply_next = self.platform.next, self.platform.reply_next
        syscall_kind, block = lib.NC_EV_SYSCALL, lib.NC_BLOCK
        tasks, handlers, ready = self.tasks, self._handlers, self.scheduler.ready
        armed: int | None = None
        scheduler = self.scheduler
        timers = scheduler._timers
        kind = next_event(event, block)
        while True:
            if kind == syscall_kind:
                _, tid, nr, _, call_id, a, b, c, d, e, f, _ = unpack(buffer)
                task = tasks.get(tid) or self.life.unknown_caller(tid, nr, call_id)
                if task is None:
                    kind = next_event(event, block)
                    continue
                self.call_id = call_id
                args = (a, b, c, d, e, f)
                entry = handlers.get(nr)
                if entry is None:
                    entry = self.lookup(nr)
                    if nr < _LAST_NUMBER:  # others are not kept: a guest may try every number there is
                        handlers[nr] = entry
                value = self._dispatch(task, entry, nr, call_id, args)
                if ready:
                    if value is not None:
                        self.platform.reply(call_id, value)
                        value = None
                    scheduler.run_ready()
                if timers and timers[0][0] != armed:
                    armed = self._arm()
                if value is None:
                    kind = next_event(event, block)
                else:
                    kind = reply_next(call_id, value, event)
                continue
            if kind < 0:
                raise OSError(-kind, "the seccomp listener failed")
            self._other_event(kind, event)
            if ready:
                scheduler.run_ready()
            if not self.running:
                return
            if kind == lib.NC_EV_TIMER or (timers and timers[0][0] != armed):
                armed = self._arm()
            kind = next_event(event, block)

    def _dispatch(self, task: Task, entry: "Entry", nr: int, call_id: int, args: tuple[int, ...]) -> int | None:
        """Run a handler. The value or -errno to answer with, or None when the call waits or was answered."""
        if task.call is not None:
            if not isinstance(task.call, RewrittenCall):
                self.waiting.escaped(task)
            elif task.call.notified(call_id, nr, args):
                return None
        if self.on_call is not None:
            self.on_call(task, entry, args)
        self.scheduler.running = task
        try:
            result = entry.handler(task, args)
            if entry.is_async:
                coro = result
                try:
                    sleeper = coro.send(None)
                except StopIteration as stop:
                    result = stop.value
                else:
                    job = Job(coro, task, None)
                    job.sleeper = sleeper
                    sleeper.job = job
                    self.waiting.add(Call(task, call_id, nr, args, entry, job))
                    return None
        except LinuxError as error:
            value = -error.errno
        except MadeFirst as first:
            first.what.begin(self, task, nr, args, entry, call_id)
            return None
        except (Exception, Interrupted) as error:
            value = -self.bug(task, entry, args, error)
        else:
            if result is None:
                value = 0
            elif result is self.continue_:
                self.let_run(task, entry, nr, call_id, args)
                return None
            elif isinstance(result, Rewritten):
                result.begin(self, task, nr, args, entry, call_id)
                return None
            else:
                value = result
        if self.on_result is not None:
            self.on_result(task, entry, args, value)
        return value

    def let_run(self, task: Task, entry: "Entry", nr: int, call_id: int, args: tuple[int, ...]) -> None:
        """The host kernel shall run the call itself. An observer of its result has it made again, between two stops."""
        if self.on_result is None or entry.name in ENDLESS:
            self.platform.let_run(call_id)
        else:
            Rewritten({}, pass_=False).begin(self, task, nr, args, entry, call_id)

    def trace_end(self, task: Task, call: Call | StoppedCall) -> None:
        """A waiting or rewritten call has ended: tell the observer."""
        if self.on_result is not None:
            self.on_result(task, call.entry, call.args, call.result)

    def bug(self, task: Task | None, entry: "Entry | None", args: tuple[int, ...], error: BaseException) -> int:
        """A handler failed in a way that is ours: one loud record. Gives the errno the guest sees."""
        if self.on_bug is not None:
            self.on_bug(task, entry, args, error)
        if self.panic_on_bug:
            raise SystemExit(70) from error
        return EIO.errno

    # --- everything else

    def _other_event(self, kind: int, event: Any) -> None:
        if kind == lib.NC_EV_STOP:
            self.life.stop(event)
        elif kind == lib.NC_EV_READY:
            self.drain_objects()
        elif kind == lib.NC_EV_TIMER:
            self.scheduler.run_timers()
        elif kind == lib.NC_EV_IO:
            ready = max(lib.nc_io_take(self._io, _MAX_IO), 0)
            for host_fd, events in _IO.iter_unpack(ffi.buffer(self._io, ready * _IO.size)):
                self.scheduler.dispatch(host_fd, events)
        elif kind == lib.NC_EV_GONE:
            self.running = False

    def _arm(self) -> int | None:
        deadline = self.scheduler.next_deadline_ns()
        # A guest's timer may lie beyond what the host's clock can count: it never comes.
        self.platform.arm(-1 if deadline is None or deadline > _LAST_NS else max(deadline, 0))
        return deadline


def _unreaped(host_pid: int) -> bool:
    """Whether a dead process is still there. (A new one with its number would have been met: Kernel.reused.)"""
    try:
        os.getpgid(host_pid)
    except OSError:
        return False
    return True


class _Poller:
    """Watches host descriptors with the platform's loop."""

    def __init__(self, platform: "Platform") -> None:
        self._platform = platform

    def watch(self, host_fd: int, events: int, cookie: int) -> None:
        self._platform.watch(host_fd, events, cookie)
