"""memfd_create(2): a regular file in no directory. Its data is a host memfd, so seals are the host
kernel's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from native import lib
from sentry.abi.linux import O_LARGEFILE, O_RDWR, S_IFREG, TMPFS_MAGIC
from sentry.errors import from_host
from sentry.fs.regular import StoredFile
from sentry.fs.store import Store
from sentry.vfs.inode import Filesystem
from sentry.vfs.mount import anonymous_path

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File


class MemfdFs(Filesystem):
    """The kernel's internal tmpfs; mounted nowhere."""

    name = b"tmpfs"
    magic = TMPFS_MAGIC
    direct_io = False
    sealable = True

    def __init__(self) -> None:
        super().__init__()
        self.store = Store(None)
        self.last_ino = 0


_fs: MemfdFs | None = None


def kernel_mount() -> MemfdFs:
    """The file system of memfds and of shared memory that has no name, made at first use (Linux: shm_mnt)."""
    global _fs
    if _fs is None:
        _fs = MemfdFs()
    return _fs


def create_memfd(task: Task, name: bytes, sealable: bool, mode: int) -> File:
    """An open, empty memfd. Unless `sealable`, it is born with F_SEAL_SEAL."""
    fs = kernel_mount()
    fs.last_ino += 1
    inode = StoredFile(fs, fs.last_ino, S_IFREG | mode, task.creds.fsuid, task.creds.fsgid, fs.store, nlink=0)
    path = anonymous_path(inode, b"/memfd:" + name)
    path.dentry.dead = True
    file = inode.describe(path, O_RDWR | O_LARGEFILE)
    lib.nc_file_uncount(file.nc)  # nor does it keep others from running it
    if not sealable:
        import fcntl

        try:
            fcntl.fcntl(inode.backing(False, True).host_fd(True), fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL)
        except OSError as error:
            raise from_host(error)
    return file
