"""Birth of tasks, and exec: fork(2), vfork(2), clone(2), execve(2), execveat(2).

The host kernel makes the child; ptrace tells the sentry of it. Not of a thread as pthread_create(3) makes it, which the
sentry meets later (kernel/threads.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from sentry.abi import linux
from sentry.abi.linux import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    CLONE_DETACHED,
    CLONE_FILES,
    CLONE_FS,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_PARENT,
    CLONE_PARENT_SETTID,
    CLONE_PIDFD,
    CLONE_PTRACE,
    CLONE_SIGHAND,
    CLONE_THREAD,
    CLONE_UNTRACED,
    CLONE_VFORK,
    CLONE_VM,
    CSIGNAL,
    SIGCHLD,
)
from sentry.errors import EINVAL, EPERM
from sentry.kernel.execute import execute
from sentry.kernel.rewrite import Rewritten
from sentry.syscalls.declare import CONTINUE, syscall
from sentry.syscalls.kinds import Addr, ArgvAddr, DirFd, EnvpAddr, PathAddr, ULong, field, flags

if TYPE_CHECKING:
    from sentry.kernel.task import Task

CHILD = "the child inherits filter, tracer and namespaces"
NAMESPACES = 0x7E020000  # CLONE_NEW*; that of time is part of the exit signal here
# To the host the tracer of these is the sentry. What CLONE_PIDFD asks for is done here.
NOT_THE_HOSTS = CLONE_PIDFD | CLONE_PTRACE | CLONE_UNTRACED
THREAD_LIKE = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD
CloneFlags = Annotated[
    int,
    flags(
        field(CSIGNAL, SIGCHLD=SIGCHLD),
        **{
            name: value
            for name, value in vars(linux).items()
            if name.startswith("CLONE_") and value & ~CSIGNAL and value < 1 << 32
        },
    ),
]

ExecFlags = Annotated[  # looked at after the path
    int, flags(AT_EMPTY_PATH=AT_EMPTY_PATH, AT_SYMLINK_NOFOLLOW=AT_SYMLINK_NOFOLLOW, strict=False)
]


@syscall(fast="it takes nothing", may_continue=CHILD)
def sys_fork(task: Task) -> Any:
    return CONTINUE


@syscall(fast="it takes nothing", may_continue=CHILD)
def sys_vfork(task: Task) -> Any:
    return CONTINUE


@syscall(
    partial="new namespaces are EPERM; CLONE_PTRACE and CLONE_UNTRACED make no difference",
    fast="for the flags of C libraries",
    may_continue=CHILD + "; the flags are in a register",
)
def sys_clone(task: Task, flags: CloneFlags, stack: Addr, ptid: Addr, ctid: Addr, tls: ULong) -> Any:
    _check(task, flags)
    plain = flags & ~NOT_THE_HOSTS
    if flags & CLONE_THREAD:
        task.fds.crowd()
    if plain == flags and (task.announces or _is_told_of(task, flags)):
        return CONTINUE
    return Clone(task, flags, plain, ptid)


def _check(task: Task, flags: int) -> None:
    """What copy_process looks at first."""
    if flags & CLONE_FS and flags & (CLONE_NEWNS | CLONE_NEWUSER):
        raise EINVAL
    if flags & CLONE_THREAD and not flags & CLONE_SIGHAND:
        raise EINVAL
    if flags & CLONE_SIGHAND and not flags & CLONE_VM:
        raise EINVAL
    if flags & CLONE_PARENT and task.group.parent is None:
        raise EINVAL  # container init, and what joined the container beside it
    if flags & CLONE_THREAD and flags & (CLONE_NEWUSER | CLONE_NEWPID):
        raise EINVAL
    if flags & CLONE_PIDFD and flags & (CLONE_DETACHED | CLONE_THREAD | CLONE_PARENT_SETTID):
        raise EINVAL
    if flags & NAMESPACES:
        raise EPERM


def _is_told_of(task: Task, flags: int) -> bool:
    """Whether the host kernel reports the child by itself, or need not."""
    if flags & THREAD_LIKE == THREAD_LIKE:
        return not task.group.mixed
    return flags & CSIGNAL == SIGCHLD or bool(flags & CLONE_VFORK)


class Clone(Rewritten):
    """A clone that is made again at a stop: with `plain` flags, or because its caller is to announce what it makes.
    EMFILE, EFAULT: no room for the descriptor or its number that CLONE_PIDFD asks for."""

    def __init__(self, task: Task, flags: int, plain: int, pidfd_at: int) -> None:
        super().__init__({0: plain}, finish=self._made if flags & CLONE_PIDFD else None)
        self._task = task
        self._flags = flags
        self._pidfd_at = pidfd_at
        if flags & CLONE_PIDFD:
            task.fds.check_room()
            task.mem.write_u32(pidfd_at, task.mem.read_u32(pidfd_at))

    def at_stop(self, regs: Any) -> dict[int, int]:
        if not self._task.announces and not _is_told_of(self._task, self._flags):
            self._task.kernel.life.announce(self._task)
        return self.registers

    def _made(self, result: int) -> int:
        """CLONE_PIDFD: a descriptor of the new process goes where the flag says."""
        from sentry.fs.pidfd import PidFd

        kernel = self._task.kernel
        child = kernel.find_task(result) or kernel.find_zombie(result) if result > 0 else None
        if child is not None:
            number = self._task.fds.install(PidFd(child.group.leader), cloexec=True)
            self._task.mem.write_u32(self._pidfd_at, number)
        return result


@syscall
async def sys_execve(task: Task, filename: PathAddr, argv: ArgvAddr, envp: EnvpAddr) -> Rewritten:
    if task.spawn is not None:
        return await task.spawn.execute()
    return await execute(task, AT_FDCWD, filename, argv, envp, 0)


@syscall
async def sys_execveat(
    task: Task, dirfd: DirFd, filename: PathAddr, argv: ArgvAddr, envp: EnvpAddr, flags: ExecFlags
) -> Rewritten:
    return await execute(task, dirfd, filename, argv, envp, flags)
