"""sentry/platform/filter.py: the program does what the table says, in an interpreter and in the kernel."""

import ctypes
import os
import random
import signal
import struct

import pytest

from sentry.abi import linux
from sentry.abi.x86_64 import AUDIT_ARCH, NUMBERS, SOCK_FILTER
from sentry.errors import EPERM
from sentry.platform.filter import MAX_INSTRUCTIONS, NEVER_NOTIFIED, assemble, guest_filter
from sentry.syscalls import load_all
from sentry.syscalls.constraint import all_of, any_of, arg_in, masked
from sentry.syscalls.declare import TABLE, Entry

ALLOW, NOTIFY = linux.SECCOMP_RET_ALLOW, linux.SECCOMP_RET_USER_NOTIF
ENOSYS_ANSWER = linux.SECCOMP_RET_ERRNO | 38
AUDIT_ARCH_I386 = 0x40000003

load_all()


def run(program, number, args=(0,) * 6, arch=AUDIT_ARCH):
    """A BPF interpreter for the few instructions that are used. Gives the action and the steps it took."""
    data = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, arch, 0, *args)
    accumulator, at, steps = 0, 0, 0
    while True:
        code, jt, jf, k = program[at]
        at += 1
        steps += 1
        if code == 0x20:  # ld [k]
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif code == 0x00:  # ld #k
            accumulator = k
        elif code == 0x54:  # and #k
            accumulator &= k
        elif code == 0x15:  # jeq
            at += jt if accumulator == k else jf
        elif code == 0x35:  # jge
            at += jt if accumulator >= k else jf
        elif code == 0x05:  # ja
            at += k
        elif code == 0x06:  # ret
            return k, steps
        else:
            raise AssertionError(f"opcode {code:#x}")


def expected(entry, args):
    if entry is None:
        return NOTIFY
    if entry.refused:
        return linux.SECCOMP_RET_ERRNO | entry.refused.errno
    if entry.is_native and (entry.when is None or entry.when.holds(args)):
        return ALLOW
    return NOTIFY


def some_registers(rng):
    interesting = (
        0,
        1,
        2,
        3,
        9,
        17,
        0x22,
        0x40022,
        0x81,
        0x10000011,
        0x3D0F00,
        0xFFFFFFFB,
        0xFFFFFFE3,
        2**64 - 1,
    )
    return tuple(
        rng.choice(interesting) if rng.random() < 0.7 else rng.getrandbits(rng.choice((4, 32, 64)))
        for _ in range(6)
    )


def test_every_number_gets_what_the_table_says():
    program = assemble(TABLE)
    rng = random.Random(1)
    for number in [*range(1200), 4999, 5000, 5001, 5002, 5003, 0x3FFFFFFF]:
        for _ in range(10):
            args = some_registers(rng)
            assert run(program, number, args)[0] == expected(TABLE.get(number), args), (number, args)


def test_the_loaders_calls_reach_the_sentry():
    for number in range(5000, 5004):
        assert run(assemble(TABLE), number)[0] == NOTIFY


def test_what_makes_tasks_and_programs_is_the_sentrys():
    for trace_all in (False, True):
        program = assemble(TABLE, trace_all=trace_all)
        for name in ("execve", "execveat", "clone", "fork", "vfork"):
            assert run(program, NUMBERS[name], (linux.SIGCHLD, 0, 0, 0, 0, 0))[0] == NOTIFY


def test_foreign_architectures_are_killed():
    program = assemble(TABLE)
    for arch in (AUDIT_ARCH_I386, 0, 0xC00000B7):
        assert run(program, NUMBERS["getpid"], arch=arch)[0] == linux.SECCOMP_RET_KILL_PROCESS


def test_x32_calls_and_minus_1_are_enosys():
    program = assemble(TABLE)
    for number in (0x40000000, 0x40000000 | NUMBERS["getpid"], 0x40000000 | 520, 0x80000000, -1):
        assert run(program, number)[0] == ENOSYS_ANSWER


def test_trace_all_notifies_everything_but_what_must_not_be():
    program = assemble(TABLE, trace_all=True)
    for name, number in NUMBERS.items():
        wanted = ALLOW if name in NEVER_NOTIFIED else NOTIFY
        assert run(program, number, (0, 0, 0, 0x22, 0, 0))[0] == wanted, name


def test_a_search_is_short():
    program = assemble(TABLE)
    assert max(run(program, number)[1] for number in range(600)) < 40
    assert run(program, NUMBERS["getppid"])[1] <= 14
    assert len(guest_filter(TABLE)) == 8 * len(program)


def entry_when(condition):
    entry = Entry("mmap", 9)
    entry.is_native, entry.when = True, condition
    return {9: entry}


@pytest.mark.parametrize(
    "condition",
    [
        masked(2, 0xFFFFFFFF_FFFFFFFF, 0x1234_00000005),
        masked(2, 0xF0_00000000, 0x10_00000000),
        masked(2, 0xFF, 0x101),  # never
        masked(2, 0, 0),  # always
        arg_in(2, set(range(0, 600, 2))),  # jumps longer than 255
        arg_in(2, {-1, 5}, mask=0x800000FF),
        all_of(masked(0, 1, 1), masked(1, 1, 0), any_of(masked(2, 4, 4), arg_in(2, {1, 3}))),
        any_of(all_of(masked(0, 3, 3), arg_in(2, {5, 6})), masked(2, 0xFFFFFFFF, 7)),
    ],
)
def test_conditions_mean_the_same_in_bpf_and_in_python(condition):
    program = assemble(entry_when(condition))
    rng = random.Random(2)
    for _ in range(2000):
        registers = [rng.getrandbits(rng.choice((2, 3, 10, 64))) for _ in range(6)]
        if rng.random() < 0.2:
            registers[2] = rng.choice((0x1234_00000005, 0x5, 0x10_00000000, 598, 600, 2**64 - 1))
        args = tuple(registers)
        assert run(program, 9, args)[0] == (ALLOW if condition.holds(args) else NOTIFY)


def test_jumps_stay_in_the_program():
    program = assemble(TABLE)
    assert len(program) < MAX_INSTRUCTIONS
    for at, (code, jt, jf, k) in enumerate(program):
        assert jt < 256
        assert jf < 256
        if code & 7 == 5:
            assert at + 1 + max(jt, jf) < len(program)
            assert code != 5 or at + 1 + k < len(program)


def test_refusals_are_answered_by_the_filter():
    entry = Entry("bpf", 321)
    entry.refused = EPERM
    assert run(assemble({321: entry}), 321)[0] == linux.SECCOMP_RET_ERRNO | 1


class Fprog(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


@pytest.mark.parametrize("trace_all", [False, True])
def test_the_kernel_takes_the_program(trace_all):
    """In a child: after it is installed, lane 1 works and a notified call without a listener is ENOSYS."""
    packed = guest_filter(TABLE, trace_all=trace_all)
    assert len(packed) % SOCK_FILTER.size == 0
    program = Fprog(len(packed) // 8, packed)
    libc = ctypes.CDLL(None, use_errno=True)
    pid = os.getpid()
    child = os.fork()
    if child == 0:
        status = 1
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # pytest's handler could not end the child
        signal.alarm(10)
        try:
            libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
            if libc.syscall(NUMBERS["seccomp"], 1, 0, ctypes.byref(program)) == 0:
                ppid = libc.syscall(NUMBERS["getppid"])
                read = libc.syscall(NUMBERS["read"], 0, None, 0)
                clone3 = libc.syscall(NUMBERS["clone3"], None, 0)
                wanted = -1 if trace_all else pid
                status = 0 if (ppid, read, clone3, ctypes.get_errno()) == (wanted, -1, -1, 38) else 2
        finally:
            if not trace_all:
                os._exit(status)
            # exit_group is notified, and nobody listens: end by a fault, by which the status shows.
            ctypes.string_at(0 if status == 0 else 2**47 * (status + 1))
    _, wait_status = os.waitpid(child, 0)
    if trace_all:
        assert os.WTERMSIG(wait_status) == 11
    else:
        assert os.waitstatus_to_exitcode(wait_status) == 0
