"""Sockets: AF_UNIX wholly in the sentry (unix.py), inet sockets as host sockets of the sentry's own network
namespace (inet.py), a read-only rtnetlink (netlink.py), and what /proc/net shows of them (report.py).

Every socket is a `Socket` (socket.py), which is a File. The system calls are in sentry/syscalls/sockets.py
and sockmsg.py. `create` and `create_pair` make sockets; `bring_up_loopback` and `set_up_namespace` are for boot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_UNIX,
    CAP_NET_RAW,
    SOCK_DGRAM,
    SOCK_PACKET,
    SOCK_RAW,
    SOCK_SEQPACKET,
    SOCK_STREAM,
)
from sentry.errors import EAFNOSUPPORT, EINVAL, EOPNOTSUPP, EPERM, EPROTONOSUPPORT, ESOCKTNOSUPPORT

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.net.socket import Socket
    from sentry.net.unix import UnixSocket

#: no sockets but the guests' are in the sandbox's network namespace: it was made for this sandbox
namespace_is_own = False

_NPROTO = 46  # families Linux knows: 0 .. AF_MCTP
_SOCK_MAX = 11


def create(task: Task, domain: int, kind: int, protocol: int, flags: int = 0) -> Socket:
    """socket(2). `kind` is SOCK_* without flags; `flags` holds O_NONBLOCK or 0."""
    if not 0 <= domain < _NPROTO:
        raise EAFNOSUPPORT
    if not 0 <= kind < _SOCK_MAX:
        raise EINVAL
    if domain == AF_INET and kind == SOCK_PACKET:
        domain = AF_PACKET
    if domain == AF_UNIX:
        from sentry.net.unix import make

        return make(task, _unix_type(kind, protocol), flags)
    if domain in (AF_INET, AF_INET6):
        from sentry.net.inet import InetSocket

        return InetSocket.create(task, domain, kind, protocol, flags)
    if domain == AF_NETLINK:
        from sentry.net.netlink import NetlinkSocket

        return NetlinkSocket.create(task, kind, protocol, flags)
    if domain == AF_PACKET and not task.creds.has_cap(CAP_NET_RAW):
        raise EPERM
    raise EAFNOSUPPORT


def create_pair(
    task: Task, domain: int, kind: int, protocol: int, flags: int = 0
) -> tuple[UnixSocket, UnixSocket]:
    """socketpair(2): AF_UNIX only, as on Linux."""
    if domain != AF_UNIX:
        create(task, domain, kind, protocol, flags).release()  # its own errors come first
        raise EOPNOTSUPP
    from sentry.net.unix import make_pair

    return make_pair(task, _unix_type(kind, protocol), flags)


def bring_up_loopback() -> None:
    """Boot, in a fresh network namespace with CAP_NET_ADMIN: `lo` up (127.0.0.1 and ::1 come with it)."""
    global namespace_is_own
    from native import lib
    from sentry.errors import from_errno

    namespace_is_own = True
    failed = lib.nc_sock_interface_up(b"lo")
    if failed < 0:
        raise from_errno(-failed)


def set_up_namespace(sysctls: dict[str, str]) -> None:
    """Boot, in a network namespace that is not the host's own: the `net.*` ones of config.json, as runc sets them, and
    where /proc/sys can be written, ports below 1024 and ping sockets for everybody *in this namespace*. The sentry
    has no capabilities there, and who may do what is decided by the guest's (inet.py). OSError: which can't be set.
    """
    from sentry.fs.proc.sysctl import KNOBS

    own = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
    for name, value in sysctls.items():
        path = name.replace(".", "/")
        if name.startswith("net.") and name not in own and path.encode() in KNOBS:
            _set_sysctl(path, value)
    for name, value in own.items():
        try:
            _set_sysctl(name.replace(".", "/"), value)
        except OSError:
            pass


def _set_sysctl(path: str, value: str) -> None:
    where = f"/proc/sys/{path}"
    try:
        with open(where, "wb", buffering=0) as setting:
            setting.write(value.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, where)


def _unix_type(kind: int, protocol: int) -> int:
    """unix_create: PF_UNIX is its only protocol, and SOCK_RAW is another word for SOCK_DGRAM."""
    if protocol not in (0, AF_UNIX):
        raise EPROTONOSUPPORT
    if kind == SOCK_RAW:
        kind = SOCK_DGRAM
    if kind not in (SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET):
        raise ESOCKTNOSUPPORT
    return kind
