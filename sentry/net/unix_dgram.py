"""SOCK_DGRAM and SOCK_SEQPACKET sockets of AF_UNIX: whole messages."""

from __future__ import annotations

from struct import Struct
from time import time_ns
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    AF_UNSPEC,
    MSG_EOR,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    SO_TIMESTAMPNS_NEW,
    SO_TIMESTAMPNS_OLD,
    SOCK_DGRAM,
    SOL_SOCKET,
    TCP_CLOSE,
    TCP_ESTABLISHED,
)
from sentry.errors import EAGAIN, ECONNREFUSED, ECONNRESET, EMSGSIZE, ENOTCONN, EOPNOTSUPP, EPERM, EPIPE
from sentry.net import sockaddr, unix_names
from sentry.net.socket import Received, deadline
from sentry.net.unix import RCV_SHUTDOWN, WRITABLE, Packet, UnixSocket
from sentry.net.unix_stream import ConnectionSocket

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.net.scm import Control

_OVERHEAD = 32
_TIME = Struct("<qq")


class MessageSocket(UnixSocket):
    """Sending and receiving whole messages."""

    __slots__ = ()

    def may_send_now(self) -> bool:
        """unix_dgram_poll: a connected peer's full queue counts as well."""
        if not self.writable_now():
            return False
        peer = self.peer
        return peer is None or peer.peer is self or not peer.queue_full()

    async def send(
        self, task: Task, data: bytes, flags: int, name: bytes = b"", control: Control | None = None
    ) -> int:
        if flags & MSG_OOB:
            raise EOPNOTSUPP
        target = sockaddr.parse_unix(name) if name else b""
        if self.options.passcred and not self.addr:
            unix_names.autobind(self)
        if len(data) > self.options.sndbuf - _OVERHEAD:
            raise EMSGSIZE
        limit = deadline(self.sndtimeo_ns)
        nonblocking = self.nonblocking(flags)
        rights = self.attach(task, control)
        try:
            await self.wait_for_space(limit, nonblocking)
            if not target and self.peer is None:
                raise ENOTCONN
            other = await self._receiver(task, target, limit, nonblocking)
            if rights is not None and not other.options.passrights:
                raise EPERM
            packet = Packet(self, data, self.message_creds(task, other, control), rights, task.group)
            rights = None
            other.enqueue(packet)
        finally:
            if rights is not None:
                rights.drop()
        return len(data)

    async def _receiver(
        self, task: Task, target: bytes, limit_ns: int | None, nonblocking: bool
    ) -> UnixSocket:
        """The receiver, once it has room."""
        while True:
            if target:
                other = await unix_names.find(task, target, SOCK_DGRAM)
            elif self.peer is None:
                raise ECONNRESET
            else:
                other = self.peer
            if other.peer is not None and other.peer is not self and not other.connection_based:
                raise EPERM  # it is connected to somebody else
            if other.dead:
                self.lost_peer(other)
            elif other.shut & RCV_SHUTDOWN:
                raise EPIPE
            elif other.peer is self or not other.queue_full() or other is self:
                return other
            elif nonblocking:
                raise EAGAIN
            else:
                await self.pause(limit_ns, other.room)

    def lost_peer(self, other: UnixSocket) -> None:
        """The receiver was closed."""
        raise EPIPE

    async def recv(self, task: Task, size: int, flags: int) -> Received:
        if flags & MSG_OOB:
            raise EOPNOTSUPP
        limit = deadline(self.rcvtimeo_ns)
        while True:
            error = self.take_error()
            if error is not None:
                raise error
            found = self._next(bool(flags & MSG_PEEK))
            if found is not None:
                return self._take(*found, size, flags)
            if self.nonblocking(flags):
                if self.connection_based and self.shut & RCV_SHUTDOWN:
                    return Received(b"")
                raise EAGAIN
            if self.shut & RCV_SHUTDOWN:
                return Received(b"")
            await self.pause(limit)

    def _next(self, peek: bool) -> tuple[Packet, int] | None:
        """The message to receive, and how much of it SO_PEEK_OFF skips (__skb_try_recv_from_queue)."""
        skip = self.options.peek_off if peek else -1
        if skip < 0:
            return (self.rx[0], 0) if self.rx else None
        for packet in self.rx:
            size = len(packet.data)
            if skip >= size and (skip or packet.peeked):
                skip -= size
                continue
            packet.peeked = packet.peeked or not size
            return packet, skip
        return None

    def _take(self, packet: Packet, skip: int, size: int, flags: int) -> Received:
        peek = bool(flags & MSG_PEEK)
        was_full = self.queue_full()
        data = packet.data[skip:] if skip else packet.data
        received = Received(data if size >= len(data) else data[:size])
        if packet.sender.addr:
            received.name = sockaddr.unix(packet.sender.addr)
        if size < len(data):
            received.flags |= MSG_TRUNC
        if flags & MSG_TRUNC:
            received.length = len(data)
        options = self.options
        if options.stamps:
            received.control.append(_stamp(options.stamps, packet.stamp_ns or time_ns()))
        self.add_creds(received, packet)
        self.take_rights(received, packet, peek)
        if options.peek_off >= 0:
            move = len(received.data) if peek else -len(packet.data)
            options.peek_off = max(options.peek_off + move, 0)
        if not peek:
            self.rx.popleft().free()
            if was_full:
                self.has_room_again()
        return received


def _stamp(kind: int, time: int) -> tuple[int, int, bytes]:
    """SCM_TIMESTAMP and its like: seconds and a fraction."""
    seconds, rest = divmod(time, 1_000_000_000)
    fraction = rest if kind in (SO_TIMESTAMPNS_OLD, SO_TIMESTAMPNS_NEW) else rest // 1000
    return SOL_SOCKET, kind, _TIME.pack(seconds, fraction)


class DatagramSocket(MessageSocket):
    """SOCK_DGRAM. `peer` is where messages without an address go."""

    __slots__ = ()

    async def connect(self, task: Task, addr: bytes) -> None:
        if sockaddr.family(addr) == AF_UNSPEC:
            self._set_peer(None)
            return
        name = sockaddr.parse_unix(addr)
        if self.options.passcred and not self.addr:
            unix_names.autobind(self)
        other = await unix_names.find(task, name, SOCK_DGRAM)
        if other.peer is not None and other.peer is not self:
            raise EPERM
        self._set_peer(other)

    def _set_peer(self, other: UnixSocket | None) -> None:
        old, self.peer = self.peer, other
        self.state = TCP_CLOSE if other is None else TCP_ESTABLISHED
        if other is not None:
            other.clients.add(self)
        if old is not None and old is not other:
            old.clients.discard(self)
            self._disconnected(old)
        self.wake(WRITABLE)

    def _disconnected(self, old: UnixSocket) -> None:
        """unix_dgram_disconnected: what the old peer sent is lost, and it is told when it was
        connected here.
        """
        if self.rx:
            self.purge()
            self.has_room_again()
            if not old.dead and old.peer is self:
                old.error = ECONNRESET.errno
                old.wake(0x8)

    def lost_peer(self, other: UnixSocket) -> None:
        if self.peer is other:
            self.peer = None
            self.state = TCP_CLOSE
            other.clients.discard(self)
            self._disconnected(other)
            raise ECONNREFUSED

    def leave_peer(self) -> None:
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.clients.discard(self)
            if peer.peer is self:
                peer.wake(WRITABLE)


class SeqpacketSocket(ConnectionSocket, MessageSocket):
    """SOCK_SEQPACKET: messages over a connection."""

    __slots__ = ()

    async def send(
        self, task: Task, data: bytes, flags: int, name: bytes = b"", control: Control | None = None
    ) -> int:
        error = self.take_error()
        if error is not None:
            raise error
        if self.state != TCP_ESTABLISHED:
            raise ENOTCONN
        return await MessageSocket.send(self, task, data, flags & ~MSG_EOR, b"", control)

    async def recv(self, task: Task, size: int, flags: int) -> Received:
        if self.state != TCP_ESTABLISHED:
            raise ENOTCONN
        return await MessageSocket.recv(self, task, size, flags)
