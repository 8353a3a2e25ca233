"""Every call with boundary values and random ones (fuzz.c), from fixed seeds: no exception reaches the kernel's loop, none
is a bug of a handler, and the sandbox goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import sandboxes

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.mark.parametrize("seed", range(4))
def test_random_calls(
    hostile_root: Path, runtime: sandboxes.Runtime, bugs: Callable[[str], list[str]], seed: int
) -> None:
    ran = runtime.do(["sh", "-c", f"/fuzz {seed} 15000; echo well"], hostile_root, timeout=110)
    assert ran.stdout.endswith("well\n"), (ran, runtime.log()[-2000:])
    assert not bugs(runtime.log())


def test_random_commands(hostile_root: Path, runtime: sandboxes.Runtime, bugs: Callable[[str], list[str]]) -> None:
    """ioctl, fcntl, prctl, setsockopt and getsockopt, which are many calls each."""
    ran = runtime.do(["sh", "-c", "/fuzz 5 20000 16 72 157 54 55; echo well"], hostile_root, timeout=110)
    assert ran.stdout.endswith("well\n"), (ran, runtime.log()[-2000:])
    assert not bugs(runtime.log())
