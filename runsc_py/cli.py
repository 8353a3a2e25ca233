"""The command `runsc-py`: global flags, then a verb. Each verb is a module of `runsc_py.verbs`, imported
when used.

A verb gets the `Invocation` (flags before the verb, the log) as click's object and either returns an exit
code (None is 0) or raises RuntimeFault, which is told here, once.
"""

import os
import sys
from typing import Any

import click

from runsc_py import SPEC_VERSION, VERSION
from runsc_py.errors import RuntimeFault
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

# How a failure begins, where runc says more than the text itself.
_PREFIXES = {
    "create": "runsc-py create failed: ",
    "run": "runsc-py run failed: ",
    "do": "runsc-py do failed: ",
    "exec": "exec failed: ",
}


class Invocation:
    """The flags before the verb."""

    def __init__(self) -> None:
        self.root = ""
        self.log = Log()
        self.settings = Settings()
        self.own_process = False  # a process of our own, whose inherited descriptors we may close

    def close_inherited(self, keep: int = 0) -> None:
        if self.own_process:
            from runsc_py.processes import close_inherited

            close_inherited(keep)


class _Verbs(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        import importlib

        command: click.Command = importlib.import_module(f"runsc_py.verbs.{cmd_name}").command
        command.name = cmd_name
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            raise RuntimeFault(f"No help topic for '{args[0]}'", code=3)
        return super().resolve_command(ctx, args)


def _show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(f"runsc-py version {VERSION}\nspec: {SPEC_VERSION}")
        ctx.exit()


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--root", metavar="DIR", default="", help="Directory of container states.")
@click.option("--log", "log_path", metavar="FILE", default="", help="Write log records here, not to stderr.")
@click.option("--log-format", default="text", metavar="text|json", help="Format of log records.")
@click.option("--debug", is_flag=True, help="Log more.")
@click.option("--systemd-cgroup", is_flag=True, help="cgroupsPath is slice:prefix:name.")
@click.option("--rootless", default="auto", metavar="true|false|auto", help="Run without root's privileges.")
@click.option("--platform", default="seccomp", metavar="NAME", help="How system calls are intercepted.")
@click.option(
    "--network", default="", metavar="none|host", help="Loopback alone, or the namespace's own stack."
)
@click.option("--overlay", is_flag=True, help="Keep writes to the root file system in memory.")
@click.option("--overlay-size", default="", metavar="SIZE", help="Limit of the overlay's memory (64M, 2G).")
@click.option("--strace", is_flag=True, help="Print a line per system call.")
@click.option("--panic-on-bug", is_flag=True, help="Stop the sandbox at the first fault in a handler.")
@click.option("--criu", hidden=True, default="")
@click.option(
    "--version",
    "-v",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version.",
)
@click.pass_obj
def group(
    invocation: Invocation,
    root: str,
    log_path: str,
    log_format: str,
    debug: bool,
    systemd_cgroup: bool,
    rootless: str,
    platform: str,
    network: str,
    overlay: bool,
    overlay_size: str,
    strace: bool,
    panic_on_bug: bool,
    criu: str,
) -> None:
    """An OCI runtime whose kernel is written in Python."""
    if log_format not in ("text", "json"):
        raise RuntimeFault(f"invalid log-format: {log_format}")
    invocation.log = Log(log_path, log_format == "json", debug)
    from runsc_py.state import default_root

    invocation.root = os.path.abspath(root) if root else default_root()
    settings = invocation.settings
    settings.platform, settings.rootless, settings.debug = platform, rootless, debug
    settings.network, settings.systemd_cgroup = network, systemd_cgroup
    settings.overlay, settings.overlay_size = overlay, parse_size(overlay_size)
    settings.strace = strace
    settings.panic_on_bug = panic_on_bug or os.environ.get("RUNSC_PY_PANIC_ON_BUG") == "1"


def parse_size(text: str) -> int:
    """`64M` -> bytes; nothing is 0."""
    if not text:
        return 0
    unit = {"k": 10, "m": 20, "g": 30, "t": 40}.get(text.lower().rstrip("b")[-1:], 0)
    digits = text.lower().rstrip("b").rstrip("kmgt")
    if not digits.isdigit():
        raise RuntimeFault(f"invalid size: {text}")
    return int(digits) << unit


def main(argv: list[str] | None = None) -> int:
    """Run a command line (sys.argv without `argv`); the exit code. Never raises."""
    invocation = Invocation()
    invocation.own_process = argv is None
    arguments = sys.argv[1:] if argv is None else argv
    context = None
    try:
        with group.make_context("runsc-py", list(arguments), obj=invocation) as context:
            result = group.invoke(context)
        return result if isinstance(result, int) else 0
    except RuntimeFault as fault:
        return _fail(invocation, context, str(fault), fault.code)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.UsageError as error:
        if error.ctx is not None:
            click.echo("Incorrect Usage.\n\n" + error.ctx.get_usage() + "\n", err=True)
        return _fail(invocation, context, error.format_message(), 1)
    except click.exceptions.Abort:
        return 130
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 1
    except Exception as error:
        import traceback

        invocation.log.debug(traceback.format_exc())
        return _fail(invocation, context, f"{type(error).__name__}: {error}", 1)


def _fail(invocation: Invocation, context: click.Context | None, text: str, code: int) -> int:
    verb = context.invoked_subcommand if context is not None else None
    if verb == "exec":
        code = 255
    invocation.log.error(_PREFIXES.get(verb or "", "") + text)
    return code
