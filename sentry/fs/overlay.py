"""overlay: a tree that can be written over one that is only read; what is written stays in memory.

Unlike Linux's overlayfs there are no two complete layers. The overlay is a tmpfs whose inodes may still
have their content in the lower tree:

* a directory with `lower` shows the lower directory's entries but for the names in `covered` (removed, or
replaced by an entry of its own): whiteouts are names in a set; * a file with `lower` reads the lower file;
opening it for writing or changing its size copies the data up; * a changed mode, owner, time or extended
attribute is kept here without copying any data.

A lower inode's overlay inode is made at look-up. One that was changed must outlive the dentry cache:
`Overlay.pin` enters it into its parent's entries, up to the root. Renames move the inode, so directories
of the lower tree can be renamed like any other (Linux: redirect_dir=on), and hard links of the lower tree
stay hard links (index=on). The lower file system must not change (cache policy ALWAYS).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from native import ffi
from sentry.abi.linux import (
    MS_NOEXEC,
    O_ACCMODE,
    O_RDONLY,
    OVERLAYFS_SUPER_MAGIC,
    RENAME_WHITEOUT,
    S_IFCHR,
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
)
from sentry.errors import EINVAL, ENODATA, ENOENT, EOPNOTSUPP, EPERM
from sentry.fs.hostfile import LIVE, HostFile
from sentry.fs.regular import KeptXattrs
from sentry.fs.store import Store
from sentry.fs.tmpfs import Tmpfs, TmpfsDirectory, TmpfsFile, TmpfsNode, TmpfsSymlink
from sentry.vfs.inode import ASK, Inode
from sentry.vfs.stat import DirEntry, SetAttr, Stat

if TYPE_CHECKING:
    from sentry.fs.hostfile import HostBacking
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Filesystem
    from sentry.vfs.mount import Path

#: inodes made here are numbered from here on; those of the lower tree keep their number
FIRST_OWN_INO = 1 << 40


class _Origin:
    """Where an overlay inode comes from. `parent` None: it is pinned."""

    __slots__ = ("lower", "name", "parent", "shared")

    def __init__(self, lower: Inode, parent: OverlayDirectory | None, name: bytes) -> None:
        self.lower = lower
        self.parent = parent
        self.name = name
        self.shared = lower.nlink > 1 and lower.mode & S_IFMT != S_IFDIR  # hard links lead to it


class Overlay(Tmpfs):
    """An overlay over `lower`, of which the limits count only what is written."""

    name = b"overlay"
    magic = OVERLAYFS_SUPER_MAGIC
    sealable = False
    block_size = 0
    root: OverlayDirectory

    def __init__(
        self, lower: Filesystem, store: Store, max_bytes: int | None = None, max_inodes: int | None = None
    ) -> None:
        self.lower = lower
        self._origins: WeakKeyDictionary[Inode, _Origin] = WeakKeyDictionary()
        self._wrapped: WeakValueDictionary[Inode, Inode] = WeakValueDictionary()
        self._kept: set[Inode] = set()  # changed inodes that several names of the lower tree lead to
        super().__init__(store, max_bytes, max_inodes)
        self.inodes, self._last_ino = 0, FIRST_OWN_INO
        lower_root = lower.root
        self.root = OverlayDirectory(
            self, lower_root.mode, lower_root.uid, lower_root.gid, lower_root.ino, lower_root
        )
        _copy_attributes(self.root, lower_root, lower_root.stat_now())
        self._origins[self.root] = _Origin(lower_root, None, b"")
        lower.mount_count += 1

    # --- inodes

    async def wrap(self, lower: Inode, parent: OverlayDirectory, name: bytes) -> Inode:
        """The overlay inode of `lower`, found as `name` in `parent`."""
        known = self._wrapped.get(lower)
        if known is not None:
            return known
        stat = lower.stat_now()
        if stat is None:
            stat = await lower.getattr()
        inode = await self._make(lower, stat)
        known = self._wrapped.get(lower)
        if known is not None:  # made while we waited
            return known
        _copy_attributes(inode, lower, stat)
        self._wrapped[lower] = inode
        self._origins[inode] = _Origin(lower, parent, name)
        return inode

    async def _make(self, lower: Inode, stat: Stat) -> Inode:
        kind = stat.mode & S_IFMT
        if kind == S_IFDIR:
            return OverlayDirectory(self, stat.mode, stat.uid, stat.gid, stat.ino, lower)
        if kind == S_IFREG:
            return OverlayFile(self, stat.mode, stat.uid, stat.gid, stat.ino, lower, stat.blocks)
        if kind == S_IFLNK:
            return OverlaySymlink(self, await lower.readlink(), stat.uid, stat.gid, stat.ino)
        return OverlayNode(self, stat.mode, stat.uid, stat.gid, stat.rdev, stat.ino)

    def pin(self, inode: Inode) -> None:
        """`inode` differs from its lower one now: keep it as long as it has a name."""
        if not inode.nlink:
            self._kept.discard(inode)
            return
        origin = self._origins.get(inode)
        if origin is None:
            return
        if origin.shared:
            self._kept.add(inode)
            return
        parent, origin.parent = origin.parent, None
        if parent is not None:
            parent.entries[origin.name] = inode
            parent.covered.add(origin.name)
            self.pin(parent)

    def named(self, inode: Inode) -> None:
        """`inode` is in some directory's entries now."""
        origin = self._origins.get(inode)
        if origin is not None:
            origin.parent = None

    def forget_lower(self, inode: Inode) -> None:
        """The data of a pinned file was copied up."""
        origin = self._origins.get(inode)
        if origin is not None and not origin.shared:
            del self._origins[inode]
            self._wrapped.pop(origin.lower, None)

    def lower_of(self, inode: Inode) -> Inode | None:
        origin = self._origins.get(inode)
        return None if origin is None else origin.lower

    def uncharge(self, inode: Inode) -> None:
        if inode.ino >= FIRST_OWN_INO:
            self.inodes -= 1

    def new_file(self, mode: int, uid: int, gid: int) -> OverlayFile:
        return OverlayFile(self, mode, uid, gid)

    def new_directory(self, mode: int, uid: int, gid: int) -> OverlayDirectory:
        return OverlayDirectory(self, mode, uid, gid)

    def new_node(self, mode: int, uid: int, gid: int, rdev: int) -> OverlayNode:
        return OverlayNode(self, mode, uid, gid, rdev)

    def new_symlink(self, target: bytes, uid: int, gid: int) -> OverlaySymlink:
        return OverlaySymlink(self, target, uid, gid)

    def options(self) -> bytes:
        return b",lowerdir=/,upperdir=memory"

    def release(self) -> None:
        super().release()
        self._kept.clear()
        lower = self.lower
        lower.mount_count -= 1
        if not lower.mount_count:
            lower.release()


def _copy_attributes(inode: Inode, lower: Inode, stat: Stat | None) -> None:
    """What the lower inode has beyond mode and owner."""
    if stat is None:
        inode.nlink, inode.size = lower.nlink, lower.size
        inode.atime_ns, inode.mtime_ns, inode.ctime_ns = lower.atime_ns, lower.mtime_ns, lower.ctime_ns
        inode.btime_ns = lower.btime_ns
    else:
        inode.nlink, inode.size = stat.nlink, stat.size
        inode.atime_ns, inode.mtime_ns, inode.ctime_ns = stat.atime_ns, stat.mtime_ns, stat.ctime_ns
        inode.btime_ns = stat.btime_ns


# --- extended attributes: the lower ones until the first change copies them


async def _load_xattrs(inode: KeptXattrs, fs: Overlay, task: Task) -> None:
    if inode.xattrs is not None:
        return
    inode.xattrs = {}
    lower = fs.lower_of(inode)
    if lower is not None:
        try:
            for name in await lower.listxattr(task):
                inode.xattrs[name] = await lower.getxattr(task, name)
        except (EOPNOTSUPP, ENODATA):
            pass
    inode.mark()


def _has_no_xattrs(inode: KeptXattrs, fs: Overlay) -> bool:
    return not inode.xattrs if inode.xattrs is not None else fs.lower_of(inode) is None


class OverlayNode(TmpfsNode):
    """A fifo, socket or device node."""

    __slots__ = ()
    fs: Overlay

    def changed(self) -> None:
        super().changed()
        self.fs.pin(self)

    def has_no_xattrs(self) -> bool:
        return _has_no_xattrs(self, self.fs)

    async def load_xattrs(self, task: Task) -> None:
        await _load_xattrs(self, self.fs, task)


class OverlaySymlink(TmpfsSymlink):
    """A symbolic link; its text was read at look-up."""

    __slots__ = ()
    fs: Overlay

    def changed(self) -> None:
        super().changed()
        self.fs.pin(self)

    def has_no_xattrs(self) -> bool:
        return _has_no_xattrs(self, self.fs)

    async def load_xattrs(self, task: Task) -> None:
        await _load_xattrs(self, self.fs, task)


class OverlayFile(TmpfsFile):
    """A regular file; while it has `lower`, its data is there."""

    __slots__ = ("lower", "lower_blocks")
    fs: Overlay

    def __init__(
        self,
        fs: Overlay,
        mode: int,
        uid: int,
        gid: int,
        ino: int = 0,
        lower: Inode | None = None,
        blocks: int = 0,
    ) -> None:
        self.lower = lower
        self.lower_blocks = blocks
        super().__init__(fs, mode, uid, gid, ino)

    def twin(self) -> Any:
        made = self.node is None
        node = super().twin()
        if made and self.lower is not None:
            node.below = self.lower.twin()
        return node

    def changed(self) -> None:
        super().changed()
        self.fs.pin(self)
        if self.lower is not None and self.lower.host is not None:
            self.lower.host.publish(self, 0)  # C's fstat(2) of those who have it open: ask Python

    def has_no_xattrs(self) -> bool:
        return _has_no_xattrs(self, self.fs)

    async def load_xattrs(self, task: Task) -> None:
        await _load_xattrs(self, self.fs, task)

    def stat_now(self) -> Stat:
        if self.lower is None:
            return super().stat_now()
        return Stat(
            self.fs.dev, self.ino, self.mode, self.nlink, self.uid, self.gid, 0, self.size, self.fs.blksize,
            self.lower_blocks, self.atime_ns, self.mtime_ns, self.ctime_ns, self.btime_ns,
        )  # fmt: skip

    def open_counts(self) -> tuple[int, int]:
        return super().open_counts() if self.lower is None else self.lower.open_counts()

    async def setattr(self, task: Task, attrs: SetAttr) -> None:
        if attrs.size is not None:
            await self.copy_up(task, attrs.size)
        if self.lower is None:
            await super().setattr(task, attrs)
        else:
            self.apply(attrs)
            self.changed()

    async def copy_up(self, task: Task, keep: int | None = None) -> None:
        """Take the data over, the first `keep` bytes of it."""
        lower = self.lower
        if lower is None:
            return
        await self.load_xattrs(task)
        size = self.size if keep is None else min(keep, self.size)
        host = await lower.host_backing(task, False) if size else None
        if self.lower is None:
            return  # another task did it meanwhile
        self.fs.room_for(self, size)
        if host is not None:
            self.fill_from(host.any_fd(), size)
        elif self.host is None:
            self.backing(False, True)
        self.lower = None
        if self.node is not None:
            self.node.below = ffi.NULL
        self._set_times(self.atime_ns, self.mtime_ns)
        self.changed()
        self.fs.forget_lower(self)

    def open_now(self, task: Task, path: Path, flags: int) -> File | None:
        if self.lower is None:
            return super().open_now(task, path, flags)
        if flags & O_ACCMODE == O_RDONLY:
            host = self.lower.host
            if host is not None and host.host_fds()[0] >= 0:
                return self._open_lower(path, flags, host)
        return None

    async def open(self, task: Task, path: Path, flags: int) -> File:
        if self.lower is not None and flags & O_ACCMODE == O_RDONLY:
            host = await self.lower.host_backing(task, False)
            if self.lower is not None:
                return self._open_lower(path, flags, host)
        await self.copy_up(task)
        return await super().open(task, path, flags)

    def _open_lower(self, path: Path, flags: int, host: HostBacking) -> File:
        times = host.host_stat()
        live = LIVE if times[3] == self.mtime_ns and times[4] == self.ctime_ns else 0
        host.publish(self, live)
        return HostFile(self, path, flags, host, bool(path.mount.flags & MS_NOEXEC))

    async def host_backing(self, task: Task, write: bool) -> HostBacking:
        if self.lower is not None:
            if not write:
                return await self.lower.host_backing(task, False)
            await self.copy_up(task)
        return self.backing(True, write)


class OverlayDirectory(TmpfsDirectory):
    """A directory; while it has `lower`, that one's entries show unless their names are `covered`."""

    __slots__ = ("covered", "lower")
    fs: Overlay

    def __init__(
        self, fs: Overlay, mode: int, uid: int, gid: int, ino: int = 0, lower: Inode | None = None
    ) -> None:
        super().__init__(fs, mode, uid, gid, ino)
        self.lower = lower
        self.covered: set[bytes] = set()

    def changed(self) -> None:
        super().changed()
        self.fs.pin(self)

    def has_no_xattrs(self) -> bool:
        return _has_no_xattrs(self, self.fs)

    async def load_xattrs(self, task: Task) -> None:
        await _load_xattrs(self, self.fs, task)

    async def walk(self, names: list[bytes], opening: bool) -> list[Inode | None]:
        if self.lower is None:
            return []
        found: list[Inode | None] = []
        directory: Inode = self
        for name, lower in zip(names, await self.lower.walk(names, opening), strict=False):
            if not isinstance(directory, OverlayDirectory) or directory.lookup_now(name) is not ASK:
                break
            if lower is None:
                found.append(None)
                break
            directory = await self.fs.wrap(lower, directory, name)
            found.append(directory)
        return found

    def lookup_now(self, name: bytes) -> Inode | None:
        inode = self.entries.get(name)
        return ASK if inode is None and self.lower is not None and name not in self.covered else inode

    async def lookup(self, name: bytes) -> Inode:
        inode = self.entries.get(name)
        if inode is not None:
            return inode
        if self.lower is None or name in self.covered:
            raise ENOENT
        inode = await self.fs.wrap(await self.lower.lookup(name), self, name)
        return self.entries.get(name, inode)

    async def readdir(self) -> list[DirEntry]:
        entries = await super().readdir()
        if self.lower is not None:
            hidden = self.covered
            own = self.entries
            for entry in await self.lower.readdir():
                if entry.name not in hidden and entry.name not in own:
                    entries.append(entry)
        return entries

    def holds_nothing(self) -> bool:
        return self.lower is None and not self.entries

    async def is_empty(self) -> bool:
        return not self.entries and not await self.readdir()

    async def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        if mode & S_IFMT == S_IFCHR and rdev == 0:
            raise EPERM("a whiteout device")
        return await super().mknod(name, mode, rdev, uid, gid)

    async def rename(
        self, old: bytes, inode: Inode, newdir: Inode, new: bytes, target: Inode | None, flags: int
    ) -> None:
        if flags & RENAME_WHITEOUT:
            raise EINVAL
        await super().rename(old, inode, newdir, new, target, flags)

    async def link(self, name: bytes, inode: Inode) -> None:
        self.fs.pin(inode)
        await super().link(name, inode)

    def _add(self, name: bytes, inode: Inode) -> Inode:
        self.fs.named(inode)
        self.fs.pin(self)
        return super()._add(name, inode)

    def _take(self, name: bytes, inode: Inode) -> None:
        if self.entries.pop(name, None) is None:
            self.covered.add(name)
        self.fs.pin(self)
        self._took(inode)
