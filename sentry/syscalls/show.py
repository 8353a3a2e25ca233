"""One line a call, as strace prints it:

    format_call(entry, task, args)      -> 'openat(AT_FDCWD, "/etc/passwd", O_RDONLY|O_CLOEXEC, 0)'
    format_result(entry, 3)             -> '= 3'
    format_result(entry, -2)            -> '= -1 ENOENT (No such file or directory)'

A trace never fails: whatever a guest passes, what cannot be read is shown as the register's value. Buffers
that a call fills are shown if ``result`` is given, else as addresses.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sentry.abi import linux
from sentry.errors import errno_name
from sentry.syscalls.kinds import Call, safely

if TYPE_CHECKING:
    from sentry.syscalls.declare import Entry

# Calls whose result is an address, and those that never return one.
ADDRESSES = frozenset(("mmap", "mremap", "brk", "shmat"))
NO_RETURN = frozenset(("exit", "exit_group", "rt_sigreturn"))
RESTARTS = {
    linux.ERESTARTSYS: "ERESTARTSYS (To be restarted if SA_RESTART is set)",
    linux.ERESTARTNOINTR: "ERESTARTNOINTR (To be restarted)",
    linux.ERESTARTNOHAND: "ERESTARTNOHAND (To be restarted if no handler)",
    linux.ERESTART_RESTARTBLOCK: "ERESTART_RESTARTBLOCK (Interrupted by signal)",
}


def format_call(entry: Entry, task: Any, args: tuple[int, ...], result: int | None = None) -> str:
    """``name(arguments)`` with arguments shown by their kinds; a call without any declared shows no arguments
    if it takes none, and six registers if nobody declared it."""
    call = Call(task, args, result)
    if entry.support in ("absent", "refused"):
        shown = [hex(value) if value > 9 else str(value) for value in args]
    else:
        shown = [safely(kind, args[index], call, index) for index, kind in enumerate(entry.kinds)]
    if entry.name in CREATING and not _creates(entry.name, args):
        del shown[CREATING[entry.name] :]
    return f"{entry.name}({', '.join(shown)})"


# open(2) reads its mode only when it creates a file.
CREATING = {"open": 2, "openat": 3}


def _creates(name: str, args: tuple[int, ...]) -> bool:
    flags = args[CREATING[name] - 1]
    return bool(flags & linux.O_CREAT) or flags & linux.O_TMPFILE == linux.O_TMPFILE


def format_result(entry: Entry, result: object) -> str:
    """``= value``, ``= -1 ENAME (text)`` for ``-errno``; ``= ?`` when the host kernel was let to run the
    call.
    """
    if result is None:
        result = 0
    if not isinstance(result, int):
        return "= ?" if entry.name in NO_RETURN else "= ? (host)"
    if result < 0 and -result in RESTARTS:
        return f"= ? {RESTARTS[-result]}"
    if -4096 < result < 0:
        return f"= -1 {errno_name(-result)} ({os.strerror(-result)})"
    return f"= {result:#x}" if entry.name in ADDRESSES else f"= {result}"


def format_line(entry: Entry, task: Any, args: tuple[int, ...], result: object) -> str:
    """The whole line, with the result's alignment of strace."""
    number = result if isinstance(result, int) else None
    return join_line(format_call(entry, task, args, number), entry, result)


def join_line(call: str, entry: Entry, result: object) -> str:
    return f"{call:<39} {format_result(entry, result)}"
