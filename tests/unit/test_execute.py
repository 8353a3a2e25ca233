"""sentry/kernel/execute.py: execve from its arguments to the stub that asks for its plan."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from errno import E2BIG
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest

from native import ffi, lib
from sentry.abi.linux import AT_EMPTY_PATH, ERESTARTSYS
from sentry.abi.x86_64 import NUMBERS
from sentry.errors import E2BIG as TooBig
from sentry.fs.anon import anon_inode
from sentry.kernel.creds import Credentials
from sentry.kernel.execute import Execution, Executor, _read_pointers, _script_argv
from sentry.kernel.memory import Memory
from sentry.kernel.ptrace import attach
from sentry.kernel.rewrite import RewrittenCall
from sentry.kernel.task import Task
from sentry.syscalls.tasks import sys_execve
from sentry.vfs.file import File
from tests.unit.kernel_rig import Buffer, KernelRig, with_memory
from tests.unit.test_program import TINY, put
from tests.unit.vfs_rig import Rig

KEPT: list[Buffer] = []


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    files = Rig(made.mounts.root.fs)
    put(files, b"/tool", TINY)
    put(files, b"/script", b"#!/tool -x\n")
    files.close()
    yield made
    made.close()


@pytest.fixture
def task(rig: KernelRig) -> Task:
    made = with_memory(rig.first_task())
    rig.done()
    return made



def string_at(data: bytes) -> int:
    """Its address in this process, which plays the guest."""
    KEPT.append(Buffer())
    return KEPT[-1].put(data + b"\0")


async def handler(task: Task, args: tuple[int, ...]) -> Any:
    return await sys_execve(task, *args[:3])


def execve(rig: KernelRig, task: Task, path: bytes) -> None:
    rig.call(task, handler, string_at(path), 0, 0, name="execve")


def stub() -> int:
    return lib.nc_stub() if lib.nc_stub() >= 0 else lib.nc_make_stub()


def test_execve_of_a_missing_program_leaves_the_task_whole(rig: KernelRig, task: Task) -> None:
    execve(rig, task, b"/missing")
    assert [note[2] for note in rig.done() if note[0] == "reply"] == [-2]
    assert task.call is None


def test_a_program_replaces_another(rig: KernelRig, task: Task) -> None:
    Executor(rig.kernel)
    task.fds.install(File(anon_inode(), None, 0), cloexec=True)
    execve(rig, task, b"/tool")
    assert [note[2] for note in rig.done() if note[0] == "reply"] == [-ERESTARTSYS]
    rig.platform.registers[task.host_tid] = {"rip": 102}
    rig.event_stop(task)
    registers = rig.platform.registers[task.host_tid]
    assert (registers["rip"], registers["rax"], registers["r8"]) == (100, NUMBERS["execveat"], AT_EMPTY_PATH)
    assert task.mem.read_cstr(registers["rsi"]) == b""
    rig.call_stop(task)
    rig.made_again(task)
    assert rig.done()[-1][0] == "let_run"
    (rig.folder / str(task.host_tid) / "exe").symlink_to(f"/proc/self/fd/{stub()}")
    rig.exec_event(task, task.host_tid)
    assert task.call is None and task.loading is not None and task.loading.path == b"/tool"
    assert len(task.fds) == 0 and task.group.exec_count == 1
    assert rig.done()[-1] == ("resume", task.host_tid, 0)


def test_who_attached_while_a_set_id_program_was_found_has_no_hold_on_it(rig: KernelRig, task: Task) -> None:
    Executor(rig.kernel)
    tracer = rig.fork(task)
    tracer.creds = task.creds = Credentials(5, 5, 5, 5, 5, 5, 5, 5)
    execve(rig, task, b"/tool")
    assert isinstance(task.call, RewrittenCall)
    execution: Any = task.call.what
    execution.program = execution.program._replace(creds=task.creds._replace(euid=0, suid=0, fsuid=0))
    attach(tracer, task, 0, seized=True)
    rig.platform.registers[task.host_tid] = {"rip": 102}
    rig.event_stop(task)
    rig.call_stop(task)
    (rig.folder / str(task.host_tid) / "exe").symlink_to(f"/proc/self/fd/{stub()}")
    rig.exec_event(task, task.host_tid)
    assert task.creds.euid == 0 and task.tracee is None and not tracer.group.tracees


def test_an_exec_that_nobody_began_is_killed(rig: KernelRig, task: Task) -> None:
    Executor(rig.kernel)
    rig.exec_event(task, task.host_tid)
    assert ("signal", task.host_tid, SIGKILL, "group") in rig.done()
    assert task.loading is None


def test_an_exec_of_something_else_than_the_stub_is_killed(rig: KernelRig, task: Task) -> None:
    Executor(rig.kernel)
    stub()
    execve(rig, task, b"/tool")
    rig.event_stop(task)
    rig.call_stop(task)
    (rig.folder / str(task.host_tid) / "exe").symlink_to("/bin/sh")
    rig.exec_event(task, task.host_tid)
    assert ("signal", task.host_tid, SIGKILL, "group") in rig.done()


def test_what_the_host_refuses_gives_the_registers_back(rig: KernelRig, task: Task) -> None:
    execve(rig, task, b"/tool")
    rig.event_stop(task)
    rig.call_stop(task)
    rig.platform.registers[task.host_tid]["rax"] = (1 << 64) - E2BIG
    rig.call_stop(task)
    registers = rig.platform.registers[task.host_tid]
    assert (registers["rdi"], registers["rsi"], registers["r8"]) == (KEPT[-1].addr, 0, 0)
    assert registers["rax"] == (1 << 64) - E2BIG and task.call is None


def test_a_script_whose_arguments_cannot_be_written_fails(rig: KernelRig, task: Task) -> None:
    execve(rig, task, b"/script")
    rig.platform.registers[task.host_tid] = {"rsp": 4096}
    rig.done()
    rig.event_stop(task)
    assert rig.done()[-1] == ("finish", task.host_tid, -1, -14, 0)
    assert task.call is None


def test_a_scripts_execution_names_its_interpreters_arguments(task: Task) -> None:
    stack = Buffer(8192)
    coro = sys_execve(task, string_at(b"/script"), 0, 0)
    with pytest.raises(StopIteration) as stop:
        coro.send(None)
    execution = stop.value.value
    assert isinstance(execution, Execution)

    class Regs:
        rsp = stack.addr + 8192

    argv = execution.at_stop(Regs)[2]
    words = []
    while pointer := task.mem.read_u64(argv):
        words.append(task.mem.read_cstr(pointer))
        argv += 8
    assert words == [b"/tool", b"-x", b"/script"]


# --- a script's arguments in the caller's memory


class Words:
    """argv in this process's memory, and a stack below which the new one goes."""

    def __init__(self, *words: bytes) -> None:
        self.keep: list[Any] = [ffi.new("char[]", word) for word in words]
        self.pointers = [int(ffi.cast("uintptr_t", word)) for word in self.keep]
        self.vector = ffi.new("uint64_t[]", [*self.pointers, 0])
        self.stack = ffi.new("char[65536]")
        self.argv = int(ffi.cast("uintptr_t", self.vector))
        self.rsp = int(ffi.cast("uintptr_t", self.stack)) + 65536

    def written(self, at: int) -> list[bytes]:
        found = []
        while pointer := struct.unpack("<Q", ffi.buffer(ffi.cast("char *", at), 8))[0]:
            found.append(ffi.string(ffi.cast("char *", pointer)))
            at += 8
        return found


class Caller:
    mem = Memory(os.getpid())


@pytest.mark.parametrize("words", [[b"run", b"one", b"two"], [b"run"], []])
def test_a_scripts_arguments_replace_the_first(words: list[bytes]) -> None:
    memory = Words(*words)
    at = _script_argv(Caller(), memory.rsp, memory.argv, [b"/bin/sh", b"-e", b"/d/run"])  # type: ignore[arg-type]
    assert memory.written(at) == [b"/bin/sh", b"-e", b"/d/run", *words[1:]]
    assert at < memory.rsp - 128  # the red zone is the caller's


def test_a_script_without_arguments_at_all() -> None:
    memory = Words()
    at = _script_argv(Caller(), memory.rsp, 0, [b"/bin/sh", b"/d/run"])  # type: ignore[arg-type]
    assert memory.written(at) == [b"/bin/sh", b"/d/run"]


def test_more_pointers_than_linux_takes_are_e2big() -> None:
    endless = ffi.new("uint64_t[]", [1] * ((3 << 20) // 8))
    with pytest.raises(TooBig):
        _read_pointers(Caller(), int(ffi.cast("uintptr_t", endless)))  # type: ignore[arg-type]
