"""What /proc/net shows: the guest's own sockets, and interfaces and routes of the sandbox's network
namespace.

Each function gives the whole text of one file: ``tcp_table(kernel)`` is /proc/net/tcp. Sockets of the host,
in whose namespace the sandbox may be, do not appear.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import TYPE_CHECKING, Any

from sentry.abi.linux import (
    AF_INET,
    AF_INET6,
    IPPROTO_ICMP,
    IPPROTO_TCP,
    IPPROTO_UDP,
    SOCK_RAW,
    TCP_CLOSE,
    TCP_ESTABLISHED,
    TCP_INFO,
)
from sentry.errors import LinuxError
from sentry.net import hostsock
from sentry.net.inet import InetSocket
from sentry.net.netlink import NetlinkSocket, dump
from sentry.net.sockfs import live
from sentry.net.unix import UnixSocket

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel

_ATTRIBUTE = Struct("<HH")
_LINK = Struct("<BxHiII")
_ADDRESS = Struct("<BBBBI")
_ROUTE = Struct("<8BI")
_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE = 18, 22, 26


# --- sockets


def tcp_table(kernel: Kernel) -> bytes:
    """/proc/net/tcp."""
    return _inet_table(AF_INET, IPPROTO_TCP)


def tcp6_table(kernel: Kernel) -> bytes:
    """/proc/net/tcp6."""
    return _inet_table(AF_INET6, IPPROTO_TCP)


def udp_table(kernel: Kernel) -> bytes:
    """/proc/net/udp."""
    return _inet_table(AF_INET, IPPROTO_UDP)


def udp6_table(kernel: Kernel) -> bytes:
    """/proc/net/udp6."""
    return _inet_table(AF_INET6, IPPROTO_UDP)


def raw_table(kernel: Kernel) -> bytes:
    """/proc/net/raw."""
    return _inet_table(AF_INET, -1)


def raw6_table(kernel: Kernel) -> bytes:
    """/proc/net/raw6."""
    return _inet_table(AF_INET6, -1)


def icmp_table(kernel: Kernel) -> bytes:
    """/proc/net/icmp."""
    return _inet_table(AF_INET, IPPROTO_ICMP)


def unix_table(kernel: Kernel) -> bytes:
    """/proc/net/unix."""
    lines = [b"Num       RefCount Protocol Flags    Type St Inode Path\n"]
    for sock in list(live.values()):
        if not isinstance(sock, UnixSocket) or sock.embryo:
            continue
        listening = sock.listening()
        state = 1 if listening or sock.peer is None else 3  # SS_UNCONNECTED, SS_CONNECTED
        name = sock.addr
        path = (
            b" " + (name.rstrip(b"\0") if name[:1] != b"\0" else name.replace(b"\0", b"@")) if name else b""
        )
        lines.append(
            b"%016x: %08X %08X %08X %04X %02X %5d%s\n"
            % (
                0,
                3 if sock.peer else 2,
                0,
                0x10000 if listening else 0,
                sock.type,
                state,
                sock.inode.ino,
                path,
            )
        )
    return b"".join(lines)


def netlink_table(kernel: Kernel) -> bytes:
    """/proc/net/netlink."""
    head = b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
    return head + b"".join(
        b"%016x %-3d %-10d %08x %-8d %-8d %-5d %-8d %-8d %-8d\n"
        % (0, sock.protocol, sock.port, sock.groups, 0, 0, 0, 2, 0, sock.inode.ino)
        for sock in list(live.values())
        if isinstance(sock, NetlinkSocket)
    )


def _inet_table(family: int, protocol: int) -> bytes:
    """One of the tables of inet sockets; `protocol` -1: raw sockets."""
    width = 8 if family == AF_INET else 32
    is_tcp = protocol == IPPROTO_TCP
    columns = b"st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
    if not is_tcp:
        columns += b" ref pointer drops"
    if family == AF_INET:
        pad = 149 if is_tcp else 127  # the tables of IPv4 pad their lines
        lines = [((b"" if is_tcp else b" ") + b"  sl  local_address rem_address   " + columns).ljust(pad)]
    else:
        pad = 0
        gap = b" " * 25
        lines = [b"  sl  local_address" + gap + b"remote_address" + gap[:24] + columns]
    for slot, sock in enumerate(_inet_sockets(family, protocol)):
        local, remote = _endpoint(sock, False, width), _endpoint(sock, True, width)
        unbound = local == b"0" * width + b":0000"
        if unbound:
            continue
        state = _tcp_state(sock) if is_tcp else TCP_ESTABLISHED if int(remote[-4:], 16) else TCP_CLOSE
        head = b"%4d: %s %s %02X 00000000:00000000 00:00000000 00000000 %5d        0 %d" % (
            slot, local, remote, state, sock.inode.uid, sock.inode.ino,
        )  # fmt: skip
        tail = b" 1 0000000000000000 100 0 0 10 0" if is_tcp else b" 2 0000000000000000 0"
        lines.append((head + tail).ljust(pad))
    return b"\n".join(lines) + b"\n"


def _inet_sockets(family: int, protocol: int) -> Iterator[InetSocket]:
    for sock in list(live.values()):
        if isinstance(sock, InetSocket) and sock.domain == family:
            if (
                (sock.type == SOCK_RAW)
                if protocol == -1
                else sock.type != SOCK_RAW and sock.protocol == protocol
            ):
                yield sock


def _endpoint(sock: InetSocket, peer: bool, width: int) -> bytes:
    """ADDRESS:PORT, the address as native 32-bit words in hexadecimal."""
    try:
        addr = hostsock.name(sock.host_fd, peer)
    except LinuxError:
        return b"0" * width + b":0000"
    raw = addr[4:8] if width == 8 else addr[8:24]
    words = b"".join(raw[i : i + 4][::-1] for i in range(0, len(raw), 4))
    return words.hex().upper().encode() + b":%04X" % int.from_bytes(addr[2:4], "big")


def _tcp_state(sock: InetSocket) -> int:
    try:
        return hostsock.getopt(sock.host_fd, IPPROTO_TCP, TCP_INFO, 1)[0]
    except LinuxError:
        return TCP_CLOSE


# --- interfaces and routes


def _attributes(payload: bytes, at: int) -> dict[int, bytes]:
    """The rtattr list from `at` on."""
    found: dict[int, bytes] = {}
    while at + _ATTRIBUTE.size <= len(payload):
        size, kind = _ATTRIBUTE.unpack_from(payload, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = payload[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    return found


def links() -> list[tuple[int, bytes, dict[int, bytes]]]:
    """Index, name and attributes (IFLA_*) of each interface."""
    found = []
    for payload in dump(_RTM_GETLINK):
        index = _LINK.unpack_from(payload)[2]
        attributes = _attributes(payload, _LINK.size)
        found.append((index, attributes.get(3, b"").rstrip(b"\0"), attributes))
    return found


def dev_table(kernel: Kernel) -> bytes:
    """/proc/net/dev."""
    lines = [
        b"Inter-|   Receive                                                |  Transmit\n"
        b" face |bytes    packets errs drop fifo frame compressed multicast"
        b"|bytes    packets errs drop fifo colls carrier compressed\n"
    ]
    for _, name, attributes in links():
        raw = attributes.get(23, b"")  # IFLA_STATS64
        s: Any = Struct("<23Q").unpack_from(raw) if len(raw) >= 184 else (0,) * 23
        rx_packets, tx_packets, rx_bytes, tx_bytes, rx_errors, tx_errors, rx_dropped, tx_dropped = s[:8]
        multicast, collisions, length, over, crc, frame, rx_fifo, missed = s[8:16]
        aborted, carrier, tx_fifo, heartbeat, window, rx_compressed, tx_compressed = s[16:23]
        bad_frames = length + over + crc + frame
        rx = (
            rx_bytes,
            rx_packets,
            rx_errors,
            rx_dropped + missed,
            rx_fifo,
            bad_frames,
            rx_compressed,
            multicast,
        )
        no_carrier = carrier + aborted + window + heartbeat
        tx = (tx_bytes, tx_packets, tx_errors, tx_dropped, tx_fifo, collisions, no_carrier, tx_compressed)
        line = b"%6s: %7d %7d %4d %4d %4d %5d %10d %9d %8d %7d %4d %4d %4d %5d %7d %10d\n"
        lines.append(line % (name, *rx, *tx))
    return b"".join(lines)


def route_table(kernel: Kernel) -> bytes:
    """/proc/net/route: the main table of IPv4."""
    lines = [
        b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT".ljust(127)
        + b"\n"
    ]
    names = {index: name for index, name, _ in links()}
    for payload in dump(_RTM_GETROUTE, AF_INET):
        _, prefix, _, _, table, _, _, kind, _ = _ROUTE.unpack_from(payload)
        if table != 254 or kind != 1:  # RT_TABLE_MAIN, RTN_UNICAST
            continue
        attributes = _attributes(payload, _ROUTE.size)
        interface = names.get(int.from_bytes(attributes.get(4, b""), "little"), b"*")
        gateway = int.from_bytes(attributes.get(5, b""), "little")
        destination = int.from_bytes(attributes.get(1, b""), "little")
        metric = int.from_bytes(attributes.get(6, b""), "little")
        mask = int.from_bytes(((0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF).to_bytes(4, "big"), "little")
        flags = 1 | (2 if gateway else 0) | (4 if prefix == 32 else 0)  # RTF_UP, RTF_GATEWAY, RTF_HOST
        line = b"%s\t%08X\t%08X\t%04X\t%d\t%d\t%d\t%08X\t%d\t%d\t%d" % (
            interface, destination, gateway, flags, 0, 0, metric, mask, 0, 0, 0,
        )  # fmt: skip
        lines.append(line.ljust(127) + b"\n")
    return b"".join(lines)


def if_inet6_table(kernel: Kernel) -> bytes:
    """/proc/net/if_inet6."""
    names = {index: name for index, name, _ in links()}
    lines = []
    for payload in dump(_RTM_GETADDR, AF_INET6):
        _, prefix, flags, scope, index = _ADDRESS.unpack_from(payload)
        address = _attributes(payload, _ADDRESS.size).get(1, bytes(16))
        # RT_SCOPE_* to IPV6_ADDR_*: host is loopback, link is link-local
        shown = {254: 0x10, 253: 0x20, 200: 0x40}.get(scope, 0)
        lines.append(
            b"%s %02x %02x %02x %02x %8s\n"
            % (address.hex().encode(), index, prefix, shown, flags, names.get(index, b"?"))
        )
    return b"".join(lines)


def arp_table(kernel: Kernel) -> bytes:
    """/proc/net/arp: its heading."""
    return b"IP address       HW type     Flags       HW address            Mask     Device\n"
