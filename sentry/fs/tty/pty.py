"""Pseudo terminals: a master that a program drives and a slave that looks like a terminal (pty(7)).

PtySlave and MasterFile are made by devpts (sentry/fs/devpts.py) when /dev/ptmx is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDNORM,
    EPOLLWRNORM,
    EXTPROC,
    IXON,
    O_CLOEXEC,
    O_NOCTTY,
    O_NONBLOCK,
    SIGINT,
    SIGQUIT,
    SIGTSTP,
    TCFLSH,
    TCIOFF,
    TCION,
    TCOOFF,
    TCOON,
    TCXONC,
    TIOCGPKT,
    TIOCGPTLCK,
    TIOCGPTN,
    TIOCGPTPEER,
    TIOCINQ,
    TIOCOUTQ,
    TIOCPKT,
    TIOCPKT_DATA,
    TIOCPKT_DOSTOP,
    TIOCPKT_FLUSHREAD,
    TIOCPKT_FLUSHWRITE,
    TIOCPKT_IOCTL,
    TIOCPKT_NOSTOP,
    TIOCPKT_START,
    TIOCPKT_STOP,
    TIOCSIG,
    TIOCSPTLCK,
    VSTART,
    VSTOP,
)
from sentry.errors import EAGAIN, EINVAL, EIO, Interrupted
from sentry.fs.tty.ioctls import tty_ioctl
from sentry.fs.tty.termios import Termios
from sentry.fs.tty.tty import INPUT_MAX, Tty
from sentry.kernel.sched import WaitQueue, wait
from sentry.vfs.file import File

if TYPE_CHECKING:
    from sentry.fs.devpts import Devpts
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

# Linux: 4096 in the master's line discipline, 8192 in the buffer before it. ^C flushes only the latter.
NEAR, FAR = 4096, INPUT_MAX


class PtySlave(Tty):
    """The slave side, and what both sides share."""

    def __init__(self, kernel: Kernel, index: int) -> None:
        super().__init__(kernel, Termios().for_pty())
        self.index = index
        self.locked = True
        self.packet = False
        self.packet_status = 0
        self.master_queue = WaitQueue()
        self.output = bytearray()  # what the master has not read yet
        self.ever_opened = False
        self.master_open = True

    # --- output side

    def room(self) -> int:
        return 0 if self._stopped else NEAR + FAR - len(self.output)

    def put(self, data: bytes) -> None:
        if not self.master_open:
            return
        self.output += data
        self.master_queue.wake(EPOLLIN | EPOLLRDNORM)

    def discard_output(self) -> None:
        del self.output[NEAR:]
        self._report(TIOCPKT_FLUSHWRITE)
        self.queue.wake(EPOLLOUT | EPOLLWRNORM)

    def set_stopped(self, stopped: bool) -> None:
        if stopped != self._stopped:
            self._report(TIOCPKT_STOP if stopped else TIOCPKT_START)
        super().set_stopped(stopped)

    def input_drained(self) -> None:
        self.master_queue.wake(EPOLLOUT | EPOLLWRNORM)

    def _report(self, status: int) -> None:
        """Packet mode: tell the master what happened."""
        if not self.packet:
            return
        if status == TIOCPKT_STOP:
            self.packet_status &= ~TIOCPKT_START
        elif status == TIOCPKT_START:
            self.packet_status &= ~TIOCPKT_STOP
        self.packet_status |= status
        self.master_queue.wake(EPOLLIN | EPOLLRDNORM | EPOLLPRI)

    def flush(self, which: int) -> None:
        super().flush(which)
        if which != 1:
            self._report(TIOCPKT_FLUSHREAD)

    def set_termios(self, new: Termios) -> None:
        old = self.ldisc.termios
        super().set_termios(new)
        if self.packet:
            self._report_flow(old, new)

    def _report_flow(self, old: Termios, new: Termios) -> None:
        def flow(t: Termios) -> bool:
            return bool(t.iflag & IXON) and t.cc[VSTOP] == 0x13 and t.cc[VSTART] == 0x11

        if flow(old) != flow(new):
            self.packet_status &= ~(TIOCPKT_DOSTOP | TIOCPKT_NOSTOP)
            self._report(TIOCPKT_DOSTOP if flow(new) else TIOCPKT_NOSTOP)
        if (old.lflag | new.lflag) & EXTPROC:
            self._report(TIOCPKT_IOCTL)

    # --- life

    def opened(self, task: Task, flags: int) -> None:
        if self.locked or not self.master_open:
            raise EIO
        super().opened(task, flags)
        self.ever_opened = True

    def closed(self) -> None:
        super().closed()
        if self.opens == 0:
            self.master_queue.wake()

    @property
    def slave_closed(self) -> bool:
        """The master reads EIO once the slave was open and is not any more."""
        return self.ever_opened and self.opens == 0

    def master_closed(self) -> None:
        self.master_open = False
        self.other_closed = True
        self.output.clear()
        self.hang_up()


class MasterFile(File):
    """/dev/ptmx, opened."""

    __slots__ = ("devpts", "slave", "stopped")
    async_io = stream = takes_splice = gives_splice = True

    def __init__(self, inode: Inode, path: Path | None, flags: int, slave: PtySlave, devpts: Devpts) -> None:
        super().__init__(inode, path, flags)
        self.slave = slave
        self.devpts = devpts
        self.stopped = False  # TCOOFF: writes wait
        self.queue = slave.master_queue

    async def read(self, task: Task, size: int) -> bytes:
        slave = self.slave
        while True:
            if not size:
                return b""
            if slave.packet and slave.packet_status:
                status, slave.packet_status = slave.packet_status, 0
                return bytes((status,))
            if slave.output:
                return self._take(size)
            if slave.slave_closed:
                raise EIO
            if self.flags & O_NONBLOCK:
                raise EAGAIN
            await wait(slave.master_queue)

    def _take(self, size: int) -> bytes:
        slave = self.slave
        head = b""
        if slave.packet:
            head, size = bytes((TIOCPKT_DATA,)), size - 1
        data = head + slave.output[:size]
        was_full = len(slave.output) >= FAR
        del slave.output[:size]
        if was_full or slave.ldisc.output.echo_waits:
            slave.output_ready()
        return bytes(data)

    async def write(self, task: Task, data: bytes) -> int:
        slave = self.slave
        done = 0
        while True:
            room = 0 if self.stopped else FAR - slave.backlog
            if room > 0:
                part = data[done : done + room]
                slave.input(part)
                done += len(part)
            if done == len(data):
                return done
            if self.flags & O_NONBLOCK:
                if done:
                    return done
                raise EAGAIN
            try:
                await wait(slave.master_queue)
            except Interrupted:
                if done:
                    return done
                raise

    def poll(self) -> int:
        slave = self.slave
        mask = 0
        if slave.output:
            mask |= EPOLLIN | EPOLLRDNORM
        if slave.packet and slave.packet_status:
            mask |= EPOLLPRI | EPOLLIN | EPOLLRDNORM
        if slave.slave_closed:
            mask |= EPOLLHUP
        if slave.backlog < FAR and not self.stopped:
            mask |= EPOLLOUT | EPOLLWRNORM
        return mask

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        slave, mem = self.slave, task.mem
        if cmd == TIOCGPTN:
            mem.write_u32(arg, slave.index)
        elif cmd == TIOCSPTLCK:
            slave.locked = mem.read_u32(arg) != 0
        elif cmd == TIOCGPTLCK:
            mem.write_u32(arg, int(slave.locked))
        elif cmd == TIOCPKT:
            slave.packet = mem.read_u32(arg) != 0
            slave.packet_status = 0
        elif cmd == TIOCGPKT:
            mem.write_u32(arg, int(slave.packet))
        elif cmd == TIOCSIG:
            if arg not in (SIGINT, SIGQUIT, SIGTSTP):
                raise EINVAL
            slave.signal(arg)
        elif cmd == TIOCGPTPEER:
            return self._open_peer(task, arg)
        elif cmd == TIOCINQ:
            mem.write_u32(arg, len(slave.output))
        elif cmd == TIOCOUTQ:
            mem.write_u32(arg, 0)
        elif cmd == TCFLSH:
            self._flush(arg)
        elif cmd == TCXONC:
            self._flow(arg)
        else:
            return await tty_ioctl(task, self, slave, cmd, arg, master=True)
        return 0

    def _flush(self, which: int) -> None:
        if which not in (0, 1, 2):
            raise EINVAL
        if which != 1:
            self.slave.output.clear()
            self.slave.output_ready()
        if which != 0:
            self.slave.drop_backlog()

    def _flow(self, action: int) -> None:
        """tcflow(3) on this side: of what is written here."""
        if action in (TCOOFF, TCOON):
            self.stopped = action == TCOOFF
            if not self.stopped:
                self.slave.master_queue.wake(EPOLLOUT | EPOLLWRNORM)
        elif action in (TCIOFF, TCION):
            cc = self.slave.ldisc.termios.cc
            self.slave.insert(cc[VSTOP : VSTOP + 1] if action == TCIOFF else cc[VSTART : VSTART + 1])
        else:
            raise EINVAL

    def _open_peer(self, task: Task, flags: int) -> int:
        if flags & ~(3 | O_NOCTTY | O_NONBLOCK | O_CLOEXEC):
            raise EINVAL
        file = self.devpts.open_peer(task, self, flags)
        return task.fds.install(file, bool(flags & O_CLOEXEC))

    def release(self) -> None:
        self.slave.master_closed()
        self.devpts.remove(self.slave.index)
