"""`create`: make a container whose program waits for `start`."""

import os
from collections.abc import Callable
from typing import Any

import click

from runsc_py.cli import Invocation
from runsc_py.errors import RuntimeFault


def bundle_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What `create` and `run` have in common."""
    for option in (
        click.option(
            "--bundle", "-b", default="", metavar="DIR", help="The bundle; the current directory by default."
        ),
        click.option(
            "--console-socket", default="", metavar="PATH", help="Send the terminal's master to this socket."
        ),
        click.option(
            "--pid-file", default="", metavar="FILE", help="Write the pid of the first process here."
        ),
        click.option("--no-pivot", is_flag=True, help="Accepted and ignored."),
        click.option("--no-new-keyring", is_flag=True, help="Accepted and ignored."),
        click.option("--preserve-fds", default=0, metavar="N", help="Pass N more descriptors, from 3 on."),
    ):
        function = option(function)
    return function


def activation_fds() -> int:
    """Descriptors of socket activation meant for us: passed on as --preserve-fds are."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return 0
    count = os.environ.get("LISTEN_FDS", "")
    return int(count) if count.isascii() and count.isdigit() else 0


def check_preserved(count: int) -> None:
    for descriptor in range(3, 3 + count):
        try:
            os.fstat(descriptor)
        except OSError:
            raise RuntimeFault(f"--preserve-fds {count}: descriptor {descriptor} is not open") from None


@click.command(short_help="create a container")
@click.argument("container_id")
@bundle_options
@click.pass_obj
def command(
    invocation: Invocation,
    container_id: str,
    bundle: str,
    console_socket: str,
    pid_file: str,
    no_pivot: bool,
    no_new_keyring: bool,
    preserve_fds: int,
) -> None:
    """Create a container: everything is there, its program waits for `start`."""
    activated = activation_fds()
    check_preserved(preserve_fds + activated)
    invocation.close_inherited(preserve_fds + activated)
    from runsc_py import lifecycle, spec

    path = lifecycle.open_bundle(bundle)
    loaded = spec.load_bundle(path)
    check_terminal(bool(loaded.process and loaded.process.terminal), console_socket, detached=True)
    how = lifecycle.Options()
    how.console_socket, how.pid_file = console_socket, pid_file
    how.preserve_fds = preserve_fds + activated
    activate(loaded, activated)
    lifecycle.create(invocation.root, container_id, loaded, path, invocation.settings, invocation.log, how)


def activate(loaded: Any, count: int) -> None:
    if count:
        loaded.process.env = [*(loaded.process.env or ()), f"LISTEN_FDS={count}", "LISTEN_PID=1"]


def check_terminal(terminal: bool, console_socket: str, detached: bool) -> None:
    if terminal and detached and not console_socket:
        raise RuntimeFault("cannot allocate tty if runsc-py will detach without setting console socket")
    if console_socket and not (terminal and detached):
        raise RuntimeFault("cannot use console socket if runsc-py will not detach or allocate tty")
