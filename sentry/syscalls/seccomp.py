"""seccomp(2) of guests: their filters are the host kernel's to run, above our own.

The host runs all filters of a task and the strictest answer counts, so a guest's can refuse a call and never let one
past ours. What must get past a guest's filter is what the sentry itself has a task do: sleep in pause(2), make a call
again with other registers, load a program. Such calls carry a pass, a secret number in their unused sixth argument, and
before a filter goes to the host it gets a head that knows the pass. The call that installs it is made again with that
copy, which lies below the caller's stack meanwhile.

Strict mode is a filter too: the host kernel does not go from one mode to the other.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from native import lib
from sentry.abi.linux import (
    BPF_ABS,
    BPF_IMM,
    BPF_JEQ,
    BPF_JMP,
    BPF_K,
    BPF_LD,
    BPF_RET,
    BPF_W,
    CAP_SYS_ADMIN,
    SECCOMP_FILTER_FLAG_LOG,
    SECCOMP_FILTER_FLAG_NEW_LISTENER,
    SECCOMP_FILTER_FLAG_SPEC_ALLOW,
    SECCOMP_FILTER_FLAG_TSYNC,
    SECCOMP_FILTER_FLAG_TSYNC_ESRCH,
    SECCOMP_GET_ACTION_AVAIL,
    SECCOMP_MODE_FILTER,
    SECCOMP_MODE_STRICT,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
    SECCOMP_RET_KILL_PROCESS,
    SECCOMP_RET_KILL_THREAD,
    SECCOMP_RET_LOG,
    SECCOMP_RET_TRACE,
    SECCOMP_RET_TRAP,
    SECCOMP_SET_MODE_FILTER,
    SECCOMP_SET_MODE_STRICT,
)
from sentry.abi.x86_64 import NUMBERS, SOCK_FILTER, SOCK_FPROG
from sentry.errors import EACCES, EFAULT, EINVAL, ENOSYS, EOPNOTSUPP
from sentry.kernel.rewrite import Rewritten
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, UInt

if TYPE_CHECKING:
    from sentry.kernel.task import Task

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
FLAGS = (
    SECCOMP_FILTER_FLAG_TSYNC
    | SECCOMP_FILTER_FLAG_LOG
    | SECCOMP_FILTER_FLAG_SPEC_ALLOW
    | SECCOMP_FILTER_FLAG_TSYNC_ESRCH
)  # without NEW_LISTENER: calls are not ours to hand to another guest
# What can be had: all but SECCOMP_RET_USER_NOTIF.
ACTIONS = (
    SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO, SECCOMP_RET_TRACE,
    SECCOMP_RET_LOG, SECCOMP_RET_ALLOW,
)  # fmt: skip
ACTION_MASK = 0xFFFF0000
_ANSWERS = {
    SECCOMP_RET_LOG: SECCOMP_RET_ALLOW,  # the host's log is not the guest's to write
    # A guest has no tracer, and without one it is ENOSYS; but our filter's own answer would be the stricter of the two.
    SECCOMP_RET_TRACE: SECCOMP_RET_ERRNO | ENOSYS.errno,
}
_LOAD, _EQUAL, _RETURN = BPF_LD | BPF_W | BPF_ABS, BPF_JMP | BPF_JEQ | BPF_K, BPF_RET | BPF_K
_NUMBER_AT, _SIXTH_AT = 0, 16 + 5 * 8  # in struct seccomp_data
_SECCOMP = NUMBERS["seccomp"]
_STRICT_CALLS = ("read", "write", "exit", "rt_sigreturn")
_BELOW_STACK = 512  # bytes that stay free: the red zone, and room


@syscall(partial="no SECCOMP_FILTER_FLAG_NEW_LISTENER (EINVAL) nor SECCOMP_RET_USER_NOTIF; SECCOMP_RET_LOG is silent")
def sys_seccomp(task: Task, operation: UInt, flags: UInt, args: Addr) -> Any:
    if operation == SECCOMP_SET_MODE_STRICT:
        if flags or args:
            raise EINVAL
        return set_strict(task)
    if operation == SECCOMP_SET_MODE_FILTER:
        return set_filter(task, flags, args)
    if operation == SECCOMP_GET_ACTION_AVAIL:
        if flags:
            raise EINVAL
        if task.mem.read_u32(args) not in ACTIONS:
            raise EOPNOTSUPP
        return 0
    raise EINVAL


def prctl_set(task: Task, mode: int, program: int) -> Any:
    """prctl(PR_SET_SECCOMP)."""
    if mode == SECCOMP_MODE_STRICT:
        return set_strict(task)
    if mode == SECCOMP_MODE_FILTER:
        return set_filter(task, 0, program)
    raise EINVAL


def mode(task: Task) -> int:
    """prctl(PR_GET_SECCOMP)."""
    return SECCOMP_MODE_FILTER if task.kernel.pids.filters(task.host_tid) else 0


def set_filter(task: Task, flags: int, program: int) -> Installation:
    if flags & ~FLAGS or flags & SECCOMP_FILTER_FLAG_NEW_LISTENER:
        raise EINVAL
    length, instructions = SOCK_FPROG.unpack(task.mem.read(program, SOCK_FPROG.size))
    if not 0 < length <= MAX_INSTRUCTIONS:
        raise EINVAL
    if not task.creds.no_new_privs and not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EACCES
    code = task.mem.read(instructions, length * SOCK_FILTER.size)
    return Installation(task, flags & ~SECCOMP_FILTER_FLAG_LOG, _for_the_host(code))


def set_strict(task: Task) -> Installation:
    if mode(task):
        raise EINVAL
    program = [(_LOAD, 0, 0, _NUMBER_AT)]
    for left, name in enumerate(reversed(_STRICT_CALLS)):
        program.insert(1, (_EQUAL, left + 1, 0, NUMBERS[name]))
    program += [(_RETURN, 0, 0, SECCOMP_RET_TRAP), (_RETURN, 0, 0, SECCOMP_RET_ALLOW)]
    return Installation(task, 0, b"".join(SOCK_FILTER.pack(*instruction) for instruction in program), strict=True)


def _for_the_host(code: bytes) -> bytes:
    """The program with answers that mean the same beside our own filter."""
    parts = [SOCK_FILTER.unpack_from(code, at) for at in range(0, len(code), SOCK_FILTER.size)]
    return b"".join(
        SOCK_FILTER.pack(op, jt, jf, _ANSWERS.get(k & ACTION_MASK, k) if op == _RETURN else k)
        for op, jt, jf, k in parts
    )


def _head(number: int) -> bytes:
    """What lets calls with the pass through, and leaves the accumulator at 0 as a program finds it."""
    return b"".join(
        SOCK_FILTER.pack(*instruction)
        for instruction in (
            (_LOAD, 0, 0, _SIXTH_AT),
            (_EQUAL, 0, 3, number & 0xFFFFFFFF),
            (_LOAD, 0, 0, _SIXTH_AT + 4),
            (_EQUAL, 0, 1, number >> 32),
            (_RETURN, 0, 0, SECCOMP_RET_ALLOW),
            (BPF_LD | BPF_W | BPF_IMM, 0, 0, 0),
        )
    )


class Installation(Rewritten):
    """The call that gives the host kernel our copy of the program; `strict`: instead of SECCOMP_MODE_STRICT."""

    def __init__(self, task: Task, flags: int, code: bytes, strict: bool = False) -> None:
        super().__init__({0: SECCOMP_SET_MODE_FILTER, 1: flags}, nr=_SECCOMP, finish=self._done)
        kernel = task.kernel
        if not kernel.seccomp_pass:
            kernel.seccomp_pass = int.from_bytes(os.urandom(8)) | 1
            lib.nc_set_pass(kernel.seccomp_pass)
        self._task = task
        self._program = _head(kernel.seccomp_pass) + code
        self._strict = strict
        self._at = 0

    def at_stop(self, regs: Any) -> dict[int, int]:
        size = SOCK_FPROG.size + len(self._program)
        at = (regs.rsp - _BELOW_STACK - size) & -16
        header = SOCK_FPROG.pack(len(self._program) // SOCK_FILTER.size, at + SOCK_FPROG.size)
        self._task.mem.write(at, header + self._program)
        self._at = at
        return {**self.registers, 2: at}

    def _done(self, result: int) -> int:
        try:
            self._task.mem.write(self._at, bytes(SOCK_FPROG.size + len(self._program)))
        except EFAULT:
            pass
        if self._strict and result == 0:
            self._task.strict = True
        return result
