"""Which guest number a host thread has, and what else the host's procfs tells of it."""

import os

_STATUS_FDS = 128


class PidTable:
    """Guest ids of host threads, learnt from the sentry's own procfs when somebody asks: a fork costs nothing."""

    __slots__ = ("_guest", "_host", "_status_fds", "host_proc")

    def __init__(self, host_proc: int) -> None:
        self.host_proc = host_proc  # a directory descriptor of a procfs of the sentry's PID namespace
        self._guest: dict[int, int] = {}
        self._host: dict[int, int] = {}
        self._status_fds: dict[int, int] = {}  # kept for those whose pending signals are asked for again and again

    def forget(self, host_tid: int) -> None:
        """The thread is gone and its number may come again."""
        status_fd = self._status_fds.pop(host_tid, -1)
        if status_fd >= 0:
            os.close(status_fd)
        guest = self._guest.pop(host_tid, None)
        if guest is not None and self._host.get(guest) == host_tid:
            del self._host[guest]

    def status(self, host_tid: int) -> dict[bytes, bytes]:
        """/proc/TID/status of the host, empty when the thread is gone."""
        data = self.read(host_tid, "status")
        fields = {}
        for line in data.split(b"\n"):
            key, colon, value = line.partition(b":")
            if colon:
                fields[key] = value.strip()
        return fields

    def read(self, host_tid: int, name: str, limit: int = 65536) -> bytes:
        """A file of the thread's directory in the host's procfs, empty when the thread is gone."""
        try:
            fd = os.open(f"{host_tid}/{name}", os.O_RDONLY, dir_fd=self.host_proc)
        except OSError:
            return b""
        try:
            return os.read(fd, limit)
        except OSError:
            return b""
        finally:
            os.close(fd)

    def host_tgid(self, host_tid: int) -> int:
        """The process of a thread, by the host's numbers; 0 when the thread is gone."""
        return int(_field(self.read(host_tid, "status", 512), b"Tgid") or b"0")

    def thread_count(self, host_tgid: int) -> int:
        """How many threads the process has, dead ones that we have not reaped included."""
        try:
            return os.stat(f"{host_tgid}/task", dir_fd=self.host_proc).st_nlink - 2
        except OSError:
            return 0

    def threads(self, host_tgid: int) -> list[int]:
        """Their host ids."""
        try:
            fd = os.open(f"{host_tgid}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=self.host_proc)
        except OSError:
            return []
        try:
            return [int(name) for name in os.listdir(fd)]
        except OSError:
            return []
        finally:
            os.close(fd)

    def guest_pid(self, host_pid: int, member: int = 0) -> int:
        """The guest's number of `host_pid`. When that thread itself is gone, a process group's or session's number is
        read from `member`, who belongs to it. 0 when nobody knows."""
        guest = self._guest.get(host_pid)
        if guest is not None:
            return guest
        if not host_pid:
            return 0
        guest = _innermost(_field(self.read(host_pid, "status"), b"NSpid"))
        if guest:
            self._guest[host_pid] = guest
            self._host[guest] = host_pid
            return guest
        if member:
            fields = self.status(member)
            for key in (b"NSpgid", b"NSsid"):
                numbers = fields.get(key, b"").split()
                if len(numbers) > 1 and int(numbers[0]) == host_pid:
                    return int(numbers[-1])
        return 0

    def host_pid(self, guest: int) -> int | None:
        """The host's number of a guest pid already asked for."""
        return self._host.get(guest)

    def filters(self, host_tid: int) -> int:
        """How many seccomp filters of guests the thread is under."""
        return guest_filters(self.status(host_tid))

    def comm(self, host_tid: int) -> bytes | None:
        data = self.read(host_tid, "comm", 64)
        return data.rstrip(b"\n") if data else None

    def pending(self, host_tid: int) -> int:
        """The mask of signals that pend, for the thread or for its process."""
        try:
            text = os.pread(self._status_fd(host_tid), 4096, 0)
        except OSError:
            return 0  # it is gone
        return int(_field(text, b"SigPnd") or b"0", 16) | int(_field(text, b"ShdPnd") or b"0", 16)

    def _status_fd(self, host_tid: int) -> int:
        host_fd = self._status_fds.get(host_tid, -1)
        if host_fd < 0:
            if len(self._status_fds) >= _STATUS_FDS:
                os.close(self._status_fds.pop(next(iter(self._status_fds))))
            host_fd = os.open(f"{host_tid}/status", os.O_RDONLY, dir_fd=self.host_proc)
            self._status_fds[host_tid] = host_fd
        return host_fd

    def caught(self, host_tid: int, signo: int) -> bool:
        """Whether the process has a handler for `signo`; True when it can't be told."""
        mask = _field(self.read(host_tid, "status"), b"SigCgt")
        return bool(int(mask, 16) >> (signo - 1) & 1) if mask else True


def _field(status: bytes, key: bytes) -> bytes:
    """One line of a status; empty where there is none, as of a thread that is gone."""
    return (b"\n" + status).partition(b"\n%s:\t" % key)[2].partition(b"\n")[0]


def _innermost(numbers: bytes) -> int:
    """The last number of an NS* line, which is the guest's; 0 for one that has no inner namespace."""
    fields = numbers.split()
    return int(fields[-1]) if len(fields) > 1 else 0


def guest_filters(status: dict[bytes, bytes]) -> int:
    """The seccomp filters of a host thread without ours."""
    return max(int(status.get(b"Seccomp_filters", b"1")) - 1, 0)
