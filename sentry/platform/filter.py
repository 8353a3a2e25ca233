"""The guests' seccomp program, generated from the syscall table: who answers which call.

    program = guest_filter(TABLE)               # bytes: struct sock_filter instructions, 8 each
    program = guest_filter(TABLE, trace_all=True)

The program looks at the architecture (a foreign one kills the process: 32-bit calls have other numbers),
fails x32 calls with ENOSYS and then searches the number in a binary tree of ranges, some seven comparisons
deep. A leaf is one of: ALLOW (lane 1), an errno (refused calls), USER_NOTIF (all else, the
loader's and the zygote's magic numbers included), or a check of registers that ends in ALLOW or USER_NOTIF.

Under ``trace_all`` (--strace) lane-1 calls and refused ones are notified too, so that each is shown; the
sentry then lets the host run them (exit and exit_group as well: they are safe to continue, and a trace that
lacks them is puzzling). NEVER_NOTIFIED lists what is allowed even so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    BPF_ABS,
    BPF_ALU,
    BPF_AND,
    BPF_JA,
    BPF_JEQ,
    BPF_JGE,
    BPF_JMP,
    BPF_K,
    BPF_LD,
    BPF_RET,
    BPF_W,
    SECCOMP_RET_ALLOW,
    SECCOMP_RET_ERRNO,
    SECCOMP_RET_KILL_PROCESS,
    SECCOMP_RET_USER_NOTIF,
)
from sentry.abi.x86_64 import AUDIT_ARCH, NUMBERS, SOCK_FILTER, X32_SYSCALL_BIT
from sentry.errors import ENOSYS
from sentry.syscalls.constraint import AllOf, AnyOf, ArgIn, Constraint, Masked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentry.syscalls.declare import Entry

NEVER_NOTIFIED = {
    "rt_sigreturn": "a notification would add a place where a signal can interrupt it, and it has no result",
    "restart_syscall": "the host kernel issues it with state of its own, which an interruption would lose",
    "pause": "the sentry parks a waiting task in it, which must cost the listener nothing",
}

# A program is a list of (code, jt, jf, k) with jumps counted from the next instruction.
Instruction = tuple[int, int, int, int]
Program = list[Instruction]

MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
OFFSET_NR, OFFSET_ARCH, OFFSET_ARGS = 0, 4, 16
LOW = 0xFFFF_FFFF


def guest_filter(table: Mapping[int, Entry], *, trace_all: bool = False) -> bytes:
    """The packed program for the declared calls; len() // 8 is the number of instructions."""
    program = assemble(table, trace_all=trace_all)
    return b"".join(SOCK_FILTER.pack(*instruction) for instruction in program)


def assemble(table: Mapping[int, Entry], *, trace_all: bool = False) -> Program:
    """The program as (code, jt, jf, k) tuples."""
    program = [
        _load(OFFSET_ARCH),
        _jump(BPF_JEQ, AUDIT_ARCH, 1, 0),
        _return(SECCOMP_RET_KILL_PROCESS),
        _load(OFFSET_NR),
        _jump(BPF_JGE, X32_SYSCALL_BIT, 0, 1),  # -1 as well, which Linux answers alike
        _return(SECCOMP_RET_ERRNO | ENOSYS.errno),
        *_search(_ranges(table, trace_all)),
    ]
    if len(program) > MAX_INSTRUCTIONS:
        raise ValueError(
            f"the guest filter has {len(program)} instructions; the kernel takes {MAX_INSTRUCTIONS}"
        )
    return program


# --- which leaf a number has


def leaf_of(entry: Entry, trace_all: bool) -> Program:
    """The instructions that decide about one call; the number is in the accumulator, and not needed any
    more.
    """
    if trace_all and entry.name in NEVER_NOTIFIED:
        return [_return(SECCOMP_RET_ALLOW)]
    if trace_all:
        return NOTIFY
    if entry.refused is not None:
        return [_return(SECCOMP_RET_ERRNO | entry.refused.errno)]
    if not entry.is_native:
        return NOTIFY
    allow = [_return(SECCOMP_RET_ALLOW)]
    return allow if entry.when is None else _condition(entry.when, allow, NOTIFY)


def _ranges(table: Mapping[int, Entry], trace_all: bool) -> list[tuple[int, Program]]:
    """(first number, leaf), ascending from 0; neighbours with the same leaf are one range."""
    ranges: list[tuple[int, Program]] = []
    for number in range(max([*table, *NUMBERS.values()]) + 2):
        entry = table.get(number)
        leaf = NOTIFY if entry is None else leaf_of(entry, trace_all)
        if not ranges or ranges[-1][1] != leaf:
            ranges.append((number, leaf))
    return ranges


def _search(ranges: list[tuple[int, Program]]) -> Program:
    """A balanced tree of comparisons over the ranges."""
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    return _branch(BPF_JGE, ranges[middle][0], above, below)


# --- instructions


def _load(offset: int) -> Instruction:
    return (BPF_LD | BPF_W | BPF_ABS, 0, 0, offset)


def _and(mask: int) -> Instruction:
    return (BPF_ALU | BPF_AND | BPF_K, 0, 0, mask)


def _jump(test: int, k: int, jt: int, jf: int) -> Instruction:
    return (BPF_JMP | test | BPF_K, jt, jf, k)


def _return(action: int) -> Instruction:
    return (BPF_RET | BPF_K, 0, 0, action)


NOTIFY: Program = [_return(SECCOMP_RET_USER_NOTIF)]


def _branch(test: int, k: int, yes: Program, no: Program) -> Program:
    """``no`` follows the comparison, ``yes`` follows that; both end in a return. Conditional jumps reach
    255.
    """
    if len(no) <= 255:
        return [_jump(test, k, len(no), 0), *no, *yes]
    return [_jump(test, k, 0, 1), (BPF_JMP | BPF_JA, 0, 0, len(no)), *no, *yes]


def _condition(constraint: Constraint, yes: Program, no: Program) -> Program:
    """Ends in ``yes`` if the registers satisfy the constraint, else in ``no``."""
    if isinstance(constraint, AllOf):
        for part in reversed(constraint.parts):
            yes = _condition(part, yes, no)
        return yes
    if isinstance(constraint, AnyOf):
        for part in reversed(constraint.parts):
            no = _condition(part, yes, no)
        return no
    if isinstance(constraint, ArgIn):
        return _arg_in(constraint, yes, no)
    if isinstance(constraint, Masked):
        return _masked(constraint, yes, no)
    raise TypeError(f"{constraint!r} has no BPF form")


def _arg_in(constraint: ArgIn, yes: Program, no: Program) -> Program:
    tests = no
    for value in reversed(constraint.values):
        tests = _branch(BPF_JEQ, value, yes, tests)
    masking = [] if constraint.mask == LOW else [_and(constraint.mask)]
    return [_load(OFFSET_ARGS + 8 * constraint.arg), *masking, *tests]


def _masked(constraint: Masked, yes: Program, no: Program) -> Program:
    """Each 32-bit half that the mask touches, the high one first."""
    for shift in (0, 32):
        mask, value = constraint.mask >> shift & LOW, constraint.value >> shift & LOW
        if mask or value:
            masking = [] if mask == LOW else [_and(mask)]
            load = _load(OFFSET_ARGS + 8 * constraint.arg + shift // 8)
            yes = [load, *masking, *_branch(BPF_JEQ, value, yes, no)]
    return yes
