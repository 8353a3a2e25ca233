"""/proc/PID/mounts, mountinfo, mountstats: a mount namespace as text (proc_pid_mountinfo(5))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    MS_DIRSYNC,
    MS_LAZYTIME,
    MS_MANDLOCK,
    MS_NOATIME,
    MS_NODEV,
    MS_NODIRATIME,
    MS_NOEXEC,
    MS_NOSUID,
    MS_NOSYMFOLLOW,
    MS_RDONLY,
    MS_RELATIME,
    MS_SYNCHRONOUS,
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
    (MS_NOSYMFOLLOW, b"nosymfollow"),
)
_SUPER_WORDS = (
    (MS_SYNCHRONOUS, b",sync"),
    (MS_DIRSYNC, b",dirsync"),
    (MS_MANDLOCK, b",mand"),
    (MS_LAZYTIME, b",lazytime"),
)
_ESCAPES = {b" ": b"\\040", b"\t": b"\\011", b"\n": b"\\012"}


def escape(text: bytes) -> bytes:
    """Paths as /proc/mounts writes them."""
    text = text.replace(b"\\", b"\\134")
    for char, code in _ESCAPES.items():
        text = text.replace(char, code)
    return text


def _source(mount: Mount) -> bytes:
    """Where it comes from; in this field a # might begin a comment."""
    return escape(mount.source).replace(b"#", b"\\043")


def _options(mount: Mount) -> bytes:
    return b"".join(b"," + word for flag, word in _WORDS if mount.flags & flag)


def _super_options(mount: Mount) -> bytes:
    """Of the file system, whatever its mounts say (show_sb_opts)."""
    return b"".join(word for flag, word in _SUPER_WORDS if mount.fs.flags & flag)


def _access(read_only: bool) -> bytes:
    return b"ro" if read_only else b"rw"


def _visible(target: Task) -> Iterator[tuple[Mount, bytes]]:
    """The mounts below the task's root, with their places as it names them."""
    root = target.fs.root
    for mount in target.mounts.mounts():
        if mount is root.mount:
            yield mount, b"/"
            continue
        if mount.parent is None or mount.mountpoint is None:
            continue
        place = d_path(Path(mount.parent, mount.mountpoint), root)
        if not place.startswith(b"(unreachable)"):
            yield mount, place


def mounts(target: Task) -> bytes:
    """/proc/PID/mounts."""
    lines = []
    for mount, place in _visible(target):
        options = _access(mount.read_only) + _super_options(mount) + _options(mount) + mount.fs.options()
        lines.append(b"%s %s %s %s 0 0\n" % (_source(mount), escape(place), mount.fs.name, options))
    return b"".join(lines)


def mountinfo(target: Task) -> bytes:
    """/proc/PID/mountinfo."""
    lines = []
    for mount, place in _visible(target):
        fs = mount.fs
        parent = mount.id if mount.parent is None else mount.parent.id
        optional = b""
        if mount.group is not None:
            optional += b"shared:%d " % mount.group.id
        if mount.master is not None:
            optional += b"master:%d " % mount.master.id
        if mount.unbindable:
            optional += b"unbindable "
        lines.append(
            b"%d %d %d:%d %s %s %s %s- %s %s %s\n"
            % (
                mount.id, parent, major(fs.dev), minor(fs.dev), escape(_inside(mount)), escape(place),
                _access(bool(mount.flags & MS_RDONLY)) + _options(mount), optional, fs.name, _source(mount),
                _access(fs.read_only) + _super_options(mount) + fs.options(),
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
    return b"/" + b"/".join(reversed(names)) + (b"//deleted" if mount.root.dead else b"")


def mountstats(target: Task) -> bytes:
    """/proc/PID/mountstats."""
    lines = []
    for mount, place in _visible(target):
        lines.append(
            b"device %s mounted on %s with fstype %s\n" % (_source(mount), escape(place), mount.fs.name)
        )
    return b"".join(lines)
