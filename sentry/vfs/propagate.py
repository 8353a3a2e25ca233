"""Mount propagation: what is mounted or unmounted in one place happens in others too (mount_namespaces(7)).

Shared mounts form a *peer group*: each shows the changes made below any of them. A slave receives from its master,
a group, and gives nothing back; it may be in a group of its own as well. A private mount, the default, does neither,
and an unbindable one can't be bind mounted either.

    make_shared(mount) ...                      # mount(2)'s MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE
    join(copy, old)                             # a bind mount, or the same one in a new namespace
    for copy, parent in copies(tree, at): ...   # before `tree` is mounted on `at`
    received(mount)                             # what has to go with `mount`

Guests make trees and chains of masters as deep as they like: nothing here recurses.
"""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentry.vfs.dentry import Dentry
    from sentry.vfs.mount import Mount, Path


class PeerGroup:
    """`members` show each other's changes; `slaves` are the mounts that have this group as their master."""

    __slots__ = ("id", "members", "slaves")

    def __init__(self, first: Mount) -> None:
        global _numbers
        if _free:
            self.id = heappop(_free)
        else:
            self.id = _numbers = _numbers + 1
        self.members = {first: None}
        self.slaves: dict[Mount, None] = {}

    def end(self) -> None:
        """It has no members any more."""
        heappush(_free, self.id)


_numbers = 0  # how many groups there ever were at once; mountinfo shows a group's number
_free: list[int] = []  # those of them that no group has: the lowest is taken first


# --- changing the kind


def make_shared(mount: Mount) -> None:
    """It gives and receives, as the first of a new group."""
    mount.unbindable = False
    if mount.group is None:
        mount.group = PeerGroup(mount)


def make_slave(mount: Mount) -> None:
    """It only receives: from its peers, or if it had none from the master it has already (do_make_slave)."""
    group = mount.group
    if group is None:
        return
    mount.group = None
    del group.members[mount]
    if group.members:
        _set_master(mount, group)
        return
    group.end()
    for slave in list(group.slaves):
        _set_master(slave, mount.master)


def make_private(mount: Mount) -> None:
    """It neither gives nor receives."""
    make_slave(mount)
    _set_master(mount, None)
    mount.unbindable = False


def make_unbindable(mount: Mount) -> None:
    make_private(mount)
    mount.unbindable = True


def _set_master(mount: Mount, master: PeerGroup | None) -> None:
    if mount.master is not None:
        del mount.master.slaves[mount]
    mount.master = master
    if master is not None:
        master.slaves[mount] = None


def join(copy: Mount, old: Mount) -> None:
    """`copy`, a clone of `old`, gives and receives as `old` does."""
    copy.group = old.group
    if copy.group is not None:
        copy.group.members[copy] = None
    _set_master(copy, old.master)


# --- mounting


def copy_tree(tree: Mount, source: Path | None = None) -> Mount:
    """A clone of `tree` with what is mounted in it, but for what is unbindable. `source`: from that place on."""
    first = tree.clone(None if source is None else source.dentry)
    join(first, tree)
    inside = [
        child for point, child in tree.children.items() if source is None or source.dentry.is_ancestor_of(point)
    ]
    todo = [(child, first) for child in reversed(inside)]
    while todo:
        mount, parent = todo.pop()
        if mount.unbindable:
            continue
        assert mount.mountpoint is not None
        copy = mount.clone()
        join(copy, mount)
        copy.attach(parent, mount.mountpoint)
        todo += [(child, copy) for child in reversed(mount.children.values())]
    return first


def copies(tree: Mount, at: Path) -> list[tuple[Mount, Mount]]:
    """(copy of `tree`, the mount to put it on) for each that receives what is mounted on `at`.

    The tree becomes shared, as all that is mounted on a shared mount does.
    """
    group = at.mount.group
    if group is None:
        return []
    for each in tree.walk():
        make_shared(each)
    made: list[tuple[Mount, Mount]] = []
    for peer in list(group.members):
        if peer is not at.mount and _shows(peer, at.dentry):
            made.append((copy_tree(tree), peer))
    _to_slaves(tree, group, at.dentry, made)
    return made


def _to_slaves(tree: Mount, group: PeerGroup, dentry: Dentry, made: list[tuple[Mount, Mount]]) -> None:
    """Copies of `tree`, which is shared, for the slaves of `group` and those who receive from them."""
    todo = [(tree, group)]
    while todo:
        tree, here = todo.pop()
        if here is not group:
            tree = _to_members(tree, here, dentry, made)
        below: dict[PeerGroup, None] = {}
        for slave in list(here.slaves):
            if slave.group is not None:
                below[slave.group] = None
            elif _shows(slave, dentry):
                made.append((_slave_of(tree), slave))
        todo += [(tree, each) for each in reversed(below)]


def _to_members(tree: Mount, group: PeerGroup, dentry: Dentry, made: list[tuple[Mount, Mount]]) -> Mount:
    """Copies of `tree` for a group of slaves; what their own slaves get copies of."""
    first = tree
    for member in list(group.members):
        if not _shows(member, dentry):
            continue
        if first is tree:
            first = _slave_of(tree)
            for each in first.walk():
                make_shared(each)
            made.append((first, member))
        else:
            made.append((copy_tree(first), member))
    return first


def _slave_of(tree: Mount) -> Mount:
    copy = copy_tree(tree)
    for each in copy.walk():
        make_slave(each)
    return copy


def receiving(at: Path) -> int:
    """How many mounts get a copy of what is mounted on `at`."""
    return sum(_shows(mount, at.dentry) for mount in receivers(at.mount))


def _shows(mount: Mount, dentry: Dentry) -> bool:
    return mount.root.is_ancestor_of(dentry)


# --- unmounting


def receivers(mount: Mount) -> Iterator[Mount]:
    """Everybody who receives what happens on `mount`."""
    seen = {mount}
    todo = [mount.group]
    while todo:
        group = todo.pop()
        if group is None:
            continue
        for each in (*group.members, *group.slaves):
            if each not in seen:
                seen.add(each)
                yield each
                if each.group is not group:
                    todo.append(each.group)


def received(tree: list[Mount]) -> list[Mount]:
    """What goes when all of `tree` (parents first) is unmounted: it, and what was received with it elsewhere unless
    something else is mounted there. Parents first."""
    going = dict.fromkeys(tree)
    elsewhere: list[Mount] = []
    for mount in tree:
        if mount.parent is not None and mount.mountpoint is not None:
            for receiver in receivers(mount.parent):
                child = receiver.children.get(mount.mountpoint)
                if child is not None and child not in going:
                    elsewhere.append(child)
    together = going.keys() | set(elsewhere)
    for mount in reversed(elsewhere):
        if not all(child in together for child in mount.children.values()):
            together.discard(mount)
    return [*tree, *(mount for mount in elsewhere if mount in together)]
