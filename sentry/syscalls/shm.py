"""Shared memory of System V: shmget(2), shmat(2), shmdt(2), shmctl(2)."""

from __future__ import annotations

import os
from struct import Struct
from typing import TYPE_CHECKING, Annotated

from sentry.abi import linux
from sentry.abi.linux import (
    CAP_IPC_LOCK,
    IPC_INFO,
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    MAP_FIXED,
    MAP_FIXED_NOREPLACE,
    MAP_HUGE_SHIFT,
    MAP_SHARED,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
    RLIMIT_MEMLOCK,
    SHM_EXEC,
    SHM_HUGE_MASK,
    SHM_HUGETLB,
    SHM_INFO,
    SHM_LOCK,
    SHM_NORESERVE,
    SHM_RDONLY,
    SHM_REMAP,
    SHM_RND,
    SHM_STAT,
    SHM_STAT_ANY,
    SHM_UNLOCK,
    SHMMIN,
)
from sentry.abi.x86_64 import NUMBERS
from sentry.errors import EEXIST, EINVAL, ENOMEM, ENOSPC, EPERM
from sentry.fs.proc import sysctl
from sentry.fs.proc.system import mem_total_kb
from sentry.ipc.ids import PERM
from sentry.ipc.shm import PAGE, SHM_LOCKED, Area, Segment, areas, segments
from sentry.kernel.rewrite import AGAIN, Rewritten
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Int, Size, choice

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

READ, WRITE, EXECUTE = 0o444, 0o222, 0o111
_KEPT = Struct("<QqqqiiQ16x")  # struct shmid64_ds after its ipc_perm
_LIMITS = Struct("<QQQQQ32x")  # struct shminfo64
_USE = Struct("<i4xQQQQQ")  # struct shm_info
_HUGE_SIZES = (0, 21, 30)  # log2, as x86-64 has them; 0: the default

Command = Annotated[
    int,
    choice(
        strict=False,
        **{
            name: value
            for name, value in vars(linux).items()
            if name in ("IPC_RMID", "IPC_SET", "IPC_STAT", "IPC_INFO") or (name[:4] == "SHM_" and 11 <= value <= 15)
        },
    ),
]


def _limit(kernel: Kernel, name: bytes) -> int:
    return int(sysctl.read(kernel, b"kernel/" + name))


@syscall
def sys_shmget(task: Task, key: Int, size: Size, flags: Int) -> int:
    kernel = task.kernel
    segments.settle(kernel)

    def make() -> Segment:
        if not SHMMIN <= size <= _limit(kernel, b"shmmax"):
            raise EINVAL
        made = Segment(task, key, flags, size)
        if segments.total_pages() + made.pages > _limit(kernel, b"shmall"):
            raise ENOSPC
        if flags & SHM_HUGETLB:
            raise ENOMEM if flags >> MAP_HUGE_SHIFT & SHM_HUGE_MASK in _HUGE_SIZES else EINVAL
        if not flags & SHM_NORESERVE and size > mem_total_kb(kernel) << 10:
            raise ENOMEM
        return made

    def check(found: Segment) -> None:
        if size > found.size:
            raise EINVAL

    return segments.get(task, key, flags, _limit(kernel, b"shmmni"), make, check).id


# --- attaching


@syscall
def sys_shmat(task: Task, ident: Int, addr: Addr, flags: Int) -> Rewritten:
    segments.settle(task.kernel)
    if ident < 0:
        raise EINVAL
    how = MAP_SHARED
    if addr:
        if addr % PAGE:
            if not flags & SHM_RND:
                raise EINVAL
            addr &= -PAGE
            if not addr and flags & SHM_REMAP:
                raise EINVAL
        how |= MAP_FIXED if flags & SHM_REMAP else MAP_FIXED_NOREPLACE
    elif flags & SHM_REMAP:
        raise EINVAL
    prot, wanted = (PROT_READ, READ) if flags & SHM_RDONLY else (PROT_READ | PROT_WRITE, READ | WRITE)
    if flags & SHM_EXEC:
        prot, wanted = prot | PROT_EXEC, wanted | EXECUTE
    segment = segments.find(ident)
    segment.check(task, wanted)
    if addr + segment.size >= 1 << 64:
        raise EINVAL
    return Attachment(task, segment, {0: addr, 1: segment.size, 2: prot, 3: how})


class Attachment(Rewritten):
    """shmat as an mmap of the segment's memory."""

    def __init__(self, task: Task, segment: Segment, registers: dict[int, int]) -> None:
        self._number = task.fds.lend()
        registers = {**registers, 4: self._number, 5: 0}
        super().__init__(registers, nr=NUMBERS["mmap"], finish=self._mapped, pass_=False)
        self._task = task
        self._segment = segment
        segment.coming += 1

    def notified(self, call_id: int) -> None:
        host_fd = self._segment.open(bool(self.registers[2] & PROT_WRITE))
        put = self._task.kernel.platform.inject(call_id, host_fd, self._number, 1)
        os.close(host_fd)
        if put < 0:
            raise ENOMEM

    def _mapped(self, result: int) -> int:
        if result == -EEXIST.errno:  # MAP_FIXED_NOREPLACE
            return -EINVAL.errno
        if result >= 0:
            segments.attached(self._segment, self._task)
        return result

    def over(self) -> None:
        self._task.fds.give_back(self._number)
        self._segment.coming -= 1
        segments.settle(self._task.kernel)


@syscall
def sys_shmdt(task: Task, addr: Addr) -> Rewritten:
    if addr % PAGE:
        raise EINVAL
    return Detachment(task, _pieces(task, addr))


def _pieces(task: Task, addr: int) -> list[Area]:
    """What is left of the segment attached at `addr`."""
    found: list[Area] = []
    limit = 0
    for area in areas(task.group):
        if area.end <= addr or area.start - addr != area.offset:
            continue
        if not found:
            segment = segments.by_host_id(area.host_id)
            assert segment is not None
            limit = segment.pages * PAGE
        elif area.host_id != found[0].host_id or area.end - addr > limit:
            continue
        found.append(area)
    if not found:
        raise EINVAL
    return found


class Detachment(Rewritten):
    """shmdt as a munmap of the last piece, until none is left: the first says which segment it is."""

    def __init__(self, task: Task, pieces: list[Area]) -> None:
        *others, last = pieces
        super().__init__({0: last.start, 1: last.end - last.start}, nr=NUMBERS["munmap"], finish=self._unmapped)
        self._task = task
        self._segment = segments.by_host_id(last.host_id)
        self._more = bool(others)

    def _unmapped(self, result: int) -> int:
        if result < 0 or self._segment is None:
            return result
        segments.detached(self._segment, self._task.group)
        return AGAIN if self._more else 0


# --- control


@syscall
def sys_shmctl(task: Task, ident: Int, cmd: Command, buf: Addr) -> int:
    segments.settle(task.kernel)
    if ident < 0 or cmd < 0:
        raise EINVAL
    if cmd in (IPC_INFO, SHM_INFO):
        task.mem.write(buf, _limits(task.kernel) if cmd == IPC_INFO else _use())
        return segments.highest
    if cmd in (IPC_STAT, SHM_STAT, SHM_STAT_ANY):
        found = segments.find(ident) if cmd == IPC_STAT else segments.at(ident)
        if cmd != SHM_STAT_ANY:
            found.check(task, READ)
        task.mem.write(buf, _stat(found))
        return 0 if cmd == IPC_STAT else found.id
    if cmd == IPC_SET:
        data = task.mem.read(buf, PERM.size + _KEPT.size)
        found = segments.find(ident)
        found.check_owner(task)
        found.set_perm(data)
    elif cmd == IPC_RMID:
        found = segments.find(ident)
        found.check_owner(task)
        segments.mark(found)
    elif cmd in (SHM_LOCK, SHM_UNLOCK):
        _lock(task, segments.find(ident), cmd == SHM_LOCK)
    else:
        raise EINVAL
    return 0


def _limits(kernel: Kernel) -> bytes:
    most = _limit(kernel, b"shmmni")
    return _LIMITS.pack(_limit(kernel, b"shmmax"), SHMMIN, most, most, _limit(kernel, b"shmall"))


def _use() -> bytes:
    resident = sum(each.resident() for each in segments.by_index.values())
    return _USE.pack(len(segments.by_index), segments.total_pages(), resident, 0, 0, 0)


def _stat(found: Segment) -> bytes:
    attached = found.attached()  # may find out that it was unmapped
    return found.perm() + _KEPT.pack(
        found.size, found.atime, found.dtime, found.ctime, found.creator_pid, found.last_pid, attached
    )


def _lock(task: Task, segment: Segment, on: bool) -> None:
    """SHM_LOCK: whether it may be swapped out is the host's affair, so only the permission and the mark are kept."""
    if not task.creds.has_cap(CAP_IPC_LOCK):
        if task.creds.euid not in (segment.uid, segment.cuid):
            raise EPERM
        limit = task.group.rlimits.get(RLIMIT_MEMLOCK)[0]
        if on and not limit:
            raise EPERM
        if on and segment.pages * PAGE > limit:
            raise ENOMEM
    segment.mode = segment.mode | SHM_LOCKED if on else segment.mode & ~SHM_LOCKED
