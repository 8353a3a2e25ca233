"""`kill`: signal a container's first process, or all of them."""

from typing import TYPE_CHECKING

from runsc_py.command import Option, Verb
from runsc_py.errors import RuntimeFault

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", container_id: str, signal: str, everybody: bool) -> None:
    from runsc_py import lifecycle, options, state

    container = state.load(invocation.root, container_id)
    number = options.parse_signal(signal or "SIGTERM")
    if number is None:
        raise RuntimeFault(f'unknown signal "{signal}"')
    lifecycle.kill(container, number, everybody)


VERB = Verb(
    "signal a container's first process",
    [Option("--all", "-a", kind="flag", to="everybody", help="Signal every process of the container.")],
    ("container_id", "[signal]"),
    run,
    description="Send a signal (a name or number, SIGTERM by default) to the container's first process.",
)
