"""Who a task is: user and group ids, supplementary groups, capabilities (credentials(7), capabilities(7))."""

from __future__ import annotations

from struct import Struct, unpack
from typing import TYPE_CHECKING, Any

from sentry.abi.linux import CAP_SETGID, CAP_SETPCAP, CAP_SETUID, PR_SET_PDEATHSIG
from sentry.abi.x86_64 import NUMBERS
from sentry.errors import EFAULT, EINVAL, EPERM, ESRCH
from sentry.kernel.creds import ALL_CAPS, SECBIT_KEEP_CAPS, Credentials, gains
from sentry.kernel.rewrite import Rewritten
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Gid, Int, Uid

if TYPE_CHECKING:
    from sentry.kernel.task import Task

KEEP = 0xFFFFFFFF  # -1: leave this id as it is
NGROUPS_MAX = 65536
SECBIT_NO_SETUID_FIXUP = 4
_FS_MASK = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 9 | 1 << 27 | 1 << 32
_CAP_V1, _CAP_V2, _CAP_V3 = 0x19980330, 0x20071026, 0x20080522
_CAP_HEADER, _CAP_DATA = Struct("<Ii"), Struct("<III")


@syscall(fast="kept beside the task")
def sys_getuid(task: Task) -> int:
    return task.creds.uid


@syscall(fast="kept beside the task")
def sys_geteuid(task: Task) -> int:
    return task.creds.euid


@syscall(fast="kept beside the task")
def sys_getgid(task: Task) -> int:
    return task.creds.gid


@syscall(fast="kept beside the task")
def sys_getegid(task: Task) -> int:
    return task.creds.egid


@syscall
def sys_getresuid(task: Task, ruid: Addr, euid: Addr, suid: Addr) -> None:
    for addr, value in ((ruid, task.creds.uid), (euid, task.creds.euid), (suid, task.creds.suid)):
        task.mem.write_u32(addr, value)


@syscall
def sys_getresgid(task: Task, rgid: Addr, egid: Addr, sgid: Addr) -> None:
    for addr, value in ((rgid, task.creds.gid), (egid, task.creds.egid), (sgid, task.creds.sgid)):
        task.mem.write_u32(addr, value)


def _fixup(old: Credentials, new: Credentials) -> Credentials:
    """Capabilities after a change of user ids (capabilities(7), "Effect of user ID changes on capabilities")."""
    if old.securebits & SECBIT_NO_SETUID_FIXUP:
        return new
    was_root = 0 in (old.uid, old.euid, old.suid)
    is_root = 0 in (new.uid, new.euid, new.suid)
    permitted, effective, ambient = new.cap_permitted, new.cap_effective, new.cap_ambient
    if was_root and not is_root:
        if not old.securebits & SECBIT_KEEP_CAPS:
            permitted = effective = 0
        ambient = 0
    if old.euid == 0 and new.euid != 0:
        effective = 0
    elif old.euid != 0 and new.euid == 0:
        effective = permitted
    return new._replace(cap_permitted=permitted, cap_effective=effective, cap_ambient=ambient)


def _set_uids(task: Task, **ids: int) -> Any:
    """Change `uid`, `euid`, `suid`, `fsuid`, and the capabilities with them."""
    old = task.creds
    new = old._replace(**ids)  # type: ignore[arg-type]
    return _commit(task, _fixup(old, new))


def _commit(task: Task, new: Credentials, result: int = 0) -> Any:
    """The task has new credentials; the call gives `result`. Who becomes another hears no more of its parent's death
    (PR_SET_PDEATHSIG). The host kernel tells of that: it is made to forget."""
    if not task.parent_death_signal or not gains(task.creds, new):
        task.set_creds(new)
        return result

    def forgotten(done: int) -> int:
        if done:
            return done  # a signal came first: the guest's call is made again
        task.parent_death_signal = 0
        task.set_creds(new)
        return result

    return Rewritten({0: PR_SET_PDEATHSIG, 1: 0}, nr=NUMBERS["prctl"], finish=forgotten)


@syscall
def sys_setuid(task: Task, uid: Uid) -> Any:
    if uid == KEEP:
        raise EINVAL
    creds = task.creds
    if creds.has_cap(CAP_SETUID):
        return _set_uids(task, uid=uid, euid=uid, suid=uid, fsuid=uid)
    if uid in (creds.uid, creds.suid):
        return _set_uids(task, euid=uid, fsuid=uid)
    raise EPERM


@syscall
def sys_setgid(task: Task, gid: Gid) -> Any:
    if gid == KEEP:
        raise EINVAL
    creds = task.creds
    if creds.has_cap(CAP_SETGID):
        return _commit(task, creds._replace(gid=gid, egid=gid, sgid=gid, fsgid=gid))
    if gid in (creds.gid, creds.sgid):
        return _commit(task, creds._replace(egid=gid, fsgid=gid))
    raise EPERM


@syscall
def sys_setreuid(task: Task, ruid: Uid, euid: Uid) -> Any:
    creds = task.creds
    new_uid = creds.uid if ruid == KEEP else ruid
    new_euid = creds.euid if euid == KEEP else euid
    if not creds.has_cap(CAP_SETUID):
        if ruid != KEEP and ruid not in (creds.uid, creds.euid):
            raise EPERM
        if euid != KEEP and euid not in (creds.uid, creds.euid, creds.suid):
            raise EPERM
    saved = new_euid if ruid != KEEP or (euid != KEEP and euid != creds.uid) else creds.suid
    return _set_uids(task, uid=new_uid, euid=new_euid, suid=saved, fsuid=new_euid)


@syscall
def sys_setregid(task: Task, rgid: Gid, egid: Gid) -> Any:
    creds = task.creds
    new_gid = creds.gid if rgid == KEEP else rgid
    new_egid = creds.egid if egid == KEEP else egid
    if not creds.has_cap(CAP_SETGID):
        if rgid != KEEP and rgid not in (creds.gid, creds.egid):
            raise EPERM
        if egid != KEEP and egid not in (creds.gid, creds.egid, creds.sgid):
            raise EPERM
    saved = new_egid if rgid != KEEP or (egid != KEEP and egid != creds.gid) else creds.sgid
    return _commit(task, creds._replace(gid=new_gid, egid=new_egid, sgid=saved, fsgid=new_egid))


@syscall
def sys_setresuid(task: Task, ruid: Uid, euid: Uid, suid: Uid) -> Any:
    creds = task.creds
    known = (creds.uid, creds.euid, creds.suid)
    if not creds.has_cap(CAP_SETUID) and any(uid != KEEP and uid not in known for uid in (ruid, euid, suid)):
        raise EPERM
    new_euid = creds.euid if euid == KEEP else euid
    return _set_uids(
        task,
        uid=creds.uid if ruid == KEEP else ruid,
        euid=new_euid,
        suid=creds.suid if suid == KEEP else suid,
        fsuid=new_euid,
    )


@syscall
def sys_setresgid(task: Task, rgid: Gid, egid: Gid, sgid: Gid) -> Any:
    creds = task.creds
    known = (creds.gid, creds.egid, creds.sgid)
    if not creds.has_cap(CAP_SETGID) and any(gid != KEEP and gid not in known for gid in (rgid, egid, sgid)):
        raise EPERM
    new_egid = creds.egid if egid == KEEP else egid
    return _commit(
        task,
        creds._replace(
            gid=creds.gid if rgid == KEEP else rgid,
            egid=new_egid,
            sgid=creds.sgid if sgid == KEEP else sgid,
            fsgid=new_egid,
        ),
    )


@syscall
def sys_setfsuid(task: Task, fsuid: Uid) -> Any:
    creds = task.creds
    known = (creds.uid, creds.euid, creds.suid, creds.fsuid)
    if fsuid != KEEP and (fsuid in known or creds.has_cap(CAP_SETUID)):
        effective = creds.cap_effective
        if creds.fsuid == 0 and fsuid != 0:
            effective &= ~_FS_MASK
        elif creds.fsuid != 0 and fsuid == 0:
            effective |= creds.cap_permitted & _FS_MASK
        return _commit(task, creds._replace(fsuid=fsuid, cap_effective=effective), creds.fsuid)
    return creds.fsuid


@syscall
def sys_setfsgid(task: Task, fsgid: Gid) -> Any:
    creds = task.creds
    known = (creds.gid, creds.egid, creds.sgid, creds.fsgid)
    if fsgid != KEEP and (fsgid in known or creds.has_cap(CAP_SETGID)):
        return _commit(task, creds._replace(fsgid=fsgid), creds.fsgid)
    return creds.fsgid


@syscall
def sys_getgroups(task: Task, size: Int, groups: Addr) -> int:
    own = task.creds.groups
    if size < 0:
        raise EINVAL
    if size:
        if len(own) > size:
            raise EINVAL
        task.mem.write(groups, b"".join(gid.to_bytes(4, "little") for gid in own))
    return len(own)


@syscall
def sys_setgroups(task: Task, size: Int, groups: Addr) -> None:
    if not task.creds.has_cap(CAP_SETGID):
        raise EPERM
    if not 0 <= size <= NGROUPS_MAX:
        raise EINVAL
    chosen = sorted(unpack(f"<{size}I", task.mem.read(groups, size * 4)))
    if KEEP in chosen:
        raise EINVAL
    task.set_creds(task.creds._replace(groups=tuple(chosen)))


def _cap_header(task: Task, header: int) -> tuple[int, int]:
    """(number of data structures, pid); an unknown version is answered with the preferred one (capget(2))."""
    version, pid = _CAP_HEADER.unpack(task.mem.read(header, _CAP_HEADER.size))
    if version == _CAP_V1:
        return 1, pid
    if version in (_CAP_V2, _CAP_V3):
        return 2, pid
    task.mem.write_u32(header, _CAP_V3)
    raise EINVAL


@syscall
def sys_capget(task: Task, header: Addr, data: Addr) -> None:
    try:
        count, pid = _cap_header(task, header)
    except EINVAL:
        if not data:
            return
        raise
    if not data:
        return
    if pid < 0:
        raise EINVAL
    target = task if pid == 0 else task.kernel.find_task(pid)
    if target is None:
        raise ESRCH
    creds = target.creds
    packed = b""
    for word in range(count):
        shift = word * 32
        packed += _CAP_DATA.pack(
            creds.cap_effective >> shift & KEEP,
            creds.cap_permitted >> shift & KEEP,
            creds.cap_inheritable >> shift & KEEP,
        )
    task.mem.write(data, packed)


@syscall
def sys_capset(task: Task, header: Addr, data: Addr) -> None:
    count, pid = _cap_header(task, header)
    if pid not in (0, task.tid):
        raise EPERM
    if not data:
        raise EFAULT
    raw = task.mem.read(data, count * _CAP_DATA.size)
    effective = permitted = inheritable = 0
    for word in range(count):
        e, p, i = _CAP_DATA.unpack_from(raw, word * _CAP_DATA.size)
        effective |= e << 32 * word
        permitted |= p << 32 * word
        inheritable |= i << 32 * word
    effective, permitted, inheritable = effective & ALL_CAPS, permitted & ALL_CAPS, inheritable & ALL_CAPS
    old = task.creds
    limit = old.cap_inheritable | (old.cap_bounding if old.has_cap(CAP_SETPCAP) else old.cap_permitted)
    if inheritable & ~limit or inheritable & ~(old.cap_inheritable | old.cap_bounding):
        raise EPERM
    if permitted & ~old.cap_permitted or effective & ~permitted:
        raise EPERM
    task.set_creds(
        old._replace(
            cap_effective=effective,
            cap_permitted=permitted,
            cap_inheritable=inheritable,
            cap_ambient=old.cap_ambient & permitted & inheritable,
        )
    )
