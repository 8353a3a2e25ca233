"""System V IPC: semget(2), semop(2), semctl(2), msgget(2), msgsnd(2), msgrcv(2), msgctl(2)."""

from __future__ import annotations

from struct import Struct, pack, unpack
from time import time
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    CAP_SYS_RESOURCE,
    GETALL,
    GETNCNT,
    GETPID,
    GETVAL,
    GETZCNT,
    IPC_INFO,
    IPC_NOWAIT,
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    MSG_COPY,
    MSG_EXCEPT,
    MSG_INFO,
    MSG_STAT,
    MSG_STAT_ANY,
    MSGMNB,
    MSGMNI,
    SEM_INFO,
    SEM_STAT,
    SEM_STAT_ANY,
    SEMMNS,
    SEMMNU,
    SEMVMX,
    SETALL,
    SETVAL,
)
from sentry.abi.x86_64 import TIMESPEC
from sentry.errors import E2BIG, EINVAL, ENOSPC, EPERM, ERANGE
from sentry.ipc import msg, sem
from sentry.ipc.ids import PERM
from sentry.ipc.msg import Message, MessageQueue
from sentry.ipc.sem import Operation, SemaphoreSet
from sentry.kernel.sched import sched
from sentry.syscalls.declare import Restart, syscall
from sentry.syscalls.kinds import Addr, Int, Long, Size, TimespecPtr, UInt, ULong, int32

if TYPE_CHECKING:
    from sentry.kernel.task import Task

_SEMBUF = Struct("<Hhh")
_SEM_REST = Struct("<q8xq8xQ16x")  # struct semid64_ds after its ipc_perm
_MSG_REST = Struct("<qqqQQQii16x")  # struct msqid64_ds after its ipc_perm
_SEMINFO = Struct("<10i")
_MSGINFO = Struct("<7iH2x")
INT_MAX = (1 << 31) - 1
SEMUSZ, SEMUME = 20, 500  # what IPC_INFO says of limits that there are not
MSGPOOL, MSGSSZ, MSGSEG = MSGMNI * MSGMNB // 1024, 16, 0xFFFF

# --- semaphores


@syscall
def sys_semget(task: Task, key: Int, count: Int, flags: Int) -> int:
    limits = sem.limits(task.kernel)
    if not 0 <= count <= limits.per_set:
        raise EINVAL

    def make() -> SemaphoreSet:
        if not count:
            raise EINVAL
        if sem.in_use() + count > limits.in_all:
            raise ENOSPC
        return SemaphoreSet(task, key, flags, count)

    def check(found: SemaphoreSet) -> None:
        if count > len(found.values):
            raise EINVAL

    return sem.sets.get(task, key, flags, limits.sets, make, check).id


@syscall(restart=Restart.EINTR)
async def sys_semop(task: Task, ident: Int, operations: Addr, count: UInt) -> None:
    await _semop(task, ident, operations, count, b"")


@syscall(restart=Restart.EINTR)
async def sys_semtimedop(task: Task, ident: Int, operations: Addr, count: UInt, timeout: TimespecPtr) -> None:
    await _semop(task, ident, operations, count, task.mem.read(timeout, TIMESPEC.size) if timeout else b"")


async def _semop(task: Task, ident: int, addr: int, count: int, timeout: bytes) -> None:
    if count < 1 or ident < 0:
        raise EINVAL
    if count > sem.limits(task.kernel).operations:
        raise E2BIG
    data = task.mem.read(addr, count * _SEMBUF.size)
    operations = [Operation(*fields) for fields in _SEMBUF.iter_unpack(data)]
    deadline_ns = None
    if timeout:
        seconds, nanoseconds = TIMESPEC.unpack(timeout)
        if seconds < 0 or not 0 <= nanoseconds < 1_000_000_000:
            raise EINVAL
        deadline_ns = sched().now_ns() + seconds * 1_000_000_000 + nanoseconds
    await sem.sets.find(ident).operate(task, operations, deadline_ns)


@syscall
def sys_semctl(task: Task, ident: Int, number: Int, cmd: Int, arg: ULong) -> int:
    if ident < 0:
        raise EINVAL
    if cmd in (IPC_INFO, SEM_INFO):
        return _sem_info(task, cmd, arg)
    if cmd in (SEM_STAT, SEM_STAT_ANY, IPC_STAT):
        found = sem.sets.find(ident) if cmd == IPC_STAT else sem.sets.at(ident)
        if cmd != SEM_STAT_ANY:
            found.check(task, 0o444)
        rest = _SEM_REST.pack(found.otime, found.ctime, len(found.values))
        task.mem.write(arg, found.perm() + rest)
        return 0 if cmd == IPC_STAT else found.id
    if cmd == SETVAL:
        _set_value(task, ident, number, int32(arg))
        return 0
    if cmd in (GETALL, SETALL, GETVAL, GETPID, GETNCNT, GETZCNT):
        return _sem_values(task, sem.sets.find(ident), number, cmd, arg)
    if cmd == IPC_SET:
        data = task.mem.read(arg, PERM.size + _SEM_REST.size)
        found = sem.sets.find(ident)
        found.check_owner(task)
        found.set_perm(data)
    elif cmd == IPC_RMID:
        found = sem.sets.find(ident)
        found.check_owner(task)
        sem.sets.remove(found)
    else:
        raise EINVAL
    return 0


def _set_value(task: Task, ident: int, number: int, value: int) -> None:
    if not 0 <= value <= SEMVMX:
        raise ERANGE
    found = sem.sets.find(ident)
    if not 0 <= number < len(found.values):
        raise EINVAL
    found.check(task, 0o222)
    found.set_value(task, number, value)


def _sem_values(task: Task, found: SemaphoreSet, number: int, cmd: int, arg: int) -> int:
    count = len(found.values)
    if cmd == GETALL:
        found.check(task, 0o444)
        task.mem.write(arg, pack(f"<{count}H", *found.values))
        return 0
    if cmd == SETALL:
        found.check(task, 0o222)
        found.set_all(task, list(unpack(f"<{count}H", task.mem.read(arg, 2 * count))))
        return 0
    found.check(task, 0o444)
    if not 0 <= number < count:
        raise EINVAL
    if cmd == GETVAL:
        return found.values[number]
    if cmd == GETPID:
        return found.pids[number]
    return found.count_waiting(number, cmd == GETZCNT)


def _sem_info(task: Task, cmd: int, addr: int) -> int:
    limits = sem.limits(task.kernel)
    used, all_of = (len(sem.sets.by_index), sem.in_use()) if cmd == SEM_INFO else (SEMUSZ, SEMVMX)
    info = (
        SEMMNS, limits.sets, limits.in_all, SEMMNU, limits.per_set, limits.operations, SEMUME, used, SEMVMX, all_of
    )  # fmt: skip
    task.mem.write(addr, _SEMINFO.pack(*(min(value, INT_MAX) for value in info)))
    return sem.sets.highest


# --- message queues


@syscall
def sys_msgget(task: Task, key: Int, flags: Int) -> int:
    most = msg.limit(task.kernel, b"msgmni")
    return msg.queues.get(task, key, flags, most, lambda: MessageQueue(task, key, flags)).id


@syscall(restart=Restart.NOHAND)
async def sys_msgsnd(task: Task, ident: Int, message: Addr, size: Size, flags: Int) -> None:
    (kind,) = unpack("<q", task.mem.read(message, 8))
    if size > msg.limit(task.kernel, b"msgmax") or ident < 0 or kind < 1:
        raise EINVAL
    data = task.mem.read(message + 8, size) if size else b""
    await msg.queues.find(ident).send(task, Message(kind, data), flags)


@syscall(restart=Restart.NOHAND)
async def sys_msgrcv(task: Task, ident: Int, message: Addr, size: Size, kind: Long, flags: Int) -> int:
    if ident < 0 or size >= 1 << 63:
        raise EINVAL
    if flags & MSG_COPY:
        if flags & MSG_EXCEPT or not flags & IPC_NOWAIT:
            raise EINVAL
        size = min(size, msg.limit(task.kernel, b"msgmax"))
        task.mem.read(message, size)  # Linux makes the copy of what is there
        got = msg.queues.find(ident).peek(task, size, kind, flags)
    else:
        got = await msg.queues.find(ident).receive(task, size, kind, flags)
    task.mem.write(message, pack("<q", got.type) + got.data)
    return len(got.data)


@syscall
def sys_msgctl(task: Task, ident: Int, cmd: Int, buf: Addr) -> int:
    if ident < 0 or cmd < 0:
        raise EINVAL
    if cmd in (IPC_INFO, MSG_INFO):
        return _msg_info(task, cmd, buf)
    if cmd in (IPC_STAT, MSG_STAT, MSG_STAT_ANY):
        found = msg.queues.find(ident) if cmd == IPC_STAT else msg.queues.at(ident)
        if cmd != MSG_STAT_ANY:
            found.check(task, 0o444)
        rest = _MSG_REST.pack(
            found.stime, found.rtime, found.ctime, found.bytes, len(found.messages), found.max_bytes,
            found.last_sender, found.last_receiver,
        )  # fmt: skip
        task.mem.write(buf, found.perm() + rest)
        return 0 if cmd == IPC_STAT else found.id
    if cmd == IPC_SET:
        data = task.mem.read(buf, PERM.size + _MSG_REST.size)
        found = msg.queues.find(ident)
        found.check_owner(task)
        max_bytes = _MSG_REST.unpack(data[PERM.size :])[5]
        if max_bytes > msg.limit(task.kernel, b"msgmnb") and not task.creds.has_cap(CAP_SYS_RESOURCE):
            raise EPERM
        found.set_perm(data)
        found.max_bytes = max_bytes
        found.ctime = int(time())
        found.queue.wake()
        return 0
    if cmd == IPC_RMID:
        found = msg.queues.find(ident)
        found.check_owner(task)
        msg.queues.remove(found)
        return 0
    raise EINVAL


def _msg_info(task: Task, cmd: int, addr: int) -> int:
    kernel, queues = task.kernel, msg.queues.by_index.values()
    if cmd == MSG_INFO:
        pool, mapped = len(queues), sum(len(each.messages) for each in queues)
        total = sum(each.bytes for each in queues)
    else:
        pool, mapped, total = MSGPOOL, MSGMNB, MSGMNB
    largest, most_bytes, most = (msg.limit(kernel, name) for name in (b"msgmax", b"msgmnb", b"msgmni"))
    task.mem.write(addr, _MSGINFO.pack(pool, mapped, largest, most_bytes, most, MSGSSZ, total, MSGSEG))
    return msg.queues.highest
