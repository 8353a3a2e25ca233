"""/proc/net: interfaces, routes, counters and sockets (sentry/net/report.py), and tables that stay empty."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.fs.pseudo import Text, Tree, constant

if TYPE_CHECKING:
    from sentry.kernel.task import Task

#: what the host says of the network namespace
_HOST = (
    b"anycast6", b"arp", b"dev", b"dev_mcast", b"fib_trie", b"fib_triestat", b"if_inet6", b"igmp", b"igmp6",
    b"ipv6_route", b"mcfilter", b"mcfilter6", b"netstat", b"route", b"rt6_stats", b"rt_cache", b"snmp", b"snmp6",
)  # fmt: skip
#: tables of inet sockets
_SOCKETS = (
    b"tcp", b"tcp6", b"udp", b"udp6", b"udplite", b"udplite6", b"raw", b"raw6", b"icmp", b"icmp6",
)  # fmt: skip
_FIXED = {
    b"ip6_flowlabel": b"Label S Owner  Users  Linger Expires  Dst                              Opt\n",
    b"packet": b"sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n",
    b"psched": b"000003e8 00000040 000f4240 3b9aca00\n",
    b"ptype": b"Type Device      Function\n0800          ip_rcv\n0806          arp_rcv\n86dd          ipv6_rcv\n",
    b"softnet_stat": b" ".join([b"00000000"] * 15) + b"\n",
}


def _from_host(name: bytes) -> Text:
    def make(task: Task) -> bytes:
        from sentry.net.report import host_text

        return host_text(task.kernel, name)

    return Text(make)


def _counts(name: bytes) -> Text:
    def make(task: Task) -> bytes:
        from sentry.net.report import socket_counts

        return socket_counts(task.kernel, name)

    return Text(make)


def _sockets(name: bytes) -> Text:
    def make(task: Task) -> bytes:
        from sentry.net.report import inet_table

        return inet_table(task.kernel, name)

    return Text(make)


def _protocols(task: Task) -> bytes:
    from sentry.net.report import protocols

    return protocols(task.kernel)


def _route_cache(task: Task) -> bytes:
    from sentry.net.report import route_cache_counts

    return route_cache_counts(task.kernel)


def _unix(task: Task) -> bytes:
    from sentry.net.report import unix_table

    return unix_table(task.kernel)


def _netlink(task: Task) -> bytes:
    from sentry.net.report import netlink_table

    return netlink_table(task.kernel)


def tree() -> Tree:
    """The content of /proc/PID/net."""
    files: Tree = {name: constant(text) for name, text in _FIXED.items()}
    files.update({name: _from_host(name) for name in _HOST})
    files.update({name: _sockets(name) for name in _SOCKETS})
    files.update({name: _counts(name) for name in (b"sockstat", b"sockstat6")})
    files[b"protocols"] = Text(_protocols)
    files[b"unix"] = Text(_unix)
    files[b"netlink"] = Text(_netlink)
    files[b"stat"] = {b"rt_cache": Text(_route_cache)}
    return files
