"""A container's cgroups: make, limit, join, freeze, list, remove. v1, v2 and hybrid hosts.

    manager = make(cgroups_path, container_id, resources, required=..., warn=log.warning)
    manager.join(pid)               # before that process forks
    record = manager.record()       # into state.json; Manager.restore(record) later
    manager.remove()

Without `required` (no cgroup was asked for, or rootless), what cannot be made is a warning.
"""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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

    # -- state file

    def record(self) -> dict[str, Any]:
        return {"v1": self.v1, "unified": self.unified, "made": self.made}

    @classmethod
    def restore(cls, record: dict[str, Any]) -> "Manager":
        manager = cls()
        manager.v1 = dict(record.get("v1") or {})
        manager.unified = record.get("unified") or ""
        manager.made = list(record.get("made") or [])
        return manager

    def directories(self) -> list[str]:
        """Each directory once."""
        return list(dict.fromkeys([*self.v1.values(), *([self.unified] if self.unified else [])]))

    def directory_of(self, controller: str) -> str:
        """Where the files of a controller are; "" if nowhere."""
        return self.v1.get(controller) or (self.unified if self._in_unified(controller) else "")

    # -- placement

    def join(self, pid: int) -> None:
        """Move a process in. Silent where it may not: limits were checked when they were set."""
        for directory in self.directories():
            try:
                _write(f"{directory}/cgroup.procs", str(pid))
            except OSError:
                pass

    def processes(self) -> list[int]:
        """Every process inside, sub-cgroups included."""
        for directory in self.directories():
            if directory in self.made:
                pids: set[int] = set()
                for parent, _, _ in os.walk(directory):
                    pids.update(_read_ints(f"{parent}/cgroup.procs"))
                return sorted(pids)
        return []

    # -- limits

    def apply(self, resources: "Resources", required: bool, warn: Warn) -> None:
        from runsc_py.cgroups import limits

        for controller, file, value in self._settings(resources, limits):
            directory = self.directory_of(controller)
            if not directory:
                warn(f"cgroup: no {controller} controller here: {file}={value} is not applied")
                continue
            try:
                _write(f"{directory}/{file}", value)
            except OSError as error:
                text = f"cgroup: cannot write {value} to {directory}/{file}: {errno_text(error)}"
                if not required or _optional(file, error):
                    warn(text)
                else:
                    raise RuntimeFault(text) from None

    def _settings(self, resources: "Resources", limits: Any) -> list[tuple[str, str, str]]:
        """v1 files for the controllers that have a v1 hierarchy, v2 files for the rest."""
        settings = [s for s in limits.v1(resources) if s[0] in self.v1]
        old = {"blkio": "io"}
        taken = {old.get(name, name) for name in self.v1}
        settings += [s for s in limits.v2(resources) if s[0] not in taken]
        memory = [s for s in settings if s[1] in ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes")]
        if len(memory) == 2 and self._raises_memory(int(memory[0][2])):
            at = settings.index(memory[0])  # memsw may never be below the limit: raise it first
            settings[at], settings[at + 1] = memory[1], memory[0]
        return settings

    def _raises_memory(self, limit: int) -> bool:
        current = read_int(f"{self.v1['memory']}/memory.memsw.limit_in_bytes")
        return limit == -1 or (current is not None and limit > current)

    def _in_unified(self, controller: str) -> bool:
        if not self.unified:
            return False
        try:
            with open(f"{self.unified}/cgroup.controllers", encoding="ascii") as file:
                return controller in file.read().split()
        except OSError:
            return False

    # -- freezing

    def can_freeze(self) -> bool:
        return bool(self.v1.get("freezer")) or bool(self.unified and os.path.exists(f"{self.unified}/cgroup.freeze"))

    def freeze(self, frozen: bool, timeout: float = 2.0) -> bool:
        """Freeze or thaw; True once it is so. A freeze that does not come about in time is undone."""
        end = time.monotonic() + timeout
        try:
            while True:
                self._ask_freeze(frozen)
                for _ in range(25):
                    if self.frozen() == frozen:
                        return True
                    time.sleep(0.002)
                if time.monotonic() >= end:
                    break
                # A task in a call that the frozen sentry does not answer cannot freeze: let it run on.
                if frozen:
                    self._ask_freeze(False)
                    time.sleep(0.005)
            if frozen:
                self._ask_freeze(False)
        except OSError:
            pass
        return False

    def _ask_freeze(self, frozen: bool) -> None:
        if directory := self.v1.get("freezer"):
            _write(f"{directory}/freezer.state", "FROZEN" if frozen else "THAWED")
        else:
            _write(f"{self.unified}/cgroup.freeze", "1" if frozen else "0")

    def frozen(self) -> bool:
        try:
            if directory := self.v1.get("freezer"):
                with open(f"{directory}/freezer.state", encoding="ascii") as file:
                    return file.read().strip() == "FROZEN"
            with open(f"{self.unified}/cgroup.events", encoding="ascii") as file:
                return "frozen 1" in file.read()
        except OSError:
            return False

    # -- the end

    def remove(self, warn: Warn | None = None, timeout: float = 2.0) -> None:
        """Remove what was made, children first. Parents go only when nobody else lives in them."""
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


def systemd_path(cgroups_path: str, container_id: str) -> str:
    """`slice:prefix:name` as the directory systemd would use for that scope."""
    if not cgroups_path:
        cgroups_path = f"system.slice:runsc-py:{container_id}"
    parts = cgroups_path.split(":")
    if len(parts) != 3:
        raise RuntimeFault(f'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, '
                           f'got "{cgroups_path}" instead')  # fmt: skip
    slice_name, prefix, name = parts
    slice_name = slice_name or "system.slice"
    directory, steps = "", slice_name.removesuffix(".slice").split("-")
    if slice_name != "-.slice":
        for count in range(1, len(steps) + 1):
            directory += "/" + "-".join(steps[:count]) + ".slice"
    unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    return f"{directory}/{unit}"


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
    try:
        with open(f"{directory}/cgroup.controllers", encoding="ascii") as file:
            available = file.read().split()
        with open(f"{directory}/cgroup.subtree_control", encoding="ascii") as file:
            missing = set(available) - set(file.read().split())
    except OSError:
        return
    for controller in missing:
        try:
            _write(f"{directory}/cgroup.subtree_control", f"+{controller}")
        except OSError:
            pass  # a cgroup with processes may not; the limit itself will say so


def _copy_cpuset(directory: str) -> None:
    """A v1 cpuset starts empty and admits nobody until it has cpus and mems."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        try:
            with open(f"{directory}/{name}", encoding="ascii") as file:
                if file.read().strip():
                    continue
            with open(f"{os.path.dirname(directory)}/{name}", encoding="ascii") as file:
                _write(f"{directory}/{name}", file.read().strip())
        except OSError:
            continue


def _remove_below(directory: str) -> None:
    for entry in os.scandir(directory):
        if entry.is_dir(follow_symlinks=False):
            _remove_below(entry.path)
            os.rmdir(entry.path)


def _optional(file: str, error: OSError) -> bool:
    """Limits that hosts often lack: swap accounting, block weights, kernel memory."""
    return error.errno in (2, 13, 95) and ("memsw" in file or "swap" in file or "weight" in file or "kmem" in file)


def _write(path: str, value: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def read_int(path: str) -> int | None:
    """A file that holds one number; `max` is 2^64-1; None when it cannot be read."""
    try:
        with open(path, encoding="ascii") as file:
            text = file.read().strip()
        return 2**64 - 1 if text == "max" else int(text)
    except (OSError, ValueError):
        return None


def _read_ints(path: str) -> list[int]:
    try:
        with open(path, encoding="ascii") as file:
            return [int(line) for line in file.read().split()]
    except (OSError, ValueError):
        return []
