"""Resource use of a container's cgroup, in the shape of runc's `events --stats`."""

import os
from typing import Any

from runsc_py.cgroups import Manager, read_int
from runsc_py.cgroups.limits import OWN_TASKS

_TICK_NS = 10**7  # USER_HZ is 100 everywhere


def collect(record: dict[str, Any]) -> dict[str, Any]:
    manager = Manager.restore(record)
    return {
        "cpu": _cpu(manager),
        "cpuset": _cpuset(manager),
        "memory": _memory(manager),
        "pids": _pids(manager),
        "blkio": {},
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _cpu(manager: Manager) -> dict[str, Any]:
    usage: dict[str, Any] = {"total": 0, "kernel": 0, "user": 0}
    if directory := manager.v1.get("cpuacct"):
        usage["total"] = read_int(f"{directory}/cpuacct.usage") or 0
        for name in ("percpu", "percpu_sys", "percpu_user"):
            if numbers := _numbers(f"{directory}/cpuacct.usage_{name}"):
                usage[name.replace("sys", "kernel")] = numbers
        ticks = _pairs(f"{directory}/cpuacct.stat")
        usage["kernel"], usage["user"] = (ticks.get(n, 0) * _TICK_NS for n in ("system", "user"))
        stat = _pairs(f"{manager.v1['cpu']}/cpu.stat") if "cpu" in manager.v1 else {}
        throttled_ns = stat.get("throttled_time", 0)
    elif manager.unified:
        stat = _pairs(f"{manager.unified}/cpu.stat")
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
        "cpus": _ranges(f"{directory}/cpuset.cpus"),
        "mems": _ranges(f"{directory}/cpuset.mems"),
    }
    for name in _CPUSET_FLAGS:
        value = read_int(f"{directory}/cpuset.{name}")
        if value is not None:
            found[name] = value
    return found


def _memory(manager: Manager) -> dict[str, Any]:
    if directory := manager.v1.get("memory"):
        raw = _pairs(f"{directory}/memory.stat")
        return {
            "cache": raw.get("cache", 0),
            "usage": _v1_memory(directory, "memory"),
            "swap": _v1_memory(directory, "memory.memsw"),
            "kernel": _v1_memory(directory, "memory.kmem"),
            "kernelTCP": _v1_memory(directory, "memory.kmem.tcp"),
            "raw": raw,
        }
    if manager.unified and os.path.exists(f"{manager.unified}/memory.current"):
        raw = _pairs(f"{manager.unified}/memory.stat")
        usage = _v2_memory(manager.unified, "memory")
        swap = _v2_memory(manager.unified, "memory.swap")
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
    failures = _pairs(f"{directory}/{prefix}.events").get("max", 0)
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


def _pairs(path: str) -> dict[str, int]:
    """A file of `name number` lines."""
    found = {}
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                name, _, value = line.strip().partition(" ")
                if value.isdigit():
                    found[name] = int(value)
    except OSError:
        pass
    return found


def _numbers(path: str) -> list[int]:
    try:
        with open(path, encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except (OSError, ValueError):
        return []


def _ranges(path: str) -> list[int]:
    """`0-2,5` -> [0, 1, 2, 5]."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
        found: list[int] = []
        for part in text.split(",") if text else ():
            first, _, last = part.partition("-")
            found += range(int(first), int(last or first) + 1)
        return found
    except (OSError, ValueError):
        return []
