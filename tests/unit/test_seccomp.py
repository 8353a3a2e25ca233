"""sentry/syscalls/seccomp.py: a guest's filter on its way to the host kernel."""

from __future__ import annotations

from collections.abc import Iterator
from errno import E2BIG, EACCES, EFAULT, EINVAL, EOPNOTSUPP
from pathlib import Path
from signal import SIGKILL, SIGSYS
from typing import Any

import pytest

from sentry.abi import linux as L
from sentry.abi.x86_64 import NUMBERS, SOCK_FILTER, SOCK_FPROG
from sentry.kernel.creds import Credentials
from sentry.kernel.task import Task
from sentry.syscalls.seccomp import Installation
from tests.unit.kernel_rig import Buffer, KernelRig, answer, with_memory
from tests.unit.test_filter import run

ALLOW, ERRNO = L.SECCOMP_RET_ALLOW, L.SECCOMP_RET_ERRNO
RETURN = L.BPF_RET | L.BPF_K
SECCOMP = NUMBERS["seccomp"]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    yield made
    made.close()


@pytest.fixture
def task(rig: KernelRig) -> Task:
    made = with_memory(rig.first_task())
    rig.done()
    return made


def program(*instructions: tuple[int, int, int, int]) -> tuple[int, list[Buffer]]:
    """struct sock_fprog in this process's memory, which plays the guest's."""
    header, code = Buffer(), Buffer()
    where = code.put(b"".join(SOCK_FILTER.pack(*one) for one in instructions))
    return header.put(SOCK_FPROG.pack(len(instructions), where)), [header, code]


def install(rig: KernelRig, task: Task, *instructions: tuple[int, int, int, int], flags: int = 0) -> tuple[Any, Buffer]:
    """The call up to its entry; what the host kernel would read, and the stack it lies on."""
    at, _keep = program(*instructions)

    def handler(task: Task, args: tuple[int, ...]) -> Any:
        return answer(task, "seccomp", *args)

    stack = Buffer(65536)
    rig.platform.registers[task.host_tid] = {"rip": 102, "rsp": stack.addr + 65536}
    rig.call(task, handler, L.SECCOMP_SET_MODE_FILTER, flags, at, name="seccomp")
    rig.event_stop(task)
    return read_program(task, rig.platform.registers[task.host_tid]["rdx"]), stack


def read_program(task: Task, at: int) -> list[tuple[int, ...]]:
    length, where = SOCK_FPROG.unpack(task.mem.read(at, SOCK_FPROG.size))
    data = task.mem.read(where, length * SOCK_FILTER.size)
    return [SOCK_FILTER.unpack_from(data, at) for at in range(0, len(data), SOCK_FILTER.size)]


def test_a_filter_goes_to_the_host_with_a_head_that_knows_the_pass(rig: KernelRig, task: Task) -> None:
    given, stack = install(rig, task, (RETURN, 0, 0, ERRNO | 5))
    registers = rig.platform.registers[task.host_tid]
    assert (registers["rax"], registers["rdi"], registers["rsi"]) == (SECCOMP, L.SECCOMP_SET_MODE_FILTER, 0)
    number = rig.kernel.seccomp_pass
    assert registers["r9"] == number != 0
    assert registers["rdx"] < stack.addr + 65536 - 128  # the red zone is the caller's
    assert run(given, NUMBERS["pause"])[0] == ERRNO | 5
    assert run(given, NUMBERS["pause"], (0, 0, 0, 0, 0, number))[0] == ALLOW
    for near in (number ^ 1, number ^ 1 << 63, number & 0xFFFFFFFF, 0):
        assert run(given, NUMBERS["pause"], (0, 0, 0, 0, 0, near))[0] == ERRNO | 5
    rig.call_stop(task)
    rig.platform.registers[task.host_tid]["rax"] = 0
    rig.call_stop(task)
    assert not any(stack.get(65536))  # nobody reads the pass there afterwards
    assert rig.platform.registers[task.host_tid]["r9"] == 0


def test_what_would_mean_something_else_beside_ours_is_replaced(rig: KernelRig, task: Task) -> None:
    given, _ = install(
        rig, task, (RETURN, 0, 0, L.SECCOMP_RET_LOG | 3), (RETURN, 0, 0, L.SECCOMP_RET_TRACE), (6, 0, 0, ALLOW), (16 | 6, 0, 0, 0)
    )
    assert [one[3] for one in given[-4:]] == [ALLOW, ERRNO | 38, ALLOW, 0]


def test_the_order_of_the_checks(task: Task) -> None:
    at, _keep = program((RETURN, 0, 0, ALLOW))
    none, _keep_too = program()
    where = Buffer()
    assert answer(task, "seccomp", 9, 0, 0) == -EINVAL
    assert answer(task, "seccomp", L.SECCOMP_SET_MODE_FILTER, L.SECCOMP_FILTER_FLAG_NEW_LISTENER, 0) == -EINVAL
    assert answer(task, "seccomp", L.SECCOMP_SET_MODE_FILTER, 0, 0) == -EFAULT
    assert answer(task, "seccomp", L.SECCOMP_SET_MODE_FILTER, 0, none) == -EINVAL
    user = Credentials(5, 5, 5, 5)
    task.creds = user
    assert answer(task, "seccomp", L.SECCOMP_SET_MODE_FILTER, 0, at) == -EACCES
    assert answer(task, "seccomp", L.SECCOMP_SET_MODE_FILTER, 0, none) == -EINVAL
    task.creds = user._replace(no_new_privs=True)
    assert isinstance(answer(task, "seccomp", L.SECCOMP_SET_MODE_FILTER, 0, at), Installation)
    assert isinstance(answer(task, "prctl", L.PR_SET_SECCOMP, L.SECCOMP_MODE_FILTER, at), Installation)
    assert answer(task, "prctl", L.PR_SET_SECCOMP, 3, at) == -EINVAL
    assert answer(task, "seccomp", L.SECCOMP_GET_ACTION_AVAIL, 0, where.put(ALLOW.to_bytes(4, "little"))) == 0
    where.put(L.SECCOMP_RET_USER_NOTIF.to_bytes(4, "little"))
    assert answer(task, "seccomp", L.SECCOMP_GET_ACTION_AVAIL, 0, where.addr) == -EOPNOTSUPP


def test_the_mode_is_what_the_host_counts(rig: KernelRig, task: Task) -> None:
    assert answer(task, "prctl", L.PR_GET_SECCOMP) == 0
    rig.status(task, Seccomp_filters="3")
    assert answer(task, "prctl", L.PR_GET_SECCOMP) == 2
    assert answer(task, "seccomp", L.SECCOMP_SET_MODE_STRICT, 0, 0) == -EINVAL


def test_strict_mode_is_a_filter_whose_signal_kills(rig: KernelRig, task: Task) -> None:
    what = answer(task, "seccomp", L.SECCOMP_SET_MODE_STRICT, 0, 0)
    stack = Buffer(8192)

    class Regs:
        rsp = stack.addr + 8192

    given = read_program(task, what.at_stop(Regs)[2])
    for name, number in NUMBERS.items():
        wanted = ALLOW if name in ("read", "write", "exit", "rt_sigreturn") else L.SECCOMP_RET_TRAP
        assert run(given, number)[0] == wanted, name
    assert what.finish(-E2BIG) == -E2BIG and not task.strict
    assert what.finish(0) == 0 and task.strict
    rig.done()
    rig.signal_stop(task, SIGSYS)
    assert ("signal", task.host_tid, SIGKILL, "group") in rig.done()


def test_a_program_loads_with_the_pass(rig: KernelRig, task: Task) -> None:
    from sentry.kernel.execute import Executor

    executor = Executor(rig.kernel)
    rig.kernel.seccomp_pass = 1 << 63 | 5
    executor._give_pass(task.host_tid)
    assert executor._regs.r15 == 1 << 63 | 5
