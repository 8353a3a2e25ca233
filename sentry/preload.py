"""Everything the sentry may ever need, loaded while files can still be opened.

After lock_down there is no root to import from. Loading before the forks also lets sentry, zygote and CLI share the
pages. Modules stay lazy for those who import parts of `sentry` for other reasons (the CLI's cheap verbs, tests).
"""

import importlib
import pkgutil

LIBRARY = (
    "encodings.idna",
    "fcntl",
    "json",
    "random",
    "resource",
    "struct",
    "termios",
    "traceback",
    "linecache",
)


def load() -> None:
    """Import the standard library's part and all of this package."""
    import sentry
    import sentry.syscalls

    for name in LIBRARY:
        importlib.import_module(name)
    for module in pkgutil.walk_packages(sentry.__path__, "sentry."):
        importlib.import_module(module.name)
    sentry.syscalls.load_all()
