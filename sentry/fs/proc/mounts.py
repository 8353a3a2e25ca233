"""/proc/PID/mounts, mountinfo, mountstats: a mount namespace as text (proc_pid_mountinfo(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_RDONLY,
    MS_RELATIME,
    MS_SHARED,
    MS_UNBINDABLE,
)
from sentry.abi.x86_64 import major, minor
from sentry.vfs.mount import Path, d_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentry.kernel.task import Task
    from sentry.vfs.mount import Mount

_WORDS = (
    (MS_NOSUID, b"nosuid"),
    (MS_NODEV, b"nodev"),
    (MS_NOEXEC, b"noexec"),
    (MS_NOATIME, b"noatime"),
    (MS_NODIRATIME, b"nodiratime"),
    (MS_RELATIME, b"relatime"),
)
_ESCAPES = {b" ": b"\\040", b"\t": b"\\011", b"\n": b"\\012", b"#": b"\\043"}


def escape(text: bytes) -> bytes:
    """Names as /proc/mounts writes them."""
    text = text.replace(b"\\", b"\\134")
    for char, code in _ESCAPES.items():
        text = text.replace(char, code)
    return text


def _options(mount: Mount, read_only: bool) -> bytes:
    words = [b"ro" if read_only else b"rw"]
    words += [word for flag, word in _WORDS if mount.flags & flag]
    return b",".join(words)


def _visible(target: Task) -> Iterator[tuple[Mount, bytes]]:
    """The mounts below the task's root, with their places as it names them."""
    root = target.fs.root
    for mount in target.mounts.mounts():
        if mount is root.mount:
            yield mount, b"/"
            continue
        if mount.parent is None or mount.mountpoint is None:
            continue
        place = d_path(Path(mount, mount.root), root)
        if not place.startswith(b"(unreachable)"):
            yield mount, place


def mounts(target: Task) -> bytes:
    """/proc/PID/mounts."""
    lines = []
    for mount, place in _visible(target):
        options = _options(mount, mount.read_only) + mount.fs.options()
        lines.append(b"%s %s %s %s 0 0\n" % (escape(mount.source), escape(place), mount.fs.name, options))
    return b"".join(lines)


def mountinfo(target: Task) -> bytes:
    """/proc/PID/mountinfo."""
    lines = []
    for mount, place in _visible(target):
        fs = mount.fs
        parent = mount.id if mount.parent is None else mount.parent.id
        optional = b""
        if mount.propagation & MS_SHARED:
            optional = b"shared:%d " % mount.id
        elif mount.propagation & MS_UNBINDABLE:
            optional = b"unbindable "
        lines.append(
            b"%d %d %d:%d %s %s %s %s- %s %s %s\n"
            % (
                mount.id, parent, major(fs.dev), minor(fs.dev), escape(_inside(mount)), escape(place),
                _options(mount, bool(mount.flags & MS_RDONLY)), optional, fs.name, escape(mount.source),
                (b"ro" if fs.flags & MS_RDONLY else b"rw") + fs.options(),
            )
        )  # fmt: skip
    return b"".join(lines)


def _inside(mount: Mount) -> bytes:
    """The part of the file system that a bind mount shows, as a path from the file system's root."""
    names = []
    dentry = mount.root
    while dentry.parent is not None:
        names.append(dentry.name)
        dentry = dentry.parent
    return b"/" + b"/".join(reversed(names))


def mountstats(target: Task) -> bytes:
    """/proc/PID/mountstats."""
    lines = []
    for mount, place in _visible(target):
        lines.append(
            b"device %s mounted on %s with fstype %s\n" % (escape(mount.source), escape(place), mount.fs.name)
        )
    return b"".join(lines)
