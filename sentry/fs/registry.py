"""The file system types mount(2) and the runtime's mount list can name: ``register(b"tmpfs", make_tmpfs)``.

A factory gets (source, options, flags) and returns a new Filesystem. The table also gives /proc/filesystems.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from sentry.errors import ENODEV

if TYPE_CHECKING:
    from sentry.vfs.inode import Filesystem

#: (source, comma-separated options, MS_* flags) -> a new file system. Raises EINVAL for a bad option.
Factory = Callable[[bytes, bytes, int], "Filesystem"]


class _Type(NamedTuple):
    factory: Factory
    nodev: bool
    user: bool


_types: dict[bytes, _Type] = {}


def register(name: bytes, factory: Factory, nodev: bool = True, user: bool = True) -> None:
    """Make `name` mountable. nodev: as /proc/filesystems marks it; user: a guest may mount it with
    mount(2).
    """
    _types[name] = _Type(factory, nodev, user)


def create(name: bytes, source: bytes, options: bytes, flags: int, guest: bool = False) -> Filesystem:
    """A new file system of type `name`; ENODEV if there is no such type."""
    entry = _types.get(name)
    if entry is None or (guest and not entry.user):
        raise ENODEV(f"no file system type {name!r}")
    return entry.factory(source, options, flags)


def names() -> list[bytes]:
    """Every type, in the order of registration."""
    return list(_types)


def proc_filesystems() -> bytes:
    """The text of /proc/filesystems."""
    return b"".join((b"nodev" if kind.nodev else b"") + b"\t" + name + b"\n" for name, kind in _types.items())
