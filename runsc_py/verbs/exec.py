"""`exec`: start another process in a container."""

import os
from typing import TYPE_CHECKING, Any

from runsc_py.command import Option, Verb
from runsc_py.errors import RuntimeFault
from runsc_py.verbs.create import check_preserved, check_terminal

if TYPE_CHECKING:
    from runsc_py.cli import Invocation
    from runsc_py.spec import Process
    from runsc_py.state import Container


def run(
    invocation: "Invocation",
    /,
    container_id: str,
    args: tuple[str, ...],
    preserve_fds: int,
    console_socket: str,
    detach: bool,
    pid_file: str,
    ignore_paused: bool,
    **given: Any,
) -> int:
    check_preserved(preserve_fds)
    invocation.close_inherited(preserve_fds)
    from runsc_py import state

    container = state.load(invocation.root, container_id)
    status = container.status()
    if status == "stopped":
        raise RuntimeFault("cannot exec in a stopped container")
    if status == "paused" and not ignore_paused:
        raise RuntimeFault("cannot exec in a paused container (use --ignore-paused to override)")
    process = _process(container, args, given)
    check_terminal(bool(process.terminal), console_socket, detach)
    return _execute(invocation, container, process, preserve_fds, console_socket, detach, pid_file)


def _process(container: "Container", args: tuple[str, ...], given: dict[str, Any]) -> "Process":
    """The process of --process, or the container's own with what the flags change."""
    from runsc_py import spec
    from runsc_py.typed import convert

    if given["process_file"]:
        process = spec.load_process(given["process_file"])
        process.terminal = bool(process.terminal) or given["tty"]
        return process
    if not args:
        raise RuntimeFault("process args cannot be empty")
    process = convert(container.process_defaults, spec.Process, "process")
    process.args, process.terminal = list(args), given["tty"]
    process.env = [*(process.env or ()), *given["env"]]
    process.cwd = given["cwd"] or process.cwd
    process.no_new_privileges = process.no_new_privileges or given["no_new_privs"]
    if given["user"]:
        process.user = _user(given["user"])
    if given["additional_gids"]:
        process.user = process.user or spec.User()
        process.user.additional_gids = [*(process.user.additional_gids or ()), *given["additional_gids"]]
    if given["cap"]:
        process.capabilities = process.capabilities or spec.Capabilities()
        for name in ("bounding", "effective", "permitted"):
            setattr(process.capabilities, name, [*(getattr(process.capabilities, name) or ()), *given["cap"]])
    spec.check_process(process)
    return process


def _user(text: str) -> Any:
    from runsc_py.spec import User

    uid, colon, gid = text.partition(":")
    for name, number in (("uid", uid), ("gid", gid)):
        if not (number.isascii() and number.isdigit()) and (name == "uid" or colon):
            raise RuntimeFault(f"parsing {number} as int for {name} failed")
    return User(uid=int(uid), gid=int(gid or 0))


def _execute(
    invocation: "Invocation",
    container: "Container",
    process: "Process",
    preserve_fds: int,
    console_socket: str,
    detach: bool,
    pid_file: str,
) -> int:
    from runsc_py import console, foreground, lifecycle
    from runsc_py.processes import Identity, exit_code

    fds, master, slave = [0, 1, 2], -1, -1
    if process.terminal:
        size = process.console_size
        rows, columns = (size.height, size.width) if size else (0, 0)
        if not detach and not rows:
            rows, columns = console.get_size(0)
        master, slave = console.open_pair(rows, columns)
        fds = [slave, slave, slave]
    preserved = list(range(3, 3 + preserve_fds))
    connection, pid = lifecycle.execute(container, process, [*fds, *preserved], [0, 1, 2, *preserved], invocation.log)
    guest = Identity(pid)
    if slave >= 0:
        os.close(slave)
    try:
        if detach:
            _detach(container, connection, pid, pid_file, master, console_socket)
            return 0
        if pid_file:
            lifecycle.write_pid_file(pid_file, pid)
        foreground.forward_to(guest)
        connection.send("wait", pid=pid)
        if master >= 0:
            foreground.proxy(master, connection.fileno())
        from sentry.control import ControlError

        try:
            return exit_code(int(connection.receive(timeout=None)["status"]))
        except (ControlError, KeyError, ValueError) as error:
            if container.init.alive():
                raise RuntimeFault(str(error)) from None
            return 137  # the container was killed, and this process with it
    except BaseException:
        if not (detach is False and pid_file == ""):
            guest.signal(9)
        raise


def _detach(container: "Container", connection: Any, pid: int, pid_file: str, master: int, console_socket: str) -> None:
    """Leave: the pid in the file is the guest process, or a waiter for it where it is not to be ours."""
    from runsc_py import console, lifecycle, state, waiter

    if console_socket:
        console.send_master(console_socket, master)
    if waiter.needed(pid):
        pid = waiter.spawn(connection, pid)
        from runsc_py.processes import Identity

        with_lock = state.load(container.directory.rpartition("/")[0], container.id, lock=True)
        with_lock.waiters = [[p, s] for p, s in with_lock.waiters if Identity(p, s).alive()]
        with_lock.waiters.append([pid, Identity(pid).start])
        with_lock.save()
        with_lock.unlock()
    if pid_file:
        lifecycle.write_pid_file(pid_file, pid)


VERB = Verb(
    "execute a new process inside a container",
    [
        Option("--process", "-p", to="process_file", metavar="FILE", help="The process as JSON."),
        Option("--tty", "-t", kind="flag", help="Give it a terminal."),
        Option("--console-socket", metavar="PATH", help="Send the terminal's master to this socket."),
        Option("--detach", "-d", kind="flag", help="Do not wait for it."),
        Option("--pid-file", metavar="FILE", help="Write its pid here."),
        Option("--cwd", metavar="DIR", help="Its working directory."),
        Option("--env", "-e", kind="list", metavar="NAME=VALUE", help="Add to its environment."),
        Option("--user", "-u", metavar="UID[:GID]", help="Its user."),
        Option("--additional-gids", "-g", kind="list", metavar="GID", help="Supplementary groups."),
        Option("--cap", "-c", kind="list", metavar="CAP_X", help="Add a capability."),
        Option("--no-new-privs", kind="flag", help="No privileges by set-user-id programs."),
        Option("--preserve-fds", kind="int", metavar="N", help="Pass N more descriptors, from 3 on."),
        Option("--ignore-paused", kind="flag", help="Do not refuse when the container is paused."),
        Option("--process-label"),
        Option("--apparmor"),
        Option("--no-subreaper", kind="flag"),
        Option("--cgroup", kind="list"),
    ],
    ("container_id", "[args]..."),
    run,
    stop_at_arguments=True,
    description="Run a program (or the process of --process) in a container.",
)
