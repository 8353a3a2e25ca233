"""sentry/service.py: what the owner of a container asks over the control socket, and what it is told."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sentry.boot import ProcessConfig, SandboxConfig
from sentry.container import Container
from sentry.control import ControlError, make_listener
from sentry.kernel.spawn import SpawnError
from sentry.kernel.task import Task
from sentry.log import Log
from sentry.service import Service
from tests.unit.kernel_rig import KernelRig

PID = 1000  # a first task's pid as its owner knows it: 1000 and up, in the order of their making
KILL, TERM, CHLD, CONT, STOP = 9, 15, 17, 18, 19


class Answer:
    """Stands for a Reply: what was answered, or nothing yet."""

    def __init__(self) -> None:
        self.fields: dict[str, Any] | None = None
        self.error = ""
        self.on_close: Any = None

    def send(self, fields: dict[str, Any] | None = None, fds: list[int] | None = None) -> None:
        self.fields = fields or {}

    def fail(self, text: str) -> None:
        self.error = text


class Init:
    """A spawn that waits for go()."""

    def __init__(self, error: str = "") -> None:
        self.error, self.begun = error, 0
        self.ready = SimpleNamespace(done=True)

    def go(self) -> None:
        self.begun += 1
        if self.error:
            raise SpawnError(self.error)


class World(KernelRig):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        listener = make_listener(str(folder))
        self.pids: dict[int, int] = {}
        self.log_r, log = os.pipe()
        self.host: Any = SimpleNamespace(control=listener.detach(), strace=-1, log=log, pid_of=self.pid_of)
        self.service = Service(
            self.kernel,
            SandboxConfig("c", ProcessConfig([b"sh"], [])),
            self.host,
            Log(log, json=False, plain=True),
        )
        self.init = self.first_task(1)
        self.service.init = Init()  # type: ignore[assignment]
        self.service.container = Container(self.kernel, self.service.config, self.mounts, self.host)
        self.service.container.init_group = self.init.group
        self.init_pid = self.service._register(self.init)
        self.done()

    def pid_of(self, host_tid: int) -> int:
        if host_tid in self.platform.gone:
            raise OSError(3, "process")
        return self.pids.setdefault(host_tid, PID + len(self.pids))

    def ask(self, op: str, fds: list[int] | None = None, **fields: Any) -> Answer:
        answer: Any = Answer()
        self.service.server.handlers[op]({"op": op, **fields}, fds or [], answer)
        return answer

    def signals(self) -> list[tuple[int, int]]:
        """(guest pid, signal)."""
        return [(self.kernel.tasks[note[1]].tid, note[2]) for note in self.done() if note[0] == "signal"]

    def close(self) -> None:
        super().close()
        self.service.server.close()
        os.close(self.host.log)
        os.close(self.log_r)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


def test_start_once(world: World) -> None:
    assert world.ask("state").fields == {"status": "created"}
    assert world.ask("start").fields == {}
    assert world.ask("state").fields == {"status": "running"}
    assert world.ask("start").error == "cannot start an already running container"
    assert world.service.init.begun == 1  # type: ignore[union-attr]


def test_start_that_fails_says_why(world: World) -> None:
    world.service.init = Init("cannot pass the arguments: argument list too long")  # type: ignore[assignment]
    assert world.ask("start").error == "cannot pass the arguments: argument list too long"


def test_wait_is_answered_when_the_task_ends_and_ever_after(world: World) -> None:
    first, second = (world.ask("wait", pid=world.init_pid) for _ in range(2))
    assert first.fields is None
    world.dies(world.init, 3 << 8)
    assert first.fields == second.fields == {"status": 3 << 8}
    assert world.ask("wait", pid=world.init_pid).fields == {"status": 3 << 8}
    assert world.ask("wait", pid=1).error == "no such process"
    assert not world.kernel.running  # init is gone, and with it the sandbox


def test_only_first_tasks_have_a_status(world: World) -> None:
    child = world.fork(world.init)
    assert world.ask("wait", pid=child.host_tid).error == "no such process"
    world.dies(child, 9)
    assert world.service._ended == {}


def test_a_waiter_that_leaves_takes_its_process_along_if_it_said_so(world: World) -> None:
    assert world.ask("wait", pid=world.init_pid).on_close is None
    answer = world.ask("wait", pid=world.init_pid, kill_on_close=True)
    answer.on_close()
    assert world.signals() == [(1, KILL)]
    world.dies(world.init, 9)
    answer.on_close()  # too late, and no harm
    assert world.signals() == []


def test_signals_before_the_start_end_what_has_no_handlers_yet(world: World) -> None:
    for signo in (TERM, CHLD, CONT):
        assert world.ask("signal", pid=world.init_pid, signal=signo).fields == {}
    assert world.signals() == [(1, KILL), (1, CHLD), (1, CONT)]
    world.ask("start")
    world.ask("signal", pid=world.init_pid, signal=TERM)
    assert world.signals() == [(1, TERM)]


def test_signals_to_all_and_to_nobody(world: World) -> None:
    world.fork(world.init, pid=5)
    world.ask("start")
    world.done()
    assert world.ask("signal", pid="all", signal=TERM).fields == {}
    assert world.signals() == [(1, TERM), (5, TERM)]
    assert world.ask("signal", pid=77, signal=TERM).error == "process already finished"
    for signo in (0, 65, -1):
        assert world.ask("signal", pid=world.init_pid, signal=signo).error == f"unknown signal {signo}"


def test_a_process_that_died_meanwhile_is_passed_over(world: World) -> None:
    child = world.fork(world.init, pid=5)
    world.done()
    world.platform.gone.add(child.host_tid)
    assert world.ask("signal", pid="all", signal=TERM).fields == {}
    assert world.ask("pids").fields == {"pids": [world.init_pid]}


def test_pause_and_resume_stop_and_continue_everybody(world: World) -> None:
    world.fork(world.init, pid=5)
    world.done()
    world.ask("pause")
    world.ask("resume")
    assert world.signals() == [(1, STOP), (5, STOP), (1, CONT), (5, CONT)]


def test_limits_replace_those_of_before(world: World) -> None:
    world.kernel.memory_limit = 7
    assert world.ask("limits", pids_limit=5, cpu_quota=1000).fields == {}
    kernel = world.kernel
    assert (kernel.memory_limit, kernel.pids_limit, kernel.cpu_max) == (None, 5, (1000, 100_000))


def test_hold_and_release(world: World) -> None:
    assert world.ask("hold").fields == {}
    assert world.ask("release").fields == {}
    assert [note for note in world.platform.notes if note[0] == "hold"][-2:] == [("hold", 1), ("hold", 0)]


def test_stats_count_tasks(world: World) -> None:
    fields = world.ask("stats").fields
    assert fields is not None and fields["tasks"] == 1
    assert all(isinstance(value, int) for value in fields.values())


def test_stop_ends_the_loop(world: World) -> None:
    world.kernel.running = True
    assert world.ask("stop").fields == {}
    assert not world.kernel.running


# --- exec

PROCESS = {"args": ["tool"], "env": [], "cwd": "/", "groups": [], "caps": {}, "rlimits": {}, "uid": 0, "gid": 0}


def order(world: World) -> tuple[Answer, Any]:
    """An exec that waits for its task: the answer, and the spawn."""
    answer = world.ask("exec", process=PROCESS)
    return answer, world.life._spawns[-1]


def stand_in(spawn: Any, task: Task) -> None:
    spawn.go = lambda: None
    spawn.ready.set(task)


def test_exec_answers_with_the_pid_once_the_program_is_found(world: World) -> None:
    answer, spawn = order(world)
    assert answer.fields is None
    task = world.first_task(9)
    world.ready(lambda: stand_in(spawn, task))
    assert answer.fields == {"pid": PID + 1}
    waiter = world.ask("wait", pid=PID + 1)
    world.dies(task, 1 << 8)
    assert waiter.fields == {"status": 1 << 8} and world.kernel.running is False


def test_exec_of_a_program_that_is_missing(world: World) -> None:
    answer, spawn = order(world)
    world.ready(lambda: spawn.ready.fail(SpawnError('exec: "tool": executable file not found in $PATH')))
    assert answer.error == 'exec: "tool": executable file not found in $PATH'


def test_exec_whose_task_is_gone_before_it_could_be_named(world: World) -> None:
    answer, spawn = order(world)
    task = world.first_task(9)
    world.platform.gone.add(task.host_tid)
    world.ready(lambda: stand_in(spawn, task))
    assert answer.error and answer.fields is None


def test_exec_in_a_stopped_container(world: World) -> None:
    world.dies(world.init)
    with pytest.raises(ControlError, match="cannot exec in a stopped container"):
        order(world)  # raised: the server closes the descriptors that came along


def test_a_bug_is_one_loud_record(world: World) -> None:
    entry = SimpleNamespace(name="frobnicate")
    world.service.on_bug(world.init, entry, (1,), ZeroDivisionError("oops"))
    record = os.read(world.log_r, 65536).decode()
    assert record.startswith("runsc-py: error: bug in the sentry: frobnicate") and "ZeroDivisionError: oops" in record


def test_a_guest_who_has_found_a_bug_does_not_fill_the_log(world: World) -> None:
    entry = SimpleNamespace(name="frobnicate")
    told = 0
    for _ in range(3000):
        world.service.on_bug(None, entry, (), ZeroDivisionError("oops"))
        if world.service.bugs % 50 == 0:
            told += os.read(world.log_r, 65536).count(b"bug in the sentry") if _waiting(world.log_r) else 0
    assert 100 <= told <= 110
    assert world.service.bugs == 3000


def _waiting(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])
