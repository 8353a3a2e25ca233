"""/proc/PID/fd and fdinfo: the descriptors of a process (proc_pid_fd(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import O_CLOEXEC, O_RDONLY, S_IFDIR, S_IFLNK
from sentry.errors import EBADF, ENOENT
from sentry.fs.proc.access import ProcessFile, ProcessInode, check_look, may_look, owner
from sentry.fs.pseudo import OpenDirectory
from sentry.vfs.dentry import Dentry
from sentry.vfs.mount import Mount, Path, d_path
from sentry.vfs.stat import DirEntry

if TYPE_CHECKING:
    from sentry.fs.proc.fs import Procfs
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode

DT_LNK, DT_REG = 10, 8


def _fd_number(name: bytes) -> int:
    if not name.isdigit() or (name[:1] == b"0" and name != b"0") or len(name) > 10:
        raise ENOENT
    return int(name)


def _get(target: Task, fd: int) -> File:
    try:
        return target.fds.get(fd)
    except EBADF:
        raise ENOENT


class FdDirectory(ProcessInode):
    """/proc/PID/fd."""

    __slots__ = ("base", "target")
    fs: Procfs
    own_permission = True

    def __init__(self, fs: Procfs, target: Task, ino: int) -> None:
        super().__init__(fs, ino, S_IFDIR | 0o500, *owner(target), nlink=2)
        self.target = target
        self.base = ino + 0x1000

    def permission(self, task: Task, mask: int) -> bool | None:
        return True if task.group is self.target.group else None

    async def lookup(self, name: bytes) -> Inode:
        fd = _fd_number(name)
        return FdLink(self.fs, self.target, fd, _get(self.target, fd), self.base + fd)

    async def readdir(self) -> list[DirEntry]:
        return [DirEntry(b"%d" % fd, self.base + fd, DT_LNK) for fd, _ in self.target.fds.items()]

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return OpenDirectory(self, path, flags)


class FdLink(ProcessInode):
    """/proc/PID/fd/N: a magic link to the open file itself."""

    __slots__ = ("file", "target")

    def __init__(self, fs: Procfs, target: Task, fd: int, file: File, ino: int) -> None:
        mode = (0o500 if file.readable else 0) | (0o300 if file.writable else 0)
        super().__init__(fs, ino, S_IFLNK | mode, *owner(target))
        self.size = 64
        self.target = target
        self.file = file

    def readlink_for(self, task: Task) -> bytes:
        check_look(task, self.target)
        return file_name(self.file, task.fs.root)

    async def readlink(self) -> bytes:
        return file_name(self.file, self.target.fs.root)

    def magic_link(self, task: Task) -> Path:
        check_look(task, self.target)
        return file_place(self.file)


def file_name(file: File, root: Path) -> bytes:
    """What readlink(2) of a descriptor's link says."""
    text = file.describe()
    if text is not None:
        return text
    if file.path is not None:
        return d_path(file.path, root)
    return b"anon_inode:[%s]" % type(file).__name__.lower().encode()


def file_place(file: File) -> Path:
    """Where a descriptor's link leads; for a file without a name, a place of its own."""
    if file.path is not None:
        return file.path
    return Path(_nowhere(file.inode), Dentry(b"", None, file.inode))


def _nowhere(inode: Inode) -> Mount:
    """A mount nobody sees, for inodes of pipefs and its like."""
    fs = inode.fs
    if not hasattr(fs, "root"):
        fs.root = inode
    mount = getattr(fs, "_nowhere", None)
    if mount is None:
        mount = Mount(fs)
        fs._nowhere = mount  # type: ignore[attr-defined]
    assert isinstance(mount, Mount)
    return mount


class FdinfoDirectory(ProcessInode):
    """/proc/PID/fdinfo."""

    __slots__ = ("base", "target")
    fs: Procfs
    own_permission = True

    def __init__(self, fs: Procfs, target: Task, ino: int) -> None:
        super().__init__(fs, ino, S_IFDIR | 0o555, *owner(target, True), nlink=2)
        self.target = target
        self.base = ino + 0x100000

    def permission(self, task: Task, mask: int) -> bool | None:
        return None if may_look(task, self.target) else False

    async def lookup(self, name: bytes) -> Inode:
        fd = _fd_number(name)
        _get(self.target, fd)
        target = self.target

        def make(reader: Task) -> bytes:
            return fdinfo(target, fd)

        inode = ProcessFile(self.fs, make, None, 0o444, self.base + fd)
        inode.uid, inode.gid = self.uid, self.gid
        return inode

    async def readdir(self) -> list[DirEntry]:
        return [DirEntry(b"%d" % fd, self.base + fd, DT_REG) for fd, _ in self.target.fds.items()]

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return OpenDirectory(self, path, flags)


def fdinfo(target: Task, fd: int) -> bytes:
    """The text of /proc/PID/fdinfo/N."""
    file = _get(target, fd)
    flags = file.flags | (O_CLOEXEC if target.fds.get_cloexec(fd) else 0)
    mount_id = file.path.mount.id if file.path is not None else 1
    text = b"pos:\t%d\nflags:\t%s\nmnt_id:\t%d\nino:\t%d\n" % (
        position(file),
        b"0%o" % flags if flags != O_RDONLY else b"00",
        mount_id,
        file.inode.ino,
    )
    more = getattr(file, "fdinfo", None)
    return text + (more() if more is not None else b"")


def position(file: File) -> int:
    """The offset; a file whose data C moves keeps it there."""
    return file.pos
