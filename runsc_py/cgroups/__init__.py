"""A container's cgroups: make, limit, join, freeze, list, remove. v1, v2 and hybrid hosts, by files or by systemd.

    manager = make(cgroups_path, container_id, resources, required=..., warn=log.warning)
    manager.join(pids, ...)         # before those processes fork; systemd.make does both
    record = manager.record()       # into state.json; Manager.restore(record) later
    manager.remove()

Without `required` (no cgroup was asked for, or rootless), what cannot be made is a warning.
"""

import errno
import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from runsc_py.cgroups.files import read, read_int, read_ints, write
from runsc_py.cgroups.layout import Hierarchy, detect
from runsc_py.errors import RuntimeFault, errno_text

if TYPE_CHECKING:
    from runsc_py.spec import Resources

Warn = Callable[[str], None]


class Manager:
    """The container's directory in each hierarchy."""

    def __init__(self) -> None:
        self.v1: dict[str, str] = {}  # controller -> directory
        self.unified = ""  # directory in the v2 hierarchy
        self.made: list[str] = []  # directories made for this container, parents before children
        self.unit = ""  # the systemd scope that they belong to
        self.bus = ""  # the D-Bus address of the systemd that has it

    # -- state file

    def record(self) -> dict[str, Any]:
        return {"v1": self.v1, "unified": self.unified, "made": self.made, "unit": self.unit, "bus": self.bus}

    @classmethod
    def restore(cls, record: dict[str, Any]) -> "Manager":
        manager = cls()
        manager.v1 = dict(record.get("v1") or {})
        manager.unified = record.get("unified") or ""
        manager.made = list(record.get("made") or [])
        manager.unit, manager.bus = record.get("unit") or "", record.get("bus") or ""
        return manager

    def directories(self) -> list[str]:
        """Each directory once."""
        return list(dict.fromkeys([*self.v1.values(), *([self.unified] if self.unified else [])]))

    def directory_of(self, controller: str) -> str:
        """Where the files of a controller are; "" if nowhere."""
        return self.v1.get(controller) or (self.unified if self._in_unified(controller) else "")

    @property
    def only_unified(self) -> bool:
        """Is this host's cgroup v2 alone?"""
        return bool(self.unified) and not self.v1

    # -- placement

    def join(self, pids: list[int], required: bool, warn: Warn) -> None:
        """Move processes in. A directory that does not take them is given up: its limits would be a pretence."""
        for directory in self.directories():
            try:
                for pid in pids:
                    _move(directory, pid)
            except OSError as error:
                text = f"cgroup: cannot move a process to {directory}: {errno_text(error)}"
                if required and not (directory == self.unified and self.v1):
                    raise RuntimeFault(text) from None
                warn(text)
                self._give_up(directory)

    def _give_up(self, directory: str) -> None:
        self.v1 = {name: where for name, where in self.v1.items() if where != directory}
        if self.unified == directory:
            self.unified = ""
        try:
            os.rmdir(directory)
            self.made.remove(directory)
        except (OSError, ValueError):
            pass  # removed with the others, when the container is

    def processes(self) -> list[int]:
        """Every process inside, sub-cgroups included."""
        for directory in self.directories():
            if directory in self.made:
                pids: set[int] = set()
                for parent, _, _ in os.walk(directory):
                    pids.update(read_ints(f"{parent}/cgroup.procs"))
                return sorted(pids)
        return []

    # -- limits

    def apply(self, resources: "Resources", required: bool, warn: Warn) -> None:
        """Set what `resources` says, by systemd first where it has the unit: else it would undo it some day."""
        from runsc_py.cgroups import limits

        limits.check(resources, self.only_unified)
        for what in limits.ignored(resources, self.only_unified):
            warn(f"cgroup: {what}: ignored")
        if self.unit:
            from runsc_py.cgroups import systemd

            systemd.set_properties(self, resources, required, warn)
        pending = self._settings(resources, limits)
        while pending:
            controller, file, value = pending.pop(0)
            directory = self.directory_of(controller)
            if not directory:
                if required and file in (resources.unified or {}):
                    raise RuntimeFault(f'unified resource "{file}" can\'t be set: no controller "{controller}" here')
                warn(f"cgroup: no {controller} controller here: {file}={value} is not applied")
                continue
            try:
                write(f"{directory}/{file}", value)
            except OSError as error:
                if error.errno == errno.EINVAL and file == "cpu.cfs_period_us" and _has(pending, "cpu.cfs_quota_us"):
                    pending.insert(1, (controller, file, value))  # too short for the old quota: after the new one
                    continue
                text = f"cgroup: cannot write {value} to {directory}/{file}: {errno_text(error)}"
                if required:
                    raise RuntimeFault(text) from None
                warn(text)

    def _settings(self, resources: "Resources", limits: Any) -> list[tuple[str, str, str]]:
        """v1 files for the controllers that have a v1 hierarchy, v2 files for the rest."""
        settings = [s for s in limits.v1(resources, self._has) if s[0] in self.v1]
        taken = {"io" if name == "blkio" else name for name in self.v1}
        settings += [s for s in limits.v2(resources, self._has) if s[0] not in taken]
        memory = [s for s in settings if s[1] in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")]
        if len(memory) == 2 and self._raises_memory(int(memory[0][2])):
            at = settings.index(memory[0])  # memsw may never be below the limit: raise it first
            settings[at], settings[at + 1] = memory[1], memory[0]
        return settings

    def _raises_memory(self, limit: int) -> bool:
        current = read_int(f"{self.v1['memory']}/memory.memsw.limit_in_bytes")
        return limit == -1 or (current is not None and limit > current)

    def _in_unified(self, controller: str) -> bool:
        return bool(self.unified) and (
            controller == "cgroup" or controller in read(f"{self.unified}/cgroup.controllers").split()
        )

    def _has(self, file: str) -> bool:
        """Is there such a file in the container's cgroup of that controller?"""
        directory = self.directory_of(file.partition(".")[0])
        return bool(directory) and os.path.exists(f"{directory}/{file}")

    # -- freezing

    def can_freeze(self) -> bool:
        return bool(self.v1.get("freezer")) or self._has("cgroup.freeze")

    def freeze(self, frozen: bool, timeout: float = 2.0) -> bool:
        """Freeze or thaw; True once it is so. A freeze that does not come about in time is undone: a guest is in a
        call that the sentry, frozen itself, does not answer any more. It has to be told first (its `hold`)."""
        end = time.monotonic() + timeout
        try:
            self._ask_freeze(frozen)
            while self.frozen() != frozen:
                if time.monotonic() >= end:
                    if frozen:
                        self._ask_freeze(False)
                    return False
                time.sleep(0.002)
        except OSError:
            return False
        return True

    def _ask_freeze(self, frozen: bool) -> None:
        if directory := self.v1.get("freezer"):
            write(f"{directory}/freezer.state", "FROZEN" if frozen else "THAWED")
        else:
            write(f"{self.unified}/cgroup.freeze", "1" if frozen else "0")

    def frozen(self) -> bool:
        if directory := self.v1.get("freezer"):
            return read(f"{directory}/freezer.state") == "FROZEN"
        return bool(self.unified) and "frozen 1" in read(f"{self.unified}/cgroup.events")

    # -- the end

    def remove(self, warn: Warn | None = None, timeout: float = 2.0) -> None:
        """Remove what was made, children first. Parents go only when nobody else lives in them."""
        if self.unit:
            from runsc_py.cgroups import systemd

            systemd.stop(self)
        leaves = set(self.directories())
        end = time.monotonic() + timeout
        for directory in reversed(self.made):
            while True:
                try:
                    if directory in leaves:
                        _remove_below(directory)
                    os.rmdir(directory)
                except FileNotFoundError:
                    pass
                except OSError as error:
                    if directory in leaves:
                        if time.monotonic() < end:
                            time.sleep(0.005)
                            continue
                        if warn:
                            warn(f"cgroup: cannot remove {directory}: {errno_text(error)}")
                break


def make(
    cgroups_path: str,
    container_id: str,
    resources: "Resources | None",
    required: bool,
    warn: Warn,
    hierarchies: list[Hierarchy] | None = None,
) -> Manager:
    """The container's cgroups, made and limited. On failure nothing of them is left."""
    manager = Manager()
    path = cgroups_path or container_id
    if ".." in path.split("/"):
        raise RuntimeFault(f"config.json: linux.cgroupsPath: {path} must not contain ..")
    try:
        for hierarchy in detect() if hierarchies is None else hierarchies:
            _make_in(manager, hierarchy, path, required, warn)
        if resources is not None:
            manager.apply(resources, required, warn)
    except BaseException:
        manager.remove()
        raise
    return manager


def _make_in(manager: Manager, hierarchy: Hierarchy, path: str, required: bool, warn: Warn) -> None:
    directory = hierarchy.directory(path)
    try:
        _make_directories(manager, directory, hierarchy)
    except OSError as error:
        text = f"cgroup: cannot make {directory}: {errno_text(error)}"
        if required and not (hierarchy.unified and manager.v1):
            raise RuntimeFault(text) from None
        warn(text)
        return
    if hierarchy.unified:
        manager.unified = directory
    else:
        for controller in hierarchy.controllers:
            manager.v1[controller] = directory


def _make_directories(manager: Manager, directory: str, hierarchy: Hierarchy) -> None:
    """mkdir -p, remembering what was made, and with what each level needs to let its children have limits."""
    levels = []
    at = directory
    while at != hierarchy.mountpoint and len(at) > len(hierarchy.mountpoint):
        levels.append(at)
        at = os.path.dirname(at)
    for level in reversed(levels):
        if hierarchy.unified:
            _delegate(os.path.dirname(level))
        for _ in range(3):
            try:
                os.mkdir(level, 0o755)
                _mark(level)
                manager.made.append(level)
            except FileExistsError:
                if level == directory or _marked(level):
                    manager.made.append(level)  # a leaf is ours, made or found, as with runc
            except FileNotFoundError:  # the parent was removed by the container before us: make it again
                os.makedirs(os.path.dirname(level), 0o755, exist_ok=True)
                continue
            break
        if "cpuset" in hierarchy.controllers and not hierarchy.unified:
            _copy_cpuset(level)


_MARK = "user.runsc-py"  # of a directory that one of our containers made: the last one that lives below removes it


def _mark(directory: str) -> None:
    try:
        os.setxattr(directory, _MARK, b"made")
    except OSError:
        pass  # then its maker alone removes it


def _marked(directory: str) -> bool:
    try:
        return os.getxattr(directory, _MARK) == b"made"
    except OSError:
        return False


def _delegate(directory: str) -> None:
    """Let the children of a v2 cgroup have every controller it has itself."""
    available = read(f"{directory}/cgroup.controllers").split()
    given = read(f"{directory}/cgroup.subtree_control").split()
    for controller in available:
        if controller in given:
            continue
        try:
            write(f"{directory}/cgroup.subtree_control", f"+{controller}")
        except OSError:
            pass  # a cgroup with processes may not; the limit itself will say so


def _copy_cpuset(directory: str) -> None:
    """A v1 cpuset starts empty and admits nobody until it has cpus and mems."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        if read(f"{directory}/{name}"):
            continue
        try:
            write(f"{directory}/{name}", read(f"{os.path.dirname(directory)}/{name}"))
        except OSError:
            continue


def _remove_below(directory: str) -> None:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            _remove_below(entry.path)
            os.rmdir(entry.path)


def _move(directory: str, pid: int) -> None:
    try:
        write(f"{directory}/cgroup.procs", str(pid))
    except ProcessLookupError:
        pass  # it has ended, and tells why itself


def _has(settings: list[tuple[str, str, str]], file: str) -> bool:
    return any(setting[1] == file for setting in settings)
