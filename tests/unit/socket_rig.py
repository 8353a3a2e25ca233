"""The same socket calls on two kernels: the host's (through libc's syscall()) and ours (through the syscall
table).

    def scenario(k: Calls) -> None:
        a, b = k.socketpair(AF_UNIX, SOCK_STREAM)
        k.send(a, b"hello")
        k.recv(b, 10)

    both(scenario)      # every result, errno and address of the two runs is the same

Addresses are those of this process, which is its own guest: sentry.kernel.memory reads them with
process_vm_readv.
"""

from __future__ import annotations

import ctypes
import os
import select
import struct
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any

from sentry.abi.linux import CAP_LAST_CAP
from sentry.abi.x86_64 import MSGHDR, NUMBERS
from sentry.errors import Interrupted, LinuxError
from sentry.fs.store import Store
from sentry.fs.tmpfs import Tmpfs
from sentry.kernel.creds import Credentials
from sentry.kernel.fdtable import FdTable, drain
from sentry.kernel.memory import Memory
from sentry.kernel.sched import Job, Scheduler
from sentry.net.socket import Socket
from sentry.syscalls import sockets, sockmsg
from sentry.syscalls.declare import TABLE
from sentry.vfs.context import FsContext
from sentry.vfs.mount import Mount, MountNamespace

assert sockets and sockmsg
ALL_CAPS = (1 << (CAP_LAST_CAP + 1)) - 1
ROOT = Credentials(cap_permitted=ALL_CAPS, cap_effective=ALL_CAPS)
POLL = struct.Struct("<ihh")
POLL_ASKED = 0x2047 | 0x08 | 0x10  # IN PRI OUT RDNORM RDHUP; ERR and HUP come unasked

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


_kept: list[Any] = []


def address(buffer: Any) -> int:
    """Where a ctypes object is; it lives until the next `both` or kernel."""
    _kept.append(buffer)
    return ctypes.addressof(buffer)


def cmsgs(data: bytes) -> list[tuple[int, int, bytes]]:
    """The control messages in `data`; of descriptors only how many."""
    found = []
    at = 0
    while at + 16 <= len(data):
        length, level, kind = struct.unpack_from("<Qii", data, at)
        payload = data[at + 16 : at + length]
        if (level, kind) == (1, 1):
            payload = b"descriptors: %d" % (len(payload) // 4)
        found.append((level, kind, payload))
        at += (length + 7) & ~7
        if length < 16:
            break
    return found


def cmsg(level: int, kind: int, payload: bytes) -> bytes:
    return (struct.pack("<Qii", 16 + len(payload), level, kind) + payload).ljust(
        16 + (len(payload) + 7 & ~7), b"\0"
    )


class Calls:
    """Socket calls; each leaves what it gave in `log`. A failure is the negative errno."""

    def __init__(self) -> None:
        self.log: list[Any] = []
        self.received: list[int] = []  # descriptors that came with the last recvmsg

    def raw(self, name: str, *args: int) -> int:
        raise NotImplementedError

    def ready(self, fd: int) -> int:
        raise NotImplementedError

    def note(self, *what: Any) -> Any:
        self.log.append(what)
        return what[-1]

    def close_all(self) -> None:
        raise NotImplementedError

    # --- making

    def socket(self, family: int, kind: int, protocol: int = 0) -> int:
        fd = self.raw("socket", family, kind, protocol)
        self.note("socket", family, kind, min(fd, 0))
        return fd

    def socketpair(self, family: int, kind: int, protocol: int = 0) -> tuple[int, int]:
        pair = (ctypes.c_int * 2)(-1, -1)
        self.note("socketpair", self.raw("socketpair", family, kind, protocol, address(pair)))
        return pair[0], pair[1]

    def bind(self, fd: int, addr: bytes) -> int:
        return self.note("bind", self.raw("bind", fd, address(ctypes.create_string_buffer(addr)), len(addr)))

    def connect(self, fd: int, addr: bytes) -> int:
        return self.note(
            "connect", self.raw("connect", fd, address(ctypes.create_string_buffer(addr)), len(addr))
        )

    def listen(self, fd: int, backlog: int = 5) -> int:
        return self.note("listen", self.raw("listen", fd, backlog))

    def accept(self, fd: int, flags: int = 0, show: bool = True) -> int:
        name, size = ctypes.create_string_buffer(128), ctypes.c_int(128)
        new = self.raw("accept4", fd, address(name), address(size), flags)
        shown = name.raw[: size.value] if show and new >= 0 else b""
        self.note("accept", min(new, 0), shown)
        return new

    def close(self, fd: int) -> int:
        return self.note("close", self.raw("close", fd))

    def shutdown(self, fd: int, how: int) -> int:
        return self.note("shutdown", self.raw("shutdown", fd, how))

    def name(self, fd: int, peer: bool = False, room: int = 128, show: bool = True) -> bytes:
        name, size = ctypes.create_string_buffer(128), ctypes.c_int(room)
        done = self.raw("getpeername" if peer else "getsockname", fd, address(name), address(size))
        value = name.raw[: min(size.value, room)] if not done else b""
        self.note("name", done, size.value if not done else 0, value if show else b"")
        return value

    # --- data

    def send(self, fd: int, data: bytes, flags: int = 0, addr: bytes = b"") -> int:
        where = address(ctypes.create_string_buffer(addr)) if addr else 0
        buffer = ctypes.create_string_buffer(data, max(len(data), 1))
        return self.note(
            "send", self.raw("sendto", fd, address(buffer), len(data), flags | 0x4000, where, len(addr))
        )

    def recv(self, fd: int, size: int, flags: int = 0, show_name: bool = True) -> bytes | int:
        buffer, name, room = (
            ctypes.create_string_buffer(size + 1),
            ctypes.create_string_buffer(128),
            ctypes.c_int(128),
        )
        done = self.raw("recvfrom", fd, address(buffer), size, flags, address(name), address(room))
        if done < 0:
            return self.note("recv", done)
        shown = name.raw[: room.value] if show_name else b""
        self.note("recv", done, shown)
        return self.note("data", buffer.raw[: min(done, size)])

    def sendmsg(self, fd: int, data: bytes, control: bytes = b"", addr: bytes = b"", flags: int = 0) -> int:
        buffer = ctypes.create_string_buffer(data, max(len(data), 1))
        room, name = ctypes.create_string_buffer(control), ctypes.create_string_buffer(addr)
        half = len(data) // 2  # in two pieces
        iov = (ctypes.c_uint64 * 4)(address(buffer), half, address(buffer) + half, len(data) - half)
        header = ctypes.create_string_buffer(
            MSGHDR.pack(
                address(name) if addr else 0, len(addr), address(iov), 2,
                address(room) if control else 0, len(control), 0,
            )
        )  # fmt: skip
        return self.note("sendmsg", self.raw("sendmsg", fd, address(header), flags | 0x4000))

    def recvmsg(
        self, fd: int, size: int, control: int = 0, flags: int = 0, show_control: bool = True
    ) -> bytes | int:
        buffer, room = ctypes.create_string_buffer(size + 1), ctypes.create_string_buffer(control + 1)
        name = ctypes.create_string_buffer(128)
        half = size // 2
        iov = (ctypes.c_uint64 * 4)(address(buffer), half, address(buffer) + half, size - half)
        header = ctypes.create_string_buffer(
            MSGHDR.pack(address(name), 128, address(iov), 2, address(room) if control else 0, control, 0)
        )
        done = self.raw("recvmsg", fd, address(header), flags)
        if done < 0:
            return self.note("recvmsg", done)
        _, name_size, _, _, _, control_size, out_flags = MSGHDR.unpack_from(header.raw)
        raw = room.raw[:control_size]
        self.received = []
        at = 0
        while at + 16 <= len(raw):
            length, level, kind = struct.unpack_from("<Qii", raw, at)
            if (level, kind) == (1, 1):
                count = (length - 16) // 4
                self.received += struct.unpack_from(f"<{count}i", raw, at + 16)
            at += (length + 7) & ~7
        self.note("recvmsg", done, name.raw[:name_size], control_size, hex(out_flags))
        if show_control:
            self.note("control", cmsgs(raw))
        return self.note("data", buffer.raw[: min(done, size)])

    # --- options and state

    def setopt(self, fd: int, level: int, name: int, value: bytes) -> int:
        buffer = ctypes.create_string_buffer(value, max(len(value), 1))
        return self.note(
            "setopt", level, name, self.raw("setsockopt", fd, level, name, address(buffer), len(value))
        )

    def getopt(self, fd: int, level: int, name: int, size: int = 4, show: bool = True) -> bytes | int:
        buffer, room = ctypes.create_string_buffer(size + 1), ctypes.c_int(size)
        done = self.raw("getsockopt", fd, level, name, address(buffer), address(room))
        value: bytes | int = buffer.raw[: room.value] if done == 0 else done
        if show:
            self.note("getopt", level, name, value)
        return value

    def poll(self, fd: int) -> int:
        return self.note("poll", hex(self.ready(fd)))


class Host(Calls):
    """The kernel under us."""

    def __init__(self) -> None:
        super().__init__()
        _kept.clear()
        self.fds: set[int] = set()

    def raw(self, name: str, *args: int) -> int:
        done = _libc.syscall(ctypes.c_long(NUMBERS[name]), *(ctypes.c_long(arg) for arg in args))
        if done < 0:
            return -ctypes.get_errno()
        if name in ("socket", "accept4"):
            self.fds.add(done)
        elif name == "socketpair":
            self.fds.update((ctypes.c_int * 2).from_address(args[3]))
        elif name == "close":
            self.fds.discard(args[0])
        return int(done)

    def ready(self, fd: int) -> int:
        one = ctypes.create_string_buffer(POLL.pack(fd, POLL_ASKED, 0))
        self.raw("poll", address(one), 1, 0)
        return int(POLL.unpack_from(one.raw)[2])

    def close_all(self) -> None:
        for fd in self.fds | set(self.received):
            try:
                os.close(fd)
            except OSError:
                pass


class Group:
    def __init__(self) -> None:
        self.rlimits = self
        self.tgid = os.getpid()

    def get(self, resource: int) -> tuple[int, int]:
        return 1024, 1024


class Task:
    """What socket calls use of a task."""

    def __init__(self, fs: FsContext, mounts: MountNamespace, creds: Credentials) -> None:
        self.fs, self.mounts, self.creds = fs, mounts, creds
        self.fds = FdTable()
        self.mem = Memory(os.getpid())
        self.group = Group()
        self.kernel = self
        self.signals: list[Any] = []

    def send_signal(self, target: object, info: object) -> None:
        self.signals.append(info)


class HostPoller:
    """Watches host sockets for a scheduler."""

    def __init__(self) -> None:
        self.epoll = select.epoll()
        self.watched: set[int] = set()

    def watch(self, host_fd: int, events: int, cookie: int) -> None:
        if events:
            self.epoll.register(host_fd, events)
            self.watched.add(host_fd)
        else:
            self.epoll.unregister(host_fd)
            self.watched.discard(host_fd)


class Sentry(Calls):
    """Our kernel: a task, a tmpfs, a scheduler whose clock `now_ns` the test moves."""

    def __init__(self, creds: Credentials = ROOT) -> None:
        super().__init__()
        _kept.clear()
        self.now_ns = 1_000_000_000
        self.poller = HostPoller()
        self.scheduler = Scheduler(lambda: self.now_ns, self.poller)
        self.root = Tmpfs(Store(None), mode=0o755)
        self.mounts = MountNamespace(Mount(self.root))
        self.task: Any = Task(FsContext(self.mounts.root_path), self.mounts, creds)

    def other_task(self, creds: Credentials = ROOT) -> Any:
        """Another process in the same tree, with descriptors of its own."""
        return Task(self.task.fs.copy(), self.mounts, creds)

    def start(self, name: str, *args: int) -> Job:
        """Begin a call; it may wait."""
        entry = TABLE[NUMBERS[name]]
        registers = tuple(arg & 0xFFFF_FFFF_FFFF_FFFF for arg in args) + (0,) * (6 - len(args))

        async def call() -> Any:
            result = entry.handler(self.task, registers)
            return await result if isinstance(result, Coroutine) else result

        return self.scheduler.spawn(call(), self.task)

    def settle(self) -> None:
        """Run what is due, and host events that are there."""
        drain()
        self.scheduler.run_until_idle()
        while self.poller.watched:
            events = self.poller.epoll.poll(0)
            if not events:
                break
            for host_fd, mask in events:
                self.scheduler.dispatch(host_fd, mask)
            self.scheduler.run_until_idle()
        drain()
        self.scheduler.run_until_idle()

    def finish(self, job: Job) -> int:
        """The result of a call that must be able to end, if need be after host events."""
        self.settle()
        while not job.ended:
            assert self.poller.watched, "the call waits for ever"
            events = self.poller.epoll.poll(5)
            assert events, "no host event"
            for host_fd, mask in events:
                self.scheduler.dispatch(host_fd, mask)
            self.settle()
        return result_of(job)

    def raw(self, name: str, *args: int) -> int:
        if name == "close":
            try:
                self.task.fds.close(args[0])
            except LinuxError as error:
                return -error.errno
            self.settle()
            return 0
        return self.finish(self.start(name, *args))

    def file(self, fd: int) -> Socket:
        found = self.task.fds.get(fd)
        assert isinstance(found, Socket)
        return found

    def ready(self, fd: int) -> int:
        return self.file(fd).poll() & (POLL_ASKED | 0x18)

    def close_all(self) -> None:
        self.settle()
        self.task.fds.drop()
        self.settle()
        self.poller.epoll.close()
        self.mounts.drop()


def result_of(job: Job) -> int:
    assert job.ended, "it still waits"
    if isinstance(job.error, LinuxError):
        return -job.error.errno
    if isinstance(job.error, Interrupted):
        return -512
    if job.error is not None:
        raise job.error
    return int(job.value or 0)


def both(scenario: Callable[[Any], None]) -> None:
    """Run on both kernels and compare all that was noted; the host is right."""
    here = os.getcwd()
    host = Host()
    with tempfile.TemporaryDirectory(prefix="sock") as folder:
        os.chdir(folder)
        try:
            scenario(host)
        finally:
            os.chdir(here)
            host.close_all()
    sentry = Sentry()
    try:
        scenario(sentry)
    finally:
        sentry.close_all()
    differing = [
        f"{index}: host {theirs!r}, sentry {ours!r}"
        for index, (theirs, ours) in enumerate(zip(host.log, sentry.log, strict=False))
        if theirs != ours
    ]
    assert not differing, "\n".join(differing)
    assert len(sentry.log) == len(host.log)
