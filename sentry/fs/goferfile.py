"""GoferFile: an open regular file of a goferfs, whose data goes through the host descriptors of its inode."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    FALLOC_FL_COLLAPSE_RANGE,
    FALLOC_FL_INSERT_RANGE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
)
from sentry.fs.hostfile import AT_POS, HostFile, IoVec

if TYPE_CHECKING:
    from sentry.fs.goferfs import GoferInode
    from sentry.kernel.task import Task

#: modes of fallocate(2) that RLIMIT_FSIZE does not hold
_WITHIN = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_COLLAPSE_RANGE | FALLOC_FL_INSERT_RANGE


class GoferFile(HostFile):
    """An open regular file. Only what may take the disk's time goes through the gofer."""

    __slots__ = ()
    inode: GoferInode

    async def write_from(
        self, task: Task, tid: int, iov: IoVec, offset: int = AT_POS, rwf: int = 0, nowait: bool = False
    ) -> int:
        put = await super().write_from(task, tid, iov, offset, rwf, nowait)
        await self._keep_mode()
        return put

    async def fallocate(self, task: Task, mode: int, offset: int, length: int) -> None:
        await super().fallocate(task, mode, offset, length)
        await self._keep_mode()

    def counts(self, mode: int) -> bool:
        return not mode & _WITHIN

    async def _keep_mode(self) -> None:
        """We have no CAP_FSETID: to our writes the host takes setuid and setgid away, when the guest may keep them."""
        if self.inode.mode & 0o6000:
            await self.inode.keep_mode()

    async def fsync(self, task: Task, datasync: bool) -> None:
        await self.inode.fsync(datasync)
