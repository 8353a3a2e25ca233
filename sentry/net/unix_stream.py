"""SOCK_STREAM sockets of AF_UNIX, and how connections are made (SOCK_SEQPACKET too)."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    EPOLLPRI,
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_WAITALL,
    O_NONBLOCK,
    O_RDWR,
    SO_OOBINLINE,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
)
from sentry.errors import (
    EAGAIN,
    ECONNREFUSED,
    ECONNRESET,
    EINVAL,
    EISCONN,
    ENOTCONN,
    EOPNOTSUPP,
    EPERM,
    Interrupted,
    LinuxError,
)
from sentry.fs.proc import sysctl
from sentry.kernel import sigio
from sentry.net import sockaddr, unix_names
from sentry.net.scm import peer_identity
from sentry.net.socket import Received, Socket, broken_pipe, deadline
from sentry.net.unix import (
    MAX_DGRAM_QLEN,
    RCV_SHUTDOWN,
    READABLE,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    STREAM_HEAD,
    Packet,
    UnixSocket,
    _changed,
)

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.task import Task
    from sentry.net.scm import Control

_PIECE = STREAM_HEAD + 32768  # the largest message a write is cut into


class ConnectionSocket(UnixSocket):
    """listen, connect, accept and what closing does to the peer."""

    __slots__ = ()

    connection_based = True

    def listen(self, task: Task, backlog: int) -> None:
        if not self.addr:
            raise EINVAL("not bound")
        if self.state not in (TCP_CLOSE, TCP_LISTEN):
            raise EINVAL
        backlog = min(backlog & 0xFFFFFFFF, int(sysctl.read(task.kernel, b"net/core/somaxconn")))
        if backlog > self.backlog:
            self.room.wake()
        self.backlog = backlog
        self.state = TCP_LISTEN
        self.listener = peer_identity(task)

    async def connect(self, task: Task, addr: bytes) -> None:
        name = sockaddr.parse_unix(addr)
        if self.options.passcred and not self.addr:
            unix_names.autobind(self)
        limit = deadline(self.sndtimeo_ns)
        while True:
            other = await unix_names.find(task, name, self.type)
            if other.state != TCP_LISTEN or other.shut & RCV_SHUTDOWN:
                raise ECONNREFUSED
            if not other.queue_full():
                break
            if self.flags & O_NONBLOCK:
                raise EAGAIN
            await self.pause(limit, other.room)
        if self.state != TCP_CLOSE:
            raise EISCONN if self.state == TCP_ESTABLISHED else EINVAL
        embryo = type(self)(task.creds, self.type, 0)
        embryo.embryo = True
        embryo.addr = other.addr
        embryo.peer_info = peer_identity(task)
        self.peer_info = other.listener
        for one, peer in ((self, embryo), (embryo, self)):
            one.peer = peer
            one.state = TCP_ESTABLISHED
        other.embryos.append(embryo)
        other.wake(READABLE)

    async def accept(self, task: Task, flags: int) -> tuple[Socket, bytes]:
        if self.state != TCP_LISTEN:
            raise EINVAL
        limit = deadline(self.rcvtimeo_ns)
        while not self.embryos:
            if self.shut & RCV_SHUTDOWN:
                raise EINVAL
            if self.flags & O_NONBLOCK:
                raise EAGAIN
            await self.pause(limit)
        sock = self.embryos.popleft()
        self.room.wake()
        sock.embryo = False
        sock.flags = O_RDWR | flags
        mine = self.options
        if mine.asks_sender or not mine.passrights:
            new = sock.own_options()
            new.passcred, new.passpidfd, new.passrights = mine.passcred, mine.passpidfd, mine.passrights
            new.asks_sender = mine.asks_sender
        peer = sock.peer
        return sock, sockaddr.unix(b"" if peer is None else peer.addr)

    def leave_peer(self) -> None:
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.shut = SHUTDOWN_MASK
            if self.unread() or self.embryo:
                peer.error = ECONNRESET.errno
            peer.wake(_changed(peer))
            # The peer still names us in getpeername(2) and finds us dead when it sends, until it is
            # closed itself.


class StreamSocket(ConnectionSocket):
    """Bytes in order. `urgent` is the byte sent last with MSG_OOB, as long as nobody has read it; it lies in the queue
    like the others.
    """

    __slots__ = ("ever_urgent", "urgent")

    def __init__(self, creds: Credentials, kind: int, flags: int, backlog: int = MAX_DGRAM_QLEN) -> None:
        super().__init__(creds, kind, flags, backlog)
        self.urgent: Packet | None = None
        self.ever_urgent = False

    async def send(
        self, task: Task, data: bytes, flags: int, name: bytes = b"", control: Control | None = None
    ) -> int:
        urgent = flags & MSG_OOB
        if urgent and not data:
            raise EOPNOTSUPP
        if name:
            raise EISCONN if self.state == TCP_ESTABLISHED else EOPNOTSUPP
        other = self.peer
        if other is None:
            raise ENOTCONN
        quiet = bool(flags & MSG_NOSIGNAL)
        if self.shut & SEND_SHUTDOWN:
            raise broken_pipe(task, quiet)
        limit = deadline(self.sndtimeo_ns)
        nonblocking = self.nonblocking(flags)
        rights = self.attach(task, control)
        total, sent = len(data), 0
        ordinary = total - 1 if urgent else total
        try:
            while sent < total:
                await self.wait_for_space(limit, nonblocking)
                if other.dead or other.shut & RCV_SHUTDOWN:
                    raise broken_pipe(task, quiet or sent > 0)
                if rights is not None and not other.options.passrights:
                    raise EPERM
                size = min(ordinary - sent, max(self.options.sndbuf // 2 - 64, 1), _PIECE) or 1
                piece = data if size == total else data[sent : sent + size]
                packet = Packet(self, piece, self.message_creds(task, other, control), rights, task.group)
                rights = None
                if sent == ordinary:
                    assert isinstance(other, StreamSocket)
                    other.urge(task, packet)
                else:
                    other.enqueue(packet)
                sent += size
        except (LinuxError, Interrupted):
            if not sent:
                raise
        finally:
            if rights is not None:
                rights.drop()
        return sent

    async def recv(self, task: Task, size: int, flags: int) -> Received:
        """unix_stream_read_generic."""
        if self.state != TCP_ESTABLISHED:
            raise EINVAL
        if flags & MSG_OOB:
            return self._receive_urgent(bool(flags & MSG_PEEK))
        peek = bool(flags & MSG_PEEK)
        options, rx = self.options, self.rx
        target = (size if flags & MSG_WAITALL else min(options.rcvlowat, size)) or 1
        limit = deadline(self.rcvtimeo_ns)
        skip = max(options.peek_off, 0) if peek else 0
        pieces: list[bytes] = []
        received = Received(b"")
        first: Packet | None = None
        got = 0
        index = 0  # where a peek is in the queue
        try:
            while True:
                packet = rx[index] if index < len(rx) else None
                if packet is not None and self.ever_urgent:
                    packet, index = self._pass_urgent(index, peek, got > 0)
                    if packet is None and got:
                        break
                while packet is not None and (skip or self.ever_urgent) and skip >= packet.left:
                    skip -= packet.left
                    index += 1
                    packet = rx[index] if index < len(rx) else None
                if packet is None:
                    if got >= target:
                        break
                    error = self.take_error()
                    if error is not None:
                        raise error
                    if self.shut & RCV_SHUTDOWN:
                        break
                    if self.nonblocking(flags):
                        raise EAGAIN
                    await self.pause(limit)
                    index, skip = 0, max(options.peek_off, 0) if peek else 0  # others may have read meanwhile
                    continue
                if first is None:
                    first = packet
                    received.name = sockaddr.unix(packet.sender.addr) if packet.sender.addr else b""
                elif options.asks_sender and packet.creds != first.creds:
                    break
                at = packet.pos + skip
                piece = packet.data[at : at + size - got]
                pieces.append(piece)
                got += len(piece)
                carries = packet.rights is not None
                self.take_rights(received, packet, peek)
                if peek:
                    skip = 0
                    index += 1
                    if carries or got >= size or index >= len(rx):
                        break
                    continue
                packet.pos += len(piece)
                if packet.pos < len(packet.data):
                    break
                rx.popleft().free()
                if carries or got >= size:
                    break
        except (LinuxError, Interrupted):
            if first is None:
                raise
        if options.peek_off >= 0:
            options.peek_off = options.peek_off + got if peek else max(options.peek_off - got, 0)
        received.data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        received.length = got
        if first is not None:
            self.add_creds(received, first)
        return received

    # --- urgent data

    def urge(self, task: Task, packet: Packet) -> None:
        """queue_oob: an urgent byte arrives; an older one that nobody took becomes an ordinary one."""
        self.urgent = packet
        self.ever_urgent = True
        sigio.urgent(task.kernel, self)
        self.enqueue(packet)
        self.wake(EPOLLPRI)

    def _receive_urgent(self, peek: bool) -> Received:
        """unix_stream_recv_urg: the byte stays in the queue, empty, as a mark."""
        packet, rx = self.urgent, self.rx
        if packet is None or self.options.on(SO_OOBINLINE):
            raise EINVAL
        if not peek:
            self.urgent = None
            before = rx.index(packet) - 1
            if before >= 0 and not rx[before].left:
                rx[before].free()
                del rx[before]
            packet.pos = 1
        return Received(packet.data, flags=MSG_OOB)

    def _pass_urgent(self, index: int, peek: bool, got: bool) -> tuple[Packet | None, int]:
        """manage_oob: what a read that has come to `index` of the queue takes next; None where it ends."""
        rx = self.rx
        packet = rx[index]
        if not packet.left:  # the mark that a taken byte left behind
            if got and (self.urgent is None or packet is self.urgent):
                return None, index
            if peek:
                index += 1
            else:
                rx.popleft().free()
            if index >= len(rx):
                return None, index
            packet = rx[index]
        if packet is self.urgent:
            if got:
                return None, index
            inline = self.options.on(SO_OOBINLINE)
            if not peek:
                self.urgent = None
                if not inline:
                    rx.popleft().free()
            elif not inline:
                index += 1
        return (rx[index], index) if index < len(rx) else (None, index)

    def at_mark(self) -> bool:
        if not self.rx:
            return False
        packet = self.rx[0]
        following = self.rx[1] if len(self.rx) > 1 else None
        return packet is self.urgent or (not packet.left and (self.urgent is None or following is self.urgent))

    def unread(self) -> bool:
        return any(packet.left for packet in islice(self.rx, 2))

    def poll(self) -> int:
        return super().poll() | (EPOLLPRI if self.urgent is not None else 0)
