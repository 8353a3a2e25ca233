"""SOL_SOCKET options as sk_setsockopt and sk_getsockopt have them (socket(7), net/core/sock.c).

    sock.own_options().set(task, sock, SO_MARK, value)   # EINVAL, EPERM, ENOPROTOOPT, …
    sock.options.get(task, sock, SO_MARK, size)

Options with an effect in the sentry (buffers, credentials, time stamps) are attributes; the others only read back as
they were set. Inet sockets pass on what the host must know (inet_options.py) and keep the rest here.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_UNIX,
    CAP_NET_ADMIN,
    CAP_NET_RAW,
    IPPROTO_TCP,
    SO_ATTACH_BPF,
    SO_ATTACH_FILTER,
    SO_BINDTODEVICE,
    SO_BINDTOIFINDEX,
    SO_BPF_EXTENSIONS,
    SO_BROADCAST,
    SO_BSDCOMPAT,
    SO_BUF_LOCK,
    SO_BUSY_POLL,
    SO_BUSY_POLL_BUDGET,
    SO_CNX_ADVICE,
    SO_DEBUG,
    SO_DETACH_FILTER,
    SO_DONTROUTE,
    SO_ERROR,
    SO_INCOMING_CPU,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_LOCK_FILTER,
    SO_MARK,
    SO_MAX_PACING_RATE,
    SO_NETNS_COOKIE,
    SO_NO_CHECK,
    SO_NOFCS,
    SO_OOBINLINE,
    SO_PASSCRED,
    SO_PASSPIDFD,
    SO_PASSRIGHTS,
    SO_PASSSEC,
    SO_PEEK_OFF,
    SO_PEERCRED,
    SO_PEERGROUPS,
    SO_PEERNAME,
    SO_PEERPIDFD,
    SO_PREFER_BUSY_POLL,
    SO_PRIORITY,
    SO_RCVBUF,
    SO_RCVBUFFORCE,
    SO_RCVLOWAT,
    SO_RCVMARK,
    SO_RCVPRIORITY,
    SO_RESERVE_MEM,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_RXQ_OVFL,
    SO_SELECT_ERR_QUEUE,
    SO_SNDBUF,
    SO_SNDBUFFORCE,
    SO_SNDLOWAT,
    SO_TIMESTAMP_NEW,
    SO_TIMESTAMP_OLD,
    SO_TIMESTAMPING_NEW,
    SO_TIMESTAMPING_OLD,
    SO_TIMESTAMPNS_NEW,
    SO_TIMESTAMPNS_OLD,
    SO_TXREHASH,
    SO_TXTIME,
    SO_WIFI_STATUS,
    SO_ZEROCOPY,
)
from sentry.errors import (
    EACCES,
    EINVAL,
    ENODATA,
    ENOENT,
    ENOPROTOOPT,
    ENOTCONN,
    EOPNOTSUPP,
    EPERM,
    ERANGE,
    LinuxError,
)
from sentry.net.interfaces import interface_index, interface_name
from sentry.net.jiffies import FOR_EVER_S

if TYPE_CHECKING:
    from sentry.kernel.task import Task, ThreadGroup
    from sentry.net.scm import Ucred
    from sentry.net.socket import Socket

_INT = Struct("<i")
_UINT = Struct("<I")
_PAIR = Struct("<ii")
_LINGER = Struct("<iI")
_ULONG = Struct("<Q")

DEFAULT_BUFFER = 212992  # net.core.wmem_default and rmem_default
MIN_SNDBUF = 4608  # SOCK_MIN_SNDBUF
MIN_RCVBUF = 2304  # SOCK_MIN_RCVBUF
INT_MAX = 0x7FFFFFFF
ULONG_MAX = (1 << 64) - 1
IFNAMSIZ = 16
STAMPS = (SO_TIMESTAMP_OLD, SO_TIMESTAMPNS_OLD, SO_TIMESTAMP_NEW, SO_TIMESTAMPNS_NEW)
_TIMESTAMPING = (SO_TIMESTAMPING_OLD, SO_TIMESTAMPING_NEW)
_TIMESTAMPING_MASK = (1 << 19) - 1  # SOF_TIMESTAMPING_MASK
_SNDBUF_LOCK, _RCVBUF_LOCK = 1, 2

#: what is on or off, and nothing else
_FLAGS = frozenset((
    SO_REUSEADDR, SO_BROADCAST, SO_DONTROUTE, SO_KEEPALIVE, SO_OOBINLINE, SO_NO_CHECK, SO_RXQ_OVFL, SO_WIFI_STATUS,
    SO_NOFCS, SO_SELECT_ERR_QUEUE,
))  # fmt: skip
#: what reads back as a number, and its default
_NUMBERS = {
    SO_DEBUG: 0, SO_PRIORITY: 0, SO_REUSEPORT: 0, SO_SNDLOWAT: 1, SO_MARK: 0, SO_LOCK_FILTER: 0, SO_BUSY_POLL: 0,
    SO_INCOMING_CPU: -1, SO_ZEROCOPY: 0, SO_PREFER_BUSY_POLL: 0, SO_BUF_LOCK: 0, SO_RESERVE_MEM: 0, SO_RCVMARK: 0,
    SO_RCVPRIORITY: 0, SO_BSDCOMPAT: 0, SO_BPF_EXTENSIONS: 64, **dict.fromkeys(_FLAGS, 0),
}  # fmt: skip
_SCM_FAMILIES = (AF_UNIX, AF_NETLINK)
#: what may come along with a message: the attribute it is kept in, and the families that have it
_PASSED: dict[int, tuple[str, tuple[int, ...]]] = {
    SO_PASSCRED: ("passcred", _SCM_FAMILIES), SO_PASSSEC: ("passsec", _SCM_FAMILIES),
    SO_PASSPIDFD: ("passpidfd", (AF_UNIX,)), SO_PASSRIGHTS: ("passrights", (AF_UNIX,)),
}  # fmt: skip


class NeedsRoom(ERANGE):
    """getsockopt's buffer is too small; `size` is told where its size was."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size


class Peer:
    """Who is at the other end: SO_PEERCRED, SO_PEERGROUPS, SO_PEERPIDFD."""

    __slots__ = ("creds", "group", "groups")

    def __init__(self, creds: Ucred, groups: tuple[int, ...], group: ThreadGroup) -> None:
        self.creds = creds
        self.groups = groups
        self.group = group


class Options:
    """The options of one socket."""

    __slots__ = (
        "_bound_if", "_pacing", "_timestamping", "_txtime", "_values", "asks_sender", "linger", "passcred", "passpidfd",
        "passrights", "passsec", "peek_off", "rcvbuf", "rcvlowat", "sndbuf", "stamps",
    )  # fmt: skip

    def __init__(self) -> None:
        self._values: dict[int, int] = {}
        self.linger = (0, 0)  # on, seconds
        self._pacing = ULONG_MAX
        self._timestamping = (0, 0)
        self._txtime = (0, 0)
        self._bound_if = 0
        self.sndbuf = DEFAULT_BUFFER
        self.rcvbuf = DEFAULT_BUFFER
        self.rcvlowat = 1
        self.peek_off = -1  # SO_PEEK_OFF; -1: peeks start at the beginning
        self.stamps = 0  # which of STAMPS is on
        self.passcred = self.passpidfd = self.passsec = False
        self.asks_sender = False  # passcred or passpidfd
        self.passrights = True

    def copy(self) -> Options:
        new = Options()
        for name in self.__slots__:
            setattr(new, name, getattr(self, name))
        new._values = dict(self._values)
        return new

    def on(self, name: int) -> bool:
        return bool(self._values.get(name))

    # --- setting

    def set(self, task: Task, sock: Socket, name: int, value: bytes) -> None:
        """sk_setsockopt, but for what Socket.setsockopt does itself."""
        if name == SO_BINDTODEVICE:
            self._bind_to(task, interface_index(value[: IFNAMSIZ - 1].split(b"\0")[0]))
            return
        if len(value) < _INT.size:
            raise EINVAL
        number: int = _INT.unpack_from(value)[0]
        if name in _FLAGS:
            self._values[name] = int(bool(number))
        elif name in (SO_SNDBUF, SO_SNDBUFFORCE, SO_RCVBUF, SO_RCVBUFFORCE):
            self._set_buffer(task, sock, name, number)
        elif name in STAMPS:
            self.stamps = name if number else 0
        elif name in _PASSED:
            attribute, families = _PASSED[name]
            if sock.domain not in families:
                raise EOPNOTSUPP
            setattr(self, attribute, bool(number))
            self.asks_sender = self.passcred or self.passpidfd
        elif name == SO_LINGER:
            if len(value) < _PAIR.size:
                raise EINVAL
            on, seconds = _PAIR.unpack_from(value)
            self.linger = (1, seconds if seconds >= 0 else FOR_EVER_S) if on else (0, self.linger[1])
        elif name == SO_RCVLOWAT:
            self.rcvlowat = INT_MAX if number < 0 else number or 1
        elif name == SO_PEEK_OFF:
            if sock.domain == AF_NETLINK:
                raise EOPNOTSUPP
            self.peek_off = number
        elif name in _TIMESTAMPING:
            if number & ~_TIMESTAMPING_MASK:
                raise EINVAL
            self._timestamping = (number, _INT.unpack_from(value, 4)[0] if len(value) >= 8 else 0)
        elif name == SO_MAX_PACING_RATE:
            self._pacing = _ULONG.unpack_from(value)[0] if len(value) >= 8 else number & 0xFFFFFFFF
            if len(value) < 8 and number == -1:
                self._pacing = ULONG_MAX
        elif name == SO_BINDTOIFINDEX:
            self._bind_to(task, number)
        elif name == SO_TXTIME:
            if len(value) != _PAIR.size:
                raise EINVAL
            self._txtime = _PAIR.unpack(value)
        elif name in (SO_ATTACH_FILTER, SO_ATTACH_BPF, SO_DETACH_FILTER):
            self._filter(sock, name, value)
        else:
            kept = self._checked(task, sock, name, number)
            if kept is not None:
                self._values[name] = kept

    def _checked(self, task: Task, sock: Socket, name: int, number: int) -> int | None:
        """The value to keep of an option that has only a number; None for one that keeps nothing."""
        admin = task.creds.has_cap(CAP_NET_ADMIN)
        privileged = admin or task.creds.has_cap(CAP_NET_RAW)
        on = int(bool(number))
        if name == SO_DEBUG:
            if on and not admin:
                raise EACCES
            return on
        if name == SO_PRIORITY:
            if not 0 <= number <= 6 and not privileged:
                raise EPERM
        elif name == SO_MARK:
            if not privileged:
                raise EPERM
        elif name in (SO_RCVMARK, SO_RCVPRIORITY):
            if not privileged:
                raise EPERM
            return on
        elif name == SO_REUSEPORT:
            if on and sock.domain not in (AF_INET, AF_INET6):
                raise EOPNOTSUPP
            return on
        elif name == SO_LOCK_FILTER:
            if self.on(name) and not on:
                raise EPERM
            return on
        elif name == SO_BUF_LOCK:
            if number & ~(_SNDBUF_LOCK | _RCVBUF_LOCK):
                raise EINVAL
        elif name in (SO_BUSY_POLL, SO_RESERVE_MEM):
            if number < 0:
                raise EINVAL
            if name == SO_RESERVE_MEM:
                raise EOPNOTSUPP  # as where no memory cgroup accounts sockets
        elif name == SO_PREFER_BUSY_POLL:
            if on and not admin:
                raise EPERM
            return on
        elif name == SO_BUSY_POLL_BUDGET:
            if number > 0 and not admin:
                raise EPERM
            if not 0 <= number <= 0xFFFF:
                raise EINVAL
            return None
        elif name in (SO_ZEROCOPY, SO_TXREHASH):
            raise EOPNOTSUPP  # zero copy: what is sent is copied out of the guest at once
        elif name in (SO_BSDCOMPAT, SO_CNX_ADVICE):
            return None
        elif name != SO_INCOMING_CPU:
            raise ENOPROTOOPT
        return number

    def _set_buffer(self, task: Task, sock: Socket, name: int, number: int) -> None:
        """The size asked for, doubled as Linux does for its own overhead."""
        sending = name in (SO_SNDBUF, SO_SNDBUFFORCE)
        if name in (SO_SNDBUFFORCE, SO_RCVBUFFORCE):
            if not task.creds.has_cap(CAP_NET_ADMIN):
                raise EPERM
            size = min(max(number, 0), INT_MAX // 2) * 2
        else:
            size = min(number & 0xFFFFFFFF, buffer_max(task, sending), INT_MAX // 2) * 2
        self._values[SO_BUF_LOCK] = self._values.get(SO_BUF_LOCK, 0) | (_SNDBUF_LOCK if sending else _RCVBUF_LOCK)
        if sending:
            self.sndbuf = max(size, MIN_SNDBUF)
            sock.wake(0x4)
        else:
            self.rcvbuf = max(size, MIN_RCVBUF)

    def _bind_to(self, task: Task, index: int) -> None:
        """sock_bindtoindex_locked."""
        if self._bound_if and not task.creds.has_cap(CAP_NET_RAW):
            raise EPERM
        if index < 0:
            raise EINVAL
        self._bound_if = index

    def _filter(self, sock: Socket, name: int, value: bytes) -> None:
        """BPF programs on sockets are not there: none can be attached, so none can be detached."""
        if name == SO_DETACH_FILTER:
            raise EPERM if self.on(SO_LOCK_FILTER) else ENOENT
        if len(value) != (16 if name == SO_ATTACH_FILTER else 4):
            raise EINVAL
        if self.on(SO_LOCK_FILTER):
            raise EPERM
        raise EINVAL if name == SO_ATTACH_BPF else ENOPROTOOPT("socket filters")

    # --- getting

    def get(self, task: Task, sock: Socket, name: int, size: int) -> bytes:
        """sk_getsockopt; at most `size` bytes."""
        if name in _NUMBERS:
            return _INT.pack(self._values.get(name, _NUMBERS[name]))[:size]
        if name == SO_ERROR:
            return _INT.pack(sock.pending_error())[:size]
        if name == SO_SNDBUF:
            return _INT.pack(self.sndbuf)[:size]
        if name == SO_RCVBUF:
            return _INT.pack(self.rcvbuf)[:size]
        if name == SO_LINGER:
            return _LINGER.pack(self.linger[0], self.linger[1] & 0xFFFFFFFF)[:size]
        if name == SO_RCVLOWAT:
            return _INT.pack(self.rcvlowat)[:size]
        if name in STAMPS:
            return _INT.pack(self.stamps == name)[:size]
        if name in _PASSED:
            attribute, families = _PASSED[name]
            if sock.domain not in families:
                raise EOPNOTSUPP
            return _INT.pack(getattr(self, attribute))[:size]
        if name == SO_PEEK_OFF:
            if sock.domain == AF_NETLINK:
                raise EOPNOTSUPP
            return _INT.pack(self.peek_off)[:size]
        if name in _TIMESTAMPING:
            return _PAIR.pack(*self._timestamping)[:size]
        if name == SO_TXTIME:
            return _PAIR.pack(*self._txtime)[:size]
        if name == SO_MAX_PACING_RATE:
            whole = _ULONG.pack(self._pacing)
            return whole if size >= len(whole) else _UINT.pack(min(self._pacing, 0xFFFFFFFF))[:size]
        if name == SO_BINDTOIFINDEX:
            return _INT.pack(self._bound_if)[:size]
        if name == SO_BINDTODEVICE:
            return self._bound_name(size)
        if name == SO_ATTACH_FILTER:
            return b""  # the length of the program: there is none
        if name == SO_NETNS_COOKIE:
            if size != _ULONG.size:
                raise EINVAL
            return _ULONG.pack(1)
        if name == SO_TXREHASH:
            if sock.protocol != IPPROTO_TCP:
                raise EOPNOTSUPP
            return _INT.pack(1)[:size]
        return self._peer(task, sock, name, size)

    def _bound_name(self, size: int) -> bytes:
        if not self._bound_if:
            return b""
        if size < IFNAMSIZ:
            raise EINVAL
        return interface_name(self._bound_if) + b"\0"

    def _peer(self, task: Task, sock: Socket, name: int, size: int) -> bytes:
        peer = sock.peer_of()
        if name == SO_PEERCRED:
            from sentry.net.scm import NO_PEER

            return (peer.creds if peer is not None else NO_PEER).pack()[:size]
        if name == SO_PEERGROUPS:
            if peer is None:
                raise ENODATA
            groups = Struct(f"<{len(peer.groups)}I").pack(*peer.groups)
            if size < len(groups):
                raise NeedsRoom(len(groups))
            return groups
        if name == SO_PEERPIDFD:
            if peer is None:
                raise ENODATA
            from sentry.fs.pidfd import PidFd

            return _INT.pack(task.fds.install(PidFd(peer.group.leader), cloexec=True))[:size]
        if name == SO_PEERNAME:
            try:
                addr = sock.getpeername()
            except LinuxError:
                raise ENOTCONN
            if len(addr) < size:
                raise EINVAL
            return addr[:size]
        raise ENOPROTOOPT


#: what every socket has until an option of its own is set
DEFAULTS = Options()


def buffer_max(task: Task, sending: bool) -> int:
    """net.core.wmem_max or rmem_max."""
    from sentry.fs.proc.sysctl import read

    return int(read(task.kernel, b"net/core/wmem_max" if sending else b"net/core/rmem_max"))
