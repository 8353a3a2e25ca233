"""The names below /proc/sys/net, with Linux's defaults: sysctl.py makes files of them.

What a write changes here is what reads back, and what the sentry itself looks at: limits of buffers and backlogs, who
may bind and ping. The host's stack keeps its own settings, but for those that config.json gives.
"""

from __future__ import annotations

INT_MAX = (1 << 31) - 1
LONG_MAX = (1 << 63) - 1

#: one number: default, lowest, highest
NUMBERS: dict[bytes, tuple[int, int, int]] = {
    b"core/somaxconn": (4096, 0, INT_MAX),
    b"core/rmem_default": (212992, 2304, INT_MAX),
    b"core/rmem_max": (212992, 2304, INT_MAX),
    b"core/wmem_default": (212992, 4608, INT_MAX),
    b"core/wmem_max": (212992, 4608, INT_MAX),
    b"core/netdev_max_backlog": (1000, 0, INT_MAX),
    b"core/optmem_max": (131072, 0, INT_MAX),
    b"ipv4/icmp_echo_ignore_all": (0, 0, 1),
    b"ipv4/icmp_echo_ignore_broadcasts": (1, 0, 1),
    b"ipv4/igmp_max_memberships": (20, 0, INT_MAX),
    b"ipv4/ip_default_ttl": (64, 1, 255),
    b"ipv4/ip_early_demux": (1, 0, 1),
    b"ipv4/ip_forward": (0, 0, 1),
    b"ipv4/ip_nonlocal_bind": (0, 0, 1),
    b"ipv4/ip_unprivileged_port_start": (1024, 0, 65535),
    b"ipv4/tcp_abort_on_overflow": (0, 0, 1),
    b"ipv4/tcp_ecn": (2, 0, 5),
    b"ipv4/tcp_fastopen": (1, 0, INT_MAX),
    b"ipv4/tcp_fin_timeout": (60, 0, INT_MAX),
    b"ipv4/tcp_keepalive_intvl": (75, 0, INT_MAX),
    b"ipv4/tcp_keepalive_probes": (9, 0, 255),
    b"ipv4/tcp_keepalive_time": (7200, 0, INT_MAX),
    b"ipv4/tcp_max_syn_backlog": (1024, 0, INT_MAX),
    b"ipv4/tcp_max_tw_buckets": (65536, 0, INT_MAX),
    b"ipv4/tcp_moderate_rcvbuf": (1, 0, 1),
    b"ipv4/tcp_mtu_probing": (0, 0, 2),
    b"ipv4/tcp_no_metrics_save": (0, 0, 1),
    b"ipv4/tcp_retries1": (3, 0, 255),
    b"ipv4/tcp_retries2": (15, 0, 255),
    b"ipv4/tcp_sack": (1, 0, 1),
    b"ipv4/tcp_slow_start_after_idle": (1, 0, 1),
    b"ipv4/tcp_syn_retries": (6, 1, 127),
    b"ipv4/tcp_synack_retries": (5, 0, 255),
    b"ipv4/tcp_syncookies": (1, 0, 2),
    b"ipv4/tcp_timestamps": (1, 0, 2),
    b"ipv4/tcp_tw_reuse": (2, 0, 2),
    b"ipv4/tcp_window_scaling": (1, 0, 1),
    b"ipv4/udp_rmem_min": (4096, 0, INT_MAX),
    b"ipv4/udp_wmem_min": (4096, 0, INT_MAX),
    b"ipv6/bindv6only": (0, 0, 1),
    b"unix/max_dgram_qlen": (10, 0, INT_MAX),
}
#: per interface, which all and default are as well
_EACH_IPV4 = {
    b"accept_redirects": (1, 0, 1),
    b"accept_source_route": (0, 0, 1),
    b"arp_announce": (0, 0, 2),
    b"arp_ignore": (0, 0, 8),
    b"forwarding": (0, 0, 1),
    b"log_martians": (0, 0, 1),
    b"route_localnet": (0, 0, 1),
    b"rp_filter": (0, 0, 2),
    b"secure_redirects": (1, 0, 1),
    b"send_redirects": (1, 0, 1),
}
_EACH_IPV6 = {
    b"accept_ra": (1, 0, 2),
    b"accept_redirects": (1, 0, 1),
    b"autoconf": (1, 0, 1),
    b"disable_ipv6": (0, 0, 1),
    b"forwarding": (0, 0, 1),
    b"hop_limit": (64, -1, 255),
}
for _family, _each in ((b"ipv4", _EACH_IPV4), (b"ipv6", _EACH_IPV6)):
    for _name, _values in _each.items():
        NUMBERS.update({b"%s/conf/%s/%s" % (_family, _which, _name): _values for _which in (b"all", b"default", b"lo")})

#: several numbers: default, and the highest each may be
LISTS: dict[bytes, tuple[bytes, int]] = {
    b"ipv4/ip_local_port_range": (b"32768\t60999", 65535),
    b"ipv4/ping_group_range": (b"1\t0", INT_MAX),
    b"ipv4/tcp_mem": (b"188739\t251655\t377478", LONG_MAX),
    b"ipv4/tcp_rmem": (b"4096\t131072\t6291456", INT_MAX),
    b"ipv4/tcp_wmem": (b"4096\t16384\t4194304", INT_MAX),
    b"ipv4/udp_mem": (b"377478\t503310\t754956", LONG_MAX),
}
WORDS: dict[bytes, bytes] = {
    b"ipv4/ip_local_reserved_ports": b"",
    b"ipv4/tcp_congestion_control": b"cubic",
}
FIXED: dict[bytes, bytes] = {
    b"ipv4/tcp_allowed_congestion_control": b"reno cubic",
    b"ipv4/tcp_available_congestion_control": b"reno cubic",
}
