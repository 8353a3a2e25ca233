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

from gofer import protocol as p
from gofer.changes import Changes
from gofer.session import Operation


class Server(Changes):
    """Every request there is."""

    def _operations(self) -> dict[int, Operation]:
        return {
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
