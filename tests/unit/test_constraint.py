"""sentry/syscalls/constraint.py: register conditions in Python (test_filter.py tests their BPF)."""

from sentry.syscalls.constraint import all_of, any_of, arg_in, masked


def registers(**values):
    return tuple(values.get(f"a{index}", 0) for index in range(6))


def test_masked_looks_at_64_bits():
    wide = masked(1, 0xFF_0000_0001, 0x02_0000_0001)
    assert wide.holds(registers(a1=0xA02_0000_0001))
    assert not wide.holds(registers(a1=0x03_0000_0001))


def test_arg_in_looks_at_the_low_32_bits_as_c_int_does():
    condition = arg_in(0, {0, -1})
    assert condition.holds(registers(a0=0xFFFF_FFFF))
    assert condition.holds(registers(a0=2**64 - 1))
    assert condition.holds(registers(a0=0xDEAD_0000_0000))
    assert not condition.holds(registers(a0=1))


def test_arg_in_with_a_mask():
    condition = arg_in(1, {0, 1}, mask=~0x180)
    assert condition.holds(registers(a1=0x181))
    assert not condition.holds(registers(a1=2))


def test_combinations():
    both = all_of(masked(0, 1, 1), any_of(masked(1, 1, 1), masked(1, 2, 2)))
    assert both.holds(registers(a0=1, a1=2))
    assert not both.holds(registers(a0=0, a1=2))
    assert not both.holds(registers(a0=1, a1=4))


def test_a_condition_says_what_it_asks():
    assert masked(3, 0x20, 0x20, "MAP_ANONYMOUS").text == "MAP_ANONYMOUS"
    assert all_of(masked(3, 0x20, 0x20), arg_in(0, {2, 1})).text == (
        "arg3 & 0x20 == 0x20 and arg0 & 0xffffffff in {1, 2}"
    )
