"""Lane 1: the calls that the host kernel answers itself, and the calls that always fail.

Letting the host run a call is a security decision. A call is here only if it takes no descriptor and no
path, and names nothing but the caller's own address space, its own threads and the processes of its own PID
namespace. Guests hold no descriptor they could act on, but a few injected ones for file mappings sit in
their host tables, so a call with a descriptor argument never qualifies. Conditions look at registers only
(constraint.py).
"""

from __future__ import annotations

from typing import Annotated

from sentry.abi import linux
from sentry.errors import EINVAL, ENOSYS, EOPNOTSUPP, EPERM
from sentry.syscalls.declare import any_of, arg_in, masked, native, refuse
from sentry.syscalls.kinds import (
    Addr,
    ClockId,
    Int,
    MapFlags,
    Off,
    Pid,
    Prot,
    Signal,
    Size,
    TimespecPtr,
    UInt,
    ULong,
    choice,
    field,
    flags,
)

# --- address space

OWN_MEMORY = "registers only; touches nothing outside the caller's own address space"

Advice = Annotated[
    int,
    choice(
        strict=False,
        **{name: value for name, value in vars(linux).items() if name.startswith("MADV_")},
    ),
]
RemapFlags = Annotated[int, flags(MREMAP_MAYMOVE=1, MREMAP_FIXED=2, MREMAP_DONTUNMAP=4)]
SyncFlags = Annotated[int, flags(MS_ASYNC=1, MS_INVALIDATE=2, MS_SYNC=4)]
LockallFlags = Annotated[int, flags(MCL_CURRENT=1, MCL_FUTURE=2, MCL_ONFAULT=4)]

native(
    "mmap",
    Addr,
    Size,
    Prot,
    MapFlags,
    Int,
    Off,
    # MAP_HUGETLB draws on a pool of the whole machine.
    when=masked(
        3,
        linux.MAP_ANONYMOUS | linux.MAP_HUGETLB,
        linux.MAP_ANONYMOUS,
        "its flags have MAP_ANONYMOUS and not MAP_HUGETLB",
    ),
    why="an anonymous mapping ignores its descriptor and stays in the caller's own address space",
)
native("munmap", Addr, Size, why=OWN_MEMORY)
native("mprotect", Addr, Size, Prot, why=OWN_MEMORY)
native("mremap", Addr, Size, Size, RemapFlags, Addr, why=OWN_MEMORY)
native("madvise", Addr, Size, Advice, why=OWN_MEMORY)
native("brk", Addr, why=OWN_MEMORY)
native("msync", Addr, Size, SyncFlags, why="writes back mappings which the caller was given")
native("mincore", Addr, Size, Addr, why="the host tells page residency only to a file's owner or writer")
native("mlock", Addr, Size, why=OWN_MEMORY + "; bounded by the host's RLIMIT_MEMLOCK")
native("mlock2", Addr, Size, UInt, why=OWN_MEMORY + "; bounded by the host's RLIMIT_MEMLOCK")
native("munlock", Addr, Size, why=OWN_MEMORY)
native("mlockall", LockallFlags, why=OWN_MEMORY + "; bounded by the host's RLIMIT_MEMLOCK")
native("munlockall", why=OWN_MEMORY)
native("mseal", Addr, Size, ULong, why=OWN_MEMORY)
native("remap_file_pages", Addr, Size, Prot, Size, UInt, why="rearranges the caller's own mapping")
native("pkey_alloc", UInt, ULong, why="a protection key of the caller's own address space")
native("pkey_free", Int, why="a protection key of the caller's own address space")
native("pkey_mprotect", Addr, Size, Prot, Int, why=OWN_MEMORY)

# --- waiting on memory

FutexCommand = {
    "FUTEX_WAIT": linux.FUTEX_WAIT,
    "FUTEX_WAKE": linux.FUTEX_WAKE,
    "FUTEX_REQUEUE": linux.FUTEX_REQUEUE,
    "FUTEX_CMP_REQUEUE": linux.FUTEX_CMP_REQUEUE,
    "FUTEX_WAKE_OP": linux.FUTEX_WAKE_OP,
    "FUTEX_LOCK_PI": linux.FUTEX_LOCK_PI,
    "FUTEX_UNLOCK_PI": linux.FUTEX_UNLOCK_PI,
    "FUTEX_TRYLOCK_PI": linux.FUTEX_TRYLOCK_PI,
    "FUTEX_WAIT_BITSET": linux.FUTEX_WAIT_BITSET,
    "FUTEX_WAKE_BITSET": linux.FUTEX_WAKE_BITSET,
    "FUTEX_WAIT_REQUEUE_PI": linux.FUTEX_WAIT_REQUEUE_PI,
    "FUTEX_CMP_REQUEUE_PI": linux.FUTEX_CMP_REQUEUE_PI,
    "FUTEX_LOCK_PI2": linux.FUTEX_LOCK_PI2,
}
FutexOp = Annotated[
    int,
    flags(
        field(0x7F, **FutexCommand),
        FUTEX_PRIVATE_FLAG=linux.FUTEX_PRIVATE_FLAG,
        FUTEX_CLOCK_REALTIME=linux.FUTEX_CLOCK_REALTIME,
    ),
]
FUTEX = "a futex word is memory the caller can write; owners of priority-inheriting ones are its own threads"

native(
    "futex",
    Addr,
    FutexOp,
    UInt,
    Addr,
    Addr,
    UInt,
    # FUTEX_FD (2) would make a descriptor; it and what comes after our time have no place here.
    when=arg_in(1, set(FutexCommand.values()), "the operation is a known one", mask=linux.FUTEX_CMD_MASK),
    why=FUTEX,
)
native("futex_waitv", Addr, UInt, UInt, TimespecPtr, ClockId, why=FUTEX)
native("futex_wait", Addr, ULong, ULong, UInt, TimespecPtr, ClockId, why=FUTEX)
native("futex_wake", Addr, ULong, Int, UInt, why=FUTEX)
native("futex_requeue", Addr, UInt, Int, Int, why=FUTEX)
native("set_robust_list", Addr, Size, why="the list is in the caller's own memory")
native("membarrier", Int, UInt, Int, why="orders memory accesses; names no object")
native("rseq", Addr, UInt, Int, UInt, why="registers an area of the caller's own memory")

# --- signals of the caller itself (kill and its kin are the sentry's)

OWN_SIGNALS = "changes or waits for the signals of the calling thread only"
How = Annotated[int, choice(strict=False, SIG_BLOCK=0, SIG_UNBLOCK=1, SIG_SETMASK=2)]

native("rt_sigaction", Signal, Addr, Addr, Size, why=OWN_SIGNALS)
native("rt_sigprocmask", How, Addr, Addr, Size, why=OWN_SIGNALS)
native("rt_sigreturn", why="restores the registers which the host kernel saved")
native("rt_sigpending", Addr, Size, why=OWN_SIGNALS)
native("rt_sigsuspend", Addr, Size, why=OWN_SIGNALS)
native("sigaltstack", Addr, Addr, why=OWN_SIGNALS)
native("pause", why=OWN_SIGNALS)
native("restart_syscall", why="the host kernel issues it to resume a sleep which it answered itself")

# --- birth, death and family

OWN_PIDS = "names processes of the caller's own PID namespace only"
WaitOptions = Annotated[
    int,
    flags(
        WNOHANG=1,
        WSTOPPED=2,
        WEXITED=4,
        WCONTINUED=8,
        WNOWAIT=linux.WNOWAIT,
        __WNOTHREAD=linux.WNOTHREAD,
        __WALL=linux.WALL,
        __WCLONE=linux.WCLONE,
    ),
]
IdType = Annotated[int, choice(strict=False, P_ALL=0, P_PID=1, P_PGID=2, P_PIDFD=3)]

native("exit", Int, why="ends the calling thread")
native("exit_group", Int, why="ends the calling process")
native("getpid", why="the number in the caller's own PID namespace is the guest's pid")
native("gettid", why="the number in the caller's own PID namespace is the guest's tid")
native("getppid", why="the number in the caller's own PID namespace is the guest's pid")
native("getpgid", Pid, why=OWN_PIDS)
native("getpgrp", why=OWN_PIDS)
native("getsid", Pid, why=OWN_PIDS)
native("setpgid", Pid, Pid, why=OWN_PIDS)
native("setsid", why=OWN_PIDS)
native("set_tid_address", Addr, why="an address in the caller's own memory")
native("arch_prctl", Int, Addr, why="segment bases and CPU features of the calling thread")

native(
    "prctl",
    Int,
    Addr,
    when=arg_in(0, {linux.PR_SET_NAME}, "option is PR_SET_NAME"),
    why="names the calling thread, for itself and its own PID namespace",
)

# --- time

# A negative clock id is a CPU clock of some pid, or if its low three bits are 3 a clock behind a descriptor.
CLOCK_WITHOUT_FD = any_of(
    masked(0, 0x8000_0000, 0, "clock id is not negative"),
    arg_in(0, set(range(8)) - {3}, "a CPU clock by pid", mask=7),
)
CLOCK_WITHOUT_FD.text = "the clock is not one behind a descriptor"
CLOCKS = "reads the host's clocks, which the guest shares"
OWN_TIMERS = "a timer that signals the calling process"
TimerFlags = Annotated[int, flags(TIMER_ABSTIME=1)]
Which = Annotated[int, choice(strict=False, ITIMER_REAL=0, ITIMER_VIRTUAL=1, ITIMER_PROF=2)]
Who = Annotated[int, choice(strict=False, RUSAGE_SELF=0, RUSAGE_CHILDREN=-1, RUSAGE_THREAD=1)]

native("clock_gettime", ClockId, Addr, when=CLOCK_WITHOUT_FD, why=CLOCKS, otherwise=EINVAL)
native("clock_getres", ClockId, Addr, when=CLOCK_WITHOUT_FD, why=CLOCKS, otherwise=EINVAL)
native("gettimeofday", Addr, Addr, why=CLOCKS)
native("time", Addr, why=CLOCKS)
native("nanosleep", TimespecPtr, Addr, why="sleeps")
native(
    "clock_nanosleep",
    ClockId,
    TimerFlags,
    TimespecPtr,
    Addr,
    when=CLOCK_WITHOUT_FD,
    why="sleeps",
    otherwise=EOPNOTSUPP,
)
native("alarm", UInt, why=OWN_TIMERS)
native("setitimer", Which, Addr, Addr, why=OWN_TIMERS)
native("getitimer", Which, Addr, why=OWN_TIMERS)
native(
    "timer_create",
    ClockId,
    Addr,
    Addr,
    when=CLOCK_WITHOUT_FD,
    why=OWN_TIMERS + "; its sigevent can name only threads of that process",
    otherwise=EINVAL,
)
native("timer_settime", Int, TimerFlags, Addr, Addr, why=OWN_TIMERS)
native("timer_gettime", Int, Addr, why=OWN_TIMERS)
native("timer_getoverrun", Int, why=OWN_TIMERS)
native("timer_delete", Int, why=OWN_TIMERS)
native("times", Addr, why="CPU time of the caller and its children")
native("getrusage", Who, Addr, why="use of the caller and its children")
native("sched_yield", why="names no object")
native("getcpu", Addr, Addr, Addr, why="the guest sees the host's CPUs")

# --- always refused, by the filter itself

# Its arguments are behind a pointer, which a filter cannot check; libc falls back to clone.
refuse("clone3", ENOSYS, "arguments are behind a pointer; libc falls back to clone")
for _name in ("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module"):
    refuse(_name, EPERM, "a guest never has the host's CAP_SYS_MODULE or CAP_SYS_BOOT")
for _name in ("swapon", "swapoff", "iopl", "ioperm"):
    refuse(_name, EPERM, "acts on the host's memory or hardware")
for _name in ("bpf", "perf_event_open", "userfaultfd"):
    refuse(_name, EPERM, "a kernel facility guests do not get, as without CAP_SYS_ADMIN")
for _name in ("io_uring_setup", "io_uring_enter", "io_uring_register"):
    refuse(_name, ENOSYS, "works behind the filter's back; programs fall back to epoll and threads")
for _name in (
    "uselib",
    "_sysctl",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "nfsservctl",
    "getpmsg",
    "putpmsg",
    "afs_syscall",
    "tuxcall",
    "security",
    "vserver",
    "epoll_ctl_old",
    "epoll_wait_old",
    "lookup_dcookie",
):
    refuse(_name, ENOSYS, "no longer in Linux")
