"""Requests that change the tree: making, removing, renaming, attributes. None touches a read-only export."""

import os
from errno import EINVAL, EIO, ENAMETOOLONG, ENOTSUP, EPERM, EXDEV

from gofer import hostcalls as host
from gofer import protocol as p
from gofer.looks import S_IFSOCK, Looks
from gofer.nodes import PATH_FLAGS, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG, Node
from gofer.session import OWNER, OWNER_AT, ProtocolError, Result

S_IFIFO = 0o010000
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2


class Changes(Looks):
    # --- making ---

    def _chown(self, proc: bytes, uid: int, gid: int) -> None:
        """By the name of a descriptor beneath self_fd, whose statx is in stat_buffer."""
        try:
            uid, gid = self._uids.outside(uid), self._gids.outside(gid)
            if OWNER.unpack_from(host.stat_buffer, OWNER_AT) != (uid, gid):
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


def _timespec(given: int, now: int, ns: int) -> tuple[int, int]:
    if now:
        return 0, host.UTIME_NOW
    if not given:
        return 0, host.UTIME_OMIT
    return divmod(ns, 1_000_000_000)
