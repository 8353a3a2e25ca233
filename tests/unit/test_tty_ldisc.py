"""The line discipline beside the host's own: the same settings and bytes give the same echo and reads.

Covers: sentry.fs.tty.output
"""

import fcntl
import os
import random
import select
import termios
import time

import pytest

from sentry.abi import linux as L
from sentry.fs.tty.ldisc import LineDiscipline
from sentry.fs.tty.termios import Termios

IUTF8 = 0o40000


class FakeDriver:
    def __init__(self) -> None:
        self.shown = bytearray()
        self.signals: list[int] = []
        self.stopped = False
        self.limit = 1 << 20

    def room(self) -> int:
        return 0 if self.stopped else self.limit - len(self.shown)

    def put(self, data: bytes) -> None:
        assert len(data) <= self.room()
        self.shown += data

    def signal(self, sig: int) -> None:
        self.signals.append(sig)

    def wake(self, mask: int) -> None:
        pass

    def discard_output(self) -> None:
        pass

    def set_stopped(self, stopped: bool) -> None:
        self.stopped = stopped

    def show(self) -> bytes:
        shown = bytes(self.shown)
        self.shown.clear()
        return shown


class HostPty:
    """The judge: a pty of the host."""

    def __init__(self, settings: Termios) -> None:
        self.master, self.slave = os.openpty()
        os.set_blocking(self.master, False)
        os.set_blocking(self.slave, False)
        self.poller = select.poll()
        self.poller.register(self.master, select.POLLIN)
        self.set_termios(settings)

    def set_termios(self, settings: Termios) -> None:
        fcntl.ioctl(self.slave, L.TCSETS, settings.pack())

    def type(self, data: bytes, expected: bytes) -> bytes:
        os.write(self.master, data)
        return self.screen(expected)

    def screen(self, expected: bytes = b"") -> bytes:
        """What is shown. The host moves bytes in a work queue: wait for as much as is expected, then until it is quiet."""
        shown = b""
        while self.poller.poll(4 if len(shown) >= len(expected) else 2000):
            shown += os.read(self.master, 65536)
        return shown

    def input_count(self, expected: int) -> int:
        """How much can be read, once it is as much as is expected or does not become so."""
        end = time.monotonic() + 2
        while True:
            count = int.from_bytes(fcntl.ioctl(self.slave, termios.FIONREAD, bytes(4)), "little")
            if count == expected or time.monotonic() > end:
                return count

    def read(self, size: int) -> bytes | None:
        try:
            return os.read(self.slave, size)
        except BlockingIOError:
            return None

    def write(self, data: bytes, expected: bytes) -> bytes:
        os.write(self.slave, data)
        return self.screen(expected)

    def close(self) -> None:
        os.close(self.master)
        os.close(self.slave)


def read_all(read) -> list[bytes]:
    got = []
    while (data := read(1000)) is not None:
        got.append(data)
    return got


class Ours:
    def __init__(self, settings: Termios) -> None:
        self.driver = FakeDriver()
        self.ldisc = LineDiscipline(self.driver, settings)

    def read(self, size: int) -> bytes | None:
        return self.ldisc.take(size) if self.ldisc.available() else None


def settings(iflag=0, oflag=0, lflag=0, cc: dict[int, int] | None = None) -> Termios:
    default = Termios()
    chars = bytearray(default.cc)
    for index, value in (cc or {}).items():
        chars[index] = value
    return Termios(
        default.iflag ^ iflag, default.oflag ^ oflag, default.cflag, default.lflag ^ lflag, 0, bytes(chars)
    )


CASES = [
    ("plain line", settings(), b"hello\n"),
    ("carriage return", settings(), b"hello\r"),
    ("erase", settings(), b"helpp\x7flo\n"),
    ("erase past the start", settings(), b"a\x7f\x7f\x7fb\n"),
    ("erase a control character", settings(), b"a\x01\x7fb\n"),
    ("erase a tab", settings(), b"ab\tc\x7f\x7f\x7fd\n"),
    ("erase tab after tab", settings(), b"\ta\t\x7f\x7f\x7f\n"),
    ("kill", settings(), b"some words\x15again\n"),
    ("kill without ECHOKE", settings(lflag=L.ECHOKE), b"some words\x15again\n"),
    ("kill without ECHOK", settings(lflag=L.ECHOK), b"some words\x15again\n"),
    ("word erase", settings(), b"one two_2 ,.\x17\x17three\n"),
    ("literal next", settings(), b"a\x16\x03b\x16\x7f\x7f\n"),
    ("reprint", settings(), b"a\x01\tb\x12c\n"),
    ("end of file", settings(), b"abc\x04\x04"),
    ("two lines", settings(), b"one\ntwo\nthree"),
    ("no echo", settings(lflag=L.ECHO), b"secret\x7f\n"),
    ("ECHONL", settings(lflag=L.ECHO | L.ECHONL), b"secret\n"),
    ("ECHOPRT", settings(lflag=L.ECHOPRT), b"abcd\x7f\x7fxy\n"),
    ("no ECHOE", settings(lflag=L.ECHOE), b"ab\x7f\x7fcd\n"),
    ("no ECHOCTL", settings(lflag=L.ECHOCTL), b"a\x01b\x7f\x7f\n"),
    ("INLCR IGNCR", settings(iflag=L.INLCR | L.IGNCR), b"a\rb\nc\r\n\x04"),
    ("IUTF8 erase", settings(iflag=IUTF8), "aé€𝄞".encode() + b"\x7f\x7f\x7f\x7fz\n"),
    ("no IUTF8", settings(), "aé".encode() + b"\x7f\x7f\n"),
    ("ISTRIP", settings(iflag=L.ISTRIP), b"\xe1\xe2\n"),
    ("IUCLC", settings(iflag=L.IUCLC), b"ABC\xc0\n"),
    ("PARMRK", settings(iflag=L.PARMRK), b"a\xffb\n"),
    ("all bits", settings(), bytes(b for b in range(256) if b not in (3, 26, 28, 17, 19)) + b"\n"),
    ("VEOL", settings(cc={L.VEOL: 0x3B, L.VEOL2: 0x2C}), b"a;b,c\n"),
    ("signals", settings(), b"abc\x03def\n"),
    ("NOFLSH", settings(lflag=L.NOFLSH), b"abc\x03def\n"),
    ("signals off", settings(lflag=L.ISIG), b"abc\x03def\x1a\n"),
    ("IXON", settings(), b"a\x13b\x11c\n"),
    ("IXANY", settings(iflag=L.IXANY), b"a\x13bc\n"),
    ("no IXON", settings(iflag=L.IXON), b"a\x13b\x11c\n"),
    ("raw", settings(iflag=L.ICRNL | L.IXON, lflag=L.ICANON | L.ECHO | L.ISIG), b"a\r\n\x03\x7f"),
    ("cbreak", settings(lflag=L.ICANON), b"a\r\n\x7f\x15\x04\tb"),
    ("no OPOST", settings(oflag=L.OPOST), b"a\nb\tc\x7f\x7f\n"),
    ("XTABS", settings(oflag=L.XTABS), b"a\tb\t\x7f\x7fc\n"),
    ("OLCUC", settings(oflag=L.OLCUC), b"abc\xe1\n"),
    ("OCRNL", settings(iflag=L.ICRNL, oflag=L.OCRNL, lflag=L.ECHOCTL), b"abc\rdef\n"),
    ("ONOCR", settings(iflag=L.ICRNL, oflag=L.ONOCR, lflag=L.ECHOCTL), b"\r\rabc\r\r\n"),
    ("ONLRET", settings(oflag=L.ONLRET | L.ONLCR), b"abc\n\td\x7f\x7f\n"),
    ("long line", settings(), b"x" * 5000 + b"\n"),
    ("EXTPROC", settings(lflag=L.EXTPROC), b"abc\x7f\n\x04"),
]


@pytest.mark.parametrize(("name", "termios_", "typed"), CASES, ids=[case[0] for case in CASES])
def test_same_echo_and_reads_as_the_host(name: str, termios_: Termios, typed: bytes) -> None:
    host, ours = HostPty(termios_), Ours(termios_)
    try:
        assert ours.ldisc.receive(typed) == len(typed)
        echo = ours.driver.show()
        shown = host.type(typed, echo)
        assert host.input_count(ours.ldisc.input_count()) == ours.ldisc.input_count()
        assert read_all(ours.read) == read_all(host.read)
        assert echo + ours.driver.show() == shown + host.screen()
    finally:
        host.close()


@pytest.mark.parametrize("seed", range(40))
def test_random_typing_echoes_as_on_the_host(seed: int) -> None:
    rng = random.Random(seed)
    flags = settings(
        iflag=sum(rng.sample([L.IXANY, L.INLCR, L.IGNCR, L.ICRNL, IUTF8, L.IUCLC], 2)),
        oflag=sum(rng.sample([L.ONLCR, L.ONOCR, L.OCRNL, L.XTABS, L.OLCUC, L.ONLRET], 2)),
        lflag=sum(
            rng.sample([L.ECHOE, L.ECHOK, L.ECHOKE, L.ECHOCTL, L.ECHOPRT, L.ECHONL, L.IEXTEN, L.NOFLSH], 2)
        ),
    )
    alphabet = b"abc XYZ_09\t\t\n\r\x7f\x7f\x7f\x15\x17\x16\x12\x04\x01\x08\xff\xc3\xa9\xe2\x82\xac"
    host, ours = HostPty(flags), Ours(flags)
    try:
        for _ in range(6):
            typed = bytes(rng.choice(alphabet) for _ in range(rng.randrange(1, 30)))
            ours.ldisc.receive(typed)
            echo = ours.driver.show()
            assert host.type(typed, echo) == echo
            if rng.random() < 0.3:
                printed = bytes(rng.choice(alphabet) for _ in range(rng.randrange(1, 20)))
                assert ours.ldisc.output.write(printed) == len(printed)
                echo = ours.driver.show()
                assert host.write(printed, echo) == echo
            host.input_count(ours.ldisc.input_count())
            if rng.random() < 0.5:
                size = rng.randrange(1, 20)
                assert ours.read(size) == host.read(size)
            if rng.random() < 0.2:
                flags = Termios(flags.iflag, flags.oflag, flags.cflag, flags.lflag ^ L.ICANON, 0, flags.cc)
                host.set_termios(flags)
                ours.ldisc.set_termios(flags)
        assert read_all(ours.read) == read_all(host.read)
    finally:
        host.close()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 100])
@pytest.mark.parametrize("typed", [b"abc\n", b"abc\x04", b"\x04", b"ab\nc\x04\nd\n"])
def test_short_reads_of_lines(size: int, typed: bytes) -> None:
    host, ours = HostPty(settings()), Ours(settings())
    try:
        ours.ldisc.receive(typed)
        host.type(typed, ours.driver.show())
        host.input_count(ours.ldisc.input_count())
        while (data := host.read(size)) is not None:
            assert ours.read(size) == data
        assert ours.read(size) is None
    finally:
        host.close()


@pytest.mark.parametrize(
    "oflag", [0, L.ONLCR, L.ONLCR | L.ONLRET, L.OCRNL, L.ONOCR, L.XTABS, L.OLCUC], ids=hex
)
def test_output_processing(oflag: int) -> None:
    text = b"a\tb\n\tc\rd\x08\te\x1b[1mf\xe9\n\r\rg\n"
    flags = settings(oflag=oflag)
    host, ours = HostPty(flags), Ours(flags)
    try:
        assert ours.ldisc.output.write(text) == len(text)
        shown = ours.driver.show()
        assert host.write(text, shown) == shown
    finally:
        host.close()


def test_write_stops_where_the_terminal_has_no_room() -> None:
    ours = Ours(settings())
    ours.driver.limit = 10
    assert ours.ldisc.output.write(b"ab\ncd\nef\ngh") == 8
    assert ours.driver.show() == b"ab\r\ncd\r\nef"[:10]
    assert ours.ldisc.output.write(b"\ngh") == 3


def test_full_buffer_holds_back_what_follows_a_complete_line() -> None:
    ours = Ours(settings(lflag=L.ECHO))
    line = b"x" * 99 + b"\n"
    taken = ours.ldisc.receive(line * 50)
    assert taken == 4095
    assert ours.read(1000) == line
    assert ours.ldisc.receive((line * 50)[taken:]) == 100


def test_signal_characters_reach_the_foreground() -> None:
    ours = Ours(settings())
    for typed in (b"\x03", b"\x1c", b"\x1a"):
        ours.ldisc.receive(typed)
    assert ours.driver.signals == [L.SIGINT, L.SIGQUIT, L.SIGTSTP]
    assert ours.driver.show() == b"^C^\\^Z"


def test_stop_and_start() -> None:
    ours = Ours(settings())
    ours.ldisc.receive(b"\x13")
    assert ours.ldisc.output.write(b"hi") == 0
    ours.ldisc.receive(b"ab")
    assert ours.driver.show() == b""
    ours.ldisc.receive(b"\x11")
    assert ours.driver.show() == b"ab"
    assert ours.ldisc.output.write(b"hi") == 2
