"""/proc/PID/maps, smaps, smaps_rollup, auxv: the host's, translated into the guest's files.

A line of a file mapping is named through sentry/mm/hostmap.py. The loader stub's own pages are left out.
"""

from __future__ import annotations

import os
from struct import unpack_from
from typing import TYPE_CHECKING

from sentry.abi.x86_64 import major, makedev, minor
from sentry.errors import LinuxError
from sentry.fs.proc.access import check_look
from sentry.mm.hostmap import Index
from sentry.vfs.mount import d_path

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

# Where the loader stub is linked (native/src/stub.c), and the scratch memory of first tasks.
STUB_AREAS = (range(0x600000000000, 0x600001000000), range(0x610000000000, 0x610001000000))
_SPECIAL = (b"[heap]", b"[stack]", b"[vdso]", b"[vvar]", b"[vvar_vclock]", b"[vsyscall]", b"[uprobes]")
_LIMIT = 1 << 24
_STACK_LIMIT = 8 << 20  # arguments, environment and the pointers to them have 6 MiB at most


def host_text(kernel: Kernel, host_tid: int, name: str) -> bytes:
    """A whole file of the host's procfs, which gives a page at a time."""
    try:
        host_fd = os.open(f"{host_tid}/{name}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=kernel.host_proc)
    except OSError:
        return b""
    parts: list[bytes] = []
    size = 0
    try:
        while size < _LIMIT and (part := os.read(host_fd, 1 << 16)):
            parts.append(part)
            size += len(part)
    except OSError:
        return b""
    finally:
        os.close(host_fd)
    return b"".join(parts)


def _line(line: bytes, target: Task, index: Index) -> bytes | None:
    """A maps line as the guest sees it; None for the stub's."""
    words = line.split(None, 5)
    if len(words) < 5:
        return line
    area, prot, offset, device, inode = words[:5]
    name = words[5] if len(words) > 5 else b""
    start = int(area.partition(b"-")[0], 16)
    if name != b"[heap]" and any(start in area for area in STUB_AREAS):
        return None
    if inode == b"0":
        if name.startswith((b"[anon", b"[stack:")) or name in _SPECIAL:
            return _format(area, prot, offset, 0, 0, name)
        return _format(area, prot, offset, 0, 0, b"")
    high, _, low = device.partition(b":")
    path = index.find(makedev(int(high, 16), int(low, 16)), int(inode))
    if path is not None:
        found = path.dentry.inode
        assert found is not None
        shown = d_path(path, target.fs.root).replace(b"\n", b"\\012")
        return _format(area, prot, offset, path.mount.fs.dev, found.ino, shown)
    if prot[3:4] == b"s":
        return _format(area, prot, offset, 1, 1024, b"/dev/zero (deleted)")
    return _format(area, prot, b"00000000", 0, 0, b"")


def _format(area: bytes, prot: bytes, offset: bytes, dev: int, ino: int, name: bytes) -> bytes:
    text = b"%s %s %s %02x:%02x %d " % (area, prot, offset, major(dev), minor(dev), ino)
    return text.ljust(73) + name if name else text


def maps(reader: Task, target: Task) -> bytes:
    """/proc/PID/maps."""
    check_look(reader, target)
    index = Index(target.mounts)
    lines = []
    for line in host_text(target.kernel, target.host_tid, "maps").splitlines():
        shown = _line(line, target, index)
        if shown is not None:
            lines.append(shown + b"\n")
    return b"".join(lines)


def smaps(reader: Task, target: Task) -> bytes:
    """/proc/PID/smaps."""
    check_look(reader, target)
    index = Index(target.mounts)
    lines = []
    hidden = False
    for line in host_text(target.kernel, target.host_tid, "smaps").splitlines():
        head = line.split(b" ", 1)[0]
        if b"-" in head and not head.endswith(b":"):
            shown = _line(line, target, index)
            hidden = shown is None
            line = shown or b""
        if not hidden:
            lines.append(line + b"\n")
    return b"".join(lines)


def smaps_rollup(reader: Task, target: Task) -> bytes:
    """/proc/PID/smaps_rollup."""
    check_look(reader, target)
    lines = host_text(target.kernel, target.host_tid, "smaps_rollup").splitlines(keepends=True)
    return b"".join(lines)


def numa_maps(reader: Task, target: Task) -> bytes:
    check_look(reader, target)
    return b""


def cmdline(reader: Task, target: Task) -> bytes:
    """/proc/PID/cmdline: the program's own memory, which setproctitle(3) may have changed."""
    if target.spawn is not None:
        return b""
    return host_text(target.kernel, target.host_tid, "cmdline")


def environ(reader: Task, target: Task) -> bytes:
    """/proc/PID/environ."""
    check_look(reader, target)
    if target.spawn is not None:
        return b""
    return host_text(target.kernel, target.host_tid, "environ")


def auxv(reader: Task, target: Task) -> bytes:
    """/proc/PID/auxv, found on the stack: the host remembers only that of the loader stub."""
    check_look(reader, target)
    fields = target.kernel.pids.read(target.host_tid, "stat").rpartition(b")")[2].split()
    if len(fields) < 46:
        return b""
    start_stack, arg_start = int(fields[25]), int(fields[45])
    low = (start_stack - 4352) & -16
    if not 0 < arg_start - low <= _STACK_LIMIT:  # prctl(PR_SET_MM) may have moved it anywhere
        return b""
    try:
        data = target.mem.read_some(low, arg_start - low)
    except LinuxError:
        return b""
    words = unpack_from(f"<{len(data) // 8}Q", data)
    try:
        index = words.index(arg_start)
        index = words.index(0, index) + 1  # past argv's NULL
        index = words.index(0, index) + 1  # past envp's
        end = index
        while words[end]:
            end += 2
    except (ValueError, IndexError):
        return b""
    return data[index * 8 : (end + 2) * 8]
