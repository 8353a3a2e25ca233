"""While a container is being made, ^C and its like raise here, so that what was made is taken back."""

import signal
from typing import Any

from runsc_py.errors import Interruption

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def begin() -> None:
    """From now on a signal raises Interruption."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, _raise)


def ignore() -> None:
    """The clean-up itself is not interrupted."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def end() -> None:
    """As a process starts: for children, and once somebody else takes over."""
    for number in _SIGNALS:
        if signal.getsignal(number) is _raise:
            signal.signal(number, signal.SIG_DFL)


_held = False
_pending = 0


def hold() -> None:
    """Put interruptions off: what is being made now has no owner yet."""
    global _held
    _held = True


def release() -> None:
    """Raise what `hold` has put off, and later ones at once again."""
    global _held, _pending
    _held = False
    if _pending:
        number, _pending = _pending, 0
        _raise(number, None)


def _raise(number: int, frame: Any) -> None:
    global _pending
    if _held:
        _pending = number
        return
    raise Interruption(signal.Signals(number).name, number)
