"""struct sockaddr in its forms, as raw bytes: taking apart what a guest gives, making what it gets."""

from __future__ import annotations

from struct import Struct

from sentry.abi.linux import AF_UNIX
from sentry.errors import EINVAL

FAMILY = Struct("<H")
MAX_SIZE = 128  # struct sockaddr_storage
UN_SIZE = 110  # struct sockaddr_un: family and 108 bytes of path


def family(addr: bytes) -> int:
    """The sa_family of an address; EINVAL for one too short to have it."""
    if len(addr) < 2:
        raise EINVAL
    return FAMILY.unpack_from(addr)[0]


def parse_unix(addr: bytes) -> bytes:
    """unix_validate_addr: the name in a sockaddr_un. Abstract ones begin with NUL and are taken whole; a
    path ends at its first NUL, and has one appended here as in what getsockname(2) shows.
    """
    if len(addr) <= 2 or len(addr) > UN_SIZE or family(addr) != AF_UNIX:
        raise EINVAL
    name = addr[2:]
    if name[0] == 0:
        return name
    return name.split(b"\0", 1)[0] + b"\0"


def unix(name: bytes) -> bytes:
    """The sockaddr_un of a name as parse_unix gives it; b"" is an unnamed socket."""
    return FAMILY.pack(AF_UNIX) + name
