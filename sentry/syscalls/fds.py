"""Descriptors: close(2), dup(2), fcntl(2), flock(2), ioctl(2); and new ones: pipe(2), eventfd(2)."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Annotated
from weakref import WeakKeyDictionary

from sentry.abi.linux import (
    CLOSE_RANGE_CLOEXEC,
    CLOSE_RANGE_UNSHARE,
    EFD_CLOEXEC,
    EFD_NONBLOCK,
    EFD_SEMAPHORE,
    F_ADD_SEALS,
    F_DUPFD,
    F_DUPFD_CLOEXEC,
    F_GET_FILE_RW_HINT,
    F_GET_RW_HINT,
    F_GET_SEALS,
    F_GETFD,
    F_GETFL,
    F_GETLEASE,
    F_GETLK,
    F_GETOWN,
    F_GETOWN_EX,
    F_GETPIPE_SZ,
    F_GETSIG,
    F_OFD_GETLK,
    F_OFD_SETLK,
    F_OFD_SETLKW,
    F_RDLCK,
    F_SETFD,
    F_SETFL,
    F_SETLK,
    F_SETLKW,
    F_SETOWN,
    F_SETOWN_EX,
    F_SETPIPE_SZ,
    F_SETSIG,
    F_UNLCK,
    F_WRLCK,
    FASYNC,
    FIOASYNC,
    FIOCLEX,
    FIONBIO,
    FIONCLEX,
    LOCK_EX,
    LOCK_NB,
    LOCK_SH,
    LOCK_UN,
    O_CLOEXEC,
    O_DIRECT,
    O_NOATIME,
    O_NONBLOCK,
    O_PATH,
    S_IFCHR,
    S_IFIFO,
    S_IFMT,
    S_IFSOCK,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
)
from sentry.abi.x86_64 import F_OWNER_EX, FLOCK
from sentry.errors import EBADF, EINVAL, ENOTTY, EOVERFLOW, EPERM, LinuxError, from_host
from sentry.fs import locks
from sentry.fs.eventfd import EventFd
from sentry.fs.hostfile import HostFile
from sentry.fs.pipe import PipeEnd, make_pipe
from sentry.kernel.fdtable import set_status_flags
from sentry.syscalls.declare import CONTINUE, Continue, syscall
from sentry.syscalls.kinds import Addr, AnyFile, Fd, File, Int, UInt, ULong, flags
from sentry.vfs.perm import owner_or_capable

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File as OpenFile

FAST = "descriptor tables are the C core's"
CLOSE_TOO = "closes the copy of the descriptor that an earlier mmap put into the host's table"

PipeFlags = Annotated[int, flags(O_NONBLOCK=O_NONBLOCK, O_CLOEXEC=O_CLOEXEC, O_DIRECT=O_DIRECT)]
EventFlags = Annotated[
    int, flags(EFD_SEMAPHORE=EFD_SEMAPHORE, EFD_NONBLOCK=EFD_NONBLOCK, EFD_CLOEXEC=EFD_CLOEXEC)
]
DupFlags = Annotated[int, flags(O_CLOEXEC=O_CLOEXEC)]
CloseFlags = Annotated[
    int, flags(CLOSE_RANGE_UNSHARE=CLOSE_RANGE_UNSHARE, CLOSE_RANGE_CLOEXEC=CLOSE_RANGE_CLOEXEC)
]

# --- close and dup


@syscall(fast=FAST, may_continue=CLOSE_TOO)
def sys_close(task: Task, fd: Fd) -> int | Continue:
    return CONTINUE if task.fds.close(fd) and not task.fds.uninject(task.kernel.call_id, fd) else 0


@syscall
def sys_close_range(task: Task, first: UInt, last: UInt, flags: CloseFlags) -> None:
    if first > last:
        raise EINVAL
    if flags & CLOSE_RANGE_UNSHARE:
        task.kernel.threads.part(task)
    if flags & CLOSE_RANGE_UNSHARE and task.fds.users > 1:
        shared = task.fds
        task.set_fds(shared.fork())
        shared.drop()
    fds = task.fds
    fd = fds.next_open(min(first, 0x7FFFFFFF))
    while 0 <= fd <= last:
        if flags & CLOSE_RANGE_CLOEXEC:
            fds.set_cloexec(fd, True)
        else:
            fds.close(fd)
        fd = fds.next_open(fd + 1)


@syscall(fast=FAST)
def sys_dup(task: Task, file: AnyFile) -> int:
    return task.fds.install(file)


@syscall(fast=FAST)
def sys_dup2(task: Task, old: Fd, new: Fd) -> int:
    file = task.fds.get(old)
    return new if old == new else task.fds.install_at(new, file)


@syscall(fast=FAST)
def sys_dup3(task: Task, old: Fd, new: Fd, flags: DupFlags) -> int:
    if old == new:
        raise EINVAL
    return task.fds.install_at(new, task.fds.get(old), bool(flags & O_CLOEXEC))


# --- fcntl


@syscall(fast=FAST, partial="O_ASYNC sends no signal; leases and F_NOTIFY are not there")
async def sys_fcntl(task: Task, fd: Fd, cmd: Int, arg: ULong) -> int:
    file = task.fds.get(fd)
    if file.flags & O_PATH and cmd not in _FOR_O_PATH:
        raise EBADF
    if cmd == F_GETFD:
        return int(task.fds.get_cloexec(fd))
    if cmd == F_SETFD:
        task.fds.set_cloexec(fd, bool(arg & 1))
        return 0
    if cmd in (F_DUPFD, F_DUPFD_CLOEXEC):
        return task.fds.install(file, cmd == F_DUPFD_CLOEXEC, min(arg & 0xFFFFFFFF, 0x7FFFFFFF))
    if cmd == F_GETFL:
        return file.flags
    if cmd == F_SETFL:
        set_flags(task, file, arg & 0x7FFFFFFF)
        return 0
    if cmd in _LOCKS:
        return await record_lock(task, file, cmd, arg)
    if cmd in (F_GETPIPE_SZ, F_SETPIPE_SZ):
        if not isinstance(file, PipeEnd):
            raise EBADF
        return file.pipe.capacity() if cmd == F_GETPIPE_SZ else file.pipe.resize(task, arg & 0xFFFFFFFF)
    if cmd in (F_GET_SEALS, F_ADD_SEALS):
        return seals(file, cmd, arg)
    if cmd in _OWNER:
        return owner(task, file, cmd, arg)
    if cmd == F_GETLEASE:
        return F_UNLCK
    if cmd in (F_GET_RW_HINT, F_GET_FILE_RW_HINT):
        task.mem.write_u64(arg, 0)
        return 0
    raise EINVAL


_FOR_O_PATH = frozenset((F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL))
_LOCKS = frozenset((F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW))
_OWNER = frozenset((F_GETOWN, F_SETOWN, F_GETOWN_EX, F_SETOWN_EX, F_GETSIG, F_SETSIG))


def set_flags(task: Task, file: OpenFile, wanted: int) -> None:
    """Linux's setfl()."""
    before = file.flags
    if wanted & O_NOATIME and not before & O_NOATIME and not owner_or_capable(task, file.inode):
        raise EPERM
    if wanted & O_DIRECT and not file.direct and file.inode.mode & S_IFMT != S_IFIFO:  # of a pipe, it means packets
        raise EINVAL
    set_status_flags(file, wanted)


def seals(file: OpenFile, cmd: int, arg: int) -> int:
    """The data of a memfd is a host memfd: its seals are the host's."""
    import fcntl

    if not isinstance(file, HostFile):
        raise EINVAL
    if cmd == F_ADD_SEALS and not file.writable:
        raise EPERM
    try:
        if cmd == F_ADD_SEALS:
            return fcntl.fcntl(file.backing.host_fd(True), cmd, arg & 0xFFFFFFFF)
        return fcntl.fcntl(file.backing.any_fd(), cmd)
    except OSError as error:
        raise from_host(error)


# O_ASYNC, F_SETOWN and F_SETSIG: remembered and told, but no SIGIO is sent.
_SIGNAL_READINESS = frozenset((S_IFSOCK, S_IFIFO, S_IFCHR))
_owners: WeakKeyDictionary[OpenFile, tuple[int, int, int]] = WeakKeyDictionary()


def owner(task: Task, file: OpenFile, cmd: int, arg: int) -> int:
    kind, pid, signal = _owners.get(file, (1, 0, 0))  # kind: F_OWNER_TID, _PID, _PGRP
    if cmd == F_GETOWN:
        return -pid if kind == 2 else pid
    if cmd == F_GETSIG:
        return signal
    if cmd == F_GETOWN_EX:
        task.mem.write(arg, F_OWNER_EX.pack(kind, pid))
        return 0
    if cmd == F_SETSIG:
        if arg > 64:
            raise EINVAL
        signal = arg
    elif cmd == F_SETOWN_EX:
        kind, pid = F_OWNER_EX.unpack(task.mem.read(arg, F_OWNER_EX.size))
        if kind not in (0, 1, 2):
            raise EINVAL
    else:
        number = ((arg & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
        kind, pid = (2, -number) if number < 0 else (1, number)
    _owners[file] = kind, pid, signal
    return 0


# --- locks


async def record_lock(task: Task, file: OpenFile, cmd: int, addr: int) -> int:
    """struct flock in, and out for the two F_*GETLK."""
    kind, whence, start, length, pid = FLOCK.unpack(task.mem.read(addr, FLOCK.size))
    ofd = cmd in (F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW)
    asking = cmd in (F_GETLK, F_OFD_GETLK)
    if kind not in (F_RDLCK, F_WRLCK) and (asking or kind != F_UNLCK):
        raise EINVAL
    if ofd and pid:
        raise EINVAL
    first, end = await lock_range(file, whence, start, length)
    who = file if ofd else task.fds
    wanted = locks.Record(who, kind, first, end, -1 if ofd else task.group.tgid)
    if asking:
        held = locks.conflict(file.inode, wanted)
        if held is None:
            task.mem.write(addr, FLOCK.pack(F_UNLCK, whence, start, length, pid))
        else:
            size = 0 if held.end >= locks.END else held.end - held.start
            task.mem.write(addr, FLOCK.pack(held.kind, SEEK_SET, held.start, size, held.pid))
        return 0
    if (kind == F_RDLCK and not file.readable) or (kind == F_WRLCK and not file.writable):
        raise EBADF
    if cmd in (F_SETLKW, F_OFD_SETLKW):
        await locks.set_record_wait(file.inode, wanted, not ofd)
    else:
        locks.set_record(file.inode, wanted)
    if ofd:
        locks.own_until_release(file)
    elif kind != F_UNLCK:
        locks.posix_locked(task.fds, file.inode)
    return 0


async def lock_range(file: OpenFile, whence: int, start: int, length: int) -> tuple[int, int]:
    """flock_to_posix_lock(): [first, end), END for everything behind."""
    if whence == SEEK_CUR:
        start += file.pos
    elif whence == SEEK_END:
        start += (await file.getattr()).size
    elif whence != SEEK_SET:
        raise EINVAL
    if start >= locks.END:
        raise EOVERFLOW
    if start < 0:
        raise EINVAL
    if length > 0:
        if start + length > locks.END:
            raise EOVERFLOW
        return start, start + length
    if length < 0:
        if start + length < 0:
            raise EINVAL
        return start + length, start
    return start, locks.END


@syscall
async def sys_flock(task: Task, file: File, operation: Int) -> None:
    nonblock = bool(operation & LOCK_NB)
    operation &= ~LOCK_NB
    if operation == LOCK_UN:
        locks.unflock(file)
        return
    if operation not in (LOCK_SH, LOCK_EX):
        raise EINVAL
    await locks.flock(file, operation == LOCK_EX, nonblock)


# --- ioctl


@syscall(fast=FAST)
async def sys_ioctl(task: Task, fd: Fd, cmd: UInt, arg: ULong) -> int:
    file = task.fds.get(fd)
    if file.flags & O_PATH:
        raise EBADF
    if cmd in (FIOCLEX, FIONCLEX):
        task.fds.set_cloexec(fd, cmd == FIOCLEX)
        return 0
    if cmd == FIONBIO:
        on = task.mem.read_u32(arg)
        set_status_flags(file, file.flags | O_NONBLOCK if on else file.flags & ~O_NONBLOCK)
        return 0
    if cmd == FIOASYNC:
        on = task.mem.read_u32(arg)
        if bool(on) != bool(file.flags & FASYNC):
            if file.inode.mode & S_IFMT not in _SIGNAL_READINESS:
                raise ENOTTY
            set_status_flags(file, file.flags ^ FASYNC)
        return 0
    return await file.ioctl(task, cmd, arg)


# --- new descriptors


_PAIR = Struct("<ii")


def install_pair(task: Task, first: OpenFile, second: OpenFile, cloexec: bool, addr: int) -> None:
    """Two descriptors, told in the int[2] at `addr`; neither stays if the second or the address fails."""
    one = task.fds.install(first, cloexec)
    try:
        two = task.fds.install(second, cloexec)
    except LinuxError:
        task.fds.close(one)
        raise
    try:
        task.mem.write(addr, _PAIR.pack(one, two))
    except LinuxError:
        task.fds.close(one)
        task.fds.close(two)
        raise


@syscall
def sys_pipe2(task: Task, fds: Addr, flags: PipeFlags) -> None:
    reader, writer = make_pipe(task, flags & (O_NONBLOCK | O_DIRECT))
    install_pair(task, reader, writer, bool(flags & O_CLOEXEC), fds)


@syscall
def sys_pipe(task: Task, fds: Addr) -> None:
    install_pair(task, *make_pipe(task), False, fds)


@syscall
def sys_eventfd2(task: Task, count: UInt, flags: EventFlags) -> int:
    file = EventFd(count, bool(flags & EFD_SEMAPHORE), flags & EFD_NONBLOCK)
    return task.fds.install(file, bool(flags & EFD_CLOEXEC))


@syscall
def sys_eventfd(task: Task, count: UInt) -> int:
    return task.fds.install(EventFd(count))
