"""Inet sockets against the host kernel's, on the host's own loopback, and what the sentry adds to them.

Covers: sentry.net.hostsock, sentry.net.inet, sentry.net.inet_options, sentry.net.options
Covers: sentry.net.sockaddr
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from sentry.abi import linux as c
from sentry.abi.linux import (
    AF_INET,
    AF_INET6,
    FIONREAD,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    MSG_DONTWAIT,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    SO_ERROR,
    SO_LINGER,
    SO_RCVTIMEO_OLD,
    SO_REUSEADDR,
    SOCK_DGRAM,
    SOCK_NONBLOCK,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
)
from sentry.kernel import fdtable
from sentry.kernel.creds import Credentials
from sentry.net import sockfs
from tests.unit.socket_rig import Calls, Sentry, address, both, cmsg, result_of

NOW = MSG_DONTWAIT
ONE = struct.pack("<i", 1)
FAMILIES = [AF_INET, AF_INET6] if os.path.exists("/proc/net/if_inet6") else [AF_INET]


def loopback(family: int, port: int = 0) -> bytes:
    if family == AF_INET:
        return struct.pack("<H", family) + struct.pack(">H4s8x", port, b"\x7f\0\0\1")
    return struct.pack("<H", family) + struct.pack(">HI16sI", port, 0, bytes(15) + b"\1", 0)


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    kernel = Sentry()
    yield kernel
    kernel.close_all()


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    before = fdtable.statistics(), len(sockfs.live), len(os.listdir("/proc/self/fd"))
    yield
    assert (fdtable.statistics(), len(sockfs.live), len(os.listdir("/proc/self/fd"))) == before


def connected(k: Calls, family: int = AF_INET) -> tuple[int, int]:
    server = k.socket(family, SOCK_STREAM)
    k.bind(server, loopback(family))
    k.listen(server)
    addr = k.name(server, show=False)
    client = k.socket(family, SOCK_STREAM)
    k.connect(client, addr)
    new = k.accept(server, show=False)
    k.close(server)
    return client, new


# --- the same on both kernels


def test_socket_errors() -> None:
    def scenario(k: Calls) -> None:
        for kind in (0, SOCK_STREAM, SOCK_DGRAM, 4, SOCK_SEQPACKET, 6, 10, 11):
            for protocol in (-1, 0, IPPROTO_TCP, IPPROTO_UDP, 255, 300):
                if kind != 10:
                    k.socket(AF_INET, kind, protocol)
        k.socket(17, SOCK_RAW, 0) if os.getuid() else None

    both(scenario)


@pytest.mark.parametrize("family", FAMILIES)
def test_streams(family: int) -> None:
    def scenario(k: Calls) -> None:
        server = k.socket(family, SOCK_STREAM | SOCK_NONBLOCK)
        k.poll(server)
        k.accept(server)
        k.bind(server, loopback(family))
        k.bind(server, loopback(family))
        k.listen(server)
        k.accept(server)
        addr = k.name(server, show=False)
        k.note(len(addr))
        k.name(server, peer=True)
        k.getopt(server, SOL_SOCKET, c.SO_ACCEPTCONN)
        client = k.socket(family, SOCK_STREAM)
        k.poll(client)
        k.send(client, b"x")
        k.recv(client, 1, NOW)
        k.connect(client, addr)
        k.connect(client, addr)
        k.name(client, peer=True, show=False)
        k.poll(client)
        k.poll(server)
        new = k.accept(server, show=False)
        k.send(client, b"hello world")
        k.recv(new, 5, MSG_PEEK)
        k.recv(new, 5)
        k.recv(new, 6, MSG_WAITALL)
        k.recv(new, 5, NOW)
        k.send(new, b"abcdef", 0, addr)
        k.recvmsg(client, 4, 64)
        k.recv(client, 1, MSG_TRUNC)
        k.shutdown(new, 1)
        k.recv(client, 10)
        k.recv(client, 10)
        k.poll(client)
        k.send(new, b"x")
        k.shutdown(client, 7)
        k.close(client)
        k.recv(new, 10)
        k.note(k.raw("sendto", new, 0, 0, 0x4000, 0, 0))

    both(scenario)


def test_refused_and_bad_addresses() -> None:
    def scenario(k: Calls) -> None:
        probe = k.socket(AF_INET, SOCK_STREAM)
        k.bind(probe, loopback(AF_INET))
        addr = k.name(probe, show=False)
        client = k.socket(AF_INET, SOCK_STREAM)
        k.connect(client, addr)
        k.connect(client, addr)
        k.getopt(client, SOL_SOCKET, SO_ERROR)
        k.connect(client, b"")
        k.connect(client, b"\2")
        k.connect(client, loopback(AF_INET6, 1))
        k.bind(client, loopback(AF_INET6, 1))
        k.bind(client, struct.pack("<H", AF_INET) + struct.pack(">H4s8x", 0, bytes((192, 0, 2, 77))))
        other = k.socket(AF_INET, SOCK_STREAM)
        k.bind(other, addr)
        k.note(k.raw("connect", other, 8, 16))
        k.note(k.raw("connect", other, 8, 200))
        k.listen(other, -1)

    both(scenario)


@pytest.mark.parametrize("family", FAMILIES)
def test_datagrams(family: int) -> None:
    def scenario(k: Calls) -> None:
        server, client = k.socket(family, SOCK_DGRAM), k.socket(family, SOCK_DGRAM)
        k.bind(server, loopback(family))
        addr = k.name(server, show=False)
        k.recv(server, 1, NOW)
        k.send(client, b"x")
        k.listen(client)
        k.accept(client)
        k.send(client, b"first datagram", 0, addr)
        k.recv(server, 5, MSG_TRUNC, show_name=False)
        k.send(client, b"", 0, addr)
        k.recv(server, 5, show_name=False)
        k.connect(client, addr)
        k.send(client, b"connected")
        k.recv(server, 100, show_name=False)
        k.send(client, b"z" * 70000)
        k.close(server)
        k.send(client, b"nobody")
        k.send(client, b"nobody")
        k.poll(client)
        k.connect(client, struct.pack("<H", 0) + bytes(14))
        k.name(client, peer=True)
        k.shutdown(client, 2)

    both(scenario)


def test_control_messages() -> None:
    def scenario(k: Calls) -> None:
        server, client = k.socket(AF_INET, SOCK_DGRAM), k.socket(AF_INET, SOCK_DGRAM)
        k.bind(server, loopback(AF_INET))
        addr = k.name(server, show=False)
        for name in (c.IP_PKTINFO, c.IP_RECVTTL, c.IP_RECVTOS):
            k.setopt(server, IPPROTO_IP, name, ONE)
        k.connect(client, addr)
        k.sendmsg(client, b"plain")
        k.bind(client, loopback(AF_INET))
        for control in (
            cmsg(IPPROTO_IP, c.IP_TTL, struct.pack("<i", 7)),
            cmsg(IPPROTO_IP, c.IP_TTL, struct.pack("<i", 0)),
            cmsg(IPPROTO_IP, 9999, struct.pack("<i", 7)),
            cmsg(SOL_SOCKET, 1, struct.pack("<i", client)),
            cmsg(SOL_SOCKET, 9999, ONE),
            struct.pack("<Qii", 7, 0, 0),
        ):
            k.sendmsg(client, b"x", control)
        for _ in range(3):
            _recvmsg_without_name(k, server, 10)

    both(scenario)


def _recvmsg_without_name(k: Calls, fd: int, size: int) -> None:
    """As recvmsg; the sender's port differs from run to run."""
    at = len(k.log)
    k.recvmsg(fd, size, 200, NOW)
    k.log[at:] = [entry for entry in k.log[at:] if entry[0] != "recvmsg"]


@pytest.mark.parametrize("family", FAMILIES)
def test_options_pass_through(family: int) -> None:
    def scenario(k: Calls) -> None:
        fd = k.socket(family, SOCK_STREAM)
        for name in (
            SO_REUSEADDR,
            c.SO_KEEPALIVE,
            c.SO_BROADCAST,
            c.SO_REUSEPORT,
            c.SO_OOBINLINE,
            c.SO_RCVLOWAT,
        ):
            k.getopt(fd, SOL_SOCKET, name)
            k.setopt(fd, SOL_SOCKET, name, ONE)
            k.getopt(fd, SOL_SOCKET, name)
            k.setopt(fd, SOL_SOCKET, name, b"\1")
        for name in (
            c.SO_TYPE,
            c.SO_DOMAIN,
            c.SO_PROTOCOL,
            SO_ERROR,
            c.SO_SNDBUF,
            c.SO_RCVBUF,
            c.SO_PRIORITY,
        ):
            k.getopt(fd, SOL_SOCKET, name)
        k.getopt(fd, SOL_SOCKET, c.SO_PEERCRED, 12)
        k.setopt(fd, SOL_SOCKET, SO_LINGER, struct.pack("<ii", 1, 5))
        k.getopt(fd, SOL_SOCKET, SO_LINGER, 8)
        k.setopt(fd, SOL_SOCKET, SO_LINGER, ONE)
        k.setopt(fd, SOL_SOCKET, SO_RCVTIMEO_OLD, struct.pack("<qq", 3, 0))
        k.getopt(fd, SOL_SOCKET, SO_RCVTIMEO_OLD, 16)
        for name in (
            c.TCP_NODELAY,
            c.TCP_CORK,
            c.TCP_KEEPIDLE,
            c.TCP_KEEPCNT,
            c.TCP_USER_TIMEOUT,
            c.TCP_DEFER_ACCEPT,
        ):
            k.setopt(fd, IPPROTO_TCP, name, ONE)
            k.getopt(fd, IPPROTO_TCP, name)
        k.getopt(fd, IPPROTO_TCP, c.TCP_CONGESTION, 16)
        k.getopt(fd, IPPROTO_TCP, c.TCP_INFO, 104, show=False)
        k.setopt(fd, IPPROTO_TCP, 9999, ONE)
        k.getopt(fd, IPPROTO_TCP, 9999)
        k.setopt(fd, 4242, 1, ONE)
        k.setopt(fd, IPPROTO_IP, c.IP_TTL, struct.pack("<i", 300)) if family == AF_INET else None
        level, name = (IPPROTO_IP, c.IP_TTL) if family == AF_INET else (IPPROTO_IPV6, c.IPV6_UNICAST_HOPS)
        k.setopt(fd, level, name, struct.pack("<i", 9))
        k.getopt(fd, level, name)

    both(scenario)


# --- waiting


def test_reads_and_accepts_wait_for_the_host(sentry: Sentry) -> None:
    server = sentry.socket(AF_INET, SOCK_STREAM)
    sentry.bind(server, loopback(AF_INET))
    sentry.listen(server)
    job = sentry.start("accept4", server, 0, 0, 0)
    assert not job.ended
    client = sentry.socket(AF_INET, SOCK_STREAM)
    sentry.connect(client, sentry.name(server))
    new = sentry.finish(job)
    into = ctypes.create_string_buffer(16)
    job = sentry.start("recvfrom", new, address(into), 6, MSG_WAITALL, 0, 0)
    sentry.send(client, b"abc")
    sentry.settle()
    assert not job.ended
    sentry.send(client, b"def")
    assert sentry.finish(job) == 6 and into.raw[:6] == b"abcdef"


def test_large_write_waits_for_the_reader(sentry: Sentry) -> None:
    a, b = connected(sentry)
    size = 16 << 20
    data, into = ctypes.create_string_buffer(size), ctypes.create_string_buffer(1 << 18)
    job = sentry.start("sendto", a, address(data), size, 0, 0, 0)
    assert not job.ended
    got = 0
    while got < size:
        got += sentry.raw("recvfrom", b, address(into), 1 << 18, 0, 0, 0)
    assert sentry.finish(job) == size


def test_receive_timeout_and_interruption(sentry: Sentry) -> None:
    a, _ = connected(sentry)
    into = ctypes.create_string_buffer(16)
    sentry.setopt(a, SOL_SOCKET, SO_RCVTIMEO_OLD, struct.pack("<qq", 1, 0))
    job = sentry.start("recvfrom", a, address(into), 6, 0, 0, 0)
    sentry.now_ns += 1_000_000_000
    sentry.settle()
    assert result_of(job) == -11
    job = sentry.start("recvfrom", a, address(into), 6, 0, 0, 0)
    job.interrupt()
    sentry.settle()
    assert result_of(job) == -4


def test_epoll_style_watchers_are_told_of_every_arrival(sentry: Sentry) -> None:
    a, b = connected(sentry)
    events: list[int] = []
    queue = sentry.file(b).wait_queue
    queue.add(events.append)
    sentry.settle()
    events.clear()
    for _ in range(2):
        sentry.send(a, b"x")
        sentry.settle()
        assert events and events.pop() & 1
        events.clear()
    queue.remove(events.append)
    sentry.send(a, b"x")
    sentry.settle()
    host_fd = sentry.file(b).host_fd  # type: ignore[attr-defined]
    assert host_fd not in sentry.poller.watched  # nobody listens: the host is not asked any more


def test_sigpipe(sentry: Sentry) -> None:
    a, _ = connected(sentry)
    sentry.shutdown(a, 1)
    data = ctypes.create_string_buffer(b"x")
    assert sentry.raw("sendto", a, address(data), 1, 0, 0, 0) == -32
    assert sentry.task.signals == [13]


def test_file_operations(sentry: Sentry) -> None:
    a, b = connected(sentry)
    one, other = sentry.file(a), sentry.file(b)
    assert sentry.scheduler.spawn(one.write(sentry.task, b"through write")).value == 13
    amount = ctypes.c_int()
    sentry.scheduler.spawn(other.ioctl(sentry.task, FIONREAD, address(amount)))
    assert amount.value == 13
    assert sentry.scheduler.spawn(other.read(sentry.task, 7)).value == b"through"
    described = one.describe()
    assert described is not None and described.startswith(b"socket:[")


# --- what a guest may not


def test_ports_and_raw_sockets_need_capabilities() -> None:
    sentry = Sentry(Credentials(7, 7, 7, 7, 7, 7, 7, 7))
    fd = sentry.socket(AF_INET, SOCK_STREAM)
    assert sentry.bind(fd, loopback(AF_INET, 80)) == -13
    assert sentry.socket(AF_INET, SOCK_RAW, 1) == -1
    assert sentry.socket(17, SOCK_RAW, 0) == -1
    assert sentry.setopt(fd, SOL_SOCKET, c.SO_MARK, ONE) == -1
    assert sentry.setopt(fd, SOL_SOCKET, c.SO_BINDTODEVICE, b"lo\0") == 0
    assert sentry.setopt(fd, SOL_SOCKET, c.SO_BINDTODEVICE, b"") == -1  # once it is bound
    sentry.close_all()


def test_options_with_pointers_are_refused(sentry: Sentry) -> None:
    fd = sentry.socket(AF_INET, SOCK_STREAM)
    for level, name in ((IPPROTO_TCP, 35), (IPPROTO_IP, 64)):
        assert sentry.setopt(fd, level, name, bytes(16)) == -92
        assert sentry.getopt(fd, level, name, 64) == -92
    assert sentry.setopt(fd, SOL_SOCKET, c.SO_ATTACH_FILTER, bytes(16)) == -92
    assert sentry.setopt(fd, IPPROTO_TCP, 31, b"tls") == -2  # TCP_ULP, as where there is no such module


def test_lingering_close_never_blocks_the_sentry(sentry: Sentry) -> None:
    """SO_LINGER with unsent data makes the host's close(2) wait; ours must not."""
    a, _ = connected(sentry)
    sentry.setopt(a, SOL_SOCKET, SO_LINGER, struct.pack("<ii", 1, 1000))
    data = ctypes.create_string_buffer(1 << 20)
    while sentry.raw("sendto", a, address(data), 1 << 20, NOW | 0x4000, 0, 0) > 0:
        pass
    host_fd = sentry.file(a).host_fd  # type: ignore[attr-defined]
    host = socket.socket(fileno=os.dup(host_fd))
    assert host.getsockopt(SOL_SOCKET, SO_LINGER, 8) == bytes(8)
    host.close()
    sentry.close(a)


def test_discarding_receive_shows_nothing_of_other_data(sentry: Sentry) -> None:
    """MSG_TRUNC on a stream counts bytes without copying them: the guest's buffer stays as it is."""
    a, b = connected(sentry)
    sentry.send(a, b"secret of somebody else")
    sentry.recv(b, 100)
    sentry.send(a, b"12345")
    into = ctypes.create_string_buffer(b"untouched")
    assert sentry.raw("recvfrom", b, address(into), 9, MSG_TRUNC, 0, 0) == 5
    assert into.raw[:9] == b"untouched"
