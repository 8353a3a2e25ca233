"""Mount, Path and MountNamespace: which file system's tree appears where (mount_namespaces(7)).

A Mount shows the subtree `root` of a file system. Where it sits is (`parent`, `mountpoint`); what sits on
it is `children`, keyed by the dentry covered. A Path is a dentry seen through a mount.
"""

from __future__ import annotations

from collections.abc import Iterator
from sys import getrefcount
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakValueDictionary

from native import ffi, lib
from sentry.abi.linux import (
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_NOSYMFOLLOW,
    MS_RDONLY,
    MS_RELATIME,
    MS_STRICTATIME,
    S_IFMT,
    S_IFREG,
)
from sentry.errors import EINVAL, ENOSPC
from sentry.kernel.fdtable import FILES, drain
from sentry.vfs.dentry import Dentry
from sentry.vfs.propagate import copies, join, make_private, receiving

if TYPE_CHECKING:
    from sentry.vfs.file import File
    from sentry.vfs.inode import Filesystem, Inode
    from sentry.vfs.propagate import PeerGroup

#: flags that belong to a mount, not to the file system under it
MOUNT_FLAGS = (
    MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME | MS_NODIRATIME | MS_RELATIME | MS_NOSYMFOLLOW
)

#: in one namespace (/proc/sys/fs/mount-max); fewer than Linux has, as looking through them all takes longer here
MOUNT_MAX = 10_000

_next_id = 0
#: Mounts that the C core knows, by their number.
by_id: WeakValueDictionary[int, Mount] = WeakValueDictionary()


def mount_flags(flags: int) -> int:
    """MS_* as a mount keeps them: relatime is the default, strictatime the absence of all (do_mount)."""
    flags &= MOUNT_FLAGS | MS_STRICTATIME
    if not flags & (MS_NOATIME | MS_STRICTATIME):
        flags |= MS_RELATIME
    if flags & MS_STRICTATIME:
        flags &= ~(MS_RELATIME | MS_NOATIME)
    return flags & MOUNT_FLAGS


class Path(NamedTuple):
    """A place in the tree: `dentry` as seen through `mount`."""

    mount: Mount
    dentry: Dentry

    @property
    def inode(self) -> Inode:
        """The inode of a positive dentry."""
        inode = self.dentry.inode
        assert inode is not None
        return inode


class Mount:
    """One mount of a file system's (sub)tree."""

    __slots__ = (
        "__weakref__", "_flags", "children", "expiring", "fs", "group", "id", "master", "mountpoint", "nc", "ns",
        "parent", "root", "source", "unbindable",
    )  # fmt: skip

    def __init__(
        self, fs: Filesystem, flags: int = 0, source: bytes = b"none", root: Dentry | None = None
    ) -> None:
        global _next_id
        _next_id += 1
        self.id = _next_id
        self.fs = fs
        self.root = fs.root_dentry if root is None else root
        self._flags = flags & MOUNT_FLAGS
        self.source = source
        self.parent: Mount | None = None
        self.mountpoint: Dentry | None = None
        self.children: dict[Dentry, Mount] = {}
        self.ns: MountNamespace | None = None
        self.nc: Any = None
        self.group: PeerGroup | None = None  # shared with whom, received from whom (propagate.py)
        self.master: PeerGroup | None = None
        self.unbindable = False
        self.expiring = False  # umount2(MNT_EXPIRE) was asked once
        fs.mount_count += 1

    @property
    def unique_id(self) -> int:
        """The number no other mount ever has (STATX_MNT_ID_UNIQUE); never one of the old ids."""
        return self.id + (1 << 31)

    @property
    def flags(self) -> int:
        """MS_* of this mount."""
        return self._flags

    @flags.setter
    def flags(self, flags: int) -> None:
        self._flags = flags
        if self.nc is not None:
            self._tell_flags()

    def _tell_flags(self) -> None:
        self.nc.noexec = bool(self._flags & MS_NOEXEC)
        self.nc.nosymfollow = bool(self._flags & MS_NOSYMFOLLOW)

    @property
    def path(self) -> Path:
        """Its root as a path."""
        return Path(self, self.root)

    @property
    def read_only(self) -> bool:
        """The mount or the file system under it is read-only."""
        return bool((self.flags | self.fs.flags) & MS_RDONLY)

    def clone(self, root: Dentry | None = None) -> Mount:
        """The same tree once more, sitting nowhere yet (a bind mount)."""
        return Mount(self.fs, self.flags, self.source, self.root if root is None else root)

    def twin(self) -> Any:
        """The C core's idea of it (struct nc_mount), made at first use."""
        nc = self.nc
        if nc is None:
            nc = self.nc = ffi.new("struct nc_mount *")
            nc.id = self.id
            self._tell_flags()
            if self.root.nc is not None:
                nc.root = self.root.nc
            by_id[self.id] = self
        return nc

    def attach(self, parent: Mount, mountpoint: Dentry) -> None:
        """Sit on `mountpoint` of `parent`, covering it."""
        self.parent = parent
        self.mountpoint = mountpoint
        self.ns = parent.ns
        parent.children[mountpoint] = self
        mountpoint.mounted += 1
        node: Dentry | None = mountpoint  # a dentry of a NEVER file system becomes permanent now
        while node is not None and node.parent is not None and not node.dead:
            node.hash()
            node = node.parent
        lib.nc_mount_attach(self.twin(), parent.twin(), ffi.NULL if mountpoint.nc is None else mountpoint.nc)

    def detach(self) -> None:
        """Leave the tree; open files and working directories below stay valid."""
        if self.parent is not None and self.mountpoint is not None:
            if self.parent.children.get(self.mountpoint) is self:
                del self.parent.children[self.mountpoint]
                self.mountpoint.mounted -= 1
        if self.nc is not None:
            self.opened(take_up=True)
            lib.nc_mount_detach(self.nc)
        self.parent = self.mountpoint = self.ns = None

    def opened(self, take_up: bool = False) -> bool:
        """Whether files are open by it of which only C knows; take_up: not any more."""
        if self.nc is None or not self.nc.uses:
            return False
        if take_up:
            from sentry.fs.lazyfile import take_up_all  # which builds on this module

            take_up_all(mount=self)
        return True

    def open_for_writing(self) -> bool:
        """Some description writes through this mount (mnt_get_writers)."""
        return any(file.path is not None and file.path.mount is self for file in _writers())

    def in_use(self) -> bool:
        """An open file, a working directory or a root is inside: somebody holds a Path through this mount."""
        drain()  # of files that were closed already
        groups = (self.group is not None) + (self.master is not None)  # their lists of members and slaves
        return self.opened() or getrefcount(self) > _IDLE_REFERENCES + groups

    def walk(self) -> Iterator[Mount]:
        """This mount and all below it, parents first."""
        todo = [self]
        while todo:
            mount = todo.pop()
            yield mount
            todo += reversed(mount.children.values())

    def __del__(self) -> None:
        if self.nc is not None:
            lib.nc_mount_detach(self.nc)
        fs = self.fs
        fs.mount_count -= 1
        if fs.mount_count == 0:
            fs.unmounted()

    def __repr__(self) -> str:
        return f"<Mount {self.id} {self.fs.name.decode()}>"


class MountNamespace:
    """The mounts one container sees. `root` is the topmost; everything hangs below it."""

    __slots__ = ("__weakref__", "root")

    def __init__(self, root: Mount) -> None:
        self.root = root
        root.ns = self

    @property
    def root_path(self) -> Path:
        """The root directory: the top of what is mounted at the root."""
        return cross_down(self.root.path)

    def mounts(self) -> list[Mount]:
        """All mounts, parents before children, in the order /proc/mounts shows."""
        return sorted(self.root.walk(), key=lambda mount: mount.id)

    def check_room(self, count: int, at: Path) -> None:
        """ENOSPC if `count` more mounts on `at`, and again wherever that propagates to, would be too many."""
        if sum(1 for _ in self.root.walk()) + count * (1 + receiving(cross_down(at))) > MOUNT_MAX:
            raise ENOSPC

    def mount(self, new: Mount, at: Path) -> None:
        """Put `new` on top of whatever is mounted at `at`."""
        at = cross_down(at)
        received = copies(new, at)
        new.attach(at.mount, at.dentry)
        for mount in new.walk():
            mount.ns = self
        for copy, parent in received:
            covered = parent.children.get(at.dentry)
            if covered is not None:  # what was there already stays on top
                covered.detach()
            copy.attach(parent, at.dentry)
            for mount in copy.walk():
                mount.ns = parent.ns
            if covered is not None:
                top = cross_down(copy.path)
                covered.attach(top.mount, top.dentry)
                for mount in covered.walk():
                    mount.ns = parent.ns

    def umount(self, going: list[Mount]) -> None:
        """Take mounts away, parents first in the list (MNT_DETACH semantics; the caller has checked EBUSY)."""
        if self.root in going:
            raise EINVAL("the root mount stays")
        for each in reversed(going):
            each.detach()
            make_private(each)

    def pivot(self, new: Mount, old: Mount, put_old: Path) -> None:
        """pivot_root(2): `new` takes the place of `old`, which moves to `put_old`."""
        parent, point = old.parent, old.mountpoint
        new.detach()
        if parent is not None and point is not None:
            old.detach()
            new.attach(parent, point)
        else:
            self.root = new
        put_old = cross_down(put_old)
        old.attach(put_old.mount, put_old.dentry)
        for mount in self.root.walk():
            mount.ns = self

    def copy(self) -> tuple[MountNamespace, dict[Mount, Mount]]:
        """unshare(CLONE_NEWNS): a copy of the tree, and which mount became which (for root and cwd)."""
        became: dict[Mount, Mount] = {}
        for old in self.root.walk():
            new = became[old] = old.clone()
            join(new, old)
            new.unbindable = old.unbindable
            if old.parent is not None and old.mountpoint is not None and old is not self.root:
                new.attach(became[old.parent], old.mountpoint)
        ns = MountNamespace(became[self.root])
        for mount in became.values():
            mount.ns = ns
        return ns, became

    def drop(self) -> None:
        """The last task of the namespace is gone."""
        for each in reversed(list(self.root.walk())):
            each.detach()
            make_private(each)


def _writers() -> Iterator[File]:
    """Open descriptions of files and directories that may be written through."""
    drain()
    for file in FILES.values():
        if file.writable and file.inode.mode & S_IFMT == S_IFREG:
            yield file


def keeps_writable(fs: Filesystem) -> bool:
    """A file of `fs` is open for writing, or is open and has no name any more: it can't become read-only."""
    if any(file.path is not None and file.path.mount.fs is fs for file in _writers()):
        return True
    opened = (file for file in FILES.values() if file.path is not None and file.path.mount.fs is fs)
    return any(not file.inode.nlink for file in opened)


#: in_use's view of an idle mount: its parent's `children`, the caller's variable or list, `self` and the argument
_IDLE_REFERENCES = 4


def anonymous_path(inode: Inode, name: bytes) -> Path:
    """A place outside every tree for an inode that has no name (a pipe, a memfd): what /proc/PID/fd
    links to.
    """
    dentry = Dentry(name, None, inode)
    return Path(Mount(inode.fs, root=dentry), dentry)


def cross_down(path: Path) -> Path:
    """The top of the mounts stacked on `path` (Linux's traverse_mounts)."""
    mount, dentry = path
    while dentry.mounted:
        child = mount.children.get(dentry)
        if child is None:
            break
        mount, dentry = child, child.root
    return Path(mount, dentry)


def cross_up(path: Path) -> Path:
    """From the root of a mount to the place it is mounted on, through stacked mounts (follow_up)."""
    mount, dentry = path.mount, path.dentry
    while dentry is mount.root and mount.parent is not None and mount.mountpoint is not None:
        dentry, mount = mount.mountpoint, mount.parent
    return Path(mount, dentry)


def d_path(path: Path, root: Path) -> bytes:
    """The name of `path` as seen from `root`, as /proc/self/fd shows it.

    An unlinked file gets " (deleted)" appended; a place that `root` does not reach gets "(unreachable)" in
    front (getcwd(2)). What is in no tree by its nature (a memfd) has its own name.
    """
    mount, dentry = path.mount, path.dentry
    deleted = dentry.dead
    names: list[bytes] = []
    reachable = True
    while not (dentry is root.dentry and mount is root.mount):
        if dentry is mount.root:
            if mount.parent is None or mount.mountpoint is None:
                reachable = dentry.name.startswith(b"/")
                if reachable:
                    names.append(dentry.name[1:])
                break
            dentry, mount = mount.mountpoint, mount.parent
            continue
        if dentry.parent is None:
            reachable = False
            break
        names.append(dentry.name)
        dentry = dentry.parent
    text = b"/" + b"/".join(reversed(names))
    if not reachable:
        text = b"(unreachable)" + text
    return text + b" (deleted)" if deleted else text
