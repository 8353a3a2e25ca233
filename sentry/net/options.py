"""SOL_SOCKET options of sockets that live in the sentry (AF_UNIX, AF_NETLINK): socket(7), unix(7).

What has an effect (buffers, credentials) is kept on the socket; what only has to read back as it was set is
kept here.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    CAP_NET_ADMIN,
    SO_BROADCAST,
    SO_BUF_LOCK,
    SO_DEBUG,
    SO_DETACH_FILTER,
    SO_DONTROUTE,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_LOCK_FILTER,
    SO_MARK,
    SO_NO_CHECK,
    SO_OOBINLINE,
    SO_PASSCRED,
    SO_PASSSEC,
    SO_PEERCRED,
    SO_PEERGROUPS,
    SO_PEERNAME,
    SO_PRIORITY,
    SO_RCVBUF,
    SO_RCVBUFFORCE,
    SO_RCVLOWAT,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_SNDBUFFORCE,
    SO_SNDLOWAT,
    SO_TIMESTAMP,
    SO_TIMESTAMPNS,
)
from sentry.errors import EINVAL, ENOENT, ENOPROTOOPT, EOPNOTSUPP, EPERM, ERANGE

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.net.netlink import NetlinkSocket
    from sentry.net.unix import UnixSocket

_INT = Struct("<i")
_LINGER = Struct("<ii")

BUFFER_MAX = 212992  # net.core.wmem_max and rmem_max
MIN_SNDBUF = 4608  # SOCK_MIN_SNDBUF
MIN_RCVBUF = 2304  # SOCK_MIN_RCVBUF

_FLAGS = (
    SO_DEBUG, SO_REUSEADDR, SO_BROADCAST, SO_DONTROUTE, SO_KEEPALIVE, SO_OOBINLINE, SO_NO_CHECK, SO_REUSEPORT,
    SO_TIMESTAMP, SO_TIMESTAMPNS, SO_PASSSEC, SO_LOCK_FILTER,
)  # fmt: skip
_READ_ONLY_DEFAULTS = {SO_SNDLOWAT: 1, SO_RCVLOWAT: 1}


class Options:
    """Option values by name."""

    __slots__ = ("_linger", "_values", "rcvbuf")

    def __init__(self) -> None:
        self._values: dict[int, int] = {}
        self._linger = (0, 0)
        self.rcvbuf = BUFFER_MAX

    # --- any socket of the sentry's own

    def set(self, task: Task, sock: UnixSocket | NetlinkSocket, name: int, value: bytes) -> None:
        """sk_setsockopt."""
        if len(value) < _INT.size:
            raise EINVAL
        number = _INT.unpack_from(value)[0]
        if name in _FLAGS:
            self._values[name] = int(bool(number))
        elif name == SO_LINGER:
            if len(value) < _LINGER.size:
                raise EINVAL
            on, seconds = _LINGER.unpack_from(value)
            self._linger = (int(bool(on)), seconds) if on else (0, self._linger[1])
        elif name in (SO_SNDBUF, SO_SNDBUFFORCE):
            sock.sndbuf = max(_buffer(task, number, name == SO_SNDBUFFORCE), MIN_SNDBUF)
            sock.wake(0x4)
        elif name in (SO_RCVBUF, SO_RCVBUFFORCE):
            self.rcvbuf = max(_buffer(task, number, name == SO_RCVBUFFORCE), MIN_RCVBUF)
        elif name == SO_PRIORITY:
            if not 0 <= number <= 6 and not task.creds.has_cap(CAP_NET_ADMIN):
                raise EPERM
            self._values[name] = number
        elif name == SO_MARK:
            if not task.creds.has_cap(CAP_NET_ADMIN):
                raise EPERM
            self._values[name] = number
        elif name == SO_RCVLOWAT:
            self._values[name] = 0x7FFFFFFF if number < 0 else number or 1
        elif name == SO_DETACH_FILTER:
            raise ENOENT
        elif name == SO_BUF_LOCK:
            if number & ~3:
                raise EINVAL
            self._values[name] = number
        else:
            raise ENOPROTOOPT

    def get(self, sock: UnixSocket | NetlinkSocket, name: int, size: int) -> bytes:
        """sk_getsockopt."""
        if name == SO_LINGER:
            return _LINGER.pack(*self._linger)[:size]
        if name == SO_SNDBUF:
            number = sock.sndbuf
        elif name == SO_RCVBUF:
            number = self.rcvbuf
        elif name == SO_ERROR:
            number, sock.error = sock.error, 0
        elif name in _FLAGS or name in (SO_PRIORITY, SO_MARK, SO_BUF_LOCK):
            number = self._values.get(name, 0)
        elif name in _READ_ONLY_DEFAULTS:
            number = self._values.get(name, 1)
        else:
            raise ENOPROTOOPT
        return _INT.pack(number)[:size]

    # --- AF_UNIX

    def set_unix(self, task: Task, sock: UnixSocket, name: int, value: bytes) -> None:
        if name == SO_PASSCRED:
            if len(value) < _INT.size:
                raise EINVAL
            sock.passcred = bool(_INT.unpack_from(value)[0])
        elif name == SO_REUSEPORT and len(value) >= _INT.size and _INT.unpack_from(value)[0]:
            raise EOPNOTSUPP  # inet sockets only
        else:
            self.set(task, sock, name, value)

    def get_unix(self, sock: UnixSocket, name: int, size: int) -> bytes:
        if name == SO_PASSCRED:
            return _INT.pack(sock.passcred)[:size]
        if name == SO_PEERCRED:
            return sock.peer_creds.pack()[:size]
        if name == SO_PEERGROUPS:
            groups = Struct(f"<{len(sock.peer_groups)}I").pack(*sock.peer_groups)
            if size < len(groups):
                raise ERANGE
            return groups
        if name == SO_PEERNAME:
            addr = sock.getpeername()
            if len(addr) < size:
                raise EINVAL
            return addr[:size]
        return self.get(sock, name, size)


def _buffer(task: Task, number: int, force: bool) -> int:
    """The size asked for, doubled as Linux does for its own overhead."""
    if force:
        if not task.creds.has_cap(CAP_NET_ADMIN):
            raise EPERM
        return min(max(number, 0), 0x3FFFFFFF) * 2
    return min(number & 0xFFFFFFFF, BUFFER_MAX) * 2
