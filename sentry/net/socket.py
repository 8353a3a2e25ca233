"""Socket: what all address families share. Every default answers as Linux's sock_no_* operation does.

A family implements `send` and `recv` (the data), naming, connecting and options. Addresses are raw `struct
sockaddr` bytes. `read` and `write` of the descriptor go through `recv` and `send`, as sock_read_iter and
sock_write_iter do.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Any

from sentry.abi.linux import (
    MSG_DONTWAIT,
    MSG_EOR,
    O_NONBLOCK,
    O_RDWR,
    SIGPIPE,
    SO_ACCEPTCONN,
    SO_BINDTODEVICE,
    SO_DOMAIN,
    SO_PROTOCOL,
    SO_RCVTIMEO_NEW,
    SO_RCVTIMEO_OLD,
    SO_SNDTIMEO_NEW,
    SO_SNDTIMEO_OLD,
    SO_TYPE,
    SOCK_SEQPACKET,
    SOL_SOCKET,
)
from sentry.errors import (
    EAGAIN,
    EDOM,
    EINTR,
    EINVAL,
    ENOTTY,
    EOPNOTSUPP,
    EPIPE,
    ESRCH,
    Interrupted,
)
from sentry.kernel.fdtable import hold, unhold
from sentry.kernel.sched import WaitQueue, sched, wait
from sentry.net.jiffies import NS, rounded_up
from sentry.net.options import DEFAULTS, Options
from sentry.net.sockfs import live, new_inode
from sentry.vfs.file import File

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.task import Task, ThreadGroup
    from sentry.net.options import Peer
    from sentry.net.scm import Control

_INT = Struct("<i")
_TIMEVAL = Struct("<qq")
_FAR_NS = 1 << 60


class Received:
    """What one recv gives. `length` is the call's result (with MSG_TRUNC more than `data` holds).

    `data` may be a view of a buffer that the next receive overwrites: use it before anything else runs.
    """

    __slots__ = ("control", "data", "files", "flags", "length", "name", "sender")

    def __init__(self, data: bytes, length: int = -1, name: bytes = b"", flags: int = 0) -> None:
        self.data = data
        self.length = len(data) if length < 0 else length
        self.name = name
        self.flags = flags
        self.control: list[tuple[int, int, bytes]] = []  # level, type, payload
        self.files: Any = None  # scm.Rights: descriptors that came along
        self.sender: ThreadGroup | None = None  # SCM_PIDFD is wanted of this process

    def drop(self) -> None:
        """Nobody wants the files."""
        if self.files is not None:
            self.files.drop()
            self.files = None


class Socket(File):
    """An open socket."""

    __slots__ = ("domain", "options", "protocol", "rcvtimeo_ns", "sndtimeo_ns", "type")
    async_io = nowait = takes_splice = gives_splice = True

    def __init__(self, creds: Credentials, domain: int, kind: int, protocol: int, flags: int) -> None:
        super().__init__(new_inode(creds), None, O_RDWR | flags)
        self.domain = domain
        self.type = kind
        self.protocol = protocol
        self.rcvtimeo_ns: int | None = None  # None: for ever
        self.sndtimeo_ns: int | None = None
        self.options = DEFAULTS
        live[self.inode.ino] = self

    # --- the operations of a family

    async def bind(self, task: Task, addr: bytes) -> None:
        raise EOPNOTSUPP

    async def connect(self, task: Task, addr: bytes) -> None:
        raise EOPNOTSUPP

    def listen(self, task: Task, backlog: int) -> None:
        raise EOPNOTSUPP

    async def accept(self, task: Task, flags: int) -> tuple[Socket, bytes]:
        """The new socket (with `flags`, O_NONBLOCK or 0) and the address of its peer."""
        raise EOPNOTSUPP

    def getsockname(self) -> bytes:
        raise EOPNOTSUPP

    def getpeername(self) -> bytes:
        raise EOPNOTSUPP

    def shutdown(self, how: int) -> None:
        raise EOPNOTSUPP

    async def send(
        self, task: Task, data: bytes, flags: int, name: bytes = b"", control: Control | None = None
    ) -> int:
        raise EOPNOTSUPP

    async def recv(self, task: Task, size: int, flags: int) -> Received:
        raise EOPNOTSUPP

    def own_options(self) -> Options:
        """The options, to be changed."""
        if self.options is DEFAULTS:
            self.options = DEFAULTS.copy()
        return self.options

    def set_option(self, task: Task, name: int, value: bytes) -> None:
        """An option of SOL_SOCKET."""
        self.own_options().set(task, self, name, value)

    def get_option(self, task: Task, name: int, size: int) -> bytes:
        return self.options.get(task, self, name, size)

    def family_setsockopt(self, task: Task, level: int, name: int, value: bytes) -> None:
        """An option of another level."""
        raise EOPNOTSUPP

    def family_getsockopt(self, task: Task, level: int, name: int, size: int) -> bytes:
        raise EOPNOTSUPP

    def listening(self) -> bool:
        return False

    def pending_error(self) -> int:
        """SO_ERROR: an errno that is told once, or 0."""
        return 0

    def peer_of(self) -> Peer | None:
        """Whom SO_PEERCRED and its like describe."""
        return None

    # --- options every family has

    def setsockopt(self, task: Task, level: int, name: int, value: bytes) -> None:
        """setsockopt(2); `value` is what the guest's buffer holds."""
        if level != SOL_SOCKET:
            self.family_setsockopt(task, level, name, value)
        elif len(value) < _INT.size and name != SO_BINDTODEVICE:
            raise EINVAL
        elif name in _TIMEOUTS:
            if len(value) < _TIMEVAL.size:
                raise EINVAL
            timeout = _timeout(*_TIMEVAL.unpack_from(value))
            if name in _RECEIVE_TIMEOUTS:
                self.rcvtimeo_ns = timeout
            else:
                self.sndtimeo_ns = timeout
        else:
            self.set_option(task, name, value)

    def getsockopt(self, task: Task, level: int, name: int, size: int) -> bytes:
        """getsockopt(2); at most `size` bytes."""
        if level != SOL_SOCKET:
            return self.family_getsockopt(task, level, name, size)
        if name == SO_TYPE:
            return _INT.pack(self.type)[:size]
        if name == SO_DOMAIN:
            return _INT.pack(self.domain)[:size]
        if name == SO_PROTOCOL:
            return _INT.pack(self.protocol)[:size]
        if name == SO_ACCEPTCONN:
            return _INT.pack(self.listening())[:size]
        if name in _TIMEOUTS:
            timeout = self.rcvtimeo_ns if name in _RECEIVE_TIMEOUTS else self.sndtimeo_ns
            seconds, rest = divmod(timeout or 0, NS)
            return _TIMEVAL.pack(seconds, rest // 1000)[:size]
        return self.get_option(task, name, size)

    # --- File operations

    async def read(self, task: Task, size: int) -> bytes:
        if not size:
            return b""
        received = await self.recv(task, size, 0)
        received.drop()
        return bytes(received.data)

    async def write(self, task: Task, data: bytes) -> int:
        return await self.send(task, data, MSG_EOR if self.type == SOCK_SEQPACKET else 0)

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        from sentry.net.interfaces import IFREQ_COMMANDS, interface_ioctl

        if cmd in IFREQ_COMMANDS:
            return interface_ioctl(task, self.domain, cmd, arg)
        if 0x8900 <= cmd <= 0x89FF:  # sock_ioctl's own; without CAP_NET_ADMIN the changing ones fail
            return self.socket_ioctl(task, cmd, arg)
        return self.family_ioctl(task, cmd, arg)

    def socket_ioctl(self, task: Task, cmd: int, arg: int) -> int:
        from sentry.net.interfaces import refused_ioctl

        raise refused_ioctl(self.domain, cmd)

    def family_ioctl(self, task: Task, cmd: int, arg: int) -> int:
        """FIONREAD, SIOCOUTQ and the like."""
        raise ENOTTY

    def describe(self) -> bytes | None:
        return b"socket:[%d]" % self.inode.ino

    def release(self) -> None:
        live.pop(self.inode.ino, None)

    # --- waiting

    def nonblocking(self, flags: int) -> bool:
        return bool(flags & MSG_DONTWAIT or self.flags & O_NONBLOCK)

    def wake(self, mask: int) -> None:
        """Readiness changed."""
        if self.queue is not None:
            self.queue.wake(mask)

    async def pause(self, deadline_ns: int | None, *more: WaitQueue) -> None:
        """Sleep until something changes. EAGAIN at the deadline; EINTR instead of a restart when there is one
        (sock_intr_errno). The wait itself keeps the socket open, whoever closes the descriptor meanwhile.
        """
        held = self.nc is not None
        if held:
            hold(self)
        try:
            woken = await wait(
                self.wait_queue, *more, deadline_ns=deadline_ns, stop_ends=deadline_ns is not None
            )
        except Interrupted:
            if deadline_ns is not None:
                raise EINTR
            raise
        finally:
            if held:
                unhold(self)
        if not woken:
            raise EAGAIN


def deadline(timeout_ns: int | None) -> int | None:
    """When a wait that starts now with SO_RCVTIMEO or SO_SNDTIMEO ends."""
    return None if timeout_ns is None or timeout_ns > _FAR_NS else sched().now_ns() + timeout_ns


def broken_pipe(task: Task, quiet: bool) -> EPIPE:
    """EPIPE, and the SIGPIPE that goes with it unless `quiet`."""
    if not quiet:
        try:
            task.kernel.send_signal(task, SIGPIPE)
        except ESRCH:
            pass
    return EPIPE()


def _timeout(seconds: int, microseconds: int) -> int | None:
    """sock_set_timeout: zero means for ever; a negative time has passed already."""
    if not 0 <= microseconds < 1_000_000:
        raise EDOM
    if seconds < 0:
        return 0
    return rounded_up(seconds, microseconds) or None


_RECEIVE_TIMEOUTS = (SO_RCVTIMEO_OLD, SO_RCVTIMEO_NEW)
_TIMEOUTS = (*_RECEIVE_TIMEOUTS, SO_SNDTIMEO_OLD, SO_SNDTIMEO_NEW)
