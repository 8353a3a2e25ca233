"""Moving data between an open file and guest memory, and between two open files.

Files of the C core move it themselves; for the others the sentry copies, at most MAX_COPY bytes a call (a
longer transfer is a partial one, which every program must expect).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, TypeVar

from sentry.abi.linux import IN_ACCESS, IN_MODIFY, O_NONBLOCK, RWF_NOWAIT
from sentry.errors import EBADF, EINVAL, Interrupted, LinuxError
from sentry.fs.hostfile import AT_POS, MAX_COPY, CFile, HostFile, IoVec
from sentry.fs.signalfd import SignalFd
from sentry.vfs import notify

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sentry.kernel.task import Task
    from sentry.vfs.file import File

T = TypeVar("T")

MAX_RW_COUNT = 0x7FFFF000  # Linux's, for one call
_CHUNK = 1 << 18


async def read_iov(task: Task, file: File, iov: IoVec, offset: int = AT_POS, rwf: int = 0) -> Any:
    """readv(2), preadv(2) into the task's memory: the bytes read, or what the host shall do for it."""
    got = await _read_iov(task, file, iov, offset, rwf)
    if got and notify.watching:
        notify.file_event(file, IN_ACCESS)
    return got


async def _read_iov(task: Task, file: File, iov: IoVec, offset: int, rwf: int) -> Any:
    if isinstance(file, CFile):
        return await file.read_into(task, task.mem.host_tid, iov, offset, rwf, bool(rwf & RWF_NOWAIT))
    if isinstance(file, SignalFd) and offset == AT_POS:
        return file.read_by_host(task, iov, rwf)
    if not file.readable:
        raise EBADF
    size = min(sum(length for _, length in iov), MAX_COPY)
    if offset != AT_POS:
        data = await file.pread(task, size, offset)
    elif rwf & RWF_NOWAIT:
        data = await _without_waiting(file, file.read(task, size))
    else:
        data = await file.read(task, size)
    return task.mem.write_vec(iov, data) if data else 0


async def write_iov(task: Task, file: File, iov: IoVec, offset: int = AT_POS, rwf: int = 0) -> int:
    """writev(2), pwritev(2) from the task's memory."""
    put = await _write_iov(task, file, iov, offset, rwf)
    if put and notify.watching:
        notify.file_event(file, IN_MODIFY)
    return put


async def _write_iov(task: Task, file: File, iov: IoVec, offset: int, rwf: int) -> int:
    if isinstance(file, CFile):
        return await file.write_from(task, task.mem.host_tid, iov, offset, rwf, bool(rwf & RWF_NOWAIT))
    if not file.writable:
        raise EBADF
    data = task.mem.read_vec(iov, MAX_COPY)
    if offset != AT_POS:
        return await file.pwrite(task, data, offset)
    if rwf & RWF_NOWAIT:
        return await _without_waiting(file, file.write(task, data))
    return await file.write(task, data)


async def _without_waiting(file: File, transfer: Coroutine[Any, Any, T]) -> T:
    """RWF_NOWAIT: as on a description with O_NONBLOCK, which does not suspend; so nobody else sees the flag."""
    flags = file.flags
    file.flags = flags | O_NONBLOCK
    try:
        return await transfer
    finally:
        file.flags = flags


class End:
    """A file in a transfer, at its own position or at one given."""

    __slots__ = ("file", "offset")

    def __init__(self, file: File, offset: int | None) -> None:
        if offset is not None and offset < 0:
            raise EINVAL
        self.file = file
        self.offset = offset

    async def read(self, task: Task, size: int) -> bytes:
        if self.offset is None:
            return await self.file.read(task, size)
        data = await self.file.pread(task, size, self.offset)
        self.offset += len(data)
        return data

    def give_back(self, size: int) -> None:
        """The last `size` bytes read found no place: read them again next time, where that can be."""
        if self.offset is not None:
            self.offset -= size
        elif isinstance(self.file, HostFile):
            self.file.pos -= size

    async def write(self, task: Task, data: bytes) -> int:
        if self.offset is None:
            return await self.file.write(task, data)
        put = await self.file.pwrite(task, data, self.offset)
        self.offset += put
        return put


async def copy(task: Task, source: End, target: End, count: int) -> int:
    """Up to `count` bytes; short at the source's end and at an error or signal after some were copied."""
    done = await _copy(task, source, target, count)
    if done and notify.watching:
        tell_moved(source, target)
    return done


def tell_moved(source: End, target: End) -> None:
    """Data was moved: watchers of both files hear of it."""
    notify.file_event(source.file, IN_ACCESS)
    notify.file_event(target.file, IN_MODIFY)


async def _copy(task: Task, source: End, target: End, count: int) -> int:
    if isinstance(source.file, HostFile) and isinstance(target.file, HostFile):
        return await _copy_host(task, source, target, count)
    done = 0
    try:
        while done < count:
            data = await source.read(task, min(count - done, _CHUNK))
            if not data:
                break
            try:
                put = await target.write(task, data)
            except (LinuxError, Interrupted):
                source.give_back(len(data))
                raise
            done += put
            if put < len(data):
                source.give_back(len(data) - put)
                break
    except (LinuxError, Interrupted):
        if not done:
            raise
    return done


_HOST_STEP = 1 << 26


async def _copy_host(task: Task, source: End, target: End, count: int) -> int:
    """Between regular files the host kernel copies, where it can. A first step by hand sees to setuid
    bits and errors.
    """
    count = min(count, _HOST_STEP)
    first = await source.read(task, min(count, _CHUNK))
    if not first:
        return 0
    done = await target.write(task, first)
    if done < len(first):
        source.give_back(len(first) - done)
        return done
    assert isinstance(source.file, HostFile) and isinstance(target.file, HostFile)
    host_in, host_out = source.file.backing.any_fd(), target.file.backing.host_fd(True)
    while done < count and not target.file.limited(task):
        at_in = source.file.pos if source.offset is None else source.offset
        at_out = target.file.pos if target.offset is None else target.offset
        try:
            moved = os.copy_file_range(host_in, host_out, count - done, at_in, at_out)
        except OSError:
            break
        if not moved:
            break
        done += moved
        for end in (source, target):
            if end.offset is None:
                end.file.pos += moved
            else:
                end.offset += moved
    while done < count:
        data = await source.read(task, min(count - done, _CHUNK))
        if not data:
            break
        put = await target.write(task, data)
        done += put
        if put < len(data):
            source.give_back(len(data) - put)
            break
    return done
