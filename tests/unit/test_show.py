"""sentry/syscalls/show.py: trace lines as strace prints them."""

from sentry.abi.x86_64 import NUMBERS
from sentry.syscalls import native  # noqa: F401  (declares what is shown)
from sentry.syscalls.declare import CONTINUE, Entry, lookup
from sentry.syscalls.kinds import (
    ArgvAddr,
    DirFd,
    EnvpAddr,
    Fd,
    InBuffer,
    Mode,
    OpenFlags,
    OutBuffer,
    PathAddr,
    PathArg,
    Size,
)
from sentry.syscalls.show import format_call, format_line, format_result
from tests.unit.declaring import FakeTask

AT_FDCWD = 0xFFFF_FF9C
TASK = FakeTask({0x1000: b"/etc/passwd\0", 0x2000: b"hello\n"})


def entry_of(name, body):
    entry = Entry(name, NUMBERS[name])
    entry.body = body
    return entry


def sys_openat(task, dirfd: DirFd, path: PathArg, flags: OpenFlags, mode: Mode): ...
def sys_write(task, fd: Fd, buffer: InBuffer, count: Size): ...
def sys_read(task, fd: Fd, buffer: OutBuffer, count: Size): ...


OPENAT = entry_of("openat", sys_openat)


def test_openat():
    args = (AT_FDCWD, 0x1000, 0o2000000, 0, 0, 0)
    assert format_call(OPENAT, TASK, args) == 'openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC)'
    creating = (AT_FDCWD, 0x1000, 0o101, 0o644, 0, 0)
    assert format_call(OPENAT, TASK, creating) == 'openat(AT_FDCWD, "/etc/passwd", O_WRONLY|O_CREAT, 0644)'
    assert format_call(OPENAT, TASK, (3, 0x666, 0, 0, 0, 0)) == "openat(3, 0x666, O_RDONLY)"


def test_buffers():
    assert (
        format_call(entry_of("write", sys_write), TASK, (1, 0x2000, 6, 0, 0, 0)) == r'write(1, "hello\n", 6)'
    )
    read = entry_of("read", sys_read)
    assert format_call(read, TASK, (0, 0x2000, 100, 0, 0, 0)) == "read(0, 0x2000, 100)"
    assert (
        format_line(read, TASK, (0, 0x2000, 100, 0, 0, 0), 5) == 'read(0, "hello", 100)                   = 5'
    )


def test_results():
    assert format_result(OPENAT, 3) == "= 3"
    assert format_result(OPENAT, None) == "= 0"
    assert format_result(OPENAT, -2) == "= -1 ENOENT (No such file or directory)"
    assert format_result(OPENAT, -512) == "= ? ERESTARTSYS (To be restarted if SA_RESTART is set)"
    assert format_result(OPENAT, CONTINUE) == "= ? (host)"
    assert format_result(lookup(9), 0x7F0000000000) == "= 0x7f0000000000"
    assert format_result(lookup(231), CONTINUE) == "= ?"


def test_native_calls_show_their_arguments_too():
    assert format_call(lookup(9), TASK, (0, 4096, 3, 0x22, 0xFFFF_FFFF, 0)) == (
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)"
    )
    assert format_call(lookup(39), TASK, (0,) * 6) == "getpid()"


def test_undeclared_calls_show_their_registers():
    assert format_call(lookup(9999), TASK, (1, 2, 0xFF, 0, 0, 0)) == "syscall_0x270f(1, 2, 0xff, 0, 0, 0)"


def sys_execve(task, filename: PathAddr, argv: ArgvAddr, envp: EnvpAddr): ...


def test_argument_vectors():
    def vector(*pointers):
        return b"".join(pointer.to_bytes(8, "little") for pointer in (*pointers, 0))

    task = FakeTask({0x1000: b"/bin/sh\0", 0x2000: b"-c\0", 0x3000: vector(0x1000, 0x2000), 0x4000: vector(*[0x2000] * 40)})
    execve = entry_of("execve", sys_execve)
    assert format_call(execve, task, (0x1000, 0x3000, 0x3000, 0, 0, 0)) == (
        'execve("/bin/sh", ["/bin/sh", "-c"], 0x3000 /* 2 vars */)'
    )
    assert format_call(execve, task, (0x1000, 0x4000, 0, 0, 0, 0)).endswith('"-c", "-c", ...], NULL)')
    assert format_call(execve, task, (0x1000, 0x9000, 0, 0, 0, 0)) == 'execve("/bin/sh", 0x9000, NULL)'
