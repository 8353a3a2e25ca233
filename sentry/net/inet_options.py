"""The socket options a guest's inet socket may reach on its host socket: by level and name, the largest
value that may be set and read, in bytes (0: not). Everything else is ENOPROTOOPT: values with pointers in
them (filters, zero-copy receive), what changes the host (repair, cork on raw rings), and what we do not
know.

The host kernel checks the values themselves.
"""

from __future__ import annotations

from typing import NamedTuple

from sentry.abi import linux as c
from sentry.abi.linux import (
    AF_INET,
    AF_INET6,
    CAP_NET_ADMIN,
    CAP_NET_RAW,
    IPPROTO_ICMPV6,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_RAW,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPPROTO_UDPLITE,
    SOCK_DGRAM,
    SOCK_STREAM,
    SOL_SOCKET,
)

SOL_RAW = 255
MCAST_JOIN_GROUP, MCAST_BLOCK_SOURCE, MCAST_UNBLOCK_SOURCE, MCAST_LEAVE_GROUP = 42, 43, 44, 45
MCAST_JOIN_SOURCE_GROUP, MCAST_LEAVE_SOURCE_GROUP = 46, 47


class Allowed(NamedTuple):
    """Sizes, and the capabilities of which setting needs one (none: anybody may)."""

    set_size: int
    get_size: int
    caps: tuple[int, ...] = ()


_INT = Allowed(4, 4)
_GET = Allowed(0, 4)
_ADMIN = (CAP_NET_ADMIN,)
_PRIVILEGED = (CAP_NET_RAW, CAP_NET_ADMIN)

_SOCKET = {
    c.SO_REUSEADDR: _INT,
    c.SO_ERROR: _GET,
    c.SO_DONTROUTE: _INT,
    c.SO_BROADCAST: _INT,
    c.SO_SNDBUF: _INT,
    c.SO_RCVBUF: _INT,
    c.SO_SNDBUFFORCE: Allowed(4, 0, _ADMIN),
    c.SO_RCVBUFFORCE: Allowed(4, 0, _ADMIN),
    c.SO_KEEPALIVE: _INT,
    c.SO_OOBINLINE: _INT,
    c.SO_NO_CHECK: _INT,
    c.SO_PRIORITY: _INT,
    c.SO_REUSEPORT: _INT,
    c.SO_RCVLOWAT: _INT,
    c.SO_SNDLOWAT: _GET,
    c.SO_BINDTODEVICE: Allowed(16, 16),
    c.SO_BINDTOIFINDEX: _INT,
    c.SO_TIMESTAMP_OLD: _INT,
    c.SO_TIMESTAMPNS_OLD: _INT,
    c.SO_TIMESTAMPING_OLD: Allowed(8, 8),
    c.SO_TIMESTAMP_NEW: _INT,
    c.SO_TIMESTAMPNS_NEW: _INT,
    c.SO_TIMESTAMPING_NEW: Allowed(8, 8),
    c.SO_MARK: Allowed(4, 4, _PRIVILEGED),
    c.SO_RXQ_OVFL: _INT,
    c.SO_PEEK_OFF: _INT,
    c.SO_SELECT_ERR_QUEUE: _INT,
    c.SO_MAX_PACING_RATE: Allowed(8, 8),
    c.SO_INCOMING_CPU: _INT,
    c.SO_MEMINFO: Allowed(0, 36),
    c.SO_INCOMING_NAPI_ID: _GET,
    c.SO_COOKIE: Allowed(0, 8),
    c.SO_BUF_LOCK: _INT,
    c.SO_TXREHASH: _INT,
    c.SO_RCVMARK: Allowed(4, 4, _PRIVILEGED),
    c.SO_NETNS_COOKIE: Allowed(0, 8),
}

_IP = {
    c.IP_TOS: _INT,
    c.IP_TTL: _INT,
    c.IP_HDRINCL: _INT,
    c.IP_OPTIONS: Allowed(40, 40),
    c.IP_ROUTER_ALERT: _INT,
    c.IP_IPSEC_POLICY: Allowed(4, 0, _ADMIN),
    c.IP_XFRM_POLICY: Allowed(4, 0, _ADMIN),
    c.IP_PASSSEC: _INT,
    c.IP_PKTOPTIONS: Allowed(0, 256),
    c.IP_RECVOPTS: _INT,
    c.IP_RETOPTS: _INT,
    c.IP_PKTINFO: _INT,
    c.IP_MTU_DISCOVER: _INT,
    c.IP_RECVERR: _INT,
    c.IP_RECVTTL: _INT,
    c.IP_RECVTOS: _INT,
    c.IP_MTU: _GET,
    c.IP_FREEBIND: _INT,
    c.IP_TRANSPARENT: Allowed(4, 4, _PRIVILEGED),
    c.IP_RECVORIGDSTADDR: _INT,
    c.IP_MINTTL: _INT,
    c.IP_NODEFRAG: _INT,
    c.IP_CHECKSUM: _INT,
    c.IP_BIND_ADDRESS_NO_PORT: _INT,
    c.IP_RECVFRAGSIZE: _INT,
    c.IP_RECVERR_RFC4884: _INT,
    c.IP_MULTICAST_IF: Allowed(12, 4),
    c.IP_MULTICAST_TTL: _INT,
    c.IP_MULTICAST_LOOP: _INT,
    c.IP_ADD_MEMBERSHIP: Allowed(12, 0),
    c.IP_DROP_MEMBERSHIP: Allowed(12, 0),
    c.IP_ADD_SOURCE_MEMBERSHIP: Allowed(12, 0),
    c.IP_DROP_SOURCE_MEMBERSHIP: Allowed(12, 0),
    c.IP_BLOCK_SOURCE: Allowed(12, 0),
    c.IP_UNBLOCK_SOURCE: Allowed(12, 0),
    MCAST_JOIN_GROUP: Allowed(136, 0),
    MCAST_LEAVE_GROUP: Allowed(136, 0),
    MCAST_JOIN_SOURCE_GROUP: Allowed(264, 0),
    MCAST_LEAVE_SOURCE_GROUP: Allowed(264, 0),
    MCAST_BLOCK_SOURCE: Allowed(264, 0),
    MCAST_UNBLOCK_SOURCE: Allowed(264, 0),
    c.IP_MULTICAST_ALL: _INT,
    c.IP_UNICAST_IF: _INT,
    51: Allowed(4, 4),  # IP_LOCAL_PORT_RANGE
    52: _GET,  # IP_PROTOCOL
}

_IPV6 = {
    c.IPV6_ADDRFORM: _INT,
    2: _INT,  # IPV6_2292PKTINFO
    3: _INT,  # IPV6_2292HOPOPTS
    4: _INT,  # IPV6_2292DSTOPTS
    5: _INT,  # IPV6_2292RTHDR
    8: _INT,  # IPV6_2292HOPLIMIT
    11: _INT,  # IPV6_FLOWINFO
    22: _INT,  # IPV6_ROUTER_ALERT
    27: Allowed(20, 0),  # IPV6_JOIN_ANYCAST: the host looks at the size first, and we have no CAP_NET_ADMIN there
    28: Allowed(20, 0),  # IPV6_LEAVE_ANYCAST
    30: _INT,  # IPV6_ROUTER_ALERT_ISOLATE
    31: _INT,  # IPV6_RECVERR_RFC4884
    33: _INT,  # IPV6_FLOWINFO_SEND
    53: _INT,  # IPV6_RECVHOPOPTS
    56: _INT,  # IPV6_RECVRTHDR
    58: _INT,  # IPV6_RECVDSTOPTS
    60: _INT,  # IPV6_RECVPATHMTU
    61: Allowed(0, 32),  # IPV6_PATHMTU
    c.IPV6_CHECKSUM: _INT,
    c.IPV6_HDRINCL: _INT,
    c.IPV6_UNICAST_HOPS: _INT,
    c.IPV6_MULTICAST_IF: _INT,
    c.IPV6_MULTICAST_HOPS: _INT,
    c.IPV6_MULTICAST_LOOP: _INT,
    c.IPV6_ADD_MEMBERSHIP: Allowed(20, 0),
    c.IPV6_DROP_MEMBERSHIP: Allowed(20, 0),
    c.IPV6_MTU_DISCOVER: _INT,
    c.IPV6_MTU: _INT,
    c.IPV6_RECVERR: _INT,
    c.IPV6_V6ONLY: _INT,
    c.IPV6_MULTICAST_ALL: _INT,
    c.IPV6_RECVPKTINFO: _INT,
    c.IPV6_PKTINFO: Allowed(20, 20),
    c.IPV6_RECVHOPLIMIT: _INT,
    c.IPV6_HOPLIMIT: _INT,
    c.IPV6_TCLASS: _INT,
    c.IPV6_RECVTCLASS: _INT,
    c.IPV6_DONTFRAG: _INT,
    c.IPV6_AUTOFLOWLABEL: _INT,
    c.IPV6_FREEBIND: _INT,
    c.IPV6_TRANSPARENT: Allowed(4, 4, _PRIVILEGED),
    c.IPV6_MINHOPCOUNT: _INT,
    c.IPV6_UNICAST_IF: _INT,
    c.IPV6_RECVORIGDSTADDR: _INT,
    c.IPV6_RECVFRAGSIZE: _INT,
    c.IPV6_ADDR_PREFERENCES: _INT,
    MCAST_JOIN_GROUP: Allowed(136, 0),
    MCAST_LEAVE_GROUP: Allowed(136, 0),
    MCAST_JOIN_SOURCE_GROUP: Allowed(264, 0),
    MCAST_LEAVE_SOURCE_GROUP: Allowed(264, 0),
    MCAST_BLOCK_SOURCE: Allowed(264, 0),
    MCAST_UNBLOCK_SOURCE: Allowed(264, 0),
}

_TCP = {
    c.TCP_NODELAY: _INT,
    c.TCP_MAXSEG: _INT,
    c.TCP_CORK: _INT,
    c.TCP_KEEPIDLE: _INT,
    c.TCP_KEEPINTVL: _INT,
    c.TCP_KEEPCNT: _INT,
    c.TCP_SYNCNT: _INT,
    c.TCP_LINGER2: _INT,
    c.TCP_DEFER_ACCEPT: _INT,
    c.TCP_WINDOW_CLAMP: _INT,
    c.TCP_INFO: Allowed(0, 512),
    c.TCP_QUICKACK: _INT,
    c.TCP_CONGESTION: Allowed(16, 16),
    c.TCP_THIN_LINEAR_TIMEOUTS: _INT,
    c.TCP_THIN_DUPACK: _INT,
    c.TCP_USER_TIMEOUT: _INT,
    c.TCP_FASTOPEN: _INT,
    c.TCP_FASTOPEN_CONNECT: _INT,
    c.TCP_FASTOPEN_NO_COOKIE: _INT,
    c.TCP_TIMESTAMP: _INT,
    c.TCP_NOTSENT_LOWAT: _INT,
    c.TCP_CC_INFO: Allowed(0, 64),
    c.TCP_SAVE_SYN: _INT,
    c.TCP_SAVED_SYN: Allowed(0, 128),
    c.TCP_INQ: _INT,
    c.TCP_TX_DELAY: _INT,
    19: _GET,  # TCP_REPAIR
    c.TCP_ULP: Allowed(0, 16),
    43: _GET,  # TCP_IS_MPTCP
    44: _INT,  # TCP_RTO_MAX_MS
    45: _INT,  # TCP_RTO_MIN_US
    46: _INT,  # TCP_DELACK_MAX_US
}

# CORK, UDPLITE_SEND_CSCOV, UDPLITE_RECV_CSCOV, ENCAP, NO_CHECK6_TX, NO_CHECK6_RX, SEGMENT, GRO
_UDP = {1: _INT, 10: _INT, 11: _INT, 100: _GET, 101: _INT, 102: _INT, 103: _INT, 104: _INT}
_RAW = {1: Allowed(4, 4), c.IPV6_CHECKSUM: _INT}  # ICMP_FILTER
_ICMPV6 = {1: Allowed(32, 32)}  # ICMPV6_FILTER

OPTIONS: dict[int, dict[int, Allowed]] = {
    SOL_SOCKET: _SOCKET,
    IPPROTO_IP: _IP,
    IPPROTO_IPV6: _IPV6,
    IPPROTO_TCP: _TCP,
    IPPROTO_UDP: _UDP,
    IPPROTO_UDPLITE: _UDP,
    SOL_RAW: _RAW,
    IPPROTO_ICMPV6: _ICMPV6,
}
assert IPPROTO_RAW == SOL_RAW

#: the levels whose control messages a socket of this family and type looks at
HOST_READS: dict[tuple[int, int], tuple[int, ...]] = {
    (AF_INET, SOCK_STREAM): (SOL_SOCKET,),
    (AF_INET6, SOCK_STREAM): (SOL_SOCKET,),
    (AF_INET, SOCK_DGRAM): (SOL_SOCKET, IPPROTO_IP, IPPROTO_UDP),
    (AF_INET6, SOCK_DGRAM): (SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6, IPPROTO_UDP),
}

#: control messages that a guest may send (level, type): largest payload
SENDABLE: dict[tuple[int, int], int] = {
    (IPPROTO_IP, c.IP_PKTINFO): 12,
    (IPPROTO_IP, c.IP_TTL): 4,
    (IPPROTO_IP, c.IP_TOS): 4,
    (IPPROTO_IPV6, c.IPV6_PKTINFO): 20,
    (IPPROTO_IPV6, c.IPV6_HOPLIMIT): 4,
    (IPPROTO_IPV6, c.IPV6_TCLASS): 4,
    (IPPROTO_IPV6, c.IPV6_DONTFRAG): 4,
    (IPPROTO_UDP, 103): 4,  # UDP_SEGMENT
    (SOL_SOCKET, c.SO_TIMESTAMPING_OLD): 4,
}
