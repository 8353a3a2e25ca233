"""`state`: a container's state as JSON."""

import click

from runsc_py.cli import Invocation


@click.command(short_help="output the state of a container")
@click.argument("container_id")
@click.pass_obj
def command(invocation: Invocation, container_id: str) -> None:
    """Print a container's state as JSON."""
    import json

    from runsc_py import state

    click.echo(json.dumps(state.load(invocation.root, container_id).describe(), indent=2))
