"""Holding the sandbox still for the host's freezer: waiting calls are parked, those that can't be are waited for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sentry.abi.linux import ERESTARTSYS
from sentry.kernel.sched import WaitQueue, wait, wait_uninterruptible
from tests.unit.kernel_rig import KernelRig


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    yield made
    made.close()


@pytest.fixture
def told() -> list[bool]:
    return []


def test_nothing_waits(rig: KernelRig, told: list[bool]) -> None:
    rig.kernel.holding.begin(told.append)
    assert told == [True]
    assert rig.done() == [("hold", 1)]
    rig.kernel.holding.end()
    assert rig.done() == [("hold", 0)]


def test_an_open_call_is_parked_at_once(rig: KernelRig, told: list[bool]) -> None:
    task, queue = rig.first_task(), WaitQueue()

    async def body(task: Any) -> int:
        await wait(queue)
        return 42

    call = rig.call(task, body)
    rig.done()
    rig.kernel.holding.begin(told.append)
    assert rig.done() == [("hold", 1), ("interrupt", task.host_tid), ("reply", call, -ERESTARTSYS)]
    rig.advance(1)
    assert told == []  # its stop is still to come
    rig.event_stop(task)
    rig.advance(1)
    assert told == [True]


def test_a_call_that_must_end_first_is_waited_for(rig: KernelRig, told: list[bool]) -> None:
    task, queue = rig.first_task(), WaitQueue()

    async def body(task: Any) -> int:
        await wait_uninterruptible(queue)
        return 42

    rig.call(task, body)
    rig.kernel.holding.begin(told.append)
    rig.advance(1)
    assert told == []
    rig.ready(queue.wake)
    rig.advance(1)
    assert told == [True]


def test_one_that_does_not_end_is_given_up(rig: KernelRig, told: list[bool]) -> None:
    task, queue = rig.first_task(), WaitQueue()

    async def body(task: Any) -> int:
        await wait_uninterruptible(queue)
        return 42

    rig.call(task, body)
    rig.done()
    rig.kernel.holding.begin(told.append)
    rig.advance(3000)
    assert told == [False]
    assert rig.done() == [("hold", 1), ("hold", 0)]


def test_a_hold_that_is_ended_early_tells_nobody(rig: KernelRig, told: list[bool]) -> None:
    task, queue = rig.first_task(), WaitQueue()

    async def body(task: Any) -> int:
        await wait_uninterruptible(queue)
        return 42

    rig.call(task, body)
    rig.kernel.holding.begin(told.append)
    rig.kernel.holding.end()
    rig.advance(3000)
    assert told == []
