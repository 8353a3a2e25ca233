"""`spec`: write a config.json to start from."""

import os
from typing import TYPE_CHECKING, Any

from runsc_py.command import Option, Verb
from runsc_py.errors import RuntimeFault, host_fault

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", bundle: str, rootless: bool, args: tuple[str, ...]) -> None:
    import json

    path = os.path.join(bundle or ".", "config.json")
    if os.path.exists(path):
        raise RuntimeFault("File config.json exists. Remove it first")
    try:
        with open(path, "x", encoding="utf-8") as file:
            json.dump(template(rootless, list(args)), file, indent="\t")
            file.write("\n")
    except OSError as error:
        raise host_fault(f"open {path}", error) from None


def template(rootless: bool, args: list[str]) -> dict[str, Any]:
    """The specification runc would write."""
    from runsc_py import SPEC_VERSION

    capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    tmpfs = ["nosuid", "strictatime", "mode=755", "size=65536k"]
    pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", *([] if rootless else ["gid=5"])]
    strict = ["nosuid", "noexec", "nodev"]
    namespaces = ["pid", *([] if rootless else ["network"]), "ipc", "uts", "mount", "cgroup"]
    linux: dict[str, Any] = {
        "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        "namespaces": [{"type": name} for name in namespaces],
        "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                        "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
                        "/proc/scsi"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    }  # fmt: skip
    if rootless:
        linux["namespaces"].append({"type": "user"})
        linux["uidMappings"] = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": os.getegid(), "size": 1}]
        del linux["resources"]
    return {
        "ociVersion": SPEC_VERSION,
        "process": {
            "terminal": not args,
            "user": {"uid": 0, "gid": 0},
            "args": args or ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "runsc-py",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": tmpfs},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": pts},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": [*strict, "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": strict},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*strict, "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": [*strict, "relatime", "ro"]},
        ],
        "linux": linux,
    }  # fmt: skip


VERB = Verb(
    "create a new specification file",
    [
        Option("--bundle", "-b", metavar="DIR", help="Where to write config.json."),
        Option("--rootless", kind="flag", help="For a user who is not root."),
    ],
    ("[args]...",),
    run,
    stop_at_arguments=True,
    description="Write config.json for a program (ARGS, or sh on a terminal).",
)
