"""HostStream: the container's stdin, stdout or stderr where it is no terminal of its own: a host pipe,
socket, file or device.

The host description is shared with others (the caller's shell, another container), so O_NONBLOCK is never
set on it: reads and writes ask poll(2) first and move no more than is sure not to block. Waiting is the
loop's: the descriptor is watched only while somebody waits.
"""

from __future__ import annotations

import _socket as socket
import os
from select import POLLERR, POLLHUP, POLLIN, POLLOUT, poll
from stat import S_ISCHR, S_ISFIFO, S_ISREG, S_ISSOCK
from time import time_ns
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    FIONREAD,
    MSG_DONTWAIT,
    MSG_NOSIGNAL,
    O_ACCMODE,
    O_APPEND,
    O_NONBLOCK,
    O_RDWR,
    PIPE_BUF,
    S_IFCHR,
    S_IFIFO,
    S_IFREG,
    SIGPIPE,
)
from sentry.abi.x86_64 import major, makedev
from sentry.errors import (
    EACCES,
    EAGAIN,
    EINVAL,
    ENODEV,
    ENOTTY,
    ENXIO,
    EPIPE,
    ESPIPE,
    Interrupted,
    from_host,
)
from sentry.fs.anon import PseudoFs
from sentry.kernel.sched import WaitQueue, sched, wait
from sentry.vfs.file import File
from sentry.vfs.inode import Inode
from sentry.vfs.stat import Stat

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.vfs.mount import Path

CHUNK = 1 << 16
_POLLED = POLLIN | POLLOUT
_fs: PseudoFs | None = None


def _host_fs() -> PseudoFs:
    global _fs
    if _fs is None:
        _fs = PseudoFs(b"hostfs", 0x50495045)
    return _fs


class StreamInode(Inode):
    """A number of our own; type, size and times as the host has them, nothing else of it."""

    __slots__ = ("host_fd",)
    own_permission = True

    def __init__(self, host_fd: int, mode: int, uid: int, gid: int, rdev: int) -> None:
        fs = _host_fs()
        super().__init__(fs, fs.next_ino(), mode, uid, gid, rdev=rdev)
        self.host_fd = host_fd

    def permission(self, task: Task, mask: int) -> bool | None:
        """The container was given it, under whatever user id its processes run."""
        return True

    async def open(self, task: Task, path: Path, flags: int) -> File:
        """/dev/stdin and /proc/self/fd/0: the same host description once more (a file's offset is shared)."""
        if self.host_fd < 0:
            raise ENXIO
        stream = HostStream(task.kernel, os.dup(self.host_fd), self.uid, self.gid)
        have, want = stream.flags & O_ACCMODE, flags & O_ACCMODE
        if have not in (want, O_RDWR):
            stream.release()
            raise EACCES("the other end is not ours")
        stream.set_flags(flags)
        return stream

    def stat_now(self) -> Stat | None:
        stat = super().stat_now()
        if stat is None or not S_ISREG(self.mode) or self.host_fd < 0:
            return stat
        host = os.fstat(self.host_fd)
        return stat._replace(
            size=host.st_size, blocks=host.st_blocks, atime_ns=host.st_atime_ns, mtime_ns=host.st_mtime_ns,
            ctime_ns=host.st_ctime_ns,
        )  # fmt: skip


class HostStream(File):
    """Owns `host_fd`. `uid` and `gid`: whom the guest shall see as owner (the process's user)."""

    __slots__ = ("host_fd", "kind")
    inode: StreamInode

    def __init__(self, kernel: Kernel, host_fd: int, uid: int = 0, gid: int = 0) -> None:
        import fcntl

        host = os.fstat(host_fd)
        mode, rdev = host.st_mode, 0
        self.kind = "pipe"
        if S_ISREG(mode):
            self.kind, shown = "file", S_IFREG | (mode & 0o777)
        elif S_ISSOCK(mode):
            self.kind, shown = "socket", S_IFIFO | 0o600
        elif S_ISFIFO(mode):
            shown = S_IFIFO | 0o600
        elif S_ISCHR(mode):
            # A memory device keeps its number; a terminal of the host looks like a console.
            self.kind, shown = "device", S_IFCHR | 0o666
            rdev = host.st_rdev if major(host.st_rdev) == 1 else makedev(5, 1)
        else:
            raise EINVAL("a standard stream must be a pipe, socket, file or device")
        host_flags = fcntl.fcntl(host_fd, fcntl.F_GETFL)
        super().__init__(
            StreamInode(host_fd, shown, uid, gid, rdev), None, host_flags & (O_ACCMODE | O_APPEND)
        )
        self.host_fd = host_fd

    takes_splice = gives_splice = True

    def positioned(self, writing: bool) -> bool:
        return self.kind in ("file", "device")

    # --- readiness

    @property
    def wait_queue(self) -> WaitQueue:
        if self.queue is None:
            self.queue = _WatchedQueue(self)
        return self.queue

    def poll(self) -> int:
        if self.kind == "file":
            return super().poll()
        events = self._ready(_POLLED)
        if events & POLLIN:
            events |= 0x40
        if events & POLLOUT:
            events |= 0x100
        return events

    def _ready(self, wanted: int) -> int:
        poller = poll()
        poller.register(self.host_fd, wanted)
        found = poller.poll(0)
        return found[0][1] if found else 0

    # --- data

    async def read(self, task: Task, size: int) -> bytes:
        while True:
            data = self._try_read(size)
            if data is not None:
                return data
            if self.flags & O_NONBLOCK:
                raise EAGAIN
            await wait(self.wait_queue)

    def _try_read(self, size: int) -> bytes | None:
        """None: nothing there yet."""
        if self.kind != "file" and not self._ready(POLLIN) & (POLLIN | POLLHUP | POLLERR):
            return None
        try:
            return os.read(self.host_fd, min(size, CHUNK if self.kind != "file" else 1 << 22))
        except BlockingIOError:
            return None  # somebody else who shares the description was faster
        except OSError as error:
            raise from_host(error)

    async def write(self, task: Task, data: bytes) -> int:
        done = 0
        while True:
            try:
                done += self._try_write(data[done : done + CHUNK])
            except EPIPE:
                if done:
                    return done
                task.kernel.send_signal(task, SIGPIPE)
                raise
            if done >= len(data):
                return done
            if self._ready(POLLOUT) & POLLOUT:
                continue
            if self.flags & O_NONBLOCK:
                if done:
                    return done
                raise EAGAIN
            try:
                await wait(self.wait_queue)
            except Interrupted:
                if done:
                    return done
                raise

    def _try_write(self, part: bytes) -> int:
        """As much as goes without blocking."""
        try:
            if self.kind == "socket":
                return _send(self.host_fd, part)
            if self.kind == "pipe":
                # A pipe that polls writable takes PIPE_BUF bytes; more might block.
                if not self._ready(POLLOUT) & (POLLOUT | POLLERR):
                    return 0
                part = part[:PIPE_BUF]
            elif self.kind == "device" and not self._ready(POLLOUT) & POLLOUT:
                return 0
            return os.write(self.host_fd, part)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise from_host(error)

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        self._seekable()
        try:
            return os.pread(self.host_fd, min(size, 1 << 22), offset)
        except OSError as error:
            raise from_host(error)

    async def pwrite(self, task: Task, data: bytes, offset: int) -> int:
        self._seekable()
        try:
            return os.pwrite(self.host_fd, data, offset)
        except OSError as error:
            raise from_host(error)

    def seek(self, offset: int, whence: int) -> int:
        self._seekable()
        try:
            return os.lseek(self.host_fd, offset, whence)
        except OSError as error:
            raise from_host(error)

    def _seekable(self) -> None:
        if self.kind in ("pipe", "socket"):
            raise ESPIPE

    async def ftruncate(self, task: Task, size: int) -> None:
        if self.kind != "file":
            raise EINVAL
        try:
            os.ftruncate(self.host_fd, size)
        except OSError as error:
            raise from_host(error)

    async def fsync(self, task: Task, datasync: bool) -> None:
        if self.kind != "file":
            raise EINVAL
        try:
            os.fdatasync(self.host_fd)
        except OSError as error:
            raise from_host(error)

    def mapping(self) -> int:
        if self.kind != "file":
            raise ENODEV
        return self.host_fd

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        import fcntl

        if cmd != FIONREAD or self.kind == "device":
            raise ENOTTY
        task.mem.write(arg, fcntl.ioctl(self.host_fd, FIONREAD, bytes(4)))
        return 0

    # --- the rest

    def describe(self) -> bytes | None:
        if self.kind == "device":
            return b"/dev/null" if self.inode.rdev == makedev(1, 3) else b"/dev/console"
        if self.kind == "file":
            return b"/host:[%d]" % self.inode.ino
        return b"pipe:[%d]" % self.inode.ino

    def release(self) -> None:
        if self.host_fd >= 0:
            if self.queue:
                sched().unwatch(self.host_fd)
            os.close(self.host_fd)
            self.host_fd = self.inode.host_fd = -1
            self.inode.mtime_ns = time_ns()


def _send(host_fd: int, part: bytes) -> int:
    """send(MSG_DONTWAIT) without taking the descriptor over."""
    sock = socket.socket(fileno=host_fd)
    try:
        return sock.send(part, MSG_DONTWAIT | MSG_NOSIGNAL)
    finally:
        sock.detach()


class _WatchedQueue(WaitQueue):
    """Watches the host descriptor while somebody is on the queue.

    Level triggered and shared: what nobody takes would wake the loop again and again, so it watches only the
    events that were not ready when it was armed, and is armed anew by the next one to wait.
    """

    __slots__ = ("_armed", "_stream")

    def __init__(self, stream: HostStream) -> None:
        super().__init__()
        self._stream = stream
        self._armed = 0

    def add(self, callback: object) -> None:
        super().add(callback)  # type: ignore[arg-type]
        self._arm()

    def remove(self, callback: object) -> None:
        super().remove(callback)  # type: ignore[arg-type]
        if not self:
            self._disarm()

    def _arm(self) -> None:
        stream = self._stream
        if stream.kind == "file" or stream.host_fd < 0:
            return
        access = stream.flags & O_ACCMODE
        wanted = (POLLIN if access != 1 else 0) | (POLLOUT if access != 0 else 0)
        wanted &= ~stream._ready(wanted)
        if wanted != self._armed:
            self._disarm()
            self._armed = wanted
            if wanted:
                sched().watch(stream.host_fd, wanted, self._fired)

    def _disarm(self) -> None:
        if self._armed:
            self._armed = 0
            sched().unwatch(self._stream.host_fd)

    def _fired(self, events: int) -> None:
        self._disarm()
        self.wake(events | (0x40 if events & POLLIN else 0) | (0x100 if events & POLLOUT else 0))
        if self:
            self._arm()
