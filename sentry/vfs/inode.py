"""Inode and Filesystem: what a file system must implement. Every default answers as Linux's NULL operation
does.

A file system subclasses both and overrides only what it supports. Its inode methods work on names, never on
paths; the VFS (sentry/vfs/walk.py, namespace.py) has checked permissions, read-only mounts, EEXIST, ENOENT
and EISDIR before it calls them, and keeps the dentry cache true afterwards.

Two methods are shortcuts for the hot path and may always answer None ("ask the async one"):
`stat_now` (instead of getattr) and `open_now` (instead of open).
"""

from __future__ import annotations

from stat import S_IFDIR, S_IFLNK, S_IFMT
from time import time_ns
from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.errors import EACCES, EINVAL, ENODEV, ENOENT, ENOTDIR, EOPNOTSUPP, EPERM
from sentry.vfs import notify
from sentry.vfs.stat import DirEntry, SetAttr, Stat, StatFs

if TYPE_CHECKING:
    from sentry.fs.hostfile import HostBacking
    from sentry.kernel.fdtable import FdTable
    from sentry.kernel.task import Task
    from sentry.vfs.dentry import Dentry
    from sentry.vfs.file import File
    from sentry.vfs.filecaps import FileCaps
    from sentry.vfs.lock import Mutex
    from sentry.vfs.mount import Path

# Filesystem.cache_policy: how long a name looked up once may be trusted.
ALWAYS = 0  #: nobody but this kernel changes the tree: names and absences are cached
REVALIDATE = 1  #: others change it too: lookup() is asked each time; the same inode object keeps its dentry
NEVER = 2  #: made up on the fly (proc): lookup() is asked each time and the dentry is thrown away

_NODE = ffi.typeof("struct nc_node *")
_new = ffi.new

_next_dev = 0


def allocate_dev() -> int:
    """A fresh anonymous device number (major 0), as Linux gives each mounted pseudo file system."""
    global _next_dev
    _next_dev += 1
    # makedev(0, minor): the low byte of the minor sits in bits 0-7, the rest from bit 20 on.
    return (_next_dev & 0xFF) | ((_next_dev & ~0xFF) << 12)


class Filesystem:
    """A super block. `root` is its root inode; set it in the subclass's constructor."""

    name: bytes = b"none"  #: as in /proc/filesystems and the third field of /proc/mounts
    magic: int = 0  #: statfs f_type
    cache_policy: int = ALWAYS
    blksize: int = 4096
    limited: bool = False  #: writes ask Inode.reserve for room
    makes_names: bool = True  #: looking up what is not there gives a name to make something of, not ENOENT
    block_size: int = 4096  #: s_blocksize: what FIGETBSZ tells; 0: nothing
    sealable: bool = False  #: its regular files have seals (memfd_create(2))
    direct_io: bool = True  #: its regular files may be opened with O_DIRECT

    root: Inode

    def __init__(self) -> None:
        from sentry.vfs.lock import Mutex

        self.dev: int = allocate_dev()
        self.flags: int = 0  # MS_* of the super block itself (MS_RDONLY)
        self.lock: Mutex = Mutex()  # held while names in this file system change
        self.mount_count: int = 0  # Mount objects alive; release() is called when it falls to 0
        self._root_dentry: Dentry | None = None

    @property
    def read_only(self) -> bool:
        return bool(self.flags & 1)  # MS_RDONLY

    @property
    def root_dentry(self) -> Dentry:
        """The one dentry of the root inode, shared by all mounts of this file system."""
        if self._root_dentry is None:
            from sentry.vfs.dentry import Dentry

            self._root_dentry = Dentry(b"", None, self.root)
            if self.cache_policy == ALWAYS:
                self._root_dentry.make_twin()
        return self._root_dentry

    def unmounted(self) -> None:
        """The last mount is gone."""
        if notify.watching:
            notify.unmounted(self)
        dentry, self._root_dentry = self._root_dentry, None
        if dentry is not None:
            dentry.drop_tree()
        self.release()

    async def statfs(self) -> StatFs:
        """statfs(2); the default is simple_statfs."""
        return StatFs(type=self.magic, fsid=self.dev)

    def options(self) -> bytes:
        """File-system-specific options for /proc/mounts, with a leading comma each (b",size=64k")."""
        return b""

    def remount(self, flags: int, data: bytes) -> None:
        """mount(MS_REMOUNT): apply new options. The VFS itself sets MS_RDONLY in `flags`."""

    async def sync(self) -> None:
        """syncfs(2): nothing to write by default."""

    def release(self) -> None:
        """The last mount is gone and no open file is left: free what the file system holds."""


class Inode:
    """One file system object. The attributes are the cached truth unless a subclass overrides
    stat_now/getattr.
    """

    __slots__ = (
        "__weakref__",
        "atime_ns",
        "btime_ns",
        "caps",
        "caps_known",
        "ctime_ns",
        "fs",
        "gid",
        "host",
        "ino",
        "locks",
        "mode",
        "mtime_ns",
        "nlink",
        "node",
        "pipe",
        "rdev",
        "size",
        "socket",
        "uid",
        "watches",
    )

    open_file: Any  #: the class of a regular file's descriptions, a HostFile
    own_permission: bool = False  #: permission() below is to be asked

    def __init__(
        self, fs: Filesystem, ino: int, mode: int, uid: int = 0, gid: int = 0, nlink: int = 1, rdev: int = 0
    ) -> None:
        self.fs = fs
        self.ino = ino
        self.mode = mode  # type and permission bits
        self.uid = uid
        self.gid = gid
        self.nlink = nlink
        self.rdev = rdev
        self.size = 0
        self.atime_ns = self.mtime_ns = self.ctime_ns = self.btime_ns = time_ns()
        # advisory locks (flock, fcntl) of this inode; their owner keeps what it likes here
        self.locks: Any = None
        self.host: Any = None  # a regular file's HostBacking (sentry/fs/hostfile.py), while it has one
        self.socket: Any = None  # the AF_UNIX socket bound to this S_IFSOCK inode
        self.pipe: Any = None  # the Pipe behind this S_IFIFO inode while it is open
        self.watches: Any = None  # inotify watches on this inode (sentry/vfs/notify.py)
        self.node: Any = None  # what the C core knows of it (struct nc_node), once a name there leads to it
        self.caps: FileCaps | None = None  # file capabilities, as far as somebody has looked (sentry/vfs/filecaps.py)
        self.caps_known = False

    # --- what the C core knows

    def twin(self) -> Any:
        """The node of the C core's cache of names: mode and owner; more when it is told (`publish`)."""
        node = self.node
        if node is None:
            node = self.node = _new(_NODE)
            node.mode, node.uid, node.gid, node.btime_ns = self.mode, self.uid, self.gid, self.btime_ns
            node.opaque = self.own_permission
            node.unmarked = self.has_no_xattrs()
            node.leased = self.locks is not None and bool(self.locks.leases)
            if self.host is not None:
                node.inode = self.host.nc
                lib.nc_inode_set_node(self.host.nc, node)
            if self.mode & 0o170000 == S_IFLNK:
                self.publish_target()
        return node

    def publish_target(self) -> None:
        """The text of a symbolic link is known. Its bytes stay where they are as long as this inode."""
        target = self.readlink_now()
        if target is not None and self.node is not None:
            self.node.target, self.node.target_len = ffi.from_buffer(target), len(target)

    def publish(self, stat: Stat) -> None:
        """These are the attributes, until the next `touched` or `owner_changed`."""
        node = self.node
        if node is not None and node.inode == ffi.NULL:
            lib.nc_node_set(
                node, stat.dev, stat.ino, stat.nlink, stat.rdev, stat.size, stat.blksize, stat.blocks,
                stat.atime_ns, stat.mtime_ns, stat.ctime_ns,
            )  # fmt: skip

    def touched(self) -> None:
        """Size, times or links have changed: C must ask again."""
        if self.node is not None:
            self.node.fresh = 0

    def owner_changed(self) -> None:
        """Mode or owner may have changed, and the change time."""
        node = self.node
        if node is not None:
            node.fresh = 0
            node.mode, node.uid, node.gid = self.mode, self.uid, self.gid

    def set_host(self, backing: HostBacking | None) -> None:
        """The host descriptors of a regular file, by which C can tell its attributes; None: none are open."""
        self.host = backing
        if self.node is not None:
            self.node.inode = ffi.NULL if backing is None else backing.nc
            self.node.fresh = 0

    # --- attributes

    def stat_now(self) -> Stat | None:
        """The attributes if they can be had without waiting."""
        size = self.size
        return Stat(
            self.fs.dev, self.ino, self.mode, self.nlink, self.uid, self.gid, self.rdev, size,
            self.fs.blksize, (size + 511) >> 9, self.atime_ns, self.mtime_ns, self.ctime_ns, self.btime_ns,
        )  # fmt: skip

    async def getattr(self) -> Stat:
        """stat(2)."""
        stat = self.stat_now()
        assert stat is not None, "a file system whose stat_now answers None must implement getattr"
        return stat

    async def setattr(self, task: Task, attrs: SetAttr) -> None:
        """chmod(2), chown(2), truncate(2), utimensat(2); the default is simple_setattr on the kept
        attributes.
        """
        self.apply(attrs)

    def apply(self, attrs: SetAttr) -> None:
        """Set the kept attributes (not the data of a size change) and the change time."""
        now = time_ns()
        if attrs.mode is not None:
            self.mode = (self.mode & 0o170000) | (attrs.mode & 0o7777)
        if attrs.uid is not None:
            self.uid = attrs.uid
        if attrs.gid is not None:
            self.gid = attrs.gid
        if attrs.size is not None:
            self.size = attrs.size
            self.mtime_ns = now
        if attrs.atime_ns is not None:
            self.atime_ns = attrs.atime_ns
        if attrs.mtime_ns is not None:
            self.mtime_ns = attrs.mtime_ns
        self.ctime_ns = now
        self.owner_changed()

    def changed(self) -> None:
        """Attributes have changed: for those who keep copies of them elsewhere."""

    def open_counts(self) -> tuple[int, int]:
        """Open descriptions of a regular file: (those that only read, those that may write)."""
        host = self.host
        return (0, 0) if host is None else (host.readers(), host.writers())

    def permission(self, task: Task, mask: int) -> bool | None:
        """A file system's own answer to "may `task` do MAY_* `mask`?"; None: the mode bits decide
        (perm.py).
        """
        return None

    # --- names in a directory

    async def lookup(self, name: bytes) -> Inode:
        """The inode of `name`, ENOENT if there is none. Return the same object as long as it is the
        same file.
        """
        raise ENOENT if S_IFMT(self.mode) == S_IFDIR else ENOTDIR

    def lookup_now(self, name: bytes) -> Inode | None:
        """What lookup() gives if that needs no waiting, None for an absent name; else ASK."""
        return ASK

    async def walk(self, names: list[bytes], opening: bool) -> list[Inode | None]:
        """Look-ups at one go, where that is cheaper: of the first name here, of each next one in the one before. None
        for an absent one; fewer answers than names where a look-up must say why. `opening`: the last one, if it is a
        regular file, is wanted for reading.
        """
        return []

    def holds_nothing(self) -> bool:
        """Surely no name is in this directory."""
        return False

    async def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        """A new regular file. `mode` is S_IFREG with the permissions, umask already applied."""
        raise EACCES("this directory has no create operation")

    async def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        """A new fifo, socket or device node."""
        raise EPERM

    async def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        """A new directory; `mode` is S_IFDIR with the permissions."""
        raise EPERM

    async def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        """A new symbolic link."""
        raise EPERM

    async def tmpfile(self, mode: int, uid: int, gid: int) -> Inode:
        """open(O_TMPFILE): a regular file without a name (nlink 0) in this directory's file system."""
        raise EOPNOTSUPP

    async def link(self, name: bytes, inode: Inode) -> None:
        """One more name for `inode`, which is of this file system and no directory."""
        raise EPERM

    async def unlink(self, name: bytes, inode: Inode) -> None:
        """Remove `name`, which is `inode` and no directory."""
        raise EPERM

    async def rmdir(self, name: bytes, inode: Inode) -> None:
        """Remove the directory `name`; ENOTEMPTY if it has entries."""
        raise EPERM

    async def rename(
        self, old: bytes, inode: Inode, newdir: Inode, new: bytes, target: Inode | None, flags: int
    ) -> None:
        """rename(2) of `old` (which is `inode`) here to `new` in `newdir`, replacing `target`.

        `flags`: RENAME_NOREPLACE (already checked), RENAME_EXCHANGE (swap with `target`), RENAME_WHITEOUT.
        ENOTEMPTY if `target` is a directory with entries; types have been checked (EISDIR, ENOTDIR).
        """
        raise EPERM

    # --- content

    async def readlink(self) -> bytes:
        """The text of a symbolic link."""
        raise EINVAL

    def readlink_now(self) -> bytes | None:
        """The text of a symbolic link if it can be had without waiting."""
        return None

    def readlink_for(self, task: Task) -> bytes | None:
        """As readlink_now, for links that read differently by who asks (proc's self, fd/N)."""
        return self.readlink_now()

    def magic_link(self, task: Task) -> Path | None:
        """proc's fd/N, exe, cwd, root: where following this link jumps to; None: it is an ordinary link."""
        return None

    async def open(self, task: Task, path: Path, flags: int) -> File:
        """An open file description. Permission is checked, O_CREAT and O_EXCL done; O_TRUNC follows as
        setattr.
        """
        from sentry.vfs.special import open_special

        return await open_special(task, self, path, flags)

    async def host_backing(self, task: Task, write: bool) -> HostBacking:
        """A regular file's host descriptors: one to read by, and one to write by if `write`.

        For those who put another inode over this one (overlay) and make the description themselves.
        """
        raise ENODEV

    def flushed(self, fds: FdTable) -> None:
        """A table that minds has closed a descriptor of this inode, or all its descriptors (fcntl(2), mq_notify(3))."""
        if self.locks is not None:
            from sentry.fs.locks import drop_owner

            drop_owner(self, fds)

    def noexec_fd(self, write: bool) -> int:
        """A host descriptor, the caller's to close, for a mapping that may not become executable. -1: the one of
        File.mapping() is all there is (the gofer's are noexec by themselves where their mount is)."""
        return -1

    def reserve(self, start: int, size: int) -> int:
        """How many of `size` bytes may be written at `start`; ENOSPC if none, though some were asked for."""
        return size

    def open_now(self, task: Task, path: Path, flags: int) -> File | None:
        """Like open(), if it needs no waiting."""
        return None

    async def readdir(self) -> list[DirEntry]:
        """All entries but . and .. (the directory's File adds those)."""
        raise ENOTDIR

    # --- extended attributes

    async def getxattr(self, task: Task, name: bytes) -> bytes:
        """The value; ENODATA if there is none."""
        raise EOPNOTSUPP

    async def setxattr(self, task: Task, name: bytes, value: bytes, flags: int) -> None:
        """`flags`: XATTR_CREATE (EEXIST) or XATTR_REPLACE (ENODATA)."""
        raise EOPNOTSUPP

    def has_no_xattrs(self) -> bool:
        """It surely has no extended attributes that a guest can see; C is told when that changes."""
        return False

    async def listxattr(self, task: Task) -> list[bytes]:
        """The names; an empty list where the file system has none."""
        return []

    async def removexattr(self, task: Task, name: bytes) -> None:
        """ENODATA if there is none."""
        raise EOPNOTSUPP

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.fs.name.decode()}:{self.ino} {self.mode:o}>"


#: lookup_now's "ask lookup()"
ASK: Inode = Inode.__new__(Inode)
