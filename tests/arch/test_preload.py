"""Whatever the sentry imports, at whatever time, is loaded before it locks itself down.

Covers: sentry.preload
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.arch import source

# Imported by the command line's half of a module, or before the lock-down only.
ELSEWHERE = {"pyseccomp", "native._filters"}


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    code = "import sys; from sentry.preload import load; load(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=source.REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_everything_is_preloaded(loaded: set[str]) -> None:
    missing = []
    for name, path in source.modules().items():
        if name.partition(".")[0] == "sentry" or name in ("gofer.client", "gofer.protocol", "native.filters"):
            for found in source.imports(path):
                if not found.typing_only and found.module not in loaded | ELSEWHERE:
                    missing.append(f"{name}:{found.line}: {found.module}")
    assert not missing


def test_heavy_libraries_stay_out(loaded: set[str]) -> None:
    """Each of these costs every container milliseconds and memory."""
    pytest.importorskip("native._filters", reason="without `make native` libseccomp is loaded at run time")
    assert not loaded & {"inspect", "subprocess", "socket", "ctypes", "traceback", "logging", "random"}
