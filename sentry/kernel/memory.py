"""A guest's memory, copied in and out. Each function copies once; what was copied is then checked (never read twice).

Addresses are the guest's. Every function raises EFAULT where Linux would.
"""

from struct import Struct

from native import ffi, lib
from sentry.errors import EFAULT, EINVAL, ENAMETOOLONG, ESRCH

_U32, _U64 = Struct("<I"), Struct("<Q")
_IOVEC = Struct("<QQ")
IOV_MAX = 1024
# One system call moves at most this much (Linux: MAX_RW_COUNT); more is a partial result.
MAX_RW_COUNT = 0x7FFFF000
# Python-side buffers are cut at this size: a longer read or write is a partial one.
MAX_COPY = 1 << 22

_scratch = ffi.new("char[4096]")
_scratch_view = ffi.buffer(_scratch)
_read_mem, _write_mem, _read_cstr = lib.nc_read_mem, lib.nc_write_mem, lib.nc_read_cstr


class Memory:
    """The address space of one task, named by its host thread id."""

    __slots__ = ("host_tid",)

    def __init__(self, host_tid: int) -> None:
        self.host_tid = host_tid

    def read(self, addr: int, size: int) -> bytes:
        """Exactly `size` bytes."""
        if size <= 4096:
            got = _read_mem(self.host_tid, addr, _scratch, size)
            if got != size:
                raise EFAULT
            return _scratch_view[:size]
        buffer = ffi.new("char[]", size)
        if _read_mem(self.host_tid, addr, buffer, size) != size:
            raise EFAULT
        return ffi.buffer(buffer)[:]

    def read_some(self, addr: int, size: int) -> bytes:
        """Up to `size` bytes, as many as can be read; EFAULT only when the first can't."""
        if not size:
            return b""
        buffer = ffi.new("char[]", size)
        got = _read_mem(self.host_tid, addr, buffer, size)
        if got <= 0:
            raise EFAULT
        return ffi.buffer(buffer, got)[:]

    def write(self, addr: int, data: bytes) -> None:
        if _write_mem(self.host_tid, addr, ffi.from_buffer(data), len(data)) != len(data):
            raise EFAULT

    def write_some(self, addr: int, data: bytes) -> int:
        """Bytes written; EFAULT only when the first can't be."""
        if not data:
            return 0
        put = _write_mem(self.host_tid, addr, ffi.from_buffer(data), len(data))
        if put <= 0:
            raise EFAULT
        return put

    def read_cstr(self, addr: int, limit: int = 4096) -> bytes:
        """The string at `addr` without its NUL; ENAMETOOLONG when there is none in `limit` bytes."""
        if limit > 4096:
            return self._read_long_cstr(addr, limit)
        got = _read_cstr(self.host_tid, addr, _scratch, limit)
        if got >= 0:
            return _scratch_view[:got]
        if got == -ENAMETOOLONG.errno:
            raise ENAMETOOLONG
        if got == -ESRCH.errno:
            raise ESRCH
        raise EFAULT

    def _read_long_cstr(self, addr: int, limit: int) -> bytes:
        buffer = ffi.new("char[]", limit)
        got = _read_cstr(self.host_tid, addr, buffer, limit)
        if got >= 0:
            return ffi.buffer(buffer, got)[:]
        raise ENAMETOOLONG if got == -ENAMETOOLONG.errno else EFAULT

    def read_u32(self, addr: int) -> int:
        return _U32.unpack(self.read(addr, 4))[0]

    def read_u64(self, addr: int) -> int:
        return _U64.unpack(self.read(addr, 8))[0]

    def write_u32(self, addr: int, value: int) -> None:
        self.write(addr, _U32.pack(value & 0xFFFFFFFF))

    def write_u64(self, addr: int, value: int) -> None:
        self.write(addr, _U64.pack(value & 0xFFFFFFFFFFFFFFFF))

    def read_iovec(self, addr: int, count: int) -> list[tuple[int, int]]:
        """`count` entries of struct iovec; EINVAL as import_iovec() gives it."""
        if count < 0 or count > IOV_MAX:
            raise EINVAL
        if not count:
            return []
        vec = list(_IOVEC.iter_unpack(self.read(addr, count * 16)))
        if any(length >= 1 << 63 for _, length in vec):
            raise EINVAL
        return vec

    def read_vec(self, iov: list[tuple[int, int]], limit: int) -> bytes:
        """The bytes the vector covers, at most `limit`; short at a fault, EFAULT when nothing could be read."""
        total = min(sum(length for _, length in iov), limit)
        if not total:
            return b""
        vec = ffi.new("struct nc_iov[]", iov)
        buffer = ffi.new("char[]", total)
        got = lib.nc_read_vec(self.host_tid, vec, len(iov), buffer, total)
        if got <= 0:
            raise EFAULT
        return ffi.buffer(buffer, got)[:]

    def write_vec(self, iov: list[tuple[int, int]], data: bytes) -> int:
        """Scatter `data`; gives the bytes written, EFAULT when none could be."""
        if not data:
            return 0
        vec = ffi.new("struct nc_iov[]", iov)
        put = lib.nc_write_vec(self.host_tid, vec, len(iov), ffi.from_buffer(data), len(data))
        if put <= 0:
            raise EFAULT
        return put
