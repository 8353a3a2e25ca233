"""execve(2): from its arguments to a program that runs.

The program is found and checked first (program.py); whatever fails by then leaves the task whole. Then the call is made
again (rewrite.py) as execveat(stub, "", argv, envp, AT_EMPTY_PATH): the host kernel resets the address space, ends the
other threads and lays out the stack. At PTRACE_EVENT_EXEC the old program is gone: descriptors are closed, credentials
change. The stub then asks for its plan (loader.py).
"""

import os
from struct import pack
from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.abi.linux import AT_EMPTY_PATH, PTRACE_EVENT_EXEC, SI_USER, SIGKILL, SIGTRAP
from sentry.abi.x86_64 import NUMBERS
from sentry.errors import E2BIG, EINVAL, EIO, ENOSYS
from sentry.fs import aio
from sentry.ipc import shm
from sentry.kernel import loader
from sentry.kernel.creds import gains
from sentry.kernel.program import Program, find
from sentry.kernel.ptrace import SIGNAL
from sentry.kernel.rewrite import Rewritten, RewrittenCall, StoppedCall
from sentry.kernel.signals import SigInfo
from sentry.mm.hostmap import remember

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.syscalls.declare import Entry

_EXECVE, _EXECVEAT = NUMBERS["execve"], NUMBERS["execveat"]
_GENERAL = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi",
)  # fmt: skip
_POINTERS_MAX = 2 << 20  # bytes of a script's argv, as far as it is moved


async def execute(task: "Task", dirfd: int, path_at: int, argv: int, envp: int, flags: int) -> "Execution":
    """execveat(2) of a running program. The addresses are the guest's."""
    path = task.mem.read_cstr(path_at)
    program = await find(task, dirfd, path, flags)
    return Execution(task, program, path_at + len(path), argv, envp)


class Execution(Rewritten):
    """A good execve, as the host kernel shall run it: `empty` is the address of an empty string."""

    def __init__(self, task: "Task", program: Program, empty: int, argv: int, envp: int) -> None:
        registers = {0: lib.nc_fdt_stub(task.fds.nc), 1: empty, 2: argv, 3: envp, 4: AT_EMPTY_PATH}
        super().__init__(registers, nr=_EXECVEAT)
        self.task = task
        self.program = program

    def at_stop(self, regs: Any) -> dict[int, int]:
        """A script's arguments are written below its caller's stack."""
        if self.program.argv_head is None:
            return self.registers
        argv = _script_argv(self.task, regs.rsp, self.registers[2], self.program.argv_head)
        return {**self.registers, 2: argv}


class Entering(Rewritten):
    """The last call of a watched task's loader: the task is brought to the program's first instruction, where its
    tracer finds it."""

    def __init__(self, entry: int, sp: int) -> None:
        super().__init__({})
        self.entry = entry
        self.sp = sp

    def begin(
        self, kernel: "Kernel", task: "Task", nr: int, args: tuple[int, ...], entry: "Entry", call_id: int
    ) -> None:
        EnteringCall(kernel, task, nr, args, entry, self).begin(call_id)


class EnteringCall(StoppedCall):
    __slots__ = ("where",)

    def __init__(
        self, kernel: "Kernel", task: "Task", nr: int, args: tuple[int, ...], entry: "Entry", where: Entering
    ) -> None:
        super().__init__(kernel, task, nr, args, entry)
        self.where = where

    def stopped(self, event_stop: bool, signal: int) -> bool:
        """What Linux shows after an exec, in this order: its event, the end of the call, a SIGTRAP without an event."""
        if not event_stop:
            return False
        platform, tid = self.kernel.platform, self.task.host_tid
        regs = ffi.new("struct nc_regs *")
        if not platform.get_regs(tid, regs):
            for name in _GENERAL:
                setattr(regs, name, 0)
            regs.rax = -ENOSYS.errno & (1 << 64) - 1  # until the end of the call, which is shown next
            regs.rip, regs.rsp, regs.orig_rax = self.where.entry, self.where.sp, _EXECVE
            platform.set_regs(tid, regs)
        self.over()
        tracee = self.task.tracee
        if tracee is None:
            platform.resume(tid, 0)
            return True
        tracee.apply_mode()
        if tracee.wants(PTRACE_EVENT_EXEC):
            former, tracee.former = tracee.former or self.task.tid, 0
            tracee.hold_event(PTRACE_EVENT_EXEC, self._call_ends, former)
        else:
            self._call_ends(0)
        return True

    def _call_ends(self, signal: int) -> None:
        tracee, platform, regs = self.task.tracee, self.kernel.platform, ffi.new("struct nc_regs *")
        if not platform.get_regs(self.task.host_tid, regs):
            regs.rax = 0
            platform.set_regs(self.task.host_tid, regs)
        if tracee is None:
            self._trap(0)
            return
        tracee.in_call = True  # whether or not it was shown to enter
        if not tracee.call_ended(self._trap):
            self._trap(0)

    def _trap(self, signal: int) -> None:
        tracee = self.task.tracee
        if tracee is None:
            self.kernel.platform.resume(self.task.host_tid, 0)
        elif tracee.seized or tracee.wants(PTRACE_EVENT_EXEC):
            tracee.run(signal)
        else:
            info = SigInfo(SIGTRAP, SI_USER, self.task.group.tgid, self.task.creds.uid)
            tracee.hold(SIGNAL, SIGTRAP, tracee.run, info=info.pack())


class Executor:
    """What comes after the point of no return: the exec event, and the stub's question."""

    def __init__(self, kernel: "Kernel") -> None:
        self.kernel = kernel
        self._regs = ffi.new("struct nc_regs *")
        self._stub: tuple[int, int] | None = None  # its device and inode
        kernel.life.executed = self.executed

    def executed(self, task: "Task") -> None:
        """PTRACE_EVENT_EXEC."""
        call = task.call
        if (
            not isinstance(call, RewrittenCall)
            or not isinstance(call.what, Execution)
            or not self._is_stub(task.host_tid)
        ):
            # Nothing of ours was under way, or another thread has put a file of its own where the stub's descriptor
            # was: it must not run with the program's credentials.
            self.kernel.platform.signal(task.group.host_tgid, 0, SIGKILL, 0)
            return
        call.over()
        if self.kernel.seccomp_pass:
            self._give_pass(task.host_tid)
        self.kernel.trace_end(task, call)
        task.spawn = None
        task.loading = program = call.what.program
        if task.tracee is not None:
            if task.tracee.holds_back and gains(task.creds, program.creds):
                task.tracee.release()  # it has attached since the program was found
            else:
                task.tracee.apply_mode(off=True)
        if task.fds.users > 1:
            fds = task.fds.fork()
            task.fds.drop()
            task.set_fds(fds)
        task.fds.close_on_exec()
        group = task.group
        group.exe = program.place
        group.exec_count += 1
        shm.segments.left(group)
        group.mixed = False
        aio.leave(group)
        lib.nc_task_set_mixed(task.host_tid, 0)
        same_ids = (task.creds.euid, task.creds.egid) == (task.creds.uid, task.creds.gid)
        group.dumpable = 1 if program.readable and same_ids else 0  # what it gains may change that yet
        task.name = program.comm[:15]
        task.comm_override = None
        task.set_creds(program.creds)

    def ready(self, task: "Task") -> "Entering":
        """The loader stub's other magic call: a watched task's program is mapped."""
        if task.tracee is None:
            raise EINVAL  # it has been let go meanwhile
        return Entering(*task.tracee.entry)

    def _give_pass(self, tid: int) -> None:
        """The stub's own calls must get past the guest's filters: it expects the pass in r15."""
        if not self.kernel.platform.get_regs(tid, self._regs):
            self._regs.r15 = self.kernel.seccomp_pass
            self.kernel.platform.set_regs(tid, self._regs)

    def _is_stub(self, tid: int) -> bool:
        """Whether the thread's program is our stub."""
        try:
            found = os.stat(b"%d/exe" % tid, dir_fd=self.kernel.host_proc)
        except OSError:
            return False
        if self._stub is None:
            stub = os.fstat(lib.nc_stub())
            self._stub = stub.st_dev, stub.st_ino
        return (found.st_dev, found.st_ino) == self._stub

    def load(self, task: "Task", call_id: int, plan_at: int, sp: int) -> int:
        """The loader stub's magic call: 0 once its plan is written."""
        program, task.loading = task.loading, None
        if program is None:
            raise EINVAL
        stub = lib.nc_fdt_stub(task.fds.nc)
        base = loader.pick_base(program.elf, False)
        entries = loader.segments(program.elf, base, stub + 1)
        entry, interp_base = program.elf.entry + base, 0
        task.group.places = program.elf.places(base)
        remember(program.file.mapping(), program.file.path)
        if self.kernel.platform.inject(call_id, program.file.mapping(), stub + 1, 1) < 0:
            raise EIO
        if program.interp_file is not None and program.interp_elf is not None:
            interp_base = loader.pick_base(program.interp_elf, True)
            entries += loader.segments(program.interp_elf, interp_base, stub + 2)
            entry = program.interp_elf.entry + interp_base
            remember(program.interp_file.mapping(), program.interp_file.path)
            if self.kernel.platform.inject(call_id, program.interp_file.mapping(), stub + 2, 1) < 0:
                raise EIO
        patches = loader.auxv_patches(program.elf, base, interp_base, task, program.secure)
        new_sp = loader.build_stack(task, sp, program.path, patches)
        forgets = program.gains and task.parent_death_signal != 0
        if forgets:
            task.parent_death_signal = 0
        tracee = task.tracee
        plan = loader.pack_plan(entries, entry, new_sp, forgets, tracee is not None, task.name)
        task.mem.write(plan_at, plan)
        if tracee is not None:
            tracee.entry = entry, new_sp
        lib.nc_task_set_loading(task.host_tid, len(entries))
        return 0


def _script_argv(task: "Task", rsp: int, argv: int, head: list[bytes]) -> int:
    """Write a script's argument vector below the caller's stack pointer; its address."""
    tail = b""
    if argv and task.mem.read_u64(argv):
        tail = _read_pointers(task, argv + 8)
    strings = b"".join(word + b"\0" for word in head)
    size = (len(head) + 1) * 8 + len(tail) + len(strings)
    at = (rsp - 512 - size) & -16  # below the red zone
    text = at + size - len(strings)
    pointers = []
    for word in head:
        pointers.append(text)
        text += len(word) + 1
    task.mem.write(at, pack(f"<{len(pointers)}Q", *pointers) + tail + pack("<Q", 0) + strings)
    return at


def _read_pointers(task: "Task", at: int) -> bytes:
    """The pointers at `at` up to a NULL, without it."""
    found = b""
    while True:
        chunk = task.mem.read_some(at + len(found), 4096 - (at + len(found)) % 4096 or 4096)
        chunk = chunk[: len(chunk) & -8]
        for index in range(0, len(chunk), 8):
            if chunk[index : index + 8] == bytes(8):
                return found + chunk[:index]
        found += chunk
        if not chunk or len(found) > _POINTERS_MAX:
            raise E2BIG
