"""Task and ThreadGroup: a guest's threads and processes (Linux: task_struct, signal_struct).

Each task is a host thread; the host kernel runs it, and holds its parent, process group, session, masks and handlers.
What the sentry keeps is what the host must not know: credentials, descriptors, places in the file system.
Guest pids are those of the container's PID namespace; `host_tid` is the same thread's id in the sentry's own.
"""

import os
from time import monotonic_ns
from typing import TYPE_CHECKING, Any

from native import lib
from sentry.abi.linux import (
    RLIM_INFINITY,
    RLIMIT_CORE,
    RLIMIT_MEMLOCK,
    RLIMIT_MSGQUEUE,
    RLIMIT_NICE,
    RLIMIT_NOFILE,
    RLIMIT_NPROC,
    RLIMIT_RTPRIO,
    RLIMIT_SIGPENDING,
    RLIMIT_STACK,
)
from sentry.errors import EINVAL, ESRCH
from sentry.kernel.creds import Credentials, gains
from sentry.kernel.memory import Memory
from sentry.kernel.nproc import apply_limit
from sentry.kernel.sched import WaitQueue
from sentry.vfs.names import rights_of

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from sentry.fs.aio import Context
    from sentry.kernel.calls import Call
    from sentry.kernel.fdtable import FdTable
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.program import Program
    from sentry.kernel.ptrace import Ended, Tracee
    from sentry.kernel.rewrite import StoppedCall
    from sentry.kernel.sched import WaitQueue
    from sentry.kernel.sigwatch import SignalQueue
    from sentry.vfs.context import FsContext
    from sentry.vfs.mount import MountNamespace, Path

RLIM_NLIMITS = 16
_STATUS_FDS = 128
TIMER_SLACK_NS = 50_000
COREDUMP_FILTER = 0x33  # core(5)
_DEFAULT_LIMITS = {
    RLIMIT_STACK: (8 << 20, RLIM_INFINITY),
    RLIMIT_CORE: (0, 0),
    RLIMIT_NPROC: (4096, 4096),
    RLIMIT_NOFILE: (1024, 4096),
    RLIMIT_MEMLOCK: (64 << 10, 64 << 10),
    RLIMIT_SIGPENDING: (4096, 4096),
    RLIMIT_MSGQUEUE: (819200, 819200),
    RLIMIT_NICE: (0, 0),
    RLIMIT_RTPRIO: (0, 0),
}


class Rlimits:
    """Soft and hard limits by RLIMIT_* number (getrlimit(2))."""

    __slots__ = ("_limits",)

    def __init__(self, limits: dict[int, tuple[int, int]] | None = None) -> None:
        self._limits = dict(_DEFAULT_LIMITS)
        if limits:
            self._limits.update(limits)

    def get(self, resource: int) -> tuple[int, int]:
        """(soft, hard); EINVAL for a number that is no resource."""
        if not 0 <= resource < RLIM_NLIMITS:
            raise EINVAL
        return self._limits.get(resource, (RLIM_INFINITY, RLIM_INFINITY))

    def set(self, resource: int, soft: int, hard: int) -> None:
        self._limits[resource] = (soft, hard)

    def copy(self) -> "Rlimits":
        return Rlimits(self._limits)


class ChildEvents:
    """What a wait(2) of a tracer sleeps on."""

    __slots__ = ("count", "queue")

    def __init__(self) -> None:
        self.count = 0
        self.queue = WaitQueue()


class ThreadGroup:
    """A process."""

    __slots__ = (
        "aio", "argv", "child_events", "children", "container", "coredump_filter", "dumpable", "ended", "exe",
        "exec_count", "exit_queue", "exited", "host_tgid", "kernel", "leader", "maker", "mixed", "mounts",
        "oom_score_adj", "parent", "places", "rlimits", "signal_queue", "start_ns", "subreaper", "tasks", "tracees",
    )  # fmt: skip

    def __init__(self, kernel: "Kernel", host_tgid: int, parent: "ThreadGroup | None") -> None:
        self.kernel = kernel
        self.host_tgid = host_tgid
        self.parent = parent
        self.maker: Task | None = None  # the parent's thread that made it
        self.children: set[ThreadGroup] = set()
        self.tasks: list[Task] = []
        self.tracees: list[Tracee] = []  # of all its threads
        self.ended: list[Ended] = []  # tracees that are no children of ours, for wait(2)
        self.child_events = ChildEvents()
        self.mixed = False  # its threads differ in credentials, descriptors or places
        self.leader: Task  # set by the first task
        self.rlimits: Rlimits = Rlimits() if parent is None else parent.rlimits.copy()
        self.mounts: MountNamespace
        self.exe: Path | None = None if parent is None else parent.exe
        self.argv: tuple[bytes, ...] = () if parent is None else parent.argv
        self.aio: dict[int, Context] | None = None  # by the address that names it (io_setup(2))
        self.exec_count = 0
        self.places: tuple[int, int, int, int] = (0, 0, 0, 0) if parent is None else parent.places
        self.start_ns = monotonic_ns()
        self.dumpable = 1
        self.coredump_filter: int = COREDUMP_FILTER if parent is None else parent.coredump_filter
        self.oom_score_adj: int = 0 if parent is None else parent.oom_score_adj
        self.subreaper = False
        self.exited = False
        self.exit_queue: WaitQueue | None = None  # made by a pidfd; woken when the process has ended
        self.signal_queue: SignalQueue | None = None  # made by a signalfd; woken when a signal is sent to the process
        self.container: Any = None if parent is None else parent.container
        if parent is not None:
            parent.children.add(self)
            self.mounts = parent.mounts

    @property
    def tgid(self) -> int:
        """The guest's process id."""
        return self.kernel.pids.guest_pid(self.host_tgid)

    def child_event(self) -> None:
        """Something has happened that wait(2) may tell of."""
        self.child_events.count += 1
        self.child_events.queue.wake()

    def threads(self) -> "list[Task]":
        """All of them: `tasks` has those that somebody has met."""
        self.kernel.threads.meet(self)
        return list(self.tasks)

    def members(self) -> "list[Task]":
        """The threads; of a zombie the leader, which stays until it is reaped."""
        return self.threads() or [self.leader]

    def pgid(self) -> int:
        """The process group, a guest pid; asked from the host kernel, where setpgid(2) runs. 0: not known."""
        try:
            return self.kernel.pids.guest_pid(os.getpgid(self.host_tgid), self.host_tgid)
        except OSError:
            return 0

    def sid(self) -> int:
        """The session, a guest pid."""
        try:
            return self.kernel.pids.guest_pid(os.getsid(self.host_tgid), self.host_tgid)
        except OSError:
            return 0


class Task:
    """A thread. `call` is the system call it waits in, if any."""

    __slots__ = (
        "announces", "call", "comm_override", "creds", "exit_queue", "fds", "fs", "group", "host_tid", "kernel",
        "loading", "mem", "mm", "name", "parent_death_signal", "sigmask_wait", "spawn", "strict", "timer_slack_ns",
        "tracee", "usual_slack_ns", "wait_seen",
    )  # fmt: skip

    def __init__(self, kernel: "Kernel", host_tid: int, group: ThreadGroup, fs: "FsContext", fds: "FdTable") -> None:
        self.kernel = kernel
        self.host_tid = host_tid
        self.group = group
        self.fs = fs
        self.fds = fds
        self.mem = Memory(host_tid)
        self.creds = Credentials()
        self.call: Call | StoppedCall | None = None
        self.loading: Program | None = None  # from the host's exec to the loader stub's question
        self.spawn: Any = None  # a first task's program, until it is executed
        self.sigmask_wait: int | None = None  # ppoll & co: the mask while the call waits
        self.exit_queue: WaitQueue | None = None  # as the process's; made by a pidfd of this thread
        self.parent_death_signal = 0
        self.timer_slack_ns = self.usual_slack_ns = TIMER_SLACK_NS
        self.announces = False  # ptrace reports every clone of its making
        self.tracee: Tracee | None = None  # to the guest that traces it
        self.wait_seen = -1  # its process's child events when it last asked the host kernel (syscalls/wait.py)
        self.strict = False  # SECCOMP_MODE_STRICT
        self.name: bytes = b""
        self.comm_override: tuple[bytes, bytes | None] | None = None  # the name from /proc, the host's at that time
        if not group.tasks:
            group.leader = self
        group.tasks.append(self)

    @property
    def tid(self) -> int:
        """The guest's thread id."""
        return self.kernel.pids.guest_pid(self.host_tid)

    @property
    def mounts(self) -> "MountNamespace":
        return self.group.mounts

    @property
    def container(self) -> Any:
        return self.group.container

    @property
    def comm(self) -> bytes:
        """The thread's name, kept by the host kernel (prctl PR_SET_NAME runs natively), which lets nobody but the
        process itself set it. A name written to /proc counts until the host's changes."""
        name = self.kernel.pids.comm(self.host_tid)
        if self.comm_override is not None:
            override, then = self.comm_override
            if then == name:
                return override
            self.comm_override = None
        return self.name if name is None else name

    @comm.setter
    def comm(self, name: bytes) -> None:
        self.comm_override = (name[:15], self.kernel.pids.comm(self.host_tid))

    def set_creds(self, creds: Credentials) -> None:
        """Replace the credentials; the C core answers getuid(2) and its like from its copy."""
        old = self.creds
        if creds is not old:
            self.kernel.threads.part(self)
            if gains(old, creds):
                self.group.dumpable = 0  # fs.suid_dumpable
        self.creds = creds
        if creds.uid != old.uid or creds.cap_effective != old.cap_effective:
            apply_limit(self)
        lib.nc_task_set_ids(self.host_tid, creds.uid, creds.euid, creds.gid, creds.egid)
        lib.nc_task_set_view(self.host_tid, self.fs.nc, rights_of(creds))
        if creds.uid:
            lib.nc_set_many_users()

    def set_fs(self, fs: "FsContext") -> None:
        """Use other places (unshare)."""
        self.fs = fs
        lib.nc_task_set_view(self.host_tid, fs.nc, rights_of(self.creds))

    def set_fds(self, fds: "FdTable") -> None:
        """Use another descriptor table (unshare, exec of a sharer)."""
        self.fds = fds
        lib.nc_task_set_fdt(self.host_tid, fds.nc)

    def inherit(self, parent: "Task") -> None:
        """What every child has of its maker, a thread as well as a process."""
        self.name, self.comm_override, self.creds = parent.name, parent.comm_override, parent.creds
        self.timer_slack_ns = self.usual_slack_ns = parent.timer_slack_ns

    async def with_sigmask(self, mask: int | None, coro: "Coroutine[Any, Any, int]") -> int:
        """Run a waiting call with another signal mask in force (ppoll, pselect6, epoll_pwait)."""
        if mask is None:
            return await coro
        self.sigmask_wait = mask
        try:
            return await coro
        finally:
            self.sigmask_wait = None

    def affinity(self) -> set[int]:
        """The CPUs it may run on. A quota of so many CPUs shows as so many; the host may still choose which."""
        own = self.kernel.cpus
        try:
            mask = os.sched_getaffinity(self.host_tid)
        except OSError:  # it has just died
            return {own[0]}
        return mask.intersection(own) or mask

    def __repr__(self) -> str:
        return f"<Task {self.host_tid}>"


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
        _, _, rest = self.read(host_tid, "status", 512).partition(b"\nTgid:\t")
        return int(rest.partition(b"\n")[0] or b"0")

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
        fields = self.status(host_pid)
        guest = _innermost(fields.get(b"NSpid", b""))
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
        return _mask(text, b"\nSigPnd:\t") | _mask(text, b"\nShdPnd:\t")

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
        mask = self.status(host_tid).get(b"SigCgt")
        return True if mask is None else bool(int(mask, 16) >> (signo - 1) & 1)


def _innermost(numbers: bytes) -> int:
    """The last number of an NS* line, which is the guest's; 0 for one that has no inner namespace."""
    fields = numbers.split()
    return int(fields[-1]) if len(fields) > 1 else 0


def guest_filters(status: dict[bytes, bytes]) -> int:
    """The seccomp filters of a host thread without ours."""
    return max(int(status.get(b"Seccomp_filters", b"1")) - 1, 0)


def _mask(status: bytes, key: bytes) -> int:
    at = status.find(key)
    return 0 if at < 0 else int(status[at + len(key) : at + len(key) + 16], 16)


def check_pid(pid: int) -> None:
    """A pid argument that can name no process: ESRCH."""
    if pid < 0:
        raise ESRCH
