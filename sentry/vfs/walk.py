"""Path resolution: path_resolution(7), symlink(7), openat2(2)'s RESOLVE_* flags.

`resolve` gives the place a path names; `Walk` is Linux's nameidata for callers that need the parent
directory and the last name (create, unlink, rename, open with O_CREAT).

A walk over cached names never suspends, and a path seen before is answered by the memo (sentry/vfs/memo.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    AT_FDCWD,
    MS_NOSYMFOLLOW,
    RESOLVE_BENEATH,
    RESOLVE_CACHED,
    RESOLVE_IN_ROOT,
    RESOLVE_NO_MAGICLINKS,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
)
from sentry.errors import EACCES, EAGAIN, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, EXDEV
from sentry.vfs.dentry import Dentry
from sentry.vfs.inode import ALWAYS, NEVER, REVALIDATE
from sentry.vfs.memo import recall, remember
from sentry.vfs.mount import Path, cross_down
from sentry.vfs.perm import MAY_EXEC, allowed, may_follow

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode

MAX_LINKS = 40
NAME_MAX = 255

_SCOPED = RESOLVE_BENEATH | RESOLVE_IN_ROOT


async def resolve(task: Task, dirfd: int, path: bytes, follow: bool = True, resolve_flags: int = 0) -> Path:
    """What `path` names, seen from `dirfd`; ENOENT if nothing."""
    memoable = not resolve_flags and (dirfd == AT_FDCWD or path[:1] == b"/")
    if memoable:
        known = recall(task, path, follow)
        if known is not None:
            if known.dentry.inode is None:
                raise ENOENT
            return known
    walk = Walk(task, dirfd, path, resolve_flags)
    place = await walk.to_end(follow)
    if memoable and walk.pure:
        remember(task, path, follow, place)
    if place.dentry.inode is None:
        raise ENOENT
    return place


async def resolve_dir(task: Task, dirfd: int, path: bytes) -> Path:
    """What `path` names, which must be a directory (chdir, chroot, mount points)."""
    place = await resolve(task, dirfd, path)
    if place.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    return place


async def lookup(directory: Path, name: bytes) -> Dentry:
    """The dentry of `name` in `directory`, maybe negative; asks the file system if the cache does not
    know.
    """
    if len(name) > NAME_MAX:
        raise ENAMETOOLONG
    parent = directory.dentry
    inode = parent.inode
    assert inode is not None
    policy = inode.fs.cache_policy
    cached = parent.get(name)
    if cached is not None and (policy != REVALIDATE or cached.mounted):
        return cached
    found: Inode | None
    try:
        found = None if parent.dead else await inode.lookup(name)
    except ENOENT:
        found = None
    # Others may have run meanwhile: what they put into the cache is newer than our answer.
    if policy == NEVER or parent.dead:
        return parent.get(name) or Dentry(name, parent, found)
    now = parent.get(name)
    if policy == ALWAYS:
        return now or parent.add(name, found)
    if now is not None:
        if now.inode is found or now is not cached:
            return now
        now.kill()
    if found is None:
        return Dentry(name, parent, None)
    return parent.add(name, found)


class Walk:
    """One walk in progress: at `mount`, `dentry`; the names still to go in `names`, the next one last."""

    __slots__ = (
        "dentry", "flags", "last", "links", "mount", "names", "pure", "root", "rooted", "start", "task", "want_dir",
    )  # fmt: skip

    def __init__(self, task: Task, dirfd: int, path: bytes, resolve_flags: int = 0) -> None:
        if not path:
            raise ENOENT
        self.task = task
        self.flags = resolve_flags
        self.links = 0
        self.pure = True  # only cacheable file systems met: the memo may keep the answer
        self.last = b""  # after to_parent: the last component; b"/" if there is none
        self.root = task.fs.root
        self.rooted = path[0] == 47 or bool(resolve_flags & _SCOPED)  # Linux has looked at the root by now
        if path[0] == 47 and not resolve_flags & RESOLVE_IN_ROOT:
            if resolve_flags & RESOLVE_BENEATH:
                raise EXDEV("absolute path")
            start = self.root
        elif dirfd == AT_FDCWD:
            start = task.fs.cwd
        else:
            place = task.fds.get(dirfd).path
            if place is None or place.inode.mode & S_IFMT != S_IFDIR:
                raise ENOTDIR
            start = place
        if resolve_flags & _SCOPED:
            self.root = start
        self.mount = start.mount
        self.dentry = start.dentry
        self.start = start
        self.names: list[bytes] = []
        self.want_dir = False
        self._push(path)

    @property
    def place(self) -> Path:
        return Path(self.mount, self.dentry)

    def _push(self, path: bytes) -> None:
        """Put the components of `path` before those still to go."""
        names = path.split(b"/")
        if not self.names:
            self.want_dir = self.want_dir or not names[-1]
        names.reverse()
        if b"" in names:
            names = [name for name in names if name]
        self.names += names

    async def to_end(self, follow: bool) -> Path:
        """Walk all the way; the last dentry may be negative. A trailing slash asks for a directory."""
        while True:
            await self.to_parent()
            if self.last in _NO_NAME:
                if self.last == b"..":
                    self._up()
                return Path(self.mount, self.dentry)
            child = await self.child()
            inode = child.dentry.inode
            if inode is None:
                if self.want_dir:
                    self.pure = False
                return child
            if inode.mode & S_IFMT == S_IFLNK and (follow or self.want_dir):
                await self.follow(inode)
                if not self.names:
                    return self._check_dir(Path(self.mount, self.dentry))
                continue
            return self._check_dir(child)

    def _check_dir(self, place: Path) -> Path:
        inode = place.dentry.inode
        if self.want_dir and inode is not None and inode.mode & S_IFMT != S_IFDIR:
            raise ENOTDIR
        return place

    async def to_parent(self) -> None:
        """Walk up to the directory that holds the last component, which is then in `last`
        (link_path_walk).
        """
        task = self.task
        names = self.names
        if not names:
            self.last = b"/"
            return
        while True:
            name = names.pop()
            dentry = self.dentry
            inode = dentry.inode
            if inode is None:
                raise ENOENT
            if inode.mode & S_IFMT != S_IFDIR:
                raise ENOTDIR
            if not allowed(task, inode, MAY_EXEC):
                raise EACCES
            if inode.own_permission:
                self.pure = False
            if not names:
                self.last = name
                return
            if name == b".":
                continue
            if name == b"..":
                self._up()
                continue
            children = dentry.children
            child = None if children is None else children.get(name)
            if child is None or inode.fs.cache_policy or child.mounted or len(name) > NAME_MAX:
                child = await self._step(name)
            target = child.inode
            if target is None:
                raise ENOENT
            if target.mode & S_IFMT == S_IFLNK:
                await self.follow(target)
                names = self.names
                continue
            self.dentry = child

    async def child(self) -> Path:
        """The last component in the directory to_parent found; through mounts; maybe negative."""
        mount, parent = self.mount, self.dentry
        child = await self._step(self.last)
        place = Path(self.mount, child)
        self.mount, self.dentry = mount, parent
        return place

    async def _step(self, name: bytes) -> Dentry:
        """Look `name` up in the present directory; `mount` becomes that of what is mounted there."""
        inode = self.dentry.inode
        assert inode is not None
        if inode.fs.cache_policy != ALWAYS:
            self.pure = False
        if self.flags & RESOLVE_CACHED and (inode.fs.cache_policy == NEVER or self.dentry.get(name) is None):
            raise EAGAIN
        child = await lookup(Path(self.mount, self.dentry), name)
        if child.mounted:
            mount, child = cross_down(Path(self.mount, child))
            if mount is not self.mount:
                if self.flags & RESOLVE_NO_XDEV:
                    raise EXDEV
                self.mount = mount
        return child

    def _up(self) -> None:
        """`..`: stays at the root; leaves a mount at its root (follow_dotdot)."""
        mount, dentry = self.mount, self.dentry
        root = self.root
        self.rooted = True
        while True:
            if dentry is root.dentry and mount is root.mount:
                if self.flags & RESOLVE_BENEATH:
                    raise EXDEV("path leads out")
                break
            if dentry is not mount.root:
                if dentry.parent is not None:
                    dentry = dentry.parent
                break
            if mount.parent is None or mount.mountpoint is None:
                break
            if self.flags & RESOLVE_NO_XDEV:
                raise EXDEV
            dentry, mount = mount.mountpoint, mount.parent
        self.mount, self.dentry = cross_down(Path(mount, dentry)) if dentry.mounted else (mount, dentry)

    async def follow(self, link: Inode) -> None:
        """Go on with the text of a symbolic link found in the present directory, or jump by a magic link."""
        self.links += 1
        if self.links > MAX_LINKS:
            raise ELOOP
        if not self.names and not may_follow(self.task, self.place.inode, link):
            raise EACCES("protected link")
        if self.flags & RESOLVE_NO_SYMLINKS or self.mount.flags & MS_NOSYMFOLLOW:
            raise ELOOP
        jump = link.magic_link(self.task)
        if jump is not None:
            if self.flags & RESOLVE_NO_MAGICLINKS:
                raise ELOOP
            if self.flags & _SCOPED or (self.flags & RESOLVE_NO_XDEV and jump.mount is not self.mount):
                raise EXDEV("magic link")
            self.pure = False
            self.mount, self.dentry = jump
            return
        target = link.readlink_for(self.task)
        if target is None:
            target = await link.readlink()
        if not target:
            raise ENOENT
        if target[0] == 47:
            if self.flags & RESOLVE_BENEATH:
                raise EXDEV("absolute link")
            if self.flags & RESOLVE_NO_XDEV and not (self.rooted and self.root.mount is self.mount):
                raise EXDEV
            self.rooted = True
            self.mount, self.dentry = self.root
        self._push(target)


_NO_NAME = (b".", b"..", b"/")
