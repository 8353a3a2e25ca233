"""The system as a whole: uname(2), sysinfo(2), sethostname(2), syslog(2), getrandom(2), getrlimit(2), and
what a container without privileges is refused.
"""

from __future__ import annotations

import os
from functools import lru_cache
from time import CLOCK_BOOTTIME, clock_gettime
from typing import TYPE_CHECKING, Annotated

from native import lib
from sentry.abi import linux
from sentry.abi.linux import (
    CAP_SYS_ADMIN,
    CAP_SYS_RESOURCE,
    CAP_SYSLOG,
    GRND_INSECURE,
    GRND_NONBLOCK,
    GRND_RANDOM,
    RLIM_INFINITY,
    RLIM_NLIMITS,
    RLIMIT_AS,
    RLIMIT_CPU,
    RLIMIT_DATA,
    RLIMIT_FSIZE,
    RLIMIT_MEMLOCK,
    RLIMIT_NOFILE,
    RLIMIT_NPROC,
    RLIMIT_RTTIME,
    RLIMIT_SIGPENDING,
    RLIMIT_STACK,
)
from sentry.abi.x86_64 import RLIMIT, SYSINFO, pack_utsname
from sentry.errors import EFAULT, EINVAL, ENOSYS, EPERM, ESRCH
from sentry.fs.proc import system as facts
from sentry.kernel.nproc import apply_limit
from sentry.syscalls.declare import arg_in, native, refuse, syscall
from sentry.syscalls.kinds import Addr, InBuffer, Int, OutBuffer, Pid, Size, ULong, choice, flags

if TYPE_CHECKING:
    from sentry.kernel.task import Task, ThreadGroup

NAME_MAX = 64
NR_OPEN = 1 << 20
GETRANDOM_MAX = 0x1FFFFFF
CHUNK = 1 << 16

RandomFlags = Annotated[
    int, flags(GRND_NONBLOCK=GRND_NONBLOCK, GRND_RANDOM=GRND_RANDOM, GRND_INSECURE=GRND_INSECURE)
]
Resource = Annotated[
    int,
    choice(
        strict=False,
        **{name: getattr(linux, name) for name in dir(linux) if name.startswith("RLIMIT_")},
    ),
]

# --- names


@syscall
def sys_uname(task: Task, buf: Addr) -> None:
    kernel = task.kernel
    task.mem.write(buf, _utsname(kernel.hostname, kernel.domainname))


@lru_cache(maxsize=4)
def _utsname(hostname: bytes, domainname: bytes) -> bytes:
    """struct new_utsname; the names hardly ever change."""
    return pack_utsname(facts.SYSNAME, hostname, facts.RELEASE, facts.VERSION, facts.MACHINE, domainname)


@syscall
def sys_sethostname(task: Task, name: InBuffer, length: Int) -> None:
    task.kernel.hostname = _new_name(task, name, length)


@syscall
def sys_setdomainname(task: Task, name: InBuffer, length: Int) -> None:
    task.kernel.domainname = _new_name(task, name, length)


def _new_name(task: Task, addr: int, length: int) -> bytes:
    if not task.creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    if not 0 <= length <= NAME_MAX:
        raise EINVAL
    return task.mem.read(addr, length).split(b"\0")[0]


# --- figures


@syscall
def sys_sysinfo(task: Task, info: Addr) -> None:
    kernel = task.kernel
    total, free = facts.mem_total_kb(kernel) << 10, facts.mem_free_kb(kernel) << 10
    uptime = int(clock_gettime(CLOCK_BOOTTIME))
    processes = min(len(kernel.tasks), 0xFFFF)
    task.mem.write(info, SYSINFO.pack(uptime, 0, 0, 0, total, free, 0, 0, 0, 0, processes, 0, 0, 1))


SYSLOG_ACTIONS = 11
SYSLOG_READ_ALL, SYSLOG_SIZE_BUFFER = 3, 10


@syscall(partial="the log is empty")
def sys_syslog(task: Task, action: Int, buf: Addr, length: Int) -> int:
    if not task.creds.has_cap(CAP_SYSLOG):
        raise EPERM  # as with kernel.dmesg_restrict=1
    if not 0 <= action < SYSLOG_ACTIONS:
        raise EINVAL
    if action in (2, SYSLOG_READ_ALL, 4) and (not buf or length < 0):
        raise EINVAL
    return 0


@syscall
def sys_getrandom(task: Task, buf: OutBuffer, size: Size, flags: RandomFlags) -> int:
    if flags & (GRND_RANDOM | GRND_INSECURE) == GRND_RANDOM | GRND_INSECURE:
        raise EINVAL
    size = min(size, GETRANDOM_MAX)
    done = 0
    while done < size:
        try:
            task.mem.write(buf + done, os.urandom(min(CHUNK, size - done)))
        except EFAULT:
            if done:
                break
            raise
        done += min(CHUNK, size - done)
    return done


# --- resource limits

LIMITS_HELD = "RLIMIT_NPROC is held in proportion: threads that other users make later count, too"
# Those that the host kernel enforces, on the guest's own memory, CPU time and signals.
_BY_HOST = frozenset(
    (RLIMIT_CPU, RLIMIT_DATA, RLIMIT_STACK, RLIMIT_MEMLOCK, RLIMIT_AS, RLIMIT_SIGPENDING, RLIMIT_RTTIME)
)


@syscall
def sys_getrlimit(task: Task, resource: Resource, rlim: Addr) -> None:
    task.mem.write(rlim, RLIMIT.pack(*_limits(task.group, resource)))


@syscall(partial=LIMITS_HELD)
def sys_setrlimit(task: Task, resource: Resource, rlim: Addr) -> None:
    set_limit(task, task.group, resource, *RLIMIT.unpack(task.mem.read(rlim, RLIMIT.size)))


@syscall(partial=LIMITS_HELD)
def sys_prlimit64(task: Task, pid: Pid, resource: Resource, new: Addr, old: Addr) -> None:
    wanted = RLIMIT.unpack(task.mem.read(new, RLIMIT.size)) if new else None
    target = task if not pid else task.kernel.find_task(pid)
    if target is None:
        raise ESRCH
    _check_other(task, target)
    before = _limits(target.group, resource)
    if wanted is not None:
        set_limit(task, target.group, resource, *wanted)
    if old:
        task.mem.write(old, RLIMIT.pack(*before))


def _limits(group: ThreadGroup, resource: int) -> tuple[int, int]:
    if not 0 <= resource < RLIM_NLIMITS:
        raise EINVAL
    return group.rlimits.get(resource)


def _check_other(task: Task, target: Task) -> None:
    """check_prlimit_permission."""
    if target is task:
        return
    mine, theirs = task.creds, target.creds
    same = mine.uid == theirs.euid == theirs.suid == theirs.uid
    same = same and mine.gid == theirs.egid == theirs.sgid == theirs.gid
    if not same and not mine.has_cap(CAP_SYS_RESOURCE):
        raise EPERM


def set_limit(task: Task, group: ThreadGroup, resource: int, soft: int, hard: int) -> None:
    """do_prlimit: the new limit, and whoever enforces it told."""
    _, old_hard = _limits(group, resource)
    if soft > hard:
        raise EINVAL
    if resource == RLIMIT_NOFILE and hard > NR_OPEN:
        raise EPERM
    if hard > old_hard and not task.creds.has_cap(CAP_SYS_RESOURCE):
        raise EPERM
    group.rlimits.set(resource, soft, hard)
    if resource in (RLIMIT_NOFILE, RLIMIT_FSIZE):
        nofile = group.rlimits.get(RLIMIT_NOFILE)[0]
        finite = group.rlimits.get(RLIMIT_FSIZE)[0] != RLIM_INFINITY
        for member in group.threads():
            member.fds.set_limits(nofile, finite)
    elif resource == RLIMIT_NPROC:
        apply_limit(group.leader)
    elif resource in _BY_HOST:
        # The host may refuse to raise what it lowered before: then its own, lower limit stays in force.
        lib.nc_prlimit(group.host_tgid, resource, soft, hard)


# --- execution domain

# What a container's usual filter lets pass: PER_LINUX, PER_LINUX32, UNAME26, ADDR_NO_RANDOMIZE, asking.
_PERSONALITIES = {kind | bits for kind in (0, 8, 0x20000, 0x20008) for bits in (0, 0x40000)} | {0xFFFFFFFF}

native(
    "personality",
    ULong,
    when=arg_in(0, _PERSONALITIES, "persona is PER_LINUX or PER_LINUX32, UNAME26 or ADDR_NO_RANDOMIZE"),
    otherwise=EPERM,
    why="how the host lays out the caller's own address space",
)

# --- refused

for _name in ("acct", "quotactl", "quotactl_fd", "reboot", "vhangup"):
    refuse(_name, EPERM, "acts on the whole system, which a container may not")
for _name in ("add_key", "keyctl", "request_key"):
    refuse(_name, EPERM, "keyrings are not offered, as container runtimes do")
for _name in ("migrate_pages", "move_pages"):
    refuse(_name, EPERM, "a container has no say in where the host's memory lies")
for _name in ("fanotify_init", "fanotify_mark"):
    refuse(_name, EPERM, "needs CAP_SYS_ADMIN in the host's user namespace")
for _name in ("get_thread_area", "modify_ldt", "set_thread_area"):
    refuse(_name, ENOSYS, "obsolete")
