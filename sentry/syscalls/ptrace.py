"""ptrace(2): the requests of a tracer among the guests (kernel/ptrace.py has the stops)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Annotated, Any

from native import ffi, lib
from sentry.abi import linux as L
from sentry.abi.x86_64 import AUDIT_ARCH
from sentry.errors import EINVAL, EIO, EPERM, ESRCH, from_errno
from sentry.fs.proc.access import may_attach
from sentry.kernel.calls import PAUSED, Call
from sentry.kernel.ptrace import CALL_ENTRY, CALL_EXIT, GROUP, SIGNAL, Tracee, attach
from sentry.kernel.signals import SigInfo
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Pid, ULong, choice

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.kernel.task import Task

NO_REQUESTS = ("PTRACE_O_", "PTRACE_EVENT", "PTRACE_SYSCALL_", "PTRACE_PEEKSIGINFO_")
Request = Annotated[
    int,
    choice(
        strict=False,
        **{
            name: value
            for name, value in vars(L).items()
            if name.startswith("PTRACE_") and not name.startswith(NO_REQUESTS)
        },
    ),
]
OPTIONS = (
    L.PTRACE_O_TRACESYSGOOD | L.PTRACE_O_TRACEFORK | L.PTRACE_O_TRACEVFORK | L.PTRACE_O_TRACECLONE
    | L.PTRACE_O_TRACEEXEC | L.PTRACE_O_TRACEVFORKDONE | L.PTRACE_O_TRACEEXIT | L.PTRACE_O_TRACESECCOMP
    | L.PTRACE_O_EXITKILL
)  # fmt: skip
REGS_SIZE = 27 * 8  # struct user_regs_struct
REGISTERS = (
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi", "rdi", "orig_rax",
    "rip", "cs", "eflags", "rsp",
)  # fmt: skip
USER_SIZE = 912  # struct user
DEBUG_AT = 848  # its u_debugreg
FPREGS_SIZE = 512
SIGINFO_SIZE = 128
MAX_REGSET = 16384
RESUMING = {
    L.PTRACE_CONT: lib.NC_RUN,
    L.PTRACE_SYSCALL: lib.NC_RUN_TO_CALL,
    L.PTRACE_SINGLESTEP: lib.NC_RUN_STEP,
}
_IOVEC = Struct("<QQ")
_WORD = (1 << 64) - 1

_regs = ffi.new("struct nc_regs *")
_regs_view = ffi.buffer(_regs)
_word = ffi.new("uint64_t *")
_info = ffi.new("char[128]")


@syscall(partial="no PTRACE_SYSEMU and its like, PTRACE_PEEKSIGINFO, seccomp events; EIO")
def sys_ptrace(task: Task, request: Request, pid: Pid, addr: Addr, data: ULong) -> int:
    if request == L.PTRACE_TRACEME:
        return trace_me(task)
    target = task.kernel.find_task(pid)
    if target is None:
        raise ESRCH
    if request in (L.PTRACE_ATTACH, L.PTRACE_SEIZE):
        return begin(task, target, request == L.PTRACE_SEIZE, addr, data)
    tracee = target.tracee
    if tracee is None or tracee.tracer is not task:
        raise ESRCH
    if request == L.PTRACE_KILL:
        task.kernel.platform.signal(target.group.host_tgid, 0, L.SIGKILL, 0)
        return 0
    if request == L.PTRACE_INTERRUPT:
        if not tracee.seized:
            raise EIO
        tracee.interrupt()
        return 0
    tracee.stopped()
    if request in RESUMING:
        tracee.resume(RESUMING[request], checked_signal(data))
        return 0
    if request == L.PTRACE_DETACH:
        tracee.release(checked_signal(data))
        return 0
    handler = _REQUESTS.get(request)
    if handler is None:
        raise EIO
    return handler(task, tracee, addr, data)


# --- beginning


def trace_me(task: Task) -> int:
    maker, parent = task.group.maker, task.group.parent
    if parent is None or parent.exited:
        raise EPERM  # whose child it is, is no guest
    attach(maker if maker in parent.tasks else parent.leader, task, 0, seized=False)
    return 0


def begin(task: Task, target: Task, seize: bool, addr: int, options: int) -> int:
    if seize and (addr or options & ~OPTIONS):
        raise EIO
    if target.group is task.group or not may_attach(task, target):
        raise EPERM
    tracee = attach(task, target, options if seize else 0, seize)
    if not seize:
        tracee.wanted_by_attach()
    return 0


def checked_signal(data: int) -> int:
    if data > L.SIGRTMAX:
        raise EIO
    return data


# --- memory


def peek(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    if task.kernel.platform.peek(tracee.task.host_tid, addr, _word):
        raise EIO
    task.mem.write_u64(data, _word[0])
    return 0


def poke(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    if task.kernel.platform.poke(tracee.task.host_tid, addr, data):
        raise EIO
    return 0


# --- registers


def read_regs(tracee: Tracee) -> bytes:
    """struct user_regs_struct; of a task that is parked, as if it stood in its call."""
    task = tracee.task
    nr = task.call.nr if isinstance(task.call, Call) else -1
    if task.kernel.platform.guest_regs(task.host_tid, nr, _regs):
        raise ESRCH
    return bytes(_regs_view)


def write_regs(tracee: Tracee, data: bytes) -> None:
    task = tracee.task
    if isinstance(task.call, Call) and task.call.state == PAUSED:
        if read_regs(tracee) == data:
            return
        task.kernel.waiting.escaped(task)  # the wait is over; a restart of the call is in the registers
    _regs_view[:] = data
    error = task.kernel.platform.set_regs(task.host_tid, _regs)
    if error:
        raise from_errno(-error)


def get_regs(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    task.mem.write(data, read_regs(tracee))
    return 0


def set_regs(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    write_regs(tracee, task.mem.read(data, REGS_SIZE))
    return 0


def read_regset(tracee: Tracee, kind: int) -> bytes:
    if kind == L.NT_PRSTATUS:
        return read_regs(tracee)
    buffer = ffi.new("char[]", MAX_REGSET)
    size = tracee.task.kernel.platform.get_regset(tracee.task.host_tid, kind, buffer, MAX_REGSET)
    if size < 0:
        raise from_errno(-size)
    return ffi.buffer(buffer, size)[:]


def write_regset(tracee: Tracee, kind: int, data: bytes) -> None:
    if kind == L.NT_PRSTATUS:
        write_regs(tracee, data + read_regs(tracee)[len(data) :])
        return
    size = tracee.task.kernel.platform.set_regset(tracee.task.host_tid, kind, ffi.from_buffer(data), len(data))
    if size < 0:
        raise from_errno(-size)


def get_regset(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    where, room = _IOVEC.unpack(task.mem.read(data, _IOVEC.size))
    if room % 8:
        raise EINVAL
    found = read_regset(tracee, addr)[:room]
    task.mem.write(where, found)
    task.mem.write_u64(data + 8, len(found))
    return 0


def set_regset(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    where, size = _IOVEC.unpack(task.mem.read(data, _IOVEC.size))
    if size % 8:
        raise EINVAL
    given = task.mem.read(where, min(size, len(read_regset(tracee, addr))))
    write_regset(tracee, addr, given)
    task.mem.write_u64(data + 8, len(given))
    return 0


def get_fpregs(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    task.mem.write(data, read_regset(tracee, L.NT_PRFPREG))
    return 0


def set_fpregs(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    write_regset(tracee, L.NT_PRFPREG, task.mem.read(data, FPREGS_SIZE))
    return 0


def peek_user(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    if addr % 8 or addr >= USER_SIZE:
        raise EIO
    if addr < REGS_SIZE:
        value = int.from_bytes(read_regs(tracee)[addr : addr + 8], "little")
    elif addr >= DEBUG_AT:
        if task.kernel.platform.peek_user(tracee.task.host_tid, addr, _word):
            raise EIO
        value = _word[0]
    else:
        value = 0
    task.mem.write_u64(data, value)
    return 0


def poke_user(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    if addr % 8 or addr >= USER_SIZE:
        raise EIO
    if addr < REGS_SIZE:
        regs = bytearray(read_regs(tracee))
        regs[addr : addr + 8] = data.to_bytes(8, "little")
        write_regs(tracee, bytes(regs))
        return 0
    if addr < DEBUG_AT:
        raise EIO
    error = task.kernel.platform.poke_user(tracee.task.host_tid, addr, data)
    if error:
        raise from_errno(-error)
    return 0


# --- the stop


def set_options(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    if data & ~OPTIONS:
        raise EINVAL
    tracee.set_options(data)
    return 0


def get_event_message(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    task.mem.write_u64(data, tracee.stopped().message)
    return 0


def siginfo(tracee: Tracee) -> bytes:
    """struct siginfo, 128 bytes, of what stopped the task."""
    task, stop = tracee.task, tracee.stopped()
    if stop.kind == GROUP:
        raise EINVAL
    if stop.kind == SIGNAL and not stop.info:
        if task.kernel.platform.get_siginfo(task.host_tid, _info):
            raise EINVAL
        return ffi.buffer(_info)[:]
    if stop.kind == SIGNAL:
        return stop.info.ljust(SIGINFO_SIZE, b"\0")
    return SigInfo(L.SIGTRAP, stop.code, task.tid, task.creds.uid).pack()


def get_siginfo(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    task.mem.write(data, siginfo(tracee))
    return 0


def set_siginfo(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    stop = tracee.stopped()
    given = task.mem.read(data, SIGINFO_SIZE)
    if stop.kind == GROUP:
        raise EINVAL
    if stop.kind == SIGNAL and not stop.info:
        task.kernel.platform.set_siginfo(tracee.task.host_tid, given)
    return 0


def get_sigmask(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    if addr != 8:
        raise EINVAL
    task.mem.write_u64(data, current_mask(tracee))
    return 0


def current_mask(tracee: Tracee) -> int:
    call = tracee.task.call
    if isinstance(call, Call) and call.saved_mask is not None:
        return call.saved_mask & _WORD
    return tracee.task.kernel.platform.get_sigmask(tracee.task.host_tid) & _WORD


def set_sigmask(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    if addr != 8:
        raise EINVAL
    mask = task.mem.read_u64(data) & ~(1 << L.SIGKILL - 1 | 1 << L.SIGSTOP - 1)
    call = tracee.task.call
    if isinstance(call, Call) and call.saved_mask is not None:
        call.saved_mask = mask
    else:
        task.kernel.platform.set_sigmask(tracee.task.host_tid, mask)
    return 0


def get_syscall_info(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    """PTRACE_GET_SYSCALL_INFO: struct ptrace_syscall_info; its whole size, however much of it is asked for."""
    stop = tracee.stopped()
    regs = read_regs(tracee)
    names = dict(zip(REGISTERS, Struct("<20Q").unpack_from(regs), strict=True))
    op = {CALL_ENTRY: L.PTRACE_SYSCALL_INFO_ENTRY, CALL_EXIT: L.PTRACE_SYSCALL_INFO_EXIT}.get(
        stop.kind, L.PTRACE_SYSCALL_INFO_NONE
    )
    found = Struct("<B3xIQQ").pack(op, AUDIT_ARCH, names["rip"], names["rsp"])
    if op == L.PTRACE_SYSCALL_INFO_ENTRY:
        arguments = (names[name] for name in ("rdi", "rsi", "rdx", "r10", "r8", "r9"))
        found += Struct("<7Q").pack(names["orig_rax"], *arguments)
    elif op == L.PTRACE_SYSCALL_INFO_EXIT:
        result = names["rax"]
        found += Struct("<QB").pack(result, result >= (1 << 64) - 4095)
    task.mem.write(data, found[:addr])
    return len(found)


def listen(task: Task, tracee: Tracee, addr: int, data: int) -> int:
    """PTRACE_LISTEN: the task stays in its group stop, and its tracer hears of the end."""
    stop = tracee.stopped()
    if not tracee.seized or stop.code >> 8 != L.PTRACE_EVENT_STOP:
        raise EIO
    tracee.listening = True
    if stop.kind == GROUP:
        task.kernel.platform.listen(tracee.task.host_tid)
    return 0


_REQUESTS: dict[int, Callable[[Any, Any, int, int], int]] = {
    L.PTRACE_PEEKTEXT: peek,
    L.PTRACE_PEEKDATA: peek,
    L.PTRACE_POKETEXT: poke,
    L.PTRACE_POKEDATA: poke,
    L.PTRACE_PEEKUSR: peek_user,
    L.PTRACE_POKEUSR: poke_user,
    L.PTRACE_GETREGS: get_regs,
    L.PTRACE_SETREGS: set_regs,
    L.PTRACE_GETFPREGS: get_fpregs,
    L.PTRACE_SETFPREGS: set_fpregs,
    L.PTRACE_GETREGSET: get_regset,
    L.PTRACE_SETREGSET: set_regset,
    L.PTRACE_SETOPTIONS: set_options,
    L.PTRACE_OLDSETOPTIONS: set_options,
    L.PTRACE_GETEVENTMSG: get_event_message,
    L.PTRACE_GETSIGINFO: get_siginfo,
    L.PTRACE_SETSIGINFO: set_siginfo,
    L.PTRACE_GETSIGMASK: get_sigmask,
    L.PTRACE_SETSIGMASK: set_sigmask,
    L.PTRACE_GET_SYSCALL_INFO: get_syscall_info,
    L.PTRACE_LISTEN: listen,
}
