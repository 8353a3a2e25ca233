"""Pseudo file systems: trees whose files are made of text when somebody reads them (proc, sysfs, cgroup).

A tree is a dict: a name leads to another dict (a directory), a :class:`Text` (a file) or a :class:`Link`.
Inodes are made when they are looked up first:

    tree = {b"hostname": Text(lambda task: task.kernel.hostname), b"mounts": Link(lambda: b"self/mounts")}
    root = PseudoDirectory(fs, tree)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from sentry.abi.linux import (
    O_ACCMODE,
    S_IFDIR,
    S_IFLNK,
    S_IFREG,
    SEEK_CUR,
    SEEK_DATA,
    SEEK_END,
    SEEK_HOLE,
    SEEK_SET,
)
from sentry.errors import EINVAL, EIO, ENODEV, ENOENT, ENXIO, EPERM, LinuxError
from sentry.vfs.file import File
from sentry.vfs.inode import Filesystem, Inode
from sentry.vfs.special import Directory
from sentry.vfs.stat import DirEntry, SetAttr

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.mount import Path

DT_REG, DT_DIR, DT_LNK = 8, 4, 10

Make = Callable[["Task"], bytes]
Store = Callable[["Task", bytes], None]


class Text(NamedTuple):
    """A file: `make(task)` gives its content, `store(task, data)` takes a write.

    `sequential` (Linux makes it of a seq_file): it can't be written at a position, and writing moves none.
    """

    make: Make | None
    mode: int = 0o444
    store: Store | None = None
    sequential: bool = False


class Link(NamedTuple):
    """A symbolic link to `target()`."""

    target: Callable[[], bytes]


#: dict | Text | Link | Callable[[Filesystem], Inode]
Tree = dict[bytes, Any]


def constant(text: bytes, mode: int = 0o444) -> Text:
    """A file that always reads the same."""
    return Text(lambda task: text, mode)


class PseudoFilesystem(Filesystem):
    """Numbers inodes and shows a tree."""

    file_size = 0  #: st_size of files: proc has 0, sysfs a page
    no_mapping: type[LinuxError] = ENODEV  #: what mmap(2) of a file gives

    def __init__(self) -> None:
        super().__init__()
        self._last_ino = 0

    def next_ino(self) -> int:
        self._last_ino += 1
        return self._last_ino


class PseudoInode(Inode):
    """What all share: attributes that can be set, unless `fixed_mode` or `fixed_owner` says that nobody may."""

    __slots__ = ()
    fixed_mode: ClassVar[bool] = False
    fixed_owner: ClassVar[bool] = False

    async def setattr(self, task: Task, attrs: SetAttr) -> None:
        if attrs.size is not None:
            return  # O_TRUNC of a writable file is allowed and means nothing
        if attrs.mode is not None and self.fixed_mode:
            raise EPERM
        if self.fixed_owner and (attrs.uid is not None or attrs.gid is not None):
            raise EPERM
        self.apply(attrs)


class PseudoDirectory(PseudoInode):
    """A directory from a tree."""

    __slots__ = ("_made", "tree")

    def __init__(self, fs: PseudoFilesystem, tree: Tree, mode: int = 0o555, ino: int = 0) -> None:
        super().__init__(fs, ino or fs.next_ino(), S_IFDIR | mode, nlink=2)
        self.tree = tree
        self._made: dict[bytes, Inode] = {}

    def child(self, name: bytes) -> Inode:
        """The inode of `name`, made at its first use; ENOENT."""
        inode = self._made.get(name)
        if inode is None:
            spec = self.tree.get(name)
            if spec is None:
                raise ENOENT
            inode = self._made[name] = make_inode(self.fs, spec)
        return inode

    async def lookup(self, name: bytes) -> Inode:
        return self.child(name)

    async def readdir(self) -> list[DirEntry]:
        children = ((name, self.child(name)) for name in self.tree)
        return [DirEntry(name, child.ino, child.mode >> 12) for name, child in children]

    def open_now(self, task: Task, path: Path, flags: int) -> File:
        return OpenDirectory(self, path, flags)

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return OpenDirectory(self, path, flags)


class OpenDirectory(Directory):
    """An open directory of proc, sysfs or cgroup: no fsync, and an end (which is 0) to seek from."""

    __slots__ = ()

    def seek(self, offset: int, whence: int) -> int:
        if whence in (SEEK_DATA, SEEK_HOLE):
            raise ENXIO
        return super().seek(offset, SEEK_SET if whence == SEEK_END else whence)

    async def fsync(self, task: Task, datasync: bool) -> None:
        raise EINVAL


def make_inode(fs: Any, spec: Any) -> Inode:
    """The inode a tree's entry stands for."""
    if isinstance(spec, dict):
        return PseudoDirectory(fs, spec)
    if isinstance(spec, Text):
        return PseudoFile(fs, spec.make, spec.store, spec.mode, sequential=spec.sequential)
    if isinstance(spec, Link):
        return PseudoLink(fs, spec.target)
    made: Inode = spec(fs)
    return made


class PseudoFile(PseudoInode):
    """A regular file made of text."""

    __slots__ = ("make", "sequential", "store")
    fs: PseudoFilesystem
    no_mapping: ClassVar[type[LinuxError] | None] = None  #: what mmap(2) of it gives; None: as of the others

    def __init__(
        self,
        fs: PseudoFilesystem,
        make: Make | None,
        store: Store | None = None,
        mode: int = 0o444,
        ino: int = 0,
        sequential: bool = False,
    ) -> None:
        super().__init__(fs, ino or fs.next_ino(), S_IFREG | mode)
        self.make = make
        self.store = store
        self.sequential = sequential
        self.size = fs.file_size

    def open_now(self, task: Task, path: Path, flags: int) -> File:
        return TextFile(self, path, flags)

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return TextFile(self, path, flags)


class PseudoLink(PseudoInode):
    """A symbolic link."""

    __slots__ = ("target",)

    def __init__(self, fs: PseudoFilesystem, target: Callable[[], bytes], ino: int = 0) -> None:
        super().__init__(fs, ino or fs.next_ino(), S_IFLNK | 0o777)
        self.target = target

    async def readlink(self) -> bytes:
        return self.target()


class TextFile(File):
    """An open PseudoFile: the text is made at the first read and again after a rewind (seq_file)."""

    __slots__ = ("_text",)
    inode: PseudoFile
    gives_splice = True

    def __init__(self, inode: PseudoFile, path: Path | None, flags: int) -> None:
        super().__init__(inode, path, flags)
        self._text: bytes | None = None

    def text(self, task: Task, fresh: bool) -> bytes:
        """The content; `fresh`: made anew."""
        if self._text is None or fresh:
            make = self.inode.make
            if make is None:
                raise EIO("nothing to read here")
            self._text = make(task)
        return self._text

    async def read(self, task: Task, size: int) -> bytes:
        data = self.text(task, self.pos == 0)[self.pos : self.pos + size]
        self.pos += len(data)
        return data

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        if offset < 0:
            raise EINVAL
        return self.text(task, offset == 0)[offset : offset + size]

    def positioned(self, writing: bool) -> bool:
        return not (writing and self.inode.sequential)

    async def write(self, task: Task, data: bytes) -> int:
        self._store(task, data)
        if not self.inode.sequential:
            self.pos += len(data)
        return len(data)

    def _store(self, task: Task, data: bytes) -> None:
        store = self.inode.store
        if store is None:
            raise EIO("nothing to write here")
        store(task, data)
        self._text = None

    async def pwrite(self, task: Task, data: bytes, offset: int) -> int:
        if offset:
            raise EINVAL
        self._store(task, data)
        return len(data)

    async def ftruncate(self, task: Task, size: int) -> None:
        """Allowed, and means nothing."""

    def mapping(self) -> int:
        raise self.inode.no_mapping or self.inode.fs.no_mapping

    def seek(self, offset: int, whence: int) -> int:
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence != SEEK_SET:
            raise EINVAL
        if offset < 0:
            raise EINVAL
        self.pos = offset
        return offset


def number(data: bytes, low: int, high: int) -> int:
    """A decimal number as written to a sysctl; EINVAL outside [low, high]."""
    try:
        value = int(data.strip(b" \t\n\0"), 10)
    except ValueError:
        raise EINVAL
    if not low <= value <= high:
        raise EINVAL
    return value


def opens_for_writing(flags: int) -> bool:
    return flags & O_ACCMODE != 0
