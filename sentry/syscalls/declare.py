"""The one syscall table. Everything known about a call is declared here once, next to its handler:

    @syscall                                        # the name is in sys_<name>; restarted after a signal
    def sys_openat(task: Task, dirfd: DirFd, path: PathArg, flags: OpenFlags, mode: Mode) -> int: ...

    @syscall(restart=Restart.NOHAND, partial="...")  # async def may wait, def may not
    async def sys_ppoll(...) -> int: ...

    native("munmap", Addr, Size, why="touches the caller's own address space only")
    native("mmap", when=masked(...), why="...")     # other registers: to the handler, or `otherwise`
    refuse("kexec_load", EPERM)

Dispatch, the decoder, the trace, the guest's BPF filter and docs/syscalls.md derive from :data:`TABLE`. A
dispatcher does ``entry = lookup(number)`` and ``result = entry.handler(task, args)`` with the six registers
as unsigned 64-bit ints; the result is an int, None (0), :data:`CONTINUE` (the host kernel shall run it) or,
if ``entry.is_async``, a coroutine that gives one of these. It raises a LinuxError class, and a call that
nobody declared raises ENOSYS.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from sentry.abi import linux
from sentry.abi.x86_64 import NAMES, NUMBERS
from sentry.errors import ENOSYS, LinuxError
from sentry.syscalls.constraint import Constraint, all_of, any_of, arg_in, masked
from sentry.syscalls.decode import DeclarationError, compile_entry, kind_of, kinds_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.syscalls.kinds import Kind

__all__ = [
    "CONTINUE",
    "TABLE",
    "Continue",
    "DeclarationError",
    "Entry",
    "Restart",
    "all_of",
    "any_of",
    "arg_in",
    "lookup",
    "masked",
    "native",
    "refuse",
    "syscall",
]

Handler = TypeVar("Handler", bound="Callable[..., Any]")
CO_COROUTINE = 0x80


class Restart:
    """What an interrupted call becomes: the (positive) error that is answered to the host kernel."""

    SYS = linux.ERESTARTSYS  # restarted if the handler has SA_RESTART, else EINTR
    NOHAND = linux.ERESTARTNOHAND  # EINTR if a handler ran, else restarted
    RESTARTBLOCK = linux.ERESTART_RESTARTBLOCK  # EINTR if a handler ran, else resumed with the time left
    NOINTR = linux.ERESTARTNOINTR  # always restarted
    EINTR = 4  # never restarted


class Continue:
    """Type of :data:`CONTINUE`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "CONTINUE"


CONTINUE: Final = Continue()


class Entry:
    """All that is declared about one call."""

    __slots__ = (
        "_kinds",
        "body",
        "family",
        "fast",
        "handler",
        "is_async",
        "is_native",
        "may_continue",
        "name",
        "native_kinds",
        "number",
        "otherwise",
        "partial",
        "refused",
        "restart",
        "when",
        "why",
    )

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.family = ""  # module that declares it
        self.body: Callable[..., Any] | None = None
        self.restart = Restart.SYS
        self.partial = ""  # what is missing; empty: full
        self.fast = ""  # why the C core may answer first
        self.may_continue = ""  # why the handler may let the host run it
        self.is_async = False
        self.is_native = False
        self.when: Constraint | None = None  # native only for such registers
        self.why = ""  # why native or refused
        self.otherwise: type[LinuxError] = ENOSYS  # for native calls whose registers do not qualify
        self.refused: type[LinuxError] | None = None
        self.native_kinds: tuple[Any, ...] = ()
        self._kinds: list[Kind] | None = None
        self.handler: Callable[[Any, tuple[int, ...]], Any] = self._first_use

    def __repr__(self) -> str:
        return f"<Entry {self.number} {self.name}: {self.support}>"

    @property
    def kinds(self) -> list[Kind]:
        """How its arguments are decoded and shown."""
        if self._kinds is None:
            if self.body is not None:
                self._kinds = kinds_of(self.body)
            else:
                self._kinds = [kind_of(kind, self.name) for kind in self.native_kinds]
        return self._kinds

    @property
    def support(self) -> str:
        """``native``, ``full``, ``partial``, ``refused`` or ``absent``."""
        if self.refused is not None:
            return "refused"
        if self.body is not None:
            return "partial" if self.partial else "full"
        return "native" if self.is_native else "absent"

    def _first_use(self, task: Any, args: tuple[int, ...]) -> Any:
        if self.handler == self._first_use:
            self.handler = self._compile()
        return self.handler(task, args)

    def _compile(self) -> Callable[[Any, tuple[int, ...]], Any]:
        if self.body is not None:
            when = self.when if self.is_native else None
            return compile_entry(self.name, self.body, self.kinds, when, CONTINUE)
        if self.is_native:
            return self._let_host_run
        return self._fail

    def _let_host_run(self, task: Any, args: tuple[int, ...]) -> Continue:
        if self.when is None or self.when.holds(args):
            return CONTINUE
        raise self.otherwise(f"{self.name} with registers outside: {self.when.text}")

    def _fail(self, task: Any, args: tuple[int, ...]) -> int:
        if self.refused is not None:
            raise self.refused
        if not self.why:
            self.why = "nobody declared it"
            report_unsupported(self.name)
        raise ENOSYS


TABLE: dict[int, Entry] = {}  # by number, what is declared
_ABSENT: dict[int, Entry] = {}


def lookup(number: int) -> Entry:
    """The entry for a number. A call nobody declared has one that raises ENOSYS and logs that once."""
    entry = TABLE.get(number) or _ABSENT.get(number)
    if entry is None:
        entry = Entry(NAMES.get(number, f"syscall_{number:#x}"), number)
        if len(_ABSENT) < 512:  # a guest that tries every number must fill neither our memory nor the log
            _ABSENT[number] = entry
        else:
            entry.why = "one of too many"
    return entry


def _report_to_stderr(name: str) -> None:
    sys.stderr.write(f"unsupported syscall: {name}\n")


report_unsupported: Callable[[str], None] = _report_to_stderr


def set_unsupported_report(report: Callable[[str], None]) -> None:
    """Where the one log line for each unsupported call goes."""
    global report_unsupported
    report_unsupported = report


@overload
def syscall(body: Handler, /) -> Handler: ...
@overload
def syscall(
    *, restart: int = Restart.SYS, partial: str = "", fast: str = "", may_continue: str = ""
) -> Callable[[Handler], Handler]: ...
def syscall(
    body: Callable[..., Any] | None = None,
    /,
    *,
    restart: int = Restart.SYS,
    partial: str = "",
    fast: str = "",
    may_continue: str = "",
) -> Any:
    """Declares ``sys_<name>`` as the handler of a call.

    ``restart``: what an interruption becomes. ``partial``: what it lacks. ``fast``: why the C core may
    answer it before us. ``may_continue``: why it may return CONTINUE after its own check.
    """

    def declare(body: Handler) -> Handler:
        code = body.__code__
        if not body.__name__.startswith("sys_"):
            raise DeclarationError(f"{body.__module__}.{body.__name__}: a handler is called sys_<syscall>")
        entry = _entry(body.__name__[4:])
        if entry.refused or (entry.is_native and entry.when is None):
            raise DeclarationError(f"{entry.name}: {body.__module__} and {entry.family} both declare it")
        if entry.body is not None and entry.body.__module__ != body.__module__:
            raise DeclarationError(f"{entry.name}: {body.__module__} and {entry.family} both declare it")
        entry.body = body
        entry.family = body.__module__
        entry.restart = restart
        entry.partial = partial
        entry.fast = fast
        entry.may_continue = may_continue
        entry.is_async = bool(code.co_flags & CO_COROUTINE)
        return body

    return declare(body) if body is not None else declare


def native(
    name: str, *kinds: Any, why: str, when: Constraint | None = None, otherwise: type[LinuxError] = ENOSYS
) -> None:
    """The host kernel runs the call itself, for registers that satisfy ``when``; ``kinds`` are for the trace.

    Registers that do not qualify go to the handler, if one is declared; else the call fails with
    ``otherwise``.
    """
    entry = _entry(name)
    if entry.refused or entry.is_native or (entry.body is not None and when is None):
        raise DeclarationError(f"{name}: declared native and in {entry.family}")
    entry.is_native = True
    entry.when = when
    entry.why = why
    entry.otherwise = otherwise
    entry.native_kinds = kinds
    entry.family = entry.family or "sentry.syscalls.native"


def refuse(name: str, error: type[LinuxError], why: str = "") -> None:
    """The call always fails, in the filter: nothing of it reaches the sentry."""
    entry = _entry(name)
    if entry.family:
        raise DeclarationError(f"{name}: refused and declared in {entry.family}")
    entry.refused = error
    entry.why = why
    entry.family = "sentry.syscalls.native"


def _entry(name: str) -> Entry:
    number = NUMBERS.get(name)
    if number is None:
        raise DeclarationError(f"{name}: no such syscall on this architecture")
    entry = TABLE.get(number)
    if entry is None:
        entry = TABLE[number] = Entry(name, number)
    return entry
