"""sentry/syscalls/native.py: what lane 1 lets through, and above all what not."""

import pytest

from sentry.abi import linux
from sentry.abi.x86_64 import NUMBERS
from sentry.syscalls import load_all
from sentry.syscalls.declare import TABLE

load_all()


def runs_natively(name, *args):
    entry = TABLE[NUMBERS[name]]
    registers = (*args, *(0,) * (6 - len(args)))
    return entry.is_native and (entry.when is None or entry.when.holds(registers))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("mmap", (0, 4096, 3, 0x22, 2**64 - 1, 0)),
        ("mmap", (0, 4096, 3, linux.MAP_ANONYMOUS | linux.MAP_SHARED)),
        ("futex", (0x1000, linux.FUTEX_WAIT | linux.FUTEX_PRIVATE_FLAG)),
        ("futex", (0x1000, linux.FUTEX_WAIT_BITSET | linux.FUTEX_CLOCK_REALTIME)),
        ("clock_gettime", (linux.CLOCK_MONOTONIC,)),
        ("clock_gettime", (0xFFFF_FFFA,)),  # process CPU time of pid 0
    ],
)
def test_what_programs_do_all_the_time_is_native(name, args):
    assert runs_natively(name, *args)


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("mmap", (0, 4096, 1, linux.MAP_PRIVATE, 3)),
        ("mmap", (0, 4096, 1, linux.MAP_ANONYMOUS | linux.MAP_PRIVATE | linux.MAP_HUGETLB)),
        ("futex", (0x1000, 2)),  # FUTEX_FD
        ("clock_gettime", ((~3 << 3 | 3) & 0xFFFF_FFFF,)),  # the clock behind descriptor 3
        ("clock_nanosleep", ((~3 << 3 | 3) & 0xFFFF_FFFF,)),
        ("timer_create", ((~3 << 3 | 3) & 0xFFFF_FFFF,)),
    ],
)
def test_what_reaches_out_is_not_native(name, args):
    assert not runs_natively(name, *args)


def test_no_native_call_takes_a_descriptor_or_a_path():
    for entry in TABLE.values():
        if entry.is_native and entry.name != "mmap":
            for kind in entry.kinds if entry.body is None else ():
                assert kind.label not in ("fd", "dirfd", "string"), entry


def test_each_native_call_has_a_reason():
    for entry in TABLE.values():
        assert not entry.is_native or entry.why, entry


def test_calls_with_descriptors_or_paths_are_intercepted():
    for name in (
        "read",
        "open",
        "openat",
        "close",
        "ioctl",
        "socket",
        "kill",
        "ptrace",
        "process_madvise",
    ):
        entry = TABLE.get(NUMBERS[name])
        assert entry is None or not entry.is_native, name


def test_the_host_runs_prctl_only_to_name_the_caller():
    when = TABLE[NUMBERS["prctl"]].when
    assert when is not None
    assert [option for option in range(100) if when.holds((option, 0, 0, 0, 0, 0))] == [linux.PR_SET_NAME]
