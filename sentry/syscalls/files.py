"""Opening and the whole of a file: open(2), openat2(2), truncate(2), fallocate(2), fsync(2),
memfd_create(2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    FALLOC_FL_COLLAPSE_RANGE,
    FALLOC_FL_INSERT_RANGE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_UNSHARE_RANGE,
    FALLOC_FL_WRITE_ZEROES,
    FALLOC_FL_ZERO_RANGE,
    MFD_ALLOW_SEALING,
    MFD_CLOEXEC,
    O_CLOEXEC,
    O_CREAT,
    O_TRUNC,
    O_WRONLY,
    S_IFDIR,
    S_IFIFO,
    S_IFMT,
    S_IFREG,
)
from sentry.abi.x86_64 import OPEN_HOW
from sentry.errors import (
    E2BIG,
    EBADF,
    EFBIG,
    EINVAL,
    EISDIR,
    ENAMETOOLONG,
    ENODEV,
    EOPNOTSUPP,
    ESPIPE,
    ETXTBSY,
)
from sentry.fs.hostfile import check_file_size
from sentry.fs.leases import break_leases
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import (
    Addr,
    DirFd,
    File,
    Int,
    Mode,
    Off,
    OpenFlags,
    PathAddr,
    PathArg,
    Size,
    UInt,
    flags,
    open_file,
)
from sentry.vfs.open import open_path, openat2_flags, truncate
from sentry.vfs.perm import MAY_WRITE, check, want_write
from sentry.vfs.walk import resolve

if TYPE_CHECKING:
    from sentry.kernel.task import Task

MAX_FILE_SIZE = 0x7FFF_FFFF_FFFF_FFFF
PAGE = 4096

MEMFD_NAME_MAX = 249
MemfdFlags = Annotated[
    int, flags(MFD_CLOEXEC=MFD_CLOEXEC, MFD_ALLOW_SEALING=MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL=8, MFD_EXEC=16)
]
HandleFlags = Annotated[
    int, flags(AT_SYMLINK_FOLLOW=AT_SYMLINK_FOLLOW, AT_EMPTY_PATH=AT_EMPTY_PATH, AT_HANDLE_FID=0x200)
]

# --- opening

OPENED = "for reading, of a file that is open on the host already; absent names"


@syscall(fast=OPENED)
async def sys_openat(task: Task, dirfd: DirFd, path: PathArg, flags: OpenFlags, mode: Mode) -> int:
    task.fds.check_room()
    file = await open_path(task, dirfd, path, flags, mode)
    return task.fds.install(file, bool(flags & O_CLOEXEC))


@syscall(fast=OPENED)
async def sys_open(task: Task, path: PathArg, flags: OpenFlags, mode: Mode) -> int:
    task.fds.check_room()
    file = await open_path(task, AT_FDCWD, path, flags, mode)
    return task.fds.install(file, bool(flags & O_CLOEXEC))


@syscall
async def sys_creat(task: Task, path: PathArg, mode: Mode) -> int:
    task.fds.check_room()
    return task.fds.install(await open_path(task, AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode))


@syscall
async def sys_openat2(task: Task, dirfd: DirFd, path: PathAddr, how: Addr, size: Size) -> int:
    if size < OPEN_HOW.size:
        raise EINVAL
    if size > PAGE:
        raise E2BIG
    data = task.mem.read(how, size)
    if any(data[OPEN_HOW.size :]):
        raise E2BIG
    flags, mode, resolve_flags = OPEN_HOW.unpack_from(data)
    flags = openat2_flags(flags, mode, resolve_flags)
    task.fds.check_room()
    file = await open_path(task, dirfd, task.mem.read_cstr(path), flags, mode, resolve_flags)
    return task.fds.install(file, bool(flags & O_CLOEXEC))


@syscall(partial="no huge pages; MFD_EXEC and MFD_NOEXEC_SEAL only set the mode")
def sys_memfd_create(task: Task, name: Addr, flags: MemfdFlags) -> int:
    from sentry.fs.memfd import create_memfd

    if flags & 8 and flags & 16:
        raise EINVAL
    try:
        text = task.mem.read_cstr(name, MEMFD_NAME_MAX + 1)
    except ENAMETOOLONG:
        raise EINVAL
    file = create_memfd(task, text, bool(flags & (MFD_ALLOW_SEALING | 8)), 0o666 if flags & 8 else 0o777)
    return task.fds.install(file, bool(flags & MFD_CLOEXEC))


@syscall(partial="no file system here can make handles: EOPNOTSUPP")
async def sys_name_to_handle_at(
    task: Task, dirfd: DirFd, path: PathArg, handle: Addr, mount_id: Addr, flags: HandleFlags
) -> int:
    if not (flags & AT_EMPTY_PATH and not path):
        await resolve(task, dirfd, path, bool(flags & AT_SYMLINK_FOLLOW))
    raise EOPNOTSUPP


# --- changing the size


@syscall
async def sys_truncate(task: Task, path: PathAddr, length: Off) -> None:
    if length < 0:
        raise EINVAL
    place = await resolve(task, AT_FDCWD, task.mem.read_cstr(path))
    kind = place.inode.mode & S_IFMT
    if kind == S_IFDIR:
        raise EISDIR
    if kind != S_IFREG:
        raise EINVAL
    want_write(place)
    check(task, place, MAY_WRITE)
    if task.kernel.is_running(place.inode):
        raise ETXTBSY
    if place.inode.locks is not None and place.inode.locks.leases:
        await break_leases(place.inode, O_WRONLY)
    check_file_size(task, length, (await place.inode.getattr()).size)
    await truncate(task, place.inode, length, place)


@syscall
async def sys_ftruncate(task: Task, fd: UInt, length: Off) -> None:
    if length < 0:
        raise EINVAL
    file = open_file(task, fd)
    if file.inode.mode & S_IFMT != S_IFREG or not file.writable:
        raise EINVAL
    await file.ftruncate(task, length)


#: Each does one thing; some of them may change the size, some must not be asked to keep it.
_FALLOCATE_MODES = frozenset(
    (
        0,
        FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_ZERO_RANGE,
        FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_UNSHARE_RANGE,
        FALLOC_FL_UNSHARE_RANGE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_COLLAPSE_RANGE,
        FALLOC_FL_INSERT_RANGE,
        FALLOC_FL_WRITE_ZEROES,
    )
)


@syscall
async def sys_fallocate(task: Task, file: File, mode: Int, offset: Off, length: Off) -> None:
    if offset < 0 or length <= 0:
        raise EINVAL
    if mode not in _FALLOCATE_MODES:
        raise EOPNOTSUPP
    if not file.writable:
        raise EBADF
    kind = file.inode.mode & S_IFMT
    if kind == S_IFIFO:
        raise ESPIPE
    if kind == S_IFDIR:
        raise EISDIR
    if kind != S_IFREG:
        raise ENODEV
    if offset + length > MAX_FILE_SIZE:
        raise EFBIG
    await file.fallocate(task, mode, offset, length)


# --- writing back


@syscall
async def sys_fsync(task: Task, file: File) -> None:
    await file.fsync(task, False)


@syscall
async def sys_fdatasync(task: Task, file: File) -> None:
    await file.fsync(task, True)


@syscall
async def sys_sync(task: Task) -> None:
    for fs in {mount.fs for mount in task.mounts.mounts()}:
        await fs.sync()


@syscall
async def sys_syncfs(task: Task, file: File) -> None:
    await file.inode.fs.sync()


@syscall(partial="the arguments are checked; nothing is written early")
def sys_sync_file_range(task: Task, file: File, offset: Off, length: Off, how: Int) -> None:
    if how & ~7 or offset < 0 or length < 0 or offset + length > MAX_FILE_SIZE:
        raise EINVAL
    kind = file.inode.mode & S_IFMT
    if kind not in (S_IFREG, S_IFDIR):
        raise ESPIPE
