"""A whole kernel over a platform that only takes notes: the test plays the guests and the host kernel.

    rig = KernelRig(tmp_path)
    task = rig.first_task()
    rig.call(task, sleeps)          # a system call whose handler is `async def sleeps(task)`
    rig.advance(milliseconds=3)     # the clock is the test's; due timers run
    rig.event_stop(task)            # a ptrace stop
    assert rig.done() == [("park", task.host_tid, 0)]

The folder given stands for the sentry's procfs: `rig.status(task, SigCgt=...)` writes what the host would show.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from pathlib import Path
from signal import SIGTRAP
from types import SimpleNamespace
from typing import Any

from native import ffi, lib
from sentry.abi.linux import ERESTARTSYS
from sentry.abi.x86_64 import NUMBERS
from sentry.errors import LinuxError
from sentry.fs.store import Store
from sentry.fs.tmpfs import Tmpfs
from sentry.kernel.creds import ALL_CAPS, Credentials
from sentry.kernel.fdtable import FdTable, drain
from sentry.kernel.kernel import Kernel
from sentry.kernel.lifecycle import EVENT_CLONE, EVENT_EXEC, EVENT_FORK, EVENT_STOP
from sentry.kernel.rewrite import CALL_STOP, RewrittenCall
from sentry.kernel.task import Task, ThreadGroup
from sentry.syscalls import load_all
from sentry.syscalls.declare import CONTINUE, lookup
from sentry.vfs.context import FsContext
from sentry.vfs.mount import Mount, MountNamespace

load_all()

ROOT = Credentials(cap_permitted=ALL_CAPS, cap_effective=ALL_CAPS)
ESRCH = 3
FIRST_TID = 8_000_000  # above every pid of the host
QUIET = ("arm", "is_open", "watch", "signal_cookie", "stop_seen", "get_sigmask", "stack_pointer", "event_message", "get_regs", "get_siginfo")


class FakePlatform:
    """Notes every operation in `notes`; `gone` threads answer ESRCH."""

    name = "fake"

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.events: deque[Callable[[Any], int]] = deque()
        self.gone: set[int] = set()
        self.masks: dict[int, int] = {}
        self.cookies: dict[int, int] = {}
        self.siginfos: dict[int, bytes] = {}  # what the host kernel says at a thread's signal stop
        self.messages: dict[int, int] = {}
        self.registers: dict[int, dict[str, int]] = {}
        self.stack: dict[int, int] = {}
        self.words: dict[int, int] = {}  # what is in tracees' memory
        self.armed = -1

    def _note(self, name: str, tid: int, *args: int) -> int:
        self.notes.append((name, tid, *args))
        return -ESRCH if tid in self.gone else 0

    def next(self, event: Any, mode: int) -> int:
        return self.events.popleft()(event) if self.events else lib.NC_EV_GONE

    def hold(self, on: int) -> int:
        return self._note("hold", on)

    def reply(self, call_id: int, result: int) -> int:
        return self._note("reply", call_id, result)

    def reply_next(self, call_id: int, result: int, event: Any) -> int:
        self.reply(call_id, result)
        return self.next(event, 0)

    def is_open(self, call_id: int) -> int:
        self._note("is_open", call_id)
        return -2 if call_id in self.gone else 1

    def let_run(self, call_id: int) -> int:
        return self._note("let_run", call_id)

    def inject(self, call_id: int, host_fd: int, guest_fd: int, cloexec: int) -> int:
        self._note("inject", call_id, guest_fd, cloexec)
        return guest_fd

    def seize(self, tid: int) -> int:
        return self._note("seize", tid)

    def trace_more(self, tid: int, what: int) -> int:
        return self._note("trace_more", tid, what)

    def ask_first_stop(self, tid: int) -> int:
        return self._note("ask_first_stop", tid)

    def interrupt(self, tid: int) -> int:
        return self._note("interrupt", tid)

    def resume(self, tid: int, signal: int) -> int:
        return self._note("resume", tid, signal)

    def resume_to_call(self, tid: int, signal: int) -> int:
        return self._note("resume_to_call", tid, signal)

    def listen(self, tid: int) -> int:
        return self._note("listen", tid)

    def detach(self, tid: int, signal: int) -> int:
        return self._note("detach", tid, signal)

    def finish(self, tid: int, nr: int, result: int, then: int) -> int:
        return self._note("finish", tid, nr, result, int(then))

    def park(self, tid: int, stay: int) -> int:
        return self._note("park", tid, int(stay))

    def unparked(self, tid: int) -> int:
        return self._note("unparked", tid)

    def restart(self, tid: int, nr: int, result: int, signal: int) -> int:
        return self._note("restart", tid, nr, result, signal)

    def stop_seen(self, tid: int) -> int:
        return self._note("stop_seen", tid)

    def started(self, tid: int) -> int:
        return self._note("started", tid)

    def get_regs(self, tid: int, regs: Any) -> int:
        for name, value in self.registers.get(tid, {"rip": 0x1000}).items():
            setattr(regs, name, value & (1 << 64) - 1)
        return self._note("get_regs", tid)

    def set_regs(self, tid: int, regs: Any) -> int:
        names = ("rax", "orig_rax", "rdi", "rsi", "rdx", "r10", "r8", "r9", "rsp", "rip")
        self.registers[tid] = {name: getattr(regs, name) for name in names}
        return self._note("set_regs", tid)

    def guest_regs(self, tid: int, nr: int, regs: Any) -> int:
        failed = self.get_regs(tid, regs)
        if nr >= 0:
            regs.orig_rax, regs.rax = nr, -ERESTARTSYS & (1 << 64) - 1
        return failed

    def peek(self, tid: int, addr: int, word: Any) -> int:
        word[0] = self.words.get(addr, 0)
        return self._note("peek", tid, addr) if addr in self.words else -5

    def poke(self, tid: int, addr: int, word: int) -> int:
        self.words[addr] = word
        return self._note("poke", tid, addr, word)

    def peek_user(self, tid: int, offset: int, word: Any) -> int:
        word[0] = 7
        return self._note("peek_user", tid, offset)

    def poke_user(self, tid: int, offset: int, word: int) -> int:
        return self._note("poke_user", tid, offset, word)

    def get_regset(self, tid: int, kind: int, buffer: Any, size: int) -> int:
        self._note("get_regset", tid, kind)
        return 512 if kind == 2 else -22

    def set_regset(self, tid: int, kind: int, buffer: Any, size: int) -> int:
        self._note("set_regset", tid, kind, size)
        return size

    def stack_pointer(self, tid: int) -> int:
        self._note("stack_pointer", tid)
        return self.stack.get(tid, 0)

    def event_message(self, tid: int) -> int:
        self._note("event_message", tid)
        return self.messages.get(tid, -ESRCH)

    def signal(self, tgid: int, tid: int, signo: int, cookie: int) -> int:
        failed = self._note("signal", tid or tgid, signo, "thread" if tid else "group")
        self.cookies[tid or tgid] = cookie
        return failed

    def signal_cookie(self, tid: int) -> int:
        self._note("signal_cookie", tid)
        return self.cookies.pop(tid, 0)

    def get_siginfo(self, tid: int, data: Any) -> int:
        info = self.siginfos.get(tid, (10).to_bytes(4, "little"))
        ffi.memmove(data, info, len(info))
        return self._note("get_siginfo", tid)

    def set_siginfo(self, tid: int, data: Any) -> int:
        data = data if isinstance(data, bytes) else bytes(ffi.buffer(data))
        return self._note("set_siginfo", tid, data)

    def get_sigmask(self, tid: int) -> int:
        self._note("get_sigmask", tid)
        return self.masks.get(tid, 0)

    def set_sigmask(self, tid: int, mask: int) -> int:
        self.masks[tid] = mask
        return self._note("set_sigmask", tid, mask)

    def arm(self, deadline_ns: int) -> int:
        self.armed = deadline_ns
        return self._note("arm", deadline_ns)

    def watch(self, host_fd: int, events: int, cookie: int) -> int:
        return self._note("watch", host_fd, events)


class FakeEntry:
    """A system call's table entry, made of a function that takes the task and, if it likes, the registers."""

    def __init__(self, name: str, body: Callable[..., Any], restart: int) -> None:
        self.name, self.restart = name, restart
        self.is_async = bool(body.__code__.co_flags & 0x80)
        whole = body.__code__.co_argcount - hasattr(body, "__self__") > 1
        self.handler = body if whole else lambda task, args: body(task)


class KernelRig:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.proc = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self.platform = FakePlatform()
        self.entries: dict[int, Any] = {}
        self.kernel: Any = Kernel(self.platform, self.entries.__getitem__, CONTINUE, self.proc)
        self.kernel.panic_on_bug = True
        self.kernel.drain_objects = drain
        self.now_ns = 1_000_000_000
        self.kernel.scheduler.now_ns = lambda: self.now_ns
        self.life = self.kernel.life
        self.life.executed = lambda task: None
        self.mounts = MountNamespace(Mount(Tmpfs(Store(None), mode=0o755)))
        self.numbers = iter(range(1000, 2000))
        self.call_ids = iter(range(7_000_001, 7_100_000))
        self.tids = iter(range(FIRST_TID, FIRST_TID + 10_000))
        self.zombies: set[int] = set()  # host ids of dead processes that nobody has reaped
        self.pgids: dict[int, int] = {}  # process group and session, where it is not the process's own
        self._host = os.getpgid, os.getsid
        os.getpgid = os.getsid = self._group_of  # type: ignore[assignment]

    def _group_of(self, tid: int) -> int:
        """What the host's getpgid(2) and getsid(2) say."""
        if tid in self.pgids:
            return self.pgids[tid]
        if tid not in self.kernel.tasks and tid not in self.zombies:
            raise ProcessLookupError(ESRCH, "no such process")
        return tid

    def close(self) -> None:
        os.getpgid, os.getsid = self._host  # type: ignore[assignment]
        for tid, task in list(self.kernel.tasks.items()):
            self.kernel.waiting.drop(task)
            lib.nc_task_free(tid)
            task.fds.drop()
        drain()
        self.mounts.drop()
        os.close(self.proc)

    # --- what the host's procfs shows

    def status(self, task: Task | int, pid: int | None = None, comm: str = "guest", state: str = "S", **fields: str) -> None:
        tid = task if isinstance(task, int) else task.host_tid
        folder = self.folder / str(tid)
        folder.mkdir(exist_ok=True)
        if pid is not None:
            fields["NSpid"] = f"{tid}\t{pid}"
        known = {}
        if (folder / "status").exists():
            known = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines())
        known.update({"SigCgt": "0" * 16, **fields})
        (folder / "status").write_text("".join(f"{key}:\t{value}\n" for key, value in known.items()))
        (folder / "comm").write_text(comm + "\n")
        (folder / "stat").write_text(f"{tid} ({comm}) {state} 0 0\n")

    def host_threads(self, task: Task, *tids: int) -> None:
        """The process has these threads, which nobody has met, besides the ones that are known."""
        for tid in (*(each.host_tid for each in task.group.tasks), *tids):
            (self.folder / str(task.group.host_tgid) / "task" / str(tid)).mkdir(parents=True, exist_ok=True)
        for tid in tids:
            self.status(tid, tid - FIRST_TID + 1, Tgid=str(task.group.host_tgid))

    def catches(self, task: Task, *signals: int) -> None:
        """The process has handlers for these signals."""
        self.status(task, SigCgt=f"{sum(1 << signal - 1 for signal in signals):016x}")

    # --- tasks

    def first_task(self, pid: int = 1, creds: Credentials = ROOT, parent: ThreadGroup | None = None) -> Task:
        """A process without a history; with `parent` a child of it."""
        tid = next(self.tids)
        self.status(tid, pid)
        group = ThreadGroup(self.kernel, tid, parent)
        group.mounts = self.mounts
        task = Task(self.kernel, tid, group, FsContext(self.mounts.root_path), FdTable())
        task.creds = creds
        self.life.adopt(task)
        return task

    def fork(self, parent: Task, flags: int = 17, pid: int = 0, event: int = EVENT_FORK) -> Task:
        """What the host's fork reports; the child, already running."""
        tid = next(self.tids)
        self.status(tid, pid or tid - FIRST_TID + 1)
        self.stop(parent, event if flags == 17 else EVENT_CLONE, id=tid, args=(flags,))
        self.stop(tid, EVENT_STOP, SIGTRAP)
        return self.kernel.tasks[tid]

    def becomes_zombie(self, task: Task) -> None:
        """The process ends, and its parent does not wait for it yet."""
        self.zombies.add(task.host_tid)
        self.status(task, state="Z")
        self.dies(task)

    def reaped(self, task: Task) -> None:
        """Its parent has waited for it."""
        self.zombies.discard(task.host_tid)
        for file in (self.folder / str(task.host_tid)).iterdir():
            file.unlink()

    # --- events

    def run(self) -> None:
        """Serve the queued events, and what becomes due by them."""
        self.kernel.running = True
        self.kernel.run()

    def push(self, kind: int, **fields: Any) -> None:
        def fill(event: Any) -> int:
            event.kind = kind
            for name in ("tid", "nr", "status", "id", "ip"):
                setattr(event, name, fields.get(name, 0))
            given = tuple(fields.get("args", ()))
            for index, value in enumerate(given + (0,) * (6 - len(given))):
                event.args[index] = value & (1 << 64) - 1
            return kind

        self.platform.events.append(fill)

    def call(
        self, task: Task | int, body: Callable[..., Any], *args: int, restart: int = ERESTARTSYS, name: str = "test"
    ) -> int:
        """A guest's system call with `body` as its handler; the notification's id."""
        nr, call_id = next(self.numbers), next(self.call_ids)
        self.entries[nr] = FakeEntry(name, body, restart)
        tid = task if isinstance(task, int) else task.host_tid
        self.push(lib.NC_EV_SYSCALL, tid=tid, nr=nr, id=call_id, args=args)
        self.run()
        return call_id

    def made_again(self, task: Task) -> int:
        """What a rewritten call has become comes to the listener."""
        assert isinstance(task.call, RewrittenCall)
        nr, args = task.call.made
        call_id = next(self.call_ids)
        self.entries.setdefault(nr, FakeEntry("again", lambda task: 0, ERESTARTSYS))
        self.push(lib.NC_EV_SYSCALL, tid=task.host_tid, nr=nr, id=call_id, args=args)
        self.run()
        return call_id

    def stop(self, task: Task | int, what: int, signal: int = SIGTRAP, **fields: Any) -> None:
        """A ptrace stop, as wait4(2) reports it."""
        tid = task if isinstance(task, int) else task.host_tid
        self.push(lib.NC_EV_STOP, tid=tid, status=what << 16 | signal << 8 | 0x7F, **fields)
        self.run()

    def event_stop(self, task: Task, signal: int = SIGTRAP) -> None:
        """PTRACE_EVENT_STOP: asked for, or with a stop signal a group stop."""
        self.stop(task, EVENT_STOP, signal)

    def signal_stop(self, task: Task, signal: int) -> None:
        """A signal is about to be delivered."""
        self.stop(task, 0, signal)

    def call_stop(self, task: Task) -> None:
        """Entry to a call, or its exit."""
        self.stop(task, 0, CALL_STOP)

    def exec_event(self, task: Task | int, former_tid: int) -> None:
        self.stop(task, EVENT_EXEC, id=former_tid)

    def dies(self, task: Task | int, status: int = 0) -> None:
        tid = task if isinstance(task, int) else task.host_tid
        self.push(lib.NC_EV_STOP, tid=tid, status=status)
        self.run()

    def advance(self, milliseconds: float) -> None:
        self.now_ns += int(milliseconds * 1_000_000)
        self.push(lib.NC_EV_TIMER)
        self.run()

    def ready(self, action: Callable[[], Any]) -> None:
        """Something happens outside of any guest's call."""
        action()
        self.push(lib.NC_EV_READY)
        self.run()

    def done(self) -> list[tuple[Any, ...]]:
        """What the platform was told since the last look, without questions and timers."""
        notes, self.platform.notes = self.platform.notes, []
        return [note for note in notes if note[0] not in QUIET]


def answer(task: Task, name: str, *args: int) -> Any:
    """A call that does not wait, through its declared entry: the value, -errno or CONTINUE."""
    entry = lookup(NUMBERS[name])
    registers = tuple(arg & (1 << 64) - 1 for arg in args) + (0,) * (6 - len(args))
    try:
        result = entry.handler(task, registers)
    except LinuxError as error:
        return -error.errno
    return 0 if result is None else result


class Buffer:
    """Memory of this process, which plays the guest's: `with_memory` makes a task use it."""

    def __init__(self, size: int = 4096) -> None:
        self._memory = ffi.new("char[]", size)
        self.addr = int(ffi.cast("uintptr_t", self._memory))

    def put(self, data: bytes) -> int:
        ffi.memmove(self._memory, data, len(data))
        return self.addr

    def get(self, size: int) -> bytes:
        return bytes(ffi.buffer(self._memory, size))


def with_memory(task: Task) -> Task:
    task.mem.host_tid = os.getpid()
    return task


def container(rig: KernelRig) -> Any:
    """As much of a container as tasks look at."""
    return SimpleNamespace(id="c", mounts=rig.mounts, init_group=None, kernel=rig.kernel)
