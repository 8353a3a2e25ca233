"""Time-outs of sockets are counted in ticks of the host's clock (jiffies), and read back as whole ones."""

from __future__ import annotations

from time import clock_getres

NS = 1_000_000_000
_CLOCK_MONOTONIC_COARSE = 6
TICK_NS = round(clock_getres(_CLOCK_MONOTONIC_COARSE) * NS)
FOR_EVER_S = ((1 << 63) - 1) // (NS // TICK_NS)  # MAX_SCHEDULE_TIMEOUT


def rounded_up(seconds: int, microseconds: int) -> int | None:
    """A time in nanoseconds, in whole ticks; None: longer than the kernel counts."""
    if seconds >= FOR_EVER_S - 1:
        return None
    return seconds * NS + -(-microseconds * 1000 // TICK_NS) * TICK_NS
