"""The control socket of a sandbox: requests of the CLI, answers of the sentry. Both ends.

A message is one JSON object over AF_UNIX SOCK_SEQPACKET, cut into packets of at most CHUNK bytes; each packet
starts with one byte, `+` (more follows) or `.` (the last). Descriptors travel with the first packet. A
request is `{"op": name, ...}`; its answer `{"ok": true, ...}` or `{"ok": false, "error": text}`. One
connection may carry several requests, one after the other.

Client:  `with Client(path) as c: c.call("pids")["pids"]`
Server:  `server = ControlServer(listener, {"pids": on_pids}); server.attach(sched().watch, sched().unwatch)`
         where `def on_pids(message: dict, fds: list[int], reply: Reply)` answers now or later.

Requests (field: type; -> answer):
  start                               let the first task exec                 -> {}
  exec    process: {...} and fds      a new first task, whose descriptors are numbered process["fds"]
                                                                              -> {"pid": host pid}
  wait    pid, kill_on_close          answered when that first task ends      -> {"status": as of wait(2)}
  signal  pid or "all", signal                                                -> {}
  pids                                host pids of the guest's processes      -> {"pids": [...]}
  pause, resume                       stop every guest by signals (they can see it), and let it go on
  limits  memory_limit, pids_limit, cpu_quota, cpu_period
                                      what guests are told of their cgroup from now on: absent ones are none
  hold, release                       receive no system call and have none open, for the host to freeze us all
  state, stats, stop

`wait` with kill_on_close: if the connection closes before the task ends, the task is killed (SIGKILL),
which is how a waiter process killed by its own parent takes the guest process with it.
"""

import _socket as socket  # the `socket` module makes 300 enum members first, at each start
import os
import time
from collections.abc import Callable
from functools import partial
from struct import pack, unpack
from typing import Any

from sentry.log import describe

CHUNK = 32 * 1024
MAX_MESSAGE = 4 * 1024 * 1024
MAX_FDS = 253  # SCM_MAX_FD
_BACKLOG_LIMIT = 8 * 1024 * 1024

EPOLLIN, EPOLLOUT = 1, 4

Message = dict[str, Any]
Handler = Callable[[Message, list[int], "Reply"], None]


class ControlError(Exception):
    """The other side refused the request; the text is for the user."""


class ControlGone(ControlError):
    """Nobody answers: the sentry is dead, stopped or does not keep the protocol."""


def encode(message: Message) -> list[bytes]:
    """A message as packets."""
    import json

    data = json.dumps(message, separators=(",", ":"), ensure_ascii=True).encode()
    if len(data) > MAX_MESSAGE:
        raise ControlError(f"a control message of {len(data)} bytes is too large")
    parts = [data[at : at + CHUNK] for at in range(0, len(data), CHUNK)]
    return [(b"." if part is parts[-1] else b"+") + part for part in parts]


def decode(data: bytes) -> Message:
    """Packets' bodies, joined, as a message. ValueError when it is not a JSON object."""
    import json

    message = json.loads(data)
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message


def text_bytes(text: str) -> bytes:
    """A string of a message as the bytes it stands for: undecodable ones travel as surrogates."""
    return text.encode("utf-8", "surrogateescape")


def bytes_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def process_arguments(process: Any) -> dict[str, Any]:
    """The `process` of an exec request as keyword arguments of ProcessConfig; ControlError if it is none.
    `fds` is left out: the caller reads it beside."""
    if not isinstance(process, dict):
        raise ControlError("exec: process must be an object")
    try:
        given = {name: value for name, value in process.items() if name != "fds"}
        given["args"] = [text_bytes(arg) for arg in process["args"]]
        given["env"] = [text_bytes(entry) for entry in process["env"]]
        given["cwd"] = text_bytes(process["cwd"])
        given["groups"] = tuple(int(gid) for gid in process["groups"])
        given["caps"] = {str(kind): int(mask) for kind, mask in process["caps"].items()}
        given["rlimits"] = {int(n): (int(soft), int(hard)) for n, (soft, hard) in process["rlimits"].items()}
        given["uid"], given["gid"] = int(process["uid"]), int(process["gid"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ControlError(f"exec: process is malformed: {error}") from None
    return given


def make_listener(directory: str, name: str = "control.sock") -> socket.socket:
    """A listening socket in `directory`, whatever the length of its path (sun_path holds 108 bytes)."""
    dir_fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        try:
            listener.bind(f"/proc/self/fd/{dir_fd}/{name}")
            listener.listen(64)
        except BaseException:
            listener.close()
            raise
    finally:
        os.close(dir_fd)
    listener.setblocking(False)
    return listener


# -- the client
# ------------------------------------------------------------------------------------------------


class Client:
    """A blocking connection. Every failure to get an answer is ControlGone, a refusal ControlError."""

    def __init__(self, path: str, timeout: float | None = 10.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
        self._socket.settimeout(timeout)
        directory, name = os.path.split(path)
        try:
            dir_fd = os.open(directory or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._connect(f"/proc/self/fd/{dir_fd}/{name}", timeout)
            finally:
                os.close(dir_fd)
        except OSError as error:
            self._socket.close()
            raise ControlGone(f"cannot reach the sandbox: {error.strerror}") from None

    def _connect(self, path: str, timeout: float | None) -> None:
        """connect(2), again while the sandbox's queue of connections is full (EAGAIN)."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            try:
                self._socket.connect(path)
                return
            except BlockingIOError:
                if end is not None and time.monotonic() >= end:
                    raise
                time.sleep(0.005)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def call(
        self, op: str, fds: list[int] | None = None, timeout: float | None = -1, **fields: Any
    ) -> Message:
        """Send a request and wait for its answer. `timeout` None waits for ever, -1 keeps the client's
        own."""
        self.send(op, fds, **fields)
        return self.receive(timeout)

    def send(self, op: str, fds: list[int] | None = None, **fields: Any) -> None:
        packets = encode({"op": op, **fields})
        try:
            _send(self._socket, packets[0], fds or [])
            for packet in packets[1:]:
                self._socket.send(packet)
        except OSError as error:
            raise ControlGone(f"the sandbox does not listen: {error.strerror or error}") from None

    def receive(self, timeout: float | None = -1) -> Message:
        if timeout != -1:
            self._socket.settimeout(timeout)
        data = bytearray()
        try:
            while True:
                packet = self._socket.recv(CHUNK + 1)
                if not packet:
                    raise ControlGone("the sandbox ended before it answered")
                data += packet[1:]
                if len(data) > MAX_MESSAGE:
                    raise ControlGone("the sandbox sent too long an answer")
                if packet[:1] == b".":
                    break
            answer = decode(bytes(data))
        except TimeoutError:
            raise ControlGone("the sandbox does not answer") from None
        except OSError as error:
            raise ControlGone(f"the sandbox does not answer: {error.strerror or error}") from None
        except (ValueError, RecursionError):
            raise ControlGone("the sandbox sent an answer that is not JSON") from None
        if answer.get("ok") is not True:
            raise ControlError(str(answer.get("error", "refused")))
        return answer


# -- the server
# ------------------------------------------------------------------------------------------------


class Reply:
    """What a handler answers with, once, now or later. Answers to a client that left are dropped."""

    __slots__ = ("_connection", "_done", "on_close")

    def __init__(self, connection: "_Connection") -> None:
        self._connection: _Connection | None = connection
        self._done = False
        self.on_close: Callable[[], None] | None = None  # called if the client leaves before the answer

    def send(self, fields: Message | None = None, fds: list[int] | None = None) -> None:
        self._answer({"ok": True, **(fields or {})}, fds or [])

    def fail(self, text: str) -> None:
        self._answer({"ok": False, "error": text}, [])

    @property
    def done(self) -> bool:
        return self._done

    def _answer(self, message: Message, fds: list[int]) -> None:
        if self._done:
            return
        self._done = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.answered(self, message, fds)

    def _left(self) -> None:
        if not self._done:
            self._done, self._connection = True, None
            if self.on_close is not None:
                self.on_close()


class _Connection:
    __slots__ = ("data", "fds", "out", "pending", "socket", "writing")

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.data = bytearray()
        self.fds: list[int] = []
        self.out: list[tuple[bytes, list[int]]] = []
        self.pending: list[Reply] = []
        self.writing = False

    def answered(self, reply: Reply, message: Message, fds: list[int]) -> None:
        if reply in self.pending:
            self.pending.remove(reply)
        try:
            packets = encode(message)
        except (ControlError, TypeError, ValueError):
            packets = encode({"ok": False, "error": "the answer cannot be sent"})
        if sum(len(packet) for packet, _ in self.out) < _BACKLOG_LIMIT:
            self.out += [(packet, fds if packet is packets[0] else []) for packet in packets]
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes; the rest when it is writable again."""
        while self.out:
            packet, fds = self.out[0]
            try:
                _send(self.socket, packet, fds, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError:
                self.out.clear()
                return
            del self.out[0]


class ControlServer:
    """Driven by the sentry's loop: `on_accept` when the listener is readable, `on_readable(connection)`
    when a connection is. Never blocks; a broken or hostile client loses its connection and nothing else
    happens."""

    MAX_CONNECTIONS = 64

    def __init__(self, listener: socket.socket, handlers: dict[str, Handler]) -> None:
        self.listener = listener
        self.handlers = handlers
        self.connections: list[_Connection] = []
        self.on_bug: Callable[[str], None] | None = None  # told the description of a handler that raised
        self._watch: Callable[[int, int, Callable[[int], Any]], Any] | None = None
        self._unwatch: Callable[[int], Any] | None = None
        listener.setblocking(False)

    def attach(
        self, watch: Callable[[int, int, Callable[[int], Any]], Any], unwatch: Callable[[int], Any]
    ) -> None:
        """Register with a loop: `watch(fd, events, callback)`, `unwatch(fd)`."""
        self._watch, self._unwatch = watch, unwatch
        watch(self.listener.fileno(), EPOLLIN, self._on_listener)

    def _on_listener(self, events: int) -> None:
        self.on_accept()

    def on_accept(self) -> None:
        while True:
            try:
                sock = socket.socket(fileno=self.listener._accept()[0])  # type: ignore[attr-defined]
            except OSError:
                return
            if len(self.connections) >= self.MAX_CONNECTIONS:
                sock.close()
                continue
            sock.setblocking(False)
            connection = _Connection(sock)
            self.connections.append(connection)
            if self._watch is not None:
                self._watch(sock.fileno(), EPOLLIN, partial(self._on_event, connection))

    def on_readable(self, connection: _Connection) -> None:
        """Take every packet that is there; dispatch each complete message."""
        while connection in self.connections:
            try:
                packet, fds, flags = _receive(connection.socket)
            except BlockingIOError:
                return
            except OSError:
                self.drop(connection)
                return
            connection.fds += fds
            truncated = flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC)
            if not packet or truncated or packet[:1] not in (b"+", b"."):
                self.drop(connection)
                return
            connection.data += packet[1:]
            if len(connection.data) > MAX_MESSAGE or len(connection.fds) > MAX_FDS:
                self.drop(connection)
                return
            if packet[:1] == b".":
                self._dispatch(connection)

    def drop(self, connection: _Connection) -> None:
        """Forget a connection: its descriptors are closed, handlers that owe it an answer are told."""
        if connection not in self.connections:
            return
        self.connections.remove(connection)
        if self._unwatch is not None:
            self._unwatch(connection.socket.fileno())
        connection.socket.close()
        close_all(connection.fds)
        pending, connection.pending = connection.pending, []
        for reply in pending:
            reply._left()

    def close(self) -> None:
        for connection in list(self.connections):
            self.flush_hard(connection)
            self.drop(connection)
        if self._unwatch is not None and self.listener.fileno() >= 0:
            self._unwatch(self.listener.fileno())
        self.listener.close()

    def flush_hard(self, connection: _Connection, deadline_s: float = 0.2) -> None:
        """At the very end only: give the last answers a moment to go out."""
        end = time.monotonic() + deadline_s
        connection.flush()
        while connection.out and time.monotonic() < end:
            time.sleep(0.002)
            connection.flush()

    def _on_event(self, connection: _Connection, events: int) -> None:
        if events & EPOLLOUT:
            connection.flush()
        if events & ~EPOLLOUT:
            self.on_readable(connection)
        self._rearm(connection)

    def _rearm(self, connection: _Connection) -> None:
        """Ask for EPOLLOUT just while an answer waits for room."""
        if self._watch is None or self._unwatch is None or connection not in self.connections:
            return
        if bool(connection.out) != connection.writing:
            connection.writing = bool(connection.out)
            descriptor = connection.socket.fileno()
            self._unwatch(descriptor)
            events = EPOLLIN | (EPOLLOUT if connection.writing else 0)
            self._watch(descriptor, events, partial(self._on_event, connection))

    def _dispatch(self, connection: _Connection) -> None:
        data, connection.data = bytes(connection.data), bytearray()
        fds, connection.fds = connection.fds, []
        reply = Reply(connection)
        connection.pending.append(reply)
        try:
            message = decode(data)
        except (ValueError, RecursionError):
            close_all(fds)
            reply.fail("not a request")
            return
        op = message.get("op")
        handler = self.handlers.get(op) if isinstance(op, str) else None
        if handler is None:
            close_all(fds)
            reply.fail(f"unknown request {op!r}")
            return
        try:
            handler(message, fds, reply)  # owns the descriptors from here, if it returns
        except ControlError as error:
            close_all(fds)
            reply.fail(str(error))
        except Exception as error:
            close_all(fds)
            if self.on_bug is not None:
                self.on_bug(describe(error))
            reply.fail(f"control request {op}: {type(error).__name__}: {error}")
        self._rearm(connection)


def _send(sock: socket.socket, packet: bytes, fds: list[int], flags: int = 0) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, pack(f"{len(fds)}i", *fds))] if fds else []
    sock.sendmsg([packet], rights, flags)


def _receive(sock: socket.socket) -> tuple[bytes, list[int], int]:
    """A packet, the descriptors that came with it, and what recvmsg(2) says of it."""
    room = socket.CMSG_LEN(MAX_FDS * 4)
    packet, rights, flags, _ = sock.recvmsg(CHUNK + 1, room, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC)
    fds: list[int] = []
    for level, kind, data in rights:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += unpack(f"{len(data) // 4}i", data)
    return packet, fds, flags


def close_all(fds: list[int]) -> None:
    """Close descriptors that came with a message nobody wanted."""
    while fds:
        try:
            os.close(fds.pop())
        except OSError:
            pass
