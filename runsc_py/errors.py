"""What can go wrong, in the words runc uses: clients read the text (see the README of each error).

Raise `RuntimeFault(text)`. `cli.main` prints it once on stderr, writes one log record, and exits with `code`.
"""


class RuntimeFault(Exception):
    """A failure the user is told about in one line. `code` is the exit code of the command."""

    code = 1

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        if code is not None:
            self.code = code


class NoSuchContainer(RuntimeFault):
    def __init__(self) -> None:
        super().__init__("container does not exist")


class IdExists(RuntimeFault):
    def __init__(self) -> None:
        super().__init__("container with given ID already exists")


class NotRunning(RuntimeFault):
    def __init__(self) -> None:
        super().__init__("container not running")


class SandboxGone(RuntimeFault):
    """The sentry does not answer any more."""

    def __init__(self, what: str = "") -> None:
        super().__init__("the sandbox is gone" + (f": {what}" if what else ""))


class Interruption(BaseException):
    """A signal while a container is being made. No handler of failures takes it for one of its own."""

    def __init__(self, name: str, number: int) -> None:
        super().__init__(f"interrupted by {name}")
        self.code = 128 + number


# Go's spelling of errno texts; clients look for "no such file or directory" and "permission denied".
_GO_TEXT = {
    1: "operation not permitted",
    2: "no such file or directory",
    12: "cannot allocate memory",
    13: "permission denied",
    16: "device or resource busy",
    17: "file exists",
    20: "not a directory",
    21: "is a directory",
    22: "invalid argument",
    28: "no space left on device",
    30: "read-only file system",
    36: "file name too long",
    40: "too many levels of symbolic links",
    111: "connection refused",
}


def errno_text(error: OSError) -> str:
    """The text of a host error as runc would print it."""
    if error.errno in _GO_TEXT:
        return _GO_TEXT[error.errno]
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]


def host_fault(action: str, error: OSError) -> RuntimeFault:
    """`host_fault("open /x", err)` -> "open /x: no such file or directory"."""
    return RuntimeFault(f"{action}: {errno_text(error)}")
