"""`run`: create, start, wait for the program, delete. Its exit code is the program's."""

from typing import TYPE_CHECKING

import click

from runsc_py.cli import Invocation
from runsc_py.verbs.create import activate, activation_fds, bundle_options, check_preserved, check_terminal

if TYPE_CHECKING:
    from runsc_py.lifecycle import Options
    from runsc_py.spec import Spec


@click.command(short_help="create and run a container")
@click.argument("container_id")
@bundle_options
@click.option("--detach", "-d", is_flag=True, help="Do not wait for the program.")
@click.option("--keep", is_flag=True, help="Do not delete the container when it has ended.")
@click.option("--no-subreaper", is_flag=True, help="Accepted; the foreground needs its child.")
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
    detach: bool,
    keep: bool,
    no_subreaper: bool,
) -> int:
    """Create a container, start it and wait for it."""
    activated = activation_fds()
    check_preserved(preserve_fds + activated)
    invocation.close_inherited(preserve_fds + activated)
    from runsc_py import lifecycle, spec

    path = lifecycle.open_bundle(bundle)
    loaded = spec.load_bundle(path)
    check_terminal(bool(loaded.process and loaded.process.terminal), console_socket, detach)
    how = lifecycle.Options()
    how.console_socket, how.pid_file = console_socket, pid_file
    how.preserve_fds = preserve_fds + activated
    activate(loaded, activated)
    return run(invocation, container_id, loaded, path, how, detach, keep)


def run(
    invocation: Invocation,
    container_id: str,
    loaded: "Spec",
    bundle: str,
    how: "Options",
    detach: bool = False,
    keep: bool = False,
) -> int:
    """Create, start, and unless detached wait and delete; the program's exit code."""
    import os

    from runsc_py import foreground, lifecycle, processes
    from runsc_py.errors import RuntimeFault

    log = invocation.log
    if not detach:
        processes.become_subreaper()
    made = lifecycle.create(invocation.root, container_id, loaded, bundle, invocation.settings, log, how)
    container = made.container
    if not detach:
        foreground.forward_to(container.init)
    try:
        container.lock()
        if made.master >= 0:
            foreground.follow_size(made.master)
        lifecycle.start(container, log)
        container.unlock()
        if detach:
            return 0
        if made.master >= 0:
            done = container.init.open()
            if done >= 0:
                foreground.proxy(made.master, done)
        status = foreground.wait_for_child(container.init_pid)
        if status is None:
            raise RuntimeFault(f"container {container_id}: its first process is not a child of this command")
    except BaseException:
        lifecycle.delete(container, True, log)
        raise
    if not keep:
        processes.wait_ended(processes.Identity(container.sentry_pid, container.sentry_start), 0.5)
        lifecycle.delete(container, True, log)
        if made.master >= 0:
            os.close(made.master)
    return processes.exit_code(status)
