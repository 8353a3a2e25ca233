"""The command line over a fake sandbox: `python -m tests.cli.fake ARGS...` is runsc-py whose sentry and gofer
are stand-ins, so that the life cycle is tested apart from the kernel.

The fake "guest" is a plain host process; the fake sentry serves the control socket. Processes, their parents
and their stdio are as the real ones': init is orphaned when `create` exits, exec'd processes have its parent.
"""

import ctypes
import os
import select
import signal
import sys
import time
import types
from typing import Any

CLONE_PARENT = 0x8000


class BootError(Exception):
    pass


class Record:
    """Keeps its keyword arguments as attributes."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class Sandbox(Record):
    pass


def start(config: Any, control: Any, stdio: list[int], gofer_fd: int, preserve_fds: list[int], console: Any) -> Sandbox:
    check(config.process)
    read_end, write_end = os.pipe()
    gate_read, gate_write = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.close(read_end)
        os.close(gate_write)
        if not os.read(gate_read, 1):
            os._exit(1)
        os.close(gate_read)
        sentry = os.fork()
        if sentry == 0:
            try:
                serve(config, control, stdio, preserve_fds, write_end)
            except BaseException:
                import traceback

                traceback.print_exc()
            os._exit(70)
        os.close(write_end)
        # Wait until init exists: it is our child by CLONE_PARENT, and must be orphaned by our exit.
        while not os.path.exists(f"/proc/{sentry}") or not _booted(sentry):
            time.sleep(0.001)
        os._exit(0)
    os.close(write_end)
    os.close(gate_read)
    try:
        config.adopt(middle)
        os.write(gate_write, b"x")
    except BaseException:
        os.close(gate_write)
        os.close(read_end)
        os.waitpid(middle, 0)
        raise
    os.close(gate_write)
    text = b""
    while chunk := os.read(read_end, 100):
        text += chunk
    os.close(read_end)
    os.waitpid(middle, 0)
    sentry_pid, init_pid = (int(word) for word in text.split())
    return Sandbox(init_pid=init_pid, sentry_pid=sentry_pid, console_fd=-1)


def _booted(sentry: int) -> bool:
    """The sentry takes its own session once init exists."""
    try:
        return os.getsid(sentry) == sentry
    except ProcessLookupError:
        return True


def check(process: Any) -> None:
    program = process.args[0].decode()
    if "/" in program:
        candidates = [program]
    else:
        path = next((e[5:] for e in process.env if e.startswith(b"PATH=")), b"/bin").decode()
        candidates = [os.path.join(directory, program) for directory in path.split(":")]
    found = [c for c in candidates if os.path.exists(c)]
    if not found:
        if "/" in program:
            raise BootError(f'exec: "{program}": stat {program}: no such file or directory')
        raise BootError(f'exec: "{program}": executable file not found in $PATH')
    if os.path.isdir(found[0]) or not os.access(found[0], os.X_OK):
        raise BootError(f'exec: "{program}": permission denied')


def clone_parent() -> int:
    """fork, but the child is our parent's."""
    return int(ctypes.CDLL(None).syscall(56, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))


def become(process: Any, fds: list[tuple[int, int]], gate: int = -1) -> None:
    """The guest: wait for the gate, then exec."""
    try:
        if gate < 0 or os.read(gate, 1):
            _exec(process, fds)
    finally:
        os._exit(127)


def _exec(process: Any, fds: list[tuple[int, int]]) -> None:
    moved = [(os.dup2(host, 500 + number), guest) for number, (host, guest) in enumerate(fds)]
    for host, guest in moved:
        os.dup2(host, guest, inheritable=True)
    os.setsid()
    os.closerange(500, 600)
    os.closerange(max(guest for _, guest in fds) + 1, 500)
    os.chdir(process.cwd)
    if process.umask is not None:
        os.umask(process.umask)
    environment = dict(entry.split(b"=", 1) for entry in process.env)
    os.environ["PATH"] = environment.get(b"PATH", b"/bin:/usr/bin").decode()
    os.execvpe(process.args[0], process.args, environment)


def serve(config: Any, control: Any, stdio: list[int], preserve_fds: list[int], report: int) -> None:
    from sentry.control import ControlError, ControlServer, process_arguments

    config.enter()
    gate_read, gate_write = os.pipe()
    init = clone_parent()
    if init == 0:
        os.close(gate_write)
        os.close(report)
        fds = [(host, guest) for guest, host in enumerate(stdio)] + [(fd, fd) for fd in preserve_fds]
        become(config.process, fds, gate_read)
    os.close(gate_read)
    os.write(report, f"{os.getpid()} {init}".encode())
    os.close(report)
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in {0, 1, 2, *stdio, *preserve_fds}:
        os.dup2(null, descriptor)
    firsts = {init: (os.pidfd_open(init), [])}
    statuses: dict[int, int] = {}
    poller = select.poll()
    poller.register(firsts[init][0], select.POLLIN)
    watched: dict[int, Any] = {}

    def on_start(message: Any, fds: list[int], reply: Any) -> None:
        os.write(gate_write, b"x")
        reply.send()

    def on_exec(message: Any, fds: list[int], reply: Any) -> None:
        process = Record(**process_arguments(message.get("process")))
        guest_fds = message["process"]["fds"]
        try:
            check(process)
        except BootError as error:
            raise ControlError(str(error)) from None
        status_read, status_write = os.pipe()  # the status, which only the parent could wait for
        pid = clone_parent()
        if pid == 0:
            os.close(status_read)
            child = os.fork()
            if child == 0:
                ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
                become(process, list(zip(fds, guest_fds, strict=True)))
            os.dup2(status_write, 3)
            os.closerange(4, 500)
            for descriptor in (0, 1, 2):
                os.close(descriptor)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
                signal.signal(number, lambda got, _: os.kill(child, got))
            _, status = os.waitpid(child, 0)
            os.write(3, str(status).encode())
            from runsc_py.waiter import end_as

            end_as(status)
        os.close(status_write)
        for descriptor in fds:
            os.close(descriptor)
        firsts[pid] = (status_read, [])
        poller.register(status_read, select.POLLIN)
        reply.send({"pid": pid})

    def on_wait(message: Any, fds: list[int], reply: Any) -> None:
        pid = message["pid"]
        if pid in statuses:
            reply.send({"status": statuses[pid]})
            return
        firsts[pid][1].append(reply)
        if message.get("kill_on_close"):
            reply.on_close = lambda: os.kill(pid, 9)

    def on_signal(message: Any, fds: list[int], reply: Any) -> None:
        for pid in list(firsts) if message["pid"] == "all" else [message["pid"]]:
            os.kill(pid, message["signal"])
        reply.send()

    def on_pids(message: Any, fds: list[int], reply: Any) -> None:
        reply.send({"pids": list(firsts)})

    def each(number: int) -> Any:
        def handler(message: Any, fds: list[int], reply: Any) -> None:
            for pid in firsts:
                os.kill(pid, number)
            reply.send()

        return handler

    handlers = {"start": on_start, "exec": on_exec, "wait": on_wait, "signal": on_signal, "pids": on_pids}
    handlers["limits"] = lambda message, fds, reply: reply.send()
    handlers |= {"pause": each(signal.SIGSTOP), "resume": each(signal.SIGCONT)}
    server = ControlServer(control, handlers)

    def watch(descriptor: int, events: int, callback: Any) -> None:
        watched[descriptor] = callback
        poller.register(descriptor, events)

    def unwatch(descriptor: int) -> None:
        del watched[descriptor]
        poller.unregister(descriptor)

    server.attach(watch, unwatch)
    while True:
        for descriptor, events in poller.poll():
            if descriptor in watched:
                watched[descriptor](events)
                continue
            for pid, (source, replies) in list(firsts.items()):
                if source == descriptor:
                    statuses[pid] = 0 if pid == init else int(os.read(source, 20) or b"9")
                    for reply in replies:
                        reply.send({"status": statuses[pid]})
                    del firsts[pid]
                    poller.unregister(source)
            if init in statuses:
                for pid in firsts:
                    os.kill(pid, 9)
                server.close()
                os._exit(0)


class GoferError(Exception):
    pass


class GoferHandle(Record):
    def wait_ready(self) -> None:
        pass


def start_gofer(config: Any) -> GoferHandle:
    import socket

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        config.enter()
        ours.close()
        os.setsid()
        os.closerange(0, 3)
        keep = theirs.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, 500)
        theirs.recv(10)
        os._exit(0)
    theirs.close()
    return GoferHandle(pid=pid, socket_fd=ours.detach())


def install() -> None:
    boot = types.ModuleType("sentry.boot")
    for name, value in {
        "BootError": BootError,
        "ProcessConfig": Record,
        "MountConfig": Record,
        "SandboxConfig": Record,
        "start": start,
    }.items():
        setattr(boot, name, value)
    gofer = types.ModuleType("gofer.boot")
    for name, value in {"GoferConfig": Record, "GoferError": GoferError, "start": start_gofer}.items():
        setattr(gofer, name, value)
    sys.modules["sentry.boot"], sys.modules["gofer.boot"] = boot, gofer


if __name__ == "__main__":
    install()
    from runsc_py.cli import main

    sys.exit(main())
