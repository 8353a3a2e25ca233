"""POSIX message queues: mq_open(2), mq_unlink(2), mq_timedsend(2), mq_timedreceive(2), mq_notify(2)."""

from __future__ import annotations

from struct import Struct
from time import CLOCK_REALTIME, clock_gettime_ns
from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import (
    CAP_FOWNER,
    NOTIFY_COOKIE_LEN,
    NSIG,
    O_ACCMODE,
    O_CREAT,
    O_EXCL,
    O_NONBLOCK,
    SIGEV_NONE,
    SIGEV_SIGNAL,
    SIGEV_THREAD,
)
from sentry.abi.x86_64 import TIMESPEC
from sentry.errors import (
    EACCES,
    EAGAIN,
    EBADF,
    EEXIST,
    EINVAL,
    EMSGSIZE,
    ENAMETOOLONG,
    ENOENT,
    ENOTSOCK,
    EPERM,
    ETIMEDOUT,
)
from sentry.fs.mqueue import PRIO_MAX, BySignal, ByThread, MqueueFile, Notify, queues_of
from sentry.kernel.sched import sched, wait
from sentry.net.netlink import NetlinkSocket
from sentry.net.socket import Socket
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Int, Mode, OpenFlags, Size, TimespecPtr, UInt, cstring
from sentry.vfs.perm import MAY_READ, MAY_WRITE, allowed

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File

Name = Annotated[bytes, cstring(4096)]
_ATTR = Struct("<qqqq32x")  # mq_flags, mq_maxmsg, mq_msgsize, mq_curmsgs
_SIGEVENT = Struct("<Qii48x")  # sigev_value, sigev_signo, sigev_notify
_ACCESS = (MAY_READ, MAY_WRITE, MAY_READ | MAY_WRITE)
NAME_MAX = 255


def _checked(name: bytes) -> bytes:
    """libc takes the leading slash off."""
    if not name:
        raise ENOENT
    if b"/" in name or name in (b".", b".."):
        raise EACCES
    if len(name) > NAME_MAX:
        raise ENAMETOOLONG
    return name


@syscall
def sys_mq_open(task: Task, name: Name, oflag: OpenFlags, mode: Mode, attr: Addr) -> int:
    sizes = None
    if attr:
        _, most, size, _ = _ATTR.unpack(task.mem.read(attr, _ATTR.size))
        sizes = most, size
    task.fds.check_room()
    name = _checked(name)
    queues = queues_of(task.kernel)
    queue = queues.by_name.get(name)
    if queue is None:
        if not oflag & O_CREAT:
            raise ENOENT
        creds = task.creds
        queue = queues.create(task, name, mode & ~task.fs.umask, sizes, (creds.fsuid, creds.fsgid))
    else:
        if oflag & O_CREAT and oflag & O_EXCL:
            raise EEXIST
        if oflag & O_ACCMODE == O_ACCMODE:
            raise EINVAL
        if not allowed(task, queue, _ACCESS[oflag & O_ACCMODE]):
            raise EACCES
    return task.fds.install(MqueueFile(queue, None, oflag & (O_ACCMODE | O_NONBLOCK)), cloexec=True)


@syscall
def sys_mq_unlink(task: Task, name: Name) -> None:
    queues = queues_of(task.kernel)
    queue = queues.by_name.get(_checked(name))
    if queue is None:
        raise ENOENT
    creds = task.creds
    if creds.fsuid not in (queue.uid, queues.root.uid) and not creds.has_cap(CAP_FOWNER):
        raise EPERM
    queues.remove(name)


def _queue_file(task: Task, fd: int) -> MqueueFile:
    file: File = task.fds.get(fd)
    if not isinstance(file, MqueueFile):
        raise EBADF
    return file


def _deadline_ns(task: Task, addr: int) -> int | None:
    """An absolute CLOCK_REALTIME timeout as one on the scheduler's clock."""
    if not addr:
        return None
    seconds, nanoseconds = TIMESPEC.unpack(task.mem.read(addr, TIMESPEC.size))
    if seconds < 0 or not 0 <= nanoseconds < 1_000_000_000:
        raise EINVAL
    left_ns = seconds * 1_000_000_000 + nanoseconds - clock_gettime_ns(CLOCK_REALTIME)
    return sched().now_ns() + left_ns


@syscall
async def sys_mq_timedsend(
    task: Task, mqdes: Int, msg: Addr, size: Size, priority: UInt, timeout: TimespecPtr
) -> None:
    if priority >= PRIO_MAX:
        raise EINVAL
    deadline_ns = _deadline_ns(task, timeout)
    file = _queue_file(task, mqdes)
    if not file.writable:
        raise EBADF
    queue = file.inode
    if size > queue.max_size:
        raise EMSGSIZE
    data = task.mem.read(msg, size) if size else b""
    while not queue.put(task, priority, data):
        await _wait(file, deadline_ns)


@syscall
async def sys_mq_timedreceive(
    task: Task, mqdes: Int, msg: Addr, size: Size, priority: Addr, timeout: TimespecPtr
) -> int:
    deadline_ns = _deadline_ns(task, timeout)
    file = _queue_file(task, mqdes)
    if not file.readable:
        raise EBADF
    queue = file.inode
    if size < queue.max_size:
        raise EMSGSIZE
    while (taken := queue.take()) is None:
        queue.receivers += 1
        try:
            await _wait(file, deadline_ns)
        finally:
            queue.receivers -= 1
    task.mem.write(msg, taken[1])
    if priority:
        task.mem.write_u32(priority, taken[0])
    return len(taken[1])


async def _wait(file: MqueueFile, deadline_ns: int | None) -> None:
    if file.flags & O_NONBLOCK:
        raise EAGAIN
    if deadline_ns is not None and sched().now_ns() >= deadline_ns:
        raise ETIMEDOUT
    await wait(file.inode.queue, deadline_ns=deadline_ns)


@syscall
def sys_mq_notify(task: Task, mqdes: Int, event: Addr) -> None:
    notify = _asked(task, event) if event else None
    _queue_file(task, mqdes).inode.set_notify(task, notify)


def _asked(task: Task, event: int) -> Notify:
    """What a struct sigevent asks for."""
    value, signo, how = _SIGEVENT.unpack(task.mem.read(event, _SIGEVENT.size))
    if how == SIGEV_NONE:
        return Notify(task)
    if how == SIGEV_SIGNAL:
        if not 0 <= signo < NSIG:
            raise EINVAL
        return BySignal(task, signo, value)
    if how != SIGEV_THREAD:
        raise EINVAL
    cookie = task.mem.read(value, NOTIFY_COOKIE_LEN)
    file = task.fds.get(signo)
    if not isinstance(file, Socket):
        raise ENOTSOCK
    if not isinstance(file, NetlinkSocket):
        raise EINVAL
    return ByThread(task, file, cookie)


@syscall
def sys_mq_getsetattr(task: Task, mqdes: Int, new: Addr, old: Addr) -> None:
    flags = None
    if new:
        flags = _ATTR.unpack(task.mem.read(new, _ATTR.size))[0]
        if flags & ~O_NONBLOCK:
            raise EINVAL
    file = _queue_file(task, mqdes)
    queue = file.inode
    before = _ATTR.pack(file.flags & O_NONBLOCK, queue.max_messages, queue.max_size, len(queue.messages))
    if flags is not None:
        from sentry.kernel.fdtable import set_status_flags

        set_status_flags(file, flags)
    if old:
        task.mem.write(old, before)
