"""AF_UNIX sockets (unix(7)), wholly inside the sentry: the host never sees them. Linux: net/unix/af_unix.c.

Messages lie in the receiver's queue `rx` and are charged to the sender's buffer (`used` against `sndbuf`)
until they are taken out, as Linux's skbs are. One wait queue serves readers and writers of a socket; `room`
is for others who wait for room in this socket's queue or backlog. The data paths are in unix_stream.py and
unix_dgram.py.
"""

from __future__ import annotations

from collections import deque
from struct import Struct
from time import time_ns
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    AF_UNIX,
    CAP_NET_ADMIN,
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDHUP,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
    FIONREAD,
    SCM_CREDENTIALS,
    SHUT_RDWR,
    SIOCATMARK,
    SIOCUNIXFILE,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
    TIOCOUTQ,
)
from sentry.errors import (
    EAGAIN,
    EINVAL,
    ENOENT,
    ENOTCONN,
    ENOTTY,
    EOPNOTSUPP,
    EPERM,
    EPIPE,
    LinuxError,
    from_errno,
)
from sentry.kernel.sched import WaitQueue
from sentry.net import sockaddr, unix_names
from sentry.net.scm import NOBODY, Control, Rights, Ucred, own_ucred, send_rights
from sentry.net.socket import Received, Socket

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.task import Task, ThreadGroup
    from sentry.net.options import Peer
    from sentry.vfs.file import File
    from sentry.vfs.mount import Path

RCV_SHUTDOWN = 1
SEND_SHUTDOWN = 2
SHUTDOWN_MASK = 3
MAX_DGRAM_QLEN = 10  # net.unix.max_dgram_qlen, if nobody has set it
READABLE = EPOLLIN | EPOLLRDNORM
WRITABLE = EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND

_INT = Struct("<i")
_SKB = 256  # sizeof(struct sk_buff)
_SHARED_INFO = 320
STREAM_HEAD = 4096 - _SHARED_INFO  # SKB_MAX_HEAD(0)
MESSAGE_HEAD = 16384 - _SHARED_INFO  # SKB_MAX_ALLOC


def charge(size: int, linear: int) -> int:
    """What Linux charges for a message (skb->truesize): a head of up to `linear` bytes from the kmalloc
    sizes, the rest in whole pages.
    """
    pages = 0
    if size > linear:
        pages = (size - linear + 4095) & ~4095
        size = max(size - pages, 0)
    head = ((size + 63) & ~63) + _SHARED_INFO
    return _SKB + pages + (1 << max(head - 1, 511).bit_length())


class Packet:
    """A message in a queue (an skb). `pos` is how much of it has been read (streams)."""

    __slots__ = ("charge", "creds", "data", "group", "peeked", "pos", "rights", "sender", "stamp_ns")

    def __init__(
        self, sender: UnixSocket, data: bytes, creds: Ucred | None, rights: Rights | None, group: ThreadGroup
    ) -> None:
        self.sender = sender
        self.data = data
        self.pos = 0
        self.creds = creds
        self.group = group  # the process that sent it
        self.rights = rights
        self.peeked = False
        self.stamp_ns = 0  # when it arrived, if the receiver asked
        self.charge = charge(len(data), STREAM_HEAD if sender.type == SOCK_STREAM else MESSAGE_HEAD)
        sender.used += self.charge

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self.data) - self.pos

    def free(self) -> None:
        """Taken out or thrown away: the sender has room again."""
        if self.rights is not None:
            self.rights.drop()
            self.rights = None
        sender = self.sender
        sender.used -= self.charge
        self.charge = 0
        if sender.writable_now():
            sender.wake(WRITABLE)


class UnixSocket(Socket):
    """What streams, datagrams and sequential packets share."""

    __slots__ = (
        "addr", "backlog", "clients", "dead", "embryo", "embryos", "error", "listener", "peer", "peer_info", "place",
        "room", "rx", "shut", "state", "used",
    )  # fmt: skip

    connection_based = False
    tells_room = False  # Linux does where a writer waits for it, who is then told otherwise

    def __init__(self, creds: Credentials, kind: int, flags: int, backlog: int = MAX_DGRAM_QLEN) -> None:
        super().__init__(creds, AF_UNIX, kind, 0, flags)
        self.addr = b""  # the name, see sockaddr.parse_unix
        self.place: Path | None = None  # where a path name was made
        self.peer: UnixSocket | None = None
        self.state = TCP_CLOSE
        self.shut = 0
        self.error = 0  # SO_ERROR
        self.dead = False
        self.embryo = False  # connected, but not accepted yet
        self.rx: deque[Packet] = deque()
        self.used = 0
        self.backlog = backlog
        self.embryos: deque[UnixSocket] = deque()
        self.clients: set[UnixSocket] = set()  # datagram sockets connected to this one
        self.room = WaitQueue()
        self.listener: Peer | None = None  # as whom those who connect see a listener
        self.peer_info: Peer | None = None

    # --- names

    async def bind(self, task: Task, addr: bytes) -> None:
        if len(addr) == 2 and sockaddr.family(addr) == AF_UNIX:
            if not self.addr:
                unix_names.autobind(self)
            return
        name = sockaddr.parse_unix(addr)
        if self.addr:  # Linux makes the name first
            await unix_names.check_free(task, name)
            raise EINVAL("bound already")
        await unix_names.bind(task, self, name)

    def getsockname(self) -> bytes:
        return sockaddr.unix(self.addr)

    def getpeername(self) -> bytes:
        if self.peer is None:
            raise ENOTCONN
        return sockaddr.unix(self.peer.addr)

    # --- readiness

    def writable_now(self) -> bool:
        """unix_writable: at most a quarter of the buffer is used."""
        return self.state != TCP_LISTEN and self.used << 2 <= self.options.sndbuf

    def queue_full(self) -> bool:
        return len(self.rx) + len(self.embryos) > self.backlog

    def listening(self) -> bool:
        return self.state == TCP_LISTEN

    def poll(self) -> int:
        mask = 0
        if self.error:
            mask |= EPOLLERR
        if self.shut == SHUTDOWN_MASK:
            mask |= EPOLLHUP
        if self.shut & RCV_SHUTDOWN:
            mask |= EPOLLRDHUP | READABLE
        if self.rx or self.embryos:
            mask |= READABLE
        if self.connection_based and self.state == TCP_CLOSE:
            mask |= EPOLLHUP
        if self.may_send_now():
            mask |= WRITABLE
        return mask

    def may_send_now(self) -> bool:
        """Whether poll says writable."""
        return self.writable_now()

    def take_error(self) -> LinuxError | None:
        """sock_error: the pending error, which is told once."""
        number = self.pending_error()
        return from_errno(number) if number else None

    # --- sending, the common part

    async def wait_for_space(self, limit_ns: int | None, nonblocking: bool) -> None:
        """sock_alloc_send_pskb: until the send buffer has room."""
        while True:
            error = self.take_error()
            if error is not None:
                raise error
            if self.shut & SEND_SHUTDOWN:
                raise EPIPE
            if self.used < self.options.sndbuf:
                return
            if nonblocking:
                raise EAGAIN
            await self.pause(limit_ns)

    def attach(self, task: Task, control: Control | None) -> Rights | None:
        """The files of a message, in flight from now on."""
        return None if control is None else send_rights(task, control.rights)

    def message_creds(self, task: Task, other: UnixSocket, control: Control | None) -> Ucred | None:
        """unix_maybe_add_creds: given ones, or the task's own if either side asked for them."""
        if control is not None and control.creds is not None:
            return control.creds
        if self.options.asks_sender or other.options.asks_sender or other.embryo:
            return own_ucred(task)
        return None

    def enqueue(self, packet: Packet) -> None:
        """A message arrives here."""
        if self.options.stamps:
            packet.stamp_ns = time_ns()
        self.rx.append(packet)
        self.wake(READABLE)

    # --- receiving, the common part

    def add_creds(self, received: Received, packet: Packet) -> None:
        """SCM_CREDENTIALS and SCM_PIDFD for a receiver that asked (SO_PASSCRED, SO_PASSPIDFD)."""
        options = self.options
        if options.passcred:
            received.control.append((SOL_SOCKET, SCM_CREDENTIALS, (packet.creds or NOBODY).pack()))
        if options.passpidfd:
            received.sender = packet.group

    def take_rights(self, received: Received, packet: Packet, peek: bool) -> None:
        """The files of a message go to the receiver; a peek gets references of its own."""
        if packet.rights is not None:
            if peek:
                received.files = packet.rights.copy()
            else:
                received.files = packet.rights.landed()
                packet.rights = None

    def has_room_again(self) -> None:
        """A message was taken out: wake those who wait for room in this queue."""
        self.room.wake()
        for client in tuple(self.clients):
            client.wake(WRITABLE)

    # --- the end

    def shutdown(self, how: int) -> None:
        if not 0 <= how <= SHUT_RDWR:
            raise EINVAL
        mode = how + 1
        self.shut |= mode
        peer = self.peer
        if peer is not None and self.connection_based:
            peer.shut |= (SEND_SHUTDOWN if mode & RCV_SHUTDOWN else 0) | (
                RCV_SHUTDOWN if mode & SEND_SHUTDOWN else 0
            )
            peer.wake(_changed(peer))
        self.wake(_changed(self))
        self.room.wake()

    def unread(self) -> bool:
        """Whether closing loses data of the peer's."""
        return bool(self.rx)

    def files_queued(self) -> list[File]:
        """The files in messages that only this socket can receive."""
        packets = [packet for sock in (self, *self.embryos) for packet in sock.rx]
        return [file for packet in packets if packet.rights is not None for file in packet.rights.files]

    def purge(self) -> None:
        """Throw the queue away."""
        for sock in (self, *self.embryos):
            while sock.rx:
                sock.rx.popleft().free()

    def release(self) -> None:
        if self.dead:
            return
        super().release()
        self.dead = True
        self.shut = SHUTDOWN_MASK
        unix_names.unbind(self)
        self.leave_peer()
        while self.embryos:
            embryo = self.embryos.popleft()
            embryo.release()
        self.purge()
        self.state = TCP_CLOSE
        self.room.wake()
        for client in tuple(self.clients):
            client.wake(WRITABLE)
        from sentry.net import scm

        if scm.in_flight:
            scm.collect()

    def leave_peer(self) -> None:
        """unix_release_sock, towards the peer."""
        raise NotImplementedError

    # --- options and ioctls

    def pending_error(self) -> int:
        number, self.error = self.error, 0
        return number

    def peer_of(self) -> Peer | None:
        return self.peer_info

    def socket_ioctl(self, task: Task, cmd: int, arg: int) -> int:
        if cmd == SIOCATMARK:
            task.mem.write_u32(arg, self.at_mark())
            return 0
        if cmd == SIOCUNIXFILE:
            if not task.creds.has_cap(CAP_NET_ADMIN):
                raise EPERM
            raise ENOENT  # as of a socket without a path: sockets are not opened by descriptor here
        return super().socket_ioctl(task, cmd, arg)

    def at_mark(self) -> bool:
        """SIOCATMARK: only streams have urgent data."""
        raise EOPNOTSUPP

    def family_ioctl(self, task: Task, cmd: int, arg: int) -> int:
        if cmd == FIONREAD:
            if self.state == TCP_LISTEN:
                raise EINVAL
            if self.connection_based:
                amount = sum(packet.left for packet in self.rx)
            else:
                amount = len(self.rx[0].data) if self.rx else 0
        elif cmd == TIOCOUTQ:
            amount = self.used
        else:
            raise ENOTTY
        task.mem.write(arg, _INT.pack(amount))
        return 0


def _changed(sock: UnixSocket) -> int:
    """The event of a shutdown (unix_state_change wakes with all of them)."""
    return READABLE | WRITABLE | EPOLLRDHUP | (EPOLLHUP if sock.shut == SHUTDOWN_MASK else 0)


def make(task: Task, kind: int, flags: int) -> UnixSocket:
    """An unconnected socket."""
    return _class_of(kind)(task.creds, kind, flags, _queue_length(task))


def _class_of(kind: int) -> type[UnixSocket]:
    from sentry.net.unix_dgram import DatagramSocket, SeqpacketSocket
    from sentry.net.unix_stream import StreamSocket

    types: dict[int, type[UnixSocket]] = {
        SOCK_STREAM: StreamSocket,
        SOCK_DGRAM: DatagramSocket,
        SOCK_SEQPACKET: SeqpacketSocket,
    }
    return types[kind]


def _queue_length(task: Task) -> int:
    from sentry.fs.proc import sysctl

    return int(sysctl.read(task.kernel, b"net/unix/max_dgram_qlen"))


def make_pair(task: Task, kind: int, flags: int) -> tuple[UnixSocket, UnixSocket]:
    """Two sockets connected to each other."""
    from sentry.net.scm import peer_identity

    of_kind, length = _class_of(kind), _queue_length(task)
    pair = of_kind(task.creds, kind, flags, length), of_kind(task.creds, kind, flags, length)
    identity = peer_identity(task)
    for one, other in (pair, pair[::-1]):
        one.peer = other
        one.peer_info = identity
        one.state = TCP_ESTABLISHED
        if kind == SOCK_DGRAM:
            other.clients.add(one)
    return pair
