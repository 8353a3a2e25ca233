"""sentry/kernel/spawn.py: a first task from the order to its program, in runc's words when it fails."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from native import lib
from sentry.abi.linux import AT_EMPTY_PATH
from sentry.abi.x86_64 import NUMBERS
from sentry.boot import ProcessConfig
from sentry.errors import E2BIG
from sentry.kernel.execute import Execution
from sentry.kernel.lifecycle import EVENT_FORK, EVENT_STOP, MAGIC_ZYGOTE
from sentry.kernel.spawn import SCRATCH_ADDRESS, Spawn, SpawnError, write_arguments
from sentry.kernel.task import Task
from sentry.syscalls.tasks import sys_execve
from tests.unit.kernel_rig import KernelRig, container, with_memory
from tests.unit.test_program import TINY, put
from tests.unit.vfs_rig import Rig

ZYGOTE = 8_500_000
STUB = 61
SIZE = 8 << 20


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    made.life.zygote.tid = ZYGOTE
    files = Rig(made.mounts.root.fs)
    for folder in (b"/bin", b"/usr", b"/usr/bin", b"/home"):
        put(files, folder, None)
    put(files, b"/usr/bin/tool", TINY)
    put(files, b"/bin/denied", TINY, 0o644)
    put(files, b"/bin/text", b"text")
    put(files, b"/bin/script", b"#!/usr/bin/tool -x\n")
    put(files, b"/home/local", TINY)
    files.close()
    yield made
    made.close()


@pytest.fixture
def scratch() -> Iterator[int]:
    """The task's scratch memory, at its place in this process."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    at = libc.mmap(SCRATCH_ADDRESS, SIZE, 3, 0x100022, -1, 0)  # private, anonymous, fixed but nothing replaced
    assert at == SCRATCH_ADDRESS
    yield at
    libc.munmap(ctypes.c_void_p(at), ctypes.c_size_t(SIZE))


def spawn(rig: KernelRig, *args: bytes, **fields: Any) -> Spawn:
    """A spawn that stands at its execve."""
    process = ProcessConfig(args=list(args), env=fields.pop("env", [b"PATH=/bin:/usr/bin"]), **fields)
    made = Spawn(rig.kernel, container(rig), process, {}, STUB)
    rig.life.order(made)
    rig.push(lib.NC_EV_SYSCALL, tid=ZYGOTE, nr=MAGIC_ZYGOTE, id=next(rig.call_ids))
    rig.run()
    tid = next(rig.tids)
    rig.status(tid, 1)
    rig.platform.messages[ZYGOTE] = tid
    rig.stop(ZYGOTE, EVENT_FORK)
    rig.stop(tid, EVENT_STOP)
    rig.done()
    rig.call(tid, execve, name="execve")
    return made


async def execve(task: Task, args: tuple[int, ...]) -> Any:
    return await sys_execve(task, *args[:3])


def refused(made: Spawn) -> str:
    """Why the program can't be run; the task is killed."""
    job = made.kernel.scheduler.spawn(made.ready.wait())
    assert isinstance(job.error, SpawnError)
    return str(job.error)


def found(made: Spawn) -> bytes:
    assert made.ready.done and made._program is not None
    return made._program.path


# --- looking for the program


def test_a_name_is_looked_for_in_the_processs_path(rig: KernelRig) -> None:
    assert found(spawn(rig, b"tool")) == b"/usr/bin/tool"


def test_without_a_path_the_usual_places_are_searched(rig: KernelRig) -> None:
    assert found(spawn(rig, b"tool", env=[])) == b"/usr/bin/tool"


def test_an_empty_part_of_the_path_is_the_working_directory(rig: KernelRig) -> None:
    assert found(spawn(rig, b"local", env=[b"PATH=/bin:"], cwd=b"/home")) == b"./local"


def test_a_name_with_a_slash_is_not_searched(rig: KernelRig) -> None:
    assert found(spawn(rig, b"bin/../usr/bin/tool")) == b"bin/../usr/bin/tool"


@pytest.mark.parametrize(
    ("args", "fields", "text"),
    [
        ([b"missing"], {}, 'exec: "missing": executable file not found in $PATH'),
        ([b"/missing"], {}, 'exec: "/missing": stat /missing: no such file or directory'),
        ([b"/bin/text/x"], {}, 'exec: "/bin/text/x": stat /bin/text/x: not a directory'),
        ([b"denied"], {}, 'exec: "denied": permission denied'),
        ([b"/bin/denied"], {}, 'exec: "/bin/denied": permission denied'),
        ([b"/bin"], {}, 'exec: "/bin": permission denied'),
        ([b"text"], {}, 'exec: "text": exec format error'),
        ([b"/bin/text"], {}, 'exec: "/bin/text": exec format error'),
        ([], {}, "args must not be empty"),
        ([b""], {}, "args must not be empty"),
        (
            [b"tool"],
            {"cwd": b"/nowhere"},
            'error during container init: chdir to cwd ("/nowhere") set in config.json failed: no such file or directory',
        ),
        (
            [b"tool"],
            {"cwd": b"/bin/text"},
            'error during container init: chdir to cwd ("/bin/text") set in config.json failed: not a directory',
        ),
        ([b"\xff"], {}, 'exec: "\\xff": executable file not found in $PATH'),
    ],
)
def test_what_cannot_be_run_is_said_in_runcs_words(
    rig: KernelRig, args: list[bytes], fields: dict[str, Any], text: str
) -> None:
    made = spawn(rig, *args, **fields)
    assert refused(made) == text
    assert made.task is not None
    assert ("signal", made.task.host_tid, 9, "group") in rig.done()


def test_a_working_directory_needs_execute_permission(rig: KernelRig) -> None:
    root = rig.mounts.root_path.dentry
    root.inode.mode &= ~0o777
    try:
        made = spawn(rig, b"tool", uid=5, gid=5)
        assert refused(made).endswith("failed: permission denied")
    finally:
        root.inode.mode |= 0o755


def test_a_task_killed_before_its_program_begins_is_reported(rig: KernelRig) -> None:
    process = ProcessConfig([b"tool"], [])
    made = Spawn(rig.kernel, container(rig), process, {}, STUB)
    rig.life.order(made)
    rig.push(lib.NC_EV_SYSCALL, tid=ZYGOTE, nr=MAGIC_ZYGOTE, id=next(rig.call_ids))
    rig.run()
    rig.platform.messages[ZYGOTE] = 8_600_000
    rig.stop(ZYGOTE, EVENT_FORK)
    rig.dies(8_600_000, 9)
    assert refused(made) == "the process was killed before it began"


# --- going on


def strings(task: Task, at: int) -> list[bytes]:
    found = []
    while pointer := task.mem.read_u64(at):
        found.append(task.mem.read_cstr(pointer))
        at += 8
    return found


def test_the_waiting_execve_becomes_that_of_the_stub(rig: KernelRig, scratch: int) -> None:
    made = spawn(rig, b"script", b"one", b"", env=[b"PATH=/bin", b"A=b"])
    task = made.task
    assert task is not None
    with_memory(task)
    made.go()
    rig.ready(lambda: None)
    rig.event_stop(task)
    registers = rig.platform.registers[task.host_tid]
    assert (registers["rax"], registers["rdi"], registers["r8"]) == (NUMBERS["execveat"], STUB, AT_EMPTY_PATH)
    assert task.mem.read_cstr(registers["rsi"]) == b""
    assert strings(task, registers["rdx"]) == [b"/usr/bin/tool", b"-x", b"/bin/script", b"one", b""]
    assert strings(task, registers["r10"]) == [b"PATH=/bin", b"A=b"]
    assert rig.done()[-1] == ("resume_to_call", task.host_tid, 0)
    call: Any = task.call
    assert isinstance(call.what, Execution) and call.what.program.path == b"/bin/script"


def test_the_order_to_start_reaches_a_task_that_sleeps(rig: KernelRig, scratch: int) -> None:
    made = spawn(rig, b"tool")
    task = made.task
    assert task is not None
    with_memory(task)
    rig.advance(4)
    rig.advance(4)
    rig.event_stop(task)
    assert rig.done()[-1] == ("park", task.host_tid, 0)
    made.go()
    rig.ready(lambda: None)
    rig.event_stop(task)
    assert rig.done()[-1][:1] == ("finish",)  # to be made again by the host
    rig.call(task, execve, name="execve")
    assert task.call is not None and rig.done()[-1][0] == "reply"


def test_an_argument_block_that_is_too_long(rig: KernelRig, scratch: int) -> None:
    task = with_memory(rig.first_task())
    with pytest.raises(E2BIG):
        write_arguments(task, [b"x" * (3 << 20)] * 2, [])
    made = spawn(rig, b"tool", b"x" * (7 << 20))
    with pytest.raises(SpawnError, match="cannot pass the arguments: argument list too long"):
        made.go()


def test_the_block_ends_each_list_with_a_null(rig: KernelRig, scratch: int) -> None:
    task = with_memory(rig.first_task())
    empty, argv, envp = write_arguments(task, [], [])
    assert task.mem.read(empty, 24) == bytes(24)
    assert struct.unpack("<2Q", task.mem.read(argv, 16)) == (0, 0) and envp == argv + 8
