"""Termios: the settings of a terminal, and their layouts in guest memory (termios(3), ioctl_tty(2))."""

from __future__ import annotations

from struct import Struct

from sentry.abi.linux import (
    CBAUD,
    CREAD,
    CS8,
    CSIZE,
    ECHO,
    ECHOCTL,
    ECHOE,
    ECHOK,
    ECHOKE,
    HUPCL,
    ICANON,
    ICRNL,
    IEXTEN,
    ISIG,
    IXON,
    ONLCR,
    OPOST,
    PARENB,
)
from sentry.abi.x86_64 import TERMIOS, TERMIOS2

NCCS = 19
B38400 = 0xF
BOTHER = 0x1000
IBSHIFT = 16
TERMIO = Struct("<HHHHB8sx")  # struct termio of TCGETA: 16-bit flags and eight characters

# ^C ^\ DEL ^U ^D, VTIME 0, VMIN 1, no VSWTC, ^Q ^S ^Z, no VEOL, ^R ^O ^W ^V, no VEOL2 (INIT_C_CC)
DEFAULT_CC = b"\x03\x1c\x7f\x15\x04\x00\x01\x00\x11\x13\x1a\x00\x12\x0f\x17\x16\x00\x00\x00"

_LOW_SPEEDS = (0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400)
_HIGH_SPEEDS = (
    57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000, 1500000, 2000000, 2500000,
    3000000, 3500000, 4000000,
)  # fmt: skip


def _speed(code: int, other: int) -> int:
    """The baud rate that the CBAUD bits `code` name; BOTHER says it is given as a number."""
    if code & BOTHER:
        index = code & 0xF
        return other if not index else _HIGH_SPEEDS[index - 1]
    return _LOW_SPEEDS[code & 0xF]


class Termios:
    """One terminal's settings. Immutable by habit: tcsetattr makes a new one."""

    __slots__ = ("cc", "cflag", "iflag", "ispeed", "lflag", "line", "oflag", "ospeed")

    def __init__(
        self,
        iflag: int = ICRNL | IXON,
        oflag: int = OPOST | ONLCR,
        cflag: int = B38400 | CS8 | CREAD,
        lflag: int = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
        line: int = 0,
        cc: bytes = DEFAULT_CC,
        ispeed: int = 38400,
        ospeed: int = 38400,
    ) -> None:
        self.iflag = iflag
        self.oflag = oflag
        self.cflag = cflag
        self.lflag = lflag
        self.line = line
        self.cc = cc
        self.ispeed = ispeed
        self.ospeed = ospeed

    def pack(self) -> bytes:
        """struct termios, the kernel's 36 bytes (TCGETS)."""
        return TERMIOS.pack(self.iflag, self.oflag, self.cflag, self.lflag, self.line, self.cc)

    def pack2(self) -> bytes:
        """struct termios2 (TCGETS2)."""
        return TERMIOS2.pack(
            self.iflag, self.oflag, self.cflag, self.lflag, self.line, self.cc, self.ispeed, self.ospeed
        )

    def pack_old(self) -> bytes:
        """struct termio (TCGETA)."""
        return TERMIO.pack(
            self.iflag & 0xFFFF, self.oflag & 0xFFFF, self.cflag & 0xFFFF, self.lflag & 0xFFFF, self.line,
            self.cc[:8],
        )  # fmt: skip

    @classmethod
    def unpack(cls, data: bytes) -> Termios:
        """From struct termios; the speeds follow from c_cflag."""
        iflag, oflag, cflag, lflag, line, cc = TERMIOS.unpack(data)
        return cls(iflag, oflag, cflag, lflag, line, cc)._with_speeds(38400, 38400)

    @classmethod
    def unpack2(cls, data: bytes) -> Termios:
        """From struct termios2, whose speeds count where BOTHER is set."""
        iflag, oflag, cflag, lflag, line, cc, ispeed, ospeed = TERMIOS2.unpack(data)
        return cls(iflag, oflag, cflag, lflag, line, cc)._with_speeds(ispeed, ospeed)

    def updated_old(self, data: bytes) -> Termios:
        """These settings with the low halves replaced by struct termio (TCSETA)."""
        iflag, oflag, cflag, lflag, line, cc = TERMIO.unpack(data)
        high = ~0xFFFF
        return Termios(
            self.iflag & high | iflag, self.oflag & high | oflag, self.cflag & high | cflag,
            self.lflag & high | lflag, line, cc + self.cc[8:],
        )._with_speeds(self.ispeed, self.ospeed)  # fmt: skip

    def _with_speeds(self, ispeed: int, ospeed: int) -> Termios:
        out = self.cflag & CBAUD
        self.ospeed = _speed(out, ospeed)
        code_in = self.cflag >> IBSHIFT & CBAUD
        self.ispeed = _speed(code_in, ispeed) if code_in else self.ospeed
        return self

    def for_pty(self) -> Termios:
        """What a pty makes of it: always eight bits, no parity (pty_set_termios)."""
        self.cflag = self.cflag & ~(CSIZE | PARENB) | CS8 | CREAD
        return self


def console_termios() -> Termios:
    """The settings a fresh terminal has (tty_std_termios)."""
    return Termios(cflag=B38400 | CS8 | CREAD | HUPCL)
