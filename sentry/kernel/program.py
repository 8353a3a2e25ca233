"""The program that a path means to execve(2), or why there is none: ELF files and #! scripts.

    program = await find(task, AT_FDCWD, b"/bin/sh")     # execute.py then runs it
"""

from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from sentry.abi.linux import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    CAP_SYS_PTRACE,
    MS_NOEXEC,
    MS_NOSUID,
    O_RDONLY,
    S_IFLNK,
    S_IFMT,
    S_IFREG,
    S_ISGID,
    S_ISUID,
    S_IXGRP,
)
from sentry.abi.x86_64 import NUMBERS
from sentry.errors import (
    EACCES,
    EINVAL,
    EIO,
    ELIBBAD,
    ELOOP,
    ENODATA,
    ENOENT,
    ENOEXEC,
    EOPNOTSUPP,
    ETXTBSY,
)
from sentry.fs.regular import XATTR_NAME_CAPS, KeptXattrs
from sentry.kernel import elf
from sentry.kernel.creds import Credentials, FileCaps, exec_credentials, parse_file_caps
from sentry.vfs.inode import ALWAYS
from sentry.vfs.perm import MAY_EXEC, MAY_READ, allowed
from sentry.vfs.walk import resolve

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.inode import Inode
    from sentry.vfs.mount import Path

SCRIPT_DEPTH = 5  # scripts of scripts; then a program
SCRIPT_LINE = 256
MAX_ARGS = 0x7FFFFFFF // 8
_EXECVE, _EXECVEAT = NUMBERS["execve"], NUMBERS["execveat"]


class Privileges(NamedTuple):
    """What a file gives to who runs it: `uid` and `gid` of set-id bits, capabilities."""

    uid: int | None = None
    gid: int | None = None
    caps: FileCaps | None = None


class Program(NamedTuple):
    """What a successful execve will run."""

    place: "Path"  # the program, or a script's interpreter: what /proc/PID/exe shows
    path: bytes  # AT_EXECFN
    comm: bytes
    file: "File"
    elf: elf.Elf
    interp_file: "File | None"
    interp_elf: elf.Elf | None
    argv_head: list[bytes] | None  # a script: what replaces argv[0]
    privileges: Privileges
    creds: Credentials
    secure: bool
    readable: bool


async def find(task: "Task", dirfd: int, path: bytes, flags: int = 0) -> Program:
    """Everything about the program at `path` that has to be right before the point of no return."""
    if flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW):
        raise EINVAL
    if not path:
        if not flags & AT_EMPTY_PATH:
            raise ENOENT
        known = task.fds.get(dirfd).path
        if known is None:
            raise EACCES
        place = known
        shown = b"/dev/fd/%d" % dirfd
        comm = place.dentry.name
    else:
        place = await resolve(task, dirfd, path, not flags & AT_SYMLINK_NOFOLLOW)
        shown = path if path[:1] == b"/" or dirfd == AT_FDCWD else b"/dev/fd/%d/%s" % (dirfd, path)
        comm = shown.rpartition(b"/")[2]
    head: list[bytes] | None = None
    for _ in range(SCRIPT_DEPTH + 1):
        file = await open_executable(task, place)
        data = await file.pread(task, SCRIPT_LINE, 0)
        if data[:2] != b"#!":
            privileges = await _privileges(task, place)  # of a script's interpreter, not of the script
            return await _elf_program(task, place, shown, comm, file, data, head, privileges)
        words = _script_words(data)
        if head is None:
            head = [*words, shown]
        else:
            head = [*words, *head]
        if not words[0]:
            raise EACCES  # Linux looks for no name at all, and finds the working directory
        place = await resolve(task, AT_FDCWD, words[0])
    raise ELOOP


async def open_executable(task: "Task", place: "Path") -> "File":
    """The file for reading, if it may be executed. Read permission is not needed."""
    inode = place.inode
    if inode.mode & S_IFMT == S_IFLNK:
        raise ELOOP  # AT_SYMLINK_NOFOLLOW
    if inode.mode & S_IFMT != S_IFREG or place.mount.flags & MS_NOEXEC or not allowed(task, inode, MAY_EXEC):
        raise EACCES
    file = inode.open_now(task, place, O_RDONLY)
    if file is None:
        file = await inode.open(task, place, O_RDONLY)
    if inode.host is not None and inode.host.writers():
        raise ETXTBSY
    return file


def _script_words(data: bytes) -> list[bytes]:
    """The interpreter and its optional argument of a #! line (fs/binfmt_script.c). A NUL ends either."""
    line, newline, _ = data[2:].partition(b"\n")
    text = line.lstrip(b" \t")
    if not text and (newline or len(data) >= SCRIPT_LINE):
        raise ENOEXEC
    end = next((at for at, byte in enumerate(text) if byte in b" \t\0"), len(text))
    if not newline and len(data) >= SCRIPT_LINE and end == len(text):
        raise ENOEXEC  # the interpreter's own path is cut off
    argument = b"" if text[end : end + 1] == b"\0" else text[end:].strip(b" \t").partition(b"\0")[0]
    return [text[:end], argument] if argument else [text[:end]]


async def _elf_program(
    task: "Task",
    place: "Path",
    shown: bytes,
    comm: bytes,
    file: "File",
    data: bytes,
    head: list[bytes] | None,
    privileges: Privileges,
) -> Program:
    creds, secure = new_credentials(task, privileges)
    image = await _read_elf(task, file, data)
    file.mapping()  # a file that can't be mapped can't be run
    interp_file = interp_elf = None
    if image.interp is not None:
        offset, size = image.interp
        name = await _read_at(task, file, size, offset)
        if name[-1:] != b"\0":
            raise ENOEXEC
        interp_file = await open_executable(task, await resolve(task, AT_FDCWD, name.partition(b"\0")[0]))
        head_data = await _read_at(task, interp_file, elf.HEADER_SIZE, 0)
        try:
            interp_elf = await _read_elf(task, interp_file, head_data)
        except ENOEXEC:
            raise ELIBBAD from None
        if interp_elf.type != elf.ET_DYN:
            raise ELIBBAD
    readable = allowed(task, place.inode, MAY_READ)
    return Program(place, shown, comm, file, image, interp_file, interp_elf, head, privileges, creds, secure, readable)


async def _read_elf(task: "Task", file: "File", data: bytes) -> elf.Elf:
    offset, size = elf.header(data)
    try:
        phdrs = await _read_at(task, file, size, offset)
    except (EINVAL, EIO):
        raise ENOEXEC from None
    return elf.parse(data, phdrs)


async def _read_at(task: "Task", file: "File", size: int, offset: int) -> bytes:
    """All of it, at a place that a header names (elf_read() of fs/binfmt_elf.c)."""
    if offset >= 1 << 63:
        raise EINVAL
    data = await file.pread(task, size, offset)
    if len(data) != size:
        raise EIO
    return data


def new_credentials(task: "Task", privileges: Privileges) -> tuple[Credentials, bool]:
    """`exec_credentials` of the task, which may be traced."""
    tracee = task.tracee
    traced = tracee is not None and not tracee.tracer.creds.has_cap(CAP_SYS_PTRACE)
    return exec_credentials(task.creds, *privileges, traced)


async def _privileges(task: "Task", place: "Path") -> Privileges:
    """Set-id bits count unless the mount or the task forbids them, and file capabilities unless the mount does."""
    if place.mount.flags & MS_NOSUID:
        return Privileges()
    inode = place.inode
    uid = gid = None
    if not task.creds.no_new_privs:
        if inode.mode & S_ISUID:
            uid = inode.uid
        if inode.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP:
            gid = inode.gid
    return Privileges(uid, gid, await _file_capabilities(task, inode))


async def _file_capabilities(task: "Task", inode: "Inode") -> FileCaps | None:
    if inode in _without_capabilities:
        return None
    try:
        data = await inode.getxattr(task, XATTR_NAME_CAPS)
    except (ENODATA, EOPNOTSUPP):
        if not isinstance(inode, KeptXattrs) and inode.fs.cache_policy == ALWAYS:
            _without_capabilities.add(inode)
        return None
    return parse_file_caps(data)


#: Files which nobody can give capabilities: the host's, of trees that are ours alone.
_without_capabilities: WeakSet["Inode"] = WeakSet()
