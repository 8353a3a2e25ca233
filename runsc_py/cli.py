"""The command `runsc-py`: global flags, then a verb. Each verb is a module of `runsc_py.verbs`, imported when
used.

A verb's `run(invocation, **values)` either returns an exit code (None is 0) or raises RuntimeFault, which is
told here, once.
"""

import os
import sys
from typing import Any

from runsc_py import SPEC_VERSION, VERSION
from runsc_py.command import Option, Verb, bind_arguments, parse_options
from runsc_py.errors import Interruption, RuntimeFault
from runsc_py.logs import Log
from runsc_py.settings import Settings

VERBS = (
    "create",
    "delete",
    "do",
    "events",
    "exec",
    "features",
    "kill",
    "list",
    "pause",
    "ps",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "syscalls",
    "update",
    "wait",
    "checkpoint",
    "restore",
)

OPTIONS = [
    Option("--root", metavar="DIR", help="Directory of container states."),
    Option("--log", metavar="FILE", help="Write log records here, not to stderr."),
    Option("--log-format", default="text", metavar="text|json", help="Format of log records."),
    Option("--debug", kind="flag", help="Log more."),
    Option("--systemd-cgroup", kind="flag", help="cgroupsPath is slice:prefix:name."),
    Option("--rootless", default="auto", metavar="true|false|auto", help="Run without root's privileges."),
    Option("--platform", default="seccomp", metavar="NAME", help="How system calls are intercepted."),
    Option("--network", metavar="none|host", help="Loopback alone, or the namespace's own stack."),
    Option(
        "--file-access",
        default="exclusive",
        metavar="exclusive|shared",
        help="shared: others change the root file system too, while the container runs.",
    ),
    Option("--overlay", kind="flag", help="Keep writes to the root file system in memory."),
    Option("--overlay-size", metavar="SIZE", help="Limit of the overlay's memory (64M, 2G)."),
    Option("--strace", kind="flag", help="Print a line per system call on stderr."),
    Option("--panic-on-bug", kind="flag", help="Stop the sandbox at the first fault in a handler."),
    Option("--criu"),
]

# How a failure begins, where runc says more than the text itself.
_PREFIXES = {
    "create": "runsc-py create failed: ",
    "run": "runsc-py run failed: ",
    "do": "runsc-py do failed: ",
    "exec": "exec failed: ",
}


class Invocation:
    """The flags before the verb, as the verbs get them."""

    def __init__(self, own_process: bool = False) -> None:
        self.verb = ""
        self.root = ""
        self.log = Log()
        self.settings = Settings()
        self.own_process = own_process  # a process of our own, whose inherited descriptors we may close

    def close_inherited(self, keep: int = 0) -> None:
        """Close every descriptor but stdio and the `keep` ones after it."""
        if self.own_process:
            from runsc_py.processes import close_inherited

            close_inherited(keep)

    def take(self, given: dict[str, Any]) -> None:
        """Take over the values of the global options."""
        from runsc_py.state import default_root

        if given["log_format"] not in ("text", "json"):
            raise RuntimeFault(f"invalid log-format: {given['log_format']}")
        self.log = Log(given["log"], given["log_format"] == "json", given["debug"])
        self.root = os.path.abspath(given["root"]) if given["root"] else default_root()
        settings = self.settings
        for name in ("platform", "rootless", "debug", "network", "systemd_cgroup", "overlay", "strace"):
            setattr(settings, name, given[name])
        if given["file_access"] not in ("exclusive", "shared"):
            raise RuntimeFault(f"invalid --file-access value: {given['file_access']} (exclusive or shared)")
        settings.shared_root = given["file_access"] == "shared"
        settings.overlay_size = parse_size(given["overlay_size"])
        settings.panic_on_bug = given["panic_on_bug"] or os.environ.get("RUNSC_PY_PANIC_ON_BUG") == "1"


def parse_size(text: str) -> int:
    """`64M` -> bytes; nothing is 0."""
    if not text:
        return 0
    digits = text.lower().rstrip("b")
    shift = {"k": 10, "m": 20, "g": 30, "t": 40}.get(digits[-1:], 0)
    digits = digits[:-1] if shift else digits
    if not (digits.isascii() and digits.isdigit()):
        raise RuntimeFault(f"invalid size: {text}")
    return int(digits) << shift


def main(argv: list[str] | None = None) -> int:
    """Run a command line; the exit code. Never raises. Without `argv` it is this process's, which then ends here:
    to take the interpreter down in good order costs as much as to start it."""
    if argv is not None:
        return _run(Invocation(), argv)
    code = _run(Invocation(own_process=True), sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):  # AttributeError: there is none
        code = code or 1
    os._exit(code)


def _run(invocation: Invocation, words: list[str]) -> int:
    try:
        return _dispatch(invocation, words)
    except (RuntimeFault, Interruption) as fault:
        return _fail(invocation, str(fault), fault.code)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        import traceback

        invocation.log.debug(traceback.format_exc())
        return _fail(invocation, f"{type(error).__name__}: {error}", 1)


def _dispatch(invocation: Invocation, words: list[str]) -> int:
    parsed = parse_options(words, OPTIONS, stop_at_arguments=True)
    if parsed is not None and parsed[1]:
        given, (name, *rest) = parsed
        if name not in VERBS:
            raise RuntimeFault(f"No help topic for '{name}'", code=3)
        invocation.verb = name
        verb = load_verb(name)
        options = parse_options(rest, verb.options, verb.stop_at_arguments)
        arguments = bind_arguments(options[1], verb.arguments) if options else None
        if options and arguments is not None:
            return _call(invocation, name, given, {**options[0], **arguments})
        if parsed[0]["log"]:
            invocation.take(given)  # so that the complaint reaches the log
    return _explain(invocation, words)


def _call(invocation: Invocation, name: str, given: dict[str, Any], values: dict[str, Any]) -> int:
    invocation.verb = name
    invocation.take(given)
    return load_verb(name).run(invocation, **values) or 0


def _explain(invocation: Invocation, words: list[str]) -> int:
    """Help, or what is wrong with the command line: click's part."""
    version = f"runsc-py version {VERSION}\nspec: {SPEC_VERSION}"
    if words in (["--version"], ["-v"]):
        print(version)
        return 0
    from runsc_py import usage

    verbs = {name: load_verb(name) for name in VERBS}
    return usage.run(words, verbs, OPTIONS, version, lambda *call: _call(invocation, *call))


def load_verb(name: str) -> Verb:
    module = __import__(f"runsc_py.verbs.{name}", fromlist=["VERB"])
    verb: Verb = module.VERB
    return verb


def _fail(invocation: Invocation, text: str, code: int) -> int:
    if invocation.verb == "exec":
        code = 255
    invocation.log.error(_PREFIXES.get(invocation.verb, "") + text)
    return code
