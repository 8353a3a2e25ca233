"""`start`: let a created container's program run."""

import click

from runsc_py.cli import Invocation


@click.command(short_help="start a created container")
@click.argument("container_id")
@click.pass_obj
def command(invocation: Invocation, container_id: str) -> None:
    """Let the program of a created container run."""
    invocation.close_inherited()
    from runsc_py import lifecycle, state

    lifecycle.start(state.load(invocation.root, container_id, lock=True), invocation.log)
