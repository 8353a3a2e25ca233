"""`restore`: not supported, and not pretended: podman takes exit code 0 of `--help` for support."""

import click

from runsc_py.errors import RuntimeFault


@click.command(
    hidden=True,
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("args", nargs=-1, type=click.UNPROCESSED)
def command(args: tuple[str, ...]) -> None:
    """Not supported."""
    raise RuntimeFault("restore is not supported")
