"""Open files whose data C moves: CFile, the base of regular files, pipes and eventfds; HostFile, HostBacking.

A regular file's inode has one HostBacking: its host descriptors, shared by every open description, and the
attributes fstat(2) in C answers with. A file system opens with ``HostFile(inode, path, flags, backing)`` and
calls ``backing.publish(inode)`` whenever mode, owner or link count changed. Positions are the descriptions'.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.abi.linux import (
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    IN_MODIFY,
    O_APPEND,
    O_NONBLOCK,
    RLIM_INFINITY,
    RLIMIT_FSIZE,
    RWF_APPEND,
    RWF_NOAPPEND,
    SIGXFSZ,
)
from sentry.errors import EAGAIN, EBADF, EFBIG, EINVAL, ENODEV, ENOSPC, EOPNOTSUPP, from_errno, from_host
from sentry.kernel.fdtable import hold, new_twin, unhold
from sentry.kernel.sched import wait
from sentry.vfs import notify
from sentry.vfs.file import File
from sentry.vfs.names import rights_of

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

_EAGAIN = EAGAIN.errno
AT_POS = -(1 << 63)  #: offset meaning "at the position" in the C functions
MAX_COPY = 1 << 22  #: Python-side buffers are cut here: a longer read or write through them is a partial one

LIVE = lib.NC_LIVE_SIZE | lib.NC_LIVE_TIMES
NC_READ_ONLY, NC_READ_WRITE, NC_ANY = range(3)

# (address, length) of each buffer in guest memory
IoVec = list[tuple[int, int]]

_scratch = ffi.new("char[65536]")
_scratch_view = ffi.buffer(_scratch)
_new_buffer = ffi.new_allocator(should_clear_after_alloc=False)


class CFile(File):
    """An open file description that lives in C: flags there, data moved there."""

    __slots__ = ("nc_id",)

    KIND = lib.NC_PY

    def __init__(self, inode: Inode, path: Path | None, flags: int, nc_object: Any) -> None:
        self._begin(new_twin(self.KIND, flags, nc_object), inode, path)
        self.pos = 0

    def _begin(self, nc: Any, inode: Inode, path: Path | None) -> None:
        self.nc = nc
        self.inode = inode
        self.path = path
        self.locks = None
        self.queue = None
        self.nc_id: int = lib.nc_file_id(nc)

    @property
    def flags(self) -> int:  # type: ignore[override]
        return lib.nc_file_flags(self.nc)

    def set_flags(self, flags: int) -> None:
        lib.nc_file_set_flags(self.nc, flags)

    # --- one attempt, straight between C and guest memory (tid 0: our own)

    def try_read(self, tid: int, iov: IoVec, offset: int = AT_POS, rwf: int = 0) -> int:
        """Bytes moved, or -errno; -EAGAIN is where a blocking read waits."""
        if len(iov) == 1:
            addr, size = iov[0]
            return lib.nc_file_read(self.nc, tid, addr, size, offset, rwf)
        vec = ffi.new("struct nc_iov[]", iov)
        return lib.nc_file_readv(self.nc, tid, vec, len(iov), offset, rwf)

    def try_write(self, tid: int, iov: IoVec, offset: int = AT_POS, rwf: int = 0) -> int:
        if len(iov) == 1:
            addr, size = iov[0]
            return lib.nc_file_write(self.nc, tid, addr, size, offset, rwf)
        vec = ffi.new("struct nc_iov[]", iov)
        return lib.nc_file_writev(self.nc, tid, vec, len(iov), offset, rwf)

    # --- to and from guest memory, waiting where Linux does

    async def read_into(
        self, task: Task, tid: int, iov: IoVec, offset: int = AT_POS, rwf: int = 0, nowait: bool = False
    ) -> int:
        """readv(2) into the memory of host thread `tid`."""
        got = self.try_read(tid, iov, offset, rwf)
        if got == -_EAGAIN and not nowait and not self.flags & O_NONBLOCK:
            hold(self)  # closed meanwhile, it stays open until we are done
            try:
                while got == -_EAGAIN:
                    await wait(self.wait_queue)
                    got = self.try_read(tid, iov, offset, rwf)
            finally:
                unhold(self)
        if got < 0:
            raise from_errno(-got)
        return got

    async def write_from(
        self, task: Task, tid: int, iov: IoVec, offset: int = AT_POS, rwf: int = 0, nowait: bool = False
    ) -> int:
        """writev(2) from the memory of host thread `tid`."""
        put = self.try_write(tid, iov, offset, rwf)
        if put == -_EAGAIN and not nowait and not self.flags & O_NONBLOCK:
            hold(self)
            try:
                while put == -_EAGAIN:
                    await wait(self.wait_queue)
                    put = self.try_write(tid, iov, offset, rwf)
            finally:
                unhold(self)
        if put < 0:
            raise from_errno(-put)
        return put

    # --- the sentry's own buffers (sendfile, splice, program loading)

    async def read(self, task: Task, size: int) -> bytes:
        return await self._read_bytes(task, size, AT_POS)

    async def write(self, task: Task, data: bytes) -> int:
        return await self._write_bytes(task, data, AT_POS)

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        return await self._read_bytes(task, size, _checked(offset))

    async def pwrite(self, task: Task, data: bytes, offset: int) -> int:
        return await self._write_bytes(task, data, _checked(offset))

    async def _read_bytes(self, task: Task, size: int, offset: int) -> bytes:
        size = min(size, MAX_COPY)
        # A wait lets others run, who would use the same scratch buffer: only what is ready is read into it.
        buffer = _scratch if size <= 65536 else _new_buffer("char[]", size)
        got = lib.nc_file_read_buf(self.nc, buffer, size, offset)
        if got == -_EAGAIN:
            if self.flags & O_NONBLOCK:
                raise EAGAIN
            own = _new_buffer("char[]", max(size, 1))
            got = await self.read_into(task, 0, [(int(ffi.cast("uintptr_t", own)), size)], offset)
            return ffi.buffer(own, got)[:]
        if got < 0:
            raise from_errno(-got)
        if buffer is _scratch:
            return _scratch_view[:got]
        return ffi.buffer(buffer, got)[:]

    async def _write_bytes(self, task: Task, data: bytes, offset: int) -> int:
        own = ffi.from_buffer(data)
        return await self.write_from(task, 0, [(int(ffi.cast("uintptr_t", own)), len(data))], offset)

    def seek(self, offset: int, whence: int) -> int:
        to = lib.nc_file_seek(self.nc, offset, whence)
        if to < 0:
            raise from_errno(-to)
        return to

    def poll(self) -> int:
        return lib.nc_file_poll(self.nc)


def _checked(offset: int) -> int:
    if offset < 0:
        raise EINVAL
    return offset


class HostBacking:
    """A regular file's host descriptors (-1: not open yet), closed when it dies; what C's fstat(2) tells."""

    __slots__ = ("nc",)

    def __init__(self, host_ro: int, host_rw: int, owns: bool = True) -> None:
        self.nc: Any = ffi.gc(lib.nc_inode_new(host_ro, host_rw, owns), lib.nc_inode_put)

    @classmethod
    def of(cls, nc_inode: Any) -> HostBacking:
        """What C already has; takes the reference."""
        backing = cls.__new__(cls)
        backing.nc = ffi.gc(nc_inode, lib.nc_inode_put)
        return backing

    def in_use(self) -> bool:
        """Some description has it open."""
        return lib.nc_inode_refs(self.nc) > 1

    def set_fds(self, host_ro: int, host_rw: int) -> None:
        """Other descriptors from now on, for open descriptions too; those replaced are closed."""
        lib.nc_inode_set_fds(self.nc, host_ro, host_rw)

    def host_fds(self) -> tuple[int, int]:
        """(read-only, read-write), -1 where not open."""
        return lib.nc_inode_fd(self.nc, NC_READ_ONLY), lib.nc_inode_fd(self.nc, NC_READ_WRITE)

    def host_fd(self, writable: bool = False) -> int:
        """The descriptor to write by, or one to read by; -1: none is open."""
        return lib.nc_inode_fd(self.nc, NC_READ_WRITE if writable else NC_ANY)

    def any_fd(self) -> int:
        """A descriptor good for fstat."""
        return lib.nc_inode_fd(self.nc, NC_ANY)

    def writers(self) -> int:
        """Open descriptions that may write (i_writecount)."""
        return lib.nc_inode_writers(self.nc)

    def readers(self) -> int:
        """Open descriptions that only read (i_readcount)."""
        return lib.nc_inode_readers(self.nc)

    def publish(self, inode: Inode, live: int = LIVE) -> None:
        """Tell C the attributes. `live`: what the host's fstat knows better (LIVE, and NC_LIVE_NLINK for
        nlink too); 0 leaves fstat(2) to Python."""
        lib.nc_inode_set_attrs(
            self.nc, inode.fs.dev, inode.ino, inode.mode, inode.uid, inode.gid, inode.nlink, inode.rdev, live,
            inode.has_no_xattrs(), ffi.NULL if inode.node is None else inode.node,
        )  # fmt: skip
        if inode.caps_known:
            lib.nc_inode_set_caps(self.nc, inode.caps is not None)

    def set_grant(self, size: int) -> None:
        """C may write the first `size` bytes by itself; beyond them, `Inode.reserve` is asked."""
        lib.nc_inode_set_grant(self.nc, size)

    def host_stat(self) -> tuple[int, int, int, int, int, int]:
        """(size, blocks, atime_ns, mtime_ns, ctime_ns, nlink) as the host has them now."""
        out = ffi.new("int64_t[6]")
        error = lib.nc_inode_host_stat(self.nc, out)
        if error < 0:
            raise from_errno(-error)
        return out[0], out[1], out[2], out[3], out[4], out[5]


class HostFile(CFile):
    """An open regular file with host descriptors behind it."""

    __slots__ = ("backing",)

    KIND = lib.NC_REG
    nowait = takes_splice = gives_splice = True

    def __init__(
        self, inode: Inode, path: Path | None, flags: int, backing: HostBacking, noexec: bool = False
    ) -> None:
        self.backing = backing
        super().__init__(inode, path, flags, backing.nc)
        if noexec:
            lib.nc_file_set_noexec(self.nc, 1)

    @classmethod
    def take_up(cls, nc: Any, inode: Inode, path: Path, backing: HostBacking) -> HostFile:
        """One that C has opened."""
        file = cls.__new__(cls)
        file.backing = backing
        file._begin(ffi.gc(nc, lib.nc_file_free), inode, path)
        return file

    @property
    def direct(self) -> bool:
        return self.inode.fs.direct_io

    @property
    def pos(self) -> int:
        return lib.nc_file_pos(self.nc)

    @pos.setter
    def pos(self, value: int) -> None:
        lib.nc_file_set_pos(self.nc, value)

    async def write_from(
        self, task: Task, tid: int, iov: IoVec, offset: int = AT_POS, rwf: int = 0, nowait: bool = False
    ) -> int:
        if task is not None and any(size for _, size in iov):
            start = self._start(offset, rwf)
            iov = self._within_limit(task, iov, start)
            if self.inode.fs.limited:
                iov = self._within_room(iov, start)
            await self._drop_privileges(task)
        return await super().write_from(task, tid, iov, offset, rwf, nowait)

    def _start(self, offset: int, rwf: int) -> int:
        """Where a write begins."""
        if rwf & RWF_APPEND or (self.flags & O_APPEND and not rwf & RWF_NOAPPEND):
            return self.backing.host_stat()[0]
        return self.pos if offset == AT_POS else offset

    async def _drop_privileges(self, task: Task) -> None:
        """A file that is changed loses its set-id bits and capabilities (file_remove_privs)."""
        inode = self.inode
        if inode.mode & 0o6000:
            from sentry.vfs.perm import killed_mode
            from sentry.vfs.stat import SetAttr

            if (mode := killed_mode(task, inode)) is not None:
                await inode.setattr(task, SetAttr(mode=mode))
        if inode.caps is not None:
            from sentry.vfs.filecaps import drop_caps

            await drop_caps(task, inode)

    def _within_room(self, iov: IoVec, start: int) -> IoVec:
        """A file system with a size limit: cut at what still fits, ENOSPC if nothing does."""
        total = sum(size for _, size in iov)
        room = self.inode.reserve(start, total)
        return iov if room >= total else cut(iov, room)

    def _within_limit(self, task: Task, iov: IoVec, start: int) -> IoVec:
        """RLIMIT_FSIZE: cut at the limit, SIGXFSZ and EFBIG for a write that starts there."""
        limit = task.group.rlimits.get(RLIMIT_FSIZE)[0]
        if limit == RLIM_INFINITY:
            return iov
        total = sum(size for _, size in iov)
        if not total or start + total <= limit:
            return iov
        if start >= limit:
            send_fsize_signal(task)
            raise EFBIG
        return cut(iov, limit - start)

    def limited(self, task: Task) -> bool:
        """Whether RLIMIT_FSIZE, O_APPEND, a size limit, setuid bits, capabilities or a watch count at each write."""
        if self.inode.fs.limited or notify.watching or self.inode.mode & 0o6000 or self.inode.caps is not None:
            return True
        return bool(self.flags & O_APPEND) or task.group.rlimits.get(RLIMIT_FSIZE)[0] != RLIM_INFINITY

    def mapping(self) -> int:
        # A reader's shared mapping could be made writable later, were it made by the read-write descriptor.
        host_fd = self.backing.host_fds()[1 if self.writable else 0]
        if host_fd < 0:
            raise ENODEV
        return host_fd

    def being_written(self) -> bool:
        return self.backing.writers() > 0

    def opened_by(self, task: Task) -> bool:
        return super().opened_by(task) or bool(lib.nc_file_opened_with(self.nc, rights_of(task.creds)))

    async def fsync(self, task: Task, datasync: bool) -> None:
        host_fd = self.backing.host_fd(self.backing.host_fd(True) >= 0)
        try:
            (os.fdatasync if datasync else os.fsync)(host_fd)
        except OSError as error:
            raise from_host(error)

    async def ftruncate(self, task: Task, size: int) -> None:
        from sentry.vfs.open import truncate

        check_file_size(task, size, self.backing.host_stat()[0])
        await truncate(task, self.inode, size, self.path)

    def counts(self, mode: int) -> bool:
        """Whether such a fallocate(2) is held to RLIMIT_FSIZE; tmpfs minds blocks beyond the end, too."""
        return not mode & ~FALLOC_FL_KEEP_SIZE

    async def fallocate(self, task: Task, mode: int, offset: int, length: int) -> None:
        host_fd = self.backing.host_fd(True)
        if host_fd < 0:
            raise EBADF
        if self.inode.fs.limited and mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE):
            raise EOPNOTSUPP  # all else is unknown to tmpfs, and would grow past its limit where the host knows it
        if self.counts(mode):
            check_file_size(task, offset + length, self.backing.host_stat()[0])
            if self.inode.reserve(offset, length) < length:
                raise ENOSPC
        error = lib.nc_fallocate(host_fd, mode, offset, length)
        if error < 0:
            raise from_errno(-error)
        await self._drop_privileges(task)
        if notify.watching:
            notify.file_event(self, IN_MODIFY)


def cut(iov: IoVec, size: int) -> IoVec:
    """The first `size` bytes of the buffers."""
    out: IoVec = []
    for addr, length in iov:
        out.append((addr, min(length, size)))
        size -= out[-1][1]
        if size <= 0:
            break
    return out


def skip(iov: IoVec, size: int) -> IoVec:
    """The buffers without their first `size` bytes."""
    out: IoVec = []
    for addr, length in iov:
        gone = min(length, size)
        size -= gone
        if length > gone:
            out.append((addr + gone, length - gone))
    return out


def check_file_size(task: Task | None, size: int, now: int) -> None:
    """A file that would grow past RLIMIT_FSIZE: SIGXFSZ and EFBIG (inode_newsize_ok)."""
    if task is None or size <= now:
        return
    limit = task.group.rlimits.get(RLIMIT_FSIZE)[0]
    if limit != RLIM_INFINITY and size > limit:
        send_fsize_signal(task)
        raise EFBIG


def send_fsize_signal(task: Task) -> None:
    from sentry.kernel.signals import user_info

    task.kernel.send_signal(task, user_info(SIGXFSZ, task))
