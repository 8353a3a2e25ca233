"""System V IPC: semget(2), semop(2), semctl(2), msgget(2), msgsnd(2), msgrcv(2), msgctl(2)."""

from __future__ import annotations

from struct import Struct, pack, unpack
from time import time
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    CAP_SYS_RESOURCE,
    GETALL,
    GETPID,
    GETVAL,
    IPC_INFO,
    IPC_RMID,
    IPC_SET,
    IPC_STAT,
    MSG_COPY,
    SEM_INFO,
    SEM_STAT,
    SEM_STAT_ANY,
    SEMMNI,
    SEMMNS,
    SEMMNU,
    SEMMSL,
    SEMOPM,
    SEMVMX,
    SETVAL,
)
from sentry.abi.x86_64 import TIMESPEC
from sentry.errors import E2BIG, EINVAL, ENOSYS, EPERM
from sentry.ipc import msg, sem
from sentry.ipc.ids import PERM
from sentry.ipc.msg import Message, MessageQueue
from sentry.ipc.sem import Operation, SemaphoreSet
from sentry.kernel.sched import sched
from sentry.syscalls.declare import Restart, syscall
from sentry.syscalls.kinds import Addr, Int, Long, Size, TimespecPtr, UInt, ULong

if TYPE_CHECKING:
    from sentry.kernel.task import Task

GETNCNT, GETZCNT, SETALL = 14, 15, 17
MSG_STAT, MSG_INFO, MSG_STAT_ANY = 11, 12, 13
_SEMBUF = Struct("<Hhh")
_SEM_REST = Struct("<q8xq8xQ16x")  # struct semid64_ds after its ipc_perm
_MSG_REST = Struct("<qqqQQQii16x")  # struct msqid64_ds after its ipc_perm
_SEMINFO = Struct("<10i")
_MSGINFO = Struct("<7iH2x")
SEMUSZ = 20

# --- semaphores


@syscall
def sys_semget(task: Task, key: Int, count: Int, flags: Int) -> int:
    if not 0 <= count <= SEMMSL:
        raise EINVAL

    def make() -> SemaphoreSet:
        if not count:
            raise EINVAL
        return SemaphoreSet(task, key, flags, count)

    found = sem.sets.get(task, key, flags, make)
    if count > len(found.values):
        raise EINVAL
    return found.id


@syscall(restart=Restart.EINTR)
async def sys_semop(task: Task, ident: Int, operations: Addr, count: UInt) -> None:
    await _semop(task, ident, operations, count, None)


@syscall(restart=Restart.EINTR)
async def sys_semtimedop(task: Task, ident: Int, operations: Addr, count: UInt, timeout: TimespecPtr) -> None:
    deadline_ns = None
    if timeout:
        seconds, nanoseconds = TIMESPEC.unpack(task.mem.read(timeout, TIMESPEC.size))
        if seconds < 0 or not 0 <= nanoseconds < 1_000_000_000:
            raise EINVAL
        deadline_ns = sched().now_ns() + seconds * 1_000_000_000 + nanoseconds
    await _semop(task, ident, operations, count, deadline_ns)


async def _semop(task: Task, ident: int, addr: int, count: int, deadline_ns: int | None) -> None:
    if count < 1 or ident < 0:
        raise EINVAL
    if count > SEMOPM:
        raise E2BIG
    data = task.mem.read(addr, count * _SEMBUF.size)
    operations = [Operation(*fields) for fields in _SEMBUF.iter_unpack(data)]
    await sem.sets.find(ident).operate(task, operations, deadline_ns)


@syscall
def sys_semctl(task: Task, ident: Int, number: Int, cmd: Int, arg: ULong) -> int:
    cmd &= ~0x100  # IPC_64 is implied
    if cmd in (IPC_INFO, SEM_INFO):
        return _sem_info(task, cmd, arg)
    if cmd in (SEM_STAT, SEM_STAT_ANY, IPC_STAT):
        found = sem.sets.find(ident) if cmd == IPC_STAT else sem.sets.at(ident)
        if cmd != SEM_STAT_ANY:
            found.check(task, 0o444)
        rest = _SEM_REST.pack(found.otime, found.ctime, len(found.values))
        task.mem.write(arg, found.perm() + rest)
        return 0 if cmd == IPC_STAT else found.id
    found = sem.sets.find(ident)
    if cmd == IPC_SET:
        data = task.mem.read(arg, PERM.size)
        found.check_owner(task)
        found.set_perm(data)
        return 0
    if cmd == IPC_RMID:
        found.check_owner(task)
        sem.sets.remove(found)
        return 0
    return _sem_values(task, found, number, cmd, arg)


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
    if cmd not in (GETVAL, GETPID, GETNCNT, GETZCNT, SETVAL):
        raise EINVAL
    found.check(task, 0o222 if cmd == SETVAL else 0o444)
    if not 0 <= number < count:
        raise EINVAL
    if cmd == SETVAL:
        value = arg & 0xFFFFFFFF
        found.set_value(task, number, value if value < 1 << 31 else -1)
        return 0
    if cmd == GETVAL:
        return found.values[number]
    if cmd == GETPID:
        return found.pids[number]
    return found.count_waiting(number, cmd == GETZCNT)


def _sem_info(task: Task, cmd: int, addr: int) -> int:
    sets = sem.sets.by_index
    total = sum(len(each.values) for each in sets.values())
    used, all_of = (len(sets), total) if cmd == SEM_INFO else (SEMUSZ, SEMVMX)
    info = (SEMMNS, SEMMNI, SEMMNS, SEMMNU, SEMMSL, SEMOPM, SEMOPM, used, SEMVMX, all_of)
    task.mem.write(addr, _SEMINFO.pack(*info))
    return sem.sets.highest


# --- message queues


@syscall
def sys_msgget(task: Task, key: Int, flags: Int) -> int:
    return msg.queues.get(task, key, flags, lambda: MessageQueue(task, key, flags)).id


@syscall(restart=Restart.NOHAND)
async def sys_msgsnd(task: Task, ident: Int, message: Addr, size: Size, flags: Int) -> None:
    (kind,) = unpack("<q", task.mem.read(message, 8))
    if size > msg.MSGMAX or ident < 0 or kind < 1:
        raise EINVAL
    data = task.mem.read(message + 8, size) if size else b""
    await msg.queues.find(ident).send(task, Message(kind, data), flags)


@syscall(restart=Restart.NOHAND, partial="no MSG_COPY")
async def sys_msgrcv(task: Task, ident: Int, message: Addr, size: Size, kind: Long, flags: Int) -> int:
    if ident < 0 or size >= 1 << 63:
        raise EINVAL
    if flags & MSG_COPY:
        raise ENOSYS
    got = await msg.queues.find(ident).receive(task, size, kind, flags)
    task.mem.write(message, pack("<q", got.type) + got.data)
    return len(got.data)


@syscall
def sys_msgctl(task: Task, ident: Int, cmd: Int, buf: Addr) -> int:
    cmd &= ~0x100
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
        if max_bytes > msg.MSGMNB and not task.creds.has_cap(CAP_SYS_RESOURCE):
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
    queues = msg.queues.by_index.values()
    if cmd == MSG_INFO:
        pool, mapped = len(queues), sum(len(each.messages) for each in queues)
        total = sum(each.bytes for each in queues)
    else:
        pool, mapped, total = msg.MSGMNI * msg.MSGMNB // 1024, msg.MSGMNB, msg.MSGMNB
    info = (pool, mapped, msg.MSGMAX, msg.MSGMNB, msg.MSGMNI, 16, total, 0xFFFF)
    task.mem.write(addr, _MSGINFO.pack(*info))
    return msg.queues.highest
