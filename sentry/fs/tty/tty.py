"""Tty: a terminal as processes see it: reading, writing, job control, hang-up (tty(4)); its ioctls are in ioctls.py.

What the terminal is connected to (a pty master, the host's terminal) is the subclass's business: it gives
the output side (room, put, discard_output) and feeds input by :meth:`Tty.input`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    CAP_SYS_ADMIN,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDNORM,
    EPOLLWRNORM,
    F_OWNER_PGRP,
    F_OWNER_PID,
    ICANON,
    O_NOCTTY,
    O_NONBLOCK,
    SIGTTIN,
    SIGTTOU,
    SIGWINCH,
    TIOCSPGRP,
    TOSTOP,
    VMIN,
    VTIME,
)
from sentry.errors import EAGAIN, EBUSY, EINVAL, EIO, ENOTTY, Interrupted
from sentry.fs.tty.ioctls import tty_ioctl
from sentry.fs.tty.jobs import check_change
from sentry.fs.tty.ldisc import LineDiscipline
from sentry.fs.tty.termios import Termios
from sentry.kernel.sched import WaitQueue, sched, wait
from sentry.vfs.file import File

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

READABLE = EPOLLIN | EPOLLRDNORM
WRITABLE = EPOLLOUT | EPOLLWRNORM
WRITE_CHUNK = 1 << 16
INPUT_MAX = 8192  # bytes that wait for the line discipline


class Tty:
    """One terminal. It is the line discipline's Driver."""

    def __init__(self, kernel: Kernel, termios: Termios) -> None:
        self.kernel = kernel
        self.index = 0  # its number below /dev/pts
        self.queue = WaitQueue()
        self.foreground = WaitQueue()  # woken when the foreground process group changes
        self.ldisc = LineDiscipline(self, termios)
        self.winsize = bytes(8)
        self.session = 0  # the session it controls
        self.pgrp = 0  # its foreground process group
        self.exclusive = False
        self.hung_up = False
        self.other_closed = False  # nobody is at the other end: readers get EIO, pollers EPOLLHUP
        self.opens = 0
        self._stopped = False
        self._backlog = bytearray()  # input the line discipline had no room for

    # --- the line discipline's driver; the subclass has the other half

    def room(self) -> int:
        """Bytes of output taken now."""
        raise NotImplementedError

    def put(self, data: bytes) -> None:
        raise NotImplementedError

    def discard_output(self) -> None:
        """Throw away output that was not shown yet."""

    def signal(self, sig: int) -> None:
        if self.pgrp:
            self.kernel.signal_pgrp(self.pgrp, sig)

    def wake(self, mask: int) -> None:
        self.queue.wake(mask & 0xFFFFFFFF)

    @property
    def stopped(self) -> bool:
        return self._stopped

    def set_stopped(self, stopped: bool) -> None:
        self._stopped = stopped
        if not stopped:
            self.queue.wake(WRITABLE)

    # --- input from the other end

    def input(self, data: bytes) -> None:
        """Bytes typed; what finds no room waits in the backlog."""
        if self._backlog:
            self._backlog += data
            return
        taken = self.ldisc.receive(data)
        if taken < len(data):
            self._backlog += data[taken:]

    def insert(self, byte: bytes) -> None:
        """A byte that nobody typed (ioctls); lost if the reader is far behind (tty_insert_flip_char)."""
        if self.backlog < INPUT_MAX:
            self.input(byte)

    @property
    def backlog(self) -> int:
        return len(self._backlog)

    def drop_backlog(self) -> None:
        self._backlog.clear()

    def _drain_backlog(self) -> None:
        if self._backlog:
            taken = self.ldisc.receive(bytes(self._backlog))
            del self._backlog[:taken]
            if taken:
                self.input_drained()

    def input_drained(self) -> None:
        """There is room for input again."""

    def output_ready(self) -> None:
        """There is room for output again."""
        self.ldisc.output.put_echoes()
        self.queue.wake(WRITABLE)

    # --- reading and writing

    async def read(self, task: Task, size: int, nonblock: bool) -> bytes:
        """n_tty_read(): VMIN and VTIME as termios(3) says."""
        if self.hung_up:
            return b""
        await check_change(task, self, SIGTTIN)
        if not size:
            return b""
        t = self.ldisc.termios
        canonical = bool(t.lflag & ICANON)
        minimum, tenths = (0, 0) if canonical else (t.cc[VMIN], t.cc[VTIME])
        # VMIN > 0: VTIME runs from byte to byte; VMIN = 0: from the call on.
        deadline = None if canonical or minimum else sched().now_ns() + tenths * 100_000_000
        got = bytearray()
        while True:
            if not self.ldisc.available():
                self._drain_backlog()
            if self.ldisc.available():
                got += self.ldisc.take(size - len(got))
                self._drain_backlog()
                if canonical or len(got) >= max(1, minimum) or len(got) == size:
                    return bytes(got)
                if tenths:
                    deadline = sched().now_ns() + tenths * 100_000_000
                continue
            if self.other_closed:
                if got:
                    return bytes(got)
                raise EIO
            if self.hung_up or (deadline is not None and sched().now_ns() >= deadline):
                return bytes(got)
            if nonblock:
                if got:
                    return bytes(got)
                raise EAGAIN
            try:
                await self._wait(deadline)
            except Interrupted:
                if got:
                    return bytes(got)
                raise

    async def _wait(self, deadline_ns: int | None) -> None:
        await wait(self.queue, deadline_ns=deadline_ns)

    async def write(self, task: Task, data: bytes, nonblock: bool) -> int:
        if self.hung_up:
            raise EIO
        if self.ldisc.termios.lflag & TOSTOP:
            await check_change(task, self, SIGTTOU)
        done = 0
        while True:
            if self.hung_up or self.other_closed:
                if done:
                    return done
                raise EIO
            done += self.ldisc.output.write(data[done : done + WRITE_CHUNK])
            if done == len(data):
                return done
            if nonblock:
                if done:
                    return done
                raise EAGAIN
            try:
                await self._wait(None)
            except Interrupted:
                if done:
                    return done
                raise

    def poll(self) -> int:
        if self.hung_up:
            return READABLE | WRITABLE | EPOLLERR | EPOLLHUP
        mask = 0
        if not self.ldisc.available(True):
            self._drain_backlog()
        if self.ldisc.available(True):
            mask |= READABLE
        if self.other_closed:
            mask |= EPOLLHUP
        if self.room() > 0:
            mask |= WRITABLE
        return mask

    # --- life

    def opened(self, task: Task, flags: int) -> None:
        """An open(2) that got through: it may make this the opener's controlling terminal."""
        if self.exclusive and not task.creds.has_cap(CAP_SYS_ADMIN):
            raise EBUSY
        self.opens += 1
        group, ttys = task.group, task.kernel.ttys
        if flags & O_NOCTTY or flags & 3 == 1 or self.session or group.tgid != group.sid():
            return
        if ttys.of(group) is None:
            ttys.set(group.sid(), self, group.pgid())

    def closed(self) -> None:
        """The last descriptor of one open description is gone."""
        self.opens -= 1

    def hang_up(self) -> None:
        """The other end is gone (vhangup(2)): SIGHUP for the session's leader, end of file for all."""
        if self.hung_up:
            return
        self.hung_up = True
        self.kernel.ttys.hang_up(self, self.kernel)
        self.ldisc.flush_input()
        self._backlog.clear()
        self.queue.wake()

    def session_ended(self) -> None:
        """The leader of the session it controlled exited."""

    # --- settings

    def get_winsize(self) -> bytes:
        return self.winsize

    def set_winsize(self, size: bytes) -> None:
        if size != self.winsize:
            self.winsize = size
            self.signal(SIGWINCH)

    def set_termios(self, new: Termios) -> None:
        self.ldisc.set_termios(new.for_pty())
        self._drain_backlog()

    def flush(self, which: int) -> None:
        """TCFLSH: 0 unread input, 1 unshown output, 2 both."""
        if which not in (0, 1, 2):
            raise EINVAL
        if which != 1:
            self.ldisc.flush_input()
            self._backlog.clear()
            self.input_drained()
        if which != 0:
            self.discard_output()

    async def drain(self) -> None:
        """tcdrain(3): wait until all output was shown. A pty's is at once."""


class TtyFile(File):
    """An open terminal (not the master side of a pty)."""

    __slots__ = ("tty",)
    async_io = stream = takes_splice = gives_splice = True

    def __init__(self, inode: Inode, path: Path | None, flags: int, tty: Tty) -> None:
        super().__init__(inode, path, flags)
        self.tty = tty
        self.queue = tty.queue

    async def read(self, task: Task, size: int) -> bytes:
        return await self.tty.read(task, size, bool(self.flags & O_NONBLOCK))

    async def write(self, task: Task, data: bytes) -> int:
        return await self.tty.write(task, data, bool(self.flags & O_NONBLOCK))

    def poll(self) -> int:
        return self.tty.poll()

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        if self.tty.hung_up:
            raise ENOTTY if cmd == TIOCSPGRP else EIO
        return await tty_ioctl(task, self, self.tty, cmd, arg)

    def async_owner(self, task: Task) -> tuple[int, int] | None:
        """__tty_fasync."""
        return (F_OWNER_PGRP, self.tty.pgrp) if self.tty.pgrp else (F_OWNER_PID, task.group.tgid)

    def release(self) -> None:
        self.tty.closed()
