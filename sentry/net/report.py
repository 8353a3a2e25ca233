"""What /proc/net shows: what the host says of the sandbox's network namespace, and the guest's own sockets.

    host_text(kernel, b"snmp")     # counters, interfaces, routes: as the namespace has them
    inet_table(kernel, b"tcp")     # /proc/net/tcp, with the guest's inode numbers and users
    unix_table(kernel)

The sentry's own procfs shows the namespace it is in. Of sockets only the guest's appear: with the host's own stack
others are in the namespace as well.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from sentry import net
from sentry.net.inet import InetSocket
from sentry.net.netlink import NetlinkSocket
from sentry.net.sockfs import live
from sentry.net.unix import UnixSocket

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel

_LIMIT = 1 << 22
# slot: addresses, state, queues, timers, retransmits | uid timeout inode | references, a pointer, and the rest
_ROW = re.compile(rb"\s*\d+: (\S+ \S+ \S\S \S+ \S+ \S+) +(\d+) +(\d+) (\d+) (\d+) \S+(.*)")
_MEMORY = re.compile(rb"^(\S+ +\d+ +\d+  ) *\d+")
_PROTOCOLS = frozenset((
    b"PINGv6", b"RAWv6", b"UDPLITEv6", b"UDPv6", b"TCPv6", b"UNIX-STREAM", b"UNIX", b"PING", b"RAW", b"UDP-Lite",
    b"UDP", b"TCP", b"NETLINK",
))  # fmt: skip
_NO_POINTER = b"0" * 16
_COUNT = re.compile(rb"\b[0-9a-f]{8}\b")
#: how wide a line of the tables of IPv4 is (seq_setwidth); those of IPv6 are as long as they get
_WIDTHS = {b"tcp": 149, b"udp": 127, b"udplite": 127, b"icmp": 127}
_SS_UNCONNECTED, _SS_CONNECTING, _SS_CONNECTED = 1, 2, 3
_SO_ACCEPTCON = 0x10000


def host_text(kernel: Kernel, name: bytes) -> bytes:
    """A file of /proc/net as the sentry's namespace has it; b"" if the host has no such file."""
    data = bytearray()
    try:
        host_fd = os.open(b"self/net/" + name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=kernel.host_proc)
    except OSError:
        return b""
    try:
        while len(data) < _LIMIT and (part := os.read(host_fd, 65536)):
            data += part
    except OSError:
        return b""
    finally:
        os.close(host_fd)
    return bytes(data)


def socket_counts(kernel: Kernel, name: bytes) -> bytes:
    """sockstat and sockstat6, without what they say of the whole machine (allocated sockets, pages of memory)."""
    text = host_text(kernel, name)
    text = re.sub(rb"(TCP: inuse (\d+) orphan \d+ tw \d+ alloc) \d+ mem \d+", rb"\1 \2 mem 0", text)
    text = re.sub(rb"(UDP: inuse \d+ mem) \d+", rb"\1 0", text)
    return re.sub(rb"sockets: used \d+", b"sockets: used %d" % len(live), text)


def protocols(kernel: Kernel) -> bytes:
    """The protocols a guest can use, without the pages of memory that the whole machine's sockets take."""
    head, *rows = host_text(kernel, b"protocols").splitlines(keepends=True) or [b"\n"]
    kept = [_MEMORY.sub(rb"\1     0", row) for row in rows if row.split(b" ", 1)[0] in _PROTOCOLS]
    return b"".join([head, *kept])


def route_cache_counts(kernel: Kernel) -> bytes:
    """stat/rt_cache: the host counts for the whole machine, so there is nothing here."""
    return _COUNT.sub(b"00000000", host_text(kernel, b"stat/rt_cache"))


def inet_table(kernel: Kernel, name: bytes) -> bytes:
    """tcp, udp, raw, icmp and their IPv6 twins."""
    head, *rows = host_text(kernel, name).splitlines(keepends=True) or [b"\n"]
    ours = {os.fstat(sock.host_fd).st_ino: sock for sock in list(live.values()) if isinstance(sock, InetSocket)}
    width = _WIDTHS.get(name, 0)
    lines = [head]
    for row in rows:
        found = _ROW.match(row)
        if found is None:
            continue
        middle, _, timeout, inode, references, rest = found.groups()
        sock = ours.get(int(inode))
        if sock is not None:
            uid, number = sock.inode.uid, sock.inode.ino
        elif inode == b"0" and net.namespace_is_own:
            uid, number = 0, 0  # not accepted yet, or closed and not done with
        else:
            continue
        line = b"%4d: %s %5d %8d %d %s %s%s" % (
            len(lines) - 1, middle, uid, int(timeout), number, references, _NO_POINTER, rest.rstrip(),
        )  # fmt: skip
        lines.append(line.ljust(width) + b"\n")
    return b"".join(lines)


def unix_table(kernel: Kernel) -> bytes:
    """/proc/net/unix."""
    lines = [b"Num       RefCount Protocol Flags    Type St Inode Path\n"]
    for sock in list(live.values()):
        if not isinstance(sock, UnixSocket) or sock.embryo:
            continue
        lines += [_unix_line(embryo, 3, _SS_CONNECTING, 0, 0) for embryo in sock.embryos]
        connected = sock.peer is not None
        state = _SS_CONNECTED if connected else _SS_UNCONNECTED
        flags = _SO_ACCEPTCON if sock.listening() else 0
        lines.append(_unix_line(sock, 3 if connected else 2, state, flags, sock.inode.ino))
    return b"".join(lines)


def _unix_line(sock: UnixSocket, references: int, state: int, flags: int, inode: int) -> bytes:
    name = sock.addr
    path = b" " + (name.rstrip(b"\0") if name[:1] != b"\0" else name.replace(b"\0", b"@")) if name else b""
    columns = (0, references, 0, flags, sock.type, state, inode, path)
    return b"%016x: %08X %08X %08X %04X %02X %5d%s\n" % columns


def netlink_table(kernel: Kernel) -> bytes:
    """/proc/net/netlink."""
    head = b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n"
    return head + b"".join(
        b"%016x %-3d %-10d %08x %-8d %-8d %-5d %-8d %-8d %-8d\n"
        % (0, sock.protocol, sock.port, sock.groups, 0, 0, 0, 2, 0, sock.inode.ino)
        for sock in list(live.values())
        if isinstance(sock, NetlinkSocket)
    )
