"""The sentry's log records: one JSON object a line on the client's log, or plain text on stderr.

No `logging` module: it costs 15 ms at start-up, and a record here is one write.
"""

import os
from time import gmtime, strftime


class Log:
    """Writes records to a host descriptor; -1 drops them. With `debug`, debug records too."""

    __slots__ = ("_fd", "debug_on", "json")

    def __init__(self, fd: int, debug: bool = False, json: bool = True) -> None:
        self._fd = fd
        self.debug_on = debug
        self.json = json

    def _write(self, level: str, text: str) -> None:
        if self._fd < 0:
            return
        if self.json:
            from json import dumps

            time = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
            line = dumps({"level": level, "msg": text, "time": time})
        else:
            line = f"{level}: {text}"
        try:
            os.write(self._fd, line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError:
            pass  # a log that can't be written must not stop the sandbox

    def error(self, text: str) -> None:
        self._write("error", text)

    def warning(self, text: str) -> None:
        self._write("warning", text)

    def debug(self, text: str) -> None:
        if self.debug_on:
            self._write("debug", text)
