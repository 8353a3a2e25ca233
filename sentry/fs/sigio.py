"""Who is signalled that a descriptor is ready: F_SETOWN, F_SETSIG and O_ASYNC (fcntl(2)).

    owner = owner_of(file)            # what fcntl tells and changes
    set_async(task, fd, file, True)   # O_ASYNC: from now on the file's wait queue makes signals
    owner.tell(POLL_MSG)              # one signal, whatever the reason (leases)
"""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, ref

from sentry.abi.linux import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLMSG,
    EPOLLOUT,
    EPOLLPRI,
    EPOLLRDBAND,
    EPOLLRDNORM,
    EPOLLWRBAND,
    EPOLLWRNORM,
    FASYNC,
    SIGIO,
)
from sentry.errors import LinuxError
from sentry.kernel.fdtable import at_release, forget_at_release, set_status_flags

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task, ThreadGroup
    from sentry.vfs.file import File

F_OWNER_TID, F_OWNER_PID, F_OWNER_PGRP = range(3)
POLL_IN, POLL_OUT, POLL_MSG, POLL_ERR, POLL_PRI, POLL_HUP = range(1, 7)

_BANDS = {
    POLL_IN: EPOLLIN | EPOLLRDNORM,
    POLL_OUT: EPOLLOUT | EPOLLWRNORM | EPOLLWRBAND,
    POLL_MSG: EPOLLIN | EPOLLRDNORM | EPOLLMSG,
    POLL_ERR: EPOLLERR,
    POLL_PRI: EPOLLPRI | EPOLLRDBAND,
    POLL_HUP: EPOLLHUP | EPOLLERR,
}
_SIGINFO = Struct("<iii4xqi")  # si_signo, si_errno, si_code, si_band, si_fd


class Owner:
    """A description's struct fown_struct. `pid` 0: nobody. `signal` 0: a plain SIGIO."""

    __slots__ = ("__weakref__", "_callback", "euid", "fd", "kernel", "kind", "pid", "signal", "uid")

    def __init__(self) -> None:
        self.kind, self.pid, self.signal = F_OWNER_PID, 0, 0
        self.uid = self.euid = 0
        self.fd = -1
        self.kernel: Kernel | None = None
        self._callback: Callable[[int], None] | None = None

    def set(self, task: Task, kind: int, pid: int) -> None:
        """F_SETOWN by `task`, in whose name the signals go."""
        self.kernel = task.kernel
        self.kind, self.pid = kind, pid
        self.uid, self.euid = task.creds.uid, task.creds.euid

    def tell(self, reason: int) -> None:
        """Send the signal to those who may be sent it (send_sigio)."""
        from sentry.kernel.signals import SigInfo, kernel_info

        kernel = self.kernel
        if kernel is None or not self.pid:
            return
        info = kernel_info(SIGIO)
        if self.signal:
            raw = _SIGINFO.pack(self.signal, 0, reason, _BANDS[reason], self.fd)
            info = SigInfo(self.signal, reason, raw=raw)
        for target, creds in self._targets(kernel):
            if self.euid == 0 or {self.uid, self.euid} & {creds.uid, creds.suid}:
                try:
                    kernel.send_signal(target, info)
                except LinuxError:  # it is gone, or has enough of them
                    continue

    def _targets(self, kernel: Kernel) -> list[tuple[Task | ThreadGroup, Credentials]]:
        if self.kind == F_OWNER_PGRP:
            return [(group, group.leader.creds) for group in kernel.groups() if group.pgid() == self.pid]
        task = kernel.find_task(self.pid)
        if task is None:
            return []
        return [(task if self.kind == F_OWNER_TID else task.group, task.creds)]

    def watch(self, file: File, fd: int) -> None:
        """O_ASYNC is set, by descriptor `fd`."""
        self.fd = fd
        if self._callback is None:
            weak = ref(file)

            def ready(mask: int) -> None:
                which = weak()
                if which is not None:
                    self._ready(which, mask)

            self._callback = ready
            file.wait_queue.add(ready)
            at_release(file, self.unwatch)

    def unwatch(self, file: File) -> None:
        if self._callback is not None:
            file.wait_queue.remove(self._callback)
            self._callback = None
            forget_at_release(file, self.unwatch)

    def _ready(self, file: File, mask: int) -> None:
        mask &= file.poll()
        if mask & EPOLLIN and file.readable:
            self.tell(POLL_IN)
        elif mask & EPOLLOUT and file.writable:
            self.tell(POLL_OUT)
        elif mask & EPOLLHUP:
            self.tell(POLL_HUP)
        elif mask & EPOLLERR:
            self.tell(POLL_ERR)


_owners: WeakKeyDictionary[File, Owner] = WeakKeyDictionary()


def owner_of(file: File) -> Owner:
    owner = _owners.get(file)
    if owner is None:
        owner = _owners[file] = Owner()
    return owner


def set_async(task: Task, fd: int, file: File, on: bool) -> None:
    """Set or clear O_ASYNC of a file that has it (`file.async_io`)."""
    owner = owner_of(file)
    if on:
        owner.watch(file, fd)
    else:
        owner.unwatch(file)
    set_status_flags(file, file.flags | FASYNC if on else file.flags & ~FASYNC)
