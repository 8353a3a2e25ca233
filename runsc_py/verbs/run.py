"""`run`: create, start, wait for the program, delete. Its exit code is the program's."""

import os
from typing import TYPE_CHECKING

from runsc_py.command import Option, Verb
from runsc_py.errors import RuntimeFault
from runsc_py.verbs.create import BUNDLE_OPTIONS, activate, activation_fds, check_preserved, check_terminal

if TYPE_CHECKING:
    from runsc_py.cli import Invocation
    from runsc_py.lifecycle import Options
    from runsc_py.spec import Spec


def run(
    invocation: "Invocation",
    container_id: str,
    bundle: str,
    console_socket: str,
    pid_file: str,
    preserve_fds: int,
    detach: bool,
    keep: bool,
    **_ignored: bool,
) -> int:
    activated = activation_fds()
    check_preserved(preserve_fds + activated)
    invocation.close_inherited(preserve_fds + activated)
    from runsc_py import lifecycle, spec

    path = lifecycle.open_bundle(bundle)
    loaded = spec.load_bundle(path)
    check_terminal(bool(loaded.process and loaded.process.terminal), console_socket, detach)
    activate(loaded, activated)
    how = lifecycle.Options()
    how.console_socket, how.pid_file = console_socket, pid_file
    how.preserve_fds = preserve_fds + activated
    return run_container(invocation, container_id, loaded, path, how, detach, keep)


def run_container(
    invocation: "Invocation",
    container_id: str,
    loaded: "Spec",
    bundle: str,
    how: "Options",
    detach: bool = False,
    keep: bool = False,
) -> int:
    """Create, start, and unless detached wait and delete; the program's exit code."""
    from runsc_py import foreground, lifecycle, processes

    log = invocation.log
    how.foreground = not detach
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
        # The sentry ends by itself once its first task has; killing it would only lose its last words.
        processes.wait_ended(processes.Identity(container.sentry_pid, container.sentry_start), 0.5)
        lifecycle.delete(container, True, log)
        if made.master >= 0:
            os.close(made.master)
    return processes.exit_code(status)


VERB = Verb(
    "create and run a container",
    [
        *BUNDLE_OPTIONS,
        Option("--detach", "-d", kind="flag", help="Do not wait for the program."),
        Option("--keep", kind="flag", help="Do not delete the container when it has ended."),
        Option("--no-subreaper", kind="flag", help="Accepted and ignored."),
    ],
    ("container_id",),
    run,
    description="Create a container, start it and wait for it; the exit code is the program's.",
)
