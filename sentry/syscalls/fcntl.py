"""fcntl(2) and flock(2): flags of descriptors and descriptions, locks, leases, owners, pipes, seals and hints."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from sentry.abi.linux import (
    F_ADD_SEALS,
    F_DUPFD,
    F_DUPFD_CLOEXEC,
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
    F_NOTIFY,
    F_OFD_GETLK,
    F_OFD_SETLK,
    F_OFD_SETLKW,
    F_RDLCK,
    F_SET_RW_HINT,
    F_SETFD,
    F_SETFL,
    F_SETLEASE,
    F_SETLK,
    F_SETLKW,
    F_SETOWN,
    F_SETOWN_EX,
    F_SETPIPE_SZ,
    F_SETSIG,
    F_UNLCK,
    F_WRLCK,
    FASYNC,
    LOCK_EX,
    LOCK_NB,
    LOCK_SH,
    LOCK_UN,
    O_DIRECT,
    O_NOATIME,
    O_PATH,
    S_IFIFO,
    S_IFMT,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
)
from sentry.abi.x86_64 import FLOCK
from sentry.errors import EBADF, EINVAL, EOVERFLOW, EPERM, from_host
from sentry.fs import dnotify, leases, locks
from sentry.fs.hostfile import HostFile
from sentry.fs.pipe import PipeEnd
from sentry.kernel import sigio
from sentry.kernel.fdtable import set_status_flags
from sentry.syscalls.declare import syscall
from sentry.syscalls.fds import FAST
from sentry.syscalls.kinds import Fd, Int, ULong, int32, open_file
from sentry.vfs.perm import owner_or_capable

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode

_LOCK_MAND = 32
_MAX_RW_HINT = 5  # RWH_WRITE_LIFE_EXTREME


@syscall(fast=FAST)
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
        set_flags(task, file, fd, arg & 0x7FFFFFFF)
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
        return sigio.fcntl(task, file, cmd, arg)
    if cmd == F_GETLEASE:
        return leases.held(file)
    if cmd == F_SETLEASE:
        leases.set_lease(task, fd, file, int32(arg))
        return 0
    if cmd == F_NOTIFY:
        dnotify.set_notify(task, fd, file, arg & 0xFFFFFFFF)
        return 0
    if cmd in (F_GET_RW_HINT, F_SET_RW_HINT):
        return write_hint(task, file.inode, cmd, arg)
    raise EINVAL


_FOR_O_PATH = frozenset((F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL))
_LOCKS = frozenset((F_GETLK, F_SETLK, F_SETLKW, F_OFD_GETLK, F_OFD_SETLK, F_OFD_SETLKW))
_OWNER = frozenset((F_GETOWN, F_SETOWN, F_GETOWN_EX, F_SETOWN_EX, F_GETSIG, F_SETSIG))


def set_flags(task: Task, file: File, fd: int, wanted: int) -> None:
    """Linux's setfl()."""
    before = file.flags
    if wanted & O_NOATIME and not before & O_NOATIME and not owner_or_capable(task, file.inode):
        raise EPERM
    if wanted & O_DIRECT and not file.direct and file.inode.mode & S_IFMT != S_IFIFO:  # of a pipe, it means packets
        raise EINVAL
    if (wanted ^ before) & FASYNC:
        if file.async_io:
            sigio.switch(task, file, fd, bool(wanted & FASYNC))
        else:
            wanted ^= FASYNC  # open(2) alone sets it then, and it means nothing
    set_status_flags(file, wanted)


def seals(file: File, cmd: int, arg: int) -> int:
    """The data of a memfd is a host memfd: its seals are the host's. Files of tmpfs have them too: F_SEAL_SEAL."""
    import fcntl

    if cmd == F_ADD_SEALS and not file.writable:
        raise EPERM
    if not isinstance(file, HostFile) or not file.inode.fs.sealable:
        raise EINVAL
    try:
        if cmd == F_ADD_SEALS:
            return fcntl.fcntl(file.backing.host_fd(True), cmd, arg & 0xFFFFFFFF)
        return fcntl.fcntl(file.backing.any_fd(), cmd)
    except OSError as error:
        raise from_host(error)


_hints: WeakKeyDictionary[Inode, int] = WeakKeyDictionary()


def write_hint(task: Task, inode: Inode, cmd: int, addr: int) -> int:
    """How long what is written will live: a hint, kept for who asks (RWH_*)."""
    if cmd == F_GET_RW_HINT:
        task.mem.write_u64(addr, _hints.get(inode, 0))
        return 0
    if not owner_or_capable(task, inode):
        raise EPERM
    hint = task.mem.read_u64(addr)
    if hint > _MAX_RW_HINT:
        raise EINVAL
    _hints[inode] = hint
    return 0


# --- locks


async def record_lock(task: Task, file: File, cmd: int, addr: int) -> int:
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
        task.fds.mind(file.inode)  # POSIX locks go with the first close of any descriptor of the file
    return 0


async def lock_range(file: File, whence: int, start: int, length: int) -> tuple[int, int]:
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
async def sys_flock(task: Task, fd: Fd, operation: Int) -> None:
    if operation & _LOCK_MAND:
        return  # no longer supported, and no error (the kernel logs it)
    nonblock = bool(operation & LOCK_NB)
    operation &= ~LOCK_NB
    if operation not in (LOCK_SH, LOCK_EX, LOCK_UN):
        raise EINVAL
    file = open_file(task, fd & 0xFFFFFFFF)
    if operation == LOCK_UN:
        locks.unflock(file)
        return
    if not file.readable and not file.writable:
        raise EBADF
    await locks.flock(file, operation == LOCK_EX, nonblock)
