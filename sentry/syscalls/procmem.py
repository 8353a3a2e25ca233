"""Reaching into other processes: process_vm_readv(2), kcmp(2), get_robust_list(2); and what is refused of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from sentry.errors import EBADF, EFAULT, EINVAL, ENOSYS, EPERM, ESRCH
from sentry.fs.proc.access import may_attach
from sentry.kernel.fdtable import file_id
from sentry.kernel.memory import MAX_COPY, MAX_RW_COUNT
from sentry.syscalls.declare import CONTINUE, arg_in, native, refuse, syscall
from sentry.syscalls.kinds import Addr, Pid, ULong, choice

if TYPE_CHECKING:
    from sentry.kernel.task import Task

Iovec = list[tuple[int, int]]
KCMP_FILE, KCMP_VM, KCMP_FILES, KCMP_FS, KCMP_SIGHAND, KCMP_IO, KCMP_SYSVSEM, KCMP_EPOLL_TFD = range(8)
KcmpType = Annotated[
    int,
    choice(
        strict=False, KCMP_FILE=0, KCMP_VM=1, KCMP_FILES=2, KCMP_FS=3, KCMP_SIGHAND=4, KCMP_IO=5, KCMP_SYSVSEM=6,
        KCMP_EPOLL_TFD=7,
    ),
]  # fmt: skip


def _target(task: Task, pid: int) -> Task:
    """Whom the caller may reach into; ESRCH, EPERM."""
    target = task if not pid else task.kernel.find_task(pid)
    if target is None:
        raise ESRCH
    if not may_attach(task, target):
        raise EPERM
    return target


# --- memory


@syscall
def sys_process_vm_readv(
    task: Task, pid: Pid, local: Addr, local_count: ULong, remote: Addr, remote_count: ULong, flags: ULong
) -> int:
    ours, theirs = _vectors(task, local, local_count, remote, remote_count, flags)
    return _copy(_reached(task, pid), theirs, task, ours) if ours and theirs else 0


@syscall
def sys_process_vm_writev(
    task: Task, pid: Pid, local: Addr, local_count: ULong, remote: Addr, remote_count: ULong, flags: ULong
) -> int:
    ours, theirs = _vectors(task, local, local_count, remote, remote_count, flags)
    return _copy(task, ours, _reached(task, pid), theirs) if ours and theirs else 0


def _reached(task: Task, pid: int) -> Task:
    """Here 0 is nobody."""
    if not pid:
        raise ESRCH
    return _target(task, pid)


def _vectors(
    task: Task, local: int, local_count: int, remote: int, remote_count: int, flags: int
) -> tuple[Iovec, Iovec]:
    """Both vectors without empty parts; the second is not looked at when the first is empty."""
    if flags:
        raise EINVAL
    ours = [part for part in task.mem.read_iovec(local, local_count) if part[1]]
    if not ours:
        return ours, []
    return ours, [part for part in task.mem.read_iovec(remote, remote_count) if part[1]]


def _copy(source: Task, from_: Iovec, sink: Task, to: Iovec) -> int:
    """Copy as much as both hold; short at a fault, EFAULT when that is the first byte."""
    left = min(sum(size for _, size in from_), sum(size for _, size in to), MAX_RW_COUNT)
    done = 0
    while left:
        size = min(left, MAX_COPY)
        try:
            data = source.mem.read_vec(_part(from_, done, size), size)
            put = sink.mem.write_vec(_part(to, done, len(data)), data)
        except EFAULT:
            if done:
                break
            raise
        done += put
        left -= put
        if put < size:
            break
    return done


def _part(vector: Iovec, start: int, size: int) -> Iovec:
    """The part of a vector that covers `size` bytes from `start` on."""
    found = []
    for addr, length in vector:
        if start >= length:
            start -= length
            continue
        take = min(length - start, size)
        found.append((addr + start, take))
        size -= take
        start = 0
        if not size:
            break
    return found


# --- what tasks share


@syscall(partial="address spaces and signal handlers count as shared within a process only; no KCMP_EPOLL_TFD")
def sys_kcmp(task: Task, pid1: Pid, pid2: Pid, type: KcmpType, idx1: ULong, idx2: ULong) -> int:
    kernel = task.kernel
    one, two = kernel.find_task(pid1), kernel.find_task(pid2)
    if one is None or two is None:
        raise ESRCH
    if not (may_attach(task, one) and may_attach(task, two)):
        raise EPERM
    if type == KCMP_FILE:
        return _order(_file(one, idx1), _file(two, idx2))
    if type in (KCMP_VM, KCMP_SIGHAND):
        return _order(id(one.group), id(two.group))
    if type == KCMP_FILES:
        return _order(id(one.fds), id(two.fds))
    if type == KCMP_FS:
        return _order(id(one.fs), id(two.fs))
    if type in (KCMP_IO, KCMP_SYSVSEM):
        return 0  # nobody has any
    raise EINVAL


def _file(target: Task, fd: int) -> int:
    if fd >= 1 << 31:
        raise EBADF
    return file_id(target.fds.get(fd))


def _order(one: int, two: int) -> int:
    return 0 if one == two else 1 if one < two else 2


native(
    "get_robust_list",
    Pid,
    Addr,
    Addr,
    when=arg_in(0, {0}, "the caller's own"),
    why="an address that the calling thread has registered",
)


@syscall(may_continue="names a thread of the caller's PID namespace, into which it may reach")
def sys_get_robust_list(task: Task, pid: Pid, head: Addr, length: Addr) -> Any:
    _target(task, pid)
    return CONTINUE


# --- refused

refuse("open_by_handle_at", EPERM, "needs CAP_DAC_READ_SEARCH in the host's user namespace")
for _name in ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"):
    refuse(_name, ENOSYS, "not built into this kernel")
for _name in ("process_madvise", "process_mrelease", "memfd_secret", "set_mempolicy_home_node"):
    refuse(_name, ENOSYS, "programs do without")
for _name in ("open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr"):
    refuse(_name, ENOSYS, "programs fall back to mount(2)")
for _name in (
    "cachestat", "map_shadow_stack", "statmount", "listmount", "lsm_get_self_attr", "lsm_set_self_attr",
    "lsm_list_modules", "setxattrat", "getxattrat", "listxattrat", "removexattrat", "open_tree_attr",
):  # fmt: skip
    refuse(_name, ENOSYS, "newer than the Linux whose behaviour is offered")
