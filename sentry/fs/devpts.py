"""devpts: /dev/pts, where each pty's slave has its name, and the ptmx node that makes ptys (pts(4)).

registry: b"devpts" with uid=, gid=, mode=, ptmxmode=, max= (newinstance is what every mount is)
devpts.attach_console(console)    # the container's terminal as /dev/pts/N: ttyname(3) works in it
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import DEVPTS_SUPER_MAGIC, O_NOCTTY, O_RDWR, S_IFCHR, S_IFDIR
from sentry.abi.x86_64 import makedev
from sentry.errors import EBADF, EINVAL, EIO, ENODEV, ENOENT, ENOSPC, ENXIO
from sentry.fs.registry import register as register_filesystem
from sentry.fs.tty.console import HostConsole
from sentry.fs.tty.pty import MasterFile, PtySlave
from sentry.fs.tty.tty import Tty, TtyFile
from sentry.vfs.dentry import Dentry
from sentry.vfs.devices import register as register_device
from sentry.vfs.file import File
from sentry.vfs.inode import NEVER, Filesystem, Inode
from sentry.vfs.mount import Path
from sentry.vfs.special import Directory
from sentry.vfs.stat import DirEntry

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.vfs.mount import MountNamespace

PTMX_INO = 2
SLAVE_MAJOR = 136
DT_CHR = 2


class Devpts(Filesystem):
    """One instance: a numbering of ptys of its own."""

    name = b"devpts"
    magic = DEVPTS_SUPER_MAGIC
    cache_policy = NEVER
    blksize = 1024

    def __init__(self, options: bytes = b"") -> None:
        super().__init__()
        self.uid: int | None = None
        self.gid: int | None = None
        self.mode = 0o600
        self.ptmxmode = 0
        self.max = 1 << 20
        self.console: HostConsole | None = None  # what /dev/console opens
        self.slaves: dict[int, SlaveInode] = {}
        self.root = RootDirectory(self)
        self.ptmx = PtmxInode(self)
        self.remount(0, options)

    def remount(self, flags: int, data: bytes) -> None:
        for item in data.split(b","):
            key, _, value = item.partition(b"=")
            try:
                if key == b"uid":
                    self.uid = int(value)
                elif key == b"gid":
                    self.gid = int(value)
                elif key == b"mode":
                    self.mode = int(value, 8) & 0o7777
                elif key == b"ptmxmode":
                    self.ptmxmode = int(value, 8) & 0o7777
                elif key == b"max":
                    self.max = int(value)
                elif key not in (b"", b"newinstance"):
                    raise EINVAL(f"devpts option {key!r}")
            except ValueError:
                raise EINVAL(f"devpts option {item!r}")
        self.ptmx.mode = S_IFCHR | self.ptmxmode

    def options(self) -> bytes:
        text = b""
        if self.uid is not None:
            text += b",uid=%d" % self.uid
        if self.gid is not None:
            text += b",gid=%d" % self.gid
        return text + b",mode=%03o,ptmxmode=%03o" % (self.mode, self.ptmxmode)

    def _add(self, tty: PtySlave | HostConsole, uid: int, gid: int) -> SlaveInode:
        owner = uid if self.uid is None else self.uid
        inode = self.slaves[tty.index] = SlaveInode(self, tty, owner, gid if self.gid is None else self.gid)
        return inode

    def _free_index(self) -> int:
        index = 0
        while index in self.slaves:
            index += 1
        if index >= self.max:
            raise ENOSPC
        return index

    def open_master(self, task: Task, inode: Inode, path: Path, flags: int) -> MasterFile:
        """A new pty: its master; the slave appears as /dev/pts/N."""
        slave = PtySlave(task.kernel, self._free_index())
        self._add(slave, task.creds.fsuid, task.creds.fsgid)
        return MasterFile(inode, path, flags, slave, self)

    def open_peer(self, task: Task, master: MasterFile, flags: int) -> File:
        """TIOCGPTPEER: the slave, whatever may be mounted over its name."""
        inode = self.slaves[master.slave.index]
        mount = None if master.path is None else self._mount_beside(master.path)
        path = (
            None if mount is None else Path(mount.mount, Dentry(b"%d" % inode.tty.index, mount.dentry, inode))
        )
        return inode.open_tty(task, path, flags)

    def _mount_beside(self, path: Path) -> Path | None:
        """The root of this instance, as reached from the ptmx that was opened."""
        if path.mount.fs is self:
            return path.mount.path
        found = mounted_beside(path)
        return found if found is not None and found.mount.fs is self else None

    def attach_console(self, console: HostConsole, uid: int = 0, gid: int = 0) -> SlaveInode:
        """Give the container's terminal a name here."""
        console.index = self._free_index()
        if self.console is None or self.console.hung_up:
            self.console = console
        console.on_close = self.remove
        return self._add(console, uid, gid)

    def remove(self, index: int) -> None:
        self.slaves.pop(index, None)


class RootDirectory(Inode):
    __slots__ = ()
    fs: Devpts

    def __init__(self, fs: Devpts) -> None:
        super().__init__(fs, 1, S_IFDIR | 0o755, nlink=2)

    async def lookup(self, name: bytes) -> Inode:
        if name == b"ptmx":
            return self.fs.ptmx
        slave = self.fs.slaves.get(int(name)) if name.isdigit() and name == b"%d" % int(name) else None
        if slave is None:
            raise ENOENT
        return slave

    async def readdir(self) -> list[DirEntry]:
        slaves = sorted(self.fs.slaves.items())
        names = [DirEntry(b"%d" % index, inode.ino, DT_CHR) for index, inode in slaves]
        return [*names, DirEntry(b"ptmx", PTMX_INO, DT_CHR)]

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return Directory(self, path, flags)


class PtmxInode(Inode):
    __slots__ = ()
    fs: Devpts

    def __init__(self, fs: Devpts) -> None:
        super().__init__(fs, PTMX_INO, S_IFCHR, rdev=makedev(5, 2))

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return self.fs.open_master(task, self, path, flags)


class SlaveInode(Inode):
    """/dev/pts/N."""

    __slots__ = ("tty",)
    fs: Devpts

    def __init__(self, fs: Devpts, tty: PtySlave | HostConsole, uid: int, gid: int) -> None:
        rdev = makedev(SLAVE_MAJOR, tty.index)
        super().__init__(fs, tty.index + 3, S_IFCHR | fs.mode, uid, gid, rdev=rdev)
        self.tty = tty

    def open_tty(self, task: Task, path: Path | None, flags: int) -> TtyFile:
        tty = self.tty
        if tty.hung_up:
            raise EIO
        tty.opened(task, flags)
        return TtyFile(self, path, flags, tty)

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return self.open_tty(task, path, flags)


def mounted_beside(path: Path) -> Path | None:
    """The root of the devpts mounted at "pts" in the directory of `path` (Linux: devpts_mntget)."""
    parent = path.dentry.parent
    for mountpoint, mount in path.mount.children.items():
        if mountpoint.parent is parent and mountpoint.name == b"pts" and isinstance(mount.fs, Devpts):
            return mount.path
    return None


def _open_ptmx(task: Task, inode: Inode, path: Path, flags: int) -> File:
    place = mounted_beside(path)
    if place is None:
        raise ENODEV("no devpts beside this ptmx")
    fs = place.mount.fs
    assert isinstance(fs, Devpts)
    return fs.open_master(task, inode, path, flags)


def _open_current_tty(task: Task, inode: Inode, path: Path, flags: int) -> File:
    """/dev/tty: the caller's controlling terminal."""
    tty: Tty | None = task.kernel.ttys.of(task.group)
    if tty is None:
        raise ENXIO("no controlling terminal")
    if tty.hung_up:
        raise EIO
    tty.opens += 1
    return TtyFile(inode, path, flags, tty)


def _open_console(task: Task, inode: Inode, path: Path, flags: int) -> File:
    """/dev/console: the terminal the container was started with."""
    place = mounted_beside(path)
    fs = None if place is None else place.mount.fs
    console = fs.console if isinstance(fs, Devpts) else None
    if console is None or console.hung_up:
        raise ENODEV("the container has no terminal")
    console.opened(task, flags | O_NOCTTY)
    return TtyFile(inode, path, flags, console)


def open_console(kernel: Kernel, mounts: MountNamespace, host_fd: int) -> TtyFile:
    """The file for descriptors 0, 1 and 2 of a process with a terminal: `host_fd`, a slave of a host pty.

    It appears as /dev/pts/N of the container, if a devpts is mounted there.
    """
    console = HostConsole(kernel, host_fd)
    mount = next((each for each in mounts.mounts() if isinstance(each.fs, Devpts)), None)
    fs = mount.fs if mount is not None else Devpts()
    assert isinstance(fs, Devpts)
    inode = fs.attach_console(console)
    path = None if mount is None else Path(mount, Dentry(b"%d" % console.index, mount.root, inode))
    console.opens += 1
    return TtyFile(inode, path, O_RDWR, console)


def give_terminal(task: Task) -> None:
    """Make the terminal on descriptor 0 (1, 2) the controlling terminal of `task`, a session's leader."""
    for fd in (0, 1, 2):
        try:
            file = task.fds.get(fd)
        except EBADF:
            continue
        if isinstance(file, TtyFile):
            group = task.group
            task.kernel.ttys.set(group.sid(), file.tty, group.pgid())
            return


register_device(5, 0, _open_current_tty)
register_device(5, 1, _open_console)
register_device(5, 2, _open_ptmx)
register_filesystem(b"devpts", lambda source, options, flags: Devpts(options))
