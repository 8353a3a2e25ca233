"""`kill`: signal a container's first process, or all of them."""

import click

from runsc_py.cli import Invocation
from runsc_py.errors import RuntimeFault


@click.command(short_help="signal a container's init process")
@click.argument("container_id")
@click.argument("signal", default="SIGTERM")
@click.option("--all", "-a", "everybody", is_flag=True, help="Signal every process of the container.")
@click.pass_obj
def command(invocation: Invocation, container_id: str, signal: str, everybody: bool) -> None:
    """Send SIGNAL (a name or number, SIGTERM by default) to the container's first process."""
    from runsc_py import lifecycle, options, state

    container = state.load(invocation.root, container_id)
    number = options.parse_signal(signal)
    if number is None:
        raise RuntimeFault(f'unknown signal "{signal}"')
    lifecycle.kill(container, number, everybody)
