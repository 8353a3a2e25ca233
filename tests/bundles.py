"""OCI bundles for the tests: a config.json over a root, with what a test wants different."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests import sandboxes

STRICT = ["nosuid", "noexec", "nodev"]


def config(root: Path, args: list[str], /, **changes: Any) -> dict[str, Any]:
    """A config as runc's `spec` makes it; keyword arguments replace parts of `process` or of the whole."""
    caps = [f"CAP_{name.upper()}" for name in sandboxes.capabilities()]
    process: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": [f"{name}={value}" for name, value in sandboxes.ENVIRONMENT.items()],
        "cwd": "/",
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        "noNewPrivileges": True,
    }
    for name in ("terminal", "user", "env", "cwd", "capabilities", "rlimits", "noNewPrivileges", "consoleSize", "oomScoreAdj"):
        if name in changes:
            process[name] = changes.pop(name)
    made: dict[str, Any] = {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": str(root), "readonly": True},
        "hostname": sandboxes.HOSTNAME,
        "mounts": [
            mount("/proc", "proc", "proc"),
            mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
            mount("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]),
            mount("/dev/shm", "tmpfs", "shm", [*STRICT, "mode=1777", "size=65536k"]),
            mount("/tmp", "tmpfs", "tmpfs", ["nosuid", "nodev", "mode=1777"]),
            *changes.pop("mounts", []),
        ],
        "linux": {
            "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")],
            **changes.pop("linux", {}),
        },
    }
    made.update(changes)
    return made


def mount(where: str, kind: str, source: str, options: list[str] | None = None) -> dict[str, Any]:
    return {"destination": where, "type": kind, "source": source, "options": options or []}


def bind(source: Path, where: str, *options: str) -> dict[str, Any]:
    return mount(where, "bind", str(source), ["rbind", *options])


def make(folder: Path, root: Path, args: list[str], /, **changes: Any) -> Path:
    """Write a bundle and return its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(root, args, **changes)))
    return folder


def edit(folder: Path, **changes: Any) -> None:
    """Replace members of a bundle's configuration."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
