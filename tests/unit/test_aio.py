"""Asynchronous I/O: contexts, their room, and what ends with them.

Covers: sentry.fs.aio, sentry.syscalls.aio
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EAGAIN, EFAULT, EINVAL
from pathlib import Path
from typing import Any

import pytest

from sentry.abi.linux import EPOLLIN, EPOLLRDNORM, ERESTARTSYS, MAP_ANONYMOUS, MAP_PRIVATE
from sentry.abi.x86_64 import NUMBERS
from sentry.fs import aio
from sentry.fs.aio import Completion, Context, Poll
from sentry.fs.eventfd import EventFd
from sentry.fs.pipe import make_pipe
from sentry.kernel.fdtable import statistics
from sentry.kernel.task import Task
from tests.unit.kernel_rig import Buffer, KernelRig, answer, with_memory


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    before = statistics()
    made = KernelRig(tmp_path)
    yield made
    made.close()
    assert statistics() == before


@pytest.fixture
def task(rig: KernelRig) -> Task:
    made = with_memory(rig.first_task())
    rig.done()
    return made


def io_setup(rig: KernelRig, task: Task, size: int, address: int) -> None:
    """The call to its end; the host maps the ring at `address`."""
    where = Buffer()

    def handler(task: Task, args: tuple[int, ...]) -> Any:
        return answer(task, "io_setup", *args)

    rig.call(task, handler, size, where.addr, name="io_setup")
    rig.platform.registers[task.host_tid] = {"rip": 102}
    rig.event_stop(task)
    registers = rig.platform.registers[task.host_tid]
    assert (registers["rax"], registers["r10"]) == (NUMBERS["mmap"], MAP_PRIVATE | MAP_ANONYMOUS)
    rig.call_stop(task)
    registers["rax"] = address
    rig.call_stop(task)
    assert int.from_bytes(where.get(8), "little") == address
    assert [note[2] for note in rig.done() if note[0] == "reply"] == [-ERESTARTSYS]


def test_a_context_is_named_by_the_ring_that_the_host_maps(rig: KernelRig, task: Task) -> None:
    rig.kernel.cpus = (0, 1)
    io_setup(rig, task, 100, 0x7F0000000000)
    context = (task.group.aio or {})[0x7F0000000000]
    assert context.size == 254  # 200 entries, up to the end of their page
    assert aio.used(rig.kernel) == 100
    child = rig.fork(task)
    assert child.group.aio is None


def test_all_contexts_together_have_a_bound(rig: KernelRig, task: Task) -> None:
    io_setup(rig, task, 65000, 0x7F0000000000)
    where = Buffer()
    where.put(bytes(8))
    assert answer(task, "io_setup", 1000, where.addr) == -EAGAIN
    assert answer(task, "io_setup", 0, where.addr) == -EINVAL
    assert answer(task, "io_setup", 1, 8) == -EFAULT


def test_they_end_with_their_process(rig: KernelRig, task: Task) -> None:
    child = rig.fork(task)
    io_setup(rig, with_memory(child), 10, 0x7F0000000000)
    context = (child.group.aio or {})[0x7F0000000000]
    reader, _ = make_pipe(task)
    context.polls[5] = Poll(context, reader, EPOLLIN, 0, 5, None)
    child.mem.host_tid = child.host_tid
    rig.dies(child)
    assert context.destroyed and not context.polls and child.group.aio is None
    rig.ready(lambda: None)


def test_a_poll_tells_the_whole_event_once_and_counts_an_eventfd(rig: KernelRig, task: Task) -> None:
    context, event = Context(10, 10), EventFd(0)
    reader, writer = make_pipe(task)
    context.polls[5] = Poll(context, reader, EPOLLIN, 7, 5, event)
    own = Buffer()
    writer.try_write(0, [(own.put(b"x"), 1)])
    rig.ready(lambda: None)
    assert list(context.done) == [Completion(7, 5, EPOLLIN | EPOLLRDNORM)]
    assert event.count == 1 and not context.polls
    writer.try_write(0, [(own.put(b"x"), 1)])
    rig.ready(lambda: None)
    assert len(context.done) == 1


def test_a_full_eventfd_stays_full() -> None:
    event = EventFd((1 << 64) - 2)
    event.signal()
    assert event.count == (1 << 64) - 2


def test_room_is_for_what_is_under_way_and_what_nobody_collected() -> None:
    context = Context(2, 2)
    context.check_room()
    context.complete(Completion(0, 0, 0), None)
    context.check_room()
    context.complete(Completion(0, 0, 0), None)
    with pytest.raises(aio.EAGAIN):
        context.check_room()
