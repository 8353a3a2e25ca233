"""The OCI runtime-spec's config.json, typed: `load_bundle(dir)` -> Spec, `load_process(path)` -> Process.

Unknown fields are ignored and `null` means absent, as Go's decoder has it; a wrong type is one clear line
that names the field. What runc refuses before it starts anything is refused here too, in its words (`check`).

The classes are declarations; `runsc_py.typed` turns JSON into them.
"""

import os

from runsc_py.errors import RuntimeFault, host_fault
from runsc_py.typed import Part, decode


class Box(Part):
    height: int = 0
    width: int = 0


class User(Part):
    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: list[int] | None = None
    username: str | None = None


class Capabilities(Part):
    bounding: list[str] | None = None
    effective: list[str] | None = None
    inheritable: list[str] | None = None
    permitted: list[str] | None = None
    ambient: list[str] | None = None


class Rlimit(Part):
    type: str = ""
    hard: int = 0
    soft: int = 0


class Process(Part):
    terminal: bool | None = False
    console_size: Box | None = None
    user: User | None = None
    args: list[str] | None = None
    command_line: str | None = None
    env: list[str] | None = None
    cwd: str | None = ""
    capabilities: Capabilities | None = None
    rlimits: list[Rlimit] | None = None
    no_new_privileges: bool | None = False
    apparmor_profile: str | None = None
    oom_score_adj: int | None = None
    selinux_label: str | None = None


class Root(Part):
    path: str = ""
    readonly: bool | None = False


class IdMapping(Part):
    container_id: int = 0
    host_id: int = 0
    size: int = 0


class Mount(Part):
    destination: str = ""
    type: str | None = ""
    source: str | None = ""
    options: list[str] | None = None


class Hook(Part):
    path: str = ""
    args: list[str] | None = None
    env: list[str] | None = None
    timeout: int | None = None


class Hooks(Part):
    prestart: list[Hook] | None = None
    create_runtime: list[Hook] | None = None
    create_container: list[Hook] | None = None
    start_container: list[Hook] | None = None
    poststart: list[Hook] | None = None
    poststop: list[Hook] | None = None


class Namespace(Part):
    type: str = ""
    path: str | None = ""


class Device(Part):
    path: str = ""
    type: str = ""
    major: int = 0
    minor: int = 0
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


class DeviceRule(Part):
    allow: bool = False
    type: str | None = None
    major: int | None = None
    minor: int | None = None
    access: str | None = None


class Memory(Part):
    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool | None = None
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


class Cpu(Part):
    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: int | None = None


class Pids(Part):
    limit: int | None = None


class ThrottleDevice(Part):
    major: int = 0
    minor: int = 0
    rate: int = 0


class WeightDevice(Part):
    major: int = 0
    minor: int = 0
    weight: int | None = None
    leaf_weight: int | None = None


class BlockIO(Part):
    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: list[WeightDevice] | None = None
    throttle_read_bps_device: list[ThrottleDevice] | None = None
    throttle_write_bps_device: list[ThrottleDevice] | None = None
    throttle_read_iops_device: list[ThrottleDevice] | None = None
    throttle_write_iops_device: list[ThrottleDevice] | None = None


class HugepageLimit(Part):
    page_size: str = ""
    limit: int = 0


class RdmaLimit(Part):
    hca_handles: int | None = None
    hca_objects: int | None = None


class NetworkPriority(Part):
    name: str = ""
    priority: int = 0


class NetworkResources(Part):
    class_id: int | None = None
    priorities: list[NetworkPriority] | None = None


class Resources(Part):
    devices: list[DeviceRule] | None = None
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIO | None = None
    hugepage_limits: list[HugepageLimit] | None = None
    network: NetworkResources | None = None
    rdma: dict[str, RdmaLimit] | None = None
    unified: dict[str, str] | None = None


class Linux(Part):
    uid_mappings: list[IdMapping] | None = None
    gid_mappings: list[IdMapping] | None = None
    sysctl: dict[str, str] | None = None
    resources: Resources | None = None
    cgroups_path: str | None = ""
    namespaces: list[Namespace] | None = None
    devices: list[Device] | None = None
    rootfs_propagation: str | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    mount_label: str | None = None


class Spec(Part):
    oci_version: str = ""
    process: Process | None = None
    root: Root | None = None
    hostname: str | None = ""
    domainname: str | None = ""
    mounts: list[Mount] | None = None
    hooks: Hooks | None = None
    annotations: dict[str, str] | None = None
    linux: Linux | None = None


def load_bundle(bundle: str) -> Spec:
    """Read and check `bundle`/config.json."""
    try:
        with open(os.path.join(bundle, "config.json"), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        raise RuntimeFault("JSON specification file config.json not found") from None
    except OSError as error:
        raise host_fault(f"open {os.path.join(bundle, 'config.json')}", error) from None
    spec = decode(data, Spec, "config.json")
    check(spec, bundle)
    return spec


def load_process(path: str) -> Process:
    """Read the process.json that `exec --process` names."""
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise host_fault(f"open {path}", error) from None
    process = decode(data, Process, path)
    check_process(process)
    return process


def check(spec: Spec, bundle: str) -> None:
    """Refuse what runc refuses, before anything is made."""
    if not spec.oci_version.startswith("1."):
        said = spec.oci_version or "missing"
        raise RuntimeFault(f"config.json: ociVersion: {said}: only version 1.x of the runtime-spec is supported")
    if spec.process is None:
        raise RuntimeFault("process property must not be empty")
    check_process(spec.process)
    if spec.root is None:
        raise RuntimeFault("root must be specified")
    rootfs = root_path(spec, bundle)
    try:
        if not os.path.isdir(rootfs):
            os.stat(rootfs)
            raise RuntimeFault(f"invalid rootfs: {rootfs}: not a directory")
    except OSError as error:
        raise host_fault(f"invalid rootfs: stat {rootfs}", error) from None
    for index, mount in enumerate(spec.mounts or ()):
        if not mount.destination:
            raise RuntimeFault(f"config.json: mounts[{index}].destination must not be empty")
    for name in (
        "prestart",
        "create_runtime",
        "create_container",
        "start_container",
        "poststart",
        "poststop",
    ):
        for index, hook in enumerate((getattr(spec.hooks, name) if spec.hooks else None) or ()):
            if not os.path.isabs(hook.path):
                raise RuntimeFault(f"config.json: hooks.{name}[{index}].path must be an absolute path")
            if hook.timeout is not None and hook.timeout <= 0:
                raise RuntimeFault(f"config.json: hooks.{name}[{index}].timeout must be positive")


def check_process(process: Process) -> None:
    if not process.args:
        raise RuntimeFault("args must not be empty")
    if not process.cwd:
        raise RuntimeFault("Cwd property must not be empty")
    if not process.cwd.startswith("/"):
        raise RuntimeFault("Cwd must be an absolute path")
    user = process.user or User()
    for field, value in (("uid", user.uid), ("gid", user.gid)):
        if not 0 <= value <= 0xFFFFFFFF:
            raise RuntimeFault(f"process.user.{field}: {value} is out of range")
    for text in (*process.args, *(process.env or ()), process.cwd):
        if "\0" in text:
            raise RuntimeFault("process: a string holds a NUL byte")


def root_path(spec: Spec, bundle: str) -> str:
    path = spec.root.path if spec.root else ""
    return os.path.normpath(os.path.join(bundle, path or ""))
