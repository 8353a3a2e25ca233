"""Credentials of a task: user and group ids, capability sets. Immutable: a change makes a new object (credentials(7)).

Copies are shared between tasks after fork, and the name cache may key its permission checks by identity.
"""

from struct import unpack
from typing import NamedTuple

from sentry.abi.linux import CAP_LAST_CAP, CAP_SETUID
from sentry.errors import EINVAL, EPERM

ALL_CAPS = (1 << (CAP_LAST_CAP + 1)) - 1
_SECBIT_NOROOT, _SECBIT_KEEP_CAPS = 1, 0x10


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


class FileCaps(NamedTuple):
    """What a file's security.capability says."""

    permitted: int
    inheritable: int
    effective: bool


_REVISION_MASK, _EFFECTIVE = 0xFF000000, 1
_SIZES = {0x01000000: 12, 0x02000000: 20, 0x03000000: 24}  # by revision (linux/capability.h)


def parse_file_caps(data: bytes) -> FileCaps | None:
    """struct vfs_ns_cap_data (get_vfs_caps_from_disk); None if they are another user namespace's. EINVAL."""
    words = unpack(f"<{len(data) // 4}I", data[: len(data) & ~3])
    if not words or _SIZES.get(words[0] & _REVISION_MASK) != len(data):
        raise EINVAL("file capabilities")
    if len(data) == 24 and words[5]:
        return None
    high = words[3:5] if len(data) > 12 else (0, 0)
    permitted, inheritable = words[1] | high[0] << 32, words[2] | high[1] << 32
    return FileCaps(permitted & ALL_CAPS, inheritable & ALL_CAPS, bool(words[0] & _EFFECTIVE))


def exec_credentials(
    old: Credentials, uid: int | None, gid: int | None, caps: FileCaps | None = None, traced: bool = False
) -> tuple[Credentials, bool]:
    """Credentials after execve(2) of a file whose set-id bits ask for `uid`, `gid` (None: not set), and whether the new
    program runs with more than its caller had (AT_SECURE). capabilities(7), "Transformation during execve()"; the steps
    are those of cap_bprm_creds_from_file(). EPERM: the program must not run without a capability it can't have.
    `traced`: by somebody who must not get at what the program would gain, so it gains nothing."""
    euid = old.euid if uid is None else uid
    egid = old.egid if gid is None else gid
    permitted, effective = 0, False
    if caps is not None:
        permitted = old.cap_bounding & caps.permitted | old.cap_inheritable & caps.inheritable
        effective = caps.effective
        if effective and caps.permitted & ~permitted:
            raise EPERM("a capability of the file is not in the bounding set")
    # What capabilities a set-user-id-root program has of its own are all that it gives to a user.
    limited = caps is not None and euid == 0 and old.uid != 0
    if not old.securebits & _SECBIT_NOROOT and not limited:
        if euid == 0 or old.uid == 0:
            permitted = old.cap_inheritable | old.cap_bounding
        effective = effective or euid == 0
    set_id = euid != old.uid or egid != old.gid
    if (old.no_new_privs or traced) and (set_id or permitted & ~old.cap_permitted):
        if old.no_new_privs or not old.has_cap(CAP_SETUID):
            euid, egid = old.uid, old.gid
        permitted &= old.cap_permitted
    ambient = 0 if caps is not None or set_id else old.cap_ambient
    permitted |= ambient
    new = old._replace(
        euid=euid, suid=euid, fsuid=euid, egid=egid, sgid=egid, fsgid=egid,
        cap_permitted=permitted, cap_effective=permitted if effective else ambient, cap_ambient=ambient,
        securebits=old.securebits & ~_SECBIT_KEEP_CAPS,
    )  # fmt: skip
    return new, set_id or (old.uid != 0 and (effective or bool(permitted & ~ambient)))
