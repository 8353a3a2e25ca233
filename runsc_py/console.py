"""Terminals: a pty pair on the host, its master handed to the client or proxied to the caller's terminal."""

import fcntl
import os
import struct
import termios
from typing import Any

from runsc_py.errors import RuntimeFault, host_fault


def open_pair(rows: int = 0, columns: int = 0) -> tuple[int, int]:
    """(master, slave) of a new pty, of that size if one is given."""
    try:
        master, slave = os.openpty()
    except OSError as error:
        raise host_fault("cannot allocate a terminal", error) from None
    if rows and columns:
        set_size(master, rows, columns)
    return master, slave


def set_size(descriptor: int, rows: int, columns: int) -> None:
    fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows & 0xFFFF, columns & 0xFFFF, 0, 0))


def get_size(descriptor: int) -> tuple[int, int]:
    """(rows, columns), zeros when it is no terminal."""
    try:
        rows, columns, _, _ = struct.unpack("HHHH", fcntl.ioctl(descriptor, termios.TIOCGWINSZ, bytes(8)))
        return rows, columns
    except OSError:
        return 0, 0


def send_master(console_socket: str, master: int) -> None:
    """Hand the master to whoever listens on --console-socket (AF_UNIX stream, one SCM_RIGHTS descriptor)."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(10)
        try:
            _connect(sock, console_socket)
            socket.send_fds(sock, [b"/dev/ptmx"], [master])
        except OSError as error:
            raise RuntimeFault(f"console socket {console_socket}: {error.strerror or error}") from None


def _connect(sock: Any, path: str) -> None:
    if len(os.fsencode(path)) < 108:
        sock.connect(path)
        return
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{os.path.basename(path)}")
    finally:
        os.close(directory)


class RawTerminal:
    """The caller's terminal in raw mode while a `with` lasts; nothing when it is not a terminal."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._saved: list[Any] | None = None

    def __enter__(self) -> "RawTerminal":
        try:
            self._saved = termios.tcgetattr(self.descriptor)
        except termios.error:
            return self
        raw = termios.tcgetattr(self.descriptor)
        raw[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR
                    | termios.IGNCR | termios.ICRNL | termios.IXON)  # fmt: skip
        raw[1] &= ~termios.OPOST
        raw[2] = (raw[2] & ~(termios.CSIZE | termios.PARENB)) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self.descriptor, termios.TCSANOW, raw)
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            try:
                termios.tcsetattr(self.descriptor, termios.TCSADRAIN, self._saved)
            except termios.error:
                pass
