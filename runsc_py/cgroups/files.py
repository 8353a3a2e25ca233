"""Reading and writing the small files of a cgroup file system. Readers give a default where there is nothing."""

import os


def write(path: str, value: str) -> None:
    """Write in one call, as cgroup files want it. OSError says why not; nothing is ever created."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, value.encode())
    finally:
        os.close(descriptor)


def read(path: str) -> str:
    """The text, stripped; "" when it cannot be read."""
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read().strip()
    except OSError:
        return ""


def read_int(path: str) -> int | None:
    """A file that holds one number; `max` is 2^64-1; None when it cannot be read."""
    text = read(path)
    try:
        return 2**64 - 1 if text == "max" else int(text)
    except ValueError:
        return None


def read_ints(path: str) -> list[int]:
    """Numbers between white space."""
    try:
        return [int(word) for word in read(path).split()]
    except ValueError:
        return []


def read_pairs(path: str) -> dict[str, int]:
    """Lines of `name number`; others are left out."""
    found = {}
    for line in read(path).splitlines():
        name, _, value = line.strip().partition(" ")
        if value.isdigit():
            found[name] = int(value)
    return found


def read_ranges(path: str) -> list[int]:
    """`0-2,5` -> [0, 1, 2, 5]."""
    try:
        return parse_ranges(read(path))
    except ValueError:
        return []


def parse_ranges(text: str) -> list[int]:
    """`0-2,5` -> [0, 1, 2, 5]. ValueError for what is no such list, or names a number beyond any machine's."""
    found: list[int] = []
    for part in text.split(",") if text else ():
        first, dash, last = part.strip().partition("-")
        end = int(last if dash else first)
        if end >= 1 << 16:
            raise ValueError(f"{part}: out of range")
        found += range(int(first), end + 1)
    return found
