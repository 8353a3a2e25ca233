"""Extended attributes: getxattr(2), setxattr(2), listxattr(2), removexattr(2) and their l- and f-
forms; xattr(7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import (
    AT_FDCWD,
    CAP_SETFCAP,
    CAP_SYS_ADMIN,
    IN_ATTRIB,
    S_IFDIR,
    S_IFMT,
    S_IFREG,
    S_ISVTX,
    XATTR_CREATE,
    XATTR_LIST_MAX,
    XATTR_NAME_MAX,
    XATTR_REPLACE,
    XATTR_SIZE_MAX,
)
from sentry.errors import E2BIG, EACCES, EINVAL, ENAMETOOLONG, ENODATA, EOPNOTSUPP, EPERM, ERANGE, EROFS
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Fd, File, PathAddr, PathArg, Size, flags, open_file
from sentry.vfs import filecaps, notify
from sentry.vfs.mount import Path
from sentry.vfs.perm import MAY_READ, MAY_WRITE, allowed, owner_or_capable, want_write
from sentry.vfs.walk import resolve

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File as OpenFile
    from sentry.vfs.inode import Inode

XattrFlags = Annotated[int, flags(XATTR_CREATE=XATTR_CREATE, XATTR_REPLACE=XATTR_REPLACE)]


def _name(task: Task, addr: int) -> bytes:
    """An attribute name: 1 to 255 bytes, else ERANGE."""
    try:
        name = task.mem.read_cstr(addr, XATTR_NAME_MAX + 1)
    except ENAMETOOLONG:
        raise ERANGE
    if not name:
        raise ERANGE
    return name


def _permit(task: Task, inode: Inode, name: bytes, mask: int) -> None:
    """xattr_permission, what security.* asks for, and that there is a name behind the prefix."""
    _check_namespace(task, inode, name, mask)
    if name.endswith(b".") and name.count(b".") == 1:
        raise EINVAL


def _check_namespace(task: Task, inode: Inode, name: bytes, mask: int) -> None:
    writing = bool(mask & MAY_WRITE)
    if writing and inode.fs.read_only:
        raise EROFS
    if name.startswith(b"security."):
        if writing:
            needed = CAP_SETFCAP if name == filecaps.NAME else CAP_SYS_ADMIN
            if not task.creds.has_cap(needed):
                raise EPERM
        return
    if name.startswith(b"trusted."):
        if not task.creds.has_cap(CAP_SYS_ADMIN):
            raise EPERM if writing else ENODATA
        return
    if not name.startswith(b"user."):
        if not name.startswith(b"system.") and not allowed(task, inode, mask):
            raise EACCES
        raise EOPNOTSUPP  # system.posix_acl_* too: there are no ACLs
    kind = inode.mode & S_IFMT
    if kind not in (S_IFREG, S_IFDIR):
        raise EPERM if writing else ENODATA
    if kind == S_IFDIR and inode.mode & S_ISVTX and writing and not owner_or_capable(task, inode):
        raise EPERM
    if not allowed(task, inode, mask):
        raise EACCES


# The value and the name are taken before anybody looks for the file.

# --- set


class _Value:
    """The name and the value that a set*xattr call brings (setxattr_copy)."""

    __slots__ = ("data", "flags", "name")

    def __init__(self, task: Task, name: int, value: int, size: int, flags: int) -> None:
        self.name = _name(task, name)
        if size > XATTR_SIZE_MAX:
            raise E2BIG
        self.data = task.mem.read(value, size) if size else b""
        self.flags = flags

    def check_capabilities(self, task: Task) -> None:
        """cap_convert_nscap: what is no struct vfs_cap_data is refused; one of our own root is kept short."""
        filecaps.check_value(self.data)
        if not task.creds.has_cap(CAP_SETFCAP):
            raise EPERM
        if len(self.data) == 24 and not any(self.data[20:]):
            self.data = self.data[:3] + b"\x02" + self.data[4:20]


async def _set(task: Task, inode: Inode, place: Path | None, new: _Value) -> None:
    if new.name == filecaps.NAME and new.data:
        new.check_capabilities(task)
    _permit(task, inode, new.name, MAY_WRITE)
    await inode.setxattr(task, new.name, new.data, new.flags)
    if new.name == filecaps.NAME:
        await filecaps.caps_were_set(task, inode)
    if notify.watching and place is not None:
        notify.place_event(place, IN_ATTRIB)


async def _set_at(task: Task, path: int, follow: bool, new: _Value) -> None:
    place = await resolve(task, AT_FDCWD, task.mem.read_cstr(path), follow)
    want_write(place)
    await _set(task, place.inode, place, new)


@syscall
async def sys_setxattr(
    task: Task, path: PathAddr, name: Addr, value: Addr, size: Size, flags: XattrFlags
) -> None:
    await _set_at(task, path, True, _Value(task, name, value, size, flags))


@syscall
async def sys_lsetxattr(
    task: Task, path: PathAddr, name: Addr, value: Addr, size: Size, flags: XattrFlags
) -> None:
    await _set_at(task, path, False, _Value(task, name, value, size, flags))


@syscall
async def sys_fsetxattr(
    task: Task, fd: Fd, name: Addr, value: Addr, size: Size, flags: XattrFlags
) -> None:
    new = _Value(task, name, value, size, flags)
    file = open_file(task, fd & 0xFFFFFFFF)
    _want_write(file)
    await _set(task, file.inode, file.path, new)


def _want_write(file: OpenFile) -> None:
    if file.path is not None:
        want_write(file.path)


# --- get


async def _get(task: Task, inode: Inode, name: bytes, buffer: int, size: int) -> int:
    """The value's length; size 0 only asks for it."""
    _permit(task, inode, name, MAY_READ)
    value = await inode.getxattr(task, name)
    if size:
        if len(value) > size:
            raise ERANGE
        task.mem.write(buffer, value)
    return len(value)


@syscall(fast="system.*, which no file system here has")
async def sys_getxattr(task: Task, path: PathAddr, name: Addr, value: Addr, size: Size) -> int:
    text = _name(task, name)
    place = await resolve(task, AT_FDCWD, task.mem.read_cstr(path))
    return await _get(task, place.inode, text, value, size)


@syscall(fast="system.*, which no file system here has")
async def sys_lgetxattr(task: Task, path: PathAddr, name: Addr, value: Addr, size: Size) -> int:
    text = _name(task, name)
    place = await resolve(task, AT_FDCWD, task.mem.read_cstr(path), False)
    return await _get(task, place.inode, text, value, size)


@syscall(fast="system.*, which no file system here has")
async def sys_fgetxattr(task: Task, fd: Fd, name: Addr, value: Addr, size: Size) -> int:
    text = _name(task, name)
    return await _get(task, open_file(task, fd & 0xFFFFFFFF).inode, text, value, size)


# --- list


async def _list(task: Task, inode: Inode, buffer: int, size: int) -> int:
    names = await inode.listxattr(task)
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        names = [name for name in names if not name.startswith(b"trusted.")]
    text = b"".join(name + b"\0" for name in names)
    if len(text) > XATTR_LIST_MAX:
        raise E2BIG
    if size:
        if len(text) > size:
            raise ERANGE
        task.mem.write(buffer, text)
    return len(text)


@syscall(fast="of what is known to have none")
async def sys_listxattr(task: Task, path: PathArg, buffer: Addr, size: Size) -> int:
    return await _list(task, (await resolve(task, AT_FDCWD, path)).inode, buffer, size)


@syscall(fast="of what is known to have none")
async def sys_llistxattr(task: Task, path: PathArg, buffer: Addr, size: Size) -> int:
    return await _list(task, (await resolve(task, AT_FDCWD, path, False)).inode, buffer, size)


@syscall(fast="of what is known to have none")
async def sys_flistxattr(task: Task, file: File, buffer: Addr, size: Size) -> int:
    return await _list(task, file.inode, buffer, size)


# --- remove


async def _remove(task: Task, inode: Inode, place: Path | None, name: bytes) -> None:
    _permit(task, inode, name, MAY_WRITE)
    await inode.removexattr(task, name)
    if name == filecaps.NAME:
        await filecaps.caps_were_set(task, inode)
    if notify.watching and place is not None:
        notify.place_event(place, IN_ATTRIB)


async def _remove_at(task: Task, path: int, follow: bool, name: int) -> None:
    text = _name(task, name)
    place: Path = await resolve(task, AT_FDCWD, task.mem.read_cstr(path), follow)
    want_write(place)
    await _remove(task, place.inode, place, text)


@syscall
async def sys_removexattr(task: Task, path: PathAddr, name: Addr) -> None:
    await _remove_at(task, path, True, name)


@syscall
async def sys_lremovexattr(task: Task, path: PathAddr, name: Addr) -> None:
    await _remove_at(task, path, False, name)


@syscall
async def sys_fremovexattr(task: Task, fd: Fd, name: Addr) -> None:
    text = _name(task, name)
    file = open_file(task, fd & 0xFFFFFFFF)
    _want_write(file)
    await _remove(task, file.inode, file.path, text)
