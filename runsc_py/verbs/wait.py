"""`wait`: wait for a container's end and print how it ended."""

import click

from runsc_py.cli import Invocation
from runsc_py.errors import NotRunning, RuntimeFault


@click.command(short_help="wait for a container to end")
@click.argument("container_id")
@click.pass_obj
def command(invocation: Invocation, container_id: str) -> None:
    """Wait until a container's first process ends; print its exit status as JSON."""
    import json

    from runsc_py import lifecycle, state
    from runsc_py.processes import exit_code
    from sentry.control import ControlError

    container = state.load(invocation.root, container_id)
    if container.status() == "stopped":
        raise NotRunning
    with lifecycle.client(container) as connection:
        try:
            status = int(connection.call("wait", timeout=None, pid=container.init_pid)["status"])
        except (ControlError, KeyError, ValueError) as error:
            raise RuntimeFault(f"container {container_id}: {error}") from None
    click.echo(json.dumps({"id": container_id, "exitStatus": exit_code(status)}))
