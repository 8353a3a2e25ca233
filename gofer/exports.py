"""What a container may see of the host: the rootfs (export 0) and its bind mounts.

Each export becomes a detached mount of its own (open_tree(2) with OPEN_TREE_CLONE): it has no path, `..`
stops at its root, it is `nodev,nosuid`, and read-only is the mount's own property, so the host kernel
enforces it.
Where the host refuses such mounts the export is a plain O_PATH descriptor, which may not cross into
other mounts, and the server's own checks alone keep it read-only.
"""

import os
from stat import S_ISDIR

from gofer import hostcalls as host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from gofer.nodes import Node


class Export:
    """One tree or file of the host. `fd`, if given, is an open descriptor of `source` (any kind)."""

    __slots__ = (
        "by_inode", "connect", "exclusive", "fd", "home", "kind", "readonly", "recursive", "resolve", "root",
        "source",
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
    ) -> None:
        self.source = source
        self.readonly = readonly
        self.exclusive = exclusive
        self.recursive = recursive
        self.kind = kind
        self.fd = fd
        self.connect = connect  # may the guest connect to unix sockets in it
        self.root = -1  # once opened: the O_PATH descriptor of its root
        self.resolve = host.BENEATH
        # The server's: nodes by inode, and the (device, mount) that makes a bare inode number enough.
        self.by_inode: dict[object, Node] = {}
        self.home: tuple[int, int, int] = (0, 0, 0)


class ExportError(Exception):
    """One line that says which source and what is wrong with it."""


def open_export(export: Export) -> None:
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
    try:
        host.mount_setattr(fd, host.AT_RECURSIVE, attributes, host.MS_PRIVATE)
    except OSError:
        os.close(fd)
        raise
    return fd


def _plain(export: Export) -> int:
    export.recursive = False  # without a mount of our own, what is mounted below is none of our business
    try:
        if export.fd is not None:
            return os.open(f"/proc/self/fd/{export.fd}", host.O_PATH | os.O_CLOEXEC)
        return os.open(export.source, host.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        raise ExportError(f"{export.source}: {os.strerror(error.errno or 5)}") from error
