"""`start`: let a created container's program run."""

from typing import TYPE_CHECKING

from runsc_py.command import Verb

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", container_id: str) -> None:
    invocation.close_inherited()
    from runsc_py import lifecycle, state

    lifecycle.start(state.load(invocation.root, container_id, lock=True), invocation.log)


VERB = Verb("start a created container", [], ("container_id",), run)
