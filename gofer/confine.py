"""Takes away what the gofer does not need, once its exports are open.

Afterwards it has: an empty root; namespaces of its own; no descriptors but its socket, exports and self_fd;
as root five capabilities; a seccomp filter without open(2), openat(2), execve(2), ptrace(2) or mount(2).
"""

import _signal as signal
import os
import resource
from collections.abc import Iterable

from gofer import hostcalls as host
from native import filters

CAP_CHOWN = 1 << 0  # files belong to the container's users
CAP_DAC_OVERRIDE = 1 << 1  # the sentry decides who may; the gofer serves every user of the container
CAP_FOWNER = 1 << 3  # chmod and utimes of files that another user owns
CAP_FSETID = 1 << 4  # keep setgid when the container's root sets it for another group
# Not CAP_DAC_READ_SEARCH: open_by_handle_at(2) comes with it, and DAC_OVERRIDE covers the rest.
# Not CAP_MKNOD, CAP_SETFCAP, CAP_SYS_ADMIN: a guest makes no devices, file capabilities or mounts.
KEPT = CAP_CHOWN | CAP_DAC_OVERRIDE | CAP_FOWNER | CAP_FSETID

COMM = b"runsc-py-gofer"


def rename_process() -> None:
    """Comm and command line: the caller's arguments are none of a container's business."""
    host.prctl(host.PR_SET_NAME, COMM)
    try:
        with open("/proc/self/stat", "rb", 0) as stat:
            fields = stat.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, fields 48 and 49
        if 0 < start < end:
            host.overwrite(start, COMM[: end - start - 1].ljust(end - start, b"\0"))
    except (OSError, ValueError, IndexError):
        pass


def leave_terminal() -> None:
    """No signal of the caller's terminal reaches us, and nothing of ours reaches its streams."""
    try:
        os.setsid()
    except PermissionError:
        pass
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGTSTP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)


def close_all_but(kept: Iterable[int]) -> None:
    low = 3
    for fd in sorted({fd for fd in kept if fd > 2}):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, 1 << 30)


def open_self_fd() -> int:
    """`/proc/self/fd` as a mount of its own: whatever its names lead to is a descriptor we have already."""
    path = b"/proc/%d/fd" % int(os.readlink("/proc/self"))
    try:
        return host.open_tree(host.AT_FDCWD, path, host.OPEN_TREE_CLONE)
    except OSError:
        # Without a mount of its own, `..` would lead on into the host's proc: the filter and the server's
        # habit of only naming decimal numbers there are then all that stands before that.
        return os.open(path, host.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def leave_namespaces() -> None:
    host.unshare(host.CLONE_NEWNS)
    for kind in (host.CLONE_NEWIPC, host.CLONE_NEWUTS, host.CLONE_NEWNET):
        try:
            host.unshare(kind)
        except OSError:  # a kernel without it
            pass
    host.mount(None, b"/", None, host.MS_REC | host.MS_PRIVATE)


def empty_root() -> None:
    """Pivot into a tmpfs with nothing in it."""
    where = b"/proc"  # any folder that surely exists
    flags = host.MS_NOSUID | host.MS_NODEV | host.MS_NOEXEC
    host.mount(b"none", where, b"tmpfs", flags, b"size=4k,nr_inodes=2,mode=555")
    os.chdir(where)
    try:
        host.pivot_root(b".", b".")
        host.umount2(b".", host.MNT_DETACH)
    except OSError:  # an initramfs can't be pivoted away from
        host.mount(b".", b"/", None, host.MS_MOVE)
        os.chroot(".")
    os.chdir("/")
    host.mount(None, b"/", None, host.MS_REMOUNT | host.MS_RDONLY | flags)


def limits() -> int:
    """As many descriptors as we may have; their number is returned."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    hard = 1 << 20 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def drop_privileges(held: int) -> None:
    """All but KEPT, of what capabilities() found while there was a /proc."""
    for capability in range(64):
        if not KEPT >> capability & 1:
            try:
                host.prctl(host.PR_CAPBSET_DROP, capability)
            except OSError:
                break  # past the last one, or no CAP_SETPCAP
    try:
        host.prctl(host.PR_CAP_AMBIENT, host.PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError:
        pass
    host.capset(held & KEPT)
    host.prctl(host.PR_SET_NO_NEW_PRIVS, 1)
    host.prctl(host.PR_SET_DUMPABLE, 0)


def capabilities() -> int:
    with open("/proc/self/status", "rb", 0) as status:
        for line in status.read().splitlines():
            if line.startswith(b"CapPrm:"):
                return int(line.split()[1], 16)
    return 0


# fmt: off
ALLOWED = (
    # the socket
    "recvfrom", "sendto", "sendmsg", "recvmsg",
    # beneath the exports
    "openat2", "statx", "newfstatat", "fstat", "readlinkat", "getdents64", "lseek", "fstatfs",
    "mkdirat", "symlinkat", "linkat", "unlinkat", "renameat", "renameat2",
    "fchmodat", "fchownat", "utimensat", "ftruncate", "fsync", "fdatasync",
    "getxattr", "setxattr", "listxattr", "removexattr", "close",
    # the interpreter
    "read", "write", "brk", "munmap", "mremap", "madvise", "futex", "rt_sigreturn", "rt_sigprocmask",
    "sigaltstack", "getpid", "gettid", "getrandom", "clock_gettime", "gettimeofday", "restart_syscall",
    "exit", "exit_group",
)
# No slip of ours asks for these: somebody else is at the wheel.
DEADLY = (
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "clone", "fork", "vfork",
    "mount", "umount2", "pivot_root", "chroot", "setns", "unshare", "open_tree", "move_mount", "fsopen",
    "fsmount", "mount_setattr", "open_by_handle_at", "bpf", "init_module", "finit_module", "kexec_load",
)
# fmt: on


def rules(connects: bool) -> filters.Rules:
    """What is not allowed gives EPERM. connects: an export's sockets may be connected to."""
    allow = filters.ALLOW
    not_executable = ((2, 4, 0),)  # PROT_EXEC
    found: list[filters.Rule] = [
        *filters.allow(*ALLOWED),
        (allow, "mmap", not_executable),
        (allow, "mprotect", not_executable),
        (allow, "fcntl", ((1, filters.EQUAL, 1030),)),  # F_DUPFD_CLOEXEC
    ]
    for kind in (0o100000, 0o010000, 0o140000):  # no device nodes
        found.append((allow, "mknodat", ((2, 0o170000, kind),)))
    if connects:
        found.append((allow, "socket", ((0, filters.EQUAL, 1),)))  # AF_UNIX
        found.append((allow, "connect", ()))
        found.append((allow, "ioctl", ((1, filters.EQUAL, 0x5421),)))  # FIONBIO
    return (*found, *((filters.KILL_PROCESS, name, ()) for name in DEADLY))
