"""sentry/syscalls/kinds.py: what each kind makes of a register, and how it shows it."""

from typing import Annotated

import pytest

from sentry.abi.x86_64 import TIMESPEC
from sentry.errors import EBADF
from sentry.syscalls import kinds
from sentry.syscalls.decode import compile_entry, kind_of
from sentry.syscalls.kinds import Call, choice, field, flags, quote, safely, signal_name
from tests.unit.declaring import FakeFile, FakeTask

MINUS_1 = 2**64 - 1


def decoded(annotation, value, task=None):
    entry = compile_entry("x", lambda task, value: value, [kind_of(annotation, "x")], None, None)
    return entry(task or FakeTask(), (value, 0, 0, 0, 0, 0))


def shown(annotation, value, task=None, args=None, result=None):
    call = Call(task or FakeTask(), args or (value, 0, 0, 0, 0, 0), result)
    return safely(kind_of(annotation, "x"), value, call, 0)


@pytest.mark.parametrize(
    ("kind", "register", "value"),
    [
        (kinds.Int, MINUS_1, -1),
        (kinds.Int, 0xFFFF_FFFF, -1),
        (kinds.Int, 0x7FFF_FFFF, 0x7FFF_FFFF),
        (kinds.Int, 0x1234_0000_0005, 5),
        (kinds.UInt, MINUS_1, 0xFFFF_FFFF),
        (kinds.Long, MINUS_1, -1),
        (kinds.Off, 2**63, -(2**63)),
        (kinds.ULong, MINUS_1, MINUS_1),
        (kinds.Size, 2**40, 2**40),
        (kinds.DirFd, 0xFFFF_FF9C, -100),
        (kinds.Mode, 0o177777, 0o7777),
        (kinds.FileMode, 0o7020644, 0o20644),
        (kinds.Uid, MINUS_1, 0xFFFF_FFFF),
        (kinds.OpenFlags, 0x8000_0000 | 0o2000001, 0o2000001),
    ],
)
def test_registers_are_read_as_c_reads_them(kind, register, value):
    assert decoded(kind, register) == value


def test_file_refuses_path_descriptors_and_any_file_takes_them():
    file, path_only = FakeFile(), FakeFile(0o10000000)
    task = FakeTask(files={3: file, 4: path_only})
    assert decoded(kinds.File, 3, task) is file
    assert decoded(kinds.AnyFile, 4, task) is path_only
    for kind, fd in ((kinds.File, 4), (kinds.File, 9), (kinds.AnyFile, 9), (kinds.File, MINUS_1)):
        with pytest.raises(EBADF):
            decoded(kind, fd, task)


def test_flags_are_shown_by_name():
    event = Annotated[int, flags(EFD_NONBLOCK=0o4000, EFD_CLOEXEC=0o2000000)]
    assert shown(event, 0o2004000) == "EFD_NONBLOCK|EFD_CLOEXEC"
    assert shown(event, 0) == "0"
    assert shown(event, 0o4001) == "EFD_NONBLOCK|0x1"
    assert shown(kinds.OpenFlags, 0o2000000) == "O_RDONLY|O_CLOEXEC"
    assert shown(kinds.OpenFlags, 0o1101) == "O_WRONLY|O_CREAT|O_TRUNC"
    assert shown(kinds.OpenFlags, 0o4010000) == "O_RDONLY|O_SYNC"  # not O_DSYNC as well
    assert shown(kinds.Prot, 0) == "PROT_NONE"
    assert shown(kinds.MapFlags, 0x22) == "MAP_PRIVATE|MAP_ANONYMOUS"


def test_a_field_without_its_value_is_shown_in_hex():
    assert shown(Annotated[int, flags(field(3, A=1), B=4)], 6) == "B|0x2"


def test_choices():
    assert shown(kinds.Whence, 2) == "SEEK_END"
    assert shown(kinds.Whence, 77) == "0x4d"
    assert shown(Annotated[int, choice(strict=False, RUSAGE_CHILDREN=-1)], 0xFFFF_FFFF) == "RUSAGE_CHILDREN"


def test_strings_are_escaped_and_cut_as_strace_does():
    assert quote(b'a"b\\\n\x01\x002\xff') == r'"a\"b\\\n\1\0002\377"'
    task = FakeTask({0x1000: b"x" * 40, 0x2000: b"/etc/passwd\0"})
    assert shown(kinds.PathArg, 0x2000, task) == '"/etc/passwd"'
    assert shown(kinds.InBuffer, 0x1000, task, (0x1000, 40, 0, 0, 0, 0)) == '"' + "x" * 32 + '"...'
    assert shown(kinds.InBuffer, 0x1000, task, (0x1000, 3, 0, 0, 0, 0)) == '"xxx"'
    assert shown(kinds.OutBuffer, 0x1000, task) == "0x1000"
    assert shown(kinds.OutBuffer, 0x1000, task, result=2) == '"xx"'
    assert shown(kinds.OutBuffer, 0x1000, task, result=-14) == "0x1000"


def test_bad_pointers_are_shown_as_numbers():
    for kind in (kinds.PathArg, kinds.InBuffer, kinds.TimespecPtr):
        assert shown(kind, 0xDEAD, args=(0xDEAD, 5, 0, 0, 0, 0)) == "0xdead"
        assert shown(kind, 0) == "NULL"


def test_small_kinds_are_shown_as_in_the_manual():
    task = FakeTask({0x1000: TIMESPEC.pack(1, 5)})
    assert shown(kinds.TimespecPtr, 0x1000, task) == "{tv_sec=1, tv_nsec=5}"
    assert shown(kinds.DirFd, 0xFFFF_FF9C) == "AT_FDCWD"
    assert shown(kinds.Mode, 0o644) == "0644"
    assert shown(kinds.Uid, 0xFFFF_FFFF) == "-1"
    assert shown(kinds.Signal, 17) == "SIGCHLD"
    assert (signal_name(6), signal_name(29), signal_name(34), signal_name(99)) == (
        "SIGABRT",
        "SIGIO",
        "SIGRT_2",
        "99",
    )
