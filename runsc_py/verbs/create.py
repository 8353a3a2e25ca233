"""`create`: make a container whose program waits for `start`."""

import os
from typing import TYPE_CHECKING

from runsc_py.command import Option, Verb
from runsc_py.errors import RuntimeFault

if TYPE_CHECKING:
    from runsc_py.cli import Invocation
    from runsc_py.spec import Spec

BUNDLE_OPTIONS = [
    Option("--bundle", "-b", metavar="DIR", help="The bundle; the current directory by default."),
    Option("--console-socket", metavar="PATH", help="Send the terminal's master to this socket."),
    Option("--pid-file", metavar="FILE", help="Write the pid of the first process here."),
    Option("--no-pivot", kind="flag", help="Accepted and ignored."),
    Option("--no-new-keyring", kind="flag", help="Accepted and ignored."),
    Option("--preserve-fds", kind="int", metavar="N", help="Pass N more descriptors, from 3 on."),
]


def run(
    invocation: "Invocation",
    container_id: str,
    bundle: str,
    console_socket: str,
    pid_file: str,
    preserve_fds: int,
    **_ignored: bool,
) -> None:
    activated = activation_fds()
    check_preserved(preserve_fds + activated)
    invocation.close_inherited(preserve_fds + activated)
    from runsc_py import lifecycle, spec

    path = lifecycle.open_bundle(bundle)
    loaded = spec.load_bundle(path)
    check_terminal(bool(loaded.process and loaded.process.terminal), console_socket, detached=True)
    activate(loaded, activated)
    how = lifecycle.Options()
    how.console_socket, how.pid_file = console_socket, pid_file
    how.preserve_fds = preserve_fds + activated
    lifecycle.create(invocation.root, container_id, loaded, path, invocation.settings, invocation.log, how)


def activation_fds() -> int:
    """Descriptors of socket activation meant for us: passed on as --preserve-fds are."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    count = os.environ.get("LISTEN_FDS", "")
    return int(count) if count.isascii() and count.isdigit() else 0


def activate(loaded: "Spec", count: int) -> None:
    if count and loaded.process:
        loaded.process.env = [*(loaded.process.env or ()), f"LISTEN_FDS={count}", "LISTEN_PID=1"]


def check_preserved(count: int) -> None:
    for descriptor in range(3, 3 + count):
        try:
            os.fstat(descriptor)
        except OSError:
            raise RuntimeFault(f"--preserve-fds: descriptor {descriptor} is not open") from None


def check_terminal(terminal: bool, console_socket: str, detached: bool) -> None:
    if terminal and detached and not console_socket:
        raise RuntimeFault("cannot allocate tty if runsc-py will detach without setting console socket")
    if console_socket and not (terminal and detached):
        raise RuntimeFault("cannot use console socket if runsc-py will not detach or allocate tty")


VERB = Verb(
    "create a container",
    BUNDLE_OPTIONS,
    ("container_id",),
    run,
    description="Create a container: everything is there, its program waits for `start`.",
)
