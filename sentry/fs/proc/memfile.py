"""/proc/PID/mem and /proc/PID/pagemap: a process's memory by its addresses, as the host kernel shows it.

The sentry opens the host's file for each access, and only while the process has the program that it had when the
guest's file was opened: afterwards that memory is gone, and there is nothing to read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from sentry.abi.linux import O_LARGEFILE, SEEK_CUR, SEEK_SET
from sentry.errors import EINVAL, EIO, from_host
from sentry.vfs.file import File

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

MAX_PART = 1 << 20  # a larger access is a partial one


class MemoryFile(File):
    """An open one; `name` is the host's file."""

    __slots__ = ("_execs", "_name", "_target")

    def __init__(self, inode: Inode, path: Path, flags: int, target: Task, name: str) -> None:
        super().__init__(inode, path, flags | O_LARGEFILE)
        self._target = target
        self._name = name
        self._execs = target.group.exec_count

    def _host_fd(self, flags: int) -> int:
        """-1: that memory is no more."""
        target = self._target
        if target.group.exited or target.group.exec_count != self._execs:
            return -1
        host_tid = target.group.leader.host_tid
        try:
            return os.open(f"{host_tid}/{self._name}", flags | os.O_CLOEXEC, dir_fd=target.kernel.host_proc)
        except OSError:
            return -1

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        if not 0 <= offset < 1 << 63:
            raise EIO
        host_fd = self._host_fd(os.O_RDONLY)
        if host_fd < 0:
            return b""
        try:
            return os.pread(host_fd, min(size, MAX_PART), offset)
        except OSError as error:
            raise from_host(error)
        finally:
            os.close(host_fd)

    async def pwrite(self, task: Task, data: bytes, offset: int) -> int:
        if not 0 <= offset < 1 << 63:
            raise EIO
        host_fd = self._host_fd(os.O_RDWR)
        if host_fd < 0:
            return 0
        try:
            return os.pwrite(host_fd, data[:MAX_PART], offset)
        except OSError as error:
            raise from_host(error)
        finally:
            os.close(host_fd)

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
        self.pos = offset if whence == SEEK_SET else self.pos + offset
        return self.pos
