"""/dev: the memory devices (null zero full random urandom) and what a container's /dev starts with.

    await populate_dev(task, place, devices)     # into the tmpfs mounted on /dev

null(4), full(4), random(4); runtime-spec, "Default Devices".
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from sentry.abi.linux import EPOLLIN, EPOLLRDNORM, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFMT, TMPFS_MAGIC
from sentry.abi.x86_64 import makedev
from sentry.errors import EINVAL, ENODEV, ENOENT, ENOSPC, ENOTTY, EPERM, LinuxError
from sentry.vfs.dentry import Dentry
from sentry.vfs.devices import register
from sentry.vfs.file import File
from sentry.vfs.inode import Filesystem, Inode
from sentry.vfs.mount import Mount, Path
from sentry.vfs.special import open_special

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

MAX_READ = 1 << 22
RNDGETENTCNT, RNDADDTOENTCNT, RNDGETPOOL, RNDADDENTROPY = 0x80045200, 0x40045201, 0x80085202, 0x40085203
RNDZAPENTCNT, RNDCLEARPOOL, RNDRESEEDCRNG = 0x5204, 0x5206, 0x5207
ENTROPY_BITS = 256

#: A host descriptor of the host's /dev/zero, opened at boot; it only serves mmap(2). -1: none.
host_zero_fd = -1


def set_host_zero(host_fd: int) -> None:
    """Boot gives a read-write descriptor of the host's /dev/zero (see collect_host_facts)."""
    global host_zero_fd
    host_zero_fd = host_fd


class NullFile(File):
    """/dev/null."""

    __slots__ = ()
    nowait = takes_splice = True

    async def read(self, task: Task, size: int) -> bytes:
        return b""

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        return b""

    async def write(self, task: Task, data: bytes) -> int:
        return len(data)

    async def pwrite(self, task: Task, data: bytes, offset: int) -> int:
        return len(data)

    def seek(self, offset: int, whence: int) -> int:
        self.pos = 0
        return 0


class ZeroFile(NullFile):
    """/dev/zero. Mapping it is mapping anonymous memory; the host's own /dev/zero does that."""

    __slots__ = ()
    gives_splice = True

    async def read(self, task: Task, size: int) -> bytes:
        return bytes(min(size, MAX_READ))

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        return bytes(min(size, MAX_READ))

    def mapping(self) -> int:
        if host_zero_fd < 0:
            raise ENODEV
        return host_zero_fd


class FullFile(NullFile):
    """/dev/full: full(4)."""

    __slots__ = ()
    gives_splice = True
    nowait = False

    async def read(self, task: Task, size: int) -> bytes:
        return bytes(min(size, MAX_READ))

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        return bytes(min(size, MAX_READ))

    async def write(self, task: Task, data: bytes) -> int:
        raise ENOSPC

    async def pwrite(self, task: Task, data: bytes, offset: int) -> int:
        raise ENOSPC


class RandomFile(NullFile):
    """/dev/random and /dev/urandom: the host kernel's generator."""

    __slots__ = ()
    gives_splice = True

    async def read(self, task: Task, size: int) -> bytes:
        return os.urandom(min(size, MAX_READ))

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        return os.urandom(min(size, MAX_READ))

    async def ioctl(self, task: Task, cmd: int, arg: int) -> int:
        if cmd == RNDGETENTCNT:
            task.mem.write_u32(arg, ENTROPY_BITS)
            return 0
        if cmd in (RNDADDTOENTCNT, RNDGETPOOL, RNDADDENTROPY, RNDZAPENTCNT, RNDCLEARPOOL, RNDRESEEDCRNG):
            raise EPERM
        raise ENOTTY


def _opener(cls: type[File]) -> object:
    def open_it(task: Task, inode: Inode, path: Path, flags: int) -> File:
        return cls(inode, path, flags)

    return open_it


class SeededFile(RandomFile):
    """/dev/random, which can be waited for: it has been seeded long ago."""

    __slots__ = ()

    def poll(self) -> int:
        return EPOLLIN | EPOLLRDNORM


for _minor, _cls in ((3, NullFile), (5, ZeroFile), (7, FullFile), (8, SeededFile), (9, RandomFile)):
    register(1, _minor, _opener(_cls))  # type: ignore[arg-type]


class Device(NamedTuple):
    """A node to make; `path` is relative to /dev, `mode` has the type (S_IFCHR, S_IFBLK, S_IFIFO)."""

    path: bytes
    mode: int
    major: int = 0
    minor: int = 0
    uid: int = 0
    gid: int = 0


DEFAULT_DEVICES = (
    Device(b"null", S_IFCHR | 0o666, 1, 3),
    Device(b"zero", S_IFCHR | 0o666, 1, 5),
    Device(b"full", S_IFCHR | 0o666, 1, 7),
    Device(b"random", S_IFCHR | 0o666, 1, 8),
    Device(b"urandom", S_IFCHR | 0o666, 1, 9),
    Device(b"tty", S_IFCHR | 0o666, 5, 0),
)
CONSOLE = Device(b"console", S_IFCHR | 0o620, 5, 1)
LINKS = (
    (b"fd", b"/proc/self/fd"),
    (b"stdin", b"/proc/self/fd/0"),
    (b"stdout", b"/proc/self/fd/1"),
    (b"stderr", b"/proc/self/fd/2"),
    (b"ptmx", b"pts/ptmx"),
)


#: (path below /dev, c u b or p, major, minor, permissions, uid, gid), as config.json's linux.devices has them
Listed = tuple[bytes, str, int, int, int, int, int]
_TYPES = {"c": S_IFCHR, "u": S_IFCHR, "b": S_IFBLK, "p": S_IFIFO}


def device(listed: Listed) -> Device:
    """The node that an entry of linux.devices asks for; EINVAL outside /dev."""
    path, kind, major, minor, mode, uid, gid = listed
    if not path.startswith(b"/dev/") or kind not in _TYPES or b".." in path.split(b"/"):
        raise EINVAL(f"device {path!r} of type {kind}")
    return Device(path[5:], _TYPES[kind] | (mode & 0o7777), major, minor, uid, gid)


async def populate_dev(
    task: Task, place: Path, devices: Iterable[Listed] = (), terminal: bool = False
) -> None:
    """Fill the /dev at `place`: default devices, links, mount points, and `devices` on top."""
    root = place.inode
    place.dentry.is_incomplete()
    wanted = {each.path: each for each in DEFAULT_DEVICES}
    if terminal:
        wanted[CONSOLE.path] = CONSOLE
    wanted.update({each.path: each for each in map(device, devices)})
    for name, target in LINKS:
        if name not in wanted and not await _exists(root, name):
            await root.symlink(name, target, 0, 0)
    for name in (b"pts", b"shm", b"mqueue"):
        if not await _exists(root, name):
            await root.mkdir(name, S_IFDIR | 0o755, 0, 0)
    for each in wanted.values():
        *above, name = each.path.split(b"/")
        directory = root
        for part in above:
            try:
                directory = await directory.lookup(part)
            except ENOENT:
                directory = await directory.mkdir(part, S_IFDIR | 0o755, 0, 0)
        if await _exists(directory, name):
            continue
        rdev = makedev(each.major, each.minor) if each.mode & S_IFMT != S_IFIFO else 0
        await directory.mknod(name, each.mode, rdev, each.uid, each.gid)


async def _exists(directory: Inode, name: bytes) -> bool:
    try:
        await directory.lookup(name)
    except LinuxError:
        return False
    return True


class NullFs(Filesystem):
    """Holds one null device, to mount over files that the configuration masks."""

    name = b"tmpfs"
    magic = TMPFS_MAGIC

    def __init__(self) -> None:
        super().__init__()
        self.root = Inode(self, 1, S_IFDIR | 0o755)
        self.null = DeviceInode(self, 2, S_IFCHR | 0o666, rdev=makedev(1, 3))


class DeviceInode(Inode):
    """A device node of a file system without one of its own."""

    __slots__ = ()

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return await open_special(task, self, path, flags)


_null: Path | None = None


def null_inode_path(kernel: Kernel) -> Path:
    """A null device for maskedPaths: mount it with ``Mount(path.mount.fs, flags, b"none", path.dentry)``."""
    global _null
    if _null is None:
        fs = NullFs()
        _null = Path(Mount(fs), Dentry(b"null", fs.root_dentry, fs.null))
        _null.dentry.hash()
    return _null
