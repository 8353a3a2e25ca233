"""cgroup(7) as a container sees it: its own group as the root, read-only, with its limits and what it uses.

b"cgroup2": one tree with all controllers.  b"cgroup": a version 1 hierarchy, whose options name controllers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import CGROUP2_SUPER_MAGIC, CGROUP_SUPER_MAGIC
from sentry.fs.proc.system import cpu_list, mem_total_kb, used_kb
from sentry.fs.pseudo import PseudoDirectory, PseudoFilesystem, Text, Tree, constant

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

UNLIMITED_V1 = 0x7FFFFFFFFFFFF000
_CONTROLLERS = (b"cpuset", b"cpu", b"cpuacct", b"memory", b"pids", b"devices", b"freezer", b"blkio")


class Cgroup2(PseudoFilesystem):
    """The unified hierarchy."""

    name = b"cgroup2"
    magic = CGROUP2_SUPER_MAGIC

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.root = PseudoDirectory(self, _v2(kernel))


class Cgroup1(PseudoFilesystem):
    """A version 1 hierarchy with the controllers that the mount options name."""

    name = b"cgroup"
    magic = CGROUP_SUPER_MAGIC

    def __init__(self, kernel: Kernel, options: bytes) -> None:
        super().__init__()
        self.controllers = [name for name in options.split(b",") if name in _CONTROLLERS]
        self.extra = b"".join(b"," + name for name in options.split(b",") if name)
        self.root = PseudoDirectory(self, _v1(kernel, self.controllers))

    def options(self) -> bytes:
        return self.extra


def _processes(task: Task) -> bytes:
    return b"".join(b"%d\n" % group.tgid for group in task.kernel.groups())


def _threads(task: Task) -> bytes:
    return b"".join(b"%d\n" % each.tid for each in task.kernel.tasks.values())


def _memory_current(task: Task) -> bytes:
    return b"%d\n" % (used_kb(task.kernel) * 1024)


def _cpu_usec(kernel: Kernel) -> tuple[int, int]:
    user = system = 0
    for group in kernel.groups():
        fields = kernel.pids.read(group.host_tgid, "stat").rpartition(b")")[2].split()
        if len(fields) > 12:
            user += int(fields[11]) * 10000
            system += int(fields[12]) * 10000
    return user, system


def _cpu_stat(task: Task) -> bytes:
    user, system = _cpu_usec(task.kernel)
    return (
        b"usage_usec %d\nuser_usec %d\nsystem_usec %d\nnr_periods 0\nnr_throttled 0\nthrottled_usec 0\n"
        % (user + system, user, system)
    )


# The limits are read anew each time: an `update` changes them.


def _pids_max(kernel: Kernel) -> bytes:
    limit = kernel.pids_limit
    return b"max\n" if limit is None else b"%d\n" % limit


def _memory_max(kernel: Kernel) -> bytes:
    limit = kernel.memory_limit
    return b"max\n" if limit is None else b"%d\n" % limit


def _cpu_max(kernel: Kernel) -> bytes:
    return b"max 100000\n" if kernel.cpu_max is None else b"%d %d\n" % kernel.cpu_max


def _v1_limit(kernel: Kernel) -> int:
    return UNLIMITED_V1 if kernel.memory_limit is None else min(kernel.memory_limit, UNLIMITED_V1)


def _v1_cpu(kernel: Kernel) -> tuple[int, int]:
    """Quota and period."""
    return kernel.cpu_max or (-1, 100_000)


def _v2(kernel: Kernel) -> Tree:
    def memory_stat(task: Task) -> bytes:
        return b"anon %d\nfile 0\nkernel 0\nshmem 0\npgfault 0\npgmajfault 0\n" % (used_kb(kernel) * 1024)

    return {
        b"cgroup.controllers": constant(b"cpuset cpu io memory pids\n"),
        b"cgroup.events": constant(b"populated 1\nfrozen 0\n"),
        b"cgroup.freeze": constant(b"0\n"),
        b"cgroup.max.depth": constant(b"max\n"),
        b"cgroup.max.descendants": constant(b"max\n"),
        b"cgroup.procs": Text(_processes),
        b"cgroup.stat": constant(b"nr_descendants 0\nnr_dying_descendants 0\n"),
        b"cgroup.subtree_control": constant(b"\n"),
        b"cgroup.threads": Text(_threads),
        b"cgroup.type": constant(b"domain\n"),
        b"cpu.max": Text(lambda task: _cpu_max(kernel)),
        b"cpu.stat": Text(_cpu_stat),
        b"cpu.weight": constant(b"100\n"),
        b"cpuset.cpus.effective": constant(cpu_list(kernel.cpus)),
        b"cpuset.mems.effective": constant(b"0\n"),
        b"io.stat": constant(b""),
        b"memory.current": Text(_memory_current),
        b"memory.events": constant(b"low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\noom_group_kill 0\n"),
        b"memory.high": constant(b"max\n"),
        b"memory.low": constant(b"0\n"),
        b"memory.max": Text(lambda task: _memory_max(kernel)),
        b"memory.min": constant(b"0\n"),
        b"memory.stat": Text(memory_stat),
        b"memory.swap.current": constant(b"0\n"),
        b"memory.swap.max": constant(b"max\n"),
        b"pids.current": Text(lambda task: b"%d\n" % len(task.kernel.tasks)),
        b"pids.max": Text(lambda task: _pids_max(kernel)),
    }


def _v1(kernel: Kernel, controllers: list[bytes]) -> Tree:
    tree: Tree = {
        b"cgroup.clone_children": constant(b"0\n"),
        b"cgroup.procs": Text(_processes),
        b"notify_on_release": constant(b"0\n"),
        b"tasks": Text(_threads),
    }
    if b"memory" in controllers:
        total = mem_total_kb(kernel) * 1024
        tree.update({
            b"memory.failcnt": constant(b"0\n"),
            b"memory.limit_in_bytes": Text(lambda task: b"%d\n" % _v1_limit(kernel)),
            b"memory.max_usage_in_bytes": Text(_memory_current),
            b"memory.soft_limit_in_bytes": constant(b"%d\n" % UNLIMITED_V1),
            b"memory.stat": Text(
                lambda task: b"cache 0\nrss %d\nhierarchical_memory_limit %d\ntotal_cache 0\n"
                b"total_inactive_file 0\n" % (used_kb(task.kernel) * 1024, min(_v1_limit(kernel), total))
            ),
            b"memory.usage_in_bytes": Text(_memory_current),
            b"memory.use_hierarchy": constant(b"1\n"),
        })  # fmt: skip
    if b"cpu" in controllers:
        tree.update({
            b"cpu.cfs_period_us": Text(lambda task: b"%d\n" % _v1_cpu(kernel)[1]),
            b"cpu.cfs_quota_us": Text(lambda task: b"%d\n" % _v1_cpu(kernel)[0]),
            b"cpu.shares": constant(b"1024\n"),
            b"cpu.stat": constant(b"nr_periods 0\nnr_throttled 0\nthrottled_time 0\n"),
        })  # fmt: skip
    if b"cpuacct" in controllers:
        tree[b"cpuacct.usage"] = Text(lambda task: b"%d\n" % (sum(_cpu_usec(task.kernel)) * 1000))
    if b"cpuset" in controllers:
        tree.update({b"cpuset.cpus": constant(cpu_list(kernel.cpus)), b"cpuset.mems": constant(b"0\n")})
    if b"pids" in controllers:
        tree[b"pids.current"] = Text(lambda task: b"%d\n" % len(task.kernel.tasks))
        tree[b"pids.max"] = Text(lambda task: _pids_max(kernel))
    if b"freezer" in controllers:
        tree[b"freezer.state"] = constant(b"THAWED\n")
    return tree
