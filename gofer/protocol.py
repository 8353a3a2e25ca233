"""The messages between sentry and gofer: one SEQPACKET message each way per request.

request:  HEADER(id, op, 0, handle)    + the op's fixed struct + names or data (the rest of the message)
reply:    REPLY(id, errno, 0, value)   + data, and at most one donated descriptor (SCM_RIGHTS)

A handle stands for one host inode; a name is one component, never a path. Requests are answered in the
order they were sent, and every request but FORGET is answered. Byte order is the host's: both ends are
forked from one process. An EIO that is the gofer's own bug says so in its data.
"""

from struct import Struct

VERSION = 1

HEADER = Struct("=IHHQ")  # id, op, zero, handle
REPLY = Struct("=IHHQ")  # id, errno, zero, value (a handle, a cookie, or 0)
HEAD = HEADER.size

MAX_NAME = 255
MAX_VALUE = 65536  # an extended attribute's value; the largest thing a request carries
MAX_MESSAGE = MAX_VALUE + 1024
MAX_TARGET = 4095
DIRENT_BYTES = 60 * 1024  # of struct linux_dirent64 in one READDIR reply
MAX_BATCH = 64  # names in one LOOKUPN, WALK or WALK_OPEN
MAX_FORGET = 512  # handles in one FORGET

ATTACH = 1  # ATTACH_ARGS                       -> value = handle, ENTRY
LOOKUP = 2  # name                              -> value = handle, ATTR, target of a symlink
LOOKUPN = 3  # names separated by NUL           -> for each: BATCH(errno, handle, length), ATTR, target
OPEN = 4  # FLAGS                               -> fd (regular files only)
CREATE = 5  # CREATE_ARGS, name                 -> value = handle, ATTR, fd
MKDIR = 6  # OWNER_ARGS, name                   -> value = handle, ATTR
SYMLINK = 7  # SYMLINK_ARGS, name, target       -> value = handle, ATTR
MKNOD = 8  # OWNER_ARGS, name                   -> value = handle, ATTR
LINK = 9  # handle of the dir; HANDLE, name     -> ATTR
UNLINK = 10  # name
RMDIR = 11  # name
RENAME = 12  # RENAME_ARGS, old, new
READLINK = 13  #                                -> target
GETATTR = 14  #                                 -> ATTR
SETATTR = 15  # SETATTR_ARGS                    -> ATTR
READDIR = 16  # COOKIE                          -> value = next cookie or EOF_COOKIE, struct linux_dirent64[]
STATFS = 17  #                                  -> struct statfs
GETXATTR = 18  # name                           -> value bytes
SETXATTR = 19  # XATTR_ARGS, name, value
LISTXATTR = 20  #                               -> names, each with a NUL
REMOVEXATTR = 21  # name
FORGET = 22  # FORGET_ITEM...                   (no reply)
CONNECT = 23  # FLAGS = SOCK_STREAM...          -> fd, a connected socket
FSYNC = 24  # FLAGS = 1: data only
WALK = 25  # names separated by NUL, each in the one before -> as LOOKUPN, to the first that is absent or no directory
WALK_OPEN = 26  # as WALK                       -> ..., and fd of the last one, to read, if it is a regular file
TMPFILE = 27  # OWNER_ARGS                      -> value = handle, ATTR, fd; it has no name

OP_NAMES = {
    value: name
    for name, value in list(globals().items())
    if isinstance(value, int) and name.isupper() and 1 <= value <= 27 and name not in ("VERSION", "HEAD")
}

ATTACH_ARGS = Struct("=II")  # version, export
FLAGS = Struct("=I")
HANDLE = Struct("=Q")
CREATE_ARGS = Struct("=IIII")  # flags, mode, uid, gid
OWNER_ARGS = Struct("=III")  # mode, uid, gid
SYMLINK_ARGS = Struct("=IIH")  # uid, gid, length of the name
RENAME_ARGS = Struct("=QIH")  # handle of the new dir, flags, length of the old name
SETATTR_ARGS = Struct("=IIIIQqq")  # valid, mode, uid, gid, size, atime_ns, mtime_ns
COOKIE = Struct("=q")
XATTR_ARGS = Struct("=IH")  # flags, length of the name
FORGET_ITEM = Struct("=QQ")  # handle, lookups to give back
BATCH = Struct("=HHIQ")  # errno, zero, bytes that follow, handle
EOF_COOKIE = (1 << 64) - 1

SET_MODE, SET_UID, SET_GID, SET_SIZE, SET_ATIME, SET_MTIME = 1, 2, 4, 8, 16, 32
SET_ATIME_NOW, SET_MTIME_NOW = 64, 128

# What ATTACH answers after the attributes: flags of the export.
EXPORT = Struct("=I")
EXPORT_READONLY, EXPORT_EXCLUSIVE = 1, 2

# An inode's attributes are the head of struct statx as the host filled it in, but for uid and gid,
# which are the container's. So the gofer copies and does not convert.
ATTR = Struct("=IIQIIIH2xQQQ8xqI4xqI4xqI4xqI4xIIIIQ")
ATTR_SIZE = ATTR.size
assert ATTR_SIZE == 152


class Attr:
    """One inode's attributes, unpacked. Times in nanoseconds, devices as (major, minor)."""

    __slots__ = (
        "atime_ns",
        "blksize",
        "blocks",
        "btime_ns",
        "ctime_ns",
        "dev",
        "gid",
        "ino",
        "mnt_id",
        "mode",
        "mtime_ns",
        "nlink",
        "rdev",
        "size",
        "uid",
    )  # fmt: skip

    def __init__(self, data: bytes | bytearray | memoryview, offset: int = 0) -> None:
        (
            _mask, self.blksize, _attributes, self.nlink, self.uid, self.gid, self.mode, self.ino,
            self.size, self.blocks,
            a_sec, a_nsec, b_sec, b_nsec, c_sec, c_nsec, m_sec, m_nsec,
            rmajor, rminor, major, minor, self.mnt_id,
        ) = ATTR.unpack_from(data, offset)  # fmt: skip
        self.atime_ns: int = a_sec * 1_000_000_000 + a_nsec
        self.btime_ns: int = b_sec * 1_000_000_000 + b_nsec
        self.ctime_ns: int = c_sec * 1_000_000_000 + c_nsec
        self.mtime_ns: int = m_sec * 1_000_000_000 + m_nsec
        self.rdev: tuple[int, int] = (rmajor, rminor)
        self.dev: tuple[int, int] = (major, minor)



def parse_batch(data: bytes) -> list[tuple[int, int, bytes]]:
    """(errno, handle, attributes and target) of each answer of a LOOKUPN, WALK or WALK_OPEN reply."""
    answers = []
    offset, end, size = 0, len(data), BATCH.size
    while offset < end:
        errno, _zero, length, handle = BATCH.unpack_from(data, offset)
        start = offset + size
        offset = start + length
        answers.append((errno, handle, data[start:offset]))
    return answers


DIRENT = Struct("=QqHB")  # d_ino, d_off, d_reclen, d_type; then the name, NUL padded


def parse_dirents(data: bytes) -> list[tuple[bytes, int, int]]:
    """(name, ino, d_type) of each entry of a READDIR reply, without `.` and `..`."""
    entries = []
    offset, end = 0, len(data)
    unpack, header = DIRENT.unpack_from, DIRENT.size
    while offset < end:
        ino, _next, length, kind = unpack(data, offset)
        name = data[offset + header : data.index(0, offset + header)]
        if name != b"." and name != b"..":
            entries.append((name, ino, kind))
        offset += length
    return entries
