"""Credentials of a task: user and group ids, capability sets. Immutable: a change makes a new object (credentials(7)).

Copies are shared between tasks after fork, and the name cache may key its permission checks by identity.
"""

from typing import NamedTuple, Protocol

from sentry.abi.linux import CAP_LAST_CAP, CAP_SETUID
from sentry.errors import EPERM

ALL_CAPS = (1 << (CAP_LAST_CAP + 1)) - 1
SECBIT_NOROOT, SECBIT_KEEP_CAPS = 0x01, 0x10


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


class FileCapabilities(Protocol):
    """What a program file grants: sentry/vfs/filecaps.py."""

    @property
    def permitted(self) -> int: ...
    @property
    def inheritable(self) -> int: ...
    @property
    def effective(self) -> bool: ...


def exec_credentials(
    old: Credentials,
    uid: int | None,
    gid: int | None,
    caps: FileCapabilities | None = None,
    unsafe: bool = False,
) -> tuple[Credentials, bool]:
    """Credentials after execve(2) of a file whose set-id bits ask for `uid`, `gid` (None: not set) and that has `caps`;
    and whether the new program runs with more than its caller had (AT_SECURE). `unsafe`: another process could lead the
    program astray, one with the same root and working directory or a tracer. EPERM: the bounding set holds back what an
    effective file needs. capabilities(7), "Transformation during execve()"; cap_bprm_creds_from_file."""
    euid = old.euid if uid is None else uid
    egid = old.egid if gid is None else gid
    permitted, effective = 0, False
    if caps is not None:
        permitted = old.cap_bounding & caps.permitted | old.cap_inheritable & caps.inheritable
        effective = caps.effective
        if effective and caps.permitted & ~permitted:
            raise EPERM
    set_root_with_caps = caps is not None and old.uid != 0 and euid == 0
    if not old.securebits & SECBIT_NOROOT and not set_root_with_caps:
        if euid == 0 or old.uid == 0:
            permitted = old.cap_bounding | old.cap_inheritable
        effective = effective or euid == 0
    changed = euid != old.euid or not old.in_group(egid)
    if (changed or permitted & ~old.cap_permitted) and (old.no_new_privs or unsafe):
        if old.no_new_privs or not old.has_cap(CAP_SETUID):
            euid, egid = old.uid, old.gid
        permitted &= old.cap_permitted
    ambient = 0 if changed or caps is not None else old.cap_ambient
    permitted |= ambient
    new = old._replace(
        euid=euid, suid=euid, fsuid=euid, egid=egid, sgid=egid, fsgid=egid,
        cap_permitted=permitted, cap_effective=permitted if effective else ambient, cap_ambient=ambient,
        securebits=old.securebits & ~SECBIT_KEEP_CAPS,
    )  # fmt: skip
    secure = changed or euid != old.uid or egid != old.gid
    return new, secure or (old.uid != 0 and (effective or bool(permitted & ~ambient)))


def gains(old: Credentials, new: Credentials) -> bool:
    """Whether a change of credentials hides the process from its like: other effective or file system ids, or new
    capabilities (commit_creds)."""
    return (old.euid, old.egid, old.fsuid, old.fsgid) != (new.euid, new.egid, new.fsuid, new.fsgid) or bool(
        new.cap_permitted & ~old.cap_permitted
    )
