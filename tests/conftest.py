"""Shared fixtures: the roots, the guest probe, a runtime with its own state directory, and the leak check."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks, roots, sandboxes

PROBE = Path(__file__).parent / "guest/build/probe"


def pytest_configure(config: pytest.Config) -> None:
    # Whatever a test leaves running comes to us, where the leak check finds it.
    leaks.become_subreaper()
    # A shell's background job ignores these, and what it starts would too: a ^C test would fail on bare Linux.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    problem = sandboxes.sandbox_problem()
    for item in items:
        if item.get_closest_marker("sandbox"):
            item.add_marker(pytest.mark.slow)
            if problem:
                item.add_marker(pytest.mark.skip(reason=problem))
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(scope="session")
def busybox_root() -> Path:
    try:
        return roots.busybox_root()
    except roots.MissingTool as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def debian_root() -> Path:
    root = roots.existing_debian_root()
    if root is None:
        pytest.skip("no Debian root (make roots)")
    return root


@pytest.fixture(scope="session")
def probe() -> Path:
    """The guest probe, compiled if it is not yet."""
    if shutil.which("make") and shutil.which("gcc"):
        made = subprocess.run(["make", "-C", PROBE.parent.parent], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
    if not PROBE.exists():
        pytest.skip("the guest probe is not built (make guest)")
    return PROBE


@pytest.fixture(scope="session")
def probe_root(busybox_root: Path, probe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The busybox root with the guest probe at /probe."""
    root = tmp_path_factory.mktemp("probe") / "root"
    subprocess.run(["cp", "-a", busybox_root, root], check=True)
    shutil.copy(probe, root / "probe")
    for folder in (root, *root.parents):
        if folder.stat().st_uid == os.getuid() and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o055)
    return root


@pytest.fixture(params=["seccomp"])
def platform(request: pytest.FixtureRequest) -> str:
    """Each platform in turn: same kernel, same tests."""
    return str(request.param)


@pytest.fixture
def runtime(platform: str) -> Iterator[sandboxes.Runtime]:
    """runsc-py with a fresh state directory; the test fails if anything of it is left afterwards."""
    with sandboxes.runtime(platform) as made:
        before = leaks.snapshot()
        yield made
        left = leaks.left_since(before, made.state)
        if left:
            print(made.log(), file=sys.stderr)
        assert not left, "left behind:\n" + "\n".join(left)
