"""Requests that change nothing: names, attributes, directories, contents and sockets."""

import _socket
import os
from errno import EBADF, ECONNREFUSED, EINVAL, EIO, EISDIR, ELOOP, EPERM, EROFS

from gofer import hostcalls as host
from gofer import protocol as p
from gofer.nodes import PATH_FLAGS, S_IFDIR, S_IFLNK, S_IFREG, Node
from gofer.session import ProtocolError, Result, Session

S_IFSOCK = 0o140000
READDIR_HELD = 16  # directories kept open while the sentry reads them
TARGET_KEPT = 256  # bytes of a symlink that are not read again: there may be very many


class Looks(Session):
    # --- looking ---

    def _attach(self, handle: int, size: int) -> Result:
        version, index = self._args(p.ATTACH_ARGS, size)
        if version != p.VERSION or handle:
            raise ProtocolError
        if index >= len(self._exports):
            raise OSError(EBADF, "no such export")
        export = self._exports[index]
        node = self._roots.get(index)
        if node is None:
            node = self._roots[index] = self._table.root(export)
        flags = p.EXPORT_READONLY if export.readonly else 0
        flags |= p.EXPORT_EXCLUSIVE if export.exclusive else 0
        return node.id, self._fresh_attributes(node) + p.EXPORT.pack(flags), -1

    def _entry(self, parent: Node, name: bytes) -> tuple[int, bytes]:
        table = self._table
        # What is in an exclusive tree is asked for once; in a shared one again and again.
        node = None if parent.export.exclusive else table.known(parent, name)
        if node is None:
            fd = host.openat2(table.fd(parent), name, PATH_FLAGS, parent.export.resolve)
            node = table.enter(parent, name, fd)
        data = self._attributes()
        if node.kind == S_IFLNK:
            target = node.target or os.readlink(b"", dir_fd=table.fd(node))
            if len(target) <= TARGET_KEPT:
                node.target = target
            data += target
        return node.id, data

    def _lookup(self, handle: int, size: int) -> Result:
        parent = self._dir(handle)
        value, data = self._entry(parent, self._name(p.HEAD, size))
        return value, data, -1

    def _names(self, size: int) -> list[bytes]:
        """Several names: all are checked before the first has an effect."""
        names = bytes(self._view[p.HEAD : size]).split(b"\0")
        if len(names) > p.MAX_BATCH:
            raise ProtocolError
        for name in names:
            if not name or name == b"." or name == b".." or b"/" in name or len(name) > p.MAX_NAME:
                raise OSError(EINVAL, "not the name of a child")
        return names

    def _answer_of(self, parent: Node, name: bytes) -> tuple[int, bytes]:
        """(handle, one answer of several); handle 0 for a refusal."""
        try:
            found, data = self._entry(parent, name)
        except OSError as error:
            return 0, p.BATCH.pack(error.errno or EIO, 0, 0, 0)
        return found, p.BATCH.pack(0, 0, len(data), found) + data

    def _lookup_many(self, handle: int, size: int) -> Result:
        parent = self._dir(handle)
        answers = []
        room = p.MAX_VALUE
        for name in self._names(size):
            if room < 4096 + 512:
                break  # fewer answers than names: ask again
            _, answer = self._answer_of(parent, name)
            answers.append(answer)
            room -= len(answer)
        return 0, b"".join(answers), -1

    def _steps(self, handle: int, size: int) -> tuple[bytes, Node | None]:
        """A walk's answers, and what is at its end."""
        node = self._dir(handle)
        names = self._names(size)
        answers = []
        for name in names:
            found, answer = self._answer_of(node, name)
            answers.append(answer)
            if not found:
                break
            node = self._table.get(found)
            if node.kind != S_IFDIR:
                break
        return b"".join(answers), node if found and len(answers) == len(names) else None

    def _walk(self, handle: int, size: int) -> Result:
        return 0, self._steps(handle, size)[0], -1

    def _walk_open(self, handle: int, size: int) -> Result:
        data, node = self._steps(handle, size)
        fd = -1
        if node is not None and node.kind == S_IFREG:
            try:
                fd = self._reopen(node, os.O_RDONLY)
            except OSError:
                pass  # OPEN will tell why
        return 0, data, fd

    def _readlink(self, handle: int, size: int) -> Result:
        node = self._table.get(handle)
        if node.kind != S_IFLNK:
            raise OSError(EINVAL, "not a symlink")
        return 0, os.readlink(b"", dir_fd=self._table.fd(node)), -1

    def _getattr(self, handle: int, size: int) -> Result:
        return 0, self._fresh_attributes(self._table.get(handle)), -1

    def _statfs(self, handle: int, size: int) -> Result:
        return 0, host.fstatfs(self._table.fd(self._table.get(handle))), -1

    def _readdir(self, handle: int, size: int) -> Result:
        node = self._dir(handle)
        (cookie,) = self._args(p.COOKIE, size)
        reading = self._reading
        fd = reading.get(node.id, -1)
        if fd < 0:
            fd = host.openat2(self._table.fd(node), b".", os.O_RDONLY | os.O_DIRECTORY, node.export.resolve)
            reading[node.id] = fd
            if len(reading) > READDIR_HELD:
                os.close(reading.pop(next(iter(reading))))
        os.lseek(fd, cookie, os.SEEK_SET)
        count = host.getdents(fd, self._dirents_at, p.DIRENT_BYTES)
        data = bytes(self._dirents[:count])
        # A buffer that is far from full means the end, on every filesystem we know but not by contract: ask.
        if count and count < p.DIRENT_BYTES - 1024:
            rest = host.getdents(fd, self._dirents_at, 4096)
            data += bytes(self._dirents[:rest])
            count = rest
        if count == 0:
            del reading[node.id]
            os.close(fd)
            return p.EOF_COOKIE, data, -1
        return os.lseek(fd, 0, os.SEEK_CUR), data, -1

    # --- contents ---

    def _reopen(self, node: Node, flags: int) -> int:
        if node.kind != S_IFREG:
            raise OSError(
                {S_IFDIR: EISDIR, S_IFLNK: ELOOP}.get(node.kind, EPERM), "only regular files are opened"
            )
        if node.export.readonly and flags & (os.O_ACCMODE | os.O_TRUNC):
            raise OSError(EROFS, "read-only")
        # O_NONBLOCK: the host's leases must not hold us up.
        return host.openat2(self._self_fd, self._proc(node), flags | os.O_NONBLOCK | os.O_NOCTTY, 0)

    def _open(self, handle: int, size: int) -> Result:
        node = self._table.get(handle)
        (flags,) = self._args(p.FLAGS, size)
        if flags & ~(os.O_ACCMODE | os.O_TRUNC) or flags & os.O_ACCMODE == os.O_ACCMODE:
            raise OSError(EINVAL, "flags")
        return 0, b"", self._reopen(node, flags)

    def _fsync(self, handle: int, size: int) -> Result:
        node = self._table.get(handle)
        (data_only,) = self._args(p.FLAGS, size)
        if node.kind == S_IFDIR:
            flags = os.O_RDONLY | os.O_DIRECTORY
            fd = host.openat2(self._table.fd(node), b".", flags, node.export.resolve)
        else:
            fd = self._reopen(node, os.O_RDONLY)
        try:
            (os.fdatasync if data_only else os.fsync)(fd)
        finally:
            os.close(fd)
        return 0, b"", -1

    def _connect(self, handle: int, size: int) -> Result:
        node = self._table.get(handle)
        (kind,) = self._args(p.FLAGS, size)
        if not node.export.connect or node.kind != S_IFSOCK:
            raise OSError(ECONNREFUSED, "not offered")
        if kind not in (_socket.SOCK_STREAM, _socket.SOCK_DGRAM, _socket.SOCK_SEQPACKET):
            raise OSError(EINVAL, "type")
        sock = _socket.socket(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK, 0)
        try:
            sock.connect(self._proc(node))  # relative to the working directory, which is self_fd
            return 0, b"", os.dup(sock.fileno())
        finally:
            sock.close()
