"""SOCK_STREAM sockets of AF_UNIX, and how connections are made (SOCK_SEQPACKET too)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    MSG_NOSIGNAL,
    MSG_OOB,
    MSG_PEEK,
    MSG_WAITALL,
    O_NONBLOCK,
    O_RDWR,
    SOMAXCONN,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_LISTEN,
)
from sentry.errors import (
    EAGAIN,
    ECONNREFUSED,
    ECONNRESET,
    EINTR,
    EINVAL,
    EISCONN,
    ENOTCONN,
    EOPNOTSUPP,
    EPIPE,
    Interrupted,
    LinuxError,
)
from sentry.net import sockaddr, unix_names
from sentry.net.scm import peer_ucred
from sentry.net.socket import Received, Socket, broken_pipe, deadline
from sentry.net.unix import (
    RCV_SHUTDOWN,
    READABLE,
    SEND_SHUTDOWN,
    SHUTDOWN_MASK,
    Packet,
    UnixSocket,
    _changed,
)

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.net.scm import Control, Ucred

_PIECE = 32768  # the largest message a write is cut into


class ConnectionSocket(UnixSocket):
    """listen, connect, accept and what closing does to the peer."""

    __slots__ = ()

    connection_based = True

    def listen(self, task: Task, backlog: int) -> None:
        if not self.addr:
            raise EINVAL("not bound")
        if self.state not in (TCP_CLOSE, TCP_LISTEN):
            raise EINVAL
        backlog = min(backlog & 0xFFFFFFFF, SOMAXCONN)
        if backlog > self.backlog:
            self.room.wake()
        self.backlog = backlog
        self.state = TCP_LISTEN
        self.own_creds = peer_ucred(task)
        self.own_groups = task.creds.groups

    async def connect(self, task: Task, addr: bytes) -> None:
        name = sockaddr.parse_unix(addr)
        if self.passcred and not self.addr:
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
        embryo.peer_creds = peer_ucred(task)
        embryo.peer_groups = task.creds.groups
        self.peer_creds, self.peer_groups = other.own_creds, other.own_groups
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
        sock.passcred = self.passcred
        peer = sock.peer
        return sock, sockaddr.unix(b"" if peer is None else peer.addr)

    def leave_peer(self) -> None:
        peer, self.peer = self.peer, None
        if peer is not None:
            peer.shut = SHUTDOWN_MASK
            if self.rx or self.embryo:
                peer.error = ECONNRESET.errno
            peer.wake(_changed(peer))
            # The peer still names us in getpeername(2) and finds us dead when it sends, until it is
            # closed itself.


class StreamSocket(ConnectionSocket):
    """Bytes in order."""

    __slots__ = ()

    async def send(
        self, task: Task, data: bytes, flags: int, name: bytes = b"", control: Control | None = None
    ) -> int:
        if flags & MSG_OOB:
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
        try:
            while sent < total:
                await self.wait_for_space(limit, nonblocking)
                if other.dead or other.shut & RCV_SHUTDOWN:
                    raise EPIPE
                size = min(total - sent, max(self.sndbuf // 2 - 64, 1), _PIECE)
                piece = data if size == total else data[sent : sent + size]
                packet = Packet(self, piece, self.message_creds(task, other, control), rights)
                rights = None
                other.enqueue(packet)
                sent += size
        except EPIPE:
            if not sent:
                raise broken_pipe(task, quiet)
        except (LinuxError, Interrupted):
            if not sent:
                raise
        finally:
            if rights is not None:
                rights.drop()
        return sent

    async def recv(self, task: Task, size: int, flags: int) -> Received:
        if self.state != TCP_ESTABLISHED:
            raise EINVAL
        if flags & MSG_OOB:
            raise EOPNOTSUPP
        peek = bool(flags & MSG_PEEK)
        target = size if flags & MSG_WAITALL else 1
        limit = deadline(self.rcvtimeo_ns)
        pieces: list[bytes] = []
        received = Received(b"")
        creds: Ucred | None = None
        got = 0
        index = 0  # where a peek is in the queue
        try:
            while True:
                if index >= len(self.rx):
                    if got >= max(target, 1):
                        break
                    error = self.take_error()
                    if error is not None:
                        if got:
                            self.error = error.errno
                            break
                        raise error
                    if self.shut & RCV_SHUTDOWN:
                        break
                    if self.nonblocking(flags):
                        raise EAGAIN
                    await self.pause(limit)
                    if peek:  # others may have read meanwhile
                        pieces, got, index = [], 0, 0
                        received.drop()
                    continue
                packet = self.rx[index]
                if not pieces:
                    received.name = sockaddr.unix(packet.sender.addr) if packet.sender.addr else b""
                    creds = packet.creds
                elif self.passcred and packet.creds != creds:
                    break
                piece = packet.data[packet.pos : packet.pos + size - got]
                pieces.append(piece)
                got += len(piece)
                carries = packet.rights is not None
                self.take_rights(received, packet, peek)
                if peek:
                    index += 1
                    if carries or got >= size:
                        break
                    continue
                packet.pos += len(piece)
                if packet.pos < len(packet.data):
                    break
                self.rx.popleft().free()
                if carries or got >= size:
                    break
        except (EAGAIN, EINTR, Interrupted):
            if not pieces:
                raise
        received.data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        received.length = len(received.data)
        if pieces:
            self.add_creds(received, creds)
        return received
