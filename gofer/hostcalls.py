"""The host's system calls that Python's os module lacks: by way of the C core those that requests need, by way of
ctypes those that only set-up does.

Only glibc wrappers and numbers that are the same on every architecture (424 and above) are used here.
Each function raises OSError. Buffers are made once: a request allocates nothing here but its results.
"""

import ctypes
import os
from struct import Struct

from native import ffi, lib

_libc = ctypes.PyDLL(None, use_errno=True)

NR_OPEN_TREE = 428
NR_MOVE_MOUNT = 429
NR_FSOPEN, NR_FSCONFIG, NR_FSMOUNT = 430, 431, 432
NR_MOUNT_SETATTR = 442

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_SYMLINK_NOFOLLOW = 0x100
AT_NO_AUTOMOUNT = 0x800
AT_RECURSIVE = 0x8000

O_PATH = 0o10000000
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 1, 2, 4, 8
IN_ROOT = 0x10 | RESOLVE_NO_MAGICLINKS
BENEATH = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS

def _raise(what: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{what}: {os.strerror(number)}")


def openat2(dirfd: int, name: bytes, flags: int, resolve: int, mode: int = 0) -> int:
    fd: int = _open(dirfd, name, flags, mode, resolve)
    if fd < 0:
        raise OSError(-fd, "openat2")
    return fd


# statx fills this; whoever needs the answer longer copies it.
stat_buffer = bytearray(256)
_stat_at = ffi.from_buffer(stat_buffer)
_open, _statx = lib.nc_host_open, lib.nc_host_statx


def statx(dirfd: int, name: bytes = b"") -> None:
    """Of the descriptor itself, or of one name beneath it, into stat_buffer."""
    error = _statx(dirfd, name, _stat_at)
    if error:
        raise OSError(-error, "statx")


def getdents(fd: int, buffer: object, size: int) -> int:
    """Into `buffer`, which `writable` gave."""
    count: int = lib.nc_host_getdents(fd, buffer, size)
    if count < 0:
        raise OSError(-count, "getdents64")
    return count


def writable(buffer: bytearray) -> object:
    return ffi.from_buffer(buffer)


_fstatfs = _libc.fstatfs
_fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)
STATFS_SIZE = 120


def fstatfs(fd: int) -> bytes:
    buffer = ctypes.create_string_buffer(STATFS_SIZE)
    if _fstatfs(fd, buffer) < 0:
        _raise("fstatfs")
    return buffer.raw


def renameat2(olddir: int, old: bytes, newdir: int, new: bytes, flags: int) -> None:
    error = lib.nc_host_rename(olddir, old, newdir, new, flags)
    if error:
        raise OSError(-error, "renameat2")


UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2
_times = ffi.new("struct nc_host_times *")


def setattr(
    self_fd: int, fd: int, valid: int, mode: int, uid: int, gid: int, atime: tuple[int, int], mtime: tuple[int, int]
) -> None:
    """chown, chmod and utimensat, as `valid` says (protocol.SET_*, but for the size), of what `fd` is."""
    _times.atime_s, _times.atime_ns = atime
    _times.mtime_s, _times.mtime_ns = mtime
    error = lib.nc_host_setattr(self_fd, fd, valid, mode, uid, gid, _times)
    if error:
        raise OSError(-error, "setattr")


# --- set-up only: mounts, namespaces, privileges ---

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC = 0x20000, 0x4000000, 0x8000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000

OPEN_TREE_CLONE = 1
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC = 1, 2, 4, 8
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_REC = 1, 2, 4, 8, 32, 16384
MS_PRIVATE, MS_SLAVE, MS_MOVE = 1 << 18, 1 << 19, 8192
MNT_DETACH = 2

PR_SET_DUMPABLE, PR_SET_NAME, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 4, 15, 24, 38
PR_SET_SECUREBITS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 28, 47, 4


def _syscall(what: str, number: int, *args: int | bytes | None) -> int:
    function = _libc["syscall"]
    function.restype = ctypes.c_long
    converted = [ctypes.c_long(a) if isinstance(a, int) else ctypes.c_char_p(a) for a in args]
    result: int = function(ctypes.c_long(number), *converted)
    if result < 0:
        _raise(what)
    return result


def open_tree(dirfd: int, path: bytes, flags: int) -> int:
    return _syscall("open_tree", NR_OPEN_TREE, dirfd, path, flags | os.O_CLOEXEC)


def mount_setattr(fd: int, flags: int, attr_set: int, propagation: int) -> None:
    attr = Struct("=QQQQ").pack(attr_set, 0, propagation, 0)
    _syscall("mount_setattr", NR_MOUNT_SETATTR, fd, b"", AT_EMPTY_PATH | flags, attr, len(attr))


def unshare(flags: int) -> None:
    if _libc.unshare(ctypes.c_int(flags)) < 0:
        _raise("unshare")


def setns(fd: int, kind: int) -> None:
    if _libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)) < 0:
        _raise("setns")


def mount(
    source: bytes | None, target: bytes, kind: bytes | None, flags: int, data: bytes | None = None
) -> None:
    if _libc.mount(source, target, kind, ctypes.c_ulong(flags), data) < 0:
        _raise(f"mount {target!r}")


def umount2(target: bytes, flags: int) -> None:
    if _libc.umount2(target, flags) < 0:
        _raise(f"umount {target!r}")


def pivot_root(new: bytes, old: bytes) -> None:
    if _libc.pivot_root(new, old) < 0:
        _raise("pivot_root")


def prctl(option: int, arg2: int | bytes = 0, arg3: int = 0) -> None:
    second = ctypes.c_char_p(arg2) if isinstance(arg2, bytes) else ctypes.c_ulong(arg2)
    zero = ctypes.c_ulong(0)
    if _libc.prctl(ctypes.c_int(option), second, ctypes.c_ulong(arg3), zero, zero) < 0:
        _raise(f"prctl {option}")


def capset(mask: int) -> None:
    """Permitted and effective become mask; inheritable becomes empty."""
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = Struct("=Ii").pack(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    if _libc.capset(header, Struct("=IIIIII").pack(low, low, 0, high, high, 0)) < 0:
        _raise("capset")


def overwrite(address: int, data: bytes) -> None:
    ctypes.memmove(address, data, len(data))
