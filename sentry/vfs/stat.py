"""What the VFS says about an inode: Stat (stat(2)), StatFs (statfs(2)); what it may ask to change: SetAttr.

All three are plain values. Times are nanoseconds since the epoch; st_blocks counts 512-byte units.
"""

from __future__ import annotations

from typing import NamedTuple


class Stat(NamedTuple):
    """struct stat, plus the birth time statx(2) adds (0: unknown)."""

    dev: int
    ino: int
    mode: int
    nlink: int
    uid: int
    gid: int
    rdev: int
    size: int
    blksize: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    btime_ns: int = 0


class StatFs(NamedTuple):
    """struct statfs. `blocks`, `bfree` and `bavail` count units of `bsize`."""

    type: int
    bsize: int = 4096
    blocks: int = 0
    bfree: int = 0
    bavail: int = 0
    files: int = 0
    ffree: int = 0
    namelen: int = 255
    frsize: int = 4096
    flags: int = 0
    fsid: int = 0


class SetAttr:
    """Linux's struct iattr: the attributes to change; None leaves one alone.

    `mode` holds permission bits only (07777). The VFS has done every permission check and has already put
    the clearing of setuid and setgid into `mode`; a file system only applies the values.
    """

    __slots__ = ("atime_ns", "gid", "mode", "mtime_ns", "size", "uid")

    def __init__(
        self,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
    ) -> None:
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.size = size
        self.atime_ns = atime_ns
        self.mtime_ns = mtime_ns

    def __repr__(self) -> str:
        given = ((name, getattr(self, name)) for name in self.__slots__)
        return "SetAttr(" + ", ".join(f"{name}={value}" for name, value in given if value is not None) + ")"


class DirEntry(NamedTuple):
    """One name in a directory, as getdents64(2) reports it; `dtype` is a DT_* value (S_IF* >> 12)."""

    name: bytes
    ino: int
    dtype: int
