"""Dentry: one name in one directory, and the cache of them.

A dentry is *hashed* while its parent's `children` holds it; a negative one (inode None) caches an absence.
Who holds a reference to a Dentry object (an open file, a working directory, a mount, a child) keeps it:
eviction takes only dentries that nothing but the cache itself refers to, which in CPython the reference
count tells exactly. So there is no pin to forget.

Of a file system that nobody else changes (cache policy ALWAYS) each hashed dentry has a twin in the C core's
cache of names (native/src/names.c, `nc`), so that C can walk too (sentry/vfs/names.py).
"""

from __future__ import annotations

from itertools import islice
from sys import getrefcount
from typing import TYPE_CHECKING, Any

from native import ffi, lib

if TYPE_CHECKING:
    from sentry.vfs.inode import Inode

MAX_CACHED = 65536  #: dentries kept before the oldest unused ones go
_EVICT_BATCH = 512
_NAME = ffi.typeof("struct nc_name *")
_new = ffi.new


class _Cache:
    """All hashed dentries by their number, in the order of their arrival."""

    __slots__ = ("fifo", "last_id")

    def __init__(self) -> None:
        self.fifo: dict[int, Dentry] = {}
        self.last_id = 0


cache = _Cache()


class Dentry:
    """A name. The root of a file system has parent None."""

    __slots__ = ("__weakref__", "children", "dead", "id", "inode", "mounted", "name", "nc", "parent")

    def __init__(self, name: bytes, parent: Dentry | None, inode: Inode | None) -> None:
        self.name = name
        self.parent = parent
        self.inode = inode
        self.children: dict[bytes, Dentry] | None = None
        self.mounted = 0  # mounts on top of this dentry, in any mount namespace
        cache.last_id += 1
        self.id = cache.last_id
        self.nc: Any = None  # the twin, which C sees as long as this dentry is hashed
        self.dead = False  # unlinked: d_path says " (deleted)"

    def get(self, name: bytes) -> Dentry | None:
        """The cached child, positive or negative."""
        children = self.children
        return None if children is None else children.get(name)

    def hash(self) -> None:
        """Enter the cache under the parent; whoever had the name there leaves."""
        parent = self.parent
        assert parent is not None
        if parent.children is None:
            parent.children = {}
        old = parent.children.get(self.name)
        if old is self:
            return
        if old is not None:
            old._leave()
        parent.children[self.name] = self
        cache.fifo[self.id] = self
        if parent.nc is not None:
            if self.nc is None:
                self.make_twin()
            lib.nc_name_hash(self.nc, parent.nc, self.name, len(self.name))
        if len(cache.fifo) > MAX_CACHED:
            evict()

    def make_twin(self) -> None:
        """The twin in the C core."""
        nc = self.nc = _new(_NAME)
        nc.id = self.id
        if self.inode is not None:
            nc.node = self.inode.twin()

    def is_new_directory(self) -> None:
        """A directory just made: from now on it holds what the cache says, and nothing else."""
        inode = self.inode
        if self.nc is not None and inode is not None and inode.holds_nothing():
            self.nc.complete = 1

    def is_incomplete(self) -> None:
        """Names were added below by other ways than through dentries."""
        todo = [self]
        while todo:
            dentry = todo.pop()
            if dentry.nc is not None:
                dentry.nc.complete = 0
            todo += (dentry.children or {}).values()

    def _leave(self) -> None:
        nc = self.nc
        if nc is not None:
            if nc.uses:
                from sentry.fs.lazyfile import take_up_all  # which builds on this module

                take_up_all(self)
            lib.nc_name_unhash(nc)
        cache.fifo.pop(self.id, None)

    def unhash(self) -> None:
        """Leave the cache; the object lives on with whoever holds it."""
        self._leave()
        parent = self.parent
        if parent is not None and parent.children is not None and parent.children.get(self.name) is self:
            del parent.children[self.name]

    def add(self, name: bytes, inode: Inode | None) -> Dentry:
        """A new hashed child."""
        child = Dentry(name, self, inode)
        child.hash()
        return child

    def become(self, inode: Inode) -> None:
        """Negative so far, it names `inode` now (d_instantiate)."""
        self.inode = inode
        if self.nc is not None:
            self.nc.node = inode.twin()
        self.hash()

    def kill(self) -> None:
        """The name was unlinked: unhash and remember that it is gone."""
        self.unhash()
        self.dead = True

    @property
    def complete(self) -> bool:
        """A directory of which every name is in the cache."""
        return self.nc is not None and self.nc.complete == 1

    @property
    def opened(self) -> bool:
        """A file is open here of which only C knows."""
        return self.nc is not None and self.nc.uses > 0

    @property
    def hashed(self) -> bool:
        parent = self.parent
        if parent is None:
            return not self.dead
        return parent.children is not None and parent.children.get(self.name) is self

    def is_ancestor_of(self, other: Dentry) -> bool:
        """True if `other` is this dentry or lies below it."""
        node: Dentry | None = other
        while node is not None:
            if node is self:
                return True
            node = node.parent
        return False

    def drop_tree(self) -> None:
        """Forget everything below, however deep (the file system goes away): breaks the parent-child cycles."""
        todo = [self]
        while todo:
            dentry = todo.pop()
            children, dentry.children = dentry.children, None
            for child in (children or {}).values():
                child._leave()
                todo.append(child)

    def __repr__(self) -> str:
        return f"<Dentry {self.name!r} {'negative' if self.inode is None else self.inode!r}>"


def _references(dentry: Dentry) -> int:
    return getrefcount(dentry)


def _idle_references() -> int:
    """What _references() says, called as evict() calls it, for a dentry which only the cache holds."""
    fifo = {0: Dentry(b"", None, None)}
    children = {b"": fifo[0]}
    count = 0
    for dentry in list(islice(fifo.values(), 1)):
        count = _references(dentry)
    del children
    return count


_IDLE = _idle_references()


def evict(count: int = _EVICT_BATCH) -> int:
    """Drop up to `count` old dentries that nobody uses; used ones go to the back of the queue."""
    fifo = cache.fifo
    dropped = 0
    for dentry in list(islice(fifo.values(), 4 * count)):
        if dropped >= count:
            break
        if dentry.children or dentry.mounted or dentry.opened or _references(dentry) > _IDLE:
            del fifo[dentry.id]
            fifo[dentry.id] = dentry
            continue
        parent = dentry.parent
        dentry.unhash()
        if parent is not None and parent.nc is not None:
            parent.nc.complete = 0
        dropped += 1
    return dropped
