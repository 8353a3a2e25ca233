"""What the sentry keeps of the host: a handful of descriptors, an empty root, no capability, a seccomp filter.

`gather` runs while host paths can still be opened; `lock_down` afterwards makes sure that none can be ever again. The
root becomes an empty tmpfs of the sentry's own, which holds the data of memory files (fs/store.py).
"""

import os
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from native import filters, lib
from sentry.boot import PR_SET_NO_NEW_PRIVS, Inherited, SandboxConfig, check, set_up_network
from sentry.kernel import sigwatch
from sentry.log import STDERR

if TYPE_CHECKING:
    from typing import Any

FIRST_KEPT = 10
RLIMIT_NOFILE = 7
CAP_NET_BIND_SERVICE, CAP_NET_RAW = 10, 13

# What the sentry does after boot, and nothing else. Paths reach its own empty tmpfs and the two procfs views it holds;
# sockets are those of its network namespace.
ALLOWED = """
read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close close_range fstat
newfstatat statx openat unlinkat utimensat fchmod fstatfs getdents64 readlinkat ftruncate fallocate fsync
fdatasync sync_file_range fadvise64 readahead copy_file_range sendfile splice tee memfd_create dup dup2 dup3
fcntl flock ioctl pipe2 eventfd2 signalfd4 munmap mremap madvise brk msync mincore membarrier poll ppoll
select pselect6 epoll_create1 epoll_ctl epoll_wait epoll_pwait futex rt_sigaction rt_sigprocmask rt_sigreturn
rt_sigtimedwait sigaltstack rseq set_robust_list clock_gettime clock_getres clock_nanosleep gettimeofday
nanosleep time timer_settime timer_gettime restart_syscall getpid gettid getppid getuid geteuid getgid getegid
getpgid getsid getrusage times sched_yield sched_getaffinity sched_getscheduler sched_setaffinity getcpu
getrandom sysinfo uname prlimit64 getpriority setpriority sched_setscheduler ioprio_get ioprio_set
ptrace wait4 waitid process_vm_readv process_vm_writev
kill tgkill rt_sigqueueinfo rt_tgsigqueueinfo pidfd_open bind listen
accept accept4 connect getsockname getpeername sendto recvfrom sendmsg recvmsg shutdown
setsockopt getsockopt exit exit_group
""".split()
# No page becomes executable: the interpreter and the C core are there, and nothing makes code.
NOT_EXECUTABLE = ((2, 4, 0),)  # argument 2 without PROT_EXEC
SOCKET_FAMILIES = (2, 10, 16)  # AF_INET, AF_INET6, AF_NETLINK
RULES: filters.Rules = (
    *filters.allow(*ALLOWED),
    (filters.ALLOW, "mmap", NOT_EXECUTABLE),
    (filters.ALLOW, "mprotect", NOT_EXECUTABLE),
    *((filters.ALLOW, "socket", ((0, filters.EQUAL, family),)) for family in SOCKET_FAMILIES),
)


class Host(NamedTuple):
    """Descriptors kept: the control listener, the container's stdio and preserved files, the gofer's socket, the
    report to whoever started us, log, strace log, the two procfs views and the store's directory, also by a noexec
    mount. -1: none."""

    control: int
    stdio: list[int]
    preserved: list[int]
    gofer: int
    report: int
    log: int
    strace: int
    proc: int
    fdinfo: int
    store: int
    noexec_store: int
    facts: "Any"

    def pid_of(self, host_tid: int) -> int:
        """The process id by which the host knows a process of ours. OSError when it is gone."""
        pidfd = lib.nc_pidfd_open(host_tid)
        if pidfd < 0:
            raise OSError(-pidfd, "process")
        try:
            info = os.open(str(pidfd), os.O_RDONLY, dir_fd=self.fdinfo)
            try:
                for line in os.read(info, 4096).split(b"\n"):
                    if line.startswith(b"Pid:"):
                        return int(line[4:])
            finally:
                os.close(info)
        finally:
            os.close(pidfd)
        raise OSError(3, "process")


def gather(config: SandboxConfig, inherited: Inherited) -> Host:
    """Take from the host what will be needed, and close everything else."""
    os.setsid()
    lib.nc_prctl(15, _name(b"runsc-py-sentry"), 0, 0, 0)
    lib.nc_setlimit(RLIMIT_NOFILE, *(2 * [_hard_nofile()]))
    # Of this process's own PID namespace; and the fdinfo directory of the host's, which tells host pids by pidfd.
    proc = check(lib.nc_own_proc(), "mounting a procfs of the sandbox")
    fdinfo = check(lib.nc_detached(b"/proc/self/fdinfo"), "keeping /proc/self/fdinfo")
    from sentry.fs.proc.facts import collect_host_facts

    facts = collect_host_facts()
    if config.netns is None or config.network == "none":
        _own_network(config)
    moved = {}

    def move(fd: int) -> int:
        if fd < 0:
            return fd
        import fcntl

        if fd not in moved:
            moved[fd] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_KEPT)
        return moved[fd]

    facts.zero_fd = move(facts.zero_fd)
    host = Host(
        move(inherited.control),
        [move(fd) for fd in inherited.stdio],
        [move(fd) for fd in inherited.preserved],
        move(inherited.gofer),
        move(inherited.report),
        # Not the number of the container's stderr, which the container may close.
        move(os.dup(inherited.log)) if inherited.log == STDERR else move(inherited.log),
        move(inherited.strace),
        move(proc),
        move(fdinfo),
        -1,
        -1,
        facts,
    )
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    kept = sorted(set(moved.values()) | {lib_stub_fd()})
    start = 3
    for fd in [*kept, 1 << 30]:
        if fd >= start:
            os.closerange(start, fd) if fd < 1 << 30 else os.closerange(start, _hard_nofile())
            start = fd + 1
    sigwatch.reserve_all()
    check(lib.nc_init(), "event loop")
    return host


def lib_stub_fd() -> int:
    """The loader stub's memfd, which C keeps."""
    return lib.nc_stub()


@cache
def own_filter() -> bytes:
    """The sentry's program; asked for first by preload, who may still read files that are not everybody's."""
    return filters.compiled(RULES)


def lock_down(config: SandboxConfig, host: Host, listener: int) -> Host:
    """No root, no capability, no call that is not needed. From here on hostile input is met."""
    size = b"50%" if config.overlay_size is None else b"%d" % config.overlay_size
    check(lib.nc_empty_root(size, 0), "making an empty root")
    store = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    noexec_store = max(lib.nc_noexec_twin(b"/"), -1)  # Linux >= 5.12
    # With network "none" these are of a namespace that has nothing but its own loopback.
    keep = 1 << CAP_NET_BIND_SERVICE | 1 << CAP_NET_RAW
    check(lib.nc_drop_capabilities(keep), "dropping capabilities")
    check(lib.nc_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    filters.load(own_filter())
    return host._replace(store=store, noexec_store=noexec_store)


def _own_network(config: SandboxConfig) -> None:
    from sentry.net import bring_up_loopback

    bring_up_loopback()
    set_up_network(config.sysctl)


def _hard_nofile() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def _name(name: bytes) -> int:
    from native import ffi

    global _kept_name
    _kept_name = ffi.new("char[]", name)
    return int(ffi.cast("uintptr_t", _kept_name))


_kept_name: object = None
