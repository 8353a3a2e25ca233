"""What a terminal shows: output processing (OPOST) with its column, and the echoes of what is typed (termios(3)).

    output = Output(driver, termios)       # driver: the terminal under it (Driver below)
    output.echo(c)                         # queue the echo of a byte; put_echoes() shows those there is room for
    taken = output.write(b"hello\\n")      # what a process writes, as much as the driver has room for

The half of drivers/tty/n_tty.c that erases needs where each character stands: hence the queue of echoes, whose
operations are done when they are shown.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from sentry.abi.linux import ECHOCTL, OCRNL, OLCUC, ONLCR, ONLRET, ONOCR, OPOST, TABDLY
from sentry.fs.tty.termios import Termios

IUTF8 = 0o40000
ECHO_MAX = 4096

# Entries of the echo list below 256 are bytes; a control character tagged ^X is 256 + byte.
_CARET = 256
SET_CANON_COLUMN = 512
MOVE_BACK = 513
ERASE_TAB = 1024  # + number of characters; bit 7: counted from a previous tab
_RAW = 2048  # + byte: not subject to output processing (an escaped 0xff)


class Driver(Protocol):
    """What a line discipline needs of the terminal under it."""

    def room(self) -> int:
        """Bytes of output taken now; 0 while output is stopped."""

    def put(self, data: bytes) -> None:
        """Output, never more than room() said."""

    def signal(self, sig: int) -> None:
        """Send `sig` to the foreground process group."""

    def wake(self, mask: int) -> None:
        """Readiness may have changed."""

    def discard_output(self) -> None:
        """^C: throw away what the terminal has not shown yet."""

    def set_stopped(self, stopped: bool) -> None:
        """^S and ^Q."""

    @property
    def stopped(self) -> bool: ...


def is_control(c: int) -> bool:
    return c < 32 or c == 127


def _to_upper(c: int) -> int:
    return c - 32 if 97 <= c <= 122 or (c >= 223 and c != 247) else c


class Output:
    """Echo queue and column of one terminal."""

    __slots__ = ("_canon_column", "_column", "_driver", "_echo", "termios")

    def __init__(self, driver: Driver, termios: Termios) -> None:
        self._driver = driver
        self._echo: deque[int] = deque()  # not put out yet
        self._column = 0
        self._canon_column = 0  # where the current line began
        self.termios = termios

    # --- echo

    def echo(self, c: int) -> None:
        """A typed byte, a control character as ^X with ECHOCTL."""
        if c == 0xFF:
            self._echo.append(_RAW + c)
        elif self.termios.lflag & ECHOCTL and is_control(c) and c != 9:
            self._echo.append(_CARET + c)
        else:
            self._echo.append(c)
        if len(self._echo) > ECHO_MAX:
            self._echo.popleft()

    def echo_raw(self, c: int) -> None:
        """A byte as it is."""
        self._echo.append(_RAW + c if c == 0xFF else c)

    def put_echoes(self) -> None:
        """Put out the echoes there is room for."""
        echo = self._echo
        if not echo:
            return
        space = self._driver.room()
        out = bytearray()
        while echo:
            op = echo[0]
            if op < 256:
                done = self._output_char(op, space - len(out))
                if done is None:
                    break
                out += done
            elif op < 512:
                if space - len(out) < 2:
                    break
                out += bytes((94, (op - _CARET) ^ 0x40))
                self._column += 2
            elif op == SET_CANON_COLUMN:
                self._canon_column = self._column
            elif op == MOVE_BACK:
                self._column = max(0, self._column - 1)
            elif op < _RAW:
                count = op - ERASE_TAB
                if not count & 0x80:
                    count += self._canon_column
                back = 8 - (count & 7)
                if space - len(out) < back:
                    break
                out += b"\b" * back
                self._column = max(0, self._column - back)
            else:
                if space - len(out) < 1:
                    break
                out.append(op - _RAW)
                self._column += 1
            echo.popleft()
        if out:
            self._driver.put(bytes(out))

    def echo_later(self, *operations: int) -> None:
        """Bytes and SET_CANON_COLUMN, MOVE_BACK, ERASE_TAB."""
        self._echo.extend(operations)

    def discard_echoes(self) -> None:
        self._echo.clear()

    @property
    def echo_waits(self) -> bool:
        """Echoes found no room."""
        return bool(self._echo)

    # --- output

    def _output_char(self, c: int, space: int) -> bytes | None:
        """Output processing of one byte (OPOST); None: not enough room."""
        if space < 1:
            return None
        oflag = self.termios.oflag
        if not oflag & OPOST:
            return bytes((c,))
        if c == 10:
            if oflag & ONLRET:
                self._column = 0
            if oflag & ONLCR:
                if space < 2:
                    return None
                self._canon_column = self._column = 0
                return b"\r\n"
            self._canon_column = self._column
        elif c == 13:
            if oflag & ONOCR and self._column == 0:
                return b""
            if oflag & OCRNL:
                if oflag & ONLRET:
                    self._canon_column = self._column = 0
                return b"\n"
            self._canon_column = self._column = 0
        elif c == 9:
            spaces = 8 - (self._column & 7)
            if oflag & TABDLY == TABDLY:
                if space < spaces:
                    return None
                self._column += spaces
                return b" " * spaces
            self._column += spaces
        elif c == 8:
            self._column = max(0, self._column - 1)
        elif not is_control(c):
            if oflag & OLCUC:
                c = _to_upper(c)
            if not self.is_continuation(c):
                self._column += 1
        return bytes((c,))

    def write(self, data: bytes) -> int:
        """Output of a process: gives how many bytes of `data` were taken (0: no room now)."""
        self.put_echoes()
        driver = self._driver
        oflag = self.termios.oflag
        if not oflag & OPOST:
            part = data[: driver.room()]
            if part:
                driver.put(part)
            return len(part)
        if oflag & (OLCUC | OCRNL | ONOCR | ONLRET) or oflag & TABDLY == TABDLY:
            return self._write_slowly(data)
        taken = 0
        while taken < len(data):
            space = driver.room()
            part = data[taken : taken + space]
            out = part.replace(b"\n", b"\r\n") if oflag & ONLCR else part
            if len(out) > space:
                part = part[: space // 2]
                out = part.replace(b"\n", b"\r\n")
            if not out:
                break
            self._advance(part)
            driver.put(out)
            taken += len(part)
        return taken

    def _write_slowly(self, data: bytes) -> int:
        space = self._driver.room()
        out = bytearray()
        taken = 0
        for c in data:
            done = self._output_char(c, space - len(out))
            if done is None:
                break
            out += done
            taken += 1
        if out:
            self._driver.put(bytes(out))
        return taken

    def _advance(self, part: bytes) -> None:
        """Keep the column over `part`, which holds nothing that output processing changes but newlines."""
        newline, return_ = part.rfind(b"\n"), part.rfind(b"\r")
        last = max(newline, return_)
        if last >= 0 and (last == return_ or self.termios.oflag & ONLCR):
            self._column = self._canon_column = 0
            part = part[last + 1 :]
        for c in part[-4096:]:
            if c == 9:
                self._column += 8 - (self._column & 7)
            elif c == 8:
                self._column = max(0, self._column - 1)
            elif c == 10:
                self._canon_column = self._column
            elif not is_control(c) and not self.is_continuation(c):
                self._column += 1

    def is_continuation(self, c: int) -> bool:
        return c & 0xC0 == 0x80 and bool(self.termios.iflag & IUTF8)
