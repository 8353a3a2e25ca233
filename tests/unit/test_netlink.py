"""Netlink, interface ioctls and the texts of /proc/net, against the host's own answers.

Covers: sentry.fs.proc.net, sentry.fs.proc.sysctl_net, sentry.net, sentry.net.sockdiag
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import re
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sentry.abi.linux import AF_INET, AF_NETLINK, AF_UNIX, MSG_DONTWAIT, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM
from sentry.errors import LinuxError
from sentry.net import interfaces, netlink, report
from tests.unit.socket_rig import Calls, Sentry, address, both

NOW = MSG_DONTWAIT


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    kernel = Sentry()
    yield kernel
    kernel.close_all()


def request(kind: int, flags: int, body: bytes = bytes(16), sequence: int = 7) -> bytes:
    return struct.pack("<IHHII", 16 + len(body), kind, flags, sequence, 0) + body


def nl(port: int = 0, groups: int = 0) -> bytes:
    return struct.pack("<HHII", AF_NETLINK, 0, port, groups)


def answers(k: Calls, fd: int) -> list[tuple[int, int, bytes]]:
    """Type, sequence number and payload of what was received, up to the end of a dump."""
    found = []
    while True:
        size = 1 << 16
        into = ctypes.create_string_buffer(size)
        got = k.raw("recvfrom", fd, address(into), size, NOW, 0, 0)
        if got <= 0:
            return found
        at = 0
        while at < got:
            length, kind, _, sequence, port = struct.unpack_from("<IHHII", into.raw, at)
            assert port == os.getpid()
            found.append((kind, sequence, into.raw[at + 16 : at + length]))
            at += (length + 3) & ~3


def test_dumps_are_the_hosts() -> None:
    def scenario(k: Calls) -> None:
        fd = k.socket(AF_NETLINK, SOCK_RAW)
        k.bind(fd, nl())
        k.name(fd)
        for kind in (netlink.RTM_GETLINK, netlink.RTM_GETADDR, netlink.RTM_GETROUTE):
            k.send(fd, request(kind, 0x301), 0, nl())
            found = answers(k, fd)
            k.note([(kind, sequence, len(payload)) for kind, sequence, payload in found])
            if kind == netlink.RTM_GETADDR:
                k.note(found)
        k.recv(fd, 10, NOW)
        k.send(fd, request(netlink.RTM_GETLINK, 1, struct.pack("<BxHiII", 0, 0, 1, 0, 0)))
        k.note([entry[:2] for entry in answers(k, fd)])
        k.send(fd, request(netlink.RTM_GETLINK, 1, struct.pack("<BxHiII", 0, 0, 99999, 0, 0)))
        k.note([(*entry[:2], entry[2][:4]) for entry in answers(k, fd)])
        k.send(fd, request(3, 5, b""))
        k.note(answers(k, fd))
        k.send(fd, b"short")
        k.recv(fd, 10, NOW)

    both(scenario)


def test_names_and_errors() -> None:
    def scenario(k: Calls) -> None:
        k.socket(AF_NETLINK, SOCK_STREAM)
        k.socket(AF_NETLINK, SOCK_DGRAM, 15)
        fd = k.socket(AF_NETLINK, SOCK_DGRAM)
        k.bind(fd, b"\x10\0")
        k.bind(fd, struct.pack("<HHII", AF_UNIX, 0, 0, 0))
        k.name(fd)
        k.name(fd, peer=True)
        k.bind(fd, nl(4242))
        k.name(fd)
        k.bind(fd, nl(4243))
        other = k.socket(AF_NETLINK, SOCK_DGRAM)
        k.bind(other, nl(4242))
        k.poll(other)
        k.recv(other, 10, NOW)
        k.listen(other)
        k.accept(other)
        k.shutdown(other, 1)

    both(scenario)


def test_changes_are_refused(sentry: Sentry) -> None:
    fd = sentry.socket(AF_NETLINK, SOCK_RAW)
    for kind in (16, 17, 20, 24, 19):  # new and del link, new address, new route, set link
        sentry.send(fd, request(kind, 5))
        ((answer, sequence, payload),) = answers(sentry, fd)
        assert (answer, sequence, struct.unpack_from("<i", payload)[0]) == (netlink.NLMSG_ERROR, 7, -1)
    assert sentry.send(fd, request(18, 1), 0, nl(77)) == -111
    assert sentry.socket(AF_NETLINK, SOCK_RAW, 9) == -93  # audit


def test_unread_answers_are_bounded(sentry: Sentry) -> None:
    fd = sentry.socket(AF_NETLINK, SOCK_RAW)
    for _ in range(2000):
        sentry.send(fd, request(netlink.RTM_GETLINK, 0x301))
    queued = sentry.file(fd)._queued  # type: ignore[attr-defined]
    assert queued <= netlink._MAX_QUEUED


def test_interface_ioctls(sentry: Sentry) -> None:
    fd = sentry.socket(AF_INET, SOCK_DGRAM)
    host = socket.socket(AF_INET, SOCK_DGRAM)

    def ask(cmd: int, name: bytes) -> bytes | int:
        buffer = ctypes.create_string_buffer(name, 40)
        job = sentry.scheduler.spawn(sentry.file(fd).ioctl(sentry.task, cmd, address(buffer)))
        return -job.error.errno if isinstance(job.error, LinuxError) else buffer.raw

    def ask_host(cmd: int, name: bytes) -> bytes | int:
        try:
            return fcntl.ioctl(host, cmd, name.ljust(40, b"\0"))
        except OSError as error:
            return -(error.errno or 0)

    for cmd in (*interfaces._PLAIN, interfaces.SIOCGIFADDR, interfaces.SIOCGIFNETMASK):
        for name in (b"lo", b"nosuch0"):
            assert ask(cmd, name) == ask_host(cmd, name), hex(cmd)
    assert ask(0x8914, b"lo") == -1  # SIOCSIFFLAGS
    assert ask(0x5401, b"lo") == -25
    host.close()


def test_interface_list(sentry: Sentry) -> None:
    fd = sentry.socket(AF_INET, SOCK_DGRAM)
    room = ctypes.create_string_buffer(4000)
    conf = ctypes.create_string_buffer(struct.pack("<i4xQ", 4000, address(room)))
    sentry.scheduler.spawn(sentry.file(fd).ioctl(sentry.task, interfaces.SIOCGIFCONF, address(conf)))
    size = struct.unpack_from("<i", conf.raw)[0]
    names = {room.raw[at : at + 16].rstrip(b"\0") for at in range(0, size, 40)}
    assert b"lo" in names and size % 40 == 0


def squeezed(text: bytes) -> list[list[bytes]]:
    return [re.sub(rb"[|:]", b" ", line).split() for line in text.splitlines()]


@pytest.fixture
def kernel() -> Iterator[Any]:
    """What the tables ask of a kernel: a procfs of the namespace."""
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    yield SimpleNamespace(host_proc=proc)
    os.close(proc)


def test_what_the_namespace_says_is_passed_on(kernel: Any) -> None:
    assert report.host_text(kernel, b"if_inet6") == Path("/proc/net/if_inet6").read_bytes()
    ours, host = squeezed(report.host_text(kernel, b"dev")), squeezed(Path("/proc/net/dev").read_bytes())
    assert [line[0] for line in ours] == [line[0] for line in host]
    assert report.host_text(kernel, b"no such file") == b""


def test_counts_of_sockets_are_the_guests(kernel: Any, sentry: Sentry) -> None:
    sentry.socket(AF_UNIX, SOCK_STREAM)
    text = report.socket_counts(kernel, b"sockstat")
    assert text.startswith(b"sockets: used 1\n")
    assert re.search(rb"TCP: inuse (\d+) orphan \d+ tw \d+ alloc \1 mem 0\n", text)


def test_proc_net_sockets(kernel: Any, sentry: Sentry) -> None:
    listener = sentry.socket(AF_INET, SOCK_STREAM)
    sentry.bind(listener, struct.pack("<H", AF_INET) + struct.pack(">H4s8x", 0, b"\x7f\0\0\1"))
    sentry.listen(listener)
    port = b"0100007F:%04X" % struct.unpack_from(">H", sentry.name(listener), 2)[0]
    ours = report.inet_table(kernel, b"tcp").splitlines()
    host = Path("/proc/net/tcp").read_bytes().splitlines()
    assert ours[0] == host[0] and len(ours) == 2 and len(ours[1]) == len(ours[0])
    (theirs,) = (line.split() for line in host if port in line)
    assert ours[1].split()[1:7] == theirs[1:7]
    assert ours[1].split()[9] == b"%d" % sentry.file(listener).inode.ino
    for name in ("udp", "tcp6", "udp6", "raw", "icmp"):
        if Path("/proc/net", name).exists():
            head = Path("/proc/net", name).read_bytes().splitlines()[:1]
            assert report.inet_table(kernel, name.encode()).splitlines() == head
    bound = sentry.socket(AF_UNIX, SOCK_STREAM)
    sentry.bind(bound, struct.pack("<H", AF_UNIX) + b"\0name")
    sentry.listen(bound)
    (line,) = report.unix_table(kernel).splitlines()[1:]
    assert line.endswith(b"@name") and line.split()[3:6] == [b"00010000", b"0001", b"01"]
    sentry.socket(AF_NETLINK, SOCK_RAW)
    assert len(report.netlink_table(kernel).splitlines()) == 2


@pytest.mark.root
def test_loopback_of_a_fresh_namespace() -> None:
    """In a child of its own: loopback comes up and low ports are open to a socket without capabilities."""
    script = """
import ctypes, socket
assert ctypes.CDLL(None).unshare(0x40000000) == 0
from sentry.net import bring_up_loopback, set_up_namespace
bring_up_loopback()
set_up_namespace({"net.ipv4.tcp_keepalive_time": "77", "kernel.msgmax": "1", "net.ipv4.ping_group_range": "5 6"})
def sysctl(name):
    with open("/proc/sys/" + name) as file:
        return file.read().split()
assert sysctl("net/ipv4/tcp_keepalive_time") == ["77"] and sysctl("kernel/msgmax") != ["1"]
assert sysctl("net/ipv4/ping_group_range") == ["0", "2147483647"]  # the sentry's own; the guest's is in its view
assert sysctl("net/ipv4/ip_unprivileged_port_start") == ["0"]
try:
    set_up_namespace({"net.ipv4.ip_forward": "nonsense"})
except OSError as error:
    assert (error.errno, error.filename) == (22, "/proc/sys/net/ipv4/ip_forward")
else:
    raise AssertionError
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(server.getsockname()).close()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
