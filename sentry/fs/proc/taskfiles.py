"""The files of a process's directory (/proc/PID) and of a thread's (/proc/PID/task/TID): what they say and take."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from sentry.abi.linux import CAP_SYS_ADMIN, CAP_SYS_NICE, CAP_SYS_RESOURCE
from sentry.errors import EACCES, EINVAL, EPERM, ERANGE, ESRCH, from_host
from sentry.fs.proc import maps, mounts, status
from sentry.fs.proc.access import ProcessFile, check_look, may_look, owner
from sentry.fs.proc.mem import open_memory
from sentry.fs.pseudo import number

if TYPE_CHECKING:
    from sentry.fs.proc.fs import Procfs
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.mount import Path

#: (reader, target) -> content
Make = Callable[["Task", "Task"], bytes]
#: (writer, target, data)
Store = Callable[["Task", "Task", bytes], None]


ANYBODY, MEMORY, MAYBE_MEMORY, PLACES = range(4)


class Entry(NamedTuple):
    """A file of the directory. `about`: what opening it asks for. MEMORY: the right to look into the process, which
    must have memory (a zombie has none: ESRCH); MAYBE_MEMORY: the same, but a zombie reads as empty; PLACES: EINVAL for
    a zombie."""

    make: Make | None
    mode: int = 0o444
    store: Store | None = None
    about: int = ANYBODY
    sequential: bool = False  # written through a seq_file


def _comm(reader: Task, target: Task) -> bytes:
    return target.comm + b"\n"


def _set_comm(writer: Task, target: Task, data: bytes) -> None:
    """Threads of the process may name each other."""
    if writer.group is not target.group:
        raise EINVAL
    target.comm = data.partition(b"\0")[0][:15]


def _oom_score_adj(reader: Task, target: Task) -> bytes:
    return b"%d\n" % target.group.oom_score_adj


def _set_oom_score_adj(writer: Task, target: Task, data: bytes) -> None:
    value = number(data, -1000, 1000)
    if value < target.group.oom_score_adj and not writer.creds.has_cap(CAP_SYS_RESOURCE):
        raise EACCES
    target.group.oom_score_adj = value


def _oom_adj(reader: Task, target: Task) -> bytes:
    value = target.group.oom_score_adj
    return b"%d\n" % (15 if value == 1000 else value * 17 // 1000)


def _set_oom_adj(writer: Task, target: Task, data: bytes) -> None:
    value = number(data, -17, 15)
    scaled = 1000 if value == 15 else value * 1000 // 17
    _set_oom_score_adj(writer, target, b"%d" % scaled)


def _oom_score(reader: Task, target: Task) -> bytes:
    return b"%d\n" % max(0, 666 + target.group.oom_score_adj * 2 // 3)


def _children(reader: Task, target: Task) -> bytes:
    """Of all threads of the process; the others' files are empty."""
    group = target.group
    if target is not group.leader:
        return b""
    found = {*group.children, *target.kernel.dead_children(group)}
    alive = [child for child in found if target.kernel.exists(child.leader)]
    return b"".join(b"%d " % child.tgid for child in sorted(alive, key=lambda child: child.start_ns))


def _id_map(reader: Task, target: Task) -> bytes:
    return b"%10d %10d %10d\n" % (0, 0, 4294967295)


def _cgroup(reader: Task, target: Task) -> bytes:
    return b"0::/\n"


def _check_attach(reader: Task, target: Task) -> None:
    """lock_trace."""
    if not may_look(reader, target):
        raise EPERM


def _personality(reader: Task, target: Task) -> bytes:
    _check_attach(reader, target)
    return target.kernel.pids.read(target.host_tid, "personality") or b"00000000\n"


def _stack(reader: Task, target: Task) -> bytes:
    """The kernel's, which is not for guests."""
    if not reader.creds.has_cap(CAP_SYS_ADMIN):
        raise EACCES
    return b""


def _syscall(reader: Task, target: Task) -> bytes:
    _check_attach(reader, target)
    call = target.call
    if call is None:
        return b"running\n"
    return b"%d %s 0x0 0x0\n" % (call.nr, b" ".join(b"0x%x" % arg for arg in call.args))


def _wchan(reader: Task, target: Task) -> bytes:
    return b"0"


def _mounts(reader: Task, target: Task) -> bytes:
    return mounts.mounts(target)


def _mountinfo(reader: Task, target: Task) -> bytes:
    return mounts.mountinfo(target)


def _mountstats(reader: Task, target: Task) -> bytes:
    return mounts.mountstats(target)


def _refuse_map(writer: Task, target: Task, data: bytes) -> None:
    raise EPERM("the map is set")


def _refuse_setgroups(writer: Task, target: Task, data: bytes) -> None:
    raise EPERM("the map of groups is set") if writer.creds.has_cap(CAP_SYS_ADMIN) else EACCES


def _coredump_filter(reader: Task, target: Task) -> bytes:
    return b"" if target.group.exited else b"%08x\n" % target.group.coredump_filter


def _set_coredump_filter(writer: Task, target: Task, data: bytes) -> None:
    """Kept, though nobody dumps core."""
    try:
        value = int(data.strip(), 0)
    except ValueError:
        raise EINVAL from None
    if not 0 <= value < 1 << 32:
        raise ERANGE
    target.group.coredump_filter = value & 0x1FF


def _timer_slack(reader: Task, target: Task) -> bytes:
    if reader is not target and not reader.creds.has_cap(CAP_SYS_NICE):
        raise EPERM
    return b"%d\n" % target.timer_slack_ns


def _set_timer_slack(writer: Task, target: Task, data: bytes) -> None:
    """Kept: only a thread itself can have the host hear of it (prctl(2))."""
    if writer is not target and not writer.creds.has_cap(CAP_SYS_NICE):
        raise EPERM
    target.timer_slack_ns = number(data, 0, (1 << 64) - 1) or target.usual_slack_ns


def _clear_refs(writer: Task, target: Task, data: bytes) -> None:
    """The host counts references to pages."""
    value = number(data, 1, 5)
    path = f"{target.group.leader.host_tid}/clear_refs"
    try:
        host_fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC, dir_fd=target.kernel.host_proc)
    except OSError:
        return
    try:
        os.write(host_fd, b"%d" % value)
    except OSError as error:
        raise from_host(error)
    finally:
        os.close(host_fd)


def _timers(reader: Task, target: Task) -> bytes:
    """The timers of timer_create(2), which are the host's, but for the number of who is signalled."""
    lines = target.kernel.pids.read(target.host_tid, "timers").split(b"\n")
    for index, line in enumerate(lines):
        head, separator, host_pid = line.rpartition(b".")
        if line.startswith(b"notify:") and separator and host_pid.isdigit():
            lines[index] = b"%s.%d" % (head, target.kernel.pids.guest_pid(int(host_pid)))
    return b"\n".join(lines)


#: What process and thread directories have in common.
COMMON: dict[bytes, Entry] = {
    b"auxv": Entry(maps.auxv, 0o400, about=MEMORY),
    b"cgroup": Entry(_cgroup),
    b"cmdline": Entry(maps.cmdline),
    b"clear_refs": Entry(None, 0o200, _clear_refs),
    b"comm": Entry(_comm, 0o644, _set_comm, sequential=True),
    b"cpuset": Entry(lambda reader, target: b"/\n"),
    b"environ": Entry(maps.environ, 0o400, about=MEMORY),
    b"gid_map": Entry(_id_map, 0o644, _refuse_map, sequential=True),
    b"io": Entry(status.io, 0o400),
    b"limits": Entry(status.limits),
    b"loginuid": Entry(lambda reader, target: b"4294967295", 0o644, _refuse_map),
    b"maps": Entry(maps.maps, about=MAYBE_MEMORY),
    b"mem": Entry(None, 0o600, about=MEMORY),
    b"mountinfo": Entry(_mountinfo, about=PLACES),
    b"mounts": Entry(_mounts, about=PLACES),
    b"numa_maps": Entry(maps.numa_maps, about=MAYBE_MEMORY),
    b"oom_adj": Entry(_oom_adj, 0o644, _set_oom_adj),
    b"oom_score": Entry(_oom_score),
    b"oom_score_adj": Entry(_oom_score_adj, 0o644, _set_oom_score_adj),
    b"pagemap": Entry(None, 0o400, about=MEMORY),
    b"personality": Entry(_personality, 0o400),
    b"projid_map": Entry(_id_map, 0o644, _refuse_map, sequential=True),
    b"sched": Entry(status.sched, 0o644, lambda writer, target, data: None, sequential=True),
    b"schedstat": Entry(status.schedstat),
    b"sessionid": Entry(lambda reader, target: b"4294967295"),
    b"setgroups": Entry(lambda reader, target: b"allow\n", 0o644, _refuse_setgroups, sequential=True),
    b"smaps": Entry(maps.smaps, about=MAYBE_MEMORY),
    b"smaps_rollup": Entry(maps.smaps_rollup, about=MEMORY),
    b"stack": Entry(_stack, 0o400),
    b"stat": Entry(None),
    b"statm": Entry(status.statm),
    b"status": Entry(status.status),
    b"syscall": Entry(_syscall, 0o400),
    b"uid_map": Entry(_id_map, 0o644, _refuse_map, sequential=True),
    b"wchan": Entry(_wchan),
}
PROCESS: dict[bytes, Entry] = {
    **COMMON,
    b"coredump_filter": Entry(_coredump_filter, 0o644, _set_coredump_filter),
    b"mountstats": Entry(_mountstats, 0o400, about=PLACES),
    b"timerslack_ns": Entry(_timer_slack, 0o666, _set_timer_slack, sequential=True),
    b"timers": Entry(_timers),
}
THREAD: dict[bytes, Entry] = {**COMMON, b"children": Entry(_children)}
_HOST_FILES = (b"mem", b"pagemap")


class TaskFile(ProcessFile):
    """A file of a process's or (`whole` is False) of a thread's directory."""

    __slots__ = ("entry", "name", "target", "whole")
    fs: Any

    def __init__(self, fs: Procfs, target: Task, name: bytes, entry: Entry, whole: bool, ino: int) -> None:
        super().__init__(fs, self._read, self._write, entry.mode, ino, entry.sequential)
        self.uid, self.gid = owner(target)
        self.target = target
        self.name = name
        self.entry = entry
        self.whole = whole

    def open_now(self, task: Task, path: Path, flags: int) -> File:
        about, target = self.entry.about, self.target
        if about in (MEMORY, MAYBE_MEMORY):
            if target.group.exited:
                if about == MEMORY:
                    raise ESRCH
            else:
                check_look(task, target)
        elif about == PLACES and target.group.exited:
            raise EINVAL
        if self.name in _HOST_FILES:
            return open_memory(self, path, flags, target, self.name.decode())
        return super().open_now(task, path, flags)

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return self.open_now(task, path, flags)

    def _read(self, reader: Task) -> bytes:
        target, make = self.target, self.entry.make
        if not target.kernel.exists(target):
            raise ESRCH
        if self.name == b"stat":
            return status.stat(reader, target, self.whole)
        if make is None:
            raise EINVAL
        if self.entry.about == MAYBE_MEMORY and target.group.exited:
            return b""
        return make(reader, target)

    def _write(self, writer: Task, data: bytes) -> None:
        if self.entry.store is None:
            raise EINVAL
        self.entry.store(writer, self.target, data)
