"""execve(2): from a path to a running program.

At the seccomp stop of execve the sentry finds and checks the file (or, for a #! script, its interpreter), and turns
the call into execveat(stub, "", argv, envp, AT_EMPTY_PATH). Whatever fails before that leaves the task whole. When
the host kernel has executed the stub (PTRACE_EVENT_EXEC), the old program is gone: descriptors are closed,
credentials change. The stub then asks for its plan (loader.py).
"""

import os
from struct import pack
from typing import TYPE_CHECKING, NamedTuple

from native import ffi, lib
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
    SIGKILL,
)
from sentry.abi.x86_64 import NUMBERS
from sentry.errors import (
    E2BIG,
    EACCES,
    EFAULT,
    EINVAL,
    EIO,
    ELIBBAD,
    ELOOP,
    ENOENT,
    ENOEXEC,
    Interrupted,
    LinuxError,
)
from sentry.kernel import elf, loader
from sentry.kernel.creds import Credentials, exec_credentials
from sentry.kernel.sched import Job
from sentry.mm.hostmap import remember
from sentry.vfs.perm import MAY_EXEC, MAY_READ, allowed
from sentry.vfs.walk import resolve

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
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
    creds, secure = task.creds, False
    for _ in range(SCRIPT_DEPTH + 1):
        file = await open_executable(task, place)
        data = await file.pread(task, SCRIPT_LINE, 0)
        if data[:2] != b"#!":
            if head is None:
                creds, secure = _new_credentials(task, place)
            else:
                creds, secure = exec_credentials(task.creds, None, None)
            return await _elf_program(task, place, shown, comm, file, data, head, creds, secure)
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
    return await inode.open(task, place, O_RDONLY) if file is None else file


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
    return Program(place, shown, comm, file, image, interp_file, interp_elf, head, creds, secure, readable)


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


def _new_credentials(task: "Task", place: "Path") -> tuple[Credentials, bool]:
    """Credentials after running the file: set-id bits count unless the mount or the task forbids them."""
    inode = place.inode
    uid = gid = None
    if not place.mount.flags & MS_NOSUID and not task.creds.no_new_privs:
        if inode.mode & S_ISUID:
            uid = inode.uid
        if inode.mode & (S_ISGID | S_IXGRP) == S_ISGID | S_IXGRP:
            gid = inode.gid
    return exec_credentials(task.creds, uid, gid)


class Executor:
    """The three moments of an execve: the stop before it, the exec event, the stub's question."""

    def __init__(self, kernel: "Kernel") -> None:
        self.kernel = kernel
        self._regs = ffi.new("struct nc_regs *")
        self._stub: tuple[int, int] | None = None  # its device and inode
        life = kernel.life
        life.execute, life.executed, life.load = self.at_stop, self.executed, self.load

    def at_stop(self, task: "Task", nr: int) -> None:
        """PTRACE_EVENT_SECCOMP: prepare, then let the host execute the stub, or fail the call."""
        if task.spawn is not None:
            task.spawn.stopped()
            return
        job = self.kernel.scheduler.spawn(self._prepare(task, nr), task)
        if job.ended:
            self._decided(job)
        else:
            job.done = self._decided
            task.executing = job

    async def _prepare(self, task: "Task", nr: int) -> tuple[int, int, int]:
        """Read the call's arguments and find the program. Gives the addresses of "", argv and envp."""
        regs = ffi.new("struct nc_regs *")
        if self.kernel.platform.get_regs(task.host_tid, regs):
            raise EFAULT
        if nr == _EXECVE:
            dirfd, path_at, argv, envp, flags = AT_FDCWD, regs.rdi, regs.rsi, regs.rdx, 0
        else:
            dirfd, path_at, argv, envp, flags = regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8 & 0xFFFFFFFF
            dirfd = (dirfd & 0xFFFFFFFF ^ 0x80000000) - 0x80000000
        path = task.mem.read_cstr(path_at)
        program = await find(task, dirfd, path, flags)
        if program.argv_head is not None:
            argv = _script_argv(task, regs.rsp, argv, program.argv_head)
        task.image = program
        return path_at + len(path), argv, envp

    def _decided(self, job: Job) -> None:
        task = job.task
        assert task is not None
        task.executing = None
        error = job.error
        if error is None:
            self.enter_stub(task, *job.value)
        elif isinstance(error, LinuxError):
            self.fail(task, -error.errno)
        else:
            assert isinstance(error, (Exception, Interrupted))
            self.fail(task, -self.kernel.bug(task, self.kernel.lookup(_EXECVE), (), error))

    def fail(self, task: "Task", result: int) -> None:
        """The call returns without having been made."""
        task.image = None
        self.kernel.platform.finish(task.host_tid, result, 0)

    def enter_stub(self, task: "Task", empty: int, argv: int, envp: int) -> None:
        """Rewrite the stopped call to execveat(stub, "", argv, envp, AT_EMPTY_PATH) and let it run."""
        regs, tid = self._regs, task.host_tid
        self.kernel.platform.get_regs(tid, regs)
        regs.orig_rax = _EXECVEAT
        regs.rdi, regs.rsi, regs.rdx, regs.r10 = lib.nc_fdt_stub(task.fds.nc), empty, argv, envp
        regs.r8 = AT_EMPTY_PATH
        self.kernel.platform.set_regs(tid, regs)
        self.kernel.platform.resume(tid, 0)

    def executed(self, task: "Task") -> None:
        """PTRACE_EVENT_EXEC: the point of no return is behind us."""
        program, task.image = task.image, None
        if program is None or not self._is_stub(task.host_tid):
            # Nothing of ours was under way, or another thread has put a file of its own where the stub's descriptor
            # was: it must not run with the program's credentials.
            self.kernel.platform.signal(task.group.host_tgid, 0, SIGKILL, 0, 0, 0, 0)
            return
        task.loading = program
        if task.fds.users > 1:
            fds = task.fds.fork()
            task.fds.drop()
            task.set_fds(fds)
        task.fds.close_on_exec()
        group = task.group
        group.exe = program.place
        group.exec_count += 1
        group.dumpable = 1 if program.readable and not program.secure else 0
        task.name = program.comm[:15]
        task.comm_override = None
        task.set_creds(program.creds)
        lib.nc_task_set_loading(task.host_tid, 1)

    def _is_stub(self, tid: int) -> bool:
        """Whether the thread's program is our stub."""
        try:
            found = os.stat(b"%d/exe" % tid, dir_fd=self.kernel.host_proc)
        except OSError:
            return False
        if self._stub is None:
            stub = os.fstat(lib.nc_stub())
            self._stub = stub.st_dev, stub.st_ino
        return (found.st_dev, found.st_ino) == self._stub

    def load(self, task: "Task", call_id: int, plan_at: int, sp: int) -> int:
        """The loader stub's magic call: 0 once its plan is written."""
        program, task.loading = task.loading, None
        if program is None:
            raise EINVAL
        stub = lib.nc_fdt_stub(task.fds.nc)
        base = loader.pick_base(program.elf, False)
        entries = loader.segments(program.elf, base, stub + 1)
        entry, interp_base = program.elf.entry + base, 0
        remember(program.file.mapping(), program.file.path)
        if self.kernel.platform.inject(call_id, program.file.mapping(), stub + 1, 1) < 0:
            raise EIO
        if program.interp_file is not None and program.interp_elf is not None:
            interp_base = loader.pick_base(program.interp_elf, True)
            entries += loader.segments(program.interp_elf, interp_base, stub + 2)
            entry = program.interp_elf.entry + interp_base
            remember(program.interp_file.mapping(), program.interp_file.path)
            if self.kernel.platform.inject(call_id, program.interp_file.mapping(), stub + 2, 1) < 0:
                raise EIO
        patches = loader.auxv_patches(program.elf, base, interp_base, task, program.secure)
        new_sp = loader.build_stack(task, sp, program.path, patches)
        task.mem.write(plan_at, loader.pack_plan(entries, entry, new_sp, task.name))
        return 0


def _script_argv(task: "Task", rsp: int, argv: int, head: list[bytes]) -> int:
    """Write a script's argument vector below the caller's stack pointer; its address."""
    tail = b""
    if argv and task.mem.read_u64(argv):
        tail = _read_pointers(task, argv + 8)
    strings = b"".join(word + b"\0" for word in head)
    size = (len(head) + 1) * 8 + len(tail) + len(strings)
    at = (rsp - 512 - size) & -16  # below the red zone
    text = at + size - len(strings)
    pointers = []
    for word in head:
        pointers.append(text)
        text += len(word) + 1
    task.mem.write(at, pack(f"<{len(pointers)}Q", *pointers) + tail + pack("<Q", 0) + strings)
    return at


def _read_pointers(task: "Task", at: int) -> bytes:
    """The pointers at `at` up to a NULL, without it."""
    found = b""
    while True:
        chunk = task.mem.read_some(at + len(found), 4096 - (at + len(found)) % 4096 or 4096)
        chunk = chunk[: len(chunk) & -8]
        for index in range(0, len(chunk), 8):
            if chunk[index : index + 8] == bytes(8):
                return found + chunk[:index]
        found += chunk
        if not chunk or len(found) > 2 << 20:
            raise E2BIG
