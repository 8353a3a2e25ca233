"""`resume`: let a paused container run on."""

import click

from runsc_py.cli import Invocation


@click.command(short_help="resume a paused container")
@click.argument("container_id")
@click.pass_obj
def command(invocation: Invocation, container_id: str) -> None:
    """Let a paused container run on."""
    from runsc_py import lifecycle, state

    lifecycle.resume(state.load(invocation.root, container_id, lock=True))
