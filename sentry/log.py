"""The sentry's log records: one a line on the client's log, as JSON or as text, or plain text on stderr.

No `logging` module: it costs 15 ms at start-up, and a record here is one write.
"""

import os
from time import gmtime, strftime

STDERR = 2


class Log:
    """Writes records to a host descriptor; -1 drops them. With `debug`, debug records too. `plain`: for a person,
    who is told of errors, and of the rest only with `debug`."""

    __slots__ = ("_fd", "debug_on", "json", "plain")

    def __init__(self, fd: int, debug: bool = False, json: bool = True, plain: bool = False) -> None:
        self._fd = fd
        self.debug_on = debug
        self.json = json
        self.plain = plain

    def _write(self, level: str, text: str) -> None:
        if self._fd < 0 or (level != "error" and self.plain and not self.debug_on):
            return
        if self.plain:
            line = f"runsc-py: {level}: {text}"
        else:
            from json import dumps

            time = strftime("%Y-%m-%dT%H:%M:%SZ", gmtime())
            if self.json:
                line = dumps({"level": level, "msg": text, "time": time})
            else:
                line = f'time="{time}" level={level} msg={dumps(text)}'
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


def describe(error: BaseException) -> str:
    """What went wrong and where, the outermost call first. (The traceback module wants a tokenizer, and source files,
    which can't be opened from here.)"""
    lines = [f"{type(error).__name__}: {error}"]
    place = error.__traceback__
    while place is not None:
        code = place.tb_frame.f_code
        lines.append(f"  {code.co_filename}:{place.tb_lineno} in {code.co_qualname}")
        place = place.tb_next
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n".join(lines) + (f"\nafter {describe(before)}" if before is not None else "")
