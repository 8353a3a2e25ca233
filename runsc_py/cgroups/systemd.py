"""--systemd-cgroup: the container's cgroup is a transient scope of systemd, and cgroupsPath is slice:prefix:name.

    manager = make(path, container, resources, pids, required, warn)    # a Manager that knows its unit
    set_properties(manager, resources, ...)                             # called by its apply
    stop(manager)                                                       # called by its remove

systemd makes the cgroup, with limits as properties of the unit (else it would undo them when it next looks), and with
Delegate=yes, so that what is in it is ours. The files are written too: not every limit has a property. Where systemd
is not the host's init, directories stand in for the scope, where it would have made it.
"""

from typing import TYPE_CHECKING, Any

from runsc_py import cgroups
from runsc_py.cgroups import dbus, limits
from runsc_py.cgroups.files import parse_ranges
from runsc_py.errors import RuntimeFault

if TYPE_CHECKING:
    from runsc_py.cgroups.dbus import Property
    from runsc_py.spec import Resources
    from runsc_py.state import Container

_PREFIX = "org.systemd.property."  # of annotations that are properties of the unit
_U64_MAX = 2**64 - 1


class Unit:
    """What cgroupsPath says: `slice` and `name` of the scope."""

    def __init__(self, cgroups_path: str, container_id: str, rootless: bool = False) -> None:
        default = "user.slice" if rootless else "system.slice"
        parts = (cgroups_path or f"{default}:runsc-py:{container_id}").split(":")
        if len(parts) != 3:
            raise RuntimeFault(f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, '
                               f'got "{cgroups_path}" instead')  # fmt: skip
        self.slice = parts[0] or default
        self.name = f"{parts[1]}-{parts[2]}.scope" if parts[1] else f"{parts[2]}.scope"
        if not self.slice.endswith(".slice") or "/" in self.slice + self.name or parts[2].endswith(".slice"):
            raise RuntimeFault(f"invalid systemd unit in cgroupsPath: {cgroups_path}")

    @property
    def path(self) -> str:
        """The cgroup in which systemd would put it: a-b.slice lies in a.slice."""
        directory, steps = "", self.slice.removesuffix(".slice").split("-")
        if self.slice != "-.slice":
            for count in range(1, len(steps) + 1):
                directory += "/" + "-".join(steps[:count]) + ".slice"
        return f"{directory}/{self.name}"


def make(
    cgroups_path: str,
    container: "Container",
    resources: "Resources | None",
    pids: list[int],
    required: bool,
    warn: cgroups.Warn,
) -> cgroups.Manager:
    """The container's cgroup with `pids` in it, limited. On failure nothing of it is left."""
    unit = Unit(cgroups_path, container.id, container.rootless)
    if not dbus.booted():
        warn("systemd does not run here: the cgroups are made without it")
        manager = cgroups.make(unit.path, container.id, resources, required, warn)
        manager.join(pids, required, warn)
        return manager
    try:
        address = dbus.user_address() if container.rootless else dbus.system_address()
        path = _start_scope(address, unit, container, resources, pids)
    except dbus.BusError as error:
        if required:
            raise
        warn(f"cgroup: {error}: the container runs without limits")
        return cgroups.Manager()
    made = cgroups.Manager()
    made.unit, made.bus = unit.name, address
    try:
        manager = cgroups.make(path, container.id, resources, required, warn)
        manager.unit, manager.bus = unit.name, address
        manager.join(pids, required, warn)
    except BaseException:
        stop(made)
        raise
    return manager


def _start_scope(
    address: str, unit: Unit, container: "Container", resources: "Resources | None", pids: list[int]
) -> str:
    """Start the scope; its cgroup."""
    with dbus.Systemd(address) as systemd:
        wanted: dict[str, tuple[str, Any]] = {
            "Description": ("s", f"runsc-py container {container.id}"),
            "Slice": ("s", unit.slice),
            "Delegate": ("b", True),
            "DefaultDependencies": ("b", False),
            "CollectMode": ("s", "inactive-or-failed"),  # nobody looks at one whose container was killed for memory
            "PIDs": ("au", pids),
        }
        for accounting in ("CPU", "Memory", "IO", "Tasks"):
            wanted[f"{accounting}Accounting"] = ("b", True)
        for name, value in container.annotations.items():
            if name.startswith(_PREFIX):
                wanted[name.removeprefix(_PREFIX)] = annotation(name, value)
        if resources is not None:
            wanted.update(properties(resources, _only_unified()))
        body: tuple[Any, ...] = (unit.name, "replace", list(wanted.items()), [])
        try:
            systemd.job("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
        except dbus.BusError as error:
            if not error.name.endswith(".UnitExists"):
                raise
            _reset_failed(systemd, unit.name)  # what a container of that name left when it failed
            systemd.job("StartTransientUnit", "ssa(sv)a(sa(sv))", body)
        return str(systemd.get(unit.name, "Scope", "ControlGroup"))


def set_properties(manager: cgroups.Manager, resources: "Resources", required: bool, warn: cgroups.Warn) -> None:
    """Tell systemd of changed limits."""
    wanted = properties(resources, manager.only_unified)
    if not wanted:
        return
    try:
        with dbus.Systemd(manager.bus) as systemd:
            systemd.call("SetUnitProperties", "sba(sv)", (manager.unit, True, wanted))
    except dbus.BusError as error:
        if required:
            raise
        warn(f"cgroup: {error}")


def stop(manager: cgroups.Manager) -> None:
    """End the scope; nothing when it is gone, as it is by itself soon after its last process."""
    try:
        with dbus.Systemd(manager.bus) as systemd:
            try:
                systemd.job("StopUnit", "ss", (manager.unit, "replace"))
            finally:
                _reset_failed(systemd, manager.unit)
    except dbus.BusError:
        pass  # the directories are removed next, or else complained of


def _reset_failed(systemd: dbus.Systemd, name: str) -> None:
    try:
        systemd.call("ResetFailedUnit", "s", (name,))
    except dbus.BusError:
        pass  # it has not failed, or is gone


def _only_unified() -> bool:
    from runsc_py.cgroups.layout import detect

    return all(hierarchy.unified for hierarchy in detect())


def properties(resources: "Resources", unified: bool) -> "list[Property]":
    """The limits that systemd has properties for, of systemd.resource-control(5)."""
    found: list[Property] = []
    if memory := resources.memory:
        if memory.limit:
            found.append(("MemoryMax" if unified else "MemoryLimit", _u64(memory.limit)))
        if unified:
            if memory.reservation:
                found.append(("MemoryLow", _u64(memory.reservation)))
            for _, file, value in limits.v2(resources):
                if file == "memory.swap.max":
                    found.append(("MemorySwapMax", _u64(-1 if value == "max" else int(value))))
    if cpu := resources.cpu:
        if cpu.shares and not cpu.idle:
            found.append(
                ("CPUWeight", _u64(limits.shares_to_weight(cpu.shares))) if unified else ("CPUShares", _u64(cpu.shares))
            )
        if cpu.quota or cpu.period:
            found += _quota(cpu.quota or 0, cpu.period or 0)
        if unified and cpu.cpus:
            found.append(("AllowedCPUs", _mask(cpu.cpus)))
        if unified and cpu.mems:
            found.append(("AllowedMemoryNodes", _mask(cpu.mems)))
    if resources.pids and resources.pids.limit:
        limit = resources.pids.limit
        found.append(("TasksMax", _u64(limit if limit < 0 else limit + limits.OWN_TASKS)))
    if not unified and resources.block_io and resources.block_io.weight:
        found.append(("BlockIOWeight", _u64(resources.block_io.weight)))
    found += _of_unified(resources.unified or {})
    return found


def _of_unified(given: dict[str, str]) -> "list[Property]":
    """Those keys of the spec's `unified` that have a property; the others are files alone."""
    found: list[Property] = []
    try:
        for key, value in given.items():
            if key in _UNIFIED:
                found.append((_UNIFIED[key], _u64(-1 if value == "max" else int(value))))
            elif key in ("cpuset.cpus", "cpuset.mems"):
                found.append(("AllowedCPUs" if key == "cpuset.cpus" else "AllowedMemoryNodes", _mask(value)))
            elif key == "cpu.max":
                quota, _, period = value.partition(" ")
                found += _quota(-1 if quota == "max" else int(quota), int(period or limits.DEFAULT_PERIOD_US))
    except ValueError:
        raise RuntimeFault(f'unified resource "{key}": invalid value "{value}"') from None
    return found


_UNIFIED = {
    "cpu.weight": "CPUWeight",
    "memory.min": "MemoryMin",
    "memory.low": "MemoryLow",
    "memory.high": "MemoryHigh",
    "memory.max": "MemoryMax",
    "memory.swap.max": "MemorySwapMax",
    "pids.max": "TasksMax",
}


def _quota(quota: int, period: int) -> "list[Property]":
    """CPU time in microseconds a second, in steps of 10 ms, as systemd keeps it."""
    per_second = _U64_MAX
    if quota > 0:
        per_second = quota * 1_000_000 // (period or limits.DEFAULT_PERIOD_US)
        per_second = -(-per_second // 10_000) * 10_000
    found: list[Property] = [("CPUQuotaPeriodUSec", ("t", period))] if period else []
    return [*found, ("CPUQuotaPerSecUSec", ("t", per_second))]


def _u64(value: int) -> tuple[str, int]:
    return "t", _U64_MAX if value < 0 else value


def _mask(ranges: str) -> tuple[str, bytes]:
    """`0-2,5` as a bit mask, lowest byte first."""
    try:
        mask = sum(1 << number for number in set(parse_ranges(ranges)))
    except ValueError:
        raise RuntimeFault(f'invalid list of cpus or memory nodes: "{ranges}"') from None
    return "ay", mask.to_bytes((mask.bit_length() + 7) // 8 or 1, "little")


def annotation(name: str, text: str) -> tuple[str, Any]:
    """An annotation's value, in GVariant's text form, as D-Bus type and value. A name in ...Sec is given in seconds
    for the property in ...USec: those are not taken, as no client writes them."""
    word, _, rest = text.partition(" ")
    try:
        if text in ("true", "false"):
            return "b", text == "true"
        if word in _INTEGERS:
            return _INTEGERS[word], int(rest, 0)
        if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
            return "s", text[1:-1]
        return "i", int(text, 0)
    except ValueError:
        raise RuntimeFault(f"annotation {name}: value {text} is not understood") from None


_INTEGERS = {"byte": "y", "int16": "n", "uint16": "q", "int32": "i", "uint32": "u", "int64": "x", "uint64": "t"}
