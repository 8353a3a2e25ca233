"""The file systems a guest meets, each as bare Linux has it and as the sandbox does: a probe runs in both.

* ``overlay``: `do`'s memory layer over the root; bare: overlayfs
* ``rootfs``: a writable root of the host, which the sandbox reaches through its gofer
* ``bind``: a writable bind mount of the host at /mnt
* ``tmpfs``: at /tmp
* ``shm``: /dev/shm, where nothing is executed and no device opened
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import bundles, sandboxes
from tests.sandboxes import Ran, Runtime

FOLDERS = {
    "overlay": "/probes",
    "rootfs": "/probes",
    "bind": "/mnt/probes",
    "tmpfs": "/tmp/probes",
    "shm": "/dev/shm/probes",
}
STRICT = ["nosuid", "noexec", "nodev"]


def bare(place: str, root: Path, argv: Sequence[str], capabilities: tuple[str, ...] = (), timeout: float = 60) -> Ran:
    """Run `argv` on bare Linux where `place` is what the place is meant to be."""
    if place == "overlay":
        return sandboxes.bare(argv, root, timeout=timeout, how=sandboxes.Bare(capabilities=capabilities))
    with _copy(root) as (own, bind):
        how = sandboxes.Bare(plain=True, bind=str(bind), capabilities=capabilities)
        return sandboxes.bare(argv, own, timeout=timeout, how=how)


def sandboxed(
    place: str,
    root: Path,
    runtime: Runtime,
    argv: Sequence[str],
    capabilities: tuple[str, ...] = (),
    timeout: float = 60,
) -> Ran:
    """Run `argv` in a sandbox."""
    if place == "overlay" and not capabilities:
        return runtime.do(argv, root, timeout=timeout)
    with _copy(root) as (own, bind):
        return run(runtime, own, bind, argv, capabilities, timeout)


def run(
    runtime: Runtime, root: Path, bind: Path, argv: Sequence[str], capabilities: tuple[str, ...], timeout: float
) -> Ran:
    """A bundle with a writable root and the mounts that a bare run has."""
    caps = [f"CAP_{name.upper()}" for name in (*sandboxes.capabilities(), *capabilities)]
    bundle = bundles.make(
        runtime.state / "bundle",
        root,
        list(argv),
        root={"path": str(root), "readonly": False},
        capabilities={"bounding": caps, "effective": caps, "permitted": caps},
        noNewPrivileges=False,
        mounts=[
            bundles.mount("/dev/mqueue", "mqueue", "mqueue", STRICT),
            bundles.mount("/sys", "sysfs", "sysfs", [*STRICT, "ro"]),
            bundles.bind(bind, "/mnt", "rw"),
            bundles.mount("/tmp", "tmpfs", "tmpfs", ["mode=1777"]),
        ],
        linux={"cgroupsPath": f"/runsc-py-test-{os.getpid()}-places"},
    )
    try:
        return runtime("run", "--bundle", bundle, "place", timeout=timeout)
    finally:
        shutil.rmtree(bundle)


@contextmanager
def _copy(root: Path) -> Iterator[tuple[Path, Path]]:
    """A copy of the root that may be written, and an empty folder to bind, on one host file system."""
    with tempfile.TemporaryDirectory(prefix="place-", ignore_cleanup_errors=True) as folder:
        own, bind = Path(folder) / "root", Path(folder) / "bind"
        subprocess.run(["cp", "-a", root, own], check=True)
        bind.mkdir()
        Path(folder).chmod(0o755)
        yield own, bind
