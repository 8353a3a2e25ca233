"""Calls on host sockets of the sentry: errors become LinuxError classes, addresses are raw bytes. Never
blocks.

`receive` gives a view of one buffer that the next call overwrites.
"""

from __future__ import annotations

from typing import Any

from native import ffi, lib
from sentry.errors import from_errno

BUFFER_SIZE = 1 << 18  # what one receive call takes at most; no datagram is larger

_buffer = ffi.new("char[]", BUFFER_SIZE)
_view = ffi.buffer(_buffer)
_out = ffi.new("struct nc_recv *")
_out_addr = ffi.buffer(_out.addr)
_out_control = ffi.buffer(_out.control)
_small = ffi.new("char[4096]")
_small_view = ffi.buffer(_small)
_length = ffi.new("uint32_t *")
_NULL = ffi.NULL
_from_buffer = ffi.from_buffer
_send, _recv = lib.nc_sock_send, lib.nc_sock_recv
_EAGAIN = 11


def _checked(result: int) -> int:
    if result < 0:
        raise from_errno(-result)
    return result


def open_socket(domain: int, kind: int, protocol: int) -> int:
    """A new host descriptor."""
    return _checked(lib.nc_sock_open(domain, kind, protocol))


def close(host_fd: int) -> None:
    lib.nc_sock_close(host_fd)


def bind(host_fd: int, addr: bytes) -> None:
    _checked(lib.nc_sock_bind(host_fd, addr, len(addr)))


def connect(host_fd: int, addr: bytes) -> int:
    """0 or a positive errno: EINPROGRESS and EALREADY are no failures here."""
    return -lib.nc_sock_connect(host_fd, addr, len(addr))


def listen(host_fd: int, backlog: int) -> None:
    _checked(lib.nc_sock_listen(host_fd, backlog))


def accept(host_fd: int) -> tuple[int, bytes]:
    """The new host descriptor (-1: none waits) and the peer's address."""
    _length[0] = 128
    new = lib.nc_sock_accept(host_fd, _small, _length)
    if new == -_EAGAIN:
        return -1, b""
    return _checked(new), _small_view[: min(_length[0], 128)]


def name(host_fd: int, peer: bool) -> bytes:
    """getsockname(2) or getpeername(2)."""
    _length[0] = 128
    _checked(lib.nc_sock_name(host_fd, peer, _small, _length))
    return _small_view[: min(_length[0], 128)]


def shutdown(host_fd: int, how: int) -> None:
    _checked(lib.nc_sock_shutdown(host_fd, how))


def setopt(host_fd: int, level: int, option: int, value: bytes) -> None:
    _checked(lib.nc_sock_setopt(host_fd, level, option, value, len(value)))


def getopt(host_fd: int, level: int, option: int, size: int) -> bytes:
    _length[0] = min(size, 4096)
    _checked(lib.nc_sock_getopt(host_fd, level, option, _small, _length))
    return _small_view[: min(_length[0], 4096)]


def ioctl(host_fd: int, cmd: int, argument: bytes) -> bytes:
    """An ioctl on a plain structure without pointers: its contents afterwards."""
    size = len(argument)
    _small_view[:size] = argument
    _checked(lib.nc_sock_ioctl(host_fd, cmd, _small))
    return _small_view[:size]


def interface_list(host_fd: int, cmd: int, room: int) -> bytes:
    """SIOCGIFCONF: the array of struct ifreq, at most `room` bytes."""
    room = min(room, BUFFER_SIZE)
    conf = ffi.new("uint64_t[2]", [room, int(ffi.cast("uintptr_t", _buffer))])
    _checked(lib.nc_sock_ioctl(host_fd, cmd, conf))
    return _view[: min(conf[0] & 0xFFFFFFFF, room)]


def poll(host_fd: int) -> int:
    """POLL* events ready now."""
    return max(lib.nc_sock_poll(host_fd), 0)


def send(host_fd: int, data: Any, flags: int, addr: bytes = b"", control: bytes = b"") -> int:
    """The bytes sent, or -errno: EAGAIN and EPIPE are the caller's to tell apart."""
    return _send(
        host_fd,
        _from_buffer(data),
        len(data),
        flags,
        addr or _NULL,
        len(addr),
        control or _NULL,
        len(control),
    )


class Arrival:
    """What a receive left behind, besides the data."""

    __slots__ = ("control", "flags", "name", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.flags: int = _out.flags
        self.name: bytes = _out_addr[: min(_out.addr_len, 128)]
        self.control: bytes = _out_control[: _out.control_len]


def receive(host_fd: int, size: int, flags: int) -> int:
    """The bytes received, or -errno. `data`, and `arrival` for the rest, say what it was."""
    return _recv(host_fd, _buffer, min(size, BUFFER_SIZE), flags, _out)


def data(size: int) -> Any:
    """The first `size` bytes of what was received last, until the next receive."""
    return ffi.buffer(_buffer, size)
