"""Guests that own all their threads and race them against the sentry (attack.c): each attack must end as on Linux, with
no record of a bug, and leave nothing behind.

Covers: sentry.kernel.calls, sentry.kernel.lifecycle, sentry.kernel.program
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import sandboxes

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

Bugs = Callable[[str], list[str]]


@pytest.mark.parametrize(
    ("attack", "said"),
    [
        # Another thread maps a file at the descriptor number that the loader stub has in the host's table, between the
        # sentry's check of a set-id program and the host's exec.
        ("stub_swap", "attacker ran as root: 0 times"),
        # A parked thread's code is changed under it, so that it runs on and makes calls while it counts as waiting.
        ("escape_from_a_wait", "wrong answers: 0"),
        # A handler appears between the look whether there is one and the signal's delivery.
        ("handlers_flip_under_waits", "wrong answers: 0"),
        ("exec_among_waiters", "ended otherwise: 0"),
        # A forking process is killed before its tracer hears of the child, which nobody then lets run.
        ("fork_races_kill", "children left: 0"),
        ("vfork_children_die", "ended otherwise: 0"),
        ("stop_storm", "readers: 0"),
    ],
)
def test_race(hostile_root: Path, runtime: sandboxes.Runtime, bugs: Bugs, attack: str, said: str) -> None:
    ran = runtime.do(["/attack", attack], hostile_root, timeout=60)
    assert (ran.stdout.strip(), ran.code) == (said, 0), ran
    assert not bugs(runtime.log())


def test_other_doors_into_the_kernel_are_shut(hostile_root: Path, runtime: sandboxes.Runtime, bugs: Bugs) -> None:
    """32-bit and x32 calls, the sandbox's own magic numbers, and the loader's question when nothing is loaded."""
    ran = runtime.do(["/attack", "other_doors"], hostile_root)
    assert ran.stdout.splitlines() == [
        "int 0x80: 159",  # SIGSYS
        "x32 call: -1 38",
        "call -1: -1 38",
        *(f"call {number}: -1" for number in range(4999, 5003)),
        "exec: 7",
        "loader's call: -1 22",
    ], ran
    assert not bugs(runtime.log())


def test_init_dies_while_hundreds_wait(hostile_root: Path, runtime: sandboxes.Runtime, bugs: Bugs) -> None:
    ran = runtime.do(["/attack", "init_dies_with_all_waiting"], hostile_root, timeout=60)
    assert (ran.stdout, ran.code) == ("waiting\n", 9), ran
    assert not bugs(runtime.log())


def test_more_files_than_the_sentry_has_descriptors(hostile_root: Path, runtime: sandboxes.Runtime, bugs: Bugs) -> None:
    """Those who have too many open are told; the sentry keeps some, and closing gives them back to all."""
    argv = runtime.do_argv(["/attack", "many_files"], hostile_root)
    ran = sandboxes.finished(["prlimit", "--nofile=600:600", *argv], b"", 60, env=runtime.environment())
    assert ran.stdout == "served, refused, other errors: 0; a program: 0; afterwards: served\n", ran
    assert not bugs(runtime.log())
