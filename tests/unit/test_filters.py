"""Filters of our own processes: made beforehand or now, they are the same, and they hold."""

import os
import subprocess
import sys

import pytest

import gofer.confine
import sentry.confine
from native import filters

RULES = {
    "sentry": sentry.confine.RULES,
    "gofer": gofer.confine.rules(connects=False),
    "gofer that connects": gofer.confine.rules(connects=True),
}


@pytest.mark.parametrize("name", RULES)
def test_a_program_made_beforehand_is_what_would_be_made_now(name: str) -> None:
    made = pytest.importorskip("native._filters").PROGRAMS
    assert made.get(RULES[name]) == filters.compile_now(RULES[name])


def test_unknown_rules_are_compiled() -> None:
    rules = (*filters.allow("read"), (filters.ALLOW, "socket", ((0, filters.EQUAL, 1),)))
    program = filters.compiled(rules)
    assert program == filters.compile_now(rules)
    assert len(program) % 8 == 0


def test_a_loaded_filter_holds() -> None:
    code = (
        "import os; from native import filters, lib\n"
        "names = 'read write close mmap munmap brk rt_sigaction futex exit_group getuid'.split()\n"
        "program = filters.compiled(filters.allow(*names) + ((filters.ALLOW, 'kill', ((1, 0xff, 0),)),))\n"
        "lib.nc_prctl(38, 1, 0, 0, 0); filters.load(program)\n"
        "os.kill(1, 0) if os.getuid() == 0 else None\n"
        "try: os.kill(0, 18)\n"
        "except PermissionError: pass\n"
        "else: os._exit(1)\n"
        "try: os.getcwd()\n"
        "except PermissionError: os._exit(0)\n"
        "os._exit(2)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=20).returncode == 0


def test_a_refused_program_says_so() -> None:
    pid = os.fork()
    if pid == 0:
        try:
            filters.load(b"\0" * 8)  # ends in no return
        except OSError as error:
            os._exit(error.errno or 0)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) in (13, 22)
