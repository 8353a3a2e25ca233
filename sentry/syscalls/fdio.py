"""Data through descriptors: read(2), write(2), preadv2(2), lseek(2), sendfile(2), splice(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from native import lib
from sentry.abi.linux import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    O_APPEND,
    O_NONBLOCK,
    RWF_APPEND,
    RWF_ATOMIC,
    RWF_DONTCACHE,
    RWF_DSYNC,
    RWF_HIPRI,
    RWF_NOAPPEND,
    RWF_NOSIGNAL,
    RWF_NOWAIT,
    RWF_SYNC,
    S_IFDIR,
    S_IFIFO,
    S_IFMT,
    S_IFREG,
)
from sentry.errors import (
    EAGAIN,
    EBADF,
    EFAULT,
    EFBIG,
    EINVAL,
    EISDIR,
    EOPNOTSUPP,
    EOVERFLOW,
    EPIPE,
    ESPIPE,
    EXDEV,
    from_errno,
)
from sentry.fs.hostfile import AT_POS, HostFile
from sentry.fs.io import MAX_RW_COUNT, End, copy, read_iov, tell_moved, write_iov
from sentry.fs.pipe import PipeEnd, send_sigpipe
from sentry.kernel.sched import wait
from sentry.net.socket import Socket
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import (
    Addr,
    File,
    InBuffer,
    Int,
    Off,
    OutBuffer,
    Size,
    UInt,
    ULong,
    Whence,
    choice,
    flags,
    int64,
    open_file,
)
from sentry.vfs import notify
from sentry.vfs.file import File as OpenFile

if TYPE_CHECKING:
    from sentry.kernel.task import Task

FAST = "the file's data is the C core's and nothing has to wait"
MAX_OFFSET = (1 << 63) - 1
ULONG_MAX = (1 << 64) - 1

SpliceFlags = Annotated[
    int, flags(SPLICE_F_MOVE=1, SPLICE_F_NONBLOCK=2, SPLICE_F_MORE=4, SPLICE_F_GIFT=8)
]
POSIX_FADV_NOREUSE = 5
Advice = Annotated[
    int,
    choice(
        strict=False,
        POSIX_FADV_NORMAL=0,
        POSIX_FADV_RANDOM=1,
        POSIX_FADV_SEQUENTIAL=2,
        POSIX_FADV_WILLNEED=3,
        POSIX_FADV_DONTNEED=4,
        POSIX_FADV_NOREUSE=POSIX_FADV_NOREUSE,
    ),
]

# --- read and write


@syscall(fast=FAST)
async def sys_read(task: Task, file: File, buffer: OutBuffer, count: Size) -> int:
    return await read_iov(task, file, one(buffer, count))


@syscall(fast=FAST)
async def sys_write(task: Task, file: File, buffer: InBuffer, count: Size) -> int:
    return await write_iov(task, file, one(buffer, count))


@syscall(fast=FAST)
async def sys_pread64(task: Task, fd: UInt, buffer: OutBuffer, count: Size, offset: Off) -> int:
    return await read_iov(task, positioned(task, fd, offset, False), one(buffer, count), offset)


@syscall(fast=FAST)
async def sys_pwrite64(task: Task, fd: UInt, buffer: InBuffer, count: Size, offset: Off) -> int:
    return await write_iov(task, positioned(task, fd, offset, True), one(buffer, count), offset)


@syscall(fast=FAST)
async def sys_readv(task: Task, file: File, iov: Addr, count: ULong) -> int:
    return await vector(task, file, iov, count, False)


@syscall(fast=FAST)
async def sys_writev(task: Task, file: File, iov: Addr, count: ULong) -> int:
    return await vector(task, file, iov, count, True)


@syscall(fast=FAST)
async def sys_preadv(task: Task, fd: UInt, iov: Addr, count: ULong, offset: Off) -> int:
    return await vector(task, positioned(task, fd, offset, False), iov, count, False, offset)


@syscall(fast=FAST)
async def sys_pwritev(task: Task, fd: UInt, iov: Addr, count: ULong, offset: Off) -> int:
    return await vector(task, positioned(task, fd, offset, True), iov, count, True, offset)


@syscall(partial="RWF_ATOMIC and RWF_DONTCACHE are the host file system's to understand")
async def sys_preadv2(
    task: Task, fd: UInt, iov: Addr, count: ULong, offset: Off, high: ULong, rwf: Int
) -> int:
    if offset == -1:
        return await vector(task, open_file(task, fd), iov, count, False, AT_POS, rwf)
    return await vector(task, positioned(task, fd, offset, False), iov, count, False, offset, rwf)


@syscall(partial="RWF_ATOMIC and RWF_DONTCACHE are the host file system's to understand")
async def sys_pwritev2(
    task: Task, fd: UInt, iov: Addr, count: ULong, offset: Off, high: ULong, rwf: Int
) -> int:
    if offset == -1:
        return await vector(task, open_file(task, fd), iov, count, True, AT_POS, rwf)
    return await vector(task, positioned(task, fd, offset, True), iov, count, True, offset, rwf)


def one(addr: int, count: int) -> list[tuple[int, int]]:
    if count >= 1 << 63:
        raise EFAULT  # access_ok() comes before the check of the sign
    return [(addr, min(count, MAX_RW_COUNT))]


def positioned(task: Task, fd: int, offset: int, writing: bool) -> OpenFile:
    """The offset is looked at before the descriptor, and whether it can be used before the access mode."""
    if offset < 0:
        raise EINVAL
    file: OpenFile = open_file(task, fd)
    if not file.positioned(writing):
        raise ESPIPE
    return file


async def vector(
    task: Task, file: OpenFile, iov: int, count: int, writing: bool, offset: int = AT_POS, rwf: int = 0
) -> int:
    if not (file.writable if writing else file.readable):
        raise EBADF
    buffers = task.mem.read_iovec(iov, count & 0xFFFFFFFF)
    if not any(length for _, length in buffers):
        return 0
    if rwf:
        check_flags(file, rwf)
    return await (write_iov if writing else read_iov)(task, file, buffers, offset, rwf)


def check_flags(file: OpenFile, rwf: int) -> None:
    """kiocb_set_rw_flags(). What only some file systems understand is asked of the host's."""
    if rwf & ~_RWF_KNOWN:
        raise EOPNOTSUPP
    if rwf & RWF_APPEND and rwf & RWF_NOAPPEND:
        raise EINVAL
    if rwf & RWF_NOWAIT and not file.nowait:
        raise EOPNOTSUPP
    if rwf & (RWF_ATOMIC | RWF_DONTCACHE) and not isinstance(file, HostFile):
        raise EOPNOTSUPP


_RWF_KNOWN = (
    RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND | RWF_ATOMIC | RWF_DONTCACHE
    | RWF_NOSIGNAL
)  # fmt: skip


@syscall(fast=FAST)
def sys_lseek(task: Task, file: File, offset: Off, whence: Whence) -> int:
    return file.seek(offset, whence)


@syscall
def sys_readahead(task: Task, file: File, offset: Off, count: Size) -> None:
    if not file.readable:
        raise EBADF
    if file.inode.mode & S_IFMT != S_IFREG or count >= 1 << 63:
        raise EINVAL


@syscall(fast="a regular file")
def sys_fadvise64(task: Task, file: File, offset: Off, length: Off, advice: Advice) -> None:
    if file.inode.mode & S_IFMT == S_IFIFO:
        raise ESPIPE
    if length < 0 or not 0 <= advice <= POSIX_FADV_NOREUSE:
        raise EINVAL


# --- from file to file


@syscall
async def sys_sendfile(task: Task, out: UInt, source: UInt, offset: Addr, count: Size) -> int:
    at = None
    if offset:
        at = int64(task.mem.read_u64(offset))
    file_in = open_file(task, source)
    if not file_in.readable:
        raise EBADF
    if at is not None and not file_in.positioned(False):
        raise ESPIPE
    start = End(file_in, at)
    if count > MAX_OFFSET - (at or 0):
        raise EINVAL
    count = min(count, MAX_RW_COUNT)
    file_out = open_file(task, out)
    if not file_out.writable:
        raise EBADF
    if isinstance(file_out, PipeEnd):  # what it has room for
        if not file_in.gives_splice:
            raise EINVAL
        done = await to_pipe(task, start, file_out, count, False)
        if done and notify.watching:
            tell_moved(start, End(file_out, None))
    else:
        done = await send(task, start, file_out, count)
    if offset:
        assert start.offset is not None
        task.mem.write_u64(offset, start.offset)
    return done


async def send(task: Task, source: End, target: OpenFile, count: int) -> int:
    """do_splice_direct: through a pipe of the kernel's own."""
    if target.flags & O_APPEND or not source.file.positioned(False):  # what was read could not be given back
        raise EINVAL
    if not count:
        return 0
    if not source.file.gives_splice:
        raise EINVAL
    if not target.takes_splice:  # which shows only when there is something to write
        if await source.read(task, 1):
            source.give_back(1)
            raise EINVAL
        return 0
    if source.file is target and source.offset is None:  # reading does not move where is written
        at = target.pos
        done = await copy(task, End(target, at), End(target, at), count)
        target.pos = at + done
        return done
    return await copy(task, source, End(target, None), count)


@syscall(fast="two regular files of one file system that are open on the host")
async def sys_copy_file_range(
    task: Task, source: UInt, off_in: Addr, target: UInt, off_out: Addr, count: Size, flags: UInt
) -> int:
    file_in, file_out = open_file(task, source), open_file(task, target)
    at_in = int64(task.mem.read_u64(off_in)) if off_in else None
    at_out = int64(task.mem.read_u64(off_out)) if off_out else None
    if flags:
        raise EINVAL
    check_regular(file_in, file_out)
    if file_in.inode.fs is not file_out.inode.fs:
        raise EXDEV
    pos_in = file_in.pos if at_in is None else at_in
    pos_out = file_out.pos if at_out is None else at_out
    if any((pos & ULONG_MAX) + count > ULONG_MAX for pos in (pos_in, pos_out)):
        raise EOVERFLOW
    size = (await file_in.getattr()).size
    count = min(count, size - pos_in) if pos_in < size else 0
    if pos_out == MAX_OFFSET:
        raise EFBIG
    count = min(count, MAX_OFFSET - pos_out)
    if file_in.inode is file_out.inode and pos_out < pos_in + count and pos_in < pos_out + count:
        raise EINVAL
    start = End(file_in, at_in)
    to = End(file_out, at_out)
    done = await copy(task, start, to, min(count, MAX_RW_COUNT))
    if off_in and start.offset is not None:
        task.mem.write_u64(off_in, start.offset)
    if off_out and to.offset is not None:
        task.mem.write_u64(off_out, to.offset)
    return done


def check_regular(source: OpenFile, target: OpenFile) -> None:
    """generic_file_rw_checks: from one regular file to another."""
    kinds = source.inode.mode & S_IFMT, target.inode.mode & S_IFMT
    if S_IFDIR in kinds:
        raise EISDIR
    if kinds != (S_IFREG, S_IFREG):
        raise EINVAL
    if not source.readable or not target.writable or target.flags & O_APPEND:
        raise EBADF


# --- pipes


@syscall
async def sys_splice(
    task: Task, source: UInt, off_in: Addr, target: UInt, off_out: Addr, count: Size, flags: SpliceFlags
) -> int:
    if not count:
        return 0
    file_in, file_out = open_file(task, source), open_file(task, target)
    if not file_in.readable or not file_out.writable:
        raise EBADF
    pipe_in, pipe_out = isinstance(file_in, PipeEnd), isinstance(file_out, PipeEnd)
    if (pipe_in and off_in) or (pipe_out and off_out):
        raise ESPIPE
    at_in = int64(task.mem.read_u64(off_in)) if off_in else None
    at_out = int64(task.mem.read_u64(off_out)) if off_out else None
    nonblock = bool(flags & 2)
    count = min(count, MAX_RW_COUNT)
    if isinstance(file_in, PipeEnd):
        if isinstance(file_out, PipeEnd) and file_in.pipe is file_out.pipe:
            raise EINVAL
        if not pipe_out and (file_out.flags & O_APPEND or not file_out.takes_splice):
            raise EINVAL
        if off_out and not file_out.positioned(True):
            raise EINVAL
        to = End(file_out, at_out)
        done = await from_pipe(task, file_in, to, count, nonblock)
        if done and notify.watching:
            tell_moved(End(file_in, None), to)
        if off_out and to.offset is not None:
            task.mem.write_u64(off_out, to.offset)
        return done
    if isinstance(file_out, PipeEnd):
        if not file_in.gives_splice or (off_in and not file_in.positioned(False)):
            raise EINVAL
        start = End(file_in, at_in)
        done = await to_pipe(task, start, file_out, count, nonblock)
        if done and notify.watching:
            tell_moved(start, End(file_out, None))
        if off_in and start.offset is not None:
            task.mem.write_u64(off_in, start.offset)
        return done
    raise EINVAL


async def from_pipe(task: Task, source: PipeEnd, target: End, count: int, nonblock: bool) -> int:
    """What is in the pipe, once something is; 0 at its end."""
    while not source.pipe.used():
        if not source.poll():
            if nonblock or source.flags & O_NONBLOCK:
                raise EAGAIN
            await wait(source.wait_queue)
        elif not source.pipe.used():
            return 0
    if isinstance(target.file, PipeEnd):
        room = await pipe_room(task, target.file, nonblock)
        count = min(count, room)
    data = source.peek(count)
    put = await target.write(task, data)
    source.discard(put)
    return put


async def to_pipe(task: Task, source: End, target: PipeEnd, count: int, nonblock: bool) -> int:
    room = await pipe_room(task, target, nonblock)
    if nonblock and isinstance(source.file, Socket) and not source.file.poll() & (EPOLLIN | EPOLLERR | EPOLLHUP):
        raise EAGAIN  # of what is spliced from, only sockets mind the flag
    data = await source.read(task, min(count, room))
    return await target.write(task, data) if data else 0


async def pipe_room(task: Task, target: PipeEnd, nonblock: bool) -> int:
    """Bytes that can be put now, once some can."""
    while True:
        if not target.pipe.count(0):
            send_sigpipe(task)
            raise EPIPE
        room = target.pipe.room()
        if room:
            return room
        if nonblock or target.flags & O_NONBLOCK:
            raise EAGAIN
        await wait(target.wait_queue)


@syscall
async def sys_tee(task: Task, source: UInt, target: UInt, count: Size, flags: SpliceFlags) -> int:
    file_in, file_out = open_file(task, source), open_file(task, target)
    if not file_in.readable or not file_out.writable:
        raise EBADF
    if not isinstance(file_in, PipeEnd) or not isinstance(file_out, PipeEnd) or file_in.pipe is file_out.pipe:
        raise EINVAL
    if not count:
        return 0
    while True:
        done: int = lib.nc_pipe_tee(file_in.pipe.nc, file_out.pipe.nc, min(count, MAX_RW_COUNT))
        if done >= 0:
            return done
        if done == -EPIPE.errno:
            send_sigpipe(task)
        if done != -EAGAIN.errno:
            raise from_errno(-done)
        if flags & 2 or (file_in.flags | file_out.flags) & O_NONBLOCK:
            raise EAGAIN
        await wait(file_in.wait_queue, file_out.wait_queue)


@syscall(partial="copies, whatever SPLICE_F_GIFT says")
async def sys_vmsplice(task: Task, file: File, iov: Addr, count: ULong, flags: SpliceFlags) -> int:
    if not isinstance(file, PipeEnd):
        raise EBADF
    buffers = task.mem.read_iovec(iov, count)
    if not any(length for _, length in buffers):
        return 0
    nowait = bool(flags & 2)
    if file.writable:
        return await file.write_from(task, task.mem.host_tid, buffers, nowait=nowait)
    return await file.read_into(task, task.mem.host_tid, buffers, nowait=nowait)
