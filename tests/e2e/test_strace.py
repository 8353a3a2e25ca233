"""--strace: every call of a program on stderr.

Covers: sentry.strace
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import sandboxes

pytestmark = [pytest.mark.sandbox]


def test_each_call_is_a_line(busybox_root: Path, runtime: sandboxes.Runtime) -> None:
    ran = runtime("--strace", "do", "--rootfs", busybox_root, "--", "/bin/sh", "-c", "cat /etc/passwd >/dev/null; exit 3")
    assert ran.code == 3, ran
    assert '[    1] openat(AT_FDCWD, "/dev/null", O_WRONLY' in ran.stderr
    assert "exit_group(3)" in ran.stderr
    assert "SIGTRAP" not in ran.stderr and " load(" not in ran.stderr
