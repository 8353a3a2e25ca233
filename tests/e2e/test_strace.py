"""--strace: every call of a program on stderr.

Covers: sentry.strace
"""

from __future__ import annotations

import re
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


def test_the_first_line_is_the_program(busybox_root: Path, runtime: sandboxes.Runtime) -> None:
    ran = runtime("--strace", "do", "--rootfs", busybox_root, "--", "/bin/sh", "-c", "exec /bin/echo one 'two three'")
    first, *rest = ran.stderr.splitlines()
    assert first.startswith("""[    1] execve("/bin/sh", ["/bin/sh", "-c", "exec /bin/echo one 'two three'"], /* """)
    assert first.endswith(" vars */) = 0")
    (execve,) = [line for line in rest if "execve" in line]
    assert execve.startswith("""[    1] execve("/bin/echo", ["/bin/echo", "one", "two three"], 0x"""), execve
    assert execve.endswith(" vars */) = 0")


def test_calls_that_the_host_answers_show_their_results(busybox_root: Path, runtime: sandboxes.Runtime) -> None:
    script = "sh -c 'kill -9 $$' & wait $!; (exit 5); exit $?"
    ran = runtime("--strace", "do", "--rootfs", busybox_root, "--", "/bin/sh", "-c", script)
    assert ran.code == 5
    calls = [line[8:] for line in ran.stderr.splitlines()]
    assert any(re.fullmatch(r"brk\(NULL\) +" + "= 0x[0-9a-f]{6,}", line) for line in calls)
    assert any(re.fullmatch(r"(fork|clone)\(.*\) += [2-9]", line) for line in calls)
    assert any(re.fullmatch(r"wait4\(-1, .*\) += [2-9]", line) for line in calls)
    assert any(re.fullmatch(r"getppid\(\) += 0", line) for line in calls)


@pytest.mark.slow
def test_threads_are_traced(probe_root: Path, runtime: sandboxes.Runtime) -> None:
    ran = runtime("--strace", "do", "--rootfs", probe_root, "--", "/probe", "quiet_thread_opens")
    assert ran.code == 0, ran
    assert re.search(r'\[    2\] openat\(AT_FDCWD, "/dev/null", O_RDONLY\) += 3', ran.stderr), ran


@pytest.mark.slow
@pytest.mark.parametrize("name", ["storm_of_signals", "storm_that_ends_in_exec", "pidfd_wait_among_signals"])
def test_nothing_changes_for_the_program(probe_root: Path, runtime: sandboxes.Runtime, name: str) -> None:
    """Every call of the host's own is made between two stops, whatever signals and stops come between."""
    argv = runtime.do_argv(["/probe", name], probe_root)
    ran = sandboxes.finished([argv[0], "--strace", *argv[1:]], timeout=100, env=runtime.environment())
    assert ran.code == 0 and ran.stdout.endswith("end\n") and ": NO\n" not in ran.stdout, ran.stdout
