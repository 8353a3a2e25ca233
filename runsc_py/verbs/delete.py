"""`delete`: remove a container and all it had."""

from typing import TYPE_CHECKING

from runsc_py.command import Option, Verb
from runsc_py.errors import NoSuchContainer

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", container_id: str, force: bool) -> None:
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


VERB = Verb(
    "delete a container",
    [Option("--force", "-f", kind="flag", help="Kill it first if it runs; no error if it is gone.")],
    ("container_id",),
    run,
    description="Remove a stopped container, or with --force any.",
)
