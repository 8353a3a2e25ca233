"""Answers the sentry's requests. The sentry is taken to be hostile: see tests/security/test_gofer_escape.py.

Rules kept here, whatever is asked:
 * a name is one component and never `.`, `..` or empty; symlinks are opened as themselves, never followed;
 * every host file is reached by openat2(2) beneath a descriptor of an export;
 * only regular files are opened for their contents, and a read-only export gives no writable descriptor;
 * no device node is made.

Opening an inode that is held as an O_PATH descriptor goes through `/proc/self/fd/N`. `self_fd` is a detached
mount of that one directory, made before confinement: its names are our own descriptor numbers, `..` stops at
its root, and no client handle stands for it. So a renamed or unlinked file can be reopened, and the inode is
certainly the one that was looked up. It is also the working directory, for the calls that take nothing but a
path (xattrs, connect).
"""

import _socket
import os
from collections.abc import Callable
from errno import (
    EBADF,
    ECONNREFUSED,
    EINVAL,
    EIO,
    EISDIR,
    ELOOP,
    ENAMETOOLONG,
    ENOBUFS,
    ENOMEM,
    ENOTDIR,
    ENOTSUP,
    EPERM,
    EPROTO,
    EROFS,
    EXDEV,
)
from struct import Struct
from struct import error as StructError

from gofer import hostcalls as host
from gofer import protocol as p
from gofer.exports import Export
from gofer.nodes import PATH_FLAGS, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Node, Table

S_IFIFO, S_IFSOCK = 0o010000, 0o140000
READDIR_HELD = 16  # directories kept open while the sentry reads them
TARGET_KEPT = 256  # bytes of a symlink that are not read again: there may be very many
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2
NOT_MAPPED = 65534

IdMap = list[tuple[int, int, int]]  # (inside, outside, count)

_owner = Struct("=II")
_OWNER_AT = 20  # uid and gid in struct statx

Result = tuple[int, bytes, int]  # value, data, descriptor to donate or -1


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


class Server:
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
        self._ops: dict[int, Callable[[int, int], Result]] = {
            p.ATTACH: self._attach,
            p.LOOKUP: self._lookup,
            p.LOOKUPN: self._lookup_many,
            p.WALK: self._walk,
            p.WALK_OPEN: self._walk_open,
            p.OPEN: self._open,
            p.CREATE: self._create,
            p.MKDIR: self._mkdir,
            p.SYMLINK: self._symlink,
            p.MKNOD: self._mknod,
            p.LINK: self._link,
            p.UNLINK: self._unlink,
            p.RMDIR: self._rmdir,
            p.RENAME: self._rename,
            p.READLINK: self._readlink,
            p.GETATTR: self._getattr,
            p.SETATTR: self._setattr,
            p.READDIR: self._readdir,
            p.STATFS: self._statfs,
            p.GETXATTR: self._getxattr,
            p.SETXATTR: self._setxattr,
            p.LISTXATTR: self._listxattr,
            p.REMOVEXATTR: self._removexattr,
            p.CONNECT: self._connect,
            p.FSYNC: self._fsync,
            p.TMPFILE: self._tmpfile,
        }

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
            uid, gid = _owner.unpack_from(buffer, _OWNER_AT)
            _owner.pack_into(buffer, _OWNER_AT, self._uids.inside(uid), self._gids.inside(gid))
        return bytes(buffer[: p.ATTR_SIZE])

    def _fresh_attributes(self, node: Node) -> bytes:
        host.statx(self._table.fd(node))
        return self._attributes()

    def _proc(self, node: Node) -> bytes:
        """The name of the node's descriptor beneath self_fd."""
        return b"%d" % self._table.fd(node)

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

    # --- making ---

    def _chown(self, proc: bytes, uid: int, gid: int) -> None:
        """By the name of a descriptor beneath self_fd, whose statx is in stat_buffer."""
        try:
            uid, gid = self._uids.outside(uid), self._gids.outside(gid)
            if _owner.unpack_from(host.stat_buffer, _OWNER_AT) != (uid, gid):
                os.chown(proc, uid, gid, dir_fd=self._self_fd)
        except OSError:
            if not self._lenient_owner:
                raise

    def _made(self, parent: Node, name: bytes, kind: int, mode: int, uid: int, gid: int) -> Result:
        """The entry of a thing just made by name; only if it is still what we made."""
        fd = host.openat2(self._table.fd(parent), name, PATH_FLAGS, parent.export.resolve)
        host.statx(fd)
        if int.from_bytes(host.stat_buffer[28:30], "little") & S_IFMT != kind:
            os.close(fd)
            raise OSError(EIO, "replaced while it was made")
        try:
            self._chown(b"%d" % fd, uid, gid)
            if kind != S_IFLNK and mode & 0o7000:  # chown clears these; mkdir ignores them
                os.chmod(b"%d" % fd, mode, dir_fd=self._self_fd)
        except OSError:
            os.close(fd)
            self._remove(parent, name, kind)
            raise
        node = self._table.enter(parent, name, fd)
        return node.id, self._attributes(), -1

    def _remove(self, parent: Node, name: bytes, kind: int) -> None:
        try:
            (os.rmdir if kind == S_IFDIR else os.unlink)(name, dir_fd=self._table.fd(parent))
        except OSError:
            pass

    def _create(self, handle: int, size: int) -> Result:
        parent = self._writable_dir(handle)
        flags, mode, uid, gid = self._args(p.CREATE_ARGS, size, exact=False)
        name = self._name(p.HEAD + p.CREATE_ARGS.size, size)
        if flags & ~os.O_ACCMODE or flags == os.O_ACCMODE:
            raise OSError(EINVAL, "flags")
        made = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | flags
        fd = host.openat2(self._table.fd(parent), name, made, parent.export.resolve, mode & 0o777)
        try:
            node = self._created(parent, name, fd, mode, uid, gid)
        except OSError:
            os.close(fd)
            self._remove(parent, name, S_IFREG)
            raise
        return node.id, self._attributes(), fd

    def _created(self, parent: Node, name: bytes | None, fd: int, mode: int, uid: int, gid: int) -> Node:
        """The node of a regular file just made, open as `fd`; it gets its owner and mode."""
        proc = b"%d" % fd
        host.statx(fd)
        self._chown(proc, uid, gid)
        if mode & 0o7000:
            os.chmod(proc, mode & 0o7777, dir_fd=self._self_fd)
        return self._table.enter(parent, name, host.openat2(self._self_fd, proc, host.O_PATH, 0))

    def _tmpfile(self, handle: int, size: int) -> Result:
        parent = self._writable_dir(handle)
        mode, uid, gid = self._args(p.OWNER_ARGS, size)
        flags = os.O_TMPFILE | os.O_RDWR
        fd = host.openat2(self._table.fd(parent), b".", flags, parent.export.resolve, mode & 0o777)
        try:
            node = self._created(parent, None, fd, mode, uid, gid)
        except OSError:
            os.close(fd)
            raise
        return node.id, self._attributes(), fd

    def _mkdir(self, handle: int, size: int) -> Result:
        parent = self._writable_dir(handle)
        mode, uid, gid = self._args(p.OWNER_ARGS, size, exact=False)
        name = self._name(p.HEAD + p.OWNER_ARGS.size, size)
        os.mkdir(name, mode & 0o777, dir_fd=self._table.fd(parent))
        return self._made(parent, name, S_IFDIR, mode & 0o7777, uid, gid)

    def _symlink(self, handle: int, size: int) -> Result:
        parent = self._writable_dir(handle)
        uid, gid, length = self._args(p.SYMLINK_ARGS, size, exact=False)
        start = p.HEAD + p.SYMLINK_ARGS.size
        if start + length > size:
            raise ProtocolError
        name = self._name(start, start + length)
        target = bytes(self._view[start + length : size])
        if len(target) > p.MAX_TARGET:
            raise OSError(ENAMETOOLONG, "target")
        if not target or b"\0" in target:
            raise OSError(EINVAL, "target")
        os.symlink(target, name, dir_fd=self._table.fd(parent))
        return self._made(parent, name, S_IFLNK, 0, uid, gid)

    def _mknod(self, handle: int, size: int) -> Result:
        parent = self._writable_dir(handle)
        mode, uid, gid = self._args(p.OWNER_ARGS, size, exact=False)
        name = self._name(p.HEAD + p.OWNER_ARGS.size, size)
        kind = mode & S_IFMT
        if kind not in (S_IFREG, S_IFIFO, S_IFSOCK):
            raise OSError(EPERM, "no device nodes")
        os.mknod(name, kind | mode & 0o777, 0, dir_fd=self._table.fd(parent))
        return self._made(parent, name, kind, mode & 0o7777, uid, gid)

    def _link(self, handle: int, size: int) -> Result:
        parent = self._writable_dir(handle)
        (target_handle,) = self._args(p.HANDLE, size, exact=False)
        name = self._name(p.HEAD + p.HANDLE.size, size)
        target = self._table.get(target_handle)
        if target.export is not parent.export:
            raise OSError(EXDEV, "another export")
        if target.kind == S_IFDIR:
            raise OSError(EPERM, "a directory")
        into = self._table.fd(parent)
        os.link(self._proc(target), name, src_dir_fd=self._self_fd, dst_dir_fd=into, follow_symlinks=True)
        return 0, self._fresh_attributes(target), -1

    # --- removing and renaming ---

    def _unlink(self, handle: int, size: int) -> Result:
        parent = self._writable_dir(handle)
        name = self._name(p.HEAD, size)
        node = self._table.at(parent, name)
        if node is not None:
            self._table.detach(node)
        os.unlink(name, dir_fd=self._table.fd(parent))
        if node is not None:
            self._table.unnamed(node, parent, name)
        return 0, b"", -1

    def _rmdir(self, handle: int, size: int) -> Result:
        parent = self._writable_dir(handle)
        name = self._name(p.HEAD, size)
        node = self._table.at(parent, name)
        if node is not None:
            self._table.detach(node)
        os.rmdir(name, dir_fd=self._table.fd(parent))
        if node is not None:
            self._table.unnamed(node, parent, name)
        return 0, b"", -1

    def _rename(self, handle: int, size: int) -> Result:
        olddir = self._writable_dir(handle)
        new_handle, flags, length = self._args(p.RENAME_ARGS, size, exact=False)
        newdir = self._writable_dir(new_handle)
        start = p.HEAD + p.RENAME_ARGS.size
        if start + length > size:
            raise ProtocolError
        old = self._name(start, start + length)
        new = self._name(start + length, size)
        if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
            raise OSError(EINVAL, "flags")
        if newdir.export is not olddir.export:
            raise OSError(EXDEV, "another export")
        table = self._table
        moved = table.at(olddir, old)
        replaced = table.at(newdir, new)
        if replaced is not None:
            table.detach(replaced)
        host.renameat2(table.fd(olddir), old, table.fd(newdir), new, flags)
        if replaced is moved:
            return 0, b"", -1  # two links to one inode: rename(2) leaves both
        if replaced is not None:
            if flags & RENAME_EXCHANGE:
                table.renamed(replaced, newdir, new, olddir, old)
            else:
                table.unnamed(replaced, newdir, new)
        if moved is not None:
            table.renamed(moved, olddir, old, newdir, new)
        return 0, b"", -1

    # --- attributes ---

    def _setattr(self, handle: int, size: int) -> Result:
        node = self._writable(handle)
        valid, mode, uid, gid, length, atime, mtime = self._args(p.SETATTR_ARGS, size)
        if valid >= p.SET_MTIME_NOW << 1:
            raise ProtocolError
        if valid & p.SET_MODE and node.kind == S_IFLNK:
            raise OSError(ENOTSUP, "a symlink's mode")
        if valid & p.SET_SIZE:
            if length >= 1 << 63:
                raise OSError(EINVAL, "size")
            fd = self._reopen(node, os.O_WRONLY)
            try:
                os.ftruncate(fd, length)
            finally:
                os.close(fd)
        if valid & p.SET_UID:
            uid = self._uids.outside(uid)
        if valid & p.SET_GID:
            gid = self._gids.outside(gid)
        host.setattr(
            self._self_fd, self._table.fd(node), valid & ~p.SET_SIZE, mode, uid, gid,
            _timespec(valid & p.SET_ATIME, valid & p.SET_ATIME_NOW, atime),
            _timespec(valid & p.SET_MTIME, valid & p.SET_MTIME_NOW, mtime),
        )  # fmt: skip
        return 0, self._fresh_attributes(node), -1

    # Only `user.` attributes are the guest's to change. `security.capability` may be read: exec asks for it.

    def _getxattr(self, handle: int, size: int) -> Result:
        node = self._table.get(handle)
        name = self._name(p.HEAD, size)
        if not name.startswith(b"user.") and name != b"security.capability":
            raise OSError(ENOTSUP, "namespace")
        return 0, os.getxattr(self._proc(node), name), -1

    def _setxattr(self, handle: int, size: int) -> Result:
        node = self._writable(handle)
        flags, length = self._args(p.XATTR_ARGS, size, exact=False)
        start = p.HEAD + p.XATTR_ARGS.size
        if start + length > size:
            raise ProtocolError
        name = self._name(start, start + length)
        if not name.startswith(b"user."):
            raise OSError(ENOTSUP, "namespace")
        if flags & ~(os.XATTR_CREATE | os.XATTR_REPLACE):
            raise OSError(EINVAL, "flags")
        os.setxattr(self._proc(node), name, bytes(self._view[start + length : size]), flags)
        return 0, b"", -1

    def _listxattr(self, handle: int, size: int) -> Result:
        names = os.listxattr(self._proc(self._table.get(handle)))
        return 0, b"".join(os.fsencode(n) + b"\0" for n in names if n.startswith("user.")), -1

    def _removexattr(self, handle: int, size: int) -> Result:
        node = self._writable(handle)
        name = self._name(p.HEAD, size)
        if not name.startswith(b"user."):
            raise OSError(ENOTSUP, "namespace")
        os.removexattr(self._proc(node), name)
        return 0, b"", -1


def _describe(error: Exception) -> bytes:
    """What went wrong and where, for the sentry's log. (No traceback module: it would be one more import.)"""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    where = "" if place is None else f" at {place.tb_frame.f_code.co_name}:{place.tb_lineno}"
    return f"{type(error).__name__}: {error}{where}".encode("utf-8", "replace")[:500]


def _timespec(given: int, now: int, ns: int) -> tuple[int, int]:
    if now:
        return 0, host.UTIME_NOW
    if not given:
        return 0, host.UTIME_OMIT
    return divmod(ns, 1_000_000_000)
