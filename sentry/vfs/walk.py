"""Path resolution: path_resolution(7), symlink(7), openat2(2)'s RESOLVE_* flags.

`resolve` gives the place a path names; `Walk` is Linux's nameidata for callers that need the parent
directory and the last name (create, unlink, rename, open with O_CREAT).

A walk over cached names never suspends; where they all are plain, C has done it before (sentry/vfs/names.py).
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
from sentry.vfs.inode import ALWAYS, ASK, NEVER, REVALIDATE
from sentry.vfs.mount import Path, cross_down
from sentry.vfs.names import find, find_parent
from sentry.vfs.perm import MAY_EXEC, allowed, may_follow

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode

MAX_LINKS = 40
NAME_MAX = 255

_SCOPED = RESOLVE_BENEATH | RESOLVE_IN_ROOT


async def resolve(
    task: Task, dirfd: int, path: bytes, follow: bool = True, resolve_flags: int = 0, opening: bool = False
) -> Path:
    """What `path` names, seen from `dirfd`; ENOENT if nothing. opening: it will be opened for reading."""
    if not resolve_flags:
        known = find(task, dirfd, path, follow)
        if known is not None:
            return known
    place = await Walk(task, dirfd, path, resolve_flags, opening).to_end(follow)
    if place.dentry.inode is None:
        raise ENOENT
    return place


async def resolve_dir(task: Task, dirfd: int, path: bytes) -> Path:
    """What `path` names, which must be a directory (chdir, chroot, mount points)."""
    place = await resolve(task, dirfd, path)
    if place.inode.mode & S_IFMT != S_IFDIR:
        raise ENOTDIR
    return place


#: answers that came together, the next one last: what a name in a directory leads to
Ahead = list[tuple["Inode", bytes, "Inode | None"]]


async def lookup(directory: Path, name: bytes, ahead: Ahead | None = None) -> Dentry:
    """The dentry of `name` in `directory`, maybe negative; asks the file system if neither the cache nor
    `ahead` knows.
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
    if parent.complete:
        return Dentry(name, parent, None)
    if ahead and ahead[-1][0] is inode and ahead[-1][1] == name:
        found = ahead.pop()[2]
    else:
        found = None if parent.dead else inode.lookup_now(name)
        if found is ASK:
            try:
                found = await inode.lookup(name)
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
    """One walk in progress: at `mount`, `dentry`; the names still to go in `names`, the next one last.

    Who changes a name: ``await walk.to_parent()``, then ``async with walk as dentry:``.
    """

    __slots__ = (
        "ahead", "dentry", "flags", "last", "links", "mount", "names", "opening", "root", "rooted", "start", "task",
        "untouched", "want_dir",
    )  # fmt: skip

    def __init__(
        self, task: Task, dirfd: int, path: bytes, resolve_flags: int = 0, opening: bool = False
    ) -> None:
        if not path:
            raise ENOENT
        self.task = task
        self.flags = resolve_flags
        self.opening = opening
        self.links = 0
        self.untouched = path  # until the first step
        self.ahead: Ahead = []
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
        if self.untouched:
            path, self.untouched = self.untouched, b""
            if b"/" in path and not self.flags:
                known = find_parent(task, self.start, path)
                if known is not None:
                    (self.mount, self.dentry), self.last = known
                    self.want_dir = path[-1] == 47
                    return
            self._push(path)
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

    async def __aenter__(self) -> Dentry:
        """After to_parent: take the lock under which the directory's names change; the last component,
        maybe negative.
        """
        lock = self.mount.fs.lock
        if lock.held:
            self.ahead.clear()  # what was found out before the wait counts no more
            await lock.__aenter__()
        else:
            lock.take()
        try:
            return await lookup(self.place, self.last, self.ahead)
        except BaseException:
            lock.give()
            raise

    async def __aexit__(self, *exc: object) -> None:
        self.mount.fs.lock.give()

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
        if self.flags & RESOLVE_CACHED and (inode.fs.cache_policy == NEVER or self.dentry.get(name) is None):
            raise EAGAIN
        if (self.names or self.opening) and not self.ahead:
            await self._look_ahead(inode, name)
        child = await lookup(Path(self.mount, self.dentry), name, self.ahead)
        if child.mounted:
            mount, child = cross_down(Path(self.mount, child))
            if mount is not self.mount:
                if self.flags & RESOLVE_NO_XDEV:
                    raise EXDEV
                self.mount = mount
        return child

    async def _look_ahead(self, inode: Inode, name: bytes) -> None:
        """Have `name`, if it must be looked up, looked up together with the plain names that follow."""
        parent = self.dentry
        cached = parent.get(name)
        if inode.fs.cache_policy == ALWAYS:
            if cached is not None or parent.complete or inode.lookup_now(name) is not ASK:
                return
        elif inode.fs.cache_policy == NEVER or (cached is not None and cached.mounted):
            return
        names = [name]
        for following in reversed(self.names):
            if following in _NO_NAME or len(following) > NAME_MAX:
                break
            names.append(following)
        if len(name) > NAME_MAX or parent.dead:
            return
        opening = self.opening and len(names) == len(self.names) + 1 and not _is_open(parent, names)
        directory: Inode | None = inode
        for each, found in zip(names, await inode.walk(names, opening), strict=False):
            assert directory is not None
            self.ahead.append((directory, each, found))
            directory = found
        self.ahead.reverse()

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
        self.ahead.clear()
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


def _is_open(start: Dentry, names: list[bytes]) -> bool:
    """Whether the file that was last at the end of `names` has host descriptors."""
    dentry: Dentry | None = start
    for name in names:
        if dentry is not None:
            dentry = dentry.get(name)
    return dentry is not None and dentry.inode is not None and dentry.inode.host is not None


_NO_NAME = (b".", b"..", b"/")
