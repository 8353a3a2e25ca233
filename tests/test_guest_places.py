"""Calls on files, on every file system a guest meets: on bare Linux first, then in the sandbox; the same output.

The probes of a file in tests/guest/fs run one after the other, in one sandbox for each place (tests/places.py).

Covers: sentry.fs.dnotify, sentry.fs.leases, sentry.syscalls.ioctl, sentry.vfs.propagate
"""

from __future__ import annotations

import difflib
import functools
import re
from pathlib import Path

import pytest

from tests import places, sandboxes

SOURCES = Path(__file__).parent / "guest" / "fs"
#: Families whose probes need a place of a certain kind, or more capabilities than a container has.
ONLY = {"mounts": ("tmpfs",), "nodes": ("overlay", "tmpfs")}
CAPABILITIES = {"mounts": ("sys_admin",)}


def families() -> list[tuple[str, str]]:
    names = sorted(source.stem for source in SOURCES.glob("*.c"))
    return [(name, place) for name in names for place in ONLY.get(name, tuple(places.FOLDERS))]


def probes_of(family: str) -> list[str]:
    text = (SOURCES / f"{family}.c").read_text()
    # A probe named zz_ is the target of another's exec.
    return [name for name in re.findall(r"^(?:PROBE|ROW)\((\w+)", text, re.M) if not name.startswith("zz_")]


def argv(family: str, place: str) -> list[str]:
    return ["/probe", "--in", places.FOLDERS[place], *probes_of(family)]


@functools.cache
def on_bare_linux(root: Path, family: str, place: str) -> sandboxes.Ran:
    return places.bare(place, root, argv(family, place), CAPABILITIES.get(family, ()), timeout=180)


@pytest.mark.root
@pytest.mark.slow
@pytest.mark.skipif(bool(sandboxes.bare_problem()), reason=sandboxes.bare_problem())
@pytest.mark.parametrize(("family", "place"), families())
def test_family_on_bare_linux(probe_root: Path, family: str, place: str) -> None:
    ran = on_bare_linux(probe_root, family, place)
    assert ran.code == 0, ran
    assert ran.stdout.count("\nended with: exit 0\n") == len(probes_of(family)), ran
    assert ": NO\n" not in ran.stdout, ran


@pytest.mark.root
@pytest.mark.sandbox
@pytest.mark.skipif(bool(sandboxes.bare_problem()), reason=sandboxes.bare_problem())
@pytest.mark.parametrize(("family", "place"), families())
def test_family_in_sandbox(probe_root: Path, runtime: sandboxes.Runtime, family: str, place: str) -> None:
    wanted = on_bare_linux(probe_root, family, place)
    extra = CAPABILITIES.get(family, ())
    got = places.sandboxed(place, probe_root, runtime, argv(family, place), extra, timeout=180)
    if got[::2] != wanted[::2]:
        rows = difflib.unified_diff(wanted.stdout.splitlines(), got.stdout.splitlines(), "bare", "sandbox", "", "", 3, "")
        codes = f"exit codes: bare {wanted.code}, sandbox {got.code}"
        pytest.fail("\n".join([*rows, codes, got.stderr, runtime.log()]), pytrace=False)
