"""HostConsole: the container's terminal, the slave end of a host pty whose master the client holds.

The sentry puts that host terminal in raw mode once and runs its own line discipline over it, so that ^C,
echo and line editing are the sandbox's. The host signals nobody when the client changes the window size on
the master; so the size is looked at whenever the terminal is used, and every 250 ms while somebody waits.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from errno import EAGAIN as HOST_EAGAIN
from errno import EIO as HOST_EIO
from fcntl import ioctl
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    SIGWINCH,
    TCGETS,
    TCSETS,
    TIOCGWINSZ,
    TIOCSWINSZ,
)
from sentry.abi.x86_64 import TERMIOS
from sentry.errors import from_host
from sentry.fs.tty.termios import Termios, console_termios
from sentry.fs.tty.tty import Tty
from sentry.kernel.sched import Timer, sched, wait

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.vfs.file import File
    from sentry.vfs.mount import MountNamespace

OUTPUT = 16384  # bytes that may wait for the host's terminal
CHUNK = 4096
SIZE_CHECK_NS = 250_000_000


def _raw(host_fd: int) -> None:
    """cfmakeraw on the host terminal; VMIN 1, VTIME 0."""
    settings = Termios.unpack(ioctl(host_fd, TCGETS, bytes(TERMIOS.size)))
    cc = bytearray(settings.cc)
    cc[5], cc[6] = 0, 1
    raw = Termios(0, 0, settings.cflag, 0, settings.line, bytes(cc))
    ioctl(host_fd, TCSETS, raw.pack())


class HostConsole(Tty):
    """Owns `host_fd`, and is the only one who reads from that terminal."""

    index = 0  # its number below /dev/pts, once attached
    on_close: Callable[[int], None] | None = None  # called with `index` when the last description is closed

    def __init__(self, kernel: Kernel, host_fd: int) -> None:
        super().__init__(kernel, console_termios())
        self.host_fd = host_fd
        os.set_blocking(host_fd, False)
        _raw(host_fd)
        self.winsize = ioctl(host_fd, TIOCGWINSZ, bytes(8))
        self._output = bytearray()
        self._watched = 0
        self._waiting = 0
        self._timer: Timer | None = None
        self._watch()

    def _watch(self) -> None:
        """Watch for what is wanted now: input unless the backlog is full, room for output."""
        wanted = (EPOLLIN if self.backlog < CHUNK else 0) | (EPOLLOUT if self._output else 0)
        if self.hung_up:
            wanted = 0
        if wanted != self._watched:
            self._watched = wanted
            sched().unwatch(self.host_fd)
            if wanted:
                sched().watch(self.host_fd, wanted, self._host_ready)

    def _host_ready(self, events: int) -> None:
        if events & EPOLLOUT:
            self._write_out()
        if events & (EPOLLIN | EPOLLHUP | EPOLLERR):
            self._read_in()
        if not self.hung_up:
            self._watch()

    def _read_in(self) -> None:
        try:
            data = os.read(self.host_fd, CHUNK)
        except OSError as error:
            if error.errno == HOST_EAGAIN:
                return
            data = b""
        if not data:
            self.host_gone()
            return
        self._check_size()
        self.input(data)

    def host_gone(self) -> None:
        """The client closed the master: the terminal hangs up."""
        if not self.hung_up:
            sched().unwatch(self.host_fd)
            self._watched = 0
            self._output.clear()
            self.other_closed = True
            self.hang_up()

    def input_drained(self) -> None:
        self._watch()

    # --- output

    def room(self) -> int:
        return 0 if self._stopped else max(0, OUTPUT - len(self._output))

    def put(self, data: bytes) -> None:
        if self.hung_up:
            return
        self._output += data
        if len(self._output) == len(data):
            self._write_out()
        self._watch()

    def _write_out(self) -> None:
        was_full = len(self._output) >= OUTPUT // 2
        while self._output:
            try:
                done = os.write(self.host_fd, self._output[:CHUNK])
            except OSError as error:
                if error.errno == HOST_EIO:
                    self.host_gone()
                    return
                break
            del self._output[:done]
        if was_full or self.ldisc.output.echo_waits:
            self.output_ready()
        if not self._output:
            self.queue.wake(0)

    def discard_output(self) -> None:
        self._output.clear()
        self._watch()

    async def drain(self) -> None:
        while self._output and not self.hung_up:
            await wait(self.queue)

    # --- window size

    def _check_size(self) -> None:
        try:
            size = ioctl(self.host_fd, TIOCGWINSZ, bytes(8))
        except OSError:
            return
        if size != self.winsize:
            self.winsize = size
            self.signal(SIGWINCH)

    def get_winsize(self) -> bytes:
        self._check_size()
        return self.winsize

    def set_winsize(self, size: bytes) -> None:
        try:
            ioctl(self.host_fd, TIOCSWINSZ, size)
        except OSError as error:  # the client has just gone
            raise from_host(error)
        self._check_size()

    def poll(self) -> int:
        self._check_size()
        self._keep_looking()
        return super().poll()

    async def _wait(self, deadline_ns: int | None) -> None:
        self._waiting += 1
        self._keep_looking()
        try:
            await super()._wait(deadline_ns)
        finally:
            self._waiting -= 1

    def _keep_looking(self) -> None:
        if self._timer is None and not self.hung_up:
            self._timer = sched().call_at(sched().now_ns() + SIZE_CHECK_NS, self._look)

    def _look(self) -> None:
        self._timer = None
        self._check_size()
        if self._waiting or self.queue:
            self._keep_looking()

    # --- life

    def closed(self) -> None:
        super().closed()
        if self.opens == 0:
            self.close()

    def close(self) -> None:
        """The last user is gone: let go of the host's terminal."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.host_fd >= 0:
            sched().unwatch(self.host_fd)
            self._watched = 0
            os.close(self.host_fd)
            self.host_fd = -1
            self.hung_up = True
            self.kernel.ttys.forget(self)
            if self.on_close is not None:
                self.on_close(self.index)


def open_console(kernel: Kernel, mounts: MountNamespace, host_fd: int) -> File:
    """See sentry/fs/devpts.py, which gives the terminal its name."""
    from sentry.fs.devpts import open_console as attach

    return attach(kernel, mounts, host_fd)
