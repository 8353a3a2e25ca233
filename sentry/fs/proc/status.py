"""/proc/PID/stat, status, statm: the host kernel's text with what is the sandbox's put in its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import SECCOMP_MODE_FILTER
from sentry.abi.x86_64 import makedev
from sentry.fs.proc.access import may_look
from sentry.fs.proc.system import cpu_list, cpu_mask
from sentry.fs.tty.console import HostConsole
from sentry.fs.tty.pty import PtySlave
from sentry.kernel.task import guest_filters

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

# Fields of /proc/PID/stat, counted from 1 as proc_pid_stat(5) does. The loader stub's where the program's belong:
_PLACES = (26, 27, 45, 46)
# What says what the sentry does, or nothing to programs: shown as 0.
_HIDDEN = frozenset((29, 30, 35))
# Addresses: 0, those of code 1, to those who may not look into the process.
_ADDRESSES = frozenset((28, *range(45, 52)))
_STATES = {
    b"R": b"R (running)",
    b"S": b"S (sleeping)",
    b"T": b"T (stopped)",
    b"t": b"t (tracing stop)",
    b"Z": b"Z (zombie)",
}
# What the host says about these would be about us.
_OWN_LINES = frozenset((b"Ngid", b"CoreDumping"))

PF_FLAGS = 0x400000  # PF_RANDOMIZE


def state(reader: Task | None, target: Task, host: bytes) -> bytes:
    """The state letter: a task that waits in the sentry sleeps, one that the sentry holds is stopped, one that another
    guest traces in a tracing stop."""
    if target is reader:
        return b"R"
    if target.tracee is not None and target.tracee.stop is not None:
        return b"t"
    if host in (b"R", b"Z", b"T"):
        return host
    if host == b"t":
        call = target.call
        return b"S" if call is not None and not call.is_stopped else b"T"
    return b"S"


def _tty_nr(kernel: Kernel, target: Task) -> tuple[int, int]:
    """(device number, foreground process group) of the controlling terminal; (0, -1) without one."""
    tty = kernel.ttys.of(target.group)
    if tty is None:
        return 0, -1
    index = tty.index if isinstance(tty, PtySlave | HostConsole) else 0
    return makedev(136, index), tty.pgrp or -1


def stat(reader: Task, target: Task, whole_group: bool) -> bytes:
    """/proc/PID/stat (whole_group) or /proc/PID/task/TID/stat."""
    kernel = target.kernel
    name = "stat" if whole_group else f"task/{target.host_tid}/stat"
    host = kernel.pids.read(target.host_tid, name).rpartition(b")")[2].split()
    if len(host) < 50:
        host = [b"Z"] + [b"0"] * 49
    fields = [b"", b"", *host]
    group = target.group
    parent = group.parent
    tty, tpgid = _tty_nr(kernel, target)
    own = (
        b"%d" % target.tid, b"(%s)" % target.comm, state(reader, target, host[0]),
        b"%d" % (parent.tgid if parent is not None else 0), b"%d" % group.pgid(), b"%d" % group.sid(),
        b"%d" % tty, b"%d" % tpgid, b"%d" % PF_FLAGS,
    )  # fmt: skip
    fields[: len(own)] = own
    permitted = reader is None or may_look(reader, target)
    for number, place in zip(_PLACES, (0, 0, 0, 0) if group.exited else group.places, strict=True):
        fields[number - 1] = b"%d" % (place if permitted else 1)
    for number in _HIDDEN if permitted else _HIDDEN | _ADDRESSES:
        fields[number - 1] = b"0"
    return b" ".join(fields) + b"\n"


def statm(reader: Task, target: Task) -> bytes:
    """/proc/PID/statm."""
    return target.kernel.pids.read(target.host_tid, "statm") or b"0 0 0 0 0 0 0\n"


def status(reader: Task, target: Task) -> bytes:
    """/proc/PID/status."""
    kernel, group, creds = target.kernel, target.group, target.creds
    parent, tracee = group.parent, target.tracee
    tid = b"%d" % target.tid
    cpus = tuple(sorted(target.affinity()))
    host = kernel.pids.status(target.host_tid)
    filters = guest_filters(host)
    own: dict[bytes, bytes] = {
        b"Name": _escaped(target.comm),
        b"Umask": b"%04o" % target.fs.umask,
        b"State": _STATES[state(reader, target, host.get(b"State", b"Z")[:1])],
        b"Tgid": b"%d" % group.tgid,
        b"Pid": tid,
        b"PPid": b"%d" % (parent.tgid if parent is not None else 0),
        b"TracerPid": b"%d" % (tracee.tracer.tid if tracee is not None else 0),
        b"Uid": b"%d\t%d\t%d\t%d" % (creds.uid, creds.euid, creds.suid, creds.fsuid),
        b"Gid": b"%d\t%d\t%d\t%d" % (creds.gid, creds.egid, creds.sgid, creds.fsgid),
        b"FDSize": b"0" if group.exited else b"64",
        b"Groups": b" ".join(b"%d" % gid for gid in creds.groups) + b" ",
        b"NStgid": b"%d" % group.tgid,
        b"NSpid": tid,
        b"NSpgid": b"%d" % group.pgid(),
        b"NSsid": b"%d" % group.sid(),
        b"Threads": b"%d" % len(group.members()),
        b"CapInh": b"%016x" % creds.cap_inheritable,
        b"CapPrm": b"%016x" % creds.cap_permitted,
        b"CapEff": b"%016x" % creds.cap_effective,
        b"CapBnd": b"%016x" % creds.cap_bounding,
        b"CapAmb": b"%016x" % creds.cap_ambient,
        b"NoNewPrivs": b"%d" % creds.no_new_privs,
        b"Seccomp": b"%d" % (SECCOMP_MODE_FILTER if filters else 0),
        b"Seccomp_filters": b"%d" % filters,
        b"Cpus_allowed": cpu_mask(cpus).rstrip(),
        b"Cpus_allowed_list": cpu_list(cpus).rstrip(),
        b"Mems_allowed": b"1",
        b"Mems_allowed_list": b"0",
    }
    lines = []
    for key, value in (host or own).items():
        mine = own.get(key)
        if mine is not None:
            value = mine
        elif key in _OWN_LINES:
            value = b"0"
        elif key.startswith(b"NS"):
            continue
        elif value.endswith(b" kB"):
            value = value.rjust(11)
        lines.append(b"%s:\t%s\n" % (key, value))
    return b"".join(lines)


def _escaped(comm: bytes) -> bytes:
    return comm.replace(b"\\", b"\\\\").replace(b"\n", b"\\n")


def io(reader: Task, target: Task) -> bytes:
    """/proc/PID/io: what passes the sentry is not counted by process."""
    return (
        b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\ncancelled_write_bytes: 0\n"
    )


def schedstat(reader: Task, target: Task) -> bytes:
    return target.kernel.pids.read(target.host_tid, "schedstat") or b"0 0 0\n"


def sched(reader: Task, target: Task) -> bytes:
    return b"%s (%d, #threads: %d)\n%s\n" % (target.comm, target.tid, len(target.group.threads()), b"-" * 67)


_LIMITS = (
    (0, b"Max cpu time", b"seconds"),
    (1, b"Max file size", b"bytes"),
    (2, b"Max data size", b"bytes"),
    (3, b"Max stack size", b"bytes"),
    (4, b"Max core file size", b"bytes"),
    (5, b"Max resident set", b"bytes"),
    (6, b"Max processes", b"processes"),
    (7, b"Max open files", b"files"),
    (8, b"Max locked memory", b"bytes"),
    (9, b"Max address space", b"bytes"),
    (10, b"Max file locks", b"locks"),
    (11, b"Max pending signals", b"signals"),
    (12, b"Max msgqueue size", b"bytes"),
    (13, b"Max nice priority", b""),
    (14, b"Max realtime priority", b""),
    (15, b"Max realtime timeout", b"us"),
)


def limits(reader: Task, target: Task) -> bytes:
    """/proc/PID/limits."""
    lines = [b"%-25s %-20s %-20s %-10s\n" % (b"Limit", b"Soft Limit", b"Hard Limit", b"Units")]
    for resource, name, unit in _LIMITS:
        soft, hard = (_limit(value) for value in target.group.rlimits.get(resource))
        lines.append(b"%-25s %-20s %-20s %s\n" % (name, soft, hard, unit and unit.ljust(10)))
    return b"".join(lines)


def _limit(value: int) -> bytes:
    return b"unlimited" if value >= (1 << 64) - 1 or value < 0 else b"%d" % value
