"""AF_NETLINK (netlink(7)): NETLINK_ROUTE for reading, NETLINK_SOCK_DIAG (sockdiag.py), and a NETLINK_KOBJECT_UEVENT on
which nothing ever happens.

A guest's RTM_GET* request is checked and passed to a host netlink socket in the sandbox's own namespace,
made for the one request; rtnetlink answers while it is asked, so nothing waits. The answers are readdressed
to the guest's port and queued. Every other request is answered with EPERM, as Linux does without
CAP_NET_ADMIN.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    AF_NETLINK,
    AF_UNSPEC,
    CAP_NET_ADMIN,
    CAP_NET_BROADCAST,
    EPOLLERR,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    SCM_CREDENTIALS,
    SOCK_DGRAM,
    SOCK_RAW,
    SOL_NETLINK,
    SOL_SOCKET,
)
from sentry.errors import (
    EADDRINUSE,
    EAGAIN,
    ECONNREFUSED,
    EINVAL,
    EMSGSIZE,
    ENOBUFS,
    ENODATA,
    ENOPROTOOPT,
    EOPNOTSUPP,
    EPERM,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
)
from sentry.net import hostsock, sockaddr
from sentry.net.socket import Received, Socket, deadline

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.task import Task
    from sentry.net.scm import Control

NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_KOBJECT_UEVENT = 0, 4, 15

NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_CAPPED, NLM_F_DUMP = 1, 2, 4, 0x100, 0x300
NLMSG_ERROR, NLMSG_DONE, NLMSG_MIN_TYPE = 2, 3, 16
_RTM_MAX = 123
RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE = 18, 22, 26, 30, 34
_READABLE_TYPES = frozenset((
    RTM_GETLINK, RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH, RTM_GETRULE, 38, 58, 62, 66, 74, 82, 90, 94,
))  # fmt: skip
_KEPT_FLAGS = NLM_F_REQUEST | NLM_F_ACK | 0xF00  # what a reader may ask for

HEADER = Struct("<IHHII")  # length, type, flags, sequence number, port
_SOCKADDR = Struct("<HHII")
_INT = Struct("<i")
_MAX_REQUEST = 16384
_MAX_QUEUED = 1 << 20  # bytes of answers that nobody reads

# SOL_NETLINK options. EXT_ACK, CAP_ACK and GET_STRICT_CHK change what the host answers.
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP, _PKTINFO, _BROADCAST_ERROR, _NO_ENOBUFS, _ALL_NSID, _LIST, _CAP, _EXT, _STRICT = (
    1, 2, 3, 4, 5, 8, 9, 10, 11, 12,
)  # fmt: skip
_FLAG_OPTIONS = (_PKTINFO, _BROADCAST_ERROR, _NO_ENOBUFS, _CAP, _EXT, _STRICT)

_ports: dict[tuple[int, int], NetlinkSocket] = {}  # (protocol, port)


class NetlinkSocket(Socket):
    """A netlink socket. `port` is its address, 0 as long as it has none."""

    __slots__ = ("_flag_options", "_queued", "_rx", "dest", "error", "groups", "port")

    def __init__(self, creds: Credentials, kind: int, protocol: int, flags: int) -> None:
        super().__init__(creds, AF_NETLINK, kind, protocol, flags)
        self.port = 0
        self.groups = 0
        self.dest = (0, 0)  # port and groups that connect(2) set
        self.error = 0
        self._rx: deque[bytes] = deque()
        self._queued = 0
        self._flag_options: set[int] = set()

    @classmethod
    def create(cls, task: Task, kind: int, protocol: int, flags: int) -> NetlinkSocket:
        if kind not in (SOCK_RAW, SOCK_DGRAM):
            raise ESOCKTNOSUPPORT
        if protocol not in (NETLINK_ROUTE, NETLINK_SOCK_DIAG, NETLINK_KOBJECT_UEVENT):
            raise EPROTONOSUPPORT
        return cls(task.creds, kind, protocol, flags)

    # --- names

    async def bind(self, task: Task, addr: bytes) -> None:
        port, groups = self._parse(addr)
        if self.port:
            if port != self.port:
                raise EINVAL
        else:
            self._take_port(task, port)
        self.groups = groups

    async def connect(self, task: Task, addr: bytes) -> None:
        if sockaddr.family(addr) == AF_UNSPEC:
            self.dest = (0, 0)
            return
        port, groups = self._parse(addr)
        if port or groups:
            raise EPERM
        if not self.port:
            self._take_port(task, 0)
        self.dest = (port, groups)

    def getsockname(self) -> bytes:
        return _SOCKADDR.pack(AF_NETLINK, 0, self.port, self.groups)

    def getpeername(self) -> bytes:
        return _SOCKADDR.pack(AF_NETLINK, 0, *self.dest)

    def _parse(self, addr: bytes) -> tuple[int, int]:
        if len(addr) < _SOCKADDR.size or sockaddr.family(addr) != AF_NETLINK:
            raise EINVAL
        _, _, port, groups = _SOCKADDR.unpack_from(addr)
        return port, groups

    def _take_port(self, task: Task, port: int) -> None:
        """A port number of its own: the process's pid if it is free, as netlink_autobind does."""
        if port and (self.protocol, port) in _ports:
            raise EADDRINUSE
        candidate = port or task.group.tgid
        while not candidate or (self.protocol, candidate) in _ports:
            candidate = (candidate - 1) & 0xFFFFFFFF if candidate > 1 << 31 else 0xFFFFEFFF
        self.port = candidate
        _ports[self.protocol, candidate] = self

    # --- data

    async def send(
        self, task: Task, data: bytes, flags: int, name: bytes = b"", control: Control | None = None
    ) -> int:
        if flags & MSG_OOB:
            raise EOPNOTSUPP
        if not data:
            raise ENODATA
        if any(self._parse(name) if name else self.dest):
            raise ECONNREFUSED if task.creds.has_cap(CAP_NET_ADMIN) else EPERM("only the kernel is spoken to")
        if not self.port:
            self._take_port(task, 0)
        if len(data) > min(self.options.sndbuf - 32, _MAX_REQUEST):
            raise EMSGSIZE
        if self.protocol != NETLINK_KOBJECT_UEVENT:
            self._requests(data)
        return len(data)

    def _requests(self, data: bytes) -> None:
        """netlink_rcv_skb: each request in turn."""
        from sentry.net import sockdiag

        at = 0
        while len(data) - at >= HEADER.size:
            length, kind, flags, _, _ = HEADER.unpack_from(data, at)
            if length < HEADER.size or length > len(data) - at:
                return
            request = data[at : at + length]
            at += (length + 3) & ~3
            if not flags & NLM_F_REQUEST:
                continue
            error: int | None = 0
            if kind >= NLMSG_MIN_TYPE:
                error = self._route(request) if self.protocol == NETLINK_ROUTE else sockdiag.answer(self, request)
            if error is not None and (error or flags & NLM_F_ACK):
                self.deliver(_acknowledge(request, error, self.port, _CAP in self._flag_options))

    def _route(self, request: bytes) -> int | None:
        """rtnetlink_rcv_msg: the errno to acknowledge the request with; None: it is answered."""
        length, kind, _, _, _ = HEADER.unpack_from(request)
        if kind > _RTM_MAX:
            return EOPNOTSUPP.errno
        if length == HEADER.size:
            return 0  # one without a body does nothing
        if kind in _READABLE_TYPES:
            self.ask_host(NETLINK_ROUTE, request)
            return None
        # RTM_*: new, delete, get, set in turn; only get may be refused as unknown.
        return EOPNOTSUPP.errno if kind & 3 == 2 else EPERM.errno

    def ask_host(self, protocol: int, request: bytes, keep: Callable[[bytearray], bool] | None = None) -> bool:
        """Pass a checked request on and queue what comes back: the messages that `keep` changes and wants. False: there
        was none.
        """
        kept = False
        length, kind, flags, sequence, _ = HEADER.unpack_from(request)
        flags &= _KEPT_FLAGS
        checked = HEADER.pack(length, kind, flags, sequence, 0) + request[HEADER.size :]
        host_fd = hostsock.open_socket(AF_NETLINK, SOCK_RAW, protocol)
        try:
            for option in (_CAP, _EXT, _STRICT):
                if option in self._flag_options:
                    hostsock.setopt(host_fd, SOL_NETLINK, option, _INT.pack(1))
            if hostsock.send(host_fd, checked, 0) < 0:
                raise ENOBUFS
            while (got := hostsock.receive(host_fd, hostsock.BUFFER_SIZE, 0)) > 0:
                answer, last = _readdressed(bytes(hostsock.data(got)), self.port, keep)
                if answer:
                    kept = True
                    if not self.deliver(answer):
                        break
                if last and not flags & NLM_F_ACK:  # an acknowledgement comes after the answer
                    break
        finally:
            hostsock.close(host_fd)
        return kept

    def deliver(self, answer: bytes) -> bool:
        """A datagram of messages for the guest to receive; False: lost, too many wait already."""
        if self._queued + len(answer) > _MAX_QUEUED:
            self.error = ENOBUFS.errno
            return False
        self._rx.append(answer)
        self._queued += len(answer)
        self.wake(EPOLLIN | EPOLLRDNORM)
        return True

    async def recv(self, task: Task, size: int, flags: int) -> Received:
        if flags & MSG_OOB:
            raise EOPNOTSUPP
        limit = deadline(self.rcvtimeo_ns)
        while not self._rx:
            if self.error:
                self.error = 0
                raise ENOBUFS
            if self.nonblocking(flags):
                raise EAGAIN
            await self.pause(limit)
        data = self._rx[0]
        if not flags & MSG_PEEK:
            self._rx.popleft()
            self._queued -= len(data)
        received = Received(data[:size], name=_SOCKADDR.pack(AF_NETLINK, 0, 0, 0))
        if size < len(data):
            received.flags |= MSG_TRUNC
        if flags & MSG_TRUNC:
            received.length = len(data)
        if _PKTINFO in self._flag_options:
            received.control.append((SOL_NETLINK, _PKTINFO, bytes(4)))
        if self.options.passcred:
            received.control.append((SOL_SOCKET, SCM_CREDENTIALS, bytes(12)))  # the kernel's
        return received

    def poll(self) -> int:
        mask = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND
        if self._rx:
            mask |= EPOLLIN | EPOLLRDNORM
        return mask | EPOLLERR if self.error else mask

    # --- options and ioctls

    def family_setsockopt(self, task: Task, level: int, name: int, value: bytes) -> None:
        if level != SOL_NETLINK:
            raise ENOPROTOOPT
        number = _INT.unpack_from(value)[0] if len(value) >= _INT.size else 0
        if name in (_ADD_MEMBERSHIP, _DROP_MEMBERSHIP):
            if not 0 < number < 64:
                raise EINVAL
        elif name == _ALL_NSID:
            if not task.creds.has_cap(CAP_NET_BROADCAST):
                raise EPERM
        elif name in _FLAG_OPTIONS:
            (self._flag_options.add if number else self._flag_options.discard)(name)
        else:
            raise ENOPROTOOPT

    def family_getsockopt(self, task: Task, level: int, name: int, size: int) -> bytes:
        if level != SOL_NETLINK or name not in (*_FLAG_OPTIONS, _ALL_NSID, _LIST):
            raise ENOPROTOOPT
        if name == _LIST:
            return bytes(8)[:size]
        if size < _INT.size:
            raise EINVAL
        return _INT.pack(name in self._flag_options)

    def pending_error(self) -> int:
        number, self.error = self.error, 0
        return number

    def release(self) -> None:
        super().release()
        if _ports.get((self.protocol, self.port)) is self:
            del _ports[self.protocol, self.port]


def _acknowledge(request: bytes, error: int, port: int, capped: bool) -> bytes:
    """netlink_ack: NLMSG_ERROR with the error (0: done) and the request it answers."""
    sequence = HEADER.unpack_from(request)[3]
    whole = error and not capped
    echoed = request if whole else request[: HEADER.size]
    size = HEADER.size + _INT.size + len(echoed)
    return HEADER.pack(size, NLMSG_ERROR, 0 if whole else NLM_F_CAPPED, sequence, port) + _INT.pack(-error) + echoed


def _readdressed(answer: bytes, port: int, keep: Callable[[bytearray], bool] | None) -> tuple[bytes, bool]:
    """The messages in `answer` that are kept, with the guest's port in each header; whether the answer ends here."""
    kept = bytearray()
    at = 0
    last = True
    while len(answer) - at >= HEADER.size:
        length, kind, flags, sequence, _ = HEADER.unpack_from(answer, at)
        if length < HEADER.size or length > len(answer) - at:
            break
        message = bytearray(answer[at : at + length])
        HEADER.pack_into(message, 0, length, kind, flags, sequence, port)
        last = kind in (NLMSG_DONE, NLMSG_ERROR) or not flags & NLM_F_MULTI
        if keep is None or kind < NLMSG_MIN_TYPE or keep(message):
            kept += message + bytes(-len(message) % 4)
        at += (length + 3) & ~3
    return bytes(kept), last
