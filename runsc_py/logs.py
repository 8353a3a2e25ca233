"""Log records as containerd and podman read them: `--log FILE --log-format json` is a stream of
`{"level","msg","time"}`; without --log they go to stderr. One `Log` per command, made by `cli.main`.

No `logging`: it costs 15 ms of start-up.
"""

import os
import sys
import time

_LEVELS = ("debug", "info", "warning", "error")


class Log:
    def __init__(self, path: str = "", json_format: bool = False, debug: bool = False) -> None:
        self.path = path
        self.json_format = json_format
        self.verbose = debug
        self._file_fd = -1

    def debug(self, text: str) -> None:
        if self.verbose:
            self._write("debug", text)

    def info(self, text: str) -> None:
        if self.verbose:
            self._write("info", text)

    def warning(self, text: str) -> None:
        self._write("warning", text)

    def error(self, text: str) -> None:
        """The one record of a failed command, and the same text for whoever reads stderr."""
        self._write("error", text)
        if self.path:
            _to_stderr(text + "\n")

    def open(self) -> int:
        """The log file's descriptor, opened for appending; -1 when records go to stderr."""
        if self.path and self._file_fd < 0:
            self._file_fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        return self._file_fd

    def _write(self, level: str, text: str) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.json_format:
            line = f'{{"level":"{level}","msg":{quote(text)},"time":"{stamp}"}}\n'
        else:
            line = f'time="{stamp}" level={level} msg={quote(text)}\n'
        if self.path:
            try:
                os.write(self.open(), line.encode("utf-8", "surrogateescape"))
                return
            except OSError:
                if level == "error":  # told on stderr by our caller
                    return
        _to_stderr(line)


def quote(text: str) -> str:
    """A JSON string (Go's %q differs only for characters that error texts do not hold)."""
    import json

    return json.dumps(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"), ensure_ascii=False)


def _to_stderr(text: str) -> None:
    try:
        sys.stderr.flush()
        os.write(2, text.encode("utf-8", "surrogateescape"))
    except (OSError, ValueError, AttributeError):
        pass
