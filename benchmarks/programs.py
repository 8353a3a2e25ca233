"""Whole programs over many small files, in a sandbox and bare: `print_table(root)`.

The same steps (daily.py) run in turn on bare Linux and in a sandbox, in each kind of place a container has:
under the memory overlay of `do`, in a writable rootfs, in a bind mount, and in a tmpfs. All lie in a tmpfs of
the host's, as its disk is not what is measured. A figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests import bundles, sandboxes
from tests.e2e.containers import Containers

FILES = 1000
ROUNDS = 3
TIMEOUT_S = 600
PLACES = ("overlay", "rootfs", "bind", "tmpfs")
STEPS = (Path(__file__).parent / "daily.py").read_text()

Figures = dict[str, float]  # seconds


def print_table(root: Path, files: int = FILES, rounds: int = ROUNDS, places: tuple[str, ...] = PLACES) -> None:
    """`root` has a shell, Python, git and a compiler (tests/roots.py, debian_root)."""
    ratios: dict[str, dict[str, list[float]]] = {}
    native: dict[str, list[float]] = {}
    with memory_folder() as folder:
        for number in range(rounds):
            print(f"== whole programs, round {number + 1} of {rounds}", file=sys.stderr, flush=True)
            base = {where: bare(root, where, files) for where in sorted({bare_place(place) for place in places})}
            for place in places:
                against = base[bare_place(place)]
                for name, seconds in sandboxed(folder / f"{place}{number}", root, place, files).items():
                    native.setdefault(name, []).append(against[name])
                    ratios.setdefault(name, {}).setdefault(place, []).append(seconds / against[name])
    print(f"\nwhole programs, {files} files, times bare Linux\n{'':20}{'native ms':>12}", end="")
    print("".join(f"{place:>9}" for place in places))
    for name, row in ratios.items():
        line = "".join(f"{statistics.median(row[place]):9.1f}" if place in row else f"{'-':>9}" for place in places)
        print(f"{name:20}{statistics.median(native[name]) * 1000:12.0f}{line}")


def bare_place(place: str) -> str:
    """Where the steps run in the bare root: its own writable layer, or the tmpfs on /tmp."""
    return "/tmp/daily" if place == "tmpfs" else "/daily"


@contextmanager
def memory_folder() -> Iterator[Path]:
    """A host tmpfs, where temporary folders go meanwhile."""
    with tempfile.TemporaryDirectory(prefix="bench-programs-") as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", folder], check=True)
        usual = tempfile.gettempdir()
        tempfile.tempdir = folder
        try:
            yield Path(folder)
        finally:
            tempfile.tempdir = usual
            subprocess.run(["umount", folder], check=True)


def argv(where: str, files: int) -> list[str]:
    return ["/usr/bin/python3", "-c", STEPS, where, str(files)]


def figures(ran: sandboxes.Ran) -> Figures:
    if ran.code:
        print(ran, file=sys.stderr)
    rows = (line.split("\t") for line in ran.stdout.splitlines())
    return {row[0]: float(row[1]) for row in rows if len(row) == 2}


def bare(root: Path, where: str, files: int) -> Figures:
    return figures(sandboxes.bare(argv(where, files), root, timeout=TIMEOUT_S))


def sandboxed(folder: Path, root: Path, place: str, files: int) -> Figures:
    if place == "overlay":
        with sandboxes.runtime() as runtime:
            return figures(runtime.do(argv("/daily", files), root, timeout=TIMEOUT_S))
    folder.mkdir()
    if place == "rootfs":
        with writable(folder, root) as layered:
            return run(folder, layered, "/daily", files, readonly=False)
    if place == "bind":
        (folder / "shared").mkdir()
        shared = bundles.bind(folder / "shared", "/mnt", "rw")
        return run(folder, root, "/mnt/daily", files, mounts=[shared])
    return run(folder, root, "/tmp/daily", files)


@contextmanager
def writable(folder: Path, root: Path) -> Iterator[Path]:
    """The host's overlayfs over `root`, as an engine prepares a rootfs."""
    for name in ("upper", "work", "root"):
        (folder / name).mkdir()
    options = f"lowerdir={root},upperdir={folder}/upper,workdir={folder}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "layer", folder / "root"], check=True)
    try:
        yield folder / "root"
    finally:
        subprocess.run(["umount", folder / "root"], check=True)


def run(folder: Path, root: Path, where: str, files: int, readonly: bool = True, **changes: object) -> Figures:
    runtime = Containers([str(sandboxes.COMMAND)], folder, root)
    rootfs = {"path": str(root), "readonly": readonly}
    bundle = bundles.make(folder / "bundle", root, argv(where, files), **changes)
    bundles.edit(bundle, root=rootfs)
    try:
        return figures(runtime("run", "--bundle", bundle, "daily", timeout=TIMEOUT_S))
    finally:
        runtime.clean()
