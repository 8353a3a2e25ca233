"""Everything the sentry may ever need, loaded while files can still be opened.

After lock_down there is no root to import from; a test holds that whatever the sentry imports is among this. It is most
of a sandbox's start-up time: think twice before the sentry imports more of the standard library.
"""

import os

LIBRARY = ("_socket", "fcntl", "json", "resource", "termios")


def load() -> None:
    """Import the standard library's part and all of this package."""
    from sentry.confine import own_filter
    from sentry.syscalls import load_all

    for name in LIBRARY:
        __import__(name)
    _load_below(os.path.dirname(__file__), "sentry.")
    load_all()
    own_filter()


def _load_below(directory: str, prefix: str) -> None:
    for entry in os.scandir(directory):
        if entry.name.endswith(".py") and entry.name != "__init__.py":
            __import__(prefix + entry.name[:-3])
        elif entry.is_dir() and entry.name.isidentifier() and entry.name != "__pycache__":
            __import__(prefix + entry.name)
            _load_below(entry.path, prefix + entry.name + ".")
