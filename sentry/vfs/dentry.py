"""Dentry: one name in one directory, and the cache of them.

A dentry is *hashed* while its parent's `children` holds it; a negative one (inode None) caches an absence.
Who holds a reference to a Dentry object (an open file, a working directory, a mount, a child) keeps it:
eviction takes only dentries that nothing but the cache itself refers to, which in CPython the reference
count tells exactly. So there is no pin to forget.

The path memo (sentry/vfs/memo.py) refers to dentries: one whose name moves or dies takes itself out of it
(`forget`), and `cache.generation` moves whenever a directory, symbolic link or mount does, which ends all
of it.
"""

from __future__ import annotations

from itertools import islice
from sys import getrefcount
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

MAX_CACHED = 65536  #: dentries kept before the oldest unused ones go
_EVICT_BATCH = 512


class _Cache:
    """All hashed dentries in the order of their arrival, and the generation of the name space."""

    __slots__ = ("fifo", "generation")

    def __init__(self) -> None:
        self.fifo: dict[Dentry, None] = {}
        self.generation = 0


cache = _Cache()


def invalidate() -> None:
    """A directory moved, changed its permissions or went, a symbolic link went, or a mount changed."""
    cache.generation += 1


class Dentry:
    """A name. The root of a file system has parent None."""

    __slots__ = ("__weakref__", "children", "dead", "inode", "memos", "mounted", "name", "parent")

    def __init__(self, name: bytes, parent: Dentry | None, inode: Inode | None) -> None:
        self.name = name
        self.parent = parent
        self.inode = inode
        self.children: dict[bytes, Dentry] | None = None
        self.mounted = 0  # mounts on top of this dentry, in any mount namespace
        self.memos: list[tuple[dict[bytes, Path], bytes]] | None = None  # where the path memo has it
        self.dead = False  # unlinked: d_path says " (deleted)"

    def get(self, name: bytes) -> Dentry | None:
        """The cached child, positive or negative."""
        children = self.children
        return None if children is None else children.get(name)

    def forget(self) -> None:
        """Take this dentry out of the path memo."""
        memos, self.memos = self.memos, None
        for entries, path in memos or ():
            entries.pop(path, None)

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
            old.forget()
            cache.fifo.pop(old, None)
        parent.children[self.name] = self
        cache.fifo[self] = None
        if len(cache.fifo) > MAX_CACHED:
            evict()

    def unhash(self) -> None:
        """Leave the cache; the object lives on with whoever holds it."""
        self.forget()
        cache.fifo.pop(self, None)
        parent = self.parent
        if parent is not None and parent.children is not None and parent.children.get(self.name) is self:
            del parent.children[self.name]

    def add(self, name: bytes, inode: Inode | None) -> Dentry:
        """A new hashed child."""
        child = Dentry(name, self, inode)
        child.hash()
        return child

    def kill(self) -> None:
        """The name was unlinked: unhash and remember that it is gone."""
        self.unhash()
        self.dead = True

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
                child.forget()
                cache.fifo.pop(child, None)
                todo.append(child)

    def __repr__(self) -> str:
        return f"<Dentry {self.name!r} {'negative' if self.inode is None else self.inode!r}>"


def _references(dentry: Dentry) -> int:
    return getrefcount(dentry)


def _idle_references() -> int:
    """What _references() says, called as evict() calls it, for a dentry which only the cache holds."""
    fifo = {Dentry(b"", None, None): None}
    children = dict.fromkeys((b"",), next(iter(fifo)))
    count = 0
    for dentry in list(islice(fifo, 1)):
        count = _references(dentry)
    del children
    return count


_IDLE = _idle_references()


def evict(count: int = _EVICT_BATCH) -> int:
    """Drop up to `count` old dentries that nobody uses; used ones go to the back of the queue."""
    from sentry.vfs.memo import forget_all  # the memo builds on this module

    forget_all()  # its references are not uses
    fifo = cache.fifo
    dropped = 0
    for dentry in list(islice(fifo, 4 * count)):
        if dropped >= count:
            break
        if dentry.children or dentry.mounted or _references(dentry) > _IDLE:
            del fifo[dentry]
            fifo[dentry] = None
            continue
        parent = dentry.parent
        assert parent is not None and parent.children is not None
        del parent.children[dentry.name]
        del fifo[dentry]
        dropped += 1
    return dropped
