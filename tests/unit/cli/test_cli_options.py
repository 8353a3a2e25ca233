"""Names of the spec to numbers of the kernel."""

import signal

import pytest

from runsc_py import options
from runsc_py.options import MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_STRICTATIME


def test_mount_options_are_flags_and_data():
    flags, data = options.parse_mount_options(["nosuid", "strictatime", "mode=755", "size=65536k"])
    assert flags == MS_NOSUID | MS_STRICTATIME
    assert data == ["mode=755", "size=65536k"]


def test_later_options_undo_earlier_ones_and_propagation_is_dropped():
    flags, data = options.parse_mount_options(["ro", "nodev", "noexec", "rw", "rprivate", "exec", "rro"])
    assert flags == MS_NODEV | MS_RDONLY
    assert not flags & MS_NOEXEC
    assert data == []


def test_capability_masks():
    unknown: list[str] = []
    assert options.capability_mask(["CAP_CHOWN", "cap_kill", "CAP_FUTURE"], unknown) == 1 | 1 << 5
    assert unknown == ["CAP_FUTURE"]
    assert options.capability_mask(None) == 0
    assert options.capability_mask(["CAP_CHECKPOINT_RESTORE"]) == 1 << 40


@pytest.mark.parametrize(
    ("text", "number"),
    [("9", 9), ("KILL", 9), ("SIGKILL", 9), ("sigterm", 15), ("0", 0), ("64", 64), ("65", None), ("-1", None),
     ("RTMIN", 34), ("SIGRTMIN+3", 37), ("RTMAX-1", 63), ("RTMIN+99", None), ("FOO", None), ("", None)],
)  # fmt: skip
def test_signals(text, number):
    assert options.parse_signal(text) == number


def test_signal_numbers_are_the_hosts():
    for number in signal.Signals:
        assert options.SIGNALS.get(number.name.removeprefix("SIG")) == number.value


def test_rlimit_numbers_are_the_hosts():
    import resource

    for name, number in options.RLIMITS.items():
        if hasattr(resource, name):
            assert getattr(resource, name) == number
