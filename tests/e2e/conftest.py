"""End-to-end tests: whole programs in a sandbox, compared with a plain chroot of the same root."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import sandboxes


@pytest.fixture
def same(runtime: sandboxes.Runtime) -> Callable[..., sandboxes.Ran]:
    """Run a shell script in a root bare and in the sandbox: stdout (after `only`) and exit code must agree."""

    def compare(
        script: str,
        root: Path,
        stdin: bytes = b"",
        only: Callable[[str], str] = lambda text: text,
        shell: str = "/bin/sh",
        cwd: str = "/tmp",
        timeout: float = sandboxes.TIMEOUT_S,
        code: int = 0,
    ) -> sandboxes.Ran:
        problem = sandboxes.bare_problem()
        if problem:
            pytest.skip(problem)
        wanted = sandboxes.bare([shell, "-c", script], root, stdin, cwd, timeout)
        assert wanted.code == code, f"bare Linux: {wanted}"
        got = runtime.do([shell, "-c", script], root, stdin, cwd, timeout)
        assert only(got.stdout).splitlines() == only(wanted.stdout).splitlines(), f"{got}\n{runtime.log()}"
        assert got.code == wanted.code, f"{got}\n{runtime.log()}"
        return got

    return compare
