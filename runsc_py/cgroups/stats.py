"""Resource use of a container's cgroup, in the shape of runc's `events --stats`."""

import os
from typing import Any

from runsc_py.cgroups import Manager
from runsc_py.cgroups.files import read, read_int, read_ints, read_pairs, read_ranges
from runsc_py.cgroups.limits import OWN_TASKS

_TICK_NS = 10**7  # USER_HZ is 100 everywhere


def collect(record: dict[str, Any]) -> dict[str, Any]:
    manager = Manager.restore(record)
    return {
        "cpu": _cpu(manager),
        "cpuset": _cpuset(manager),
        "memory": _memory(manager),
        "pids": _pids(manager),
        "blkio": _blkio(manager),
        "hugetlb": _hugetlb(manager),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _cpu(manager: Manager) -> dict[str, Any]:
    usage: dict[str, Any] = {"total": 0, "kernel": 0, "user": 0}
    if directory := manager.v1.get("cpuacct"):
        usage["total"] = read_int(f"{directory}/cpuacct.usage") or 0
        for name in ("percpu", "percpu_sys", "percpu_user"):
            if numbers := read_ints(f"{directory}/cpuacct.usage_{name}"):
                usage[name.replace("sys", "kernel")] = numbers
        ticks = read_pairs(f"{directory}/cpuacct.stat")
        usage["kernel"], usage["user"] = (ticks.get(n, 0) * _TICK_NS for n in ("system", "user"))
        stat = read_pairs(f"{manager.v1['cpu']}/cpu.stat") if "cpu" in manager.v1 else {}
        throttled_ns = stat.get("throttled_time", 0)
    elif manager.unified:
        stat = read_pairs(f"{manager.unified}/cpu.stat")
        usage["total"] = stat.get("usage_usec", 0) * 1000
        usage["kernel"], usage["user"] = (stat.get(f"{n}_usec", 0) * 1000 for n in ("system", "user"))
        throttled_ns = stat.get("throttled_usec", 0) * 1000
    else:
        return {"usage": usage, "throttling": {}}
    named = {
        "periods": stat.get("nr_periods", 0),
        "throttledPeriods": stat.get("nr_throttled", 0),
        "throttledTime": throttled_ns,
    }
    throttling = {name: value for name, value in named.items() if value}
    return {"usage": usage, "throttling": throttling}


_CPUSET_FLAGS = (
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
)


def _cpuset(manager: Manager) -> dict[str, Any]:
    directory = manager.directory_of("cpuset")
    if not directory:
        return {}
    found: dict[str, Any] = {
        "cpus": read_ranges(f"{directory}/cpuset.cpus"),
        "mems": read_ranges(f"{directory}/cpuset.mems"),
    }
    for name in _CPUSET_FLAGS:
        value = read_int(f"{directory}/cpuset.{name}")
        if value is not None:
            found[name] = value
    return found


def _memory(manager: Manager) -> dict[str, Any]:
    if directory := manager.v1.get("memory"):
        raw = read_pairs(f"{directory}/memory.stat")
        return {
            "cache": raw.get("cache", 0),
            "usage": _v1_memory(directory, "memory"),
            "swap": _v1_memory(directory, "memory.memsw"),
            "kernel": _v1_memory(directory, "memory.kmem"),
            "kernelTCP": _v1_memory(directory, "memory.kmem.tcp"),
            "raw": raw,
        }
    if manager.unified and os.path.exists(f"{manager.unified}/memory.current"):
        raw = read_pairs(f"{manager.unified}/memory.stat")
        usage = _v2_memory(manager.unified, "memory")
        swap = _v2_memory(manager.unified, "memory.swap")
        for name in ("limit", "usage"):  # v1's are of memory and swap together, and clients expect that
            if name in swap:
                swap[name] = min(swap[name] + usage.get(name, 0), 2**64 - 1)
        swap.pop("max", None)
        return {"cache": raw.get("file", 0), "usage": usage, "swap": swap, "kernel": {"failcnt": 0},
                "kernelTCP": {"failcnt": 0}, "raw": raw}  # fmt: skip
    return {"usage": {"limit": 0, "failcnt": 0}, "raw": {}}


def _v1_memory(directory: str, prefix: str) -> dict[str, int]:
    files = (
        ("limit", "limit_in_bytes"),
        ("usage", "usage_in_bytes"),
        ("max", "max_usage_in_bytes"),
        ("failcnt", "failcnt"),
    )
    values = {name: read_int(f"{directory}/{prefix}.{file}") for name, file in files}
    return {"failcnt": 0, **{name: value for name, value in values.items() if value is not None}}


def _v2_memory(directory: str, prefix: str) -> dict[str, int]:
    files = (("limit", "max"), ("usage", "current"), ("max", "peak"))
    values = {name: read_int(f"{directory}/{prefix}.{file}") for name, file in files}
    failures = read_pairs(f"{directory}/{prefix}.events").get("max", 0)
    return {**{name: value for name, value in values.items() if value is not None}, "failcnt": failures}


def _pids(manager: Manager) -> dict[str, int]:
    directory = manager.directory_of("pids")
    if not directory:
        return {}
    found = {"current": max(0, (read_int(f"{directory}/pids.current") or 0) - OWN_TASKS)}
    limit = read_int(f"{directory}/pids.max")
    if limit is not None and limit < 2**63:
        found["limit"] = limit - OWN_TASKS
    return found


def _blkio(manager: Manager) -> dict[str, Any]:
    """Bytes and operations by device, under v1's names."""
    found: dict[str, Any] = {}
    directory = manager.v1.get("blkio", "")
    for scheduler in ("bfq.", "throttle."):  # BFQ's own count is of what it schedules alone: others may be empty
        for name, file in (("ioServiceBytesRecursive", "io_service_bytes"), ("ioServicedRecursive", "io_serviced")):
            if directory and not found.get(name):
                found[name] = _v1_io(f"{directory}/blkio.{scheduler}{file}_recursive")
    if manager.directory_of("io"):
        found = _v2_io(f"{manager.unified}/io.stat")
    return {name: entries for name, entries in found.items() if entries}


def _v1_io(path: str) -> list[dict[str, Any]]:
    """Lines of `major:minor op value`, after which comes a total."""
    rows = [line.split() for line in read(path).splitlines()]
    return [_io_entry(row[0], row[1], int(row[2])) for row in rows if len(row) == 3]


_V2_IO = {
    "rbytes": ("ioServiceBytesRecursive", "Read"),
    "wbytes": ("ioServiceBytesRecursive", "Write"),
    "rios": ("ioServicedRecursive", "Read"),
    "wios": ("ioServicedRecursive", "Write"),
}


def _v2_io(path: str) -> dict[str, Any]:
    """Lines of `major:minor key=value ...`."""
    found: dict[str, Any] = {}
    for line in read(path).splitlines():
        device, *pairs = line.split()
        for pair in pairs:
            key, _, value = pair.partition("=")
            if key in _V2_IO and value.isdigit():
                name, operation = _V2_IO[key]
                found.setdefault(name, []).append(_io_entry(device, operation, int(value)))
    return found


def _io_entry(device: str, operation: str, value: int) -> dict[str, Any]:
    major, _, minor = device.partition(":")
    entry = {"major": int(major), "minor": int(minor), "op": operation, "value": value}
    return {name: value for name, value in entry.items() if value}


def _hugetlb(manager: Manager) -> dict[str, Any]:
    """By page size."""
    directory = manager.directory_of("hugetlb")
    if not os.path.isdir(directory):
        return {}
    current = "current" if directory == manager.unified else "usage_in_bytes"
    found: dict[str, Any] = {}
    for name in sorted(os.listdir(directory)):
        size = name.removeprefix("hugetlb.").removesuffix("." + current)
        if name != f"hugetlb.{size}.{current}" or "." in size:
            continue
        entry = {"usage": read_int(f"{directory}/{name}"), "failcnt": 0}
        if directory == manager.unified:
            entry["failcnt"] = read_pairs(f"{directory}/hugetlb.{size}.events").get("max", 0)
        else:
            entry["max"] = read_int(f"{directory}/hugetlb.{size}.max_usage_in_bytes")
            entry["failcnt"] = read_int(f"{directory}/hugetlb.{size}.failcnt")
        found[size] = {key: value for key, value in entry.items() if value or key == "failcnt"}
    return found
