"""sentry/syscalls/declare.py: what a declaration puts into the table, and what it may not say."""

import pytest

from sentry.errors import EINVAL, ENOSYS, EPERM
from sentry.syscalls import declare, load_all
from sentry.syscalls.declare import (
    CONTINUE,
    TABLE,
    DeclarationError,
    Restart,
    lookup,
    masked,
    native,
    refuse,
    set_unsupported_report,
    syscall,
)
from sentry.syscalls.kinds import Int

NO_ARGS = (0, 0, 0, 0, 0, 0)


@pytest.fixture(autouse=True)
def empty_table():
    load_all()
    saved, report = dict(TABLE), declare.report_unsupported
    TABLE.clear()
    declare._ABSENT.clear()
    yield
    TABLE.clear()
    TABLE.update(saved)
    declare._ABSENT.clear()
    set_unsupported_report(report)


def test_a_handler_is_found_by_its_number():
    @syscall
    def sys_dup(task, fd: Int):
        return fd + 1

    entry = lookup(32)
    assert (entry.name, entry.support, entry.is_async, entry.restart) == ("dup", "full", False, Restart.SYS)
    assert entry.handler(None, (4, 0, 0, 0, 0, 0)) == 5
    assert entry.handler(None, (5, 0, 0, 0, 0, 0)) == 6  # now by the compiled entry
    assert sys_dup(None, 1) == 2


def test_options_are_kept():
    @syscall(restart=Restart.NOHAND, partial="no signals", fast="own state", may_continue="checked")
    async def sys_ppoll(task, fds: Int):
        return 7

    entry = lookup(271)
    assert (entry.support, entry.is_async, entry.restart) == ("partial", True, 514)
    assert (entry.partial, entry.fast, entry.may_continue) == ("no signals", "own state", "checked")
    coroutine = entry.handler(None, NO_ARGS)
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == 7


def test_undeclared_calls_are_enosys_and_logged_once():
    said = []
    set_unsupported_report(said.append)
    for _ in range(3):
        with pytest.raises(ENOSYS):
            lookup(0).handler(None, NO_ARGS)
        with pytest.raises(ENOSYS):
            lookup(5555).handler(None, NO_ARGS)
    assert said == ["read", "syscall_0x15b3"]
    assert lookup(0).support == "absent"


def test_a_guest_that_tries_all_numbers_fills_no_memory():
    set_unsupported_report(lambda name: None)
    for number in range(10_000, 12_000):
        lookup(number)
    assert len(declare._ABSENT) <= 512


def test_a_guest_that_tries_all_numbers_fills_no_log():
    said = []
    set_unsupported_report(said.append)
    for number in range(10_000, 12_000):
        with pytest.raises(ENOSYS):
            lookup(number).handler(None, NO_ARGS)
    assert len(said) <= 512


def test_a_native_call_is_continued_when_it_arrives_all_the_same():
    native("getpid", why="names itself")
    assert lookup(39).handler(None, NO_ARGS) is CONTINUE
    assert repr(CONTINUE) == "CONTINUE"


def test_registers_outside_the_condition_fail_as_declared():
    native("mmap", when=masked(3, 0x20, 0x20), why="anonymous", otherwise=EINVAL)
    assert lookup(9).handler(None, (0, 0, 0, 0x22, 0, 0)) is CONTINUE
    with pytest.raises(EINVAL):
        lookup(9).handler(None, NO_ARGS)


@pytest.mark.parametrize("native_first", [True, False])
def test_a_call_may_be_native_for_some_registers_and_handled_for_others(native_first):
    def declare_native():
        native("mmap", when=masked(3, 0x20, 0x20), why="anonymous")

    if native_first:
        declare_native()

    @syscall
    def sys_mmap(task, addr: Int):
        return 99

    if not native_first:
        declare_native()
    entry = lookup(9)
    assert (entry.is_native, entry.support) == (True, "full")
    assert entry.handler(None, (0, 0, 0, 0x22, 0, 0)) is CONTINUE
    assert entry.handler(None, NO_ARGS) == 99


def test_refused_calls_fail_with_their_error():
    refuse("bpf", EPERM)
    with pytest.raises(EPERM):
        lookup(321).handler(None, NO_ARGS)
    assert lookup(321).support == "refused"


def test_one_call_is_declared_once():
    native("getpid", why="x")
    with pytest.raises(DeclarationError, match="getpid"):
        native("getpid", why="x")
    with pytest.raises(DeclarationError, match="getpid"):
        refuse("getpid", EPERM)
    with pytest.raises(DeclarationError, match="getpid"):

        @syscall
        def sys_getpid(task): ...


def test_names_are_checked():
    with pytest.raises(DeclarationError, match="no such syscall"):
        native("mmap2", why="x")
    with pytest.raises(DeclarationError, match="sys_"):

        @syscall
        def read(task): ...
