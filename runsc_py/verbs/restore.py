"""`restore`: not supported, and not pretended: podman takes exit code 0 of `--help` for support."""

from typing import TYPE_CHECKING

from runsc_py.command import Verb
from runsc_py.errors import RuntimeFault

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", words: tuple[str, ...]) -> None:
    raise RuntimeFault("restore is not supported")


VERB = Verb("not supported", [], ("[words]...",), run, stop_at_arguments=True, hidden=True)
