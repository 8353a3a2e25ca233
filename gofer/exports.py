"""What a container may see of the host: the rootfs (export 0) and its bind mounts.

Each export becomes a detached mount of its own (open_tree(2) with OPEN_TREE_CLONE): it has no path, `..`
stops at its root, it is `nodev,nosuid`, and read-only and noexec are the mount's own properties, so the host
kernel enforces them.
Where the host refuses such mounts the export is a plain O_PATH descriptor, which may not cross into
other mounts, and the server's own checks alone keep it read-only.
"""

import os
from stat import S_ISDIR

from gofer import hostcalls as host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gofer.nodes import Node


IdMap = list[tuple[int, int, int]]  # ids of its files: (inside, outside, count)


class Export:
    """One tree or file of the host. `fd`, if given, is an open descriptor of `source` (any kind)."""

    __slots__ = (
        "by_inode", "connect", "exclusive", "fd", "home", "kind", "mount_points", "noexec", "readonly", "recursive",
        "resolve", "root", "source",
    )  # fmt: skip

    def __init__(
        self,
        source: str,
        readonly: bool = False,
        exclusive: bool = False,
        recursive: bool = False,
        kind: str = "dir",
        fd: int | None = None,
        connect: bool = False,
        mount_points: tuple[tuple[bytes, bool], ...] = (),
        noexec: bool = False,
    ) -> None:
        self.source = source
        self.readonly = readonly
        self.exclusive = exclusive
        self.recursive = recursive
        self.kind = kind
        self.fd = fd
        self.connect = connect  # may the guest connect to unix sockets in it
        self.noexec = noexec  # what is mapped from it can't become executable
        self.mount_points = mount_points  # (place, is it a directory): made in a read-only tree for mounts to cover
        self.root = -1  # once opened: the O_PATH descriptor of its root
        self.resolve = host.BENEATH
        # The server's: nodes by inode, and the (device, mount) that makes a bare inode number enough.
        self.by_inode: dict[object, Node] = {}
        self.home: tuple[int, int, int] = (0, 0, 0)


class ExportError(Exception):
    """One line that says which source and what is wrong with it."""


def open_export(export: Export) -> None:
    if export.mount_points:
        _make_mount_points(export)
    try:
        export.root = _detached(export)
    except OSError:
        export.root = _plain(export)
    if not export.recursive:
        export.resolve |= host.RESOLVE_NO_XDEV
    mode = os.fstat(export.root).st_mode
    if export.kind == "dir" and not S_ISDIR(mode):
        raise ExportError(f"{export.source}: not a directory")
    if export.kind == "file" and S_ISDIR(mode):
        raise ExportError(f"{export.source}: is a directory")


def _detached(export: Export) -> int:
    path = os.fsencode(export.source)
    flags = host.OPEN_TREE_CLONE | (host.AT_RECURSIVE if export.recursive else 0)

    def clone(extra: int) -> int:
        if export.fd is not None:
            return host.open_tree(export.fd, b"", flags | extra | host.AT_EMPTY_PATH)
        return host.open_tree(host.AT_FDCWD, path, flags | extra)

    try:
        fd = clone(0)
    except OSError as error:
        if export.recursive or error.errno != 22:
            raise
        # In a user namespace a mount that covers part of the tree must stay over it: take it along,
        # and let RESOLVE_NO_XDEV keep us out of it.
        fd = clone(host.AT_RECURSIVE)
    attributes = host.MOUNT_ATTR_NOSUID | host.MOUNT_ATTR_NODEV
    if export.readonly:
        attributes |= host.MOUNT_ATTR_RDONLY
    if export.noexec:
        attributes |= host.MOUNT_ATTR_NOEXEC
    try:
        host.mount_setattr(fd, host.AT_RECURSIVE, attributes, host.MS_PRIVATE)
    except OSError:
        os.close(fd)
        raise
    return fd


def _make_mount_points(export: Export) -> None:
    """Nothing leads out: each step is resolved in the root, and what is made is one name in the directory it found.
    What can't be made the sentry will miss, and say so."""
    try:
        root = os.open(export.source, host.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        for path, directory in export.mount_points:
            try:
                _make_place(root, path.strip(b"/").split(b"/"), directory)
            except OSError:
                continue
    finally:
        os.close(root)


def _make_place(root: int, names: list[bytes], directory: bool) -> None:
    parent = os.dup(root)
    try:
        for depth, name in enumerate(names, 1):
            walked = b"/".join(names[:depth])
            try:
                found = host.openat2(root, walked, host.O_PATH | os.O_CLOEXEC, host.IN_ROOT)
            except FileNotFoundError:
                if directory or depth < len(names):
                    os.mkdir(name, 0o755, dir_fd=parent)
                else:
                    os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644, dir_fd=parent))
                found = host.openat2(root, walked, host.O_PATH | os.O_CLOEXEC, host.IN_ROOT)
            os.close(parent)
            parent = found
    finally:
        os.close(parent)


def _plain(export: Export) -> int:
    export.recursive = False  # without a mount of our own, what is mounted below is none of our business
    try:
        if export.fd is not None:
            return os.open(f"/proc/self/fd/{export.fd}", host.O_PATH | os.O_CLOEXEC)
        return os.open(export.source, host.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise ExportError(f"{export.source}: {os.strerror(error.errno or 5)}") from error
