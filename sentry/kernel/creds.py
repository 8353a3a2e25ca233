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


def exec_credentials(old: Credentials, uid: int | None, gid: int | None) -> tuple[Credentials, bool]:
    """Credentials after execve(2) of a file whose set-id bits ask for `uid`, `gid` (None: not set), and whether the new
    program runs with more than its caller had (AT_SECURE). capabilities(7), "Transformation during execve()"."""
    euid = old.euid if uid is None else uid
    egid = old.egid if gid is None else gid
    root = euid == 0 or old.uid == 0
    no_root = old.securebits & 1  # SECBIT_NOROOT
    ambient = 0 if uid is not None or gid is not None else old.cap_ambient
    if root and not no_root:
        permitted = old.cap_inheritable | old.cap_bounding
        effective = permitted if euid == 0 else ambient
    else:
        permitted = effective = ambient
    if old.no_new_privs:
        permitted &= old.cap_permitted
        effective &= permitted
    new = old._replace(
        euid=euid, suid=euid, fsuid=euid, egid=egid, sgid=egid, fsgid=egid,
        cap_permitted=permitted, cap_effective=effective, cap_ambient=ambient,
        securebits=old.securebits & ~0x10,  # SECBIT_KEEP_CAPS is cleared
    )  # fmt: skip
    secure = euid != old.uid or egid != old.gid or (permitted != ambient and old.uid != 0 and not old.cap_permitted)
    return new, secure
