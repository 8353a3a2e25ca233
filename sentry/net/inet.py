"""AF_INET and AF_INET6 sockets: host sockets of the sentry, in the network namespace the sandbox has.

The host socket never blocks; a guest's blocking call waits on the socket's queue, which a host epoll watch
feeds (edge-triggered, and only while somebody is on the queue). Time-outs, O_NONBLOCK, SIGPIPE and who may
do what are the guest's and kept here; addresses, options and control messages pass in raw form, checked
against tables.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    CAP_NET_BIND_SERVICE,
    CAP_NET_RAW,
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDHUP,
    FIONREAD,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    MSG_CONFIRM,
    MSG_DONTROUTE,
    MSG_EOR,
    MSG_ERRQUEUE,
    MSG_FASTOPEN,
    MSG_MORE,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    O_NONBLOCK,
    O_RDWR,
    SIOCATMARK,
    SO_LINGER,
    SO_PASSCRED,
    SO_PEERCRED,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
    TIOCOUTQ,
)
from sentry.errors import (
    EACCES,
    EAGAIN,
    EALREADY,
    EINPROGRESS,
    EINTR,
    EINVAL,
    ENOPROTOOPT,
    ENOTTY,
    EPERM,
    EPIPE,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
    Interrupted,
    from_errno,
)
from sentry.fs.proc import sysctl
from sentry.kernel.sched import WaitQueue, sched
from sentry.net import hostsock
from sentry.net.inet_options import OPTIONS, SENDABLE
from sentry.net.scm import HEADER, NO_PEER, split
from sentry.net.socket import Received, Socket, broken_pipe, deadline

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.task import Task
    from sentry.net.scm import Control

_WATCHED = EPOLLIN | EPOLLOUT | EPOLLPRI | EPOLLRDHUP | EPOLLET
_SEND_FLAGS = MSG_OOB | MSG_DONTROUTE | MSG_CONFIRM | MSG_MORE | MSG_EOR
_RECV_FLAGS = MSG_OOB | MSG_PEEK | MSG_ERRQUEUE
_AGAIN, _PIPE = -EAGAIN.errno, -EPIPE.errno
_LINGER = Struct("<ii")
_PORT = Struct(">H")

_STREAM_PROTOCOLS = (0, IPPROTO_TCP)
_DATAGRAM_PROTOCOLS = (0, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_ICMP, IPPROTO_ICMPV6)


def _may_ping(task: Task) -> bool:
    """ping_init_sock's net.ipv4.ping_group_range; and who might open a raw socket, since in a network namespace that a
    client made the sentry can't."""
    low, high = map(int, sysctl.read(task.kernel, b"net/ipv4/ping_group_range").split())
    creds = task.creds
    return any(low <= gid <= high for gid in (creds.egid, *creds.groups)) or creds.has_cap(CAP_NET_RAW)


class HostQueue(WaitQueue):
    """The wait queue of a host socket: the host is asked for events only while somebody is on it."""

    __slots__ = ("_host_fd", "_watching")

    def __init__(self, host_fd: int) -> None:
        super().__init__()
        self._host_fd = host_fd
        self._watching = False

    def add(self, callback: Callable[[int], None]) -> None:
        super().add(callback)
        if not self._watching:  # edge-triggered: what is ready already is reported once more
            self._watching = True
            sched().watch(self._host_fd, _WATCHED, self._event)

    def _event(self, events: int) -> None:
        if self:
            mask = events
            if events & EPOLLIN:
                mask |= 0x40  # EPOLLRDNORM
            if events & EPOLLOUT:
                mask |= 0x100  # EPOLLWRNORM
            self.wake(mask)
        else:
            self.stop()

    def stop(self) -> None:
        if self._watching:
            self._watching = False
            sched().unwatch(self._host_fd)


class InetSocket(Socket):
    """TCP, UDP, ping and (with CAP_NET_RAW) raw sockets."""

    __slots__ = ("host_fd", "is_listening", "linger")

    def __init__(
        self, creds: Credentials, domain: int, kind: int, protocol: int, flags: int, host_fd: int
    ) -> None:
        super().__init__(creds, domain, kind, protocol, flags)
        self.host_fd = host_fd
        self.is_listening = False
        self.linger = (0, 0)
        self.queue = HostQueue(host_fd)

    @classmethod
    def create(cls, task: Task, domain: int, kind: int, protocol: int, flags: int) -> InetSocket:
        """inet_create's errors, for the protocols we let through."""
        if not 0 <= protocol < 263:
            raise EINVAL
        if kind == SOCK_STREAM:
            allowed = protocol in _STREAM_PROTOCOLS
        elif kind == SOCK_DGRAM:
            allowed = protocol in _DATAGRAM_PROTOCOLS
        elif kind == SOCK_RAW:
            allowed = 0 < protocol < 256
        else:
            raise ESOCKTNOSUPPORT
        if not allowed:
            raise EPROTONOSUPPORT
        if kind == SOCK_RAW and not task.creds.has_cap(CAP_NET_RAW):
            raise EPERM
        if kind == SOCK_DGRAM and protocol in (IPPROTO_ICMP, IPPROTO_ICMPV6) and not _may_ping(task):
            raise EACCES
        host_fd = hostsock.open_socket(domain, kind, protocol)
        if protocol == 0:
            protocol = IPPROTO_TCP if kind == SOCK_STREAM else IPPROTO_UDP
        return cls(task.creds, domain, kind, protocol, flags, host_fd)

    # --- names and connections

    async def bind(self, task: Task, addr: bytes) -> None:
        port = _PORT.unpack_from(addr, 2)[0] if len(addr) >= 4 else 0
        if port and self.type != SOCK_RAW and not task.creds.has_cap(CAP_NET_BIND_SERVICE):
            if port < int(sysctl.read(task.kernel, b"net/ipv4/ip_unprivileged_port_start")):
                raise EACCES
        hostsock.bind(self.host_fd, addr)

    async def connect(self, task: Task, addr: bytes) -> None:
        limit = deadline(self.sndtimeo_ns)
        while True:
            # While the connection is made, connect(2) says so; once it is made or has failed, the
            # next call tells.
            error = hostsock.connect(self.host_fd, addr)
            if not error:
                return
            if error not in (EINPROGRESS.errno, EALREADY.errno) or self.flags & O_NONBLOCK:
                raise from_errno(error)
            try:
                await self.pause(limit)
            except EAGAIN:
                raise from_errno(error)

    def listen(self, task: Task, backlog: int) -> None:
        hostsock.listen(self.host_fd, backlog)
        self.is_listening = True

    def listening(self) -> bool:
        return self.is_listening

    async def accept(self, task: Task, flags: int) -> tuple[Socket, bytes]:
        limit = deadline(self.rcvtimeo_ns)
        while True:
            host_fd, addr = hostsock.accept(self.host_fd)
            if host_fd >= 0:
                break
            if self.flags & O_NONBLOCK:
                raise EAGAIN
            await self.pause(limit)
        sock = InetSocket(task.creds, self.domain, self.type, self.protocol, O_RDWR | flags, host_fd)
        sock.rcvtimeo_ns, sock.sndtimeo_ns = self.rcvtimeo_ns, self.sndtimeo_ns
        sock.linger = self.linger
        return sock, addr

    def getsockname(self) -> bytes:
        return hostsock.name(self.host_fd, False)

    def getpeername(self) -> bytes:
        return hostsock.name(self.host_fd, True)

    def shutdown(self, how: int) -> None:
        hostsock.shutdown(self.host_fd, how)

    # --- data

    async def send(
        self, task: Task, data: bytes, flags: int, name: bytes = b"", control: Control | None = None
    ) -> int:
        raw_control = b"" if control is None else _sendable(control)
        if flags & MSG_FASTOPEN and name and self.type == SOCK_STREAM:
            await self.connect(task, name)
            name = b""
        host_fd, host_flags = self.host_fd, flags & _SEND_FLAGS
        stream = self.type == SOCK_STREAM
        total = len(data)
        done = hostsock.send(host_fd, data, host_flags, name, raw_control)
        if done == total:
            return done
        limit = deadline(self.sndtimeo_ns)
        nonblocking = self.nonblocking(flags)
        sent = 0
        view = memoryview(data)
        while True:
            if done >= 0:
                sent += done
                if sent == total or not stream:
                    return sent
            elif done != _AGAIN:
                if sent:
                    return sent
                if done == _PIPE and stream:
                    raise broken_pipe(task, bool(flags & MSG_NOSIGNAL))
                raise from_errno(-done)
            elif nonblocking:
                if sent:
                    return sent
                raise EAGAIN
            else:
                try:
                    await self.pause(limit)
                except (EAGAIN, EINTR, Interrupted):
                    if sent:
                        return sent
                    raise
            done = hostsock.send(host_fd, view[sent:], host_flags, name, raw_control)

    async def recv(self, task: Task, size: int, flags: int) -> Received:
        host_fd, host_flags = self.host_fd, flags & _RECV_FLAGS
        stream = self.type == SOCK_STREAM
        if not stream:
            host_flags |= flags & MSG_TRUNC
        if stream and flags & (MSG_WAITALL | MSG_TRUNC):
            return await self._recv_all(size, flags, host_flags)
        got = hostsock.receive(host_fd, size, host_flags)
        if got == _AGAIN:
            nonblocking = self.nonblocking(flags) or flags & MSG_ERRQUEUE
            limit = deadline(self.rcvtimeo_ns)
            while got == _AGAIN:
                if nonblocking:
                    raise EAGAIN
                await self.pause(limit)
                got = hostsock.receive(host_fd, size, host_flags)
        if got < 0:
            raise from_errno(-got)
        arrival = hostsock.Arrival(got)
        received = Received(hostsock.data(min(got, size)), got, arrival.name, arrival.flags & ~0x40000000)
        if arrival.control:
            received.control = list(split(arrival.control))
        return received

    async def _recv_all(self, size: int, flags: int, host_flags: int) -> Received:
        """A stream's MSG_WAITALL, and MSG_TRUNC, which throws the data away."""
        pieces: list[bytes] = []
        got = 0
        limit = deadline(self.rcvtimeo_ns)
        wait_all, peek = flags & MSG_WAITALL, flags & MSG_PEEK
        result = Received(b"")
        try:
            while True:
                # A host MSG_PEEK sees the same bytes again, so each look asks for all of them.
                want = size if peek else size - got
                now = hostsock.receive(self.host_fd, want, host_flags)
                if now >= 0:
                    if peek:
                        pieces, got = [], 0
                    pieces.append(bytes(hostsock.data(now)))
                    arrival = hostsock.Arrival(now)
                    result.flags |= arrival.flags & ~0x40000000
                    got += now
                    if not now or got >= size or not wait_all or (peek and got >= hostsock.BUFFER_SIZE):
                        break
                    if not peek:
                        continue
                elif now != _AGAIN:
                    if got:
                        break
                    raise from_errno(-now)
                if self.nonblocking(flags):
                    if got:
                        break
                    raise EAGAIN
                await self.pause(limit)
        except (EAGAIN, EINTR, Interrupted):
            if not got:
                raise
        result.data = b"" if flags & MSG_TRUNC else b"".join(pieces)
        result.length = got
        return result

    def poll(self) -> int:
        return hostsock.poll(self.host_fd)

    # --- options and ioctls

    def family_setsockopt(self, task: Task, level: int, name: int, value: bytes) -> None:
        if level == SOL_SOCKET and name == SO_LINGER:
            self._set_linger(value)
            return
        allowed = OPTIONS.get(level, {}).get(name)
        if allowed is None or not allowed.set_size:
            raise ENOPROTOOPT
        if allowed.cap >= 0 and not task.creds.has_cap(allowed.cap):
            raise EPERM
        hostsock.setopt(self.host_fd, level, name, value[: allowed.set_size])

    def family_getsockopt(self, task: Task, level: int, name: int, size: int) -> bytes:
        if level == SOL_SOCKET and name == SO_PEERCRED:
            return NO_PEER.pack()[:size]
        if level == SOL_SOCKET and name == SO_LINGER:
            return _LINGER.pack(*self.linger)[:size]
        if level == SOL_SOCKET and name == SO_PASSCRED:
            return bytes(4)[:size]
        allowed = OPTIONS.get(level, {}).get(name)
        if allowed is None or not allowed.get_size:
            raise ENOPROTOOPT
        return hostsock.getopt(self.host_fd, level, name, min(size, allowed.get_size))

    def _set_linger(self, value: bytes) -> None:
        """SO_LINGER. The host's close(2) would wait for the peer, and we with it: only a time of zero (the
        connection is reset) goes there.
        """
        if len(value) < _LINGER.size:
            raise EINVAL
        on, seconds = _LINGER.unpack_from(value)
        self.linger = (int(bool(on)), seconds)
        reset = on and not seconds
        hostsock.setopt(self.host_fd, SOL_SOCKET, SO_LINGER, _LINGER.pack(1 if reset else 0, 0))

    def family_ioctl(self, task: Task, cmd: int, arg: int) -> int:
        if cmd not in (FIONREAD, TIOCOUTQ):
            raise ENOTTY
        task.mem.write(arg, hostsock.ioctl(self.host_fd, cmd, bytes(4)))
        return 0

    def socket_ioctl(self, task: Task, cmd: int, arg: int) -> int:
        if cmd == SIOCATMARK and self.type == SOCK_STREAM:
            task.mem.write(arg, hostsock.ioctl(self.host_fd, cmd, bytes(4)))
            return 0
        return super().socket_ioctl(task, cmd, arg)

    def release(self) -> None:
        if self.host_fd < 0:
            return
        super().release()
        host_fd, self.host_fd = self.host_fd, -1
        queue = self.queue
        assert isinstance(queue, HostQueue)
        queue.stop()
        queue.wake(EPOLLHUP | EPOLLERR)
        hostsock.close(host_fd)


def _sendable(control: Control) -> bytes:
    """msg_control for the host, of the messages we let through; EINVAL for others, as for unknown ones."""
    raw = bytearray()
    for level, kind, payload in control.other:
        limit = SENDABLE.get((level, kind))
        if limit is None or len(payload) > limit:
            raise EINVAL
        raw += HEADER.pack(HEADER.size + len(payload), level, kind) + payload
        raw += bytes(-len(payload) % 8)
    return bytes(raw)
