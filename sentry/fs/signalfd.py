"""signalfd(2): signals that are read. Whose signals depends on who reads or polls, as on Linux.

The signals pend in the host kernel, and a host signalfd with the same mask takes them: a read is run by the host on
that, injected at the guest's own descriptor, whatever its form (readv, O_NONBLOCK, several records, a wait). At its end
the senders' guest identities are put into the records. A poll looks at what pends for the polling task; that something
may do so now, its process's signal queue tells (kernel/sigwatch.py).
"""

from __future__ import annotations

import os
from struct import Struct, pack_into, unpack_from
from typing import TYPE_CHECKING

from native import lib
from sentry.abi.linux import (
    EPOLLIN,
    ERESTARTSYS,
    O_NONBLOCK,
    O_RDWR,
    RWF_NOWAIT,
    SI_KERNEL,
    SI_QUEUE,
    SI_SIGIO,
    SI_TIMER,
    SI_USER,
    SIGBUS,
    SIGCHLD,
    SIGFPE,
    SIGILL,
    SIGIO,
    SIGKILL,
    SIGSEGV,
    SIGSTOP,
    SIGTRAP,
)
from sentry.errors import EAGAIN, EBADF, EFAULT, EINVAL, from_errno
from sentry.fs.anon import anon_inode
from sentry.kernel.rewrite import AGAIN, Rewritten, RewrittenCall
from sentry.kernel.sched import WaitQueue, running_task
from sentry.kernel.signals import child_uid
from sentry.kernel.sigwatch import queue_of
from sentry.vfs.file import File

if TYPE_CHECKING:
    from sentry.fs.hostfile import IoVec
    from sentry.kernel.task import Task

RECORD_SIZE = 128  # struct signalfd_siginfo
UNTAKEABLE = 1 << (SIGKILL - 1) | 1 << (SIGSTOP - 1)
# signo, errno, code, pid, uid, fd, tid, band, overrun, trapno, status, int, ptr, utime, stime, addr
_RECORD = Struct("<IiiIIiIIIIiiQQQQ")
_UID_AT = 16
_FAULTS = frozenset((SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP))


class SignalFd(File):
    """`mask`: bit n-1 for signal n."""

    __slots__ = ("host_fd", "mask")
    nowait = True

    def __init__(self, mask: int, flags: int = 0) -> None:
        super().__init__(anon_inode(), None, O_RDWR | (flags & O_NONBLOCK))
        self.mask = mask & ~UNTAKEABLE
        self.host_fd = self._host(-1)
        os.set_blocking(self.host_fd, not flags & O_NONBLOCK)

    def _host(self, host_fd: int) -> int:
        result = lib.nc_signalfd(host_fd, self.mask)
        if result < 0:
            raise from_errno(-result)
        return result

    def set_mask(self, task: Task, mask: int) -> None:
        """Other signals from now on. Who waits looks again: readers, and in the caller's process pollers."""
        self.mask = mask & ~UNTAKEABLE
        self._host(self.host_fd)
        queue_of(task.group).wake(EPOLLIN)
        for reader in task.kernel.tasks.values():
            call = reader.call
            if isinstance(call, RewrittenCall) and isinstance(call.what, HostRead) and call.what.file is self:
                task.kernel.platform.interrupt(reader.host_tid)

    def set_flags(self, flags: int) -> None:
        super().set_flags(flags)
        os.set_blocking(self.host_fd, not flags & O_NONBLOCK)

    def seek(self, offset: int, whence: int) -> int:
        return 0  # noop_llseek

    # --- readiness, which is the asking task's

    def pending(self, task: Task) -> int:
        return task.kernel.pids.pending(task.host_tid) & self.mask

    def poll(self) -> int:
        return EPOLLIN if self.pending(running_task()) else 0

    @property
    def wait_queue(self) -> WaitQueue:
        return queue_of(running_task().group)

    def to_wait(self, task: Task) -> Rewritten | None:
        return task.kernel.sigwatch.joining(task)

    # --- reading

    def read_by_host(self, task: Task, iov: IoVec, rwf: int) -> Rewritten:
        """Any call of the read(2) family on this file, with the buffers `iov`."""
        if sum(length for _, length in iov) < RECORD_SIZE:
            raise EINVAL
        pending = self.pending(task)
        if not pending and (self.flags & O_NONBLOCK or rwf & RWF_NOWAIT):
            raise EAGAIN
        return HostRead(self, task, iov, bool(pending))

    def release(self) -> None:
        os.close(self.host_fd)

    def describe(self) -> bytes | None:
        return b"anon_inode:[signalfd]"

    def fdinfo(self) -> bytes:
        """Its line in /proc/PID/fdinfo/N."""
        return b"sigmask:\t%016x\n" % self.mask


class HostRead(Rewritten):
    """The guest's call, unchanged, with the host signalfd at the guest's descriptor."""

    def __init__(self, file: SignalFd, task: Task, iov: IoVec, at_once: bool) -> None:
        super().__init__({}, finish=self._finished, pass_=False)
        self.at_once = at_once
        self.file = file
        self._task = task
        self._iov = iov

    def notified(self, call_id: int) -> None:
        task = self._task
        assert task.call is not None
        fd = task.call.args[0] & 0xFFFFFFFF
        if task.fds.get(fd) is not self.file:
            raise EBADF("closed by another thread just now")
        task.fds.inject(call_id, fd, self.file.host_fd)

    def _finished(self, result: int) -> int:
        if result <= 0:
            return AGAIN if self.at_once and result == -ERESTARTSYS else result  # another thread was faster
        task = self._task
        try:
            data = bytearray(task.mem.read_vec(self._iov, result))
            changed = False
            for at in range(0, len(data) - RECORD_SIZE + 1, RECORD_SIZE):
                changed |= self._name_sender(data, at)
            if changed:
                task.mem.write_vec(self._iov, bytes(data))
        except EFAULT:
            pass  # another thread has unmapped it
        return result

    def _name_sender(self, data: bytearray, at: int) -> bool:
        """In one record: who sent a signal of ours, whose value is a cookie; whose child a SIGCHLD is about."""
        fields = _RECORD.unpack_from(data, at)
        signo, code, pid, cookie = fields[0], fields[2], fields[3], fields[12]
        task = self._task
        if code == SI_QUEUE:
            info = task.kernel.signals.taken(task, signo, cookie)
            if info is not None:
                data[at : at + RECORD_SIZE] = record(info.pack())
            return info is not None
        uid = child_uid(task.kernel, pid) if signo == SIGCHLD and code > SI_USER else None
        if uid is not None:
            pack_into("<I", data, at + _UID_AT, uid)
        return uid is not None


def record(info: bytes) -> bytes:
    """struct signalfd_siginfo of a struct siginfo (signalfd_copyinfo)."""
    signo, errno, code = unpack_from("<iii", info)
    pid, uid, value, status = unpack_from("<iIQ", info, 16) + unpack_from("<i", info, 24)
    fields = dict.fromkeys(("pid", "uid", "fd", "tid", "band", "overrun", "status", "int", "ptr"), 0)
    utime = stime = addr = 0
    if SI_USER < code < SI_KERNEL and signo == SIGCHLD:
        fields.update(pid=pid, uid=uid, status=status)
        utime, stime = unpack_from("<QQ", info, 32)
    elif SI_USER < code < SI_KERNEL and signo in _FAULTS:
        (addr,) = unpack_from("<Q", info, 16)
    elif code == SI_SIGIO or (SI_USER < code < SI_KERNEL and signo == SIGIO):
        fields.update(band=pid, fd=status)
    elif code == SI_TIMER:
        fields.update(tid=pid, overrun=uid, ptr=value, int=status)
    else:
        fields.update(pid=pid, uid=uid)
        if code < 0:
            fields.update(ptr=value, int=status)
    return _RECORD.pack(
        signo, errno, code, fields["pid"] & 0xFFFFFFFF, fields["uid"], fields["fd"], fields["tid"] & 0xFFFFFFFF,
        fields["band"] & 0xFFFFFFFF, fields["overrun"], 0, fields["status"], fields["int"], fields["ptr"],
        utime, stime, addr,
    ).ljust(RECORD_SIZE, b"\0")  # fmt: skip
