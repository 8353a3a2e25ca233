"""Host processes by pid *and* start time, so a reused pid is never mistaken for the one recorded."""

import os
import select
import time

_PF_EXITING = 0x4  # linux/sched.h; in field 9 of /proc/PID/stat


class Identity:
    """A process as the state file records it."""

    __slots__ = ("pid", "start")

    def __init__(self, pid: int, start: int | None = None) -> None:
        self.pid = pid
        self.start = start_time(pid) if start is None else start

    def alive(self) -> bool:
        """Running: there, the same one, no zombie, and not on its way to be one: the first process of a PID
        namespace lingers there until the others of it have been reaped, by whoever their parent is."""
        if self.pid <= 0:
            return False
        fields = stat_fields(self.pid)
        if not fields or int(fields[19]) != self.start:
            return False
        return fields[0] not in ("Z", "X") and not int(fields[6]) & _PF_EXITING

    def signal(self, number: int) -> bool:
        """kill(2) on this very process; False when it is gone."""
        pidfd = self.open()
        if pidfd < 0:
            return False
        try:
            _pidfd_send_signal(pidfd, self.pid, number)
            return True
        except ProcessLookupError:
            return False
        finally:
            os.close(pidfd)

    def open(self) -> int:
        """A pidfd of it, or -1."""
        if self.pid <= 0:
            return -1
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            return -1
        if not self.alive():  # checked after the open: a pidfd cannot be reused
            os.close(pidfd)
            return -1
        return pidfd


def _pidfd_send_signal(pidfd: int, pid: int, number: int) -> None:
    import signal

    signal.pidfd_send_signal(pidfd, number)


def stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat from the state on (field 3 is index 0); empty when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            data = file.read()
    except OSError:
        return []
    return data[data.rfind(b")") + 2 :].decode("ascii", "replace").split()


def start_time(pid: int) -> int:
    """Clock ticks since boot at which the process began; 0 when it is gone."""
    fields = stat_fields(pid)
    return int(fields[19]) if len(fields) > 19 else 0


def parent_of(pid: int) -> int:
    fields = stat_fields(pid)
    return int(fields[1]) if len(fields) > 1 else 0


_REAP_MS = 2  # how long to wait for one process before others are reaped


def kill_and_wait(victims: list[Identity], timeout: float = 10.0) -> list[int]:
    """SIGKILL each and wait until they are dead (a zombie is); returns the pids that would not die."""
    waiting = [victim for victim in victims if victim.signal(9)]
    end = time.monotonic() + timeout
    while waiting:
        reap_children()
        waiting = [victim for victim in waiting if victim.alive()]
        if not waiting or time.monotonic() >= end:
            break
        wait_ended(waiting[0], _REAP_MS / 1000)
    return [victim.pid for victim in waiting]


def reap_children() -> None:
    """Collect every child that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def close_inherited(keep: int) -> None:
    """Close every descriptor above stdio and the `keep` ones that follow it (nothing else is passed on)."""
    first = 3 + keep
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        if descriptor >= first:
            try:
                os.close(descriptor)
            except OSError:
                pass  # the listing's own


def go_process_state(status: int) -> str:
    """A wait status in Go's words: `exit status 3`, `signal: killed`."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        import signal

        text = signal.strsignal(number) or f"signal {number}"
        return f"signal: {text.lower()}"
    return f"exit status {os.WEXITSTATUS(status)}"


def exit_code(status: int) -> int:
    """A wait status as the exit code of a command: the program's, or 128+n for a signal."""
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def become_subreaper() -> None:
    """From now on orphans below us become our children: the init of a foreground `run` does."""
    import ctypes

    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER


def wait_ended(process: Identity, timeout: float) -> bool:
    """Wait until it is dead or a zombie."""
    pidfd = process.open()
    if pidfd < 0:
        return True
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            reap_children()
            if poller.poll(min(left * 1000, _REAP_MS)) or not process.alive():
                return True
        return False
    finally:
        os.close(pidfd)
