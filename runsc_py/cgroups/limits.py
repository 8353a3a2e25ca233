"""The spec's linux.resources as files to write, for cgroup v1 and v2. Zero: leave as it is; -1: no limit.

`v1(resources)` and `v2(resources)` give (controller, file, value) in the order in which they must be written.
"""

from collections.abc import Iterator

from runsc_py.spec import BlockIO, Cpu, Resources

Setting = tuple[str, str, str]
OWN_TASKS = 4  # of ours in the container's cgroup: gofer, sentry with its watching thread, zygote


def v1(resources: Resources) -> Iterator[Setting]:
    if memory := resources.memory:
        if memory.limit:
            yield "memory", "memory.limit_in_bytes", str(memory.limit)
        if memory.swap or (memory.limit == -1 and not memory.swap):
            yield "memory", "memory.memsw.limit_in_bytes", str(memory.swap or -1)
        if memory.reservation:
            yield "memory", "memory.soft_limit_in_bytes", str(memory.reservation)
        if memory.kernel_tcp:
            yield "memory", "memory.kmem.tcp.limit_in_bytes", str(memory.kernel_tcp)
        if memory.swappiness is not None and 0 <= memory.swappiness <= 100:
            yield "memory", "memory.swappiness", str(memory.swappiness)
        if memory.disable_oom_killer:
            yield "memory", "memory.oom_control", "1"
    if cpu := resources.cpu:
        if cpu.shares:
            yield "cpu", "cpu.shares", str(cpu.shares)
        if cpu.idle is not None:
            yield "cpu", "cpu.idle", str(cpu.idle)
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
        if block.weight:
            yield "blkio", "blkio.weight", str(block.weight)
        for weight in block.weight_device or ():
            if weight.weight:
                yield "blkio", "blkio.weight_device", f"{weight.major}:{weight.minor} {weight.weight}"
        for name, throttles in _throttles(block):
            for device in throttles:
                value = f"{device.major}:{device.minor} {device.rate}"
                yield "blkio", f"blkio.throttle.{_V1_THROTTLE[name]}", value
    for huge in resources.hugepage_limits or ():
        yield "hugetlb", f"hugetlb.{huge.page_size}.limit_in_bytes", str(huge.limit)


def v2(resources: Resources) -> Iterator[Setting]:
    if memory := resources.memory:
        if memory.limit:
            yield "memory", "memory.max", _max(memory.limit)
        if memory.swap:
            # The spec counts memory and swap together, v2 swap alone.
            swap = memory.swap if memory.swap < 0 else memory.swap - (memory.limit or 0)
            yield "memory", "memory.swap.max", _max(max(swap, 0) if memory.swap > 0 else -1)
        if memory.reservation:
            yield "memory", "memory.low", _max(memory.reservation)
    if cpu := resources.cpu:
        if cpu.shares:
            yield "cpu", "cpu.weight", str(shares_to_weight(cpu.shares))
        if cpu.idle is not None:
            yield "cpu", "cpu.idle", str(cpu.idle)
        if cpu.quota or cpu.period:
            quota = str(cpu.quota) if cpu.quota and cpu.quota > 0 else "max"
            yield "cpu", "cpu.max", f"{quota} {cpu.period or 100000}"
        if cpu.burst:
            yield "cpu", "cpu.max.burst", str(cpu.burst)
        yield from _cpuset(cpu)
    if resources.pids and resources.pids.limit:
        yield "pids", "pids.max", _pids(resources.pids.limit)
    if block := resources.block_io:
        if block.weight:
            yield "io", "io.weight", f"default {1 + (block.weight - 10) * 9999 // 990}"
        for name, throttles in _throttles(block):
            for device in throttles:
                yield "io", "io.max", f"{device.major}:{device.minor} {name}={_max(device.rate or -1)}"
    for huge in resources.hugepage_limits or ():
        yield "hugetlb", f"hugetlb.{huge.page_size}.max", str(huge.limit)
    for name, value in (resources.unified or {}).items():
        yield name.partition(".")[0], name, value


def shares_to_weight(shares: int) -> int:
    """cpu.shares (2..262144) as cpu.weight (1..10000)."""
    shares = min(max(shares, 2), 262144)
    return 1 + (shares - 2) * 9999 // 262142


_V1_THROTTLE = {
    "rbps": "read_bps_device",
    "wbps": "write_bps_device",
    "riops": "read_iops_device",
    "wiops": "write_iops_device",
}


def _throttles(block: BlockIO):  # type: ignore[no-untyped-def]
    yield "rbps", block.throttle_read_bps_device or ()
    yield "wbps", block.throttle_write_bps_device or ()
    yield "riops", block.throttle_read_iops_device or ()
    yield "wiops", block.throttle_write_iops_device or ()


def _cpuset(cpu: Cpu) -> Iterator[Setting]:
    if cpu.cpus:
        yield "cpuset", "cpuset.cpus", cpu.cpus
    if cpu.mems:
        yield "cpuset", "cpuset.mems", cpu.mems


def _max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _pids(limit: int) -> str:
    return "max" if limit < 0 else str(limit + OWN_TASKS)
