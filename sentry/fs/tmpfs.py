"""tmpfs(5): a file system in memory. Names and attributes are Python objects, data is in host files
(store.py).

Every regular file's data is a host file, so the C core reads and writes it and guests can map it.
"""

from __future__ import annotations

from collections.abc import Callable
from stat import S_ISDIR
from time import time_ns
from typing import TYPE_CHECKING
from weakref import WeakSet

from sentry.abi.linux import (
    RAMFS_MAGIC,
    RENAME_EXCHANGE,
    RENAME_WHITEOUT,
    S_IFCHR,
    S_IFDIR,
    S_IFLNK,
    TMPFS_MAGIC,
)
from sentry.errors import EINVAL, ENOENT, ENOSPC, ENOTEMPTY
from sentry.fs.regular import KeptXattrs, StoredFile
from sentry.fs.store import Store
from sentry.vfs.inode import Filesystem, Inode
from sentry.vfs.stat import DirEntry, StatFs

if TYPE_CHECKING:
    from sentry.fs.hostfile import HostBacking

PAGE = 4096
_ADVANCE = 1 << 18  # bytes that C may write at most beyond what was asked for under a size limit
_FEW_INODES = 1024
_DIRENT_SIZE = 20  # what a name adds to a directory's st_size (mm/shmem.c BOGO_DIRENT_SIZE)


class Tmpfs(Filesystem):
    """One tmpfs instance. `max_bytes` and `max_inodes` None: unlimited (but for the host's memory)."""

    name = b"tmpfs"
    magic = TMPFS_MAGIC
    sealable = True

    def __init__(
        self,
        store: Store,
        max_bytes: int | None = None,
        max_inodes: int | None = None,
        mode: int = 0o1777,
        uid: int = 0,
        gid: int = 0,
    ) -> None:
        super().__init__()
        self.store = store
        self.max_bytes = max_bytes
        self.limited = max_bytes is not None
        self.charged = 0  # at least what all files hold, when there is a limit: the sum of their `charged`
        self.orphans: WeakSet[TmpfsFile] = WeakSet()  # files without a name that may be open still
        self.max_inodes = max_inodes
        self.told: dict[bytes, int] = {}  # limits as they were asked for, 0 being none
        self.inodes = 0
        self._last_ino = 0
        self._most_inodes = 0
        self.root: Inode = self.new_directory(S_IFDIR | (mode & 0o7777), uid, gid)

    @classmethod
    def from_options(cls, store: Store, options: bytes, ram_bytes: int = 0) -> Tmpfs:
        """A tmpfs as ``mount -t tmpfs -o size=64k,mode=1777`` asks for; EINVAL for what tmpfs(5) does
        not know.
        """
        fs = cls(store)
        fs.remount(0, options)
        for key, value in parse_options(options):
            if key == b"mode":
                fs.root.mode = S_IFDIR | (_number(value, 8) & 0o7777)
            elif key == b"uid":
                fs.root.uid = _number(value)
            elif key == b"gid":
                fs.root.gid = _number(value)
        return fs

    def remount(self, flags: int, data: bytes) -> None:
        """Apply size=, nr_blocks= and nr_inodes=; a limit below what is in use is EINVAL."""
        told: dict[bytes, int] = {}
        for key, value in parse_options(data):
            if key == b"size":
                told[b"size"] = _size(value)
            elif key == b"nr_blocks":
                told[b"size"] = _number(value, suffixes=True) * PAGE
            elif key == b"nr_inodes":
                told[b"nr_inodes"] = _number(value, suffixes=True)
            elif key not in _OTHER_OPTIONS:
                raise EINVAL(f"tmpfs option {key!r}")
        max_bytes = told.get(b"size", self.max_bytes) or None
        max_inodes = told.get(b"nr_inodes", self.max_inodes) or None
        if max_inodes is not None and max_inodes < self.inodes:
            raise EINVAL("fewer inodes than in use")
        if max_bytes is not None and max_bytes < self.used_bytes():
            raise EINVAL("smaller than what is in use")
        self.max_bytes, self.max_inodes = max_bytes, max_inodes
        self.told.update(told)
        self.limited = max_bytes is not None

    def next_ino(self) -> int:
        """A number for a new inode, which is charged; ENOSPC when all are in use."""
        if self.inodes >= self.inode_limit():
            raise ENOSPC("out of inodes")
        self.inodes += 1
        self._last_ino += 1
        return self._last_ino

    def inode_limit(self) -> int:
        """nr_inodes=, or one for each page of the store, as Linux has one for each page of low memory."""
        if self.max_inodes is not None:
            return self.max_inodes
        if not self._most_inodes:
            self._most_inodes = max(self.store.space()[0] // PAGE, _FEW_INODES)
        return self._most_inodes

    def uncharge(self, inode: Inode) -> None:
        """An inode died."""
        self.inodes -= 1

    # The classes of new inodes: overlay has its own.

    def new_file(self, mode: int, uid: int, gid: int) -> StoredFile:
        return TmpfsFile(self, mode, uid, gid)

    def new_directory(self, mode: int, uid: int, gid: int) -> TmpfsDirectory:
        return TmpfsDirectory(self, mode, uid, gid)

    def new_node(self, mode: int, uid: int, gid: int, rdev: int) -> KeptXattrs:
        return TmpfsNode(self, mode, uid, gid, rdev)

    def new_symlink(self, target: bytes, uid: int, gid: int) -> KeptXattrs:
        return TmpfsSymlink(self, target, uid, gid)

    def used_bytes(self) -> int:
        """What all files hold, in whole pages; they are charged no more than they must be."""
        seen: set[int] = set()
        used = 0
        todo: list[Inode] = [self.root, *self.orphans]
        while todo:
            inode = todo.pop()
            if inode.ino in seen:
                continue
            seen.add(inode.ino)
            if isinstance(inode, TmpfsDirectory):
                todo += inode.entries.values()
            elif isinstance(inode, TmpfsFile):
                used += inode.recount()
        self.charged = used
        return used

    def charge(self, file: TmpfsFile, size: int, force: bool = False) -> bool:
        """Let `file` hold `size` bytes; False if they are not surely below the limit. Files are charged in advance and
        counted only when that does not fit, so that a write costs the same however many there are.
        """
        assert self.max_bytes is not None
        more = _pages(size) - file.charged
        if more > 0:
            if self.charged + more > self.max_bytes and not force:
                return False
            file.charged += more
            self.charged += more
        return True

    def room_for(self, file: TmpfsFile, size: int) -> None:
        """ENOSPC unless `file`, which holds nothing, may hold `size` bytes."""
        if self.max_bytes is not None and not self.charge(file, size):
            if self.used_bytes() + size > self.max_bytes:
                raise ENOSPC
            self.charge(file, size, force=True)

    async def statfs(self) -> StatFs:
        if self.max_bytes is None:
            total, free = self.store.space()
        else:
            total = self.max_bytes
            free = max(0, total - self.used_bytes())
        files = self.max_inodes or total // PAGE
        return StatFs(
            type=self.magic,
            blocks=total // PAGE,
            bfree=free // PAGE,
            bavail=free // PAGE,
            files=files,
            ffree=max(0, files - self.inodes),
            fsid=self.dev,
        )

    def options(self) -> bytes:
        text = b""
        size = self.told.get(b"size", self.max_bytes)
        inodes = self.told.get(b"nr_inodes", self.max_inodes)
        if size is not None:
            text += b",size=%dk" % (size // 1024)
        if inodes is not None:
            text += b",nr_inodes=%d" % inodes
        root = self.root
        if root.mode & 0o7777 != 0o1777:
            text += b",mode=%o" % (root.mode & 0o7777)
        if root.uid:
            text += b",uid=%d" % root.uid
        if root.gid:
            text += b",gid=%d" % root.gid
        return text

    def release(self) -> None:
        root = self.root
        if isinstance(root, TmpfsDirectory):
            root.drop_tree()


class Ramfs(Tmpfs):
    """ramfs: a tmpfs that knows no limits, and ignores what it does not know."""

    name = b"ramfs"
    magic = RAMFS_MAGIC
    sealable = False

    @classmethod
    def from_options(cls, store: Store, options: bytes, ram_bytes: int = 0) -> Ramfs:
        fs = cls(store, mode=0o755)
        for key, value in parse_options(options):
            if key == b"mode":
                fs.root.mode = S_IFDIR | (_number(value, 8) & 0o7777)
        return fs

    def remount(self, flags: int, data: bytes) -> None:
        """Nothing can be changed."""

    def options(self) -> bytes:
        mode = self.root.mode & 0o7777
        return b"" if mode == 0o755 else b",mode=%o" % mode


_OTHER_OPTIONS = frozenset(
    (b"mode", b"uid", b"gid", b"huge", b"mpol", b"inode64", b"inode32", b"noswap", b"usrquota", b"grpquota")
)


def parse_options(options: bytes) -> list[tuple[bytes, bytes]]:
    """``a=1,b`` as pairs."""
    pairs = []
    for item in options.split(b","):
        if item:
            key, _, value = item.partition(b"=")
            pairs.append((key, value))
    return pairs


def _pages(size: int) -> int:
    return (size + PAGE - 1) // PAGE * PAGE


def _number(text: bytes, base: int = 10, suffixes: bool = False) -> int:
    factor = 1
    if suffixes and text[-1:].lower() in (b"k", b"m", b"g"):
        factor = 1 << {b"k": 10, b"m": 20, b"g": 30}[text[-1:].lower()]
        text = text[:-1]
    try:
        value = int(text, base)
    except ValueError:
        raise EINVAL(f"not a number: {text!r}")
    if value < 0:
        raise EINVAL
    return value * factor


def _size(text: bytes) -> int:
    """tmpfs's size=: bytes with k, m, g, or a percentage of memory; rounded up to pages."""
    if text.endswith(b"%"):
        import os

        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        size = memory * _number(text[:-1]) // 100
    else:
        size = _number(text, suffixes=True)
    return _pages(size)


def _uncharge(inode: Inode) -> None:
    """An inode died; one that never got a number (ENOSPC) was not charged."""
    fs = getattr(inode, "fs", None)
    if isinstance(fs, Tmpfs):
        fs.uncharge(inode)


class TmpfsNode(KeptXattrs):
    """A fifo, socket or device node, and what all tmpfs inodes but regular files share."""

    __slots__ = ()
    fs: Tmpfs

    def __init__(self, fs: Tmpfs, mode: int, uid: int, gid: int, rdev: int = 0, ino: int = 0) -> None:
        super().__init__(fs, ino or fs.next_ino(), mode, uid, gid, rdev=rdev)

    def __del__(self) -> None:
        _uncharge(self)


class TmpfsSymlink(TmpfsNode):
    __slots__ = ("target",)

    def __init__(self, fs: Tmpfs, target: bytes, uid: int, gid: int, ino: int = 0) -> None:
        super().__init__(fs, S_IFLNK | 0o777, uid, gid, ino=ino)
        self.target = target
        self.size = len(target)

    def readlink_now(self) -> bytes:
        return self.target

    async def readlink(self) -> bytes:
        return self.target


class TmpfsFile(StoredFile):
    """A regular file; its data is in the store.

    `charged` is what it counts against a size limit: all its data lies before that offset, unless it is `sparse`; then
    it is what the file holds, and each write is counted.
    """

    __slots__ = ("charged", "sparse")
    fs: Tmpfs

    def __init__(self, fs: Tmpfs, mode: int, uid: int, gid: int, ino: int = 0) -> None:
        self.charged = 0
        self.sparse = False
        super().__init__(fs, ino or fs.next_ino(), mode, uid, gid, fs.store)

    def _open_backing(self, write: bool) -> HostBacking:
        host = super()._open_backing(write)
        self.grant()
        return host

    def reserve(self, start: int, size: int) -> int:
        """What the limit leaves. C gets as much again in advance, so that not every write is counted here."""
        fs = self.fs
        limit = fs.max_bytes
        if limit is None or not size:
            return size
        end = start + size
        self.sparse = self.sparse or start > self.charged
        if not self.sparse and fs.charge(self, end + min(end, _ADVANCE)):
            self.grant()
            return size
        free = (limit - fs.used_bytes()) // PAGE * PAGE
        have = 0 if self.sparse else StoredFile.stat_now(self).blocks * 512
        room = min(size, max(0, free + max(0, have - start) - (0 if start < have else start % PAGE)))
        if not room:
            raise ENOSPC
        fs.charge(self, self.charged + room + PAGE if self.sparse else start + room, force=True)
        self.grant()
        return room

    def recount(self) -> int:
        """Bytes it holds; charges it anew."""
        stat = StoredFile.stat_now(self)
        self.charged = stat.blocks * 512
        self.sparse = self.charged < _pages(stat.size)
        self.grant()
        return self.charged

    def grant(self) -> None:
        """C may write what is charged."""
        if self.host is not None and self.fs.limited:
            self.host.set_grant(0 if self.sparse else self.charged)

    def __del__(self) -> None:
        super().__del__()
        fs = getattr(self, "fs", None)
        if isinstance(fs, Tmpfs):
            fs.charged -= self.charged
        _uncharge(self)


class TmpfsDirectory(TmpfsNode):
    """A directory: names to inodes."""

    __slots__ = ("entries",)

    def __init__(self, fs: Tmpfs, mode: int, uid: int, gid: int, ino: int = 0) -> None:
        super().__init__(fs, mode, uid, gid, ino=ino)
        self.entries: dict[bytes, Inode] = {}
        self.nlink = 2
        self.size = 2 * _DIRENT_SIZE

    # --- reading

    def lookup_now(self, name: bytes) -> Inode | None:
        return self.entries.get(name)

    async def lookup(self, name: bytes) -> Inode:
        inode = self.entries.get(name)
        if inode is None:
            raise ENOENT
        return inode

    async def readdir(self) -> list[DirEntry]:
        return [DirEntry(name, inode.ino, inode.mode >> 12) for name, inode in self.entries.items()]

    # --- adding names

    def _add(self, name: bytes, inode: Inode) -> Inode:
        self.entries[name] = inode
        self.size += _DIRENT_SIZE
        if S_ISDIR(inode.mode):
            self.nlink += 1
        self._changed()
        return inode

    def _changed(self) -> None:
        self.mtime_ns = self.ctime_ns = time_ns()
        self.touched()

    async def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        return self._add(name, self.fs.new_file(mode, uid, gid))

    async def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        return self._add(name, self.fs.new_node(mode, uid, gid, rdev))

    async def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        return self._add(name, self.fs.new_directory(mode, uid, gid))

    async def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        return self._add(name, self.fs.new_symlink(target, uid, gid))

    async def tmpfile(self, mode: int, uid: int, gid: int) -> Inode:
        inode = self.fs.new_file(mode, uid, gid)
        inode.nlink = 0
        _links_changed(inode)
        return inode

    async def link(self, name: bytes, inode: Inode) -> None:
        inode.nlink += 1
        self._add(name, inode)
        _links_changed(inode)

    # --- removing and moving them

    def _take(self, name: bytes, inode: Inode) -> None:
        del self.entries[name]
        self._took(inode)

    def _took(self, inode: Inode) -> None:
        self.size -= _DIRENT_SIZE
        if S_ISDIR(inode.mode):
            self.nlink -= 1
        self._changed()

    async def is_empty(self) -> bool:
        return not self.entries

    def holds_nothing(self) -> bool:
        return not self.entries

    async def unlink(self, name: bytes, inode: Inode) -> None:
        self._take(name, inode)
        inode.nlink -= 1
        _links_changed(inode)

    async def rmdir(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, TmpfsDirectory)
        if not await inode.is_empty():
            raise ENOTEMPTY
        self._take(name, inode)
        inode.nlink = 0
        inode.ctime_ns = self.ctime_ns
        inode.touched()

    async def rename(
        self, old: bytes, inode: Inode, newdir: Inode, new: bytes, target: Inode | None, flags: int
    ) -> None:
        assert isinstance(newdir, TmpfsDirectory)
        if flags & RENAME_EXCHANGE:
            assert target is not None
            self._take(old, inode)
            newdir._take(new, target)
            self._add(old, target)
            newdir._add(new, inode)
            _links_changed(inode)
            _links_changed(target)
            return
        whiteout = self.fs.new_node(S_IFCHR, inode.uid, inode.gid, 0) if flags & RENAME_WHITEOUT else None
        if isinstance(target, TmpfsDirectory):
            if not await target.is_empty():
                raise ENOTEMPTY
            newdir._take(new, target)
            target.nlink = 0
            target.touched()
        elif target is not None:
            newdir._take(new, target)
            target.nlink -= 1
            _links_changed(target)
        self._take(old, inode)
        newdir._add(new, inode)
        if whiteout is not None:
            self._add(old, whiteout)
        _links_changed(inode)

    def drop_tree(self) -> None:
        """The file system is gone: let go of everything below, however deep."""
        todo = [self]
        while todo:
            entries = todo.pop().entries
            todo += [inode for inode in entries.values() if isinstance(inode, TmpfsDirectory)]
            entries.clear()


def _links_changed(inode: Inode) -> None:
    assert isinstance(inode, KeptXattrs)
    inode.changed()
    if not inode.nlink and isinstance(inode, TmpfsFile):
        inode.fs.orphans.add(inode)


def factory(store: Store) -> Callable[[bytes, bytes, int], Filesystem]:
    """What to register as b"tmpfs" in sentry.fs.registry."""

    def make(source: bytes, options: bytes, flags: int) -> Filesystem:
        return Tmpfs.from_options(store, options)

    return make
