"""What a sandbox could leave behind on the host: processes, mounts, cgroups, sockets, files.

The test process is a child subreaper, so every orphan of a test becomes its child and is found by parentage;
mounts, cgroups and sockets are compared before and after.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from pathlib import Path
from typing import NamedTuple

PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 3.0
CGROUPS = Path("/sys/fs/cgroup")


class Snapshot(NamedTuple):
    children: frozenset[int]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    sockets: frozenset[str]


def become_subreaper() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def snapshot() -> Snapshot:
    return Snapshot(frozenset(_children()), frozenset(_mounts()), frozenset(_cgroups()), frozenset(_sockets()))


def left_since(before: Snapshot, state: Path) -> list[str]:
    """What is there now and was not before, after a moment's grace; leftover processes are ended."""
    deadline = time.monotonic() + GRACE_S
    while (left := _left(before, state)) and time.monotonic() < deadline:
        time.sleep(0.02)
    _end(before.children)
    return left


def remove_cgroups(*names: str) -> None:
    """Empty groups in each hierarchy that are not ours to judge: those clients make, and the parents that runc leaves.
    (runsc-py removes a parent that it made.) Names are patterns, removed in this order, once they are empty."""
    deadline = time.monotonic() + GRACE_S
    while True:
        left = 0
        for name in names:
            for group in [*CGROUPS.glob(name), *CGROUPS.glob(f"*/{name}")]:
                try:
                    group.rmdir()
                except OSError:
                    left += 1
        if not left or time.monotonic() > deadline:
            return
        time.sleep(0.02)


def _end(keep: frozenset[int]) -> None:
    """Kill and reap what is left. A PID namespace's init is reaped only after all in it: so round and round."""
    deadline = time.monotonic() + GRACE_S
    while (pids := _children() - keep) and time.monotonic() < deadline:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        time.sleep(0.01)


def _left(before: Snapshot, state: Path) -> list[str]:
    _reap(before.children)
    left = [f"process {pid}: {_describe(pid)}" for pid in _children() if pid not in before.children]
    left += [f"mount {where}" for where in _mounts() - before.mounts if _ours(where, state)]
    left += [f"cgroup {path}" for path in _cgroups() - before.cgroups if _abandoned(path)]
    left += [f"socket {name}" for name in _sockets() - before.sockets if _ours(name, state)]
    if (state / "state").is_dir():
        left += [f"file {path}" for path in (state / "state").rglob("*")]
    return left


def _ours(name: str, state: Path) -> bool:
    return str(state) in name or "runsc" in name


def reap_orphans(keep: frozenset[int] = frozenset()) -> None:
    """What a shim does all the time: read the status of children that came to it. Not while a Popen runs."""
    _reap(keep)


def _reap(keep: frozenset[int]) -> None:
    """Orphans that ended and came to us are not a leak once their status is read."""
    for pid in _children():
        if pid not in keep and _describe(pid).startswith("Z"):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _threads(pid: int) -> list[Path]:
    """The children files of a process's threads; none when it has just gone."""
    try:
        return list(Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return []


def _children() -> set[int]:
    """All descendants of this process."""
    found: set[int] = set()
    pending = [os.getpid()]
    while pending:
        for task in _threads(pending.pop()):
            with contextlib.suppress(OSError):
                fresh = {int(pid) for pid in task.read_text().split()} - found
                found |= fresh
                pending += fresh
    return found


def _describe(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return "gone"
    name, _, rest = stat.partition("(")[2].rpartition(")")
    return f"{rest.split()[0]} {name} {command}"


def _mounts() -> set[str]:
    return {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def _cgroups() -> set[str]:
    return {folder for folder, _, _ in os.walk("/sys/fs/cgroup")}


def _abandoned(path: str) -> bool:
    """An empty new group is a leak; one with foreign processes in or below it is someone else's, and so are those that
    systemd makes for whoever logs in or whatever is started meanwhile."""
    if ("/user.slice/" in path or "/system.slice/" in path) and "runsc" not in path:
        return False
    pids: set[int] = set()
    for folder, _, _ in os.walk(path):
        try:
            pids |= {int(pid) for pid in Path(folder, "cgroup.procs").read_text().split()}
        except OSError:
            return False
    return not pids or bool(pids & _children())


def _sockets() -> set[str]:
    try:
        rows = Path("/proc/net/unix").read_text().splitlines()[1:]
    except OSError:
        return set()
    return {row.split(maxsplit=7)[7] for row in rows if len(row.split()) > 7}
