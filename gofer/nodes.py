"""Handles: one Node per host inode that the sentry holds, and a bounded number of open O_PATH descriptors.

The sentry may hold more inodes than we may hold descriptors. So the least recently used ones are closed and
reopened when needed: by parent and name, and only if the inode found there is the same one (same mount,
device, number and birth time), else ESTALE. A node whose name is gone (unlinked, replaced) keeps its
descriptor, so an open but unlinked file works as long as the sentry holds it; `Table.detach` is called
before a name goes.
"""

import os
from errno import EBADF, ESTALE
from itertools import islice
from struct import Struct

from gofer import hostcalls as host
from gofer.exports import Export

# From struct statx: mode, ino, btime, device, mount id.
_identity = Struct("=28xH2xQ40xqI44xIIQ")
assert _identity.size == 152

S_IFMT, S_IFDIR, S_IFREG, S_IFLNK = 0o170000, 0o040000, 0o100000, 0o120000
PATH_FLAGS = host.O_PATH | os.O_NOFOLLOW
TRIM_LOOKS_AT, TRIM_CLOSES = 256, 64


class Node:
    __slots__ = (
        "birth", "children", "export", "fd", "id", "key", "kind", "lookups", "name", "parent", "target", "used"
    )  # fmt: skip

    def __init__(
        self, id: int, export: Export, parent: "Node | None", name: bytes | None, fd: int, key: object,
        kind: int, birth: int,
    ) -> None:  # fmt: skip
        self.id = id
        self.export = export
        self.parent = parent
        self.name = name  # None: no name leads here any more
        self.fd = fd
        self.key = key
        self.kind = kind
        self.birth = birth
        self.lookups = 1
        self.children = 0
        self.used = True
        self.target = b""  # of a symlink, once it was read


class Table:
    __slots__ = ("_next", "budget", "nodes", "opened")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.nodes: dict[int, Node] = {}
        self.opened: dict[int, Node] = {}  # those with a descriptor, oldest first; roots are not in it
        self._next = 1

    def get(self, handle: int) -> Node:
        node = self.nodes.get(handle)
        if node is None:
            raise OSError(EBADF, "no such handle")
        return node

    def fd(self, node: Node) -> int:
        """The node's O_PATH descriptor, reopened if it was evicted."""
        node.used = True
        return node.fd if node.fd >= 0 else self._reopen(node)

    def root(self, export: Export) -> Node:
        """A new node for the export's root, which is never evicted or forgotten."""
        host.statx(export.root)
        mode, ino, b_sec, b_nsec, major, minor, mount = _identity.unpack_from(host.stat_buffer)
        export.home = (mount, major, minor)
        node = Node(self._next, export, None, None, export.root, ino, mode & S_IFMT, b_sec * 10**9 + b_nsec)
        self._next += 1
        node.lookups = 1 << 62
        self.nodes[node.id] = node
        export.by_inode[ino] = node
        return node

    def enter(self, parent: Node, name: bytes | None, fd: int) -> Node:
        """The node for a fresh O_PATH fd of name in parent (None: it has no name yet).

        Takes the fd; leaves its statx in stat_buffer.
        """
        try:
            host.statx(fd)
        except OSError:
            os.close(fd)
            raise
        export = parent.export
        key, kind, birth = self._identify(export)
        known = export.by_inode.get(key)
        if known is not None:
            if known.kind == kind and known.birth == birth:
                known.lookups += 1
                known.used = True
                if known.fd < 0:
                    self._move(known, parent, name)
                    self._hold(known, fd)
                else:
                    if known.name is None and known.parent is not None:
                        self._move(known, parent, name)
                    os.close(fd)
                return known
            # The number was given to another inode after ours was deleted behind our back.
            known.name = None
        node = Node(self._next, export, parent, name, -1, key, kind, birth)
        self._next += 1
        parent.children += 1
        self.nodes[node.id] = node
        export.by_inode[key] = node
        self._hold(node, fd)
        return node

    def known(self, parent: Node, name: bytes) -> "Node | None":
        """The node of name in parent, if it is one that is held open: a look-up without an open. Leaves its statx in
        stat_buffer.
        """
        host.statx(self.fd(parent), name)
        export = parent.export
        key, kind, birth = self._identify(export)
        node = export.by_inode.get(key)
        if node is None or node.fd < 0 or node.kind != kind or node.birth != birth:
            return None
        node.lookups += 1
        node.used = True
        if node.name is None and node.parent is not None:
            self._move(node, parent, name)
        return node

    def at(self, parent: Node, name: bytes) -> "Node | None":
        """The node that the sentry holds for this name, if any."""
        try:
            host.statx(self.fd(parent), name)
        except OSError:
            return None
        return parent.export.by_inode.get(self._identify(parent.export)[0])

    def detach(self, node: Node) -> None:
        """Its name is about to go: make sure that it does not need it."""
        if node.fd < 0:
            try:
                self._reopen(node)
            except OSError:
                pass  # its name led elsewhere already

    def unnamed(self, node: Node, parent: Node, name: bytes) -> None:
        """The name went. (A node found by another of its names stays as it is.)"""
        if node.parent is parent and node.name == name:
            node.name = None

    def renamed(self, node: Node, olddir: Node, old: bytes, newdir: Node, new: bytes) -> None:
        if node.parent is olddir and node.name == old:
            self._move(node, newdir, new)

    def forget(self, handle: int, lookups: int) -> None:
        node: Node | None = self.nodes.get(handle)
        if node is None:
            return
        node.lookups -= lookups
        while node is not None and node.lookups <= 0 and node.children == 0:
            parent = node.parent
            if parent is None:
                return
            self._drop(node)
            parent.children -= 1
            node = parent

    def trim(self) -> None:
        """Close the oldest that were not used since they were last passed over (second chance).

        Called between requests only, so a descriptor got within a request is good until its end.
        """
        opened = self.opened
        closed = 0
        for node in list(islice(opened.values(), TRIM_LOOKS_AT)):
            del opened[node.id]
            if node.name is None or node.used:
                node.used = False
                opened[node.id] = node
            else:
                os.close(node.fd)
                node.fd = -1
                closed += 1
                if closed == TRIM_CLOSES:
                    return

    def _identify(self, export: Export) -> tuple[object, int, int]:
        mode, ino, b_sec, b_nsec, major, minor, mount = _identity.unpack_from(host.stat_buffer)
        where = (mount, major, minor)
        # The mount belongs to the identity: the same inode may be writable by one and not by another.
        return (ino if where == export.home else (ino, where)), mode & S_IFMT, b_sec * 10**9 + b_nsec

    def _move(self, node: Node, parent: Node, name: bytes | None) -> None:
        old = node.parent
        node.name = name
        if old is not parent and old is not None:
            node.parent = parent
            parent.children += 1
            old.children -= 1
            if old.children == 0 and old.lookups <= 0:
                self.forget(old.id, 0)

    def _hold(self, node: Node, fd: int) -> None:
        node.fd = fd
        self.opened[node.id] = node

    def _reopen(self, node: Node) -> int:
        chain = [node]
        while chain[-1].fd < 0:
            last = chain[-1]
            if last.parent is None or last.name is None or len(chain) > len(self.nodes):
                raise OSError(ESTALE, "no name leads there")
            chain.append(last.parent)
        fd = chain.pop().fd
        resolve = node.export.resolve
        while chain:
            step = chain.pop()
            assert step.name is not None
            try:
                found = host.openat2(fd, step.name, PATH_FLAGS, resolve)
            except OSError as error:
                raise OSError(ESTALE, "gone") from error
            host.statx(found)
            if self._identify(step.export) != (step.key, step.kind, step.birth):
                os.close(found)
                raise OSError(ESTALE, "replaced by another")
            step.used = True
            self._hold(step, found)
            fd = found
        return fd

    def _drop(self, node: Node) -> None:
        self.nodes.pop(node.id, None)
        if node.export.by_inode.get(node.key) is node:
            del node.export.by_inode[node.key]
        if node.fd >= 0:
            self.opened.pop(node.id, None)
            os.close(node.fd)
            node.fd = -1
