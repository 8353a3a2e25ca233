"""AF_UNIX sockets against the host kernel's, and their waiting with a moved clock.

Covers: sentry.net.unix, sentry.net.unix_dgram, sentry.net.unix_stream
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentry.abi.linux import (
    AF_INET,
    AF_UNIX,
    FIONREAD,
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    SO_ACCEPTCONN,
    SO_DOMAIN,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_PASSCRED,
    SO_PEERCRED,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_RCVTIMEO_OLD,
    SO_REUSEADDR,
    SO_SNDBUF,
    SO_SNDTIMEO_OLD,
    SO_TYPE,
    SOCK_CLOEXEC,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
    TIOCOUTQ,
)
from sentry.kernel import fdtable
from sentry.net import scm, sockfs, unix_names
from tests.unit.socket_rig import Calls, Sentry, address, both, cmsg, result_of

TYPES = [SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET]
CONNECTED = [SOCK_STREAM, SOCK_SEQPACKET]
NOW = MSG_DONTWAIT
SCM_RIGHTS, SCM_CREDENTIALS = 1, 2


def un(path: bytes) -> bytes:
    return struct.pack("<H", AF_UNIX) + path


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    kernel = Sentry()
    yield kernel
    kernel.close_all()


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    before = fdtable.statistics(), len(sockfs.live), len(unix_names.abstract), len(scm.in_flight)
    yield
    assert (fdtable.statistics(), len(sockfs.live), len(unix_names.abstract), len(scm.in_flight)) == before


# --- the same on both kernels


def test_socket_errors() -> None:
    def scenario(k: Calls) -> None:
        for family, kind, protocol in (
            (-1, 1, 0), (0, 1, 0), (99, 1, 0), (AF_UNIX, 0, 0), (AF_UNIX, 4, 0), (AF_UNIX, 5, 3),
            (AF_UNIX, 11, 0), (AF_UNIX, SOCK_RAW, 0), (AF_UNIX, 1, 1), (AF_UNIX, 1 | 0x10, 0), (9, 1, 0),
            (AF_UNIX, 1 | 0x40000000, 0),
        ):  # fmt: skip
            k.socket(family, kind, protocol)
        k.socketpair(AF_INET, SOCK_STREAM)
        k.socketpair(AF_UNIX, 7)
        k.note(k.raw("socketpair", AF_UNIX, SOCK_STREAM, 0, 0))
        for name in ("listen", "shutdown", "getsockname", "getpeername", "accept", "bind", "connect"):
            k.note(name, k.raw(name, 999, 0, 0))
            k.note(name, k.raw(name, k.file_fd, 0, 0))

    def with_file(k: Calls) -> None:
        if isinstance(k, Sentry):
            from sentry.fs.anon import anon_inode
            from sentry.vfs.file import File

            k.file_fd = k.task.fds.install(File(anon_inode(), None, 2))  # type: ignore[attr-defined]
            scenario(k)
        else:
            k.file_fd = os.open("/dev/null", os.O_RDWR)  # type: ignore[attr-defined]
            scenario(k)
            os.close(k.file_fd)  # type: ignore[attr-defined]

    both(with_file)


@pytest.mark.parametrize("kind", TYPES)
def test_pair_data_and_names(kind: int) -> None:
    def scenario(k: Calls) -> None:
        a, b = k.socketpair(AF_UNIX, kind)
        for fd in (a, b):
            k.poll(fd)
            k.name(fd)
            k.name(fd, peer=True)
        k.send(a, b"hello world")
        k.poll(b)
        k.recv(b, 5, MSG_PEEK)
        k.recv(b, 5, MSG_PEEK | MSG_TRUNC)
        k.recv(b, 5)
        k.recv(b, 100, NOW)
        k.recv(b, 100, NOW)
        k.send(a, b"")
        k.recv(b, 10, NOW)
        k.send(a, b"x", MSG_OOB) if kind != SOCK_STREAM else None
        k.send(a, b"one")
        k.send(a, b"two")
        k.recv(b, 100, NOW)
        k.recv(b, 100, NOW)
        k.recv(b, 0, NOW)
        k.send(a, b"x", 0, un(b"nowhere\0"))
        k.recvmsg(b, 10, flags=NOW)
        k.send(a, b"12345678")
        k.recvmsg(b, 4, flags=NOW)
        k.recvmsg(b, 4, flags=NOW)

    both(scenario)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("unread", [False, True])
def test_close_of_the_peer(kind: int, unread: bool) -> None:
    def scenario(k: Calls) -> None:
        a, b = k.socketpair(AF_UNIX, kind)
        if unread:
            k.send(a, b"never read")
        k.send(b, b"still there")
        k.close(b)
        k.poll(a)
        for _ in range(4):
            k.recv(a, 100, NOW)
        k.getopt(a, SOL_SOCKET, SO_ERROR)
        k.poll(a)
        k.send(a, b"x")
        k.send(a, b"x")
        k.poll(a)
        k.name(a, peer=True)

    both(scenario)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("how", [-1, 0, 1, 2, 3])
def test_shutdown(kind: int, how: int) -> None:
    def scenario(k: Calls) -> None:
        a, b = k.socketpair(AF_UNIX, kind)
        k.send(a, b"from a")
        k.send(b, b"from b")
        k.shutdown(a, how)
        for fd in (a, b):
            k.poll(fd)
            for _ in range(2):
                k.recv(fd, 100, NOW)
            k.send(fd, b"more")
        k.shutdown(b, how)
        k.poll(a)
        k.poll(b)

    both(scenario)


@pytest.mark.parametrize("kind", TYPES)
def test_unconnected(kind: int) -> None:
    def scenario(k: Calls) -> None:
        fd = k.socket(AF_UNIX, kind)
        k.poll(fd)
        k.recv(fd, 10, NOW)
        k.send(fd, b"x")
        k.name(fd)
        k.name(fd, peer=True)
        k.accept(fd)
        k.listen(fd)
        k.shutdown(fd, 2)
        k.poll(fd)
        k.recv(fd, 10, NOW)
        k.connect(fd, un(b"absent\0"))
        k.connect(fd, un(b"\0absent"))
        k.connect(fd, b"\1")
        k.connect(fd, struct.pack("<H", AF_UNIX))
        k.connect(fd, struct.pack("<HH", AF_INET, 5))
        k.connect(fd, un(b"x" * 109))
        k.connect(fd, un(b"x" * 200))

    both(scenario)


@pytest.mark.parametrize("kind", CONNECTED)
@pytest.mark.parametrize("name", [b"server\0", b"server", b"\0abstract", b"\0abs\0tract\0", b"x" * 108])
def test_listen_connect_accept(kind: int, name: bytes) -> None:
    def scenario(k: Calls) -> None:
        server = k.socket(AF_UNIX, kind | SOCK_NONBLOCK)
        k.bind(server, un(name))
        k.name(server)
        k.bind(server, un(b"\0again"))
        client = k.socket(AF_UNIX, kind | SOCK_NONBLOCK)
        k.connect(client, un(name))
        k.listen(server, 1)
        k.getopt(server, SOL_SOCKET, SO_ACCEPTCONN)
        k.poll(server)
        k.accept(server)
        k.connect(client, un(name))
        k.poll(server)
        k.poll(client)
        k.send(client, b"before accept")
        k.name(client)
        k.name(client, peer=True)
        k.connect(client, un(name))
        new = k.accept(server)
        k.recv(new, 100, NOW)
        k.send(new, b"answer")
        k.recv(client, 100, NOW)
        k.name(new)
        k.name(new, peer=True)
        k.getopt(new, SOL_SOCKET, SO_TYPE)
        k.connect(server, un(name))
        k.recv(server, 10, NOW)
        k.send(server, b"x")
        k.name(client, room=1)
        k.name(client, peer=True, room=4)
        k.close(server)
        k.send(client, b"still connected")
        k.recv(new, 100, NOW)
        other = k.socket(AF_UNIX, kind)
        k.connect(other, un(name))

    both(scenario)


@pytest.mark.parametrize("kind", CONNECTED)
def test_backlog_is_one_more_than_asked_for(kind: int) -> None:
    def scenario(k: Calls) -> None:
        server = k.socket(AF_UNIX, kind)
        k.bind(server, un(b"\0full"))
        k.listen(server, 2)
        clients = [k.socket(AF_UNIX, kind | SOCK_NONBLOCK) for _ in range(5)]
        for client in clients:
            k.connect(client, un(b"\0full"))
        k.close(server)
        for client in clients[:2]:
            k.poll(client)
            k.recv(client, 10, NOW)
            k.send(client, b"x")

    both(scenario)


def test_bind_errors() -> None:
    def scenario(k: Calls) -> None:
        fd = k.socket(AF_UNIX, SOCK_STREAM)
        k.bind(fd, b"")
        k.bind(fd, b"\1")
        k.bind(fd, un(b"x" * 109))
        k.bind(fd, un(b"x" * 200))
        k.bind(fd, struct.pack("<HH", AF_INET, 1))
        k.bind(fd, un(b"no/such\0"))
        k.bind(fd, un(b"taken\0"))
        other = k.socket(AF_UNIX, SOCK_STREAM)
        k.bind(other, un(b"taken\0"))
        k.bind(other, un(b"taken/below\0"))
        k.bind(other, un(b"\0taken"))
        third = k.socket(AF_UNIX, SOCK_STREAM)
        k.bind(third, un(b"\0taken"))
        k.note(k.raw("bind", third, 1, 10))
        k.note(k.raw("bind", third, 1, -1))
        k.note(k.raw("bind", third, 1, 129))
        packets = k.socket(AF_UNIX, SOCK_DGRAM)
        k.bind(packets, un(b"\0taken"))  # names are apart for each type
        k.connect(packets, un(b"taken\0"))
        k.send(packets, b"x", 0, un(b"taken\0"))
        k.connect(third, un(b".\0"))

    both(scenario)


def test_autobind_takes_a_name_of_five_digits() -> None:
    def scenario(k: Calls) -> None:
        fd = k.socket(AF_UNIX, SOCK_DGRAM)
        k.bind(fd, struct.pack("<H", AF_UNIX))
        name = k.name(fd, show=False)
        k.note(len(name), name[:3])
        k.bind(fd, struct.pack("<H", AF_UNIX))
        k.note(k.name(fd, show=False) == name)

    both(scenario)


def test_datagrams() -> None:
    def scenario(k: Calls) -> None:
        server = k.socket(AF_UNIX, SOCK_DGRAM)
        k.bind(server, un(b"inbox\0"))
        one, two = k.socket(AF_UNIX, SOCK_DGRAM), k.socket(AF_UNIX, SOCK_DGRAM)
        k.bind(one, un(b"\0one"))
        k.send(one, b"first", 0, un(b"inbox\0"))
        k.send(two, b"second", 0, un(b"inbox\0"))
        k.recvmsg(server, 3)
        k.recv(server, 100)
        k.connect(one, un(b"inbox\0"))
        k.send(one, b"connected")
        k.recv(server, 100, MSG_TRUNC)
        k.connect(server, un(b"\0one"))
        k.send(two, b"refused", 0, un(b"inbox\0"))
        k.connect(two, un(b"inbox\0"))
        k.send(server, b"back")
        k.recv(one, 100)
        k.send(one, b"lost at disconnect")
        k.connect(server, struct.pack("<H", 0) + b"\0" * 14)
        k.send(server, b"x")
        k.recv(server, 100, NOW)
        k.send(two, b"welcome again", 0, un(b"inbox\0"))
        k.recv(server, 100, NOW)
        k.close(server)
        k.send(one, b"x")
        k.send(one, b"x")
        k.poll(one)
        k.send(two, b"x", 0, un(b"inbox\0"))

    both(scenario)


def test_a_full_receiver_refuses_the_eleventh_datagram() -> None:
    limit = Path("/proc/sys/net/unix/max_dgram_qlen").read_text().strip()
    if limit != "10":
        pytest.skip(f"max_dgram_qlen of this namespace is {limit}, not the 10 of a new one")

    def scenario(k: Calls) -> None:
        server, client = k.socket(AF_UNIX, SOCK_DGRAM), k.socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK)
        k.bind(server, un(b"\0full"))
        k.connect(client, un(b"\0full"))
        for _ in range(13):
            k.send(client, b"x")
        k.poll(client)
        k.recv(server, 1)
        k.poll(client)
        k.send(client, b"x")

    both(scenario)


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("size", [1, 100, 1000, 3000, 8000])
def test_how_much_fits_into_the_buffer(kind: int, size: int) -> None:
    def scenario(k: Calls) -> None:
        a, b = k.socketpair(AF_UNIX, kind | SOCK_NONBLOCK)
        sent = 0
        while (done := k.raw("sendto", a, address(data), size, 0x4000, 0, 0)) > 0:
            sent += done
        k.note("fits", sent, done)
        k.poll(a)
        outq = ctypes.c_int()
        if isinstance(k, Sentry):
            k.scheduler.spawn(k.file(a).ioctl(k.task, TIOCOUTQ, address(outq)))
        else:
            k.raw("ioctl", a, TIOCOUTQ, address(outq))
        k.note("outq", outq.value)
        taken = 0
        while k.ready(a) & 4 == 0:
            taken += k.raw("recvfrom", b, address(into), size, 0, 0, 0)
        k.note("writable again after", taken)

    data, into = ctypes.create_string_buffer(size), ctypes.create_string_buffer(size)
    both(scenario)


def test_message_larger_than_the_buffer() -> None:
    def scenario(k: Calls) -> None:
        a, _ = k.socketpair(AF_UNIX, SOCK_DGRAM)
        k.setopt(a, SOL_SOCKET, SO_SNDBUF, struct.pack("<i", 1))
        k.getopt(a, SOL_SOCKET, SO_SNDBUF)
        k.send(a, b"x" * 4608)
        k.send(a, b"x" * (4608 - 31))
        k.send(a, b"x" * (4608 - 32))

    both(scenario)


def test_inq() -> None:
    def scenario(k: Calls) -> None:
        for kind in TYPES:
            a, b = k.socketpair(AF_UNIX, kind)
            k.send(a, b"12345")
            k.send(a, b"678")
            amount = ctypes.c_int(-1)
            if isinstance(k, Sentry):
                k.scheduler.spawn(k.file(b).ioctl(k.task, FIONREAD, address(amount)))
            else:
                k.raw("ioctl", b, FIONREAD, address(amount))
            k.note(amount.value)

    both(scenario)


# --- control messages


@pytest.mark.parametrize("kind", TYPES)
def test_descriptors_travel(kind: int) -> None:
    def scenario(k: Calls) -> None:
        a, b = k.socketpair(AF_UNIX, kind)
        c, d = k.socketpair(AF_UNIX, SOCK_STREAM)
        rights = cmsg(1, SCM_RIGHTS, struct.pack("<ii", c, d))
        k.sendmsg(a, b"two", rights)
        k.close(c)
        k.close(d)
        k.send(a, b"plain")
        k.recvmsg(b, 100, 64, MSG_PEEK)
        peeked = k.received
        k.recvmsg(b, 100, 64, MSG_CMSG_CLOEXEC)
        first, second = k.received
        k.send(first, b"through")
        k.recv(second, 10)
        k.recvmsg(b, 100, 64)
        for fd in (*peeked, first):
            k.close(fd)
        k.recv(second, 10)
        # no room, room for a part, none given at all
        for room in (0, 15, 16, 20, 23, 24, 30):
            k.sendmsg(a, b"x", cmsg(1, SCM_RIGHTS, struct.pack("<ii", second, second)))
            k.recvmsg(b, 10, room)
            for fd in k.received:
                k.close(fd)
        k.sendmsg(a, b"x", rights)
        k.sendmsg(a, b"x", cmsg(1, SCM_RIGHTS, b""))
        k.recvmsg(b, 10, 64, NOW)
        k.close(second)

    both(scenario)


def test_bad_control_messages() -> None:
    def scenario(k: Calls) -> None:
        a, b = k.socketpair(AF_UNIX, SOCK_STREAM)
        k.sendmsg(a, b"x", struct.pack("<Qii", 15, 1, 1))
        k.sendmsg(a, b"x", struct.pack("<Qii", 100, 1, 1))
        k.sendmsg(a, b"x", cmsg(1, 99, b"1234"))
        k.sendmsg(a, b"x", cmsg(41, 99, b"1234"))
        k.sendmsg(a, b"x", cmsg(1, SCM_RIGHTS, struct.pack("<254i", *[a] * 254)))
        k.sendmsg(a, b"x", cmsg(1, SCM_RIGHTS, struct.pack("<i", -1)))
        k.sendmsg(a, b"x", cmsg(1, SCM_CREDENTIALS, b"1234"))
        k.sendmsg(a, b"x", b"short")
        k.note(k.raw("sendmsg", a, 8, 0))
        k.note(k.raw("recvmsg", b, 8, 0))
        k.recvmsg(b, 100, 64, NOW)

    both(scenario)


@pytest.mark.parametrize("kind", TYPES)
def test_credentials(kind: int) -> None:
    own = struct.pack("<iII", os.getpid(), 0, 0)

    def scenario(k: Calls) -> None:
        a, b = k.socketpair(AF_UNIX, kind)
        k.getopt(a, SOL_SOCKET, SO_PEERCRED, 12)
        k.getopt(a, SOL_SOCKET, SO_PEERCRED, 5)
        k.send(a, b"sent without")
        k.setopt(b, SOL_SOCKET, SO_PASSCRED, struct.pack("<i", 1))
        k.getopt(b, SOL_SOCKET, SO_PASSCRED)
        k.send(a, b"with")
        k.recvmsg(b, 100, 64)
        k.recvmsg(b, 100, 64, NOW)
        k.sendmsg(a, b"given", cmsg(1, SCM_CREDENTIALS, own))
        k.recvmsg(b, 100, 20)
        k.send(a, b"no room")
        k.recvmsg(b, 100, 0)
        k.name(b, show=False)
        new = k.socket(AF_UNIX, kind)
        k.getopt(new, SOL_SOCKET, SO_PEERCRED, 12)

    if os.getuid():
        pytest.skip("the ids of the test's task are root's")
    both(scenario)


def test_stream_does_not_mix_credentials_or_rights() -> None:
    def scenario(k: Calls) -> None:
        a, b = k.socketpair(AF_UNIX, SOCK_STREAM)
        k.send(a, b"one")
        k.sendmsg(a, b"two", cmsg(1, SCM_RIGHTS, struct.pack("<i", a)))
        k.send(a, b"three")
        k.recvmsg(b, 100, 64, NOW)
        for fd in k.received:
            k.close(fd)
        k.recvmsg(b, 100, 64, NOW)

    both(scenario)


def test_options() -> None:
    def scenario(k: Calls) -> None:
        fd = k.socket(AF_UNIX, SOCK_STREAM)
        one = struct.pack("<i", 1)
        for name in (
            SO_TYPE,
            SO_DOMAIN,
            SO_PROTOCOL,
            SO_ACCEPTCONN,
            SO_ERROR,
            SO_SNDBUF,
            SO_REUSEADDR,
            SO_KEEPALIVE,
        ):
            k.getopt(fd, SOL_SOCKET, name)
            k.getopt(fd, SOL_SOCKET, name, 2)
        for name in (SO_REUSEADDR, SO_KEEPALIVE):
            k.setopt(fd, SOL_SOCKET, name, one)
            k.getopt(fd, SOL_SOCKET, name)
            k.setopt(fd, SOL_SOCKET, name, b"\1")
        for value in (0, 1000, 10000):
            k.setopt(fd, SOL_SOCKET, SO_SNDBUF, struct.pack("<i", value))
            k.getopt(fd, SOL_SOCKET, SO_SNDBUF)
            k.setopt(fd, SOL_SOCKET, SO_RCVBUF, struct.pack("<i", value))
            k.getopt(fd, SOL_SOCKET, SO_RCVBUF)
        for name in (SO_RCVTIMEO_OLD, SO_SNDTIMEO_OLD):
            for value in ((1, 500000), (0, 0), (-1, 0), (0, 1000000), (0, -1), (5, 1)):
                k.setopt(fd, SOL_SOCKET, name, struct.pack("<qq", *value))
            k.setopt(fd, SOL_SOCKET, name, one)
            k.getopt(fd, SOL_SOCKET, name, 8)
        k.setopt(fd, SOL_SOCKET, SO_LINGER, struct.pack("<ii", 5, 7))
        k.getopt(fd, SOL_SOCKET, SO_LINGER, 8)
        k.setopt(fd, SOL_SOCKET, 12345, one)
        k.getopt(fd, SOL_SOCKET, 12345)
        k.setopt(fd, 6, 1, one)
        k.getopt(fd, 6, 1)
        k.note(k.raw("setsockopt", fd, SOL_SOCKET, SO_REUSEADDR, 1, 4))
        k.note(k.raw("setsockopt", fd, SOL_SOCKET, SO_REUSEADDR, 1, -1))
        k.note(k.raw("getsockopt", fd, SOL_SOCKET, SO_REUSEADDR, 1, 1))

    both(scenario)


def test_many_messages_in_one_call() -> None:
    def scenario(k: Calls) -> None:
        a, b = k.socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK)
        buffers = [ctypes.create_string_buffer(b"message %d" % i, 16) for i in range(4)]
        vectors = [(ctypes.c_uint64 * 2)(address(buffer), 9) for buffer in buffers]
        table = ctypes.create_string_buffer(
            b"".join(struct.pack("<QQQQQQQQ", 0, 0, address(vector), 1, 0, 0, 0, 0) for vector in vectors)
        )
        k.note("sendmmsg", k.raw("sendmmsg", a, address(table), 3, 0))
        k.note([struct.unpack_from("<I", table.raw, i * 64 + 56)[0] for i in range(4)])
        for buffer in buffers:
            ctypes.memset(address(buffer), 0, 16)
        k.note("recvmmsg", k.raw("recvmmsg", b, address(table), 4, 0, 0))
        k.note([buffer.raw for buffer in buffers])
        k.note("recvmmsg", k.raw("recvmmsg", b, address(table), 4, 0, 0))
        bad = (ctypes.c_int64 * 2)(0, 1_000_000_000)
        k.note("recvmmsg", k.raw("recvmmsg", b, address(table), 4, 0, address(bad)))

    both(scenario)


def test_close_on_exec() -> None:
    sentry = Sentry()
    a, b = sentry.socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    assert sentry.task.fds.get_cloexec(a) and sentry.task.fds.get_cloexec(b)
    sentry.close_all()


# --- waiting


def buffer(size: int = 64) -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(size)


def test_a_reader_waits_for_data_and_for_the_end(sentry: Sentry) -> None:
    a, b = sentry.socketpair(AF_UNIX, SOCK_STREAM)
    into = buffer()
    job = sentry.start("recvfrom", b, address(into), 10, 0, 0, 0)
    assert not job.ended
    sentry.send(a, b"now")
    assert job.ended and job.value == 3 and into.raw[:3] == b"now"
    job = sentry.start("recvfrom", b, address(into), 10, 0, 0, 0)
    sentry.close(a)
    assert result_of(job) == 0


def test_wait_all_collects(sentry: Sentry) -> None:
    a, b = sentry.socketpair(AF_UNIX, SOCK_STREAM)
    into = buffer()
    job = sentry.start("recvfrom", b, address(into), 6, MSG_WAITALL, 0, 0)
    sentry.send(a, b"abc")
    assert not job.ended
    sentry.send(a, b"defgh")
    assert result_of(job) == 6 and into.raw[:6] == b"abcdef"
    assert sentry.recv(b, 10) == b"gh"


def test_interrupted_wait_gives_what_there_is(sentry: Sentry) -> None:
    a, b = sentry.socketpair(AF_UNIX, SOCK_STREAM)
    into = buffer()
    job = sentry.start("recvfrom", b, address(into), 6, MSG_WAITALL, 0, 0)
    sentry.send(a, b"abc")
    assert job.interrupt()
    sentry.settle()
    assert result_of(job) == 3
    job = sentry.start("recvfrom", b, address(into), 6, 0, 0, 0)
    job.interrupt()
    sentry.settle()
    assert result_of(job) == -512  # to be restarted
    sentry.setopt(b, SOL_SOCKET, SO_RCVTIMEO_OLD, struct.pack("<qq", 1, 0))
    job = sentry.start("recvfrom", b, address(into), 6, 0, 0, 0)
    job.interrupt()
    sentry.settle()
    assert result_of(job) == -4  # with a time limit never restarted


def test_receive_timeout(sentry: Sentry) -> None:
    _, b = sentry.socketpair(AF_UNIX, SOCK_DGRAM)
    sentry.setopt(b, SOL_SOCKET, SO_RCVTIMEO_OLD, struct.pack("<qq", 1, 500000))
    job = sentry.start("recvfrom", b, address(buffer()), 6, 0, 0, 0)
    sentry.now_ns += 1_499_999_999
    sentry.settle()
    assert not job.ended
    sentry.now_ns += 1
    sentry.settle()
    assert result_of(job) == -11


def test_a_writer_waits_until_a_quarter_is_used(sentry: Sentry) -> None:
    a, b = sentry.socketpair(AF_UNIX, SOCK_STREAM)
    data = ctypes.create_string_buffer(1 << 20)
    job = sentry.start("sendto", a, address(data), 1 << 20, 0, 0, 0)
    assert not job.ended
    got = 0
    while got < 1 << 20:
        piece = sentry.raw("recvfrom", b, address(data), 65536, NOW, 0, 0)
        assert piece > 0
        got += piece
    assert result_of(job) == 1 << 20


def test_accept_and_connect_wait(sentry: Sentry) -> None:
    server = sentry.socket(AF_UNIX, SOCK_STREAM)
    sentry.bind(server, un(b"\0s"))
    sentry.listen(server, 0)
    job = sentry.start("accept4", server, 0, 0, 0)
    first = sentry.socket(AF_UNIX, SOCK_STREAM)
    sentry.connect(first, un(b"\0s"))
    assert job.ended and job.value > 0
    sentry.connect(sentry.socket(AF_UNIX, SOCK_STREAM), un(b"\0s"))
    name = ctypes.create_string_buffer(un(b"\0s"))
    third = sentry.socket(AF_UNIX, SOCK_STREAM)
    job = sentry.start("connect", third, address(name), 4)
    assert not job.ended
    sentry.accept(server)
    sentry.settle()
    assert result_of(job) == 0
    fourth = sentry.socket(AF_UNIX, SOCK_STREAM)
    job = sentry.start("connect", fourth, address(name), 4)
    sentry.close(server)
    assert result_of(job) == -111


def test_close_while_blocked_in_read(sentry: Sentry) -> None:
    """The reader has the description: it waits on, and gets what is sent."""
    a, b = sentry.socketpair(AF_UNIX, SOCK_STREAM)
    into = buffer()
    job = sentry.start("recvfrom", b, address(into), 10, 0, 0, 0)
    sentry.close(b)
    assert not job.ended
    sentry.send(a, b"late")
    assert result_of(job) == 4
    sentry.settle()
    assert sentry.send(a, b"x") == -32


def test_a_blocked_datagram_is_sent_when_there_is_room(sentry: Sentry) -> None:
    server, client = sentry.socket(AF_UNIX, SOCK_DGRAM), sentry.socket(AF_UNIX, SOCK_DGRAM)
    sentry.bind(server, un(b"\0d"))
    sentry.connect(client, un(b"\0d"))
    for _ in range(11):
        sentry.send(client, b"x")
    data = ctypes.create_string_buffer(b"last")
    job = sentry.start("sendto", client, address(data), 4, 0, 0, 0)
    assert not job.ended
    woken: list[int] = []
    sentry.file(client).wait_queue.add(woken.append)
    sentry.recv(server, 10)
    assert result_of(job) == 4 and woken
    sentry.file(client).wait_queue.remove(woken.append)


def test_sigpipe_only_for_streams_without_nosignal(sentry: Sentry) -> None:
    data = ctypes.create_string_buffer(b"x")
    for kind, expected in ((SOCK_STREAM, [13]), (SOCK_SEQPACKET, [])):
        a, b = sentry.socketpair(AF_UNIX, kind)
        sentry.close(b)
        sentry.task.signals.clear()
        assert sentry.raw("sendto", a, address(data), 1, 0x4000, 0, 0) == -32
        assert sentry.task.signals == []
        assert sentry.raw("sendto", a, address(data), 1, 0, 0, 0) == -32
        assert sentry.task.signals == expected


# --- descriptors in flight


def test_dropped_message_closes_its_descriptors(sentry: Sentry) -> None:
    a, b = sentry.socketpair(AF_UNIX, SOCK_STREAM)
    c, d = sentry.socketpair(AF_UNIX, SOCK_STREAM)
    sentry.sendmsg(a, b"x", cmsg(1, SCM_RIGHTS, struct.pack("<i", c)))
    sentry.close(c)
    assert sentry.recv(d, 1, NOW) == -11
    sentry.close(b)
    assert sentry.recv(d, 1, NOW) == b""


def test_sockets_in_each_others_queue_are_collected(sentry: Sentry) -> None:
    a, b = sentry.socketpair(AF_UNIX, SOCK_STREAM)
    c, d = sentry.socketpair(AF_UNIX, SOCK_STREAM)
    sentry.sendmsg(a, b"x", cmsg(1, SCM_RIGHTS, struct.pack("<ii", a, c)))
    sentry.sendmsg(b, b"x", cmsg(1, SCM_RIGHTS, struct.pack("<i", b)))
    for fd in (a, b):
        sentry.close(fd)
    assert len(scm.in_flight) == 3
    assert sentry.send(d, b"c is in flight") > 0
    assert scm.collect() == 2
    sentry.settle()
    assert not scm.in_flight
    assert sentry.send(d, b"c has a descriptor") > 0
    sentry.close(c)


def test_descriptors_in_flight_are_limited() -> None:
    from sentry.kernel.creds import Credentials

    sentry = Sentry(Credentials(1, 1, 1, 1, 1, 1, 1, 1))
    a, _ = sentry.socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK)
    rights = cmsg(1, SCM_RIGHTS, struct.pack("<253i", *[a] * 253))
    results = [sentry.sendmsg(a, b"x", rights) for _ in range(6)]
    assert results == [1, 1, 1, 1, 1, -109]
    sentry.close_all()


# --- who may


def test_path_needs_write_permission_and_credentials_are_checked() -> None:
    from sentry.kernel.creds import Credentials

    sentry = Sentry()
    server = sentry.socket(AF_UNIX, SOCK_STREAM)
    sentry.task.fs.umask = 0o177
    sentry.bind(server, un(b"private\0"))
    sentry.listen(server)
    root = sentry.task
    sentry.task = sentry.other_task(Credentials(7, 7, 7, 7, 7, 7, 7, 7))
    client = sentry.socket(AF_UNIX, SOCK_STREAM)
    assert sentry.connect(client, un(b"private\0")) == -13
    a, _ = sentry.socketpair(AF_UNIX, SOCK_STREAM)
    for claim, expected in (((0, 7, 7), -1), ((os.getpid(), 0, 7), -1), ((os.getpid(), 7, 0), -1)):
        assert sentry.sendmsg(a, b"x", cmsg(1, SCM_CREDENTIALS, struct.pack("<iII", *claim))) == expected
    assert sentry.sendmsg(a, b"x", cmsg(1, SCM_CREDENTIALS, struct.pack("<iII", os.getpid(), 7, 7))) == 1
    sentry.task.fds.drop()
    sentry.task = root
    sentry.close_all()
