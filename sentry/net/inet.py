"""AF_INET and AF_INET6 sockets: host sockets of the sentry, in the network namespace the sandbox has.

The host socket never blocks; a guest's blocking call waits on the socket's queue, which a host epoll watch
feeds (edge-triggered, and only while somebody is on the queue). Data calls on streams that need not wait are
answered in C (native/src/inet.c), which tells here what it has sent of a call that must. Time-outs, O_NONBLOCK,
SIGPIPE and who may do what are the guest's and kept here; addresses, options and control messages pass in raw
form, checked against tables.
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.abi.linux import (
    AF_INET,
    CAP_NET_ADMIN,
    CAP_NET_BIND_SERVICE,
    CAP_NET_RAW,
    EPOLLERR,
    EPOLLET,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDHUP,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
    FIONREAD,
    IPPROTO_ICMP,
    IPPROTO_ICMPV6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    IPV6_ADDRFORM,
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
    SIOCGSTAMP,
    SIOCGSTAMPNS,
    SIOCOUTQNSD,
    SO_BINDTODEVICE,
    SO_BINDTOIFINDEX,
    SO_LINGER,
    SO_PRIORITY,
    SO_RCVBUF,
    SO_RCVLOWAT,
    SO_SNDBUF,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_ULP,
    TIOCOUTQ,
)
from sentry.errors import (
    EACCES,
    EAGAIN,
    EALREADY,
    EINPROGRESS,
    EINTR,
    EINVAL,
    ENOENT,
    ENOPROTOOPT,
    ENOTTY,
    EOPNOTSUPP,
    EPERM,
    EPIPE,
    EPROTONOSUPPORT,
    ESOCKTNOSUPPORT,
    Interrupted,
    from_errno,
)
from sentry.fs.proc import sysctl
from sentry.kernel.sched import KNOWN, WaitQueue, sched
from sentry.net import hostsock
from sentry.net.inet_options import HOST_READS, OPTIONS, SENDABLE, SOL_RAW, Allowed
from sentry.net.options import buffer_max
from sentry.net.scm import HEADER, split
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
_UDP_LEVELS = (IPPROTO_UDP, IPPROTO_UDPLITE)
_DATAGRAM_PROTOCOLS = (0, *_UDP_LEVELS, IPPROTO_ICMP, IPPROTO_ICMPV6)


def _may_ping(task: Task) -> bool:
    """ping_init_sock's net.ipv4.ping_group_range; and who might open a raw socket, since in a network namespace that a
    client made the sentry can't."""
    low, high = map(int, sysctl.read(task.kernel, b"net/ipv4/ping_group_range").split())
    creds = task.creds
    return any(low <= gid <= high for gid in (creds.egid, *creds.groups)) or creds.has_cap(CAP_NET_RAW)


class HostQueue(WaitQueue):
    """The wait queue of a host socket: the host is asked for events only while somebody is on it.

    The host tells all that is ready, with its first event what was so when the watch began. For those who wait that
    may be news; who looks after adding itself (epoll) is told the bits that are new, or that none is (KNOWN). Input
    is always new, but in the first event. Of output, "new" is what follows an EAGAIN.
    """

    __slots__ = ("_host_fd", "_inet", "_watching")

    def __init__(self, host_fd: int, inet: Any) -> None:
        super().__init__()
        self._host_fd = host_fd
        self._inet = inet  # struct nc_inet: C meets EAGAIN, too
        self._watching = False

    def add(self, callback: Callable[[int], None]) -> None:
        super().add(callback)
        if not self._watching:
            self._watching = True
            sched().watch(self._host_fd, _WATCHED, self._event)
            lib.nc_inet_know(self._inet)

    def starved(self, events: int = -1) -> None:
        """The guest met EAGAIN, or may meet it: the next event is news."""
        lib.nc_inet_starved(self._inet, events & 0xFFFFFFFF)

    def _event(self, events: int) -> None:
        fresh = lib.nc_inet_fresh(self._inet, events)
        if self:
            events = fresh or events
            mask = events if fresh else events | KNOWN
            if events & EPOLLIN:
                mask |= EPOLLRDNORM
            if events & EPOLLOUT:
                mask |= EPOLLWRNORM | EPOLLWRBAND
            self.wake(mask)
        else:
            self.stop()

    def stop(self) -> None:
        if self._watching:
            self._watching = False
            sched().unwatch(self._host_fd)


class InetSocket(Socket):
    """TCP, UDP, ping and (with CAP_NET_RAW) raw sockets."""

    __slots__ = ("host_fd", "inet", "is_listening")
    queue: HostQueue

    def __init__(
        self, creds: Credentials, domain: int, kind: int, protocol: int, flags: int, host_fd: int
    ) -> None:
        super().__init__(creds, domain, kind, protocol, flags)
        self.host_fd = host_fd
        self.is_listening = False
        self.inet: Any = ffi.gc(lib.nc_inet_new(host_fd), lib.nc_inet_put)
        self.queue = HostQueue(host_fd, self.inet)

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
            allowed = protocol > 0
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
            self.queue.starved()
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
        hostsock.listen(self.host_fd, min(backlog & 0xFFFFFFFF, int(sysctl.read(task.kernel, b"net/core/somaxconn"))))
        self.is_listening = True

    def listening(self) -> bool:
        return self.is_listening

    async def accept(self, task: Task, flags: int) -> tuple[Socket, bytes]:
        limit = deadline(self.rcvtimeo_ns)
        while True:
            host_fd, addr = hostsock.accept(self.host_fd)
            if host_fd >= 0:
                break
            self.queue.starved(EPOLLIN)
            if self.flags & O_NONBLOCK:
                raise EAGAIN
            await self.pause(limit)
        sock = InetSocket(task.creds, self.domain, self.type, self.protocol, O_RDWR | flags, host_fd)
        sock.rcvtimeo_ns, sock.sndtimeo_ns = self.rcvtimeo_ns, self.sndtimeo_ns
        if self.options.linger[0]:
            sock.own_options().linger = self.options.linger
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
        raw_control = b"" if control is None else _sendable(self, control)
        if flags & MSG_FASTOPEN and name and self.type == SOCK_STREAM:
            await self.connect(task, name)
            name = b""
        host_fd, host_flags = self.host_fd, flags & _SEND_FLAGS
        stream = self.type == SOCK_STREAM
        total = len(data)
        sent = lib.nc_task_sent(task.mem.host_tid) if stream else 0
        view = memoryview(data)
        done = hostsock.send(host_fd, view[sent:], host_flags, name, raw_control)
        if done == total:
            return done
        limit = deadline(self.sndtimeo_ns)
        nonblocking = self.nonblocking(flags)
        self.queue.starved(EPOLLOUT)
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
        if stream and (flags & (MSG_WAITALL | MSG_TRUNC) or self.options.rcvlowat > 1):
            return await self._recv_all(size, flags, host_flags)
        got = hostsock.receive(host_fd, size, host_flags)
        if got == _AGAIN:
            self.queue.starved(EPOLLIN | EPOLLPRI)
            nonblocking = self.nonblocking(flags) or flags & MSG_ERRQUEUE
            limit = deadline(self.rcvtimeo_ns)
            while got == _AGAIN:
                if nonblocking:
                    raise EAGAIN
                if not stream and hostsock.poll(host_fd) & EPOLLRDHUP:
                    return Received(b"")  # shut down for receiving: a wait ends at once (__skb_wait_for_more_packets)
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
        """A stream's MSG_WAITALL and SO_RCVLOWAT, and MSG_TRUNC, which throws the data away."""
        pieces: list[bytes] = []
        got = 0
        limit = deadline(self.rcvtimeo_ns)
        peek = flags & MSG_PEEK
        target = (size if flags & MSG_WAITALL else min(self.options.rcvlowat, size)) or 1
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
                    if not now or got >= target or (peek and got >= hostsock.BUFFER_SIZE):
                        break
                    if not peek:
                        continue
                elif now != _AGAIN:
                    if got:
                        break
                    raise from_errno(-now)
                self.queue.starved(EPOLLIN | EPOLLPRI)
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
        return lib.nc_inet_poll(self.inet)

    def hot(self) -> tuple[int, Any] | None:
        return (lib.NC_INET, self.inet) if self.type == SOCK_STREAM else None

    # --- options and ioctls

    def set_option(self, task: Task, name: int, value: bytes) -> None:
        allowed = OPTIONS[SOL_SOCKET].get(name)
        if name == SO_LINGER:
            self._set_linger(task, value)
        elif allowed is None or not allowed.set_size:
            super().set_option(task, name, value)
        else:
            if name in (SO_PRIORITY, SO_SNDBUF, SO_RCVBUF, SO_BINDTODEVICE, SO_BINDTOIFINDEX):
                value = self._within_limits(task, name, value)
            self._set_on_host(task, SOL_SOCKET, name, value, allowed)
            if name == SO_RCVLOWAT:
                super().set_option(task, name, value)
                lib.nc_inet_set_slow(self.inet, self.options.rcvlowat > 1)

    def get_option(self, task: Task, name: int, size: int) -> bytes:
        allowed = OPTIONS[SOL_SOCKET].get(name)
        if allowed is None or not allowed.get_size:
            return super().get_option(task, name, size)
        return hostsock.getopt(self.host_fd, SOL_SOCKET, name, min(size, allowed.get_size))

    def family_setsockopt(self, task: Task, level: int, name: int, value: bytes) -> None:
        allowed = OPTIONS.get(level, {}).get(name)
        if level == IPPROTO_TCP and name == TCP_ULP and self.type == SOCK_STREAM:
            raise ENOENT("no such module") if value else EINVAL  # the host would load what it has
        if allowed is None or not allowed.set_size:
            raise ENOPROTOOPT
        self._set_on_host(task, level, name, value, allowed)
        if level == IPPROTO_IPV6 and name == IPV6_ADDRFORM:
            self.domain = AF_INET  # the only form there is

    def family_getsockopt(self, task: Task, level: int, name: int, size: int) -> bytes:
        if level not in self._levels():
            raise EOPNOTSUPP if self.domain == AF_INET else ENOPROTOOPT
        allowed = OPTIONS[level].get(name)
        if allowed is None or not allowed.get_size:
            raise ENOPROTOOPT
        return hostsock.getopt(self.host_fd, level, name, min(size, allowed.get_size))

    def _levels(self) -> tuple[int, ...]:
        """Whose options it has, apart from SOL_SOCKET's."""
        if self.type == SOCK_STREAM:
            own: tuple[int, ...] = (IPPROTO_TCP,)
        elif self.type == SOCK_RAW:
            own = (SOL_RAW, IPPROTO_ICMPV6)
        else:
            own = _UDP_LEVELS if self.protocol in _UDP_LEVELS else ()
        return (IPPROTO_IP, *own) if self.domain == AF_INET else (IPPROTO_IP, IPPROTO_IPV6, *own)

    def _set_on_host(self, task: Task, level: int, name: int, value: bytes, allowed: Allowed) -> None:
        if allowed.caps and not any(task.creds.has_cap(cap) for cap in allowed.caps):
            raise EPERM
        hostsock.setopt(self.host_fd, level, name, value[: allowed.set_size])

    def _within_limits(self, task: Task, name: int, value: bytes) -> bytes:
        """What the host would allow the sentry, but not this task."""
        number = int.from_bytes(value[:4], "little", signed=True)
        if name in (SO_SNDBUF, SO_RCVBUF):
            return min(number & 0xFFFFFFFF, buffer_max(task, name == SO_SNDBUF)).to_bytes(4, "little")
        privileged = task.creds.has_cap(CAP_NET_RAW)
        if name == SO_PRIORITY:
            if not 0 <= number <= 6 and not privileged and not task.creds.has_cap(CAP_NET_ADMIN):
                raise EPERM
        elif not privileged and hostsock.getopt(self.host_fd, SOL_SOCKET, SO_BINDTOIFINDEX, 4) != bytes(4):
            raise EPERM  # bound already
        return value

    def _set_linger(self, task: Task, value: bytes) -> None:
        """SO_LINGER. The host's close(2) would wait for the peer, and we with it: only a time of zero (the
        connection is reset) goes there.
        """
        super().set_option(task, SO_LINGER, value)
        reset = self.options.linger == (1, 0)
        hostsock.setopt(self.host_fd, SOL_SOCKET, SO_LINGER, _LINGER.pack(reset, 0))

    def family_ioctl(self, task: Task, cmd: int, arg: int) -> int:
        if cmd not in (FIONREAD, TIOCOUTQ):
            raise ENOTTY
        task.mem.write(arg, hostsock.ioctl(self.host_fd, cmd, bytes(4)))
        return 0

    def socket_ioctl(self, task: Task, cmd: int, arg: int) -> int:
        if cmd in (SIOCATMARK, SIOCOUTQNSD) and self.type == SOCK_STREAM:
            task.mem.write(arg, hostsock.ioctl(self.host_fd, cmd, bytes(4)))
            return 0
        if cmd in (SIOCGSTAMP, SIOCGSTAMPNS):
            task.mem.write(arg, hostsock.ioctl(self.host_fd, cmd, bytes(16)))
            return 0
        return super().socket_ioctl(task, cmd, arg)

    def release(self) -> None:
        if self.host_fd < 0:
            return
        super().release()
        self.host_fd = -1
        self.queue.stop()
        self.queue.wake(EPOLLHUP | EPOLLERR)
        lib.nc_inet_close(self.inet)


def _sendable(sock: InetSocket, control: Control) -> bytes:
    """msg_control for the host, of the messages we let through. Others are EINVAL at a level that the socket looks at,
    and ignored at one it does not, as unknown ones are on Linux.
    """
    reads = HOST_READS.get((sock.domain, sock.type), HOST_READS[sock.domain, SOCK_DGRAM])
    raw = bytearray()
    for level, kind, payload in control.other:
        limit = SENDABLE.get((level, kind))
        if limit is None or len(payload) > limit:
            if level in reads:
                raise EINVAL
            continue
        raw += HEADER.pack(HEADER.size + len(payload), level, kind) + payload
        raw += bytes(-len(payload) % 8)
    return bytes(raw)
