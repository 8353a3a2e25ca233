"""`pause`: stop every process of a container, until `resume`."""

from typing import TYPE_CHECKING

from runsc_py.command import Verb

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", container_id: str) -> None:
    from runsc_py import lifecycle, state

    lifecycle.pause(state.load(invocation.root, container_id, lock=True))


VERB = Verb("suspend all processes of a container", [], ("container_id",), run)
