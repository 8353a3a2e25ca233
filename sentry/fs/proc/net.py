"""/proc/net: interfaces, routes and sockets. Protocols add their rows with ``add_rows(b"tcp", rows)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sentry.fs.pseudo import Text, Tree

if TYPE_CHECKING:
    from sentry.kernel.task import Task

_TCP = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
_TCP6 = (
    b"  sl  local_address                         remote_address                        st tx_queue rx_queue"
    b" tr tm->when retrnsmt   uid  timeout inode\n"
)
_UDP = _TCP.replace(b"  sl", b"   sl") + b" ref pointer drops"
_HEADS = {
    b"tcp": _TCP.ljust(149) + b"\n",
    b"tcp6": _TCP6,
    b"udp": _UDP.ljust(127) + b"\n",
    b"udp6": _TCP6[:-1].replace(b"  sl", b"   sl") + b" ref pointer drops\n",
    b"udplite": _UDP.ljust(127) + b"\n",
    b"raw": _UDP.ljust(127) + b"\n",
    b"raw6": _TCP6[:-1].replace(b"  sl", b"   sl") + b" ref pointer drops\n",
    b"icmp": _UDP.ljust(127) + b"\n",
    b"unix": b"Num       RefCount Protocol Flags    Type St Inode Path\n",
    b"packet": b"sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n",
    b"netlink": b"sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n",
    b"arp": b"IP address       HW type     Flags       HW address            Mask     Device\n",
    b"route": b"Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT".ljust(
        127
    )
    + b"\n",
    b"dev": b"Inter-|   Receive                                                |  Transmit\n"
    b" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls"
    b" carrier compressed\n",
    b"dev_mcast": b"",
    b"if_inet6": b"",
    b"ipv6_route": b"",
    b"igmp": b"Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n",
    b"wireless": b"Inter-| sta-|   Quality        |   Discarded packets               | Missed | WE\n"
    b" face | tus | link level noise |  nwid  crypt   frag  retry   misc | beacon | 22\n",
    b"psched": b"000003e8 00000040 000f4240 3b9aca00\n",
    b"ptype": b"Type Device      Function\n0800          ip_rcv\n86dd          ipv6_rcv\n",
    b"protocols": b"protocol  size sockets  memory press maxhdr  slab module     cl co di ac io in de sh ss"
    b" gs se re sp bi br ha uh gp em\n",
    b"sockstat": b"sockets: used 0\nTCP: inuse 0 orphan 0 tw 0 alloc 0 mem 0\nUDP: inuse 0 mem 0\n"
    b"UDPLITE: inuse 0\nRAW: inuse 0\nFRAG: inuse 0 memory 0\n",
    b"sockstat6": b"TCP6: inuse 0\nUDP6: inuse 0\nUDPLITE6: inuse 0\nRAW6: inuse 0\n"
    b"FRAG6: inuse 0 memory 0\n",
}

Rows = Callable[["Task"], bytes]
_rows: dict[bytes, list[Rows]] = {}


def add_rows(table: bytes, rows: Rows) -> None:
    """Lines of a protocol for one of the tables above."""
    _rows.setdefault(table, []).append(rows)


def _text(table: bytes) -> Text:
    def make(task: Task) -> bytes:
        return _HEADS[table] + b"".join(rows(task) for rows in _rows.get(table, ()))

    return Text(make)


def _interfaces(task: Task) -> bytes:
    """Names from the sandbox's network namespace; it keeps no counters that it could show."""
    import socket

    try:
        names = [name for _, name in socket.if_nameindex()]
    except OSError:
        names = ["lo"]
    counters = b" ".join(b"%7d" % 0 for _ in range(16))
    return b"".join(b"%6s: %s\n" % (name.encode(), counters) for name in names)


add_rows(b"dev", _interfaces)


def tree() -> Tree:
    """The content of /proc/PID/net."""
    files: Tree = {name: _text(name) for name in _HEADS}
    files[b"snmp"] = Text(lambda task: _SNMP)
    files[b"netstat"] = Text(lambda task: b"")
    files[b"stat"] = {}
    return files


_SNMP = (
    b"Ip: Forwarding DefaultTTL InReceives InHdrErrors InAddrErrors ForwDatagrams InUnknownProtos InDiscards"
    b" InDelivers OutRequests OutDiscards OutNoRoutes ReasmTimeout ReasmReqds ReasmOKs ReasmFails FragOKs"
    b" FragFails FragCreates\nIp: 2 64" + b" 0" * 17 + b"\n"
    b"Tcp: RtoAlgorithm RtoMin RtoMax MaxConn ActiveOpens PassiveOpens AttemptFails EstabResets CurrEstab"
    b" InSegs OutSegs RetransSegs InErrs OutRsts InCsumErrors\nTcp: 1 200 120000 -1" + b" 0" * 11 + b"\n"
    b"Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors IgnoredMulti"
    b" MemErrors\nUdp:" + b" 0" * 9 + b"\n"
)
