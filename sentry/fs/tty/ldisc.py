"""N_TTY: what turns typed bytes into lines, echoes them, makes signals of ^C and edits with ^H (termios(3)).

    ldisc = LineDiscipline(driver)         # driver: where output goes and who is told what (Driver below)
    ldisc.receive(b"ls\\r")                # bytes from the terminal: how many were taken
    data = ldisc.take(100)                 # bytes for read(2), of what is available()
    taken = ldisc.output.write(b"hi\\n")   # what a process writes, as much as the driver has room for (output.py)

It keeps no clock and never waits; Tty (tty.py) does. Behaviour follows Linux's drivers/tty/n_tty.c byte for
byte; tests/unit/test_tty_ldisc.py runs both side by side.
"""

from __future__ import annotations

from collections import deque

from sentry.abi.linux import (
    ECHO,
    ECHOCTL,
    ECHOE,
    ECHOK,
    ECHOKE,
    ECHONL,
    ECHOPRT,
    EXTPROC,
    ICANON,
    ICRNL,
    IEXTEN,
    IGNCR,
    INLCR,
    ISIG,
    ISTRIP,
    IUCLC,
    IXANY,
    IXON,
    NOFLSH,
    PARMRK,
    SIGINT,
    SIGQUIT,
    SIGTSTP,
    VEOF,
    VEOL,
    VEOL2,
    VERASE,
    VINTR,
    VKILL,
    VLNEXT,
    VMIN,
    VQUIT,
    VREPRINT,
    VSTART,
    VSTOP,
    VSUSP,
    VTIME,
    VWERASE,
)
from sentry.fs.tty.output import ERASE_TAB, MOVE_BACK, SET_CANON_COLUMN, Driver, Output, is_control
from sentry.fs.tty.termios import Termios

BUFFER = 4096  # N_TTY_BUF_SIZE; one place stays free
READABLE = 0x41  # EPOLLIN | EPOLLRDNORM


def _is_alnum(c: int) -> bool:
    """Linux's ctype is Latin-1."""
    if c < 128:
        return 48 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122
    return c >= 192 and c not in (215, 247)


def _to_lower(c: int) -> int:
    return c + 32 if 65 <= c <= 90 or (192 <= c <= 222 and c != 215) else c


class LineDiscipline:
    """Input queue of one terminal."""

    __slots__ = (
        "_canon_head", "_driver", "_erasing", "_lnext", "_marks", "_push", "_queue", "_special", "_tail",
        "output", "raw", "termios",
    )  # fmt: skip

    def __init__(self, driver: Driver, termios: Termios | None = None) -> None:
        self._driver = driver
        self._queue = bytearray()  # unread input; its first byte is number _tail of the stream
        self._tail = 0
        self._canon_head = 0  # end of the last complete line, counted like _tail
        self._marks: deque[int] = deque()  # where the bytes that end lines are
        self._erasing = False  # inside \.../ of ECHOPRT
        self._lnext = False  # after ^V
        self._push = False
        self._special: frozenset[int] = frozenset()
        self.raw = False  # no character is special and none is echoed
        self.termios = termios or Termios()
        self.output = Output(driver, self.termios)
        self._learn()

    # --- settings

    def set_termios(self, new: Termios) -> None:
        old, self.termios, self.output.termios = self.termios, new, new
        if (old.lflag ^ new.lflag) & (ICANON | EXTPROC):
            self._marks.clear()
            if not new.lflag & ICANON or not self._queue:
                self._canon_head = self._tail
                self._push = False
            else:
                self._canon_head = self._head
                self._marks.append(self._head - 1)
                self._push = True
            self._erasing = self._lnext = False
        self._learn()
        if not new.iflag & IXON and old.iflag & IXON and self._driver.stopped:
            self._start()
        self._driver.wake(~0)

    def _learn(self) -> None:
        """Which bytes need more than to be queued and echoed."""
        t = self.termios
        cc = t.cc
        canonical, extended = t.lflag & ICANON, t.lflag & IEXTEN
        self.raw = not (
            t.iflag & (ISTRIP | IUCLC | IGNCR | ICRNL | INLCR | IXON | PARMRK)
            or t.lflag & (ICANON | ISIG | ECHO)
        )
        special = set()
        if t.iflag & (IGNCR | ICRNL):
            special.add(13)
        if t.iflag & INLCR:
            special.add(10)
        if canonical:
            special |= {cc[VERASE], cc[VKILL], cc[VEOF], 10, cc[VEOL]}
            if extended:
                special |= {cc[VWERASE], cc[VLNEXT], cc[VEOL2]}
                if t.lflag & ECHO:
                    special.add(cc[VREPRINT])
        if t.iflag & IXON:
            special |= {cc[VSTART], cc[VSTOP]}
        if t.lflag & ISIG:
            special |= {cc[VINTR], cc[VQUIT], cc[VSUSP]}
        special.discard(0)  # _POSIX_VDISABLE
        self._special = frozenset(special)

    @property
    def _head(self) -> int:
        return self._tail + len(self._queue)

    @property
    def _canonical(self) -> bool:
        return self.termios.lflag & (ICANON | EXTPROC) == ICANON

    # --- input

    def receive(self, data: bytes) -> int:
        """Input from the terminal. Gives how many bytes were taken; the rest must wait for a reader."""
        taken = 0
        size = len(data)
        while taken < size:
            used = len(self._queue)
            room = BUFFER - used
            if self.termios.iflag & PARMRK:
                room = (room + 2) // 3
            room -= 1
            if room <= 0:
                # A full line nobody can read: its last byte is overwritten, so that the newline still fits.
                if not (self.termios.lflag & ICANON and self._canon_head == self._tail):
                    break
                if room < 0:
                    del self._queue[-1:]
                room = 1
            part = data[taken : taken + room]
            if self.raw or (self.termios.lflag & EXTPROC and not self.termios.iflag & (ISTRIP | IUCLC)):
                self._queue += part
            else:
                for c in part:
                    self._receive(c)
                self.output.put_echoes()
            taken += len(part)
            if not self._canonical and self._queue:
                self._driver.wake(READABLE)
        return taken

    def _receive(self, c: int) -> None:
        t = self.termios
        if t.iflag & (ISTRIP | IUCLC):
            if t.iflag & ISTRIP:
                c &= 0x7F
            if t.iflag & IUCLC and t.lflag & IEXTEN:
                c = _to_lower(c)
        if self._lnext:
            self._lnext = False
            self._plain(c)
        elif t.lflag & EXTPROC:
            self._queue.append(c)
        elif c in self._special:
            self._receive_special(c)
        else:
            self._plain(c)

    def _plain(self, c: int) -> None:
        t = self.termios
        if self._driver.stopped and t.iflag & (IXON | IXANY) == IXON | IXANY:
            self._start()
        self._echo_and_queue(c)

    def _echo_and_queue(self, c: int) -> None:
        t = self.termios
        if t.lflag & ECHO:
            self._finish_erasing()
            if self._canon_head == self._head:
                self.output.echo_later(SET_CANON_COLUMN)
            self.output.echo(c)
        if c == 0xFF and t.iflag & PARMRK:
            self._queue.append(c)
        self._queue.append(c)

    def _receive_special(self, c: int) -> None:
        t, cc = self.termios, self.termios.cc
        if t.iflag & IXON:
            if c == cc[VSTART]:
                self._start()
                return
            if c == cc[VSTOP]:
                self._driver.set_stopped(True)
                return
        if t.lflag & ISIG:
            for index, sig in ((VINTR, SIGINT), (VQUIT, SIGQUIT), (VSUSP, SIGTSTP)):
                if c == cc[index]:
                    self._signal(sig, c)
                    return
        if self._driver.stopped and t.iflag & (IXON | IXANY) == IXON | IXANY:
            self._start()
        if c == 13:
            if t.iflag & IGNCR:
                return
            if t.iflag & ICRNL:
                c = 10
        elif c == 10 and t.iflag & INLCR:
            c = 13
        if t.lflag & ICANON and self._edit(c):
            return
        if t.lflag & ECHO and c == 10:
            self._finish_erasing()
            self.output.echo_raw(10)
            self._queue.append(c)
        else:
            self._echo_and_queue(c)

    def _signal(self, sig: int, c: int) -> None:
        self._driver.signal(sig)
        t = self.termios
        if not t.lflag & NOFLSH:
            self.output.discard_echoes()
            self._driver.discard_output()
            self.flush_input()
        if t.iflag & IXON:
            self._start()
        if t.lflag & ECHO:
            self.output.echo(c)
        else:
            self.output.put_echoes()

    def _edit(self, c: int) -> bool:
        """Canonical mode: line editing and line ends. False: an ordinary character after all."""
        t, cc = self.termios, self.termios.cc
        extended = t.lflag & IEXTEN
        if c == cc[VERASE] or c == cc[VKILL] or (c == cc[VWERASE] and extended):
            self._erase(c)
            return True
        if c == cc[VLNEXT] and extended:
            self._lnext = True
            if t.lflag & ECHO:
                self._finish_erasing()
                if t.lflag & ECHOCTL:
                    self.output.echo_raw(94)
                    self.output.echo_raw(8)
            return True
        if c == cc[VREPRINT] and t.lflag & ECHO and extended:
            self._finish_erasing()
            self.output.echo(c)
            self.output.echo_raw(10)
            for typed in self._queue[self._canon_head - self._tail :]:
                self.output.echo(typed)
            return True
        if c == 10:
            if t.lflag & (ECHO | ECHONL):
                self.output.echo_raw(10)
            self._end_line(c)
            return True
        if c == cc[VEOF]:
            self._end_line(0)
            return True
        if c == cc[VEOL] or (c == cc[VEOL2] and extended):
            if t.lflag & ECHO:
                if self._canon_head == self._head:
                    self.output.echo_later(SET_CANON_COLUMN)
                self.output.echo(c)
            if c == 0xFF and t.iflag & PARMRK:
                self._queue.append(c)
            self._end_line(c)
            return True
        return False

    def _end_line(self, c: int) -> None:
        """End the line with `c`; 0 stands for ^D, which no reader sees."""
        self._marks.append(self._head)
        self._queue.append(c)
        self._canon_head = self._head
        self._driver.wake(READABLE)

    def _erase(self, c: int) -> None:
        t, cc = self.termios, self.termios.cc
        queue = self._queue
        start = self._canon_head - self._tail
        if len(queue) == start:
            return
        if c == cc[VERASE]:
            kind = VERASE
        elif c == cc[VWERASE]:
            kind = VWERASE
        else:
            kind = VKILL
            if not t.lflag & ECHO:
                del queue[start:]
                return
            if t.lflag & (ECHOK | ECHOKE | ECHOE) != ECHOK | ECHOKE | ECHOE:
                del queue[start:]
                self._finish_erasing()
                self.output.echo(cc[VKILL])
                if t.lflag & ECHOK:
                    self.output.echo_raw(10)
                return
        seen_word = False
        while len(queue) > start:
            head = len(queue) - 1
            while self.output.is_continuation(queue[head]) and head > start:
                head -= 1
            first = queue[head]
            if self.output.is_continuation(first):
                break
            if kind == VWERASE:
                if _is_alnum(first) or first == 95:
                    seen_word = True
                elif seen_word:
                    break
            character = bytes(queue[head:])
            del queue[head:]
            if t.lflag & ECHO:
                self._echo_erase(character, kind, start)
            if kind == VERASE:
                break
        if len(queue) == start and t.lflag & ECHO:
            self._finish_erasing()

    def _echo_erase(self, character: bytes, kind: int, start: int) -> None:
        """Show that `character` is gone; the queue has lost it already."""
        t = self.termios
        c = character[0]
        if t.lflag & ECHOPRT:
            if not self._erasing:
                self.output.echo_raw(92)
                self._erasing = True
            self.output.echo(c)
            for more in character[1:]:
                self.output.echo_raw(more)
                self.output.echo_later(MOVE_BACK)
        elif kind == VERASE and not t.lflag & ECHOE:
            self.output.echo(t.cc[VERASE])
        elif c == 9:
            count = after_tab = 0
            for before in reversed(self._queue[start:]):
                if before == 9:
                    after_tab = 0x80
                    break
                if is_control(before):
                    count += 2 if t.lflag & ECHOCTL else 0
                elif not self.output.is_continuation(before):
                    count += 1
            self.output.echo_later(ERASE_TAB + ((count & 7) | after_tab))
        else:
            if is_control(c) and t.lflag & ECHOCTL:
                self.output.echo_later(*b"\b \b")
            if not is_control(c) or t.lflag & ECHOCTL:
                self.output.echo_later(*b"\b \b")

    def _finish_erasing(self) -> None:
        if self._erasing:
            self.output.echo_raw(47)
            self._erasing = False

    def _start(self) -> None:
        if self._driver.stopped:
            self._driver.set_stopped(False)
        self.output.put_echoes()

    # --- reading

    def available(self, polling: bool = False) -> bool:
        """Whether a read would give something (a ^D alone counts)."""
        if self._canonical:
            return self._canon_head != self._tail
        cc = self.termios.cc
        wanted = cc[VMIN] if polling and not cc[VTIME] and cc[VMIN] else 1
        return len(self._queue) >= wanted

    def take(self, size: int) -> bytes:
        """Up to `size` bytes of what is available(); canonical: at most one line, b"" for a ^D."""
        queue = self._queue
        if not self._canonical:
            data = bytes(queue[:size])
            if self.termios.lflag & (ICANON | EXTPROC) == ICANON | EXTPROC and len(queue) == 1:
                if data and data[0] == self.termios.cc[VEOF]:
                    self._drop(1)
                    return b""
            self._drop(len(data))
            return data
        line = self._marks[0] - self._tail if self._marks else None
        limit = min(size, self._canon_head - self._tail)
        if line is None or line > limit or (line == limit and queue[line : line + 1] != b"\0"):
            data = bytes(queue[:limit])  # the line goes on
            self._drop(limit)
            return data
        ends_with = queue[line]
        data = bytes(queue[:line]) if ends_with == 0 else bytes(queue[: line + 1])
        self._marks.popleft()
        self._drop(line + 1)
        self._push = False
        return data

    def _drop(self, count: int) -> None:
        del self._queue[:count]
        self._tail += count
        if self._canon_head < self._tail:
            self._canon_head = self._tail

    def flush_input(self) -> None:
        """TCIFLUSH: forget unread input."""
        self._tail = self._canon_head = self._head
        self._queue.clear()
        self._marks.clear()
        self._erasing = self._push = False

    def input_count(self) -> int:
        """FIONREAD."""
        if not self.termios.lflag & ICANON or self.termios.lflag & EXTPROC:
            return len(self._queue)
        ends = sum(1 for mark in self._marks if self._queue[mark - self._tail] == 0)
        return self._canon_head - self._tail - ends
