"""Shared memory of System V: who has it, and when it goes; sentry/ipc/shm.py, sentry/syscalls/shm.py.

Covers: sentry.syscalls.shm sentry.fs.proc.sysvipc
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from errno import EACCES, EINVAL, ENOMEM, ENOSPC, EPERM
from pathlib import Path
from struct import unpack_from
from types import SimpleNamespace

import pytest

from sentry.abi import linux as L
from sentry.abi.x86_64 import NUMBERS, major, minor
from sentry.errors import EEXIST
from sentry.fs.proc import sysctl
from sentry.fs.proc.sysvipc import tree
from sentry.fs.store import Store
from sentry.ipc import shm
from sentry.ipc.shm import SHM_DEST, Segments
from sentry.kernel.creds import Credentials
from sentry.kernel.rewrite import AGAIN, Rewritten
from sentry.kernel.task import Task
from tests.unit.kernel_rig import Buffer, KernelRig, answer, with_memory

USER = Credentials(5, 5, 5, 5, 5, 5, 5, 5)
PAGE = 4096
VFORK = L.CLONE_VM | L.CLONE_VFORK | L.SIGCHLD


class World(KernelRig):
    """A process that maps what it attaches at made-up addresses, which the host's maps show."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.kernel.store = Store(None)
        self.kernel.facts = SimpleNamespace(mem_total_kb=1 << 20)
        self.task = with_memory(self.first_task())
        self.buffer = Buffer()
        self.areas: dict[int, list[tuple[int, int, int, str]]] = {}

    def segment(self, size: int = PAGE, key: int = L.IPC_PRIVATE, flags: int = 0o600) -> int:
        ident = answer(self.task, "shmget", key, size, flags)
        assert isinstance(ident, int)
        return ident

    def maps(self, task: Task, *areas: tuple[int, int, int, str]) -> None:
        """(start, end, offset, host id) of each mapping, in pages."""
        text = "".join(
            f"{start * PAGE:x}-{end * PAGE:x} rw-s {offset * PAGE:08x} {host_id}    /1 (deleted)\n"
            for start, end, offset, host_id in areas
        )
        (self.folder / str(task.host_tid) / "maps").write_text(text)

    def attach(self, ident: int, at: int = 100, task: Task | None = None, **how: int) -> Rewritten:
        """shmat(2) as far as the mapping; the maps are the test's to write."""
        task = task or self.task
        what = answer(task, "shmat", ident, 0, how.get("flags", 0))
        assert isinstance(what, Rewritten), what
        what.notified(9)
        assert what.finish is not None and what.finish(at * PAGE) == at * PAGE
        return what

    def host_id(self, ident: int) -> str:
        return shm.segments.find(ident).host_id.decode()

    def stat(self, ident: int) -> dict[str, int]:
        assert answer(self.task, "shmctl", ident, L.IPC_STAT, self.buffer.addr) == 0
        data = self.buffer.get(112)
        size, _, _, _, cpid, lpid, attached = unpack_from("<QqqqiiQ", data, 48)
        (mode,) = unpack_from("<I", data, 20)
        return {"size": size, "cpid": cpid, "lpid": lpid, "attached": attached, "mode": mode}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made_segments = Segments()
    monkeypatch.setattr(shm, "segments", made_segments)
    for module in ("sentry.syscalls.shm", "sentry.fs.proc.sysvipc"):
        monkeypatch.setattr(f"{module}.segments", made_segments, raising=False)
    made = World(tmp_path)
    yield made
    sysctl.reset()
    for ident in [each.id for each in made_segments.by_index.values()]:
        made_segments.find(ident).destroy()
    made.close()


def test_sizes_and_limits(world: World) -> None:
    task = world.task
    assert answer(task, "shmget", L.IPC_PRIVATE, 0, 0o600) == -EINVAL
    assert answer(task, "shmget", L.IPC_PRIVATE, 1 << 40, 0o600) == -ENOMEM
    assert answer(task, "shmget", L.IPC_PRIVATE, 1 << 40, 0o600 | L.SHM_NORESERVE) == 0
    assert answer(task, "shmget", L.IPC_PRIVATE, PAGE, L.SHM_HUGETLB) == -ENOMEM
    assert answer(task, "shmget", L.IPC_PRIVATE, PAGE, L.SHM_HUGETLB | 9 << L.SHM_HUGE_SHIFT) == -EINVAL
    sysctl.write(world.kernel, b"kernel/shmmax", b"10")
    assert answer(task, "shmget", L.IPC_PRIVATE, 11, 0o600) == -EINVAL
    sysctl.write(world.kernel, b"kernel/shmmni", b"2")
    assert world.segment(10) == 1
    assert answer(task, "shmget", L.IPC_PRIVATE, 10, 0o600) == -ENOSPC
    sysctl.write(world.kernel, b"kernel/shmmni", b"3")
    sysctl.write(world.kernel, b"kernel/shmall", b"%d" % ((1 << 28) + 1))
    assert answer(task, "shmget", L.IPC_PRIVATE, 10, 0o600) == -ENOSPC


def test_shmat_is_an_mmap(world: World) -> None:
    ident = world.segment(5000, flags=0o700)
    what = answer(world.task, "shmat", ident, 0x7001, L.SHM_RND | L.SHM_RDONLY | L.SHM_EXEC)
    number = what.registers.pop(4)
    assert what.nr == NUMBERS["mmap"]
    assert what.registers == {
        0: 0x7000, 1: 5000, 2: L.PROT_READ | L.PROT_EXEC, 3: L.MAP_SHARED | L.MAP_FIXED_NOREPLACE, 5: 0
    }  # fmt: skip
    what.registers[4] = number
    other = answer(world.task, "shmat", ident, 0x7000, L.SHM_REMAP)
    assert other.registers[3] == L.MAP_SHARED | L.MAP_FIXED
    assert other.registers[4] != number  # both are under way
    world.done()
    what.notified(9)
    assert world.done() == [("inject", 9, number, 1)]
    assert what.finish(-EEXIST.errno) == -EINVAL
    for each in (what, other):
        each.over()
    again = answer(world.task, "shmat", ident, 0, 0)
    assert again.registers[4] == number
    again.over()


@pytest.mark.parametrize(
    ("addr", "flags", "error"),
    [
        (1, 0, EINVAL), (0, L.SHM_REMAP, EINVAL), (5, L.SHM_RND | L.SHM_REMAP, EINVAL), (-8192, 0, EINVAL),
        (0, L.SHM_EXEC, EACCES), (0, 0, EACCES),
    ],
)  # fmt: skip
def test_shmat_refuses(world: World, addr: int, flags: int, error: int) -> None:
    ident = world.segment(8192, flags=0o604)
    if error == EACCES:
        world.task.creds = USER
    assert answer(world.task, "shmat", ident, addr, flags) == -error


def test_a_reader_gets_a_descriptor_that_cannot_write(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    injected: list[int] = []
    monkeypatch.setattr(
        world.platform, "inject", lambda call_id, host_fd, fd, cloexec: injected.append(os.dup(host_fd)) or 0
    )
    ident = world.segment()
    world.attach(ident, flags=L.SHM_RDONLY).over()
    world.attach(ident).over()
    with pytest.raises(OSError):
        os.write(injected[0], b"x")
    assert os.write(injected[1], b"x") == 1
    assert world.host_id(ident) == f"{major(os.fstat(injected[0]).st_dev):02x}:{minor(os.fstat(injected[0]).st_dev):02x} " + str(
        os.fstat(injected[0]).st_ino
    )
    for host_fd in injected:
        os.close(host_fd)


def attached(world: World, ident: int) -> None:
    what = world.attach(ident)
    world.maps(world.task, (100, 101, 0, world.host_id(ident)))
    what.over()


def test_attachments_are_counted_in_the_hosts_maps(world: World) -> None:
    ident = world.segment()
    attached(world, ident)
    world.maps(world.task, (100, 101, 0, world.host_id(ident)), (200, 201, 0, "08:01 5"))
    assert world.stat(ident) == {"size": PAGE, "cpid": 1, "lpid": 1, "attached": 1, "mode": 0o600}
    child = world.fork(world.task)
    world.maps(child, (100, 101, 0, world.host_id(ident)))
    assert world.stat(ident)["attached"] == 2
    vforked = world.fork(world.task, flags=VFORK)
    world.maps(vforked, (100, 101, 0, world.host_id(ident)))
    assert world.stat(ident)["attached"] == 2  # the same address space
    world.maps(child)
    assert world.stat(ident) == {"size": PAGE, "cpid": 1, "lpid": child.tid, "attached": 1, "mode": 0o600}


def test_a_removed_segment_goes_with_its_last_attachment(world: World) -> None:
    ident = world.segment(key=7, flags=L.IPC_CREAT | 0o600)
    attached(world, ident)
    child = world.fork(world.task)
    world.maps(child, (100, 101, 0, world.host_id(ident)))
    assert answer(world.task, "shmctl", ident, L.IPC_RMID, 0) == 0
    assert world.stat(ident)["mode"] == SHM_DEST | 0o600
    assert answer(world.task, "shmget", 7, 0, 0) == -2
    detach = answer(world.task, "shmdt", 100 * PAGE)
    world.maps(world.task)
    assert detach.finish(0) == 0
    assert world.stat(ident)["attached"] == 1
    world.maps(child)
    world.dies(child)
    assert answer(world.task, "shmctl", ident, L.IPC_STAT, world.buffer.addr) == -EINVAL


def test_one_that_is_being_attached_stays(world: World) -> None:
    ident = world.segment()
    what = answer(world.task, "shmat", ident, 0, 0)
    assert answer(world.task, "shmctl", ident, L.IPC_RMID, 0) == 0
    assert world.stat(ident)["attached"] == 1
    what.over()  # nothing came of it
    assert answer(world.task, "shmctl", ident, L.IPC_STAT, world.buffer.addr) == -EINVAL


def test_exec_detaches(world: World) -> None:
    ident = world.segment()
    attached(world, ident)
    shm.segments.left(world.task.group)
    assert world.stat(ident)["attached"] == 0


def test_a_destroyed_segment_gives_its_memory_back(world: World) -> None:
    ident = world.segment()
    segment = shm.segments.find(ident)
    host_fd = segment.open(True)
    os.write(host_fd, b"x")
    assert segment.resident() == 1
    assert answer(world.task, "shmctl", ident, L.IPC_RMID, 0) == 0
    assert os.fstat(host_fd).st_size == 0
    os.close(host_fd)


def test_orphans_go_when_that_is_asked_for(world: World) -> None:
    child = with_memory(world.fork(world.task))
    orphan = answer(child, "shmget", L.IPC_PRIVATE, PAGE, 0o600)
    own = world.segment()
    world.dies(child)
    assert world.stat(orphan)["attached"] == 0
    sysctl.write(world.kernel, b"kernel/shm_rmid_forced", b"1")
    assert answer(world.task, "shmctl", orphan, L.IPC_STAT, world.buffer.addr) == -EINVAL
    assert world.stat(own)["attached"] == 0


def detachments(world: World, at: int) -> list[tuple[int, int]]:
    """The munmaps that shmdt makes, in pages, each seen in the maps before the next."""
    made = []
    while True:
        what = answer(world.task, "shmdt", at * PAGE)
        if not isinstance(what, Rewritten):
            assert what == -EINVAL
            return made
        assert what.nr == NUMBERS["munmap"] and what.finish is not None
        start, size = what.registers[0] // PAGE, what.registers[1] // PAGE
        made.append((start, size))
        path = world.folder / str(world.task.host_tid) / "maps"
        path.write_text("".join(line for line in path.read_text().splitlines(True) if f"{start * PAGE:x}-" not in line))
        if what.finish(0) != AGAIN:
            return made


def test_shmdt_unmaps_what_is_left(world: World) -> None:
    ident, other = world.segment(4 * PAGE), world.segment(4 * PAGE)
    for each in (ident, other):
        world.attach(each).over()
    one, two = world.host_id(ident), world.host_id(other)
    world.maps(world.task, (100, 104, 0, one), (200, 204, 0, one))
    assert detachments(world, 101) == []
    assert detachments(world, 100) == [(100, 4)]
    world.maps(world.task, (101, 102, 1, one), (102, 103, 5, one), (103, 104, 3, one))
    assert detachments(world, 100) == [(103, 1), (101, 1)]
    world.maps(world.task, (100, 101, 0, one), (101, 102, 1, two), (102, 103, 0, "00:01 5"), (103, 104, 3, one), (104, 105, 4, one))
    assert detachments(world, 100) == [(103, 1), (100, 1)]
    assert answer(world.task, "shmdt", 100 * PAGE + 1) == -EINVAL


def test_locking_is_a_matter_of_permission(world: World) -> None:
    ident = world.segment(20 * PAGE)
    task = world.task
    assert answer(task, "shmctl", ident, L.SHM_LOCK, 0) == 0
    assert world.stat(ident)["mode"] == shm.SHM_LOCKED | 0o600
    assert answer(task, "shmctl", ident, L.SHM_UNLOCK, 0) == 0
    task.creds = USER
    assert answer(task, "shmctl", ident, L.SHM_LOCK, 0) == -EPERM
    own = world.segment(20 * PAGE)
    assert answer(task, "shmctl", own, L.SHM_LOCK, 0) == -ENOMEM  # RLIMIT_MEMLOCK is 16 pages
    task.group.rlimits.set(L.RLIMIT_MEMLOCK, 0, 0)
    assert answer(task, "shmctl", own, L.SHM_LOCK, 0) == -EPERM
    assert answer(task, "shmctl", own, L.SHM_UNLOCK, 0) == 0


def test_the_tables_of_proc(world: World) -> None:
    world.segment(5000, key=0x11, flags=L.IPC_CREAT | 0o640)
    rows = tree()[b"shm"].make(world.task).splitlines()
    assert [len(row) for row in rows] == [169, 169]
    assert rows[1].split()[:7] == [b"17", b"0", b"640", b"5000", b"1", b"0", b"0"]
    for name in (b"sem", b"msg"):
        assert tree()[name].make(world.task).count(b"\n") == 1
