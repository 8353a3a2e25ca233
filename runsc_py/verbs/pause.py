"""`pause`: stop every process of a container, until `resume`."""

import click

from runsc_py.cli import Invocation


@click.command(short_help="suspend all processes of a container")
@click.argument("container_id")
@click.pass_obj
def command(invocation: Invocation, container_id: str) -> None:
    """Suspend every process of a container."""
    from runsc_py import lifecycle, state

    lifecycle.pause(state.load(invocation.root, container_id, lock=True))
