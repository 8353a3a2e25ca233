"""`events`: resource use of a container, once (--stats) or again and again, and its kills for want of memory."""

import time
from typing import TYPE_CHECKING, Any

from runsc_py.command import Option, Verb
from runsc_py.errors import RuntimeFault

if TYPE_CHECKING:
    from runsc_py.cgroups.oom import OomWatch
    from runsc_py.cli import Invocation
    from runsc_py.state import Container


def run(invocation: "Invocation", container_id: str, stats: bool, interval: str) -> None:
    from runsc_py import state

    seconds = _seconds(interval)
    container = state.load(invocation.root, container_id)
    if container.status() == "stopped":
        raise RuntimeFault(f"container with id {container_id} is not running")
    _tell(container, "stats")
    if not stats:
        _follow(container, seconds)


def _tell(container: "Container", kind: str) -> None:
    import json

    from runsc_py.cgroups.stats import collect

    event: dict[str, Any] = {"type": kind, "id": container.id}
    if kind == "stats":
        event["data"] = collect(container.cgroup)
    print(json.dumps(event), flush=True)


def _follow(container: "Container", seconds: float) -> None:
    """Statistics every `seconds`, and each kill for want of memory as it happens; until the container ends."""
    import select

    end = container.init.open()
    if end < 0:
        return
    poller = select.poll()
    poller.register(end, select.POLLIN)
    watch = _watch(container)
    if watch is not None:
        poller.register(watch.fd, watch.events)
    due = time.monotonic() + seconds
    while True:
        ready = [number for number, _ in poller.poll(max(due - time.monotonic(), 0) * 1000)]
        if watch is not None and watch.fired():
            _tell(container, "oom")
        if end in ready:
            return
        if time.monotonic() >= due:
            due += seconds
            _tell(container, "stats")


def _watch(container: "Container") -> "OomWatch | None":
    from runsc_py.cgroups import Manager
    from runsc_py.cgroups.oom import OomWatch

    try:
        return OomWatch(Manager.restore(container.cgroup))
    except OSError:
        return None


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
    description="Print a container's resource use, and each kill for want of memory, as JSON lines.",
)
