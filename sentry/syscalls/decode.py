"""Compiles a handler's signature into one function ``entry(task, args)``, at the call's first use.

The source is made only of our own constants and kinds' decode expressions. For ``sys_openat`` it reads

    def entry(task, args):
        a0, a1, a2, a3, a4, a5 = args
        return body(task, (a0 if a0 < 0x80000000 else int32(a0)), task.mem.read_cstr(a1, 4096),
                    a2 & 0x7f0fc3, a3 & 0o7777)

Order of errors. Arguments are decoded left to right, so the leftmost bad one gives the errno. What
registers alone show to be EINVAL (unknown flags, values outside an enumeration) comes first, as Linux
checks flags before it copies memory; but in a call with a resolved descriptor (``File``), after it: EBADF,
then EINVAL.
"""

from __future__ import annotations

from types import FunctionType
from typing import TYPE_CHECKING, Any

from sentry.errors import EINVAL
from sentry.syscalls.kinds import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.syscalls.constraint import Constraint

    Entry = Callable[[Any, tuple[int, ...]], Any]


class DeclarationError(Exception):
    """A syscall is declared in a way that cannot be carried out: our own bug, found at load or first use."""


def compile_entry(
    name: str, body: Callable[..., Any], kinds: list[Kind], native: Constraint | None, continue_: object
) -> Entry:
    """The function that takes raw registers, decodes them and calls ``body``."""
    names: dict[str, Any] = {"body": body, "EINVAL": EINVAL, "CONTINUE": continue_}
    lines = ["def entry(task, args):"]
    if kinds or native:
        lines.append("    a0, a1, a2, a3, a4, a5 = args")
    if native is not None:
        lines.append(f"    if {native.python()}: return CONTINUE")
    resolved = ""
    if not any(kind.resolves for kind in kinds):
        lines += [_check(index, kind) for index, kind in enumerate(kinds) if kind.check]
    elif any(kind.check for kind in kinds):
        # The descriptors first; what follows them is checked before it is decoded.
        for index, kind in enumerate(kinds):
            if kind.check:
                lines.append(_check(index, kind))
            else:
                lines.append(f"    v{index} = {kind.decode.format(a=f'a{index}')}")
                resolved += f" {index} "
    values = []
    for index, kind in enumerate(kinds):
        values.append(f"v{index}" if f" {index} " in resolved else kind.decode.format(a=f"a{index}"))
        names.update(kind.names)
    lines.append(f"    return body({', '.join(['task', *values])})")
    scope: dict[str, Any] = {}
    exec(compile("\n".join(lines), f"<decoder of {name}>", "exec"), names, scope)
    entry: Entry = scope["entry"]
    return entry


def _check(index: int, kind: Kind) -> str:
    register = f"a{index}"
    return f"    if {kind.check.format(a=register)}: raise EINVAL(f'{kind.label} {{{register}:#x}}')"


def kinds_of(body: Callable[..., Any]) -> list[Kind]:
    """The kinds of a handler's parameters after ``task``; annotations may be strings (PEP 563)."""
    if not isinstance(body, FunctionType):
        raise DeclarationError(f"{body!r} is not a plain function")
    code = body.__code__
    where = f"{body.__module__}.{body.__qualname__}"
    parameters = code.co_varnames[: code.co_argcount]
    if code.co_kwonlyargcount or code.co_flags & 0x0C or not parameters:
        raise DeclarationError(f"{where}: a handler takes task and up to six plain parameters")
    if len(parameters) > 7:
        raise DeclarationError(f"{where}: more than six arguments")
    found = []
    for parameter in parameters[1:]:
        annotation = body.__annotations__.get(parameter)
        if isinstance(annotation, str):
            try:
                annotation = eval(annotation, body.__globals__)
            except Exception as error:
                raise DeclarationError(f"{where}: {parameter}: {annotation}: {error}") from error
        found.append(kind_of(annotation, f"{where}: {parameter}"))
    return found


def kind_of(annotation: Any, where: str) -> Kind:
    """The Kind inside an Annotated type."""
    for extra in getattr(annotation, "__metadata__", ()):
        if isinstance(extra, Kind):
            return extra
    raise DeclarationError(f"{where}: {annotation!r} is no argument kind (see kinds.py)")
