"""From the spec to what the sentry and the gofer are started with.

`process_config(process)` and `sandbox(spec, ...)` translate; nothing here touches the system but to look at
the sources of bind mounts.
"""

import os
import stat
from typing import TYPE_CHECKING, Any

from runsc_py import options
from runsc_py.errors import RuntimeFault, errno_text, host_fault
from runsc_py.spec import Mount, Process, Resources, Spec, root_path

if TYPE_CHECKING:
    from collections.abc import Callable

    from gofer.exports import Export
    from sentry.boot import MountConfig, ProcessConfig

# Filesystems the sentry has of its own, by the names bundles use. Others cannot be mounted in a sandbox. Whatever
# the host has, the guest's cgroup is the root of a unified hierarchy, as its /proc/self/cgroup says.
_FILESYSTEMS = {name: name for name in ("tmpfs", "proc", "sysfs", "devpts", "mqueue", "cgroup2")}
_FILESYSTEMS |= {"cgroup": "cgroup2", "ramfs": "tmpfs"}

# (path, type, major, minor): what every container's /dev has, besides what the spec lists.
_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
)


def text_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def process_fields(process: Process, warn: "Callable[[str], None]") -> dict[str, Any]:
    """A process as plain values: what `ProcessConfig` takes by name, with text where it has bytes."""
    user = process.user
    caps = process.capabilities
    unknown: list[str] = []
    masks = {
        name: options.capability_mask(getattr(caps, name) if caps else None, unknown)
        for name in ("effective", "permitted", "inheritable", "bounding", "ambient")
    }
    if unknown:
        warn(f"ignoring unknown or unavailable capabilities: {' '.join(unknown)}")
    rlimits: dict[int, tuple[int, int]] = {}
    for limit in process.rlimits or ():
        number = options.RLIMITS.get(limit.type)
        if number is None:
            raise RuntimeFault(f"wrong rlimit value: {limit.type}")
        if number in rlimits:
            raise RuntimeFault(f"rlimit {limit.type} is given twice")
        rlimits[number] = (limit.soft % 2**64, limit.hard % 2**64)
    size = process.console_size
    return {
        "args": list(process.args or ()),
        "env": _environment(process),
        "cwd": process.cwd or "/",
        "uid": user.uid if user else 0,
        "gid": user.gid if user else 0,
        "groups": list((user.additional_gids if user else None) or ()),
        "umask": user.umask if user else None,
        "caps": masks,
        "rlimits": rlimits,
        "no_new_privs": bool(process.no_new_privileges),
        "terminal": bool(process.terminal),
        "rows": size.height if size else 0,
        "cols": size.width if size else 0,
        "oom_score_adj": process.oom_score_adj,
    }


def limits(resources: "Resources | None") -> dict[str, Any]:
    """What the sentry tells its guests of the container's limits: positive ones only, the others mean none."""
    if resources is None:
        return {}
    memory, cpu, pids = resources.memory, resources.cpu, resources.pids
    found = {
        "memory_limit": memory.limit if memory else None,
        "cpu_quota": cpu.quota if cpu else None,
        "cpu_period": cpu.period if cpu else None,
        "pids_limit": pids.limit if pids else None,
    }
    return {name: value for name, value in found.items() if value is not None and value > 0}


def process_config(fields: dict[str, Any]) -> "ProcessConfig":
    from sentry.boot import ProcessConfig

    given = dict(fields)
    given["args"] = [text_bytes(arg) for arg in fields["args"]]
    given["env"] = [text_bytes(entry) for entry in fields["env"]]
    given["cwd"] = text_bytes(fields["cwd"])
    given["groups"] = tuple(fields["groups"])
    return ProcessConfig(**given)


def _environment(process: Process) -> list[str]:
    """The last of each name wins, and there is a HOME, as runc has it."""
    merged: dict[str, str] = {}
    for entry in process.env or ():
        name, equals, _ = entry.partition("=")
        if equals:
            merged[name] = entry
    if "HOME" not in merged:
        uid = process.user.uid if process.user else 0
        merged["HOME"] = "HOME=/root" if uid == 0 else "HOME=/"
    return list(merged.values())


class Plan:
    """Mounts and devices as the sentry wants them, and the exports the gofer must offer."""

    def __init__(self) -> None:
        self.exports: list[Export] = []
        self.mounts: list[MountConfig] = []
        self.devices: list[tuple[bytes, str, int, int, int, int, int]] = []


def plan(spec: Spec, bundle: str, exclusive_root: bool, overlay: bool = False) -> Plan:
    """The exports (0 is the rootfs), mounts and devices. Under an overlay the rootfs is never written."""
    from gofer.exports import Export

    made = Plan()
    readonly = overlay or bool(spec.root and spec.root.readonly)
    made.exports.append(
        Export(
            source=root_path(spec, bundle),
            readonly=readonly,
            exclusive=exclusive_root,
            recursive=True,
            kind="dir",
        )
    )
    entries: dict[str, Mount] = {}
    for mount in spec.mounts or ():
        destination = os.path.normpath("/" + mount.destination.lstrip("/"))
        entries.pop(destination, None)  # the last of one destination wins, at its own place in the order
        entries[destination] = mount
    for destination, mount in entries.items():
        flags, data = options.parse_mount_options(mount.options or [])
        kind = mount.type or ""
        if kind in ("bind", "rbind") or flags & options.MS_BIND:
            export = _bind(mount.source or "", destination, flags, bundle)
            made.exports.append(export)
            _add_mount(made, destination, "gofer", flags, data, export=len(made.exports) - 1)
        elif kind in _FILESYSTEMS:
            own = "dev" if (destination, kind) == ("/dev", "tmpfs") else _FILESYSTEMS[kind]
            _add_mount(made, destination, own, flags, data, source=mount.source or kind)
        else:
            raise RuntimeFault(
                f'unable to start container process: error mounting "{mount.source}" to rootfs at '
                f'"{destination}": filesystem type "{kind}" is not supported: no such device'
            )
    if readonly and not overlay:
        made.exports[0].mount_points = _places(made, (spec.process.cwd if spec.process else "") or "/")
    _add_devices(made, spec)
    return made


def _places(made: Plan, cwd: str) -> tuple[tuple[bytes, bool], ...]:
    """What must be in the rootfs itself, and whether each is a directory: the places that mounts will cover and the
    working directory."""
    places: list[tuple[bytes, bool]] = []
    wanted = [(m.destination, m.export is None or made.exports[m.export].kind == "dir") for m in made.mounts]
    for path, directory in [*wanted, (text_bytes(os.path.normpath(cwd)), True)]:
        if path != b"/" and not any(path.startswith(place + b"/") for place, _ in places):
            places.append((path, directory))
    return tuple(places)


def _add_mount(
    made: Plan,
    destination: str,
    kind: str,
    flags: int,
    data: list[str],
    export: int | None = None,
    source: str = "none",
) -> None:
    from sentry.boot import MountConfig

    made.mounts.append(
        MountConfig(
            destination=text_bytes(destination),
            fstype=kind,
            export=export,
            flags=flags & ~(options.MS_BIND | options.MS_REC | options.MS_REMOUNT),
            data=text_bytes(",".join(option for option in data if option != "tmpcopyup")),
            source=text_bytes(source),
            copy_up="tmpcopyup" in data and kind == "tmpfs",
        )
    )


def _bind(source: str, destination: str, flags: int, bundle: str) -> "Export":
    from gofer.exports import Export

    path = os.path.normpath(os.path.join(bundle, source))
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise RuntimeFault(
            f"unable to start container process: error during container init: "
            f'error mounting "{source}" to rootfs at "{destination}": stat {path}: {errno_text(error)}'
        ) from None
    return Export(
        source=path,
        readonly=bool(flags & options.MS_RDONLY),
        exclusive=False,
        recursive=bool(flags & options.MS_REC),
        noexec=bool(flags & options.MS_NOEXEC),
        kind="dir" if stat.S_ISDIR(mode) else "file",
    )


def _add_devices(made: Plan, spec: Spec) -> None:
    listed = (spec.linux.devices if spec.linux else None) or []
    paths = {device.path for device in listed}
    for path, major, minor in _DEVICES:
        if path not in paths:
            made.devices.append((text_bytes(path), "c", major, minor, 0o666, 0, 0))
    for device in listed:
        if device.type not in ("c", "u", "b", "p"):
            where = f"config.json: linux.devices: {device.path}"
            raise RuntimeFault(f"{where}: invalid device type {device.type!r}")
        mode = 0o666 if device.file_mode is None else device.file_mode & 0o7777
        kind, owner = "c" if device.type == "u" else device.type, (device.uid or 0, device.gid or 0)
        made.devices.append((text_bytes(device.path), kind, device.major, device.minor, mode, *owner))


def network(spec: Spec, chosen: str) -> tuple[str, str | None]:
    """(network, netns) for the sentry. `chosen` is --network, "" for what the bundle suggests: the
    stack of the namespace it names, or of one that its hooks will furnish; else loopback alone."""
    namespaces = {ns.type: ns.path or "" for ns in (spec.linux.namespaces if spec.linux else None) or ()}
    if "network" not in namespaces:
        netns: str | None = ""
    else:
        netns = namespaces["network"] or None
    if chosen == "none":
        return "none", netns or None
    if chosen not in ("", "host"):
        raise RuntimeFault(f"invalid --network value: {chosen} (none or host)")
    if netns and not os.path.exists(netns):
        raise host_fault(f"config.json: linux.namespaces: network: {netns}", FileNotFoundError(2, ""))
    hooks = spec.hooks
    furnished = bool(hooks and (hooks.prestart or hooks.create_runtime or hooks.create_container))
    if chosen == "host" or netns is not None or furnished:
        return "host", netns
    return "none", None


def hostname(spec: Spec) -> tuple[str, str]:
    """(host name, path of the UTS namespace it is to be taken from). Without a namespace it is the host's own."""
    namespaces = {ns.type: ns.path or "" for ns in (spec.linux.namespaces if spec.linux else None) or ()}
    if "uts" not in namespaces:
        return spec.hostname or os.uname().nodename, ""
    return spec.hostname or "", namespaces["uts"]


def id_maps(spec: Spec) -> tuple[list[tuple[int, int, int]], list[tuple[int, int, int]]]:
    """The spec's user namespace maps; empty when it asks for none."""
    if not spec.linux:
        return [], []
    namespaces = {ns.type for ns in spec.linux.namespaces or ()}
    if "user" not in namespaces:
        return [], []
    uid = [(m.container_id, m.host_id, m.size) for m in spec.linux.uid_mappings or ()]
    gid = [(m.container_id, m.host_id, m.size) for m in spec.linux.gid_mappings or ()]
    if not uid or not gid:
        raise RuntimeFault("User namespaces enabled, but no uid or gid mappings found.")
    return uid, gid
