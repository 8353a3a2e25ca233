"""/proc/PID/mem: a process's memory, for who may trace it.

The host kernel's own file of that name does it, opened with the guest's: so it is the memory of the program that ran
then, and writes reach pages that the process itself may only read, as a debugger needs it (proc_pid_mem(5)).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sentry.abi.linux import O_ACCMODE, O_RDONLY, O_RDWR, S_IFREG, SEEK_CUR, SEEK_SET
from sentry.errors import EACCES, EINVAL, EIO, ESRCH
from sentry.fs.proc.access import ProcessInode, may_look, owner
from sentry.fs.pseudo import PseudoFilesystem
from sentry.vfs.file import File

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.mount import Path

MAX_COPY = 1 << 22  # more is a partial read or write
_WORD = (1 << 64) - 1


class MemInode(ProcessInode):
    __slots__ = ("target",)

    def __init__(self, fs: PseudoFilesystem, target: Task, ino: int) -> None:
        super().__init__(fs, ino, S_IFREG | 0o600, *owner(target))
        self.target = target

    async def open(self, task: Task, path: Path, flags: int) -> File:
        if not may_look(task, self.target):
            raise EACCES
        mode = os.O_RDONLY if flags & O_ACCMODE == O_RDONLY else os.O_RDWR
        kernel = self.target.kernel
        try:
            fd = os.open(f"{self.target.host_tid}/mem", mode | os.O_CLOEXEC, dir_fd=kernel.host_proc)
        except OSError:
            raise ESRCH
        return MemFile(self, path, flags, fd)


class MemFile(File):
    __slots__ = ("_host_fd",)

    def __init__(self, inode: MemInode, path: Path, flags: int, host_fd: int) -> None:
        super().__init__(inode, path, flags)
        self._host_fd = host_fd

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        try:
            return os.pread(self._host_fd, min(size, MAX_COPY), offset)
        except OSError:
            raise EIO

    async def pwrite(self, task: Task, data: bytes, offset: int) -> int:
        if self.flags & O_ACCMODE not in (O_RDWR, 1):
            raise EIO
        try:
            return os.pwrite(self._host_fd, data[:MAX_COPY], offset)
        except OSError:
            raise EIO

    async def read(self, task: Task, size: int) -> bytes:
        data = await self.pread(task, size, self.pos)
        self.pos += len(data)
        return data

    async def write(self, task: Task, data: bytes) -> int:
        done = await self.pwrite(task, data, self.pos)
        self.pos += done
        return done

    def seek(self, offset: int, whence: int) -> int:
        if whence == SEEK_CUR:
            offset += self.pos
        elif whence != SEEK_SET:
            raise EINVAL
        self.pos = offset & _WORD
        return self.pos

    def release(self) -> None:
        os.close(self._host_fd)
