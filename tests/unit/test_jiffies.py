"""sentry/net/jiffies.py: time-outs in whole ticks."""

from sentry.net.jiffies import FOR_EVER_S, NS, TICK_NS, rounded_up


def test_whole_ticks_stay_and_parts_are_rounded_up() -> None:
    assert rounded_up(0, 0) == 0
    assert rounded_up(3, 0) == 3 * NS
    assert rounded_up(0, 1) == TICK_NS
    assert rounded_up(1, TICK_NS // 1000 + 1) == NS + 2 * TICK_NS


def test_what_the_kernel_cannot_count_is_for_ever() -> None:
    assert rounded_up(FOR_EVER_S, 0) is None
    assert rounded_up(FOR_EVER_S - 2, 0) is not None
