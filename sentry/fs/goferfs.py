"""goferfs: the container's rootfs and bind mounts, served by its gofer (gofer/protocol.py).

    client = connect(socket_fd)     # once per container; the loop then reads its answers
    rootfs = GoferFs(client, 0)     # one per export
    bind = GoferFs(client, 1)

An inode stands for one gofer handle, and is the same object for all names of the host's inode. Most requests
are answered while we poll for a moment (`Client.poll`); what takes longer is waited for in the scheduler.

A regular file's host descriptors belong to its inode: opened once, shared by all descriptions, kept for the
next open until many have some. With them open the host's fstat tells size and times; all else is cached in an
exclusive tree, and asked again in a shared one.
"""

from __future__ import annotations

import os
from struct import Struct
from sys import getrefcount
from time import monotonic_ns
from typing import TYPE_CHECKING
from weakref import ref

from gofer import protocol as p
from gofer.client import Client, Pending
from native import lib
from sentry.abi.linux import (
    EPOLLIN,
    MS_NOEXEC,
    MS_RDONLY,
    O_ACCMODE,
    O_RDONLY,
    O_RDWR,
    O_WRONLY,
    RENAME_EXCHANGE,
    RENAME_WHITEOUT,
    S_IFDIR,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
)
from sentry.errors import EACCES, EINVAL, EIO, ENFILE, ENODATA, ENOENT, EPERM, from_errno, from_host
from sentry.fs.goferdir import Ahead, all_names, keep_listing
from sentry.fs.goferfile import GoferFile
from sentry.fs.hostfile import LIVE, HostBacking
from sentry.fs.keptopen import kept_open
from sentry.kernel.sched import Future, sched
from sentry.vfs import filecaps
from sentry.vfs.inode import ALWAYS, ASK, REVALIDATE, Filesystem, Inode
from sentry.vfs.special import Directory, open_special
from sentry.vfs.stat import DirEntry, SetAttr, Stat, StatFs

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.mount import Path

FRESH_NS = 1_000_000  # in a shared tree, attributes that came this recently need not be asked again
FORGET_AT = 64  # dropped inodes before the gofer hears of it
AHEAD_KEPT_NS = 1_000_000_000

_statfs = Struct("=QQQQQQQiiQQQ")
_LIVE: int = LIVE | lib.NC_LIVE_NLINK


def connect(socket_fd: int) -> Client:
    """The client for a container's gofer, read by this sentry's loop."""
    client = Client(socket_fd)
    host_fd = client.fileno()
    sched().watch(host_fd, EPOLLIN, lambda events: client.on_readable())
    client.on_close = lambda: sched().unwatch(host_fd)
    return client


class GoferFs(Filesystem):
    """One export. The tree's policy and whether it is read-only are the export's."""

    name = b"gofer"

    def __init__(self, client: Client, export: int) -> None:
        super().__init__()
        self.client = client
        self.export = export
        self.inodes: dict[int, ref[GoferInode]] = {}  # by handle
        self.forgotten: list[tuple[int, int]] = []
        self.changes = 0  # of names, since the start
        try:
            reply = client.call_sync(p.ATTACH, 0, p.ATTACH_ARGS.pack(p.VERSION, export), timeout_ms=10_000)
        except OSError as error:
            raise from_host(error)
        (flags,) = p.EXPORT.unpack_from(reply.data, p.ATTR_SIZE)
        self.cache_policy = ALWAYS if flags & p.EXPORT_EXCLUSIVE else REVALIDATE
        if flags & p.EXPORT_READONLY:
            self.flags |= MS_RDONLY
        self.home_dev: tuple[int, int] | None = None
        self.root: GoferInode = self.inode(reply.value, reply.data[: p.ATTR_SIZE])

    # --- requests

    async def ask(self, op: int, handle: int, payload: bytes = b"") -> Pending:
        """The answer; raises the gofer's errno."""
        client = self.client
        if len(self.forgotten) >= FORGET_AT:
            self.forget()
        pending = client.exchange(op, handle, payload)
        if not pending.done:
            await self._settle(pending)
        if pending.errno:
            if pending.data:  # only a bug has more to say
                raise EIO(f"gofer, {p.OP_NAMES.get(op, op)}: {pending.data.decode('utf-8', 'replace')}")
            if client.closed:
                raise EIO("the gofer is gone")
            raise from_errno(pending.errno)
        return pending

    async def _settle(self, pending: Pending) -> None:
        future: Future[Pending] = Future()
        pending.callback = future.set
        answered = False
        try:
            await future.wait()
            answered = True
        finally:
            if not answered:  # the task died while it waited
                pending.callback = self._discard
                if pending.done:
                    self._discard(pending)

    def _discard(self, pending: Pending) -> None:
        if pending.fd >= 0:
            os.close(pending.fd)
            pending.fd = -1

    def forget(self) -> None:
        """Give back the handles of inodes that are gone."""
        items, self.forgotten = self.forgotten, []
        for start in range(0, len(items), p.MAX_FORGET):
            part = items[start : start + p.MAX_FORGET]
            self.client.send(p.FORGET, 0, b"".join([p.FORGET_ITEM.pack(*item) for item in part]))

    # --- inodes

    def inode(self, handle: int, data: bytes, current: bool = True) -> GoferInode:
        """The inode of a look-up's answer: the one we have, or a new one. current: `data` is of now."""
        known = self.inodes.get(handle)
        inode = known() if known is not None else None
        if inode is None:
            inode = GoferInode(self, handle)
            inode.adopt(data)
            if len(data) > p.ATTR_SIZE:
                inode.target = data[p.ATTR_SIZE :]
            self.inodes[handle] = ref(inode)
            if not current:
                inode.stale = True
        else:
            inode.lookups += 1
            if current:
                inode.adopt(data)
        return inode

    # --- the super block

    async def statfs(self) -> StatFs:
        reply = await self.ask(p.STATFS, self.root.handle)
        numbers = _statfs.unpack_from(reply.data)
        kind, bsize, blocks, bfree, bavail, files, ffree, _fsid, _fsid2, namelen, frsize, _flags = numbers
        return StatFs(
            type=kind, bsize=bsize, blocks=blocks, bfree=bfree, bavail=bavail, files=files, ffree=ffree,
            namelen=namelen, frsize=frsize, fsid=self.dev,
        )  # fmt: skip

    async def sync(self) -> None:
        await self.ask(p.FSYNC, self.root.handle, p.FLAGS.pack(0))

    def release(self) -> None:
        self.forget()


class GoferInode(Inode):
    """A host inode behind a handle."""

    __slots__ = ("ahead", "blocks", "fresh_ns", "handle", "lookups", "names", "stale", "target", "unmarked")

    fs: GoferFs
    host: HostBacking | None
    open_file = GoferFile

    def __init__(self, fs: GoferFs, handle: int) -> None:
        self.fs = fs
        self.handle = handle
        self.lookups = 1  # what the gofer counts for us
        self.target: bytes | None = None  # of a symbolic link
        self.ahead: Ahead | None = None
        self.names: set[bytes] | None = None  # every name in this directory, when all are known (goferdir.py)
        self.unmarked = False  # known to have no extended attributes that a guest can see
        self.stale = False  # something changed that only the host knows
        self.fresh_ns = 0
        self.host = self.locks = self.socket = self.pipe = self.watches = self.node = self.caps = None
        self.caps_known = False

    def __del__(self) -> None:
        fs = self.fs
        known = fs.inodes.get(self.handle)
        if known is not None and known() in (self, None):  # and not a younger one for the same handle
            del fs.inodes[self.handle]
        fs.forgotten.append((self.handle, self.lookups))
        if self.ahead is not None:
            self.drop_ahead()

    # --- attributes

    def changed(self) -> None:
        """Attributes have changed: C's fstat(2) must know. (In a shared tree it asks us each time.)"""
        if self.host is not None:
            self.host.publish(self, _LIVE if self.fs.cache_policy == ALWAYS else 0)

    def adopt(self, data: bytes) -> None:
        """Take the attributes as they came."""
        (
            _mask, _blksize, _attributes, self.nlink, self.uid, self.gid, self.mode, ino,
            self.size, self.blocks,
            a_sec, a_nsec, b_sec, b_nsec, c_sec, c_nsec, m_sec, m_nsec,
            rmajor, rminor, major, minor, _mount,
        ) = p.ATTR.unpack_from(data)  # fmt: skip
        self.atime_ns = a_sec * 1_000_000_000 + a_nsec
        self.mtime_ns = m_sec * 1_000_000_000 + m_nsec
        self.ctime_ns = c_sec * 1_000_000_000 + c_nsec
        self.btime_ns = b_sec * 1_000_000_000 + b_nsec
        self.rdev = os.makedev(rmajor, rminor)
        fs = self.fs
        if fs.home_dev != (major, minor):
            if fs.home_dev is None:
                fs.home_dev = (major, minor)
            else:  # a mount below a recursive bind: its numbers must not meet those of the tree above
                ino = (ino ^ (major << 20 | minor) << 36) & 0xFFFFFFFFFFFFFFFF
        self.ino = ino
        self.stale = False
        if fs.cache_policy == REVALIDATE:
            self.fresh_ns = monotonic_ns()
        self.owner_changed()
        if self.host is not None:
            self.changed()

    def stat_now(self) -> Stat | None:
        fs = self.fs
        if fs.cache_policy == REVALIDATE and monotonic_ns() - self.fresh_ns > FRESH_NS:
            return None
        if self.host is not None:
            self._take_live(self.host)
        elif self.stale:
            return None
        return Stat(
            fs.dev, self.ino, self.mode, self.nlink, self.uid, self.gid, self.rdev, self.size, 4096,
            self.blocks, self.atime_ns, self.mtime_ns, self.ctime_ns, self.btime_ns,
        )  # fmt: skip

    def _take_live(self, backing: HostBacking) -> None:
        """What the open host file tells."""
        host = os.fstat(backing.any_fd())
        self.size, self.blocks, self.nlink = host.st_size, host.st_blocks, host.st_nlink
        self.atime_ns, self.mtime_ns, self.ctime_ns = host.st_atime_ns, host.st_mtime_ns, host.st_ctime_ns

    async def refresh(self) -> None:
        self.adopt((await self.fs.ask(p.GETATTR, self.handle)).data)

    async def getattr(self) -> Stat:
        stat = self.stat_now()
        if stat is not None:
            return stat
        await self.refresh()
        return Stat(
            self.fs.dev, self.ino, self.mode, self.nlink, self.uid, self.gid, self.rdev, self.size, 4096,
            self.blocks, self.atime_ns, self.mtime_ns, self.ctime_ns, self.btime_ns,
        )  # fmt: skip

    async def setattr(self, task: Task, attrs: SetAttr) -> None:
        valid = 0
        values = [0, 0, 0, 0, 0, 0]
        asked = (attrs.mode, attrs.uid, attrs.gid, attrs.size, attrs.atime_ns, attrs.mtime_ns)
        for number, value in enumerate(asked):
            if value is not None:
                valid |= 1 << number  # SET_MODE ... SET_MTIME, in this order
                values[number] = value
        backing = self.host
        by_fd = valid == p.SET_SIZE and not self.mode & 0o6000  # ours takes setuid away, the gofer's does not
        if by_fd and backing is not None and (host_fd := backing.host_fd(True)) >= 0:
            try:
                os.ftruncate(host_fd, values[3])
            except OSError as error:
                raise from_host(error)
            self.fresh_ns = 0
            return
        if not valid:  # chown(2) that leaves both ids alone: only the change time moves
            valid, values[1] = p.SET_UID, self.uid
        if valid:
            self.adopt((await self.fs.ask(p.SETATTR, self.handle, p.SETATTR_ARGS.pack(valid, *values))).data)

    # --- names

    def lookup_now(self, name: bytes) -> Inode | None:
        return None if self.names is not None and name not in self.names else ASK

    async def lookup(self, name: bytes) -> Inode:
        fs = self.fs
        if self.names is not None and name not in self.names:
            raise ENOENT
        ahead = self.ahead
        if ahead is not None:
            found = ahead.ready.pop(name, None)
            if found is None and (names := ahead.wanted(name)) is not None and len(names) > 1:
                found = await self._look_ahead(ahead, names)
            elif found is not None and not ahead.ready and ahead.last + 1 >= len(ahead.names):
                self.ahead = None  # all the way through
            if found is not None:
                if found[0]:
                    raise from_errno(found[0])
                return fs.inode(found[1], found[2], monotonic_ns() - ahead.when_ns < AHEAD_KEPT_NS)
        reply = await fs.ask(p.LOOKUP, self.handle, name)
        return fs.inode(reply.value, reply.data)

    async def walk(self, names: list[bytes], opening: bool) -> list[Inode | None]:
        fs = self.fs
        if self.ahead is not None or (len(names) == 1 and not opening):
            return []
        reply = await fs.ask(p.WALK_OPEN if opening else p.WALK, self.handle, b"\0".join(names[: p.MAX_BATCH]))
        found: list[Inode | None] = []
        for errno, handle, attributes in p.parse_batch(reply.data):
            if errno == ENOENT.errno:
                found.append(None)
            elif not errno:
                inode = fs.inode(handle, attributes)
                found.append(inode)
        if reply.fd >= 0:
            inode.offered(reply.fd, False)
        return found

    async def _look_ahead(self, ahead: Ahead, names: list[bytes]) -> tuple[int, int, bytes] | None:
        """Look up `names` in one request; the answer for the first, the others to ahead.ready."""
        data = (await self.fs.ask(p.LOOKUPN, self.handle, b"\0".join(names))).data
        self.drop_ahead(keep=ahead)
        ready = ahead.ready
        ahead.when_ns = monotonic_ns()
        ready.update(zip(names, p.parse_batch(data), strict=False))
        if self.ahead is not ahead:  # the listing was read again meanwhile
            first = ready.pop(names[0], None)
            self._give_back(ahead)
            return first
        return ready.pop(names[0], None)

    def drop_ahead(self, keep: Ahead | None = None) -> None:
        if self.ahead is not None:
            self._give_back(self.ahead)
            if self.ahead is not keep:
                self.ahead = None

    def _give_back(self, ahead: Ahead) -> None:
        for errno, handle, _data in ahead.ready.values():
            if not errno:
                self.fs.forgotten.append((handle, 1))
        ahead.ready.clear()

    def _changed(self, name: bytes, there: bool) -> None:
        """`name` in this directory is another now, or gone."""
        _mark(self)
        self.fs.changes += 1
        if self.names is not None:
            if there:
                self.names.add(name)
                all_names.added()
            else:
                self.names.discard(name)
        if self.ahead is not None:
            found = self.ahead.ready.pop(name, None)
            if found is not None and not found[0]:
                self.fs.forgotten.append((found[1], 1))

    def holds_nothing(self) -> bool:
        return self.names is not None and not self.names

    async def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        args = p.CREATE_ARGS.pack(O_RDWR, mode & 0o7777, uid, gid)
        reply = await self.fs.ask(p.CREATE, self.handle, args + name)
        inode = self._made(name, reply)
        inode.offered(reply.fd, True)
        return inode

    async def tmpfile(self, mode: int, uid: int, gid: int) -> Inode:
        reply = await self.fs.ask(p.TMPFILE, self.handle, p.OWNER_ARGS.pack(mode & 0o7777, uid, gid))
        inode = self.fs.inode(reply.value, reply.data)
        inode.offered(reply.fd, True)
        return inode

    async def _make(self, op: int, name: bytes, payload: bytes) -> GoferInode:
        return self._made(name, await self.fs.ask(op, self.handle, payload))

    def _made(self, name: bytes, reply: Pending) -> GoferInode:
        self._changed(name, True)
        fs = self.fs
        inode = fs.inode(reply.value, reply.data)
        if fs.cache_policy == ALWAYS:
            inode.unmarked = True
            if inode.mode & S_IFMT == S_IFDIR:
                all_names.learn(inode, set())
        return inode

    async def mknod(self, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Inode:
        return await self._make(p.MKNOD, name, p.OWNER_ARGS.pack(mode, uid, gid) + name)

    async def mkdir(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        return await self._make(p.MKDIR, name, p.OWNER_ARGS.pack(mode & 0o7777, uid, gid) + name)

    async def symlink(self, name: bytes, target: bytes, uid: int, gid: int) -> Inode:
        args = p.SYMLINK_ARGS.pack(uid, gid, len(name))
        inode = await self._make(p.SYMLINK, name, args + name + target)
        inode.target = target
        inode.publish_target()
        return inode

    async def link(self, name: bytes, inode: Inode) -> None:
        assert isinstance(inode, GoferInode)
        reply = await self.fs.ask(p.LINK, self.handle, p.HANDLE.pack(inode.handle) + name)
        self._changed(name, True)
        inode.adopt(reply.data)

    async def unlink(self, name: bytes, inode: Inode) -> None:
        await self.fs.ask(p.UNLINK, self.handle, name)
        self._changed(name, False)
        _lost_a_name(inode)

    async def rmdir(self, name: bytes, inode: Inode) -> None:
        await self.fs.ask(p.RMDIR, self.handle, name)
        self._changed(name, False)
        inode.nlink = 0
        _mark(inode)

    async def rename(
        self, old: bytes, inode: Inode, newdir: Inode, new: bytes, target: Inode | None, flags: int
    ) -> None:
        assert isinstance(newdir, GoferInode)
        if flags & RENAME_WHITEOUT:
            raise EINVAL("no whiteouts on the host")
        args = p.RENAME_ARGS.pack(newdir.handle, flags, len(old))
        await self.fs.ask(p.RENAME, self.handle, args + old + new)
        self._changed(old, bool(flags & RENAME_EXCHANGE))
        newdir._changed(new, True)
        _mark(inode)
        if target is not None:
            if flags & RENAME_EXCHANGE:
                _mark(target)
            elif target.mode & S_IFMT == S_IFDIR:
                target.nlink = 0
                _mark(target)
            else:
                _lost_a_name(target)

    async def readdir(self) -> list[DirEntry]:
        entries: list[DirEntry] = []
        changes = self.fs.changes
        cookie = 0
        while True:
            reply = await self.fs.ask(p.READDIR, self.handle, p.COOKIE.pack(cookie))
            entries += [DirEntry(*entry) for entry in p.parse_dirents(reply.data)]
            if reply.value == p.EOF_COOKIE:
                break
            cookie = reply.value
        self.drop_ahead()
        if self.fs.cache_policy == ALWAYS:
            names = [entry.name for entry in entries]
            if self.fs.changes == changes:  # else some name may have missed all parts of the listing
                all_names.learn(self, set(names))
            if len(names) > 3:
                keep_listing(self, names)
        return entries

    # --- content

    def readlink_now(self) -> bytes | None:
        return self.target

    async def readlink(self) -> bytes:
        if self.mode & S_IFMT != S_IFLNK:
            raise EINVAL
        if self.target is None:
            self.target = (await self.fs.ask(p.READLINK, self.handle)).data
            self.publish_target()
        return self.target

    def take_fds(self, host_ro: int, host_rw: int) -> HostBacking:
        """Descriptors that the gofer donated, as admitted; -1 for none. If another task was faster, its stay."""
        backing = self.host
        if backing is None:
            backing = HostBacking(host_ro, host_rw)
            self.set_host(backing)
            self.changed()
            kept_open.add(self)
            return backing
        had_ro, had_rw = backing.host_fds()
        for host_fd, had in ((host_ro, had_ro), (host_rw, had_rw)):
            if host_fd >= 0 and had >= 0:
                os.close(host_fd)
        backing.set_fds(had_ro if had_ro >= 0 else host_ro, had_rw if had_rw >= 0 else host_rw)
        return backing

    def offered(self, host_fd: int, writable: bool) -> None:
        """A descriptor that came with something else: without it, the next open asks for one."""
        try:
            host_fd = kept_open.admit(host_fd)
        except ENFILE:
            return
        self.take_fds(-1 if writable else host_fd, host_fd if writable else -1)

    async def backing(self, access: int) -> HostBacking:
        """The host file with the descriptor that `access` (O_RDONLY, ...) needs, asked for if it is missing.

        A reader gets a read-only one even where a writable one is there: its mappings must not be made
        writable with mprotect(2).
        """
        backing = self.host
        if backing is not None and backing.host_fds()[access != O_RDONLY] >= 0:
            return backing
        fs = self.fs
        if access == O_RDONLY:
            reply = await fs.ask(p.OPEN, self.handle, p.FLAGS.pack(O_RDONLY))
            return self.take_fds(kept_open.admit(reply.fd), -1)
        try:
            reply = await fs.ask(p.OPEN, self.handle, p.FLAGS.pack(O_RDWR))
        except (EACCES, EPERM):
            if access != O_WRONLY:
                raise
            reply = await fs.ask(p.OPEN, self.handle, p.FLAGS.pack(O_WRONLY))
        return self.take_fds(-1, kept_open.admit(reply.fd))

    async def host_backing(self, task: Task, write: bool) -> HostBacking:
        """For those who put another inode over this one (overlay) and make the description themselves."""
        backing = await self.backing(O_RDONLY)
        return await self.backing(O_RDWR) if write else backing

    def close_idle(self) -> bool:
        """Close the host descriptors unless the file is open."""
        backing = self.host
        if backing is not None:
            if getrefcount(backing) > 3 or backing.in_use():  # the inode's, `backing`, and getrefcount's own
                return False
            if self.fs.cache_policy == ALWAYS:
                self._take_live(backing)  # the last that they tell
            self.fresh_ns = 0
            self.set_host(None)
        return True

    def open_now(self, task: Task, path: Path, flags: int) -> File | None:
        kind = self.mode & S_IFMT
        if kind == S_IFREG:
            backing = self.host
            if backing is None or backing.host_fds()[flags & O_ACCMODE != O_RDONLY] < 0:
                return None
            return GoferFile(self, path, flags, backing, bool(path.mount.flags & MS_NOEXEC))
        if kind == S_IFDIR:
            return Directory(self, path, flags)
        return None

    async def open(self, task: Task, path: Path, flags: int) -> File:
        if self.mode & S_IFMT != S_IFREG:
            return await open_special(task, self, path, flags)
        backing = await self.backing(flags & O_ACCMODE)
        return GoferFile(self, path, flags, backing, bool(path.mount.flags & MS_NOEXEC))

    async def keep_mode(self) -> None:
        """Have the host's mode be what it was, after a write of ours."""
        args = p.SETATTR_ARGS.pack(p.SET_MODE, self.mode & 0o7777, 0, 0, 0, 0, 0)
        await self.fs.ask(p.SETATTR, self.handle, args)

    async def fsync(self, datasync: bool) -> None:
        await self.fs.ask(p.FSYNC, self.handle, p.FLAGS.pack(int(datasync)))

    async def connect(self, kind: int) -> int:
        """A host descriptor, connected to the unix socket that this inode is on the host (SOCK_*)."""
        return kept_open.admit((await self.fs.ask(p.CONNECT, self.handle, p.FLAGS.pack(kind))).fd)

    # --- extended attributes

    async def getxattr(self, task: Task, name: bytes) -> bytes:
        if not name.startswith(b"user.") and name != filecaps.NAME:
            raise ENODATA  # the host's own, which no guest can set
        return (await self.fs.ask(p.GETXATTR, self.handle, name)).data

    async def setxattr(self, task: Task, name: bytes, value: bytes, flags: int) -> None:
        args = p.XATTR_ARGS.pack(flags, len(name))
        self._mark(False)
        await self.fs.ask(p.SETXATTR, self.handle, args + name + value)
        _mark(self)

    async def listxattr(self, task: Task) -> list[bytes]:
        if self.unmarked:
            return []
        names = (await self.fs.ask(p.LISTXATTR, self.handle)).data.split(b"\0")[:-1]
        if not names and self.fs.cache_policy == ALWAYS:
            self._mark(True)
        return names

    def has_no_xattrs(self) -> bool:
        return self.unmarked

    def _mark(self, unmarked: bool) -> None:
        self.unmarked = unmarked
        if self.node is not None:
            self.node.unmarked = unmarked
        if self.host is not None:
            self.changed()

    async def removexattr(self, task: Task, name: bytes) -> None:
        await self.fs.ask(p.REMOVEXATTR, self.handle, name)
        _mark(self)


def _mark(inode: Inode) -> None:
    assert isinstance(inode, GoferInode)
    inode.stale = True
    inode.fresh_ns = 0
    inode.touched()


def _lost_a_name(inode: Inode) -> None:
    _mark(inode)
    inode.nlink = max(0, inode.nlink - 1)
    assert isinstance(inode, GoferInode)
    inode.changed()
