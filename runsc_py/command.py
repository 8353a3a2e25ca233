"""How a verb declares its options and arguments, and the quick parser for them.

Each module of `runsc_py.verbs` has `VERB = Verb(summary, options, arguments, run, ...)`. A well-formed
command line is parsed here, in microseconds. Anything else (a request for help, an unknown option, a missing
argument) goes to click, which `runsc_py.usage` feeds with the same declarations: to import it takes twice as
long as to start a bare interpreter, and `create`, `start` and `exec` are called by the hundred.
"""

from collections.abc import Callable
from typing import Any


class Option:
    """`flags`: its spellings, the long one first. `kind`: flag, text, int or list (text, repeatable)."""

    __slots__ = ("default", "flags", "help", "hidden", "kind", "metavar", "name")

    def __init__(
        self,
        *flags: str,
        kind: str = "text",
        to: str = "",
        default: Any = None,
        metavar: str = "",
        help: str = "",
    ) -> None:
        self.flags = flags
        self.kind = kind
        self.name = to or flags[0].lstrip("-").replace("-", "_")
        self.default = {"flag": False, "int": 0, "list": (), "text": ""}[kind] if default is None else default
        self.metavar = metavar
        self.help = help
        self.hidden = not help


class Verb:
    """`arguments`: names in order; "[name]" may be left out, "name..." takes one or more, "[name]..." any
    number. `stop_at_arguments`: what follows the first argument is not ours (exec, do)."""

    __slots__ = ("arguments", "description", "hidden", "options", "run", "stop_at_arguments", "summary")

    def __init__(
        self,
        summary: str,
        options: list[Option],
        arguments: tuple[str, ...],
        run: Callable[..., int | None],
        stop_at_arguments: bool = False,
        description: str = "",
        hidden: bool = False,
    ) -> None:
        self.summary = summary
        self.options = options
        self.arguments = arguments
        self.run = run
        self.stop_at_arguments = stop_at_arguments
        self.description = description or summary
        self.hidden = hidden


def parse_options(
    words: list[str], options: list[Option], stop_at_arguments: bool
) -> tuple[dict[str, Any], list[str]] | None:
    """(values by name, the words left over), or None when this is not a plain, well-formed command line."""
    by_flag = {flag: option for option in options for flag in option.flags}
    values: dict[str, Any] = {option.name: option.default for option in options}
    rest: list[str] = []
    at = 0
    while at < len(words):
        word = words[at]
        at += 1
        if word == "--":
            return values, rest + words[at:]
        if word[:1] != "-" or word == "-":
            rest.append(word)
            if stop_at_arguments:
                return values, rest + words[at:]
            continue
        flag, equals, value = word.partition("=")
        option = by_flag.get(flag)
        if option is None:
            return None
        if option.kind == "flag":
            if equals:
                return None
            values[option.name] = True
            continue
        if not equals:
            if at == len(words):
                return None
            value = words[at]
            at += 1
        if option.kind == "list":
            values[option.name] = (*values[option.name], value)
        elif option.kind == "int":
            if not (value.isascii() and value.lstrip("-").isdigit()):
                return None
            values[option.name] = int(value)
        else:
            values[option.name] = value
    return values, rest


def bind_arguments(words: list[str], names: tuple[str, ...]) -> dict[str, Any] | None:
    """Words as the arguments so named; None when there are too many or too few."""
    bound: dict[str, Any] = {}
    left = list(words)
    for name in names:
        plain = argument_name(name)
        if name.endswith("..."):
            if not left and not name.startswith("["):
                return None
            bound[plain], left = tuple(left), []
        elif left:
            bound[plain] = left.pop(0)
        elif name.startswith("["):
            bound[plain] = ""
        else:
            return None
    return None if left else bound


def argument_name(name: str) -> str:
    return name.removesuffix("...").strip("[]")
