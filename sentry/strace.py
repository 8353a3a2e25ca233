"""--strace: one readable line per system call, as strace(1) prints them (syscalls/show.py makes the text).

A call that waits is shown when it ends; one that never ends (exit, a killed task) when it is made. What our own code
does in a task before its first program, or to load one, is not shown.
"""

import os
from typing import TYPE_CHECKING, Any

from sentry.kernel.rewrite import ENDLESS
from sentry.syscalls.kinds import quote
from sentry.syscalls.show import format_call, format_line, join_line

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.syscalls.declare import Entry

OURS = frozenset(("load",))  # the loader stub's question is no call of the guest's
REPLACING = frozenset(("execve", "execveat"))  # once they have succeeded, their arguments are gone

_REPLACING_KEPT = 64


class Tracer:
    """Writes the lines to a host descriptor."""

    def __init__(self, host_fd: int) -> None:
        self._fd = host_fd
        self._replacing: dict[Task, str] = {}  # execs under way

    def attach(self, kernel: "Kernel") -> None:
        kernel.on_call = self.on_call
        kernel.on_result = self.on_result

    def on_call(self, task: "Task", entry: "Entry", args: tuple[int, ...]) -> None:
        if task.spawn is not None:
            return
        if entry.name in ENDLESS:
            self._write(task, format_line(entry, task, args, None))
        elif entry.name in REPLACING:
            if len(self._replacing) >= _REPLACING_KEPT:  # by tasks that were killed in the middle
                self._replacing = {one: text for one, text in self._replacing.items() if one.kernel.exists(one)}
            self._replacing[task] = format_call(entry, task, args)

    def on_result(self, task: "Task", entry: "Entry", args: tuple[int, ...], result: int) -> None:
        if task.spawn is not None:
            if entry.name in REPLACING and not result:
                self._write(task, join_line(_first_call(task.spawn.process), entry, result))
        elif entry.name in REPLACING:
            self._write(task, join_line(self._replacing.pop(task, entry.name), entry, result))
        elif entry.name not in OURS:
            self._write(task, format_line(entry, task, args, result))

    def _write(self, task: "Task", line: str) -> None:
        text = f"[{task.tid:5}] {line}\n"
        try:
            os.write(self._fd, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass  # the reader has gone: the program goes on


def _first_call(process: Any) -> str:
    """What the container's configuration amounts to."""
    words = ", ".join(quote(word) for word in process.args)
    return f"execve({quote(process.args[0])}, [{words}], /* {len(process.env)} vars */)"
