"""/proc/net: interfaces, routes and sockets (sentry/net/report.py), and tables that stay empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.fs.pseudo import Text, Tree

if TYPE_CHECKING:
    from sentry.kernel.task import Task

#: what sentry.net.report makes: the file, and the function that gives its text
_REPORTED = {
    b"tcp": "tcp_table",
    b"tcp6": "tcp6_table",
    b"udp": "udp_table",
    b"udp6": "udp6_table",
    b"raw": "raw_table",
    b"raw6": "raw6_table",
    b"icmp": "icmp_table",
    b"unix": "unix_table",
    b"netlink": "netlink_table",
    b"arp": "arp_table",
    b"route": "route_table",
    b"dev": "dev_table",
    b"if_inet6": "if_inet6_table",
}
_FIXED = {
    b"udplite": b"   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout"
    b" inode ref pointer drops".ljust(127)
    + b"\n",
    b"packet": b"sk       RefCnt Type Proto  Iface R Rmem   User   Inode\n",
    b"dev_mcast": b"",
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


def _reported(function: str) -> Text:
    def make(task: Task) -> bytes:
        from sentry.net import report

        text: bytes = getattr(report, function)(task.kernel)
        return text

    return Text(make)


def _fixed(text: bytes) -> Text:
    return Text(lambda task: text)


def tree() -> Tree:
    """The content of /proc/PID/net."""
    files: Tree = {name: _fixed(text) for name, text in _FIXED.items()}
    files.update({name: _reported(function) for name, function in _REPORTED.items()})
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
