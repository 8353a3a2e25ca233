"""`wait`: wait for a container's end and print how it ended."""

from typing import TYPE_CHECKING

from runsc_py.command import Verb
from runsc_py.errors import NotRunning, RuntimeFault

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", container_id: str) -> None:
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
    print(json.dumps({"id": container_id, "exitStatus": exit_code(status)}))


VERB = Verb(
    "wait for a container to end",
    [],
    ("container_id",),
    run,
    description="Wait until a container's first process ends; print its exit status as JSON.",
)
