"""Control messages (cmsg(3)): parsing what a guest sends, laying out what it gets, and descriptors in flight.

`parse` makes a Control of the bytes of msg_control. `Rights` holds files that travel in a message: each
counts as a reference, so that closing the sender's descriptor does not release the file. Sockets that are
kept alive only by messages in each other's queues are found and emptied by `collect` (Linux: unix_gc).
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    CAP_SETGID,
    CAP_SETUID,
    CAP_SYS_ADMIN,
    CAP_SYS_RESOURCE,
    MSG_CTRUNC,
    RLIMIT_NOFILE,
    SCM_CREDENTIALS,
    SCM_PIDFD,
    SCM_RIGHTS,
    SOL_SOCKET,
)
from sentry.errors import EINVAL, EPERM, ESRCH, ETOOMANYREFS, LinuxError
from sentry.kernel.fdtable import hold, twin, unhold
from sentry.net.options import Peer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sentry.kernel.task import Task, ThreadGroup
    from sentry.net.socket import Received
    from sentry.vfs.file import File

HEADER = Struct("<Qii")  # struct cmsghdr: length with this header, level, type
UCRED = Struct("<iII")
MAX_RIGHTS = 253  # SCM_MAX_FD
COLLECT_ABOVE = 64  # sockets in flight beyond which a send looks for garbage


class Ucred(tuple[int, int, int]):
    """struct ucred: pid, uid, gid."""

    __slots__ = ()

    def pack(self) -> bytes:
        pid, uid, gid = self
        return UCRED.pack(pid, uid & 0xFFFFFFFF, gid & 0xFFFFFFFF)


NO_PEER = Ucred((0, -1, -1))  # SO_PEERCRED of a socket without a peer
NOBODY = Ucred((0, 65534, 65534))  # SCM_CREDENTIALS of a message that was sent without


class Control:
    """The control messages of one sendmsg."""

    __slots__ = ("creds", "other", "rights")

    def __init__(self) -> None:
        self.rights: list[File] = []
        self.creds: Ucred | None = None
        self.other: list[tuple[int, int, bytes]] = []  # level, type, payload


def split(data: bytes) -> Iterable[tuple[int, int, bytes]]:
    """The messages in `data`; EINVAL for one whose length is impossible (CMSG_OK)."""
    at = 0
    while at + HEADER.size <= len(data):
        length, level, kind = HEADER.unpack_from(data, at)
        if length < HEADER.size or length > len(data) - at:
            raise EINVAL("cmsg_len")
        yield level, kind, data[at + HEADER.size : at + length]
        at += (length + 7) & ~7


def parse(task: Task, data: bytes, unix: bool) -> Control:
    """__scm_send for AF_UNIX; for other families SCM_RIGHTS is EINVAL and the rest is kept in `other`."""
    control = Control()
    for level, kind, payload in split(data):
        if level != SOL_SOCKET:
            if not unix:
                control.other.append((level, kind, payload))
        elif kind == SCM_RIGHTS and unix:
            count = len(payload) // 4
            if count + len(control.rights) > MAX_RIGHTS:
                raise EINVAL("more than SCM_MAX_FD descriptors")
            numbers = Struct(f"<{count}i").unpack_from(payload)
            control.rights += [task.fds.get(fd) for fd in numbers]
        elif kind == SCM_CREDENTIALS and unix:
            if len(payload) != UCRED.size:
                raise EINVAL
            control.creds = _checked(task, Ucred(UCRED.unpack(payload)))
        elif unix:
            raise EINVAL("unknown control message")
        elif kind not in (SCM_RIGHTS, SCM_CREDENTIALS):  # an inet socket ignores those two
            control.other.append((level, kind, payload))
    return control


def own_ucred(task: Task) -> Ucred:
    """What a message of `task` says of its sender."""
    return Ucred((task.group.tgid, task.creds.uid, task.creds.gid))


def peer_identity(task: Task) -> Peer:
    """What SO_PEERCRED and its like say of `task`: the effective ids."""
    creds = task.creds
    return Peer(Ucred((task.group.tgid, creds.euid, creds.egid)), creds.groups, task.group)


def _checked(task: Task, ucred: Ucred) -> Ucred:
    """scm_check_creds: only the privileged may claim to be somebody else."""
    pid, uid, gid = ucred
    creds = task.creds
    if -1 in (uid - (1 << 32), gid - (1 << 32)):
        raise EINVAL
    if pid != task.group.tgid and not creds.has_cap(CAP_SYS_ADMIN):
        raise EPERM
    if uid not in (creds.uid, creds.euid, creds.suid) and not creds.has_cap(CAP_SETUID):
        raise EPERM
    if gid not in (creds.gid, creds.egid, creds.sgid) and not creds.has_cap(CAP_SETGID):
        raise EPERM
    if pid != task.group.tgid and task.kernel.find_task(pid) is None:
        raise ESRCH
    return ucred


class Layout:
    """msg_control as the guest will read it: put_cmsg and scm_detach_fds."""

    __slots__ = ("_room", "data", "flags")

    def __init__(self, room: int) -> None:
        self._room = room
        self.data = bytearray()
        self.flags = 0

    @property
    def left(self) -> int:
        return self._room - len(self.data)

    def put(self, level: int, kind: int, payload: bytes) -> None:
        """Add a message, cut short (MSG_CTRUNC) where room is lacking."""
        if self.left < HEADER.size:
            self.flags |= MSG_CTRUNC
            return
        length = HEADER.size + len(payload)
        if length > self.left:
            self.flags |= MSG_CTRUNC
            length = self.left
        self.data += HEADER.pack(length, level, kind) + payload[: length - HEADER.size]
        self.data += bytes(min(-length % 8, self.left))

    def put_rights(self, task: Task, rights: Rights, cloexec: bool) -> None:
        """Install as many descriptors as there is room for; the others are dropped."""
        files = rights.files
        count = min(len(files), max(self.left - HEADER.size, 0) // 4)
        numbers: list[int] = []
        for file in files[:count]:
            try:
                numbers.append(task.fds.install(file, cloexec=cloexec))
            except LinuxError:
                break
        if numbers:
            self.put(SOL_SOCKET, SCM_RIGHTS, Struct(f"<{len(numbers)}i").pack(*numbers))
        if len(numbers) < len(files):
            self.flags |= MSG_CTRUNC
        rights.drop()

    def put_pidfd(self, task: Task, group: ThreadGroup) -> None:
        """scm_pidfd_recv: a descriptor of the sender, or the errno that kept it from being made."""
        from sentry.fs.pidfd import PidFd

        if self.left < HEADER.size + 4:
            self.flags |= MSG_CTRUNC
            return
        try:
            number = task.fds.install(PidFd(group.leader), cloexec=True)
        except LinuxError as error:
            number = -error.errno
        self.put(SOL_SOCKET, SCM_PIDFD, Struct("<i").pack(number))


def deliver(task: Task, received: Received, has_control: bool, room: int, cloexec: bool) -> Layout:
    """What recvmsg writes to msg_control, and the flags it adds. Descriptors are installed."""
    layout = Layout(room)
    if not has_control:
        if received.control or received.files is not None or received.sender is not None:
            layout.flags = MSG_CTRUNC
        received.drop()
        return layout
    for level, kind, payload in received.control:
        layout.put(level, kind, payload)
    if received.files is not None:
        layout.put_rights(task, received.files, cloexec)
        received.files = None
    if received.sender is not None:
        layout.put_pidfd(task, received.sender)
    return layout


# --- files in flight


class Rights:
    """Files on their way. `drop` gives up the references; `copy` is for MSG_PEEK."""

    __slots__ = ("_uid", "files")

    def __init__(self, files: list[File], uid: int | None) -> None:
        self.files = files
        self._uid = uid  # whose files in flight these are; None: not in a queue
        for file in files:
            hold(file)
        if uid is not None:
            _by_user[uid] = _by_user.get(uid, 0) + len(files)
            for file in files:
                in_flight[file] = in_flight.get(file, 0) + 1

    def copy(self) -> Rights:
        return Rights(list(self.files), None)

    def landed(self) -> Rights:
        """The message has left its queue: no longer in flight, still held."""
        uid, self._uid = self._uid, None
        if uid is not None:
            _by_user[uid] -= len(self.files)
            if not _by_user[uid]:
                del _by_user[uid]
            for file in self.files:
                in_flight[file] -= 1
                if not in_flight[file]:
                    del in_flight[file]
        return self

    def drop(self) -> None:
        self.landed()
        files, self.files = self.files, []
        for file in files:
            unhold(file)


_by_user: dict[int, int] = {}
in_flight: dict[File, int] = {}


def send_rights(task: Task, files: list[File]) -> Rights | None:
    """Put `files` in flight; ETOOMANYREFS above RLIMIT_NOFILE files of one user (too_many_unix_fds)."""
    if not files:
        return None
    creds = task.creds
    if _by_user.get(creds.uid, 0) > task.group.rlimits.get(RLIMIT_NOFILE)[0]:
        if not creds.has_cap(CAP_SYS_RESOURCE) and not creds.has_cap(CAP_SYS_ADMIN):
            raise ETOOMANYREFS
    if len(in_flight) > COLLECT_ABOVE:
        collect()
    return Rights(files, creds.uid)


def references(file: File) -> int:
    """All references: descriptors and messages."""
    from native import lib

    return lib.nc_file_refs(twin(file))


def collect() -> int:
    """Empty the queues of sockets that only messages refer to, none of which anybody can receive any more.

    Gives the number of sockets emptied.
    """
    from sentry.net.unix import UnixSocket

    suspects = {
        file: count
        for file, count in in_flight.items()
        if isinstance(file, UnixSocket) and references(file) == count
    }
    while suspects:
        # A suspect all of whose references lie in queues of suspects may be garbage; another one is
        # alive, and
        # so is what its own queue holds.
        inside = dict.fromkeys(suspects, 0)
        for holder in suspects:
            for file in holder.files_queued():
                if file in inside:
                    inside[file] += 1
        alive = [file for file, count in inside.items() if count < suspects[file]]
        if not alive:
            break
        for file in alive:
            del suspects[file]
    for file in list(suspects):
        file.purge()
    return len(suspects)
