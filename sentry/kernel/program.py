"""The program that a path means to execve(2), or why there is none: ELF files and #! scripts.

    program = await find(task, AT_FDCWD, b"/bin/sh")     # execute.py then runs it
"""

from typing import TYPE_CHECKING, NamedTuple

from sentry.abi.linux import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
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
    ENOENT,
    ENOEXEC,
    ETXTBSY,
)
from sentry.kernel import elf
from sentry.kernel.creds import Credentials, exec_credentials, gains
from sentry.vfs.filecaps import file_caps
from sentry.vfs.perm import MAY_EXEC, MAY_READ, allowed
from sentry.vfs.walk import resolve

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.mount import Path

SCRIPT_DEPTH = 5  # scripts of scripts; then a program
SCRIPT_LINE = 256
MAX_ARGS = 0x7FFFFFFF // 8
_EXECVE, _EXECVEAT = NUMBERS["execve"], NUMBERS["execveat"]


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
    creds: Credentials
    secure: bool
    gains: bool  # it will be another than its caller, who is to have no hold on it
    readable: bool


async def find(task: "Task", dirfd: int, path: bytes, flags: int = 0) -> Program:
    """Everything about the program at `path` that has to be right before the point of no return."""
    if not path and not flags & AT_EMPTY_PATH:
        raise ENOENT
    if flags & ~(AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW):
        raise EINVAL
    by_name = path[:1] == b"/" or dirfd == AT_FDCWD
    if path:
        place = await resolve(task, dirfd, path, not flags & AT_SYMLINK_NOFOLLOW)
        shown = path if by_name else b"/dev/fd/%d/%s" % (dirfd, path)
    else:
        known = task.fds.get(dirfd).path
        if known is None:
            raise EACCES
        place = known
        shown = b"/dev/fd/%d" % dirfd
    head: list[bytes] | None = None
    for _ in range(SCRIPT_DEPTH + 1):
        file = await open_executable(task, place)
        data = await file.pread(task, SCRIPT_LINE, 0)
        if data[:2] != b"#!":
            comm = shown.rpartition(b"/")[2] if path else place.dentry.name
            creds, secure = await _new_credentials(task, place)
            return await _elf_program(task, place, shown, comm, file, data, head, creds, secure)
        words = _script_words(data)
        if not by_name and task.fds.get_cloexec(dirfd):
            raise ENOENT  # the interpreter could not open what `shown` says
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
    if file.being_written():
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
    creds: Credentials,
    secure: bool,
) -> Program:
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
    gained = secure or gains(task.creds, creds)
    return Program(place, shown, comm, file, image, interp_file, interp_elf, head, creds, secure, gained, readable)


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


async def _new_credentials(task: "Task", place: "Path") -> tuple[Credentials, bool]:
    """Credentials after running the file, and whether it is to mistrust its caller: set-id bits and capabilities count
    unless the mount or the task forbids them."""
    inode = place.inode
    uid = gid = caps = None
    if not place.mount.flags & MS_NOSUID:
        if not task.creds.no_new_privs:
            if inode.mode & S_ISUID:
                uid = inode.uid
            if inode.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP:
                gid = inode.gid
        caps = await file_caps(task, inode)
    unsafe = task.kernel.shares_place(task) or (task.tracee is not None and task.tracee.holds_back)
    return exec_credentials(task.creds, uid, gid, caps, unsafe)
