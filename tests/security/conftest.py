"""The hostile guest programs, compiled, in a busybox root of their own."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
FLAGS = ["-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Wno-clobbered", "-Wno-unused-result", "-static", "-pthread"]


@pytest.fixture(scope="session")
def hostile_root(busybox_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Busybox, the programs of this folder's *.c at /NAME, and /setid, a busybox that runs with root's rights."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    root = tmp_path_factory.mktemp("hostile") / "root"
    subprocess.run(["cp", "-a", busybox_root, root], check=True)
    for source in HERE.glob("*.c"):
        subprocess.run(["gcc", *FLAGS, "-o", root / source.stem, source], check=True)
    shutil.copy(root / "bin/busybox", root / "setid")
    (root / "setid").chmod(0o4755)
    for folder in (root, *root.parents):
        if folder != Path("/tmp") and folder.stat().st_uid == 0 and str(folder).startswith("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    return root


@pytest.fixture
def bugs() -> Callable[[str], list[str]]:
    """The records of bugs in a sandbox's log."""

    def found(log: str) -> list[str]:
        records = [json.loads(line)["msg"] for line in log.splitlines() if line.strip()]
        return [text for text in records if "bug in the sentry" in text or "sentry:" in text]

    return found
