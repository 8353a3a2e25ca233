"""Credentials of a task: user and group ids, capability sets. Immutable: a change makes a new object (credentials(7)).

Copies are shared between tasks after fork, and the name cache may key its permission checks by identity.
"""

from typing import NamedTuple

from sentry.abi.linux import CAP_LAST_CAP

ALL_CAPS = (1 << (CAP_LAST_CAP + 1)) - 1


class Credentials(NamedTuple):
    """Ids are the container's. Capability sets are bit masks (capabilities(7)); `securebits` as prctl(2) has them."""

    uid: int = 0
    euid: int = 0
    suid: int = 0
    fsuid: int = 0
    gid: int = 0
    egid: int = 0
    sgid: int = 0
    fsgid: int = 0
    groups: tuple[int, ...] = ()
    cap_permitted: int = 0
    cap_effective: int = 0
    cap_inheritable: int = 0
    cap_bounding: int = ALL_CAPS
    cap_ambient: int = 0
    no_new_privs: bool = False
    securebits: int = 0

    def has_cap(self, cap: int) -> bool:
        return bool(self.cap_effective >> cap & 1)

    def in_group(self, gid: int) -> bool:
        """Whether file-system checks treat the task as a member of `gid`."""
        return gid == self.fsgid or gid in self.groups
