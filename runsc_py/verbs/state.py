"""`state`: a container's state as JSON."""

from typing import TYPE_CHECKING

from runsc_py.command import Verb

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", container_id: str) -> None:
    import json

    from runsc_py import state

    print(json.dumps(state.load(invocation.root, container_id).describe(), indent=2))


VERB = Verb("output the state of a container", [], ("container_id",), run)
