"""The spec's linux.resources as files to write, for cgroup v1 and v2. Zero: leave as it is; -1: no limit.

`v1(resources, has)` and `v2(resources, has)` give (controller, file, value) in the order in which they must be
written; `has(file)` tells whether the cgroup has such a file, where the kernel's configuration decides.
`check(resources, unified)` refuses what cannot be meant, `merged(old, new)` is what an `update` leaves in force.

The translation is runc's (libcontainer/cgroups: fs, fs2 and ConvertCPUSharesToCgroupV2Value and the like), since the
limits that users know are those. Left out are the device rules: a guest has no device of the host to be kept from,
the sentry and the gofer cannot open any (docs/decisions.md).
"""

import re
from collections.abc import Callable, Iterator

from runsc_py.errors import RuntimeFault
from runsc_py.spec import BlockIO, Cpu, Memory, Resources

Setting = tuple[str, str, str]
OWN_TASKS = 4  # of ours in the container's cgroup: gofer, sentry with its watching thread, zygote
Has = Callable[[str], bool]

DEFAULT_PERIOD_US = 100000
_PAGE_SIZE = re.compile(r"[0-9]+[KMG]B")
_UNIFIED_NAME = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)+")


def _has_none(file: str) -> bool:
    return False


def check(resources: Resources, unified: bool) -> None:
    """Refuse a resource that is none. The names of files come from the bundle: they may not lead elsewhere."""
    for name in resources.unified or {}:
        if not unified:
            raise RuntimeFault("invalid configuration: cannot use unified on cgroup v1")
        if not _UNIFIED_NAME.fullmatch(name):
            raise RuntimeFault(f'unified resource "{name}" must be a file name (no slashes)')
    for huge in resources.hugepage_limits or ():
        if not _PAGE_SIZE.fullmatch(huge.page_size):
            raise RuntimeFault(f'hugepageLimits: invalid page size "{huge.page_size}"')
    for device in resources.rdma or {}:
        if not device or any(character.isspace() for character in device):
            raise RuntimeFault(f'rdma: invalid device name "{device}"')
    memory = resources.memory
    if memory and memory.swappiness is not None and not 0 <= memory.swappiness <= 100:
        raise RuntimeFault(f"invalid memory swappiness value: {memory.swappiness} (valid range is 0-100)")
    if memory and unified:
        _v2_swap(memory)


def ignored(resources: Resources, unified: bool) -> Iterator[str]:
    """What is asked for and has no effect, as under runc."""
    memory, cpu = resources.memory, resources.cpu
    if memory and (memory.kernel or memory.kernel_tcp):
        yield "kernel memory settings"
    if unified and memory and memory.swappiness is not None:
        yield "memory.swappiness (cgroup v2 has none)"
    if unified and memory and memory.disable_oom_killer:
        yield "memory.disableOOMKiller (cgroup v2 has none)"
    if unified and cpu and (cpu.realtime_runtime or cpu.realtime_period):
        yield "cpu.realtimeRuntime and realtimePeriod (cgroup v2 has none)"
    if unified and resources.network:
        yield "network class and priorities (cgroup v2 has none)"


def v1(resources: Resources, has: Has = _has_none) -> Iterator[Setting]:
    if memory := resources.memory:
        if memory.limit:
            yield "memory", "memory.limit_in_bytes", str(memory.limit)
        if memory.swap or (memory.limit == -1 and not memory.swap):
            yield "memory", "memory.memsw.limit_in_bytes", str(memory.swap or -1)
        if memory.reservation:
            yield "memory", "memory.soft_limit_in_bytes", str(memory.reservation)
        if memory.swappiness is not None:
            yield "memory", "memory.swappiness", str(memory.swappiness)
        if memory.disable_oom_killer:
            yield "memory", "memory.oom_control", "1"
    if cpu := resources.cpu:
        if cpu.idle is not None:
            yield "cpu", "cpu.idle", str(cpu.idle)
        if cpu.shares:
            yield "cpu", "cpu.shares", str(cpu.shares)
        if cpu.period:
            yield "cpu", "cpu.cfs_period_us", str(cpu.period)
        if cpu.quota:
            yield "cpu", "cpu.cfs_quota_us", str(cpu.quota)
        if cpu.burst:
            yield "cpu", "cpu.cfs_burst_us", str(cpu.burst)
        if cpu.realtime_period:
            yield "cpu", "cpu.rt_period_us", str(cpu.realtime_period)
        if cpu.realtime_runtime:
            yield "cpu", "cpu.rt_runtime_us", str(cpu.realtime_runtime)
        yield from _cpuset(cpu)
    if resources.pids and resources.pids.limit:
        yield "pids", "pids.max", _pids(resources.pids.limit)
    if block := resources.block_io:
        bfq = "blkio.bfq." if has("blkio.bfq.weight") else "blkio."
        if block.weight:
            yield "blkio", f"{bfq}weight", str(block.weight)
        if block.leaf_weight:
            yield "blkio", "blkio.leaf_weight", str(block.leaf_weight)
        for device in block.weight_device or ():
            if device.weight:
                yield "blkio", f"{bfq}weight_device", f"{device.major}:{device.minor} {device.weight}"
            if device.leaf_weight:
                yield "blkio", "blkio.leaf_weight_device", f"{device.major}:{device.minor} {device.leaf_weight}"
        for name, major, minor, rate in _throttles(block):
            yield "blkio", f"blkio.throttle.{_V1_THROTTLE[name]}", f"{major}:{minor} {rate}"
    for huge in resources.hugepage_limits or ():
        yield "hugetlb", f"hugetlb.{huge.page_size}.limit_in_bytes", str(huge.limit)
        if has(f"hugetlb.{huge.page_size}.rsvd.limit_in_bytes"):
            yield "hugetlb", f"hugetlb.{huge.page_size}.rsvd.limit_in_bytes", str(huge.limit)
    yield from _rdma(resources)
    if network := resources.network:
        if network.class_id:
            yield "net_cls", "net_cls.classid", str(network.class_id)
        for priority in network.priorities or ():
            yield "net_prio", "net_prio.ifpriomap", f"{priority.name} {priority.priority}"


def v2(resources: Resources, has: Has = _has_none) -> Iterator[Setting]:
    if memory := resources.memory:
        # A swap limit is raised before the memory limit is: the two are independent here, so the order is free.
        if memory.limit:
            yield "memory", "memory.max", _max(memory.limit)
        if (swap := _v2_swap(memory)) is not None:
            yield "memory", "memory.swap.max", _max(swap)
        if memory.reservation:
            yield "memory", "memory.low", _max(memory.reservation)
    if cpu := resources.cpu:
        if cpu.idle is not None:
            yield "cpu", "cpu.idle", str(cpu.idle)
        if cpu.shares:
            yield "cpu", "cpu.weight", str(shares_to_weight(cpu.shares))
        if cpu.quota or cpu.period:
            quota = str(cpu.quota) if cpu.quota and cpu.quota > 0 else "max"
            yield "cpu", "cpu.max", f"{quota} {cpu.period or DEFAULT_PERIOD_US}"
        if cpu.burst:
            yield "cpu", "cpu.max.burst", str(cpu.burst)
        yield from _cpuset(cpu)
    if resources.pids and resources.pids.limit:
        yield "pids", "pids.max", _pids(resources.pids.limit)
    if block := resources.block_io:
        yield from _v2_io(block, has)
    for huge in resources.hugepage_limits or ():
        yield "hugetlb", f"hugetlb.{huge.page_size}.max", str(huge.limit)
        if has(f"hugetlb.{huge.page_size}.rsvd.max"):
            yield "hugetlb", f"hugetlb.{huge.page_size}.rsvd.max", str(huge.limit)
    yield from _rdma(resources)
    for name, value in (resources.unified or {}).items():
        yield name.partition(".")[0], name, value


def _v2_io(block: BlockIO, has: Has) -> Iterator[Setting]:
    """BFQ takes the spec's weights as they are, io.weight (io.cost) has another range."""
    bfq = has("io.bfq.weight")
    file = "io.bfq.weight" if bfq else "io.weight"
    if block.weight:
        yield "io", file, str(block.weight if bfq else _io_weight(block.weight))
    for device in block.weight_device or ():
        if device.weight:
            weight = device.weight if bfq else _io_weight(device.weight)
            yield "io", file, f"{device.major}:{device.minor} {weight}"
    for name, major, minor, rate in _throttles(block):
        yield "io", "io.max", f"{major}:{minor} {name}={_max(rate or -1)}"


def shares_to_weight(shares: int) -> int:
    """cpu.shares (2..262144) as cpu.weight (1..10000)."""
    shares = min(max(shares, 2), 262144)
    return 1 + (shares - 2) * 9999 // 262142


def _io_weight(weight: int) -> int:
    """blkio.weight (10..1000) as io.weight (1..10000)."""
    return 1 + (weight - 10) * 9999 // 990


def _v2_swap(memory: Memory) -> int | None:
    """memory.swap.max in bytes, -1 for no limit: the spec counts memory and swap together, v2 swap alone."""
    limit, swap = memory.limit or 0, memory.swap or 0
    if limit == -1 and swap == 0:
        return -1
    if swap in (0, -1):
        return swap or None
    if limit in (0, -1):
        raise RuntimeFault("unable to set swap limit without memory limit")
    if limit < 0:
        raise RuntimeFault(f"invalid memory value: {limit}")
    if swap < limit:
        raise RuntimeFault("memory+swap limit should be >= memory limit")
    return swap - limit


def merged(old: Resources, new: Resources) -> Resources:
    """`old` with what `new` says: limits depend on one another (quota on period, swap on memory), so an update is
    worked out over all of them."""
    made = Resources(**old.__dict__)
    for name, part in new.__dict__.items():
        if part is None:
            continue
        before = getattr(old, name)
        if name == "unified":
            made.unified = {**(before or {}), **part}
        elif isinstance(part, list) or before is None:
            setattr(made, name, part or before)
        elif isinstance(part, dict):
            setattr(made, name, {**before, **part})
        else:
            given = {field: value for field, value in part.__dict__.items() if value not in (None, 0, "", [])}
            setattr(made, name, type(part)(**{**before.__dict__, **given}))
    if new.memory and not new.memory.swap and made.memory:
        made.memory.swap = None  # what is not named stays in its file: it was a sum with the old limit
    if new.cpu and new.cpu.idle is not None and made.cpu:
        made.cpu.idle = new.cpu.idle
        if not new.cpu.shares:
            made.cpu.shares = None  # an idle group has no weight to set
    return made


_V1_THROTTLE = {
    "rbps": "read_bps_device",
    "wbps": "write_bps_device",
    "riops": "read_iops_device",
    "wiops": "write_iops_device",
}


def _throttles(block: BlockIO) -> Iterator[tuple[str, int, int, int]]:
    """(v2's name, major, minor, rate)"""
    for name, devices in (
        ("rbps", block.throttle_read_bps_device),
        ("wbps", block.throttle_write_bps_device),
        ("riops", block.throttle_read_iops_device),
        ("wiops", block.throttle_write_iops_device),
    ):
        for device in devices or ():
            yield name, device.major, device.minor, device.rate


def _cpuset(cpu: Cpu) -> Iterator[Setting]:
    if cpu.cpus:
        yield "cpuset", "cpuset.cpus", cpu.cpus
    if cpu.mems:
        yield "cpuset", "cpuset.mems", cpu.mems


def _rdma(resources: Resources) -> Iterator[Setting]:
    for device, limit in (resources.rdma or {}).items():
        words = [device]
        if limit.hca_handles is not None:
            words.append(f"hca_handle={limit.hca_handles}")
        if limit.hca_objects is not None:
            words.append(f"hca_object={limit.hca_objects}")
        yield "rdma", "rdma.max", " ".join(words)


def _max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _pids(limit: int) -> str:
    return "max" if limit < 0 else str(limit + OWN_TASKS)
