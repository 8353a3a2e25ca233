"""`run`, `do` and `exec` in the foreground: signals go on to the container, the terminal is proxied, and the
program's status becomes ours."""

import os
import select
import signal
from collections.abc import Callable

from runsc_py import console
from runsc_py.processes import Identity

# Not passed on: about ourselves (CHLD, PIPE, WINCH, TTIN, TTOU, job control of our own shell) or uncatchable.
_KEPT = {
    "SIGCHLD",
    "SIGPIPE",
    "SIGWINCH",
    "SIGTTIN",
    "SIGTTOU",
    "SIGTSTP",
    "SIGCONT",
    "SIGKILL",
    "SIGSTOP",
    "SIGURG",
    "SIGSEGV",
    "SIGBUS",
    "SIGFPE",
    "SIGILL",
    "SIGABRT",
    "SIGTRAP",
    "SIGSYS",
    "SIGPROF",
}


def forward_signals(send: Callable[[int], object]) -> None:
    """Every catchable signal to us calls `send(number)` instead."""
    for number in signal.valid_signals():
        if isinstance(number, signal.Signals) and number.name in _KEPT:
            continue
        try:
            signal.signal(number, lambda received, frame: send(received))
        except (OSError, ValueError):
            continue


def forward_to(process: Identity) -> None:
    forward_signals(process.signal)


def wait_for_child(pid: int) -> int | None:
    """The wait status of `pid`, other orphans reaped on the way; None if it is no child of ours."""
    while True:
        try:
            ended, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return None
        if ended == pid:
            return status


def proxy(master: int, done: int) -> None:
    """Copy between our stdio and the pty's master until `done` is readable and the output is drained."""
    follow_size(master)
    with console.RawTerminal(0):
        _copy(master, done)


def follow_size(master: int) -> None:
    """The pty is as large as our terminal, now and after every SIGWINCH."""

    def resize(*_: object) -> None:
        rows, columns = console.get_size(0)
        if rows and columns:
            try:
                console.set_size(master, rows, columns)
            except OSError:
                pass

    resize()
    signal.signal(signal.SIGWINCH, resize)


def _copy(master: int, done: int) -> None:
    os.set_blocking(master, False)
    poller = select.poll()
    poller.register(master, select.POLLIN)
    poller.register(done, select.POLLIN)
    poller.register(0, select.POLLIN)
    backlog = b""  # typed by the user, not yet taken by the pty
    while True:
        poller.modify(master, select.POLLIN | (select.POLLOUT if backlog else 0))
        ready = dict(poller.poll())
        if ready.get(master, 0) & (select.POLLIN | select.POLLHUP | select.POLLERR):
            if not _pump(master) and not ready.get(done):
                poller.unregister(master)  # every slave is closed: the program may run on without
                poller.poll()
                return
        if ready.get(done):
            while _pump(master, limit=1):
                pass
            return
        if backlog and ready.get(master, 0) & select.POLLOUT:
            backlog = backlog[_write_some(master, backlog) :]
        if ready.get(0):
            try:
                typed = os.read(0, 16384)
            except OSError:
                typed = b""
            if typed:
                backlog += typed
                backlog = backlog[_write_some(master, backlog) :]
            else:
                poller.unregister(0)
                if ready[0] & select.POLLHUP:  # our own terminal is gone: hang up the container's too
                    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
                    os.dup2(null, master, inheritable=False)
                    os.close(null)
                    poller.unregister(master)
                    poller.poll()
                    return


def _pump(master: int, limit: int = 16) -> bool:
    """Copy output that is there. False when there is none and, as all slaves are closed, will be none."""
    for _ in range(limit):
        try:
            data = os.read(master, 65536)
        except BlockingIOError:
            return limit != 1
        except OSError:  # EIO: hung up
            return False
        if not data:
            return False
        write_all(1, data)
    return True


def _write_some(descriptor: int, data: bytes) -> int:
    try:
        return os.write(descriptor, data)
    except BlockingIOError:
        return 0
    except OSError:
        return len(data)  # nobody will read it any more


def write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:  # our own stdout may be non-blocking
            poller = select.poll()
            poller.register(descriptor, select.POLLOUT)
            poller.poll()
        except OSError:
            return
