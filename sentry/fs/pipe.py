"""Pipes and FIFOs: pipe(7), fifo(7). The data lives in C (native/src/pipe.c); here are the ends, who waits.

    reader, writer = make_pipe(task, O_NONBLOCK)
    file = await open_fifo(task, inode, path, flags)     # waits for the other end
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.abi.linux import (
    CAP_SYS_RESOURCE,
    FIONREAD,
    O_ACCMODE,
    O_NONBLOCK,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    RWF_NOSIGNAL,
    SIGPIPE,
)
from sentry.errors import EAGAIN, EBUSY, EINVAL, ENXIO, EPERM, EPIPE, Interrupted, from_errno
from sentry.fs.anon import PIPEFS_MAGIC, pipe_inode
from sentry.fs.hostfile import AT_POS, CFile, IoVec, skip
from sentry.kernel.fdtable import SourceQueue, hold, release_unused, unhold
from sentry.kernel.sched import wait

if TYPE_CHECKING:
    from sentry.kernel.sched import WaitQueue
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

_EAGAIN, _EPIPE = EAGAIN.errno, EPIPE.errno
PIPE_MAX_SIZE = 1 << 20  # /proc/sys/fs/pipe-max-size
READERS, WRITERS, READERS_EVER, WRITERS_EVER = range(4)


class Pipe:
    """The object both ends share."""

    __slots__ = ("nc", "queue")

    def __init__(self) -> None:
        self.nc: Any = ffi.gc(lib.nc_pipe_new(), lib.nc_pipe_put)
        self.queue = SourceQueue(self.nc, lib.nc_pipe_id(self.nc), lib.nc_pipe_watch)

    def count(self, which: int) -> int:
        """READERS, WRITERS: open now; READERS_EVER, WRITERS_EVER: opens so far."""
        return lib.nc_pipe_ends(self.nc, which)

    def used(self) -> int:
        """Bytes in the pipe."""
        return lib.nc_pipe_used(self.nc)

    def room(self) -> int:
        """Bytes that a write puts in now without waiting, at least."""
        return lib.nc_pipe_room(self.nc)

    def capacity(self) -> int:
        return lib.nc_pipe_size(self.nc)

    def resize(self, task: Task, size: int) -> int:
        """fcntl(F_SETPIPE_SZ): the new capacity, a power of two of pages."""
        if size < 0 or size > 1 << 31:
            raise EINVAL
        capacity = max(4096, 1 << (size - 1).bit_length() if size else 0)
        if capacity > max(self.capacity(), PIPE_MAX_SIZE) and not task.creds.has_cap(CAP_SYS_RESOURCE):
            raise EPERM
        done = lib.nc_pipe_resize(self.nc, size)
        if done < 0:
            raise EBUSY if done == -EBUSY.errno else from_errno(-done)
        return done


class PipeEnd(CFile):
    """An end, or both (a FIFO opened O_RDWR)."""

    __slots__ = ("pipe",)

    KIND = lib.NC_PIPE
    async_io = stream = nowait = takes_splice = True

    def __init__(self, inode: Inode, path: Path | None, flags: int, pipe: Pipe) -> None:
        self.pipe = pipe
        super().__init__(inode, path, flags, pipe.nc)

    @property
    def wait_queue(self) -> WaitQueue:
        return self.pipe.queue

    async def write_from(
        self, task: Task, tid: int, iov: IoVec, offset: int = AT_POS, rwf: int = 0, nowait: bool = False
    ) -> int:
        """Blocking, all of it is written, part by part; at most PIPE_BUF bytes go in one part."""
        total = sum(size for _, size in iov)
        put = self.try_write(tid, iov)
        if not nowait and (put == -_EAGAIN or 0 <= put < total) and not self.flags & O_NONBLOCK:
            put = await self._write_all(tid, iov, total, max(put, 0))
        if put == -_EPIPE and not rwf & RWF_NOSIGNAL:
            send_sigpipe(task)
        if put < 0:
            raise from_errno(-put)
        return put

    async def _write_all(self, tid: int, iov: IoVec, total: int, done: int) -> int:
        rest = skip(iov, done)
        hold(self)
        try:
            while done < total:
                put = self.try_write(tid, rest)
                if put == -_EAGAIN:
                    await wait(self.wait_queue)
                    continue
                if put < 0:
                    return done if done and put != -_EPIPE else put
                done += put
                rest = skip(rest, put)
        except Interrupted:
            if not done:
                raise
        finally:
            unhold(self)
        return done

    def peek(self, size: int) -> bytes:
        """The next bytes, left in the pipe (splice)."""
        size = min(size, self.pipe.used())
        buffer = ffi.new("char[]", max(size, 1))
        return ffi.buffer(buffer, lib.nc_pipe_peek(self.pipe.nc, buffer, size))[:]

    def discard(self, size: int) -> None:
        """Take `size` bytes out unread."""
        lib.nc_pipe_discard(self.pipe.nc, size)

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        if cmd == FIONREAD:
            task.mem.write_u32(arg, self.pipe.used())
            return 0
        return await super().ioctl(task, cmd, arg)

    def release(self) -> None:
        """A FIFO that nobody has open any more is empty when it is opened again."""
        pipe = self.pipe
        if self.inode.pipe is pipe and not pipe.count(READERS) and not pipe.count(WRITERS):
            self.inode.pipe = None

    def describe(self) -> bytes | None:
        return b"pipe:[%d]" % self.inode.ino if self.path is None else None


def send_sigpipe(task: Task | None) -> None:
    if task is not None:
        from sentry.kernel.signals import user_info

        task.kernel.send_signal(task, user_info(SIGPIPE, task))


def make_pipe(task: Task | None, flags: int = 0) -> tuple[PipeEnd, PipeEnd]:
    """pipe2(2): (read end, write end), with the status flags O_NONBLOCK and O_DIRECT of `flags`."""
    pipe = Pipe()
    inode = pipe_inode(task)
    inode.pipe = pipe
    reader = PipeEnd(inode, None, O_RDONLY | (flags & O_NONBLOCK), pipe)
    return reader, PipeEnd(inode, None, O_WRONLY | flags, pipe)


async def open_fifo(task: Task, inode: Inode, path: Path, flags: int) -> PipeEnd:
    """open(2) of a FIFO. The pipe lives while somebody has it open, and so does what is in it.

    A pipe without a name, opened through /proc/PID/fd, waits for nobody: its other end may have gone for good.
    """
    access = flags & O_ACCMODE
    unnamed = inode.fs.magic == PIPEFS_MAGIC
    pipe = inode.pipe
    if pipe is None:
        pipe = Pipe()
    if access == O_WRONLY and flags & O_NONBLOCK and not unnamed and not pipe.count(READERS):
        raise ENXIO
    inode.pipe = pipe
    file = PipeEnd(inode, path, flags, pipe)
    if access == O_RDWR or flags & O_NONBLOCK or unnamed:
        return file
    others, ever = (WRITERS, WRITERS_EVER) if access == O_RDONLY else (READERS, READERS_EVER)
    if pipe.count(others):
        return file
    before = pipe.count(ever)
    try:
        while pipe.count(ever) == before:
            await wait(pipe.queue)
    except Interrupted:
        release_unused(file)
        raise
    return file
