"""The waiter: a small host process that stands for an exec'd guest process where the caller of `exec
--detach` is not the one to whom that process re-parents (podman starts another conmon for each exec).

It ends as the guest process ends, forwards signals sent to it, and takes the guest process with it when
killed: its open `wait` request says kill_on_close.
"""

import os
import signal
from typing import TYPE_CHECKING

from runsc_py.processes import Identity, parent_of

if TYPE_CHECKING:
    from sentry.control import Client


def needed(pid: int) -> bool:
    """Is `pid`'s parent another process than the one our own orphans go to?"""
    parent = parent_of(pid)
    return parent not in (os.getppid(), _reaper_of_orphans())


def _reaper_of_orphans() -> int:
    """The nearest subreaper above us: the parent of a grandchild whose parent has gone."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        middle = os.getpid()
        if os.fork() == 0:
            while (parent := os.getppid()) == middle:
                os.sched_yield()
            os.write(write_end, str(parent).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(write_end)
    answer = os.read(read_end, 32)
    os.close(read_end)
    return int(answer or b"0")


def spawn(connection: "Client", pid: int) -> int:
    """Fork the waiter for guest process `pid` (a host pid); returns the waiter's own pid. It is an orphan, and what is
    sent to it reaches the guest from now on."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        if os.fork():
            os._exit(0)
        try:
            _wait(connection, pid, write_end)
        finally:
            os._exit(1)
    os.close(write_end)
    waiter = int(os.read(read_end, 32) or b"0")
    os.close(read_end)
    os.waitpid(child, 0)
    return waiter


def _wait(connection: "Client", pid: int, ready: int) -> None:
    guest = Identity(pid)
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    keep = (connection.fileno(), ready)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) not in keep:
            try:
                os.close(int(name))
            except OSError:
                pass
    os.chdir("/")
    from runsc_py.foreground import forward_to
    from sentry.control import ControlError

    forward_to(guest)
    try:
        connection.send("wait", pid=pid, kill_on_close=True)
        os.write(ready, str(os.getpid()).encode())
        os.close(ready)
        status = int(connection.receive(timeout=None).get("status", 0))
    except (ControlError, ValueError):
        status = 9  # the sandbox is gone, and every guest with it
    end_as(status)


def end_as(status: int) -> None:
    """End this process with that wait status."""
    if os.WIFSIGNALED(status):
        import resource

        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            signal.signal(number, signal.SIG_DFL)
        except (OSError, ValueError):
            pass  # SIGKILL
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        os._exit(128 + number)
    os._exit(os.WEXITSTATUS(status))
