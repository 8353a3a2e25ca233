"""NETLINK_SOCK_DIAG (sock_diag(7)), which ss(8) lists sockets by.

Of inet sockets the host is asked, in the sandbox's network namespace: its answers go on for the guest's own sockets,
with their inode numbers and users. AF_UNIX is answered here. Nothing can be destroyed.
"""

from __future__ import annotations

import os
from itertools import islice
from struct import Struct
from typing import TYPE_CHECKING

from sentry import net
from sentry.abi.linux import AF_INET, AF_INET6, AF_UNIX, TCP_LISTEN
from sentry.errors import EINVAL, ENOENT, EPERM
from sentry.net.inet import InetSocket
from sentry.net.netlink import HEADER, NETLINK_SOCK_DIAG, NLM_F_DUMP, NLM_F_MULTI, NLMSG_DONE
from sentry.net.sockfs import live
from sentry.net.unix import UnixSocket

if TYPE_CHECKING:
    from sentry.net.netlink import NetlinkSocket

SOCK_DIAG_BY_FAMILY, SOCK_DESTROY = 20, 21
_FAMILIES = 46  # AF_MAX
_CHUNK = 16384
_PENDING_MAX = 16000  # an attribute's size has 16 bits

_ATTRIBUTE = Struct("<HH")
_U32 = Struct("<I")
_PAIR = Struct("<II")
_OWNER = Struct("<II")  # idiag_uid and idiag_inode
_OWNER_AT = HEADER.size + 64
_UNIX_REQUEST = Struct("<BBHIII")  # family, protocol, padding, states, inode, what to show
_UNIX_MESSAGE = Struct("<BBBBIII")
_SHOW_NAME, _SHOW_VFS, _SHOW_PEER, _SHOW_PENDING, _SHOW_QUEUES = 1, 2, 4, 8, 16
_CGROUP_ID = 21
_NAME, _VFS, _PEER, _PENDING, _QUEUES, _SHUTDOWN = 0, 1, 2, 3, 4, 6


def answer(sock: NetlinkSocket, request: bytes) -> int | None:
    """Queue the answers to one request. Gives the errno to acknowledge it with; None: it is answered, and acknowledged
    where that is asked for.
    """
    _, kind, flags, sequence, _ = HEADER.unpack_from(request)
    body = request[HEADER.size :]
    if kind == SOCK_DESTROY:
        return EPERM.errno
    if kind != SOCK_DIAG_BY_FAMILY or len(body) < 2 or body[0] >= _FAMILIES:
        return EINVAL.errno
    if body[0] in (AF_INET, AF_INET6):
        ours = {os.fstat(each.host_fd).st_ino: each for each in list(live.values()) if isinstance(each, InetSocket)}
        answered = sock.ask_host(NETLINK_SOCK_DIAG, request, lambda message: _as_guest_sees(message, ours))
        return None if answered else ENOENT.errno  # the one asked for is somebody else's
    if body[0] != AF_UNIX:
        return ENOENT.errno
    if len(body) < _UNIX_REQUEST.size:
        return EINVAL.errno
    _, _, _, states, inode, show = _UNIX_REQUEST.unpack_from(body)
    found = [each for each in list(live.values()) if isinstance(each, UnixSocket) and not each.embryo]
    if flags & NLM_F_DUMP != NLM_F_DUMP:
        one = [each for each in found if each.inode.ino == inode]
        if not one:
            return ENOENT.errno
        sock.deliver(_message(_unix(one[0], show), 0, sequence, sock.port))
        return 0
    chunk = b""
    for each in found:
        if states >> each.state & 1:
            chunk += _message(_unix(each, show), NLM_F_MULTI, sequence, sock.port)
            if len(chunk) > _CHUNK:
                sock.deliver(chunk)
                chunk = b""
    if chunk:
        sock.deliver(chunk)
    sock.deliver(HEADER.pack(HEADER.size + 4, NLMSG_DONE, NLM_F_MULTI, sequence, sock.port) + bytes(4))
    return None


def _as_guest_sees(message: bytearray, ours: dict[int, InetSocket]) -> bool:
    """Put the guest's numbers into an inet_diag_msg; False: it is of somebody else's socket."""
    if len(message) < _OWNER_AT + _OWNER.size or HEADER.unpack_from(message)[1] != SOCK_DIAG_BY_FAMILY:
        return True
    _without_cgroup(message)
    inode = _OWNER.unpack_from(message, _OWNER_AT)[1]
    sock = ours.get(inode)
    if sock is None:
        _OWNER.pack_into(message, _OWNER_AT, 0, 0)
        return inode == 0 and net.namespace_is_own
    _OWNER.pack_into(message, _OWNER_AT, sock.inode.uid, sock.inode.ino)
    return True


def _without_cgroup(message: bytearray) -> None:
    """Take the host's number of the socket's cgroup out of the attributes (INET_DIAG_CGROUP_ID)."""
    at = _OWNER_AT + _OWNER.size
    while len(message) - at >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(message, at)
        if size < _ATTRIBUTE.size:
            break
        if kind == _CGROUP_ID:
            del message[at : at + ((size + 3) & ~3)]
            _U32.pack_into(message, 0, len(message))
            return
        at += (size + 3) & ~3


def _message(payload: bytes, flags: int, sequence: int, port: int) -> bytes:
    size = HEADER.size + len(payload)
    return HEADER.pack(size, SOCK_DIAG_BY_FAMILY, flags, sequence, port) + payload


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def _unix(sock: UnixSocket, show: int) -> bytes:
    """sk_diag_fill of net/unix/diag.c."""
    text = _UNIX_MESSAGE.pack(AF_UNIX, sock.type, sock.state, 0, sock.inode.ino, sock.inode.ino, 0)
    if show & _SHOW_NAME and sock.addr:
        text += _attribute(_NAME, sock.addr)
    if show & _SHOW_VFS and sock.place is not None:
        text += _attribute(_VFS, _PAIR.pack(sock.place.inode.ino & 0xFFFFFFFF, sock.place.inode.fs.dev & 0xFFFFFFFF))
    if show & _SHOW_PEER and sock.peer is not None:
        text += _attribute(_PEER, _U32.pack(0 if sock.peer.embryo else sock.peer.inode.ino))
    if show & _SHOW_PENDING and sock.embryos:
        embryos = islice(sock.embryos, _PENDING_MAX)
        peers = [embryo.peer.inode.ino if embryo.peer is not None else 0 for embryo in embryos]
        text += _attribute(_PENDING, b"".join(map(_U32.pack, peers)))
    if show & _SHOW_QUEUES:
        listening = sock.state == TCP_LISTEN
        queues = (len(sock.embryos), sock.backlog) if listening else (sum(each.left for each in sock.rx), sock.used)
        text += _attribute(_QUEUES, _PAIR.pack(*queues))
    return text + _attribute(_SHUTDOWN, bytes((sock.shut,)))
