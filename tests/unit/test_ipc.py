"""System V semaphores and message queues, POSIX message queues.

Covers: sentry.ipc.ids
"""

import struct

import pytest

from sentry.abi import linux as L
from sentry.errors import (
    E2BIG,
    EACCES,
    EAGAIN,
    EBADF,
    EBUSY,
    EEXIST,
    EFBIG,
    EIDRM,
    EINVAL,
    EMFILE,
    EMSGSIZE,
    ENOENT,
    ENOMSG,
    ENOSPC,
    ENOTSOCK,
    ERANGE,
    ETIMEDOUT,
)
from sentry.fs.mqueue import queues_of
from sentry.fs.proc import sysctl
from sentry.ipc import msg, sem
from sentry.kernel.fdtable import release_unused
from sentry.net.netlink import NetlinkSocket
from sentry.net.socket import Socket
from sentry.syscalls import ipc, mqueue
from tests.unit.pseudo_world import USER, run, world

BUF = 0x2000


@pytest.fixture
def rig():
    kernel, task = world(queues_of)
    yield kernel, task
    for kind in (sem.sets, msg.queues):
        kind.__init__()
    kernel.close()


def ops(task, *operations) -> tuple[int, int]:
    task.mem.write(BUF, b"".join(struct.pack("<Hhh", *operation) for operation in operations))
    return BUF, len(operations)


def test_semaphores_count_and_wait(rig) -> None:
    kernel, task = rig
    ident = ipc.sys_semget(task, 42, 2, L.IPC_CREAT | 0o600)
    assert ipc.sys_semget(task, 42, 0, 0) == ident
    with pytest.raises(EEXIST):
        ipc.sys_semget(task, 42, 2, L.IPC_CREAT | L.IPC_EXCL)
    with pytest.raises(EINVAL):
        ipc.sys_semget(task, 42, 3, 0)
    run(ipc.sys_semop(task, ident, *ops(task, (0, 2, 0))))
    assert ipc.sys_semctl(task, ident, 0, L.GETVAL, 0) == 2
    with pytest.raises(EAGAIN):
        run(ipc.sys_semop(task, ident, *ops(task, (0, -3, L.IPC_NOWAIT))))
    with pytest.raises(EFBIG):
        run(ipc.sys_semop(task, ident, *ops(task, (2, 1, 0))))
    with pytest.raises(ERANGE):
        run(ipc.sys_semop(task, ident, *ops(task, (0, 32767, 0))))
    waiting = kernel.scheduler.spawn(ipc.sys_semop(task, ident, *ops(task, (0, -3, 0), (1, 1, 0))))
    assert ipc.sys_semctl(task, ident, 0, L.GETNCNT, 0) == 1
    assert ipc.sys_semctl(task, ident, 1, L.GETVAL, 0) == 0
    run(ipc.sys_semop(task, ident, *ops(task, (0, 1, 0))))
    kernel.scheduler.run_until_idle()
    assert waiting.ended
    assert ipc.sys_semctl(task, ident, 0, L.GETVAL, 0) == 0
    assert ipc.sys_semctl(task, ident, 1, L.GETVAL, 0) == 1


def test_wait_for_zero_timeout_and_removal(rig) -> None:
    kernel, task = rig
    ident = ipc.sys_semget(task, L.IPC_PRIVATE, 1, 0o600)
    ipc.sys_semctl(task, ident, 0, L.SETVAL, 1)
    waiting = kernel.scheduler.spawn(ipc.sys_semop(task, ident, *ops(task, (0, 0, 0))))
    assert ipc.sys_semctl(task, ident, 0, L.GETZCNT, 0) == 1
    task.mem.write(BUF + 256, struct.pack("<qq", 1, 0))
    timed = kernel.scheduler.spawn(ipc.sys_semtimedop(task, ident, *ops(task, (0, -2, 0)), BUF + 256))
    kernel.now += 10**9
    kernel.scheduler.run_until_idle()
    assert isinstance(timed.error, EAGAIN)
    ipc.sys_semctl(task, ident, 0, L.IPC_RMID, 0)
    kernel.scheduler.run_until_idle()
    assert isinstance(waiting.error, EIDRM)
    with pytest.raises(EINVAL):
        ipc.sys_semctl(task, ident, 0, L.GETVAL, 0)
    assert ipc.sys_semget(task, L.IPC_PRIVATE, 1, 0o600) != ident


def test_undo_at_exit(rig) -> None:
    kernel, task = rig
    other = kernel.process(5, task.group)
    ident = ipc.sys_semget(task, L.IPC_PRIVATE, 1, 0o600)
    ipc.sys_semctl(task, ident, 0, L.SETVAL, 3)
    run(ipc.sys_semop(other, ident, *ops(other, (0, -2, L.SEM_UNDO))))
    assert ipc.sys_semctl(task, ident, 0, L.GETPID, 0) == 5
    ipc.sys_semctl(task, ident, 0, L.SETALL, BUF)  # forgets the undo
    task.mem.write(BUF, struct.pack("<H", 3))
    ipc.sys_semctl(task, ident, 0, L.SETALL, BUF)
    run(ipc.sys_semop(other, ident, *ops(other, (0, -2, L.SEM_UNDO))))
    ipc.sys_semctl(task, ident, 0, L.SETVAL, 1)  # so does this
    run(ipc.sys_semop(other, ident, *ops(other, (0, -1, L.SEM_UNDO))))
    sem.group_exited(other.group)
    assert ipc.sys_semctl(task, ident, 0, L.GETVAL, 0) == 1
    assert ipc.sys_semctl(task, ident, 0, L.GETPID, 0) == 5


def test_ipc_permissions(rig) -> None:
    kernel, task = rig
    user = kernel.process(5, task.group, USER)
    ident = ipc.sys_semget(task, 7, 1, L.IPC_CREAT | 0o604)
    with pytest.raises(EACCES):
        ipc.sys_semget(user, 7, 1, 0o200)
    assert ipc.sys_semctl(user, ident, 0, L.GETVAL, 0) == 0
    with pytest.raises(EACCES):
        ipc.sys_semctl(user, ident, 0, L.SETVAL, 1)
    ipc.sys_semctl(task, ident, 0, L.IPC_STAT, BUF)
    key, uid, _, _, _, mode = struct.unpack_from("<iIIIII", task.mem.read(BUF, 104))
    assert (key, uid, mode) == (7, 0, 0o604)


def test_identifiers_go_round(rig) -> None:
    _, task = rig
    made = []
    for _ in range(66):
        made.append(ipc.sys_msgget(task, L.IPC_PRIVATE, 0o600))
        if len(made) > 2:
            ipc.sys_msgctl(task, made[-1], L.IPC_RMID, 0)
    assert made[:64] == list(range(64))
    assert made[64:] == [1 << 15 | 2, 1 << 15 | 3]  # 0 and 1 are still there


def test_limits_are_those_of_proc(rig) -> None:
    kernel, task = rig
    sysctl.write(kernel, b"kernel/sem", b"3 5 2 2")
    for count, error in ((4, EINVAL), (3, None), (3, ENOSPC), (2, None), (1, ENOSPC)):
        if error is None:
            ipc.sys_semget(task, L.IPC_PRIVATE, count, 0o600)
        else:
            with pytest.raises(error):
                ipc.sys_semget(task, L.IPC_PRIVATE, count, 0o600)
    with pytest.raises(E2BIG):
        run(ipc.sys_semop(task, 0, *ops(task, (0, 1, 0), (0, 1, 0), (0, 1, 0))))
    with pytest.raises(ERANGE):
        sysctl.write(kernel, b"kernel/sem", b"3 5 2 40000")
    sysctl.write(kernel, b"kernel/msgmni", b"1")
    sysctl.write(kernel, b"kernel/msgmax", b"4")
    ident = ipc.sys_msgget(task, L.IPC_PRIVATE, 0o600)
    with pytest.raises(ENOSPC):
        ipc.sys_msgget(task, L.IPC_PRIVATE, 0o600)
    task.mem.write(BUF, struct.pack("<q", 1) + b"12345")
    with pytest.raises(EINVAL):
        run(ipc.sys_msgsnd(task, ident, BUF, 5, 0))
    sysctl.reset()


def test_what_is_there_is_looked_at_before_who_may_have_it(rig) -> None:
    kernel, task = rig
    ipc.sys_semget(task, 7, 1, L.IPC_CREAT | 0o600)
    user = kernel.process(5, task.group, USER)
    with pytest.raises(EINVAL):
        ipc.sys_semget(user, 7, 2, 0o600)
    with pytest.raises(EACCES):
        ipc.sys_semget(user, 7, 1, 0o600)


def test_a_message_is_copied_by_its_place(rig) -> None:
    _, task = rig
    ident = ipc.sys_msgget(task, L.IPC_PRIVATE, 0o600)
    for kind, data in ((3, b"three"), (1, b"one")):
        task.mem.write(BUF, struct.pack("<q", kind) + data)
        run(ipc.sys_msgsnd(task, ident, BUF, len(data), 0))

    def copy(number: int, size: int, flags: int = L.MSG_COPY | L.IPC_NOWAIT) -> int:
        return run(ipc.sys_msgrcv(task, ident, BUF, size, number, flags))

    for _ in range(2):
        assert (copy(1, 100), task.mem.read(BUF, 11)) == (3, struct.pack("<q", 1) + b"one")
    for number, size, flags, error in (
        (2, 100, 0, ENOMSG), (0, 2, 0, E2BIG), (0, 2, L.MSG_NOERROR, EINVAL), (0, 9, L.MSG_EXCEPT, EINVAL),
    ):  # fmt: skip
        with pytest.raises(error):
            copy(number, size, L.MSG_COPY | L.IPC_NOWAIT | flags)
    with pytest.raises(EINVAL):
        copy(0, 100, L.MSG_COPY)


def test_messages_by_type(rig) -> None:
    kernel, task = rig
    ident = ipc.sys_msgget(task, L.IPC_PRIVATE, 0o600)

    def send(kind: int, data: bytes, flags: int = 0) -> None:
        task.mem.write(BUF, struct.pack("<q", kind) + data)
        run(ipc.sys_msgsnd(task, ident, BUF, len(data), flags))

    def receive(kind: int, size: int = 100, flags: int = L.IPC_NOWAIT) -> bytes:
        return task.mem.read(BUF + 8, run(ipc.sys_msgrcv(task, ident, BUF, size, kind, flags)))

    for kind, data in ((3, b"three"), (1, b"one"), (2, b"two")):
        send(kind, data)
    assert receive(2) == b"two"
    assert receive(-3) == b"one"
    with pytest.raises(ENOMSG):
        receive(9)
    with pytest.raises(E2BIG):
        receive(0, 2)
    assert receive(1, 3, L.MSG_EXCEPT | L.MSG_NOERROR) == b"thr"
    waiting = kernel.scheduler.spawn(ipc.sys_msgrcv(task, ident, BUF + 512, 10, 0, 0))
    send(1, b"late")
    kernel.scheduler.run_until_idle()
    assert waiting.value == 4
    send(1, b"x" * 8192)
    send(1, b"x" * 8192)
    with pytest.raises(EAGAIN):
        send(1, b"x", L.IPC_NOWAIT)
    with pytest.raises(EINVAL):
        send(0, b"x")


def open_queue(task, name: bytes, flags: int, sizes: tuple[int, int] | None = None) -> int:
    addr = 0
    if sizes is not None:
        addr = BUF
        task.mem.write(addr, struct.pack("<qqqq32x", 0, *sizes, 0))
    return mqueue.sys_mq_open(task, name, flags, 0o600, addr)


def test_posix_queue_by_priority(rig) -> None:
    kernel, task = rig
    fd = open_queue(task, b"q", L.O_CREAT | L.O_RDWR, (2, 16))
    for priority, data in ((1, b"low"), (5, b"high")):
        task.mem.write(BUF, data)
        run(mqueue.sys_mq_timedsend(task, fd, BUF, len(data), priority, 0))
    full = kernel.scheduler.spawn(mqueue.sys_mq_timedsend(task, fd, BUF, 1, 0, 0))
    assert not full.ended
    with pytest.raises(EMSGSIZE):
        run(mqueue.sys_mq_timedsend(task, fd, BUF, 17, 0, 0))
    with pytest.raises(EMSGSIZE):
        run(mqueue.sys_mq_timedreceive(task, fd, BUF, 15, 0, 0))
    assert run(mqueue.sys_mq_timedreceive(task, fd, BUF, 16, BUF + 64, 0)) == 4
    assert (task.mem.read(BUF, 4), task.mem.read_u32(BUF + 64)) == (b"high", 5)
    kernel.scheduler.run_until_idle()
    assert full.ended
    assert run(task.fds.get(fd).read(task, 100)).startswith(b"QSIZE:4 ")
    assert [entry.name for entry in run(queues_of(kernel).root.readdir())] == [b"q"]


def test_posix_queue_errors(rig) -> None:
    _, task = rig
    with pytest.raises(ENOENT):
        open_queue(task, b"none", L.O_RDWR)
    with pytest.raises(EACCES):
        open_queue(task, b"a/b", L.O_CREAT)
    with pytest.raises(EINVAL):
        open_queue(task, b"big", L.O_CREAT, (0, 16))
    fd = open_queue(task, b"q", L.O_CREAT | L.O_RDONLY)
    with pytest.raises(EEXIST):
        open_queue(task, b"q", L.O_CREAT | L.O_EXCL)
    with pytest.raises(EBADF):
        run(mqueue.sys_mq_timedsend(task, fd, BUF, 1, 0, 0))
    task.mem.write(BUF, struct.pack("<qq", 1, 0))
    with pytest.raises(ETIMEDOUT):
        run(mqueue.sys_mq_timedreceive(task, fd, BUF, 8192, 0, BUF))
    mqueue.sys_mq_unlink(task, b"q")
    with pytest.raises(ENOENT):
        mqueue.sys_mq_unlink(task, b"q")


def test_posix_queue_notifies_once(rig) -> None:
    kernel, task = rig
    other = kernel.process(5, task.group)
    fd = open_queue(task, b"q", L.O_CREAT | L.O_RDWR)
    other.fds = task.fds
    task.mem.write(BUF, struct.pack("<Qii48x", 7, L.SIGUSR1, L.SIGEV_SIGNAL))
    mqueue.sys_mq_notify(task, fd, BUF)
    other.mem.write(BUF, task.mem.read(BUF, 64))
    with pytest.raises(EBUSY):
        mqueue.sys_mq_notify(other, fd, BUF)
    run(mqueue.sys_mq_timedsend(other, fd, BUF, 1, 0, 0))
    run(mqueue.sys_mq_timedsend(other, fd, BUF, 1, 0, 0))
    assert kernel.signals() == [(1, L.SIGUSR1)]


def notify_by_thread(task, fd: int, socket: int, cookie: bytes = b"c" * 32) -> None:
    task.mem.write(BUF, struct.pack("<Qii48x", BUF + 100, socket, L.SIGEV_THREAD))
    task.mem.write(BUF + 100, cookie)
    mqueue.sys_mq_notify(task, fd, BUF)


def test_posix_queue_tells_a_thread_by_netlink(rig) -> None:
    _, task = rig
    fd = open_queue(task, b"q", L.O_CREAT | L.O_RDWR)
    with pytest.raises(EBADF):
        notify_by_thread(task, fd, 99)
    with pytest.raises(ENOTSOCK):
        notify_by_thread(task, fd, fd)
    inet = Socket(task.creds, L.AF_INET, L.SOCK_STREAM, 0, 0)
    with pytest.raises(EINVAL):
        notify_by_thread(task, fd, task.fds.install(inet))
    socket = NetlinkSocket.create(task, L.SOCK_RAW, 0, 0)
    number = task.fds.install(socket)
    notify_by_thread(task, fd, number)
    assert task.fds.get(fd).inode.text().split()[1:] == [b"NOTIFY:2", b"SIGNO:0", b"NOTIFY_PID:1"]
    run(mqueue.sys_mq_timedsend(task, fd, BUF, 1, 0, 0))
    assert run(socket.recv(task, 100, 0)).data == b"c" * 31 + b"\1"
    notify_by_thread(task, fd, number)
    mqueue.sys_mq_notify(task, fd, 0)
    assert run(socket.recv(task, 100, 0)).data == b"c" * 31 + b"\2"
    release_unused(socket)
    release_unused(inet)


def test_a_close_ends_what_its_process_asked_for(rig) -> None:
    kernel, task = rig
    fd = open_queue(task, b"q", L.O_CREAT | L.O_RDWR)
    queue = task.fds.get(fd).inode
    task.mem.write(BUF, struct.pack("<Qii48x", 7, L.SIGUSR1, L.SIGEV_SIGNAL))
    mqueue.sys_mq_notify(task, fd, BUF)
    assert task.fds.minded is queue
    queue.flushed(object())  # somebody else's
    assert queue.notify is not None
    queue.flushed(task.fds)
    run(mqueue.sys_mq_timedsend(task, fd, BUF, 1, 0, 0))
    assert kernel.signals() == []


def test_queues_count_until_nobody_has_them_open(rig) -> None:
    kernel, task = rig
    task.creds = USER
    sysctl.write(kernel, b"fs/mqueue/queues_max", b"2")
    task.group.rlimits.set(L.RLIMIT_MSGQUEUE, 2000, 2000)
    first = open_queue(task, b"a", L.O_CREAT | L.O_RDWR, (10, 50))  # 10 * (50 + 96)
    with pytest.raises(EMFILE):
        open_queue(task, b"b", L.O_CREAT | L.O_RDWR, (10, 50))
    open_queue(task, b"b", L.O_CREAT | L.O_RDWR, (1, 50))
    with pytest.raises(ENOSPC):
        open_queue(task, b"c", L.O_CREAT | L.O_RDWR, (1, 50))
    mqueue.sys_mq_unlink(task, b"a")
    with pytest.raises(ENOSPC):
        open_queue(task, b"c", L.O_CREAT | L.O_RDWR, (1, 50))
    task.fds.get(first).release()
    assert open_queue(task, b"c", L.O_CREAT | L.O_RDWR, (10, 50)) > 0
    sysctl.reset()


def test_a_wait_that_nobody_ends_is_cancelled_cleanly(rig) -> None:
    kernel, task = rig
    ident = ipc.sys_semget(task, L.IPC_PRIVATE, 1, 0o600)
    waiting = kernel.scheduler.spawn(ipc.sys_semop(task, ident, *ops(task, (0, -1, 0))))
    waiting.interrupt()
    kernel.scheduler.run_until_idle()
    assert type(waiting.error).__name__ == "Interrupted"
    assert sem.sets.find(ident).waiting == []
    assert not sem.sets.find(ident).queue
