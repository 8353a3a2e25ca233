"""`resume`: let a paused container run on."""

from typing import TYPE_CHECKING

from runsc_py.command import Verb

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", container_id: str) -> None:
    from runsc_py import lifecycle, state

    lifecycle.resume(state.load(invocation.root, container_id, lock=True))


VERB = Verb("resume a paused container", [], ("container_id",), run)
