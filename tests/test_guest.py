"""Every guest probe: on bare Linux first, then in the sandbox, on each platform; the same output.

Covers: sentry.fs.lazyfile sentry.kernel.sigio
"""

from __future__ import annotations

import difflib
import functools
import re
from pathlib import Path
from signal import SIGILL, SIGSEGV, SIGTRAP

import pytest

from tests import sandboxes

SOURCES = Path(__file__).parent / "guest"


def probe_names() -> list[str]:
    """The probes' names, from the sources: nothing need be built to collect the tests."""
    found = []
    for source in sorted(SOURCES.glob("*.c")):
        found += [f"{source.stem}/{name}" for name in re.findall(r"^PROBE\((\w+)\)", source.read_text(), re.M)]
    # A probe named zz_ is the target of another's exec.
    return [name for name in found if "/zz_" not in name]


# What a sandbox does not have yet. A probe that passes all the same fails the test: it is to be taken off here.
KNOWN_GAPS: dict[str, str] = {}


# Probes that die, as container init, of a signal.
DEADLY = {
    "init_dies_at_a_breakpoint": SIGTRAP,
    "init_dies_of_an_access": SIGSEGV,
    "init_dies_of_an_instruction": SIGILL,
}


def gap_marks(name: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.xfail(reason=KNOWN_GAPS[name], strict=True)] if name in KNOWN_GAPS else []


def test_no_two_probes_have_one_name() -> None:
    sources = [*SOURCES.glob("*.c"), *SOURCES.glob("fs/*.c")]
    names = [name for source in sources for name in re.findall(r"^PROBE\((\w+)\)", source.read_text(), re.M)]
    assert sorted(set(names)) == sorted(names)


@functools.cache
def on_bare_linux(root: Path, name: str) -> sandboxes.Ran:
    return sandboxes.bare(["/probe", name], root, timeout=60)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(bool(sandboxes.bare_problem()), reason=sandboxes.bare_problem())
@pytest.mark.parametrize("name", probe_names())
def test_probe_on_bare_linux(probe_root: Path, name: str) -> None:
    short = name.split("/")[1]
    ran = on_bare_linux(probe_root, short)
    assert ran.code == (128 + DEADLY[short] if short in DEADLY else 0), ran
    assert ran.stdout.endswith("end\n"), ran
    assert ": NO\n" not in ran.stdout, ran


@pytest.mark.root
@pytest.mark.sandbox
@pytest.mark.skipif(bool(sandboxes.bare_problem()), reason=sandboxes.bare_problem())
@pytest.mark.parametrize("name", [pytest.param(name, marks=gap_marks(name)) for name in probe_names()])
def test_probe_in_sandbox(probe_root: Path, runtime: sandboxes.Runtime, name: str) -> None:
    short = name.split("/")[1]
    wanted = on_bare_linux(probe_root, short)
    got = runtime.do(["/probe", short], probe_root, timeout=60)
    for _ in range(2):  # probes of races and timers can differ on a busy machine, on bare Linux too: twice again, both
        if got[::2] != wanted[::2]:
            wanted = sandboxes.bare(["/probe", short], probe_root, timeout=60)
            got = runtime.do(["/probe", short], probe_root, timeout=60)
    if got[::2] != wanted[::2]:
        rows = difflib.unified_diff(wanted.stdout.splitlines(), got.stdout.splitlines(), "bare", "sandbox", "", "", 1, "")
        codes = f"exit codes: bare {wanted.code}, sandbox {got.code}"
        pytest.fail("\n".join([*rows, codes, got.stderr, runtime.log()]), pytrace=False)


@pytest.mark.root
@pytest.mark.sandbox
def test_the_descriptor_limit_of_who_starts_a_sandbox_does_not_bind_its_guests(
    probe_root: Path, runtime: sandboxes.Runtime
) -> None:
    argv = runtime.do_argv(["/probe", "map_high_descriptor"], probe_root)
    ran = sandboxes.finished(["sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh", *argv], env=runtime.environment())
    assert ran.code == 0 and ": NO" not in ran.stdout and ran.stdout.endswith("end\n"), ran
