"""Help and usage errors: the declarations of `runsc_py.command` as click commands, when they are needed."""

from typing import Any

import click

from runsc_py.command import Option, Verb, argument_name
from runsc_py.errors import RuntimeFault

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


class UsageFault(RuntimeFault):
    """A command line that cannot be used; the usage has been shown."""


def run(words: list[str], verbs: dict[str, Verb], options: list[Option], version: str, call: Any) -> int:
    """Let click parse `words`: show help, or what is wrong, or `call(verb name, globals, values)`."""

    def start(**given: Any) -> None:
        group_values.update(given)

    group_values: dict[str, Any] = {}
    group = click.Group(
        "runsc-py",
        callback=start,
        params=_parameters(options, ()),
        help="An OCI runtime whose kernel is written in Python.",
        context_settings=_SETTINGS,
    )
    group.params.append(_version(version))
    for name, verb in verbs.items():
        group.add_command(_command(name, verb, lambda name=name, **given: call(name, group_values, given)))
    try:
        result = group.main(words, prog_name="runsc-py", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.UsageError as error:
        if error.ctx is not None:
            click.echo("Incorrect Usage.\n\n" + error.ctx.get_usage() + "\n", err=True)
        raise UsageFault(error.format_message()) from None
    except click.exceptions.Abort:
        return 130
    return result if isinstance(result, int) else 0


def _command(name: str, verb: Verb, callback: Any) -> click.Command:
    settings = dict(_SETTINGS)
    if verb.stop_at_arguments:
        settings["allow_interspersed_args"] = False
    if verb.hidden:  # refuses, whatever it is asked, its help included
        settings |= {"ignore_unknown_options": True, "help_option_names": []}
    return click.Command(
        name,
        callback=callback,
        params=_parameters(verb.options, verb.arguments),
        help=verb.description,
        short_help=verb.summary,
        context_settings=settings,
        hidden=verb.hidden,
        add_help_option=not verb.hidden,
    )


def _parameters(options: list[Option], arguments: tuple[str, ...]) -> list[click.Parameter]:
    made: list[click.Parameter] = [
        click.Option(
            [*option.flags, option.name],
            is_flag=option.kind == "flag",
            multiple=option.kind == "list",
            type=int if option.kind == "int" else None,
            default=option.default,
            metavar=option.metavar or None,
            help=option.help,
            hidden=option.hidden,
        )
        for option in options
    ]
    for name in arguments:
        many, optional = name.endswith("..."), name.startswith("[")
        extra: dict[str, Any] = {"default": ""} if optional and not many else {}
        made.append(
            click.Argument(
                [argument_name(name)],
                nargs=-1 if many else 1,
                required=not optional,
                type=click.UNPROCESSED,
                **extra,
            )
        )
    return made


def _version(text: str) -> click.Option:
    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(text)
            ctx.exit()

    return click.Option(
        ["--version", "-v"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Show the version.",
    )
