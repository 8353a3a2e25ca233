"""/proc/PID/mem and /proc/PID/pagemap: a process's memory by its addresses, for who may look into it.

The host kernel's own file of that name does it, opened with the guest's: so it is the memory of the program that ran
then, and writes reach pages that the process itself may only read, as a debugger needs it (proc_pid_mem(5)).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from sentry.abi.linux import O_ACCMODE, O_LARGEFILE, O_RDONLY, SEEK_CUR, SEEK_SET
from sentry.errors import EINVAL, EIO, ESRCH, from_host
from sentry.fs.keptopen import kept_open
from sentry.vfs.file import File

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

MAX_COPY = 1 << 22  # more is a partial read or write
_SIGN = 1 << 63


def open_memory(inode: Inode, path: Path, flags: int, target: Task, name: str) -> MemoryFile:
    """The file `name` of `target`, which the caller may look into. ESRCH when the task is gone."""
    write = name == "mem" and flags & O_ACCMODE != O_RDONLY
    mode = os.O_RDWR if write else os.O_RDONLY
    try:
        host_fd = os.open(f"{target.host_tid}/{name}", mode | os.O_CLOEXEC, dir_fd=target.kernel.host_proc)
    except OSError as error:
        raise ESRCH if error.errno in (errno.ENOENT, errno.ESRCH) else from_host(error)
    return MemoryFile(inode, path, flags, kept_open.admit(host_fd), write)


class MemoryFile(File):
    """An open one. It owns `host_fd`, the host's."""

    __slots__ = ("_host_fd", "_write")

    def __init__(self, inode: Inode, path: Path, flags: int, host_fd: int, write: bool) -> None:
        super().__init__(inode, path, flags | O_LARGEFILE)
        self._host_fd = host_fd
        self._write = write

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        if not 0 <= offset < _SIGN:
            raise EIO
        try:
            return os.pread(self._host_fd, min(size, MAX_COPY), offset)
        except OSError as error:
            raise from_host(error)

    async def pwrite(self, task: Task, data: bytes, offset: int) -> int:
        if not self._write:
            raise EINVAL
        if not 0 <= offset < _SIGN:
            raise EIO
        try:
            return os.pwrite(self._host_fd, data[:MAX_COPY], offset)
        except OSError as error:
            raise from_host(error)

    async def read(self, task: Task, size: int) -> bytes:
        data = await self.pread(task, size, self.pos)
        self.pos += len(data)
        return data

    async def write(self, task: Task, data: bytes) -> int:
        done = await self.pwrite(task, data, self.pos)
        self.pos += done
        return done

    def seek(self, offset: int, whence: int) -> int:
        """mem_lseek: addresses have no end to count from, and may be negative numbers."""
        if whence not in (SEEK_SET, SEEK_CUR):
            raise EINVAL
        pos = offset if whence == SEEK_SET else self.pos + offset
        self.pos = (pos + _SIGN & (1 << 64) - 1) - _SIGN
        return self.pos

    def release(self) -> None:
        os.close(self._host_fd)
