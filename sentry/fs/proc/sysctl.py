"""/proc/sys: kernel parameters. What a container may set takes effect or is at least remembered (sysctl(8)).

apply(kernel, {"net.core.somaxconn": "1024"})     # linux.sysctl of config.json; EINVAL, ENOENT
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from sentry.abi.linux import CAP_LAST_CAP
from sentry.errors import EINVAL, ENODEV, ENOENT, EPERM, ERANGE
from sentry.fs import aio
from sentry.fs.proc import sysctl_net
from sentry.fs.proc.facts import facts_of, random_uuid
from sentry.fs.proc.system import RELEASE, SYSNAME, VERSION
from sentry.fs.pseudo import PseudoDirectory, PseudoFile, PseudoFilesystem, Tree, number
from sentry.vfs.mount import MOUNT_MAX
from sentry.vfs.perm import Protected

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.vfs.inode import Inode

INT_MAX = (1 << 31) - 1
LONG_MAX, ULONG_MAX = (1 << 63) - 1, (1 << 64) - 1
IPC_MOST = 32768  # objects of a kind


class Knob(NamedTuple):
    """`text(kernel)` reads; `accept(data)` checks a write and gives the value to keep (None: read-only)."""

    text: Callable[[Kernel], bytes]
    accept: Callable[[bytes], bytes] | None = None


#: Values that were set, by name ("kernel/hostname" is kept in the kernel itself).
_set: dict[bytes, bytes] = {}


def _fixed(text: bytes) -> Knob:
    return Knob(lambda kernel: text)


def _integer(default: int, low: int = 0, high: int = INT_MAX) -> Knob:
    text = b"%d" % default
    return Knob(lambda kernel: text, lambda data: b"%d" % number(data, low, high))


def _several(data: bytes, count: int, high: int) -> bytes:
    words = data.split()
    if len(words) != count:
        raise EINVAL
    return b"\t".join(b"%d" % number(word, 0, high) for word in words)


def _numbers(default: bytes, high: int = LONG_MAX) -> Knob:
    count = len(default.split())
    return Knob(lambda kernel: default, lambda data: _several(data, count, high))


def _semaphores(data: bytes) -> bytes:
    """kernel.sem, whose last number is that of sets."""
    value = _several(data, 4, INT_MAX)
    if int(value.split()[-1]) > IPC_MOST:
        raise ERANGE
    return value


def _words(default: bytes) -> Knob:
    return Knob(lambda kernel: default, lambda data: data.strip())


def _name(data: bytes) -> bytes:
    return data.split(b"\n")[0].split(b"\0")[0][:64]


KNOBS: dict[bytes, Knob] = {
    b"dev/tty/ldisc_autoload": _integer(1, 0, 1),
    b"dev/tty/legacy_tiocsti": _integer(1, 0, 1),
    b"kernel/hostname": Knob(lambda kernel: kernel.hostname, _name),
    b"kernel/domainname": Knob(lambda kernel: kernel.domainname, _name),
    b"kernel/ostype": _fixed(SYSNAME),
    b"kernel/osrelease": _fixed(RELEASE),
    b"kernel/version": _fixed(VERSION),
    b"kernel/arch": _fixed(b"x86_64"),
    b"kernel/pid_max": _fixed(b"32768"),
    b"kernel/threads-max": _fixed(b"65536"),
    b"kernel/cap_last_cap": _fixed(b"%d" % CAP_LAST_CAP),
    b"kernel/ngroups_max": _fixed(b"65536"),
    b"kernel/overflowuid": _fixed(b"65534"),
    b"kernel/overflowgid": _fixed(b"65534"),
    b"kernel/core_pattern": _fixed(b"core"),
    b"kernel/core_uses_pid": _fixed(b"0"),
    b"kernel/dmesg_restrict": _fixed(b"1"),
    b"kernel/kptr_restrict": _fixed(b"1"),
    b"kernel/perf_event_paranoid": _fixed(b"3"),
    b"kernel/printk": _fixed(b"4\t4\t1\t7"),
    b"kernel/randomize_va_space": _fixed(b"2"),
    b"kernel/sched_child_runs_first": _fixed(b"0"),
    b"kernel/sched_rr_timeslice_ms": _fixed(b"100"),
    b"kernel/sched_rt_period_us": _fixed(b"1000000"),
    b"kernel/sched_rt_runtime_us": _fixed(b"950000"),
    b"kernel/sysctl_writes_strict": _fixed(b"1"),
    b"kernel/sysrq": _fixed(b"0"),
    b"kernel/tainted": _fixed(b"0"),
    b"kernel/panic": _fixed(b"0"),
    b"kernel/unprivileged_bpf_disabled": _fixed(b"2"),
    b"kernel/yama/ptrace_scope": _fixed(b"0"),
    b"kernel/keys/maxkeys": _fixed(b"200"),
    b"kernel/seccomp/actions_avail": _fixed(
        b"kill_process kill_thread trap errno trace log allow"
    ),
    b"kernel/shmmax": _integer(ULONG_MAX - (1 << 24), 0, ULONG_MAX),
    b"kernel/shmall": _integer(ULONG_MAX - (1 << 24), 0, ULONG_MAX),
    b"kernel/shmmni": _integer(4096, 0, IPC_MOST),
    b"kernel/shm_rmid_forced": _integer(0, 0, 1),
    b"kernel/shm_next_id": _fixed(b"-1"),
    b"kernel/msgmax": _integer(8192),
    b"kernel/msgmnb": _integer(16384),
    b"kernel/msgmni": _integer(32000, 0, IPC_MOST),
    b"kernel/msg_next_id": _fixed(b"-1"),
    b"kernel/auto_msgmni": _integer(0, 0, 1),
    b"kernel/sem": Knob(lambda kernel: b"32000\t1024000000\t500\t32000", _semaphores),
    b"kernel/sem_next_id": _fixed(b"-1"),
    b"kernel/random/boot_id": Knob(lambda kernel: facts_of(kernel).boot_id),
    b"kernel/random/uuid": Knob(lambda kernel: random_uuid()),
    b"kernel/random/entropy_avail": _fixed(b"256"),
    b"kernel/random/poolsize": _fixed(b"256"),
    b"kernel/random/write_wakeup_threshold": _fixed(b"256"),
    b"vm/overcommit_memory": _fixed(b"1"),
    b"vm/overcommit_ratio": _fixed(b"50"),
    b"vm/max_map_count": _fixed(b"65530"),
    b"vm/mmap_min_addr": _fixed(b"65536"),
    b"vm/overcommit_kbytes": _fixed(b"0"),
    b"vm/legacy_va_layout": _fixed(b"0"),
    b"vm/memfd_noexec": _fixed(b"0"),
    b"vm/nr_overcommit_hugepages": _fixed(b"0"),
    b"vm/oom_kill_allocating_task": _fixed(b"0"),
    b"vm/page-cluster": _fixed(b"3"),
    b"vm/panic_on_oom": _fixed(b"0"),
    b"vm/swappiness": _fixed(b"60"),
    b"vm/nr_hugepages": _fixed(b"0"),
    b"vm/min_free_kbytes": _fixed(b"67584"),
    b"vm/dirty_ratio": _fixed(b"20"),
    b"vm/dirty_background_ratio": _fixed(b"10"),
    b"vm/dirty_background_bytes": _fixed(b"0"),
    b"vm/dirty_bytes": _fixed(b"0"),
    b"vm/dirty_expire_centisecs": _fixed(b"3000"),
    b"vm/dirty_writeback_centisecs": _fixed(b"500"),
    b"vm/vfs_cache_pressure": _fixed(b"100"),
    b"fs/file-max": _fixed(b"9223372036854775807"),
    b"fs/file-nr": Knob(lambda kernel: b"1024\t0\t9223372036854775807"),
    b"fs/nr_open": _fixed(b"1048576"),
    b"fs/inode-nr": _fixed(b"1024\t0"),
    b"fs/inode-state": _fixed(b"1024\t0\t0\t0\t0\t0\t0"),
    b"fs/aio-max-nr": _fixed(b"%d" % aio.MAX_EVENTS),
    b"fs/aio-nr": Knob(lambda kernel: b"%d" % aio.used(kernel)),
    b"fs/lease-break-time": _fixed(b"45"),
    b"fs/leases-enable": _fixed(b"1"),
    b"fs/mount-max": _fixed(b"%d" % MOUNT_MAX),
    b"fs/pipe-max-size": _fixed(b"1048576"),
    b"fs/pipe-user-pages-soft": _fixed(b"16384"),
    b"fs/pipe-user-pages-hard": _fixed(b"0"),
    b"fs/protected_fifos": Knob(lambda kernel: b"%d" % Protected.fifos),
    b"fs/protected_hardlinks": Knob(lambda kernel: b"%d" % Protected.hardlinks),
    b"fs/protected_regular": Knob(lambda kernel: b"%d" % Protected.regular),
    b"fs/protected_symlinks": Knob(lambda kernel: b"%d" % Protected.symlinks),
    b"fs/suid_dumpable": _fixed(b"0"),
    b"fs/overflowuid": _fixed(b"65534"),
    b"fs/overflowgid": _fixed(b"65534"),
    b"fs/epoll/max_user_watches": _fixed(b"1000000"),
    b"fs/inotify/max_queued_events": _fixed(b"16384"),
    b"fs/inotify/max_user_instances": _fixed(b"128"),
    b"fs/inotify/max_user_watches": _fixed(b"65536"),
    b"fs/mqueue/msg_default": _integer(10, 1, 65536),
    b"fs/mqueue/msg_max": _integer(10, 1, 65536),
    b"fs/mqueue/msgsize_default": _integer(8192, 128, 16777216),
    b"fs/mqueue/msgsize_max": _integer(8192, 128, 16777216),
    b"fs/mqueue/queues_max": _integer(256),
    **{b"net/" + name: _integer(*values) for name, values in sysctl_net.NUMBERS.items()},
    **{b"net/" + name: _numbers(*values) for name, values in sysctl_net.LISTS.items()},
    **{b"net/" + name: _words(text) for name, text in sysctl_net.WORDS.items()},
    **{b"net/" + name: _fixed(text) for name, text in sysctl_net.FIXED.items()},
} | {
    # No namespace can be made.
    b"user/max_%s_namespaces" % kind: _fixed(b"0")
    for kind in (b"cgroup", b"ipc", b"mnt", b"net", b"pid", b"time", b"user", b"uts")
}


def read(kernel: Kernel, name: bytes) -> bytes:
    """The value of a knob ("net/core/somaxconn") without a newline."""
    value = _set.get(name)
    return KNOBS[name].text(kernel) if value is None else value


def write(kernel: Kernel, name: bytes, data: bytes) -> None:
    """Set a knob; EPERM for one that is read-only, EINVAL for a bad value."""
    accept = KNOBS[name].accept
    if accept is None:
        raise EPERM("a read-only parameter")
    value = accept(data)
    if name == b"kernel/hostname":
        kernel.hostname = value
    elif name == b"kernel/domainname":
        kernel.domainname = value
    else:
        _set[name] = value


def apply(kernel: Kernel, values: dict[str, str]) -> None:
    """linux.sysctl of config.json; ENOENT for a name there is not."""
    for dotted, value in values.items():
        name = dotted.replace(".", "/").encode()
        if name not in KNOBS:
            raise ENOENT(f"sysctl {dotted}")
        write(kernel, name, value.encode())


def tree(kernel: Kernel) -> Callable[[PseudoFilesystem], PseudoDirectory]:
    """/proc/sys."""
    root: Tree = {}
    for name, knob in KNOBS.items():
        *above, last = name.split(b"/")
        directory = root
        for part in above:
            directory = directory.setdefault(part, {})
        directory[last] = _file(name, knob)
    return _directory(root)


def _permitted(inode: Inode, task: Task, mask: int) -> bool:
    """By the mode bits alone, which no capability overrides (proc_sys_permission)."""
    mode = inode.mode
    if task.creds.euid == 0:
        mode >>= 6
    elif task.creds.egid == 0 or 0 in task.creds.groups:
        mode >>= 3
    return not mask & ~mode & 7


class SysctlFile(PseudoFile):
    """A parameter: root's, and of a fixed mode."""

    __slots__ = ()
    fixed_mode = fixed_owner = own_permission = True
    no_mapping = ENODEV

    def permission(self, task: Task, mask: int) -> bool | None:
        return _permitted(self, task, mask)


class SysctlDirectory(PseudoDirectory):
    __slots__ = ()
    fixed_mode = fixed_owner = own_permission = True

    def permission(self, task: Task, mask: int) -> bool | None:
        return _permitted(self, task, mask)


def _directory(tree: Tree) -> Callable[[PseudoFilesystem], PseudoDirectory]:
    inside = {name: _directory(spec) if isinstance(spec, dict) else spec for name, spec in tree.items()}
    return lambda fs: SysctlDirectory(fs, inside)


def _file(name: bytes, knob: Knob) -> Callable[[PseudoFilesystem], PseudoFile]:
    def make(task: Task) -> bytes:
        return read(task.kernel, name) + b"\n"

    def store(task: Task, data: bytes) -> None:
        write(task.kernel, name, data)

    if knob.accept is None:
        return lambda fs: SysctlFile(fs, make, None, 0o444)
    return lambda fs: SysctlFile(fs, make, store, 0o644)


def reset() -> None:
    """Forget what was set (tests)."""
    _set.clear()
