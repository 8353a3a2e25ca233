"""Walks over names that the C core has in its cache (native/src/walk.c): `find(task, dirfd, path, follow)`.

C answers stat(2) and its like by itself that way; calls that Python answers begin with it too. What C finds
missing or odd, it leaves to sentry/vfs/walk.py, whose look-ups fill the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.abi.linux import AT_FDCWD, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
from sentry.errors import ENOENT
from sentry.vfs.dentry import cache
from sentry.vfs.mount import Path, by_id

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.task import Task
    from sentry.vfs.mount import Mount

KNOWN = "all names in the path are in the cache of names"  #: why C may answer a call
MAX_RIGHTS = 256  #: sets of rights that are kept for the next use
SECBIT_NO_SETUID_FIXUP = 4

_FOLLOW, _PARENT = lib.NC_FOLLOW, lib.NC_PARENT
_ENOENT = ENOENT.errno
_found = ffi.new("struct nc_found *")
_find = lib.nc_find
_rights: dict[Credentials, Any] = {}


def find(task: Task, dirfd: int, path: bytes, follow: bool) -> Path | None:
    """What `path` names; ENOENT if that is known to be nothing. None: walk."""
    if not path:
        return None
    mount = name = ffi.NULL
    if dirfd != AT_FDCWD and path[:1] != b"/":
        start = task.fds.get(dirfd).path
        if start is None or start.dentry.nc is None:
            return None
        mount, name = start.mount.twin(), start.dentry.nc
    error = _find(task.fs.nc, rights_of(task.creds), mount, name, path, len(path), follow, _found)
    if error:
        if error == -_ENOENT:
            raise ENOENT
        return None
    return place_of(_found.mount, _found.name)


def find_parent(task: Task, start: Path, path: bytes) -> tuple[Path, bytes] | None:
    """The directory that holds the last component of `path`, walked from `start` unless it is absolute, and
    that component. None: walk.
    """
    name = start.dentry.nc
    if name is None:
        return None
    if _find(task.fs.nc, rights_of(task.creds), start.mount.twin(), name, path, len(path), _PARENT, _found):
        return None
    place = place_of(_found.mount, _found.name)
    if place is None:
        return None
    return place, path[_found.last : _found.last + _found.last_len]


def place_of(mount_id: int, name_id: int) -> Path | None:
    """By the numbers that C gives; None for what only Python's walks reach."""
    mount: Mount | None = by_id.get(mount_id)
    if mount is None:
        return None
    dentry = cache.fifo.get(name_id)
    if dentry is None:  # in no directory: a file system's root, or a removed directory
        dentry = mount.root
        if dentry.id != name_id:
            return None
    return Path(mount, dentry)


def rights_of(creds: Credentials) -> Any:
    """What of the credentials decides about access to files, for the C core (nc_rights)."""
    rights = _rights.get(creds)
    if rights is None:
        capabilities = 0
        if creds.has_cap(CAP_DAC_OVERRIDE):
            capabilities |= lib.NC_DAC_OVERRIDE
        if creds.has_cap(CAP_DAC_READ_SEARCH):
            capabilities |= lib.NC_DAC_READ_SEARCH
        if real_user(creds) is creds:
            capabilities |= lib.NC_REAL_IDS
        if len(_rights) >= MAX_RIGHTS:
            _rights.clear()
        made = lib.nc_rights_new(creds.fsuid, creds.fsgid, list(creds.groups), len(creds.groups), capabilities)
        rights = _rights[creds] = ffi.gc(made, lib.nc_rights_free)
    return rights


def real_user(creds: Credentials) -> Credentials:
    """What access(2) asks with: the real ids; root's real id brings the permitted capabilities along."""
    capabilities = creds.cap_effective
    if not creds.securebits & SECBIT_NO_SETUID_FIXUP:
        capabilities = creds.cap_permitted if creds.uid == 0 else 0
    if creds.uid == creds.fsuid and creds.gid == creds.fsgid and capabilities == creds.cap_effective:
        return creds
    return creds._replace(fsuid=creds.uid, fsgid=creds.gid, cap_effective=capabilities)
