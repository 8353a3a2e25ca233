"""Our handlers' signatures against another project's collection of the kernel's prototypes (python-ptrace)."""

from __future__ import annotations

import pytest
from ptrace.syscall.prototypes import SYSCALL_PROTOTYPES

import sentry.syscalls
from sentry.syscalls.declare import TABLE

sentry.syscalls.load_all()

# pos_l and pos_h: on 64-bit machines the whole offset is in the first, and the second is not looked at.
SPLIT_OFFSET = {"preadv", "pwritev"}
HANDLED = sorted(
    entry.name
    for entry in TABLE.values()
    if entry.body is not None and entry.name in SYSCALL_PROTOTYPES and entry.name not in SPLIT_OFFSET
)


@pytest.mark.parametrize("name", HANDLED)
def test_handler_takes_the_prototypes_arguments(name: str) -> None:
    entry = next(entry for entry in TABLE.values() if entry.name == name)
    assert entry.body is not None
    ours = entry.body.__code__.co_varnames[1 : entry.body.__code__.co_argcount]
    _, theirs = SYSCALL_PROTOTYPES[name]
    assert len(ours) == len(theirs), f"{name}: we take {ours}, the kernel {[argument for _, argument in theirs]}"
