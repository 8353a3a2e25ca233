"""What the sentry learns of the host at boot, while it can still read the host's /proc."""

from __future__ import annotations

import os

_CPUINFO_LIMIT = 16384


class HostFacts:
    """Plain values; `zero_fd` is a descriptor of /dev/zero, for guests that map it (-1: none)."""

    __slots__ = (
        "boot_id", "cpu_flags", "cpuinfo", "mem_total_kb", "online_cpus", "protected", "swap_total_kb", "zero_fd",
    )  # fmt: skip

    def __init__(self) -> None:
        self.cpuinfo = b""  # the block of the first processor
        self.mem_total_kb = 0
        self.swap_total_kb = 0
        self.online_cpus = 1
        self.zero_fd = -1
        self.protected: dict[str, int] = {}  # /proc/sys/fs/protected_*, which all containers of a host share
        self.boot_id = b"00000000-0000-4000-8000-000000000000"


def _head(path: str, size: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(fd, size)
    except OSError:
        return b""
    finally:
        os.close(fd)


def collect_host_facts() -> HostFacts:
    """Call before the root is given up; then hand `zero_fd` to fs/dev.py's set_host_zero."""
    facts = HostFacts()
    facts.cpuinfo = _head("/proc/cpuinfo", _CPUINFO_LIMIT).partition(b"\n\n")[0] + b"\n"
    for line in _head("/proc/meminfo", 4096).split(b"\n"):
        if line.startswith(b"MemTotal:"):
            facts.mem_total_kb = int(line.split()[1])
        elif line.startswith(b"SwapTotal:"):
            facts.swap_total_kb = int(line.split()[1])
    facts.online_cpus = os.cpu_count() or 1
    facts.boot_id = random_uuid()
    for name in ("fifos", "hardlinks", "regular", "symlinks"):
        value = _head(f"/proc/sys/fs/protected_{name}", 16).strip()
        if value.isdigit():
            facts.protected[name] = int(value)
    try:
        facts.zero_fd = os.open("/dev/zero", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        facts.zero_fd = -1
    return facts


def random_uuid() -> bytes:
    """A version 4 UUID in text."""
    raw = bytearray(os.urandom(16))
    raw[6] = raw[6] & 0x0F | 0x40
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}".encode()


_facts: HostFacts | None = None


def facts_of(kernel: object) -> HostFacts:
    """The kernel's facts (`kernel.facts`), or ones collected now."""
    global _facts
    facts = getattr(kernel, "facts", None)
    if isinstance(facts, HostFacts):
        return facts
    if _facts is None:
        _facts = collect_host_facts()
    return _facts
