"""`events`: resource use of a container, once (--stats) or again and again."""

import time
from typing import TYPE_CHECKING

from runsc_py.command import Option, Verb
from runsc_py.errors import RuntimeFault

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", container_id: str, stats: bool, interval: str) -> None:
    import json

    from runsc_py import state
    from runsc_py.cgroups.stats import collect

    seconds = _seconds(interval)
    container = state.load(invocation.root, container_id)
    if container.status() == "stopped":
        raise RuntimeFault(f"container with id {container_id} is not running")
    while True:
        event = {"type": "stats", "id": container_id, "data": collect(container.cgroup)}
        print(json.dumps(event), flush=True)
        if stats:
            return
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))
            if container.status() == "stopped":
                return


def _seconds(text: str) -> float:
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    number = text.rstrip("hms")
    try:
        seconds = float(number) * units[text[len(number) :] or "s"]
    except (KeyError, ValueError):
        seconds = 0.0
    if seconds <= 0:
        raise RuntimeFault("duration interval must be greater than 0")
    return seconds


VERB = Verb(
    "display resource usage of a container",
    [
        Option("--stats", kind="flag", help="Once, and done."),
        Option("--interval", default="5s", metavar="DURATION", help="Time between two lines."),
    ],
    ("container_id",),
    run,
    description="Print a container's resource use as JSON lines.",
)
