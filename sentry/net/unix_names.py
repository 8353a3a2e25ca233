"""The names of AF_UNIX sockets (unix(7)): paths, which are S_IFSOCK inodes of the VFS, and abstract names.

Names are as sockaddr.parse_unix gives them. Abstract names are apart for each socket type, as on Linux.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import AT_FDCWD, S_IFMT, S_IFSOCK
from sentry.errors import EADDRINUSE, ECONNREFUSED, EEXIST, ENOSPC, EPROTOTYPE
from sentry.vfs.walk import resolve

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.net.unix import UnixSocket

_AUTOBIND_NAMES = 1 << 20

abstract: dict[tuple[int, bytes], UnixSocket] = {}
_next_auto = 0


async def bind(task: Task, sock: UnixSocket, name: bytes) -> None:
    """Give `sock` its name; EADDRINUSE if it is taken."""
    if name[0] == 0:
        if abstract.setdefault((sock.type, name), sock) is not sock:
            raise EADDRINUSE
    else:
        from sentry.vfs.namespace import make_socket

        try:
            sock.place = await make_socket(task, name[:-1], sock.inode.mode & 0o777)
        except EEXIST:
            raise EADDRINUSE
        sock.place.inode.socket = sock
    sock.addr = name


async def check_free(task: Task, name: bytes) -> None:
    """Raise what keeps a path from becoming a socket's name."""
    if name[0]:
        from sentry.vfs.namespace import Creation

        try:
            async with Creation(task, AT_FDCWD, name[:-1]) as new:
                new.permit()
        except EEXIST:
            raise EADDRINUSE


def autobind(sock: UnixSocket) -> None:
    """A free abstract name of five hexadecimal digits."""
    global _next_auto
    for _ in range(_AUTOBIND_NAMES):
        name = b"\0%05x" % _next_auto
        _next_auto = (_next_auto + 1) % _AUTOBIND_NAMES
        if (sock.type, name) not in abstract:
            abstract[sock.type, name] = sock
            sock.addr = name
            return
    raise ENOSPC


def unbind(sock: UnixSocket) -> None:
    """The socket goes; a path stays where it is and refuses connections from now on."""
    if sock.place is not None:
        if sock.place.inode.socket is sock:
            sock.place.inode.socket = None
        sock.place = None
    elif sock.addr and abstract.get((sock.type, sock.addr)) is sock:
        del abstract[sock.type, sock.addr]


async def find(task: Task, name: bytes, kind: int) -> UnixSocket:
    """The socket of type `kind` bound to `name` (unix_find_other)."""
    if name[0] == 0:
        found = abstract.get((kind, name))
        if found is None:
            raise ECONNREFUSED
        return found
    from sentry.vfs.perm import MAY_WRITE, check

    path = await resolve(task, AT_FDCWD, name[:-1])
    check(task, path, MAY_WRITE)
    inode = path.inode
    bound: UnixSocket | None = inode.socket
    if inode.mode & S_IFMT != S_IFSOCK or bound is None:
        raise ECONNREFUSED
    if bound.type != kind:
        raise EPROTOTYPE
    return bound
