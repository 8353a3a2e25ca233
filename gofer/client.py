"""The sentry's end of the gofer's socket. Imports nothing of the sentry.

A request is sent at once and answered in the socket's order. `exchange` waits a moment for the answer, which is the
usual way: it takes some 10 µs. If that is too short (the host's disk), set `pending.callback` and go
on; `on_readable`, called by the loop when `fileno()` is readable, calls it.

    pending = client.exchange(LOOKUP, directory, name)
    if not pending.done:
        pending.callback = future.set          # called with the Pending
        await future.wait()
    if pending.errno: ...
"""

import _socket
from collections import deque
from collections.abc import Callable
from errno import EAGAIN, EIO
from struct import Struct

from gofer import protocol as p
from native import ffi, lib

PATIENCE_MS = 1
RESTS = 32  # after a wait in vain, this many requests do without
_timeval = Struct("=qq")
_ANCILLARY = _socket.CMSG_SPACE(4)
_SO_RCVTIMEO = 20


class Pending:
    """A request on its way, then its answer. The descriptor `fd` (-1: none) is the taker's to close."""

    __slots__ = ("callback", "data", "done", "errno", "fd", "id", "value")

    def __init__(self, id: int) -> None:
        self.id = id
        self.done = False
        self.errno = 0
        self.value = 0
        self.data = b""
        self.fd = -1
        self.callback: Callable[[Pending], None] | None = None

    def error(self) -> OSError:
        return OSError(self.errno, "gofer")


class Client:
    """Takes `fd`, GoferHandle.socket_fd. on_close is called once, when the gofer is gone."""

    __slots__ = (
        "_backlog", "_buffer", "_donated", "_fd", "_into", "_next", "_rest", "_sock", "_view", "_waiting", "closed",
        "on_close",
    )  # fmt: skip

    def __init__(self, fd: int) -> None:
        self._sock = _socket.socket(fileno=fd)
        self._sock.setblocking(True)
        # One system call waits for the answer: no poll, no timer.
        self._sock.setsockopt(_socket.SOL_SOCKET, _SO_RCVTIMEO, _timeval.pack(0, PATIENCE_MS * 1000))
        self._buffer = bytearray(p.MAX_MESSAGE + 4096)
        self._view = memoryview(self._buffer)
        self._into = ffi.from_buffer(self._buffer)
        self._donated = ffi.new("int32_t *")
        self._fd = fd
        self._next = 1
        self._rest = 0
        self._waiting: dict[int, Pending] = {}
        self._backlog: deque[bytes] = deque()
        self.closed = False
        self.on_close: Callable[[], None] | None = None

    def fileno(self) -> int:
        return self._sock.fileno()

    def statistics(self) -> dict[str, int]:
        return {"waiting": len(self._waiting), "backlog": len(self._backlog)}

    # --- sending ---

    def send(self, op: int, handle: int, payload: bytes = b"") -> Pending:
        """Never blocks. What the socket has no room for goes when answers have come."""
        pending = self._new()
        number = pending.id
        if self.closed:
            pending.errno = EIO
            pending.done = True
            return pending
        if op != p.FORGET:
            self._waiting[number] = pending
        else:
            pending.done = True
        message = self._message(number, op, handle, payload)
        if self._backlog:
            self._backlog.append(message)
            return pending
        try:
            self._sock.send(message, _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self._backlog.append(message)
        except OSError:
            self._fail()
        return pending

    def submit(
        self, op: int, handle: int, payload: bytes = b"", callback: Callable[[Pending], None] | None = None
    ) -> Pending:
        """Send; callback runs from on_readable (or a later poll), or at once if the gofer is gone."""
        pending = self.send(op, handle, payload)
        if pending.done:
            if callback is not None:
                callback(pending)
        else:
            pending.callback = callback
        return pending

    def _message(self, number: int, op: int, handle: int, payload: bytes) -> bytes:
        return p.HEADER.pack(number, op, 0, handle) + payload

    def _new(self) -> Pending:
        number = self._next
        self._next = number + 1 & 0xFFFFFFFF or 1
        return Pending(number)

    # --- receiving ---

    def exchange(self, op: int, handle: int, payload: bytes = b"") -> Pending:
        """Send, and wait for the answer for about a millisecond, unless the gofer was slow just now."""
        if self._waiting or self._backlog or self._rest or self.closed:
            pending = self.send(op, handle, payload)
            self.poll(pending)
            return pending
        # Nobody else waits: what comes is the answer, and all of it happens in one trip into C.
        pending = self._new()
        message = self._message(pending.id, op, handle, payload)
        size = lib.nc_exchange(self._fd, message, len(message), self._into, len(self._buffer), self._donated)
        if size >= p.HEAD:
            self._take(pending, size, self._donated[0])
        elif size == -EAGAIN:
            self._waiting[pending.id] = pending
            self._rest = RESTS
        elif size == lib.NC_NOT_SENT:
            self._waiting[pending.id] = pending
            self._backlog.append(message)
        else:
            self._waiting[pending.id] = pending
            self._fail()
        return pending

    def _take(self, pending: Pending, size: int, fd: int) -> None:
        """The answer in the buffer is for `pending`."""
        number, pending.errno, _zero, pending.value = p.REPLY.unpack_from(self._buffer)
        assert number == pending.id, "the gofer answers out of order"
        pending.data = bytes(self._view[p.HEAD : size])
        pending.fd = fd
        pending.done = True

    def poll(self, pending: Pending) -> bool:
        """Has it been answered? Waits for about a millisecond, unless the gofer was slow just now."""
        if pending.done:
            return True
        if self._rest:
            self._rest -= 1
            self.on_readable()
            return pending.done
        while not pending.done:
            if not self._receive(0):
                self._rest = 0 if pending.done else RESTS
                return pending.done
        return True

    def call_sync(self, op: int, handle: int, payload: bytes = b"", timeout_ms: int = 1000) -> Pending:
        """For boot and tests: raises OSError, with EAGAIN when the time is over."""
        pending = self.send(op, handle, payload)
        for _turn in range(max(1, timeout_ms // PATIENCE_MS)):
            while not pending.done and self._receive(0):
                pass
            if pending.done:
                break
        if not pending.done:
            raise OSError(EAGAIN, "the gofer has not answered")
        if pending.errno:
            raise pending.error()
        return pending

    def on_readable(self) -> None:
        while self._receive(_socket.MSG_DONTWAIT):
            pass

    def close(self) -> None:
        self._fail()

    def _receive(self, flags: int) -> bool:
        """One message, if there is one (in time)."""
        if self.closed:
            return False
        try:
            size, ancillary, _flags, _from = self._sock.recvmsg_into(
                (self._buffer,), _ANCILLARY, flags | _socket.MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return False
        except OSError:
            size, ancillary = 0, []
        if size < p.HEAD:
            self._fail()
            return False
        fd = int.from_bytes(ancillary[0][2][:4], "little") if ancillary else -1
        pending = self._waiting.pop(p.REPLY.unpack_from(self._buffer)[0], None)
        if pending is None:
            if fd >= 0:
                _socket.close(fd)
            return True
        self._take(pending, size, fd)
        if self._backlog:
            self._flush()
        if pending.callback is not None:
            pending.callback(pending)
        return True

    def _flush(self) -> None:
        while self._backlog:
            try:
                self._sock.send(self._backlog[0], _socket.MSG_DONTWAIT | _socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self._fail()
                return
            self._backlog.popleft()

    def _fail(self) -> None:
        """The gofer is gone: everything that waits gets EIO."""
        if self.closed:
            return
        self.closed = True
        self._sock.close()
        self._backlog.clear()
        waiting = list(self._waiting.values())
        self._waiting.clear()
        for pending in waiting:
            pending.errno = EIO
            pending.done = True
            if pending.callback is not None:
                pending.callback(pending)
        if self.on_close is not None:
            self.on_close()
