"""Files that the C core has opened by itself (native/src/open.c): their Python side is made when it is needed.

`task.fds.get` does that for the file at a descriptor. Names that leave the cache, mounts that leave the tree, and
watches need to know all that is open there: they call `take_up_all`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.fs.hostfile import HostBacking, HostFile
from sentry.kernel import fdtable
from sentry.vfs.names import place_of

if TYPE_CHECKING:
    from sentry.vfs.dentry import Dentry
    from sentry.vfs.mount import Mount

_where = ffi.new("struct nc_found *")


def take_up(nc: Any) -> HostFile:
    """The File of a description that only C knows."""
    lib.nc_file_where(nc, _where)
    place = place_of(_where.mount, _where.name)
    assert place is not None, "a name in use left the cache"
    inode = place.inode
    lib.nc_file_settle(nc)
    nc_inode = lib.nc_file_inode(nc)
    backing = inode.host
    if backing is None or backing.nc != nc_inode:
        backing = HostBacking.of(nc_inode)
    else:
        lib.nc_inode_put(nc_inode)
    file: HostFile = inode.open_file.take_up(nc, inode, place, backing)
    fdtable.enter(file)
    return file


def take_up_all(dentry: Dentry | None = None, mount: Mount | None = None) -> None:
    """All of them, or those of one name or mount."""
    name_nc = ffi.NULL if dentry is None else dentry.nc
    mount_nc = ffi.NULL if mount is None else mount.nc
    # Anew each time: a garbage collection may close some.
    while (nc := lib.nc_lazy_find(name_nc, mount_nc)) != ffi.NULL:
        take_up(nc)
