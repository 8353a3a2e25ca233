"""The small parts under the VFS: the mutex, and the registry of device drivers."""

from __future__ import annotations

from typing import Any

import pytest

from sentry.abi.linux import S_IFBLK, S_IFCHR
from sentry.abi.x86_64 import makedev
from sentry.errors import ENXIO
from sentry.fs.store import Store
from sentry.fs.tmpfs import Tmpfs, TmpfsNode
from sentry.kernel.sched import Scheduler, WaitQueue, wait
from sentry.vfs import devices
from sentry.vfs.file import File
from sentry.vfs.lock import Mutex
from tests.unit.vfs_rig import run


def test_a_mutex_lets_one_in_at_a_time_and_wakes_the_next() -> None:
    scheduler = Scheduler()
    mutex = Mutex()
    gate = WaitQueue()
    seen: list[str] = []

    async def section(name: str) -> None:
        async with mutex:
            seen.append(f"{name} in")
            await wait(gate)
            seen.append(f"{name} out")

    scheduler.spawn(section("a"))
    scheduler.spawn(section("b"))
    assert seen == ["a in"]
    gate.wake()
    scheduler.run_until_idle()
    assert seen == ["a in", "a out", "b in"]
    gate.wake()
    scheduler.run_until_idle()
    assert seen[-1] == "b out"


def test_a_mutex_is_free_again_after_an_error() -> None:
    mutex = Mutex()

    async def fails() -> None:
        async with mutex:
            raise ENXIO

    for _ in range(2):
        with pytest.raises(ENXIO):
            run(fails())


def test_devices_open_by_number_then_by_major(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_chrdevs", {})
    fs = Tmpfs(Store(None))
    opened: list[str] = []

    def opener(name: str) -> Any:
        def open_(task: Any, inode: Any, path: Any, flags: int) -> File:
            opened.append(name)
            return File(inode, path, flags)

        return open_

    devices.register(200, 1, opener("exact"))
    devices.register(200, None, opener("any"))

    def open_node(mode: int, major: int, minor: int) -> None:
        node = TmpfsNode(fs, mode | 0o600, 0, 0, makedev(major, minor))
        task: Any = None
        path: Any = None
        run(node.open(task, path, 0))

    open_node(S_IFCHR, 200, 1)
    open_node(S_IFCHR, 200, 300)
    assert opened == ["exact", "any"]
    for mode, major in ((S_IFCHR, 201), (S_IFBLK, 200)):
        with pytest.raises(ENXIO):
            open_node(mode, major, 1)
