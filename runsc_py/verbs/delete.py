"""`delete`: remove a container and all it had."""

import click

from runsc_py.cli import Invocation
from runsc_py.errors import NoSuchContainer


@click.command(short_help="delete a container")
@click.argument("container_id")
@click.option("--force", "-f", is_flag=True, help="Kill it first if it runs; no error if it is gone.")
@click.pass_obj
def command(invocation: Invocation, container_id: str, force: bool) -> None:
    """Remove a stopped container; with --force any."""
    invocation.close_inherited()
    from runsc_py import lifecycle, state

    try:
        container = state.load(invocation.root, container_id, lock=True)
    except NoSuchContainer:
        if force:
            return
        raise
    try:
        lifecycle.delete(container, force, invocation.log)
    finally:
        container.unlock()
