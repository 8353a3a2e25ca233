"""A small driver for an interactive program on a pty: send keys, expect text, resize, read the exit code."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

PATIENCE_S = 10.0
# What readline says around each prompt; of no interest here.
BRACKETED_PASTE = "\x1b\\[\\?2004[hl]\r?"


class Terminal:
    """`with Terminal(argv) as t: t.expect(...); t.send(...)`. With `own` the program's session owns the pty."""

    def __init__(self, argv: Sequence[str], env: Mapping[str, str], rows: int = 24, columns: int = 80, own: bool = True):
        self.master, slave = os.openpty()
        self.text = ""
        self.resize(rows, columns)

        def take_terminal() -> None:
            os.setsid()
            if own:
                fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(
            list(argv), stdin=slave, stdout=slave, stderr=slave, env=dict(env), preexec_fn=take_terminal, close_fds=True
        )
        os.close(slave)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, keys: str) -> None:
        os.write(self.master, keys.encode())

    def expect(self, pattern: str, patience_s: float = PATIENCE_S) -> re.Match[str]:
        """Read until `pattern` shows up in what was not yet matched; what precedes it is dropped."""
        deadline = time.monotonic() + patience_s
        while not (found := re.search(pattern, self.text)):
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"no {pattern!r} in {self.text!r}")
        self.text = self.text[found.end() :]
        return found

    def wait(self, patience_s: float = PATIENCE_S) -> int:
        """The exit code, as a shell shows it."""
        deadline = time.monotonic() + patience_s
        while self._read(deadline - time.monotonic()):
            pass
        code = self.process.wait(max(0.1, deadline - time.monotonic()))
        return code if code >= 0 else 128 - code

    def _read(self, timeout_s: float) -> bool:
        if timeout_s <= 0 or not select.select([self.master], [], [], timeout_s)[0]:
            return False
        try:
            piece = os.read(self.master, 65536)
        except OSError:  # EIO: the last holder of the other end is gone
            return False
        self.text = re.sub(BRACKETED_PASTE, "", self.text + piece.decode(errors="replace"))
        return bool(piece)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.master >= 0:
            self.hang_up()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def hang_up(self) -> None:
        """Close the window: whoever has the terminal gets SIGHUP."""
        os.close(self.master)
        self.master = -1
