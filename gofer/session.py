"""One sentry's session: requests in, answers out, what a message may look like, and ids and attributes as the container
sees them. What the requests do is in looks.py and changes.py."""

import _socket
import os
from collections.abc import Callable
from errno import EINVAL, EIO, ENAMETOOLONG, ENOBUFS, ENOMEM, ENOTDIR, EPROTO, EROFS
from struct import Struct
from struct import error as StructError

from gofer import hostcalls as host
from gofer import protocol as p
from gofer.exports import Export, IdMap
from gofer.nodes import S_IFDIR, Node, Table

NOT_MAPPED = 65534

OWNER = Struct("=II")
OWNER_AT = 20  # uid and gid in struct statx

Result = tuple[int, bytes, int]  # value, data, descriptor to donate or -1
Operation = Callable[[int, int], Result]  # of the request's handle, and of its size with the header


class ProtocolError(Exception):
    """The message can't be read."""


class Ids:
    """Container ids to host ids and back. Empty: they are the same."""

    __slots__ = ("_map", "identity")

    def __init__(self, id_map: IdMap) -> None:
        self._map = id_map
        self.identity = not id_map or id_map == [(0, 0, 4294967295)]

    def inside(self, outside: int) -> int:
        if self.identity:
            return outside
        for first, host_first, count in self._map:
            if host_first <= outside < host_first + count:
                return first + outside - host_first
        return NOT_MAPPED

    def outside(self, inside: int) -> int:
        if self.identity:
            return inside
        for first, host_first, count in self._map:
            if first <= inside < first + count:
                return host_first + inside - first
        raise OSError(EINVAL, "id is not mapped")


class Session:
    def __init__(
        self, sock_fd: int, exports: list[Export], self_fd: int, uid_map: IdMap, gid_map: IdMap,
        lenient_owner: bool, budget: int,
    ) -> None:  # fmt: skip
        self._sock = _socket.socket(fileno=sock_fd)
        self._exports = exports
        self._self_fd = self_fd
        self._uids, self._gids = Ids(uid_map), Ids(gid_map)
        self._same_ids = self._uids.identity and self._gids.identity
        # With a single mapped id, what another user creates belongs to that id instead of failing.
        self._lenient_owner = lenient_owner
        self._table = Table(budget)
        self._roots: dict[int, Node] = {}
        self._reading: dict[int, int] = {}  # node id -> descriptor open for READDIR
        self._in = bytearray(p.MAX_MESSAGE + 1)
        self._view = memoryview(self._in)
        self._dirents = bytearray(p.DIRENT_BYTES)
        self._dirents_at = host.writable(self._dirents)
        self._ops = self._operations()

    def _operations(self) -> dict[int, Operation]:
        """What answers a request, by its number."""
        raise NotImplementedError

    # --- the loop ---

    def serve(self) -> None:
        """Until the sentry closes its end. An empty message counts as that."""
        receive, buffer, unpack = self._sock.recv_into, self._in, p.HEADER.unpack_from
        limit = p.MAX_MESSAGE
        opened, budget, trim = self._table.opened, self._table.budget, self._table.trim
        while True:
            try:
                size = receive(buffer, 0, _socket.MSG_TRUNC)
            except OSError:
                return
            if size == 0:
                return
            if size < p.HEAD or size > limit:
                sent = self._reply(0, EPROTO)
            else:
                request, op, zero, handle = unpack(buffer)
                sent = self._answer(request, op, zero, handle, size)
                if len(opened) > budget:
                    trim()
            if not sent:
                return

    def _answer(self, request: int, op: int, zero: int, handle: int, size: int) -> bool:
        if op == p.FORGET and zero == 0:
            self._forget(size)
            return True
        function = self._ops.get(op)
        if function is None or zero:
            return self._reply(request, EPROTO)
        try:
            value, data, fd = function(handle, size)
        except OSError as error:
            return self._reply(request, error.errno or EIO)
        except (ProtocolError, StructError):
            return self._reply(request, EPROTO)
        except Exception as error:  # a bug of ours costs this request, not the container
            return self._reply(request, EIO, 0, _describe(error))
        return self._reply(request, 0, value, data, fd)

    def _reply(self, request: int, errno: int, value: int = 0, data: bytes = b"", fd: int = -1) -> bool:
        message = p.REPLY.pack(request, errno, 0, value) + data
        try:
            if fd < 0:
                self._sock.send(message)
            else:
                rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, "little"))]
                self._sock.sendmsg((message,), rights)
        except OSError as error:
            if error.errno in (ENOBUFS, ENOMEM) and message[p.HEAD :]:  # of the host
                return self._reply(request, ENOMEM)
            return False
        finally:
            if fd >= 0:
                os.close(fd)
        return True

    # --- reading a message ---

    def _name(self, start: int, end: int) -> bytes:
        name = bytes(self._view[start:end])
        if end - start > p.MAX_NAME:
            raise OSError(ENAMETOOLONG, "name")
        if not name or name == b"." or name == b".." or b"/" in name or b"\0" in name:
            raise OSError(EINVAL, "not the name of a child")
        return name

    def _args(self, layout: Struct, size: int, exact: bool = True) -> tuple[int, ...]:
        end = p.HEAD + layout.size
        if size < end or (exact and size != end):
            raise ProtocolError
        return layout.unpack_from(self._in, p.HEAD)

    def _dir(self, handle: int) -> Node:
        node = self._table.get(handle)
        if node.kind != S_IFDIR:
            raise OSError(ENOTDIR, "not a directory")
        return node

    def _writable_dir(self, handle: int) -> Node:
        node = self._dir(handle)
        if node.export.readonly:
            raise OSError(EROFS, "read-only")
        return node

    def _writable(self, handle: int) -> Node:
        node = self._table.get(handle)
        if node.export.readonly:
            raise OSError(EROFS, "read-only")
        return node

    # --- writing attributes ---

    def _attributes(self) -> bytes:
        """What the last statx found, with the container's ids."""
        buffer = host.stat_buffer
        if not self._same_ids:
            uid, gid = OWNER.unpack_from(buffer, OWNER_AT)
            OWNER.pack_into(buffer, OWNER_AT, self._uids.inside(uid), self._gids.inside(gid))
        return bytes(buffer[: p.ATTR_SIZE])

    def _fresh_attributes(self, node: Node) -> bytes:
        host.statx(self._table.fd(node))
        return self._attributes()

    def _proc(self, node: Node) -> bytes:
        """The name of the node's descriptor beneath self_fd."""
        return b"%d" % self._table.fd(node)

    def _forget(self, size: int) -> None:
        body = size - p.HEAD
        if body % p.FORGET_ITEM.size or body > p.MAX_FORGET * p.FORGET_ITEM.size:
            return
        for offset in range(p.HEAD, size, p.FORGET_ITEM.size):
            handle, lookups = p.FORGET_ITEM.unpack_from(self._in, offset)
            self._table.forget(handle, lookups)
            fd = self._reading.pop(handle, -1)
            if fd >= 0:
                os.close(fd)


def _describe(error: Exception) -> bytes:
    """What went wrong and where, for the sentry's log. (No traceback module: it would be one more import.)"""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f" at {place.tb_frame.f_code.co_name}:{place.tb_lineno}"
    return f"{type(error).__name__}: {error}{where}".encode("utf-8", "replace")[:500]
