"""sentry/syscalls/decode.py: a signature becomes one function; errors come in Linux's order."""

from typing import Annotated

import pytest

from sentry.errors import EBADF, EFAULT, EINVAL
from sentry.syscalls.constraint import masked
from sentry.syscalls.decode import DeclarationError, compile_entry, kinds_of
from sentry.syscalls.kinds import AnyFile, DirFd, File, Int, OpenFlags, PathArg, flags
from tests.unit.declaring import FakeFile, FakeTask

Strict = Annotated[int, flags(ONE=1)]


def entry_of(body, native=None):
    return compile_entry("test", body, kinds_of(body), native, "CONTINUE")


def test_a_call_without_arguments():
    def sys_x(task: "object"):
        return "called"

    assert entry_of(sys_x)(None, (0,) * 6) == "called"


def test_annotations_may_be_strings():
    def sys_x(task: "Unknown", number: "Int"):  # noqa: F821
        return number

    assert entry_of(sys_x)(None, (0xFFFF_FFFF, 0, 0, 0, 0, 0)) == -1


def test_the_path_is_read_before_the_directory_is_looked_at():
    def sys_x(task, dirfd: DirFd, path: PathArg, how: OpenFlags):
        return dirfd, path

    entry = entry_of(sys_x)
    assert entry(FakeTask({16: b"name\0"}), (77, 16, 0, 0, 0, 0)) == (77, b"name")
    with pytest.raises(EFAULT):
        entry(FakeTask(), (77, 16, 0, 0, 0, 0))


def test_unknown_flags_come_before_a_bad_path():
    def sys_x(task, path: PathArg, how: Strict):
        return how

    with pytest.raises(EINVAL, match="flags 0x6"):
        entry_of(sys_x)(FakeTask(), (16, 6, 0, 0, 0, 0))
    with pytest.raises(EFAULT):
        entry_of(sys_x)(FakeTask(), (16, 1, 0, 0, 0, 0))


def test_a_bad_descriptor_comes_before_unknown_flags():
    def sys_x(task, file: File, how: Strict, other: AnyFile):
        return file, how, other

    entry = entry_of(sys_x)
    file = FakeFile()
    task = FakeTask(files={3: file})
    assert entry(task, (3, 1, 3, 0, 0, 0)) == (file, 1, file)
    with pytest.raises(EBADF):
        entry(task, (4, 2, 3, 0, 0, 0))
    with pytest.raises(EINVAL):
        entry(task, (3, 2, 4, 0, 0, 0))


def test_high_halves_of_32_bit_flags_are_ignored():
    def sys_x(task, how: Strict):
        return how

    assert entry_of(sys_x)(None, (0xABCD_0000_0001, 0, 0, 0, 0, 0)) == 1


def test_registers_for_the_host_do_not_reach_the_handler():
    def sys_x(task, number: Int):
        return number

    entry = entry_of(sys_x, masked(0, 1, 1))
    assert entry(None, (3, 0, 0, 0, 0, 0)) == "CONTINUE"
    assert entry(None, (2, 0, 0, 0, 0, 0)) == 2


def test_what_cannot_be_decoded_is_a_declaration_error():
    def too_many(task, a: Int, b: Int, c: Int, d: Int, e: Int, f: Int, g: Int): ...
    def no_kind(task, a: int): ...
    def missing(task, a): ...
    def misspelt(task, a: "Imt"): ...  # noqa: F821
    def star(task, *rest): ...
    def nothing(): ...

    for body in (too_many, no_kind, missing, misspelt, star, nothing):
        with pytest.raises(DeclarationError, match=body.__name__):
            kinds_of(body)
