"""Signals on their way to guests.

The host kernel delivers signals (masks, handlers, frames, restart). What the sentry adds is the identity of the sender:
the host kernel would show the sentry's. So the sentry sends each signal with a cookie (native/src/trace.c); the
receiving task's signal-delivery stop shows the cookie, and there the siginfo is replaced by the one the guest shall
read. Of a signal that is waited for or read (sigtimedwait(2), signalfd(2)) the guest gets a copy, which is replaced in
its memory: what it may have written there itself can tell it no more than of signals to its own process. Of a child's
death the host kernel tells by itself, but not whose child it was: to it all guests are one user.
"""

from collections import OrderedDict
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from native import ffi
from sentry.abi.linux import SI_KERNEL, SI_TKILL, SI_USER
from sentry.errors import EAGAIN, from_errno

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.platform.base import Platform

_RT = Struct("<iiiiiIQ")
_SIGINFO_SIZE = 128
_UID_AT = 20
# A signal that merges with a pending one of its number never reaches a stop: its cookie is forgotten in time.
_COOKIES_KEPT = 4096


class SigInfo(NamedTuple):
    """What a receiver reads: signal number, si_code, the sender's guest pid and uid, the queued value."""

    signo: int
    code: int = SI_USER
    pid: int = 0
    uid: int = 0
    value: int = 0
    raw: bytes | None = None  # the rest as the guest gave it (rt_sigqueueinfo)

    def pack(self) -> bytes:
        """struct siginfo, 128 bytes."""
        if self.raw is not None:
            return self.raw.ljust(_SIGINFO_SIZE, b"\0")[:_SIGINFO_SIZE]
        packed = _RT.pack(self.signo, 0, self.code, 0, self.pid, self.uid, self.value)
        return packed.ljust(_SIGINFO_SIZE, b"\0")


def kernel_info(signo: int) -> SigInfo:
    """A signal from the kernel itself (SI_KERNEL): a terminal's, SIGPIPE."""
    return SigInfo(signo, SI_KERNEL)


def user_info(signo: int, sender: "Task", code: int = SI_USER) -> SigInfo:
    """A signal from kill(2) (SI_USER) or tgkill(2) (SI_TKILL)."""
    assert code in (SI_USER, SI_TKILL)
    return SigInfo(signo, code, sender.group.tgid, sender.creds.uid)


def child_uid(kernel: "Kernel", pid: int) -> int | None:
    """Whose process a SIGCHLD is about: to the host kernel all guests are one user. None: it has been reaped."""
    child = kernel.find_zombie(pid) or kernel.find_task(pid)
    return None if child is None else child.creds.uid


class SignalSender:
    """Sends through the host kernel and gives the stops their siginfo."""

    __slots__ = ("_bytes", "_cookies", "_info", "_next", "_platform")

    def __init__(self, platform: "Platform") -> None:
        self._platform = platform
        self._cookies: OrderedDict[int, tuple[int, SigInfo]] = OrderedDict()  # with the process it was sent to
        self._next = 1
        self._info = ffi.new("char[]", _SIGINFO_SIZE)
        self._bytes = ffi.buffer(self._info)

    def send(self, host_tgid: int, host_tid: int, info: SigInfo) -> None:
        """Queue `info` for a thread, or with `host_tid` 0 for the group. ESRCH when it is gone, EAGAIN at the limit."""
        cookie = self._next
        self._next += 1
        self._cookies[cookie] = host_tgid, info
        if len(self._cookies) > _COOKIES_KEPT:
            self._cookies.popitem(last=False)
        failed = self._platform.signal(host_tgid, host_tid, info.signo, cookie)
        if failed:
            del self._cookies[cookie]
            if failed == -EAGAIN.errno and info.code == SI_USER:
                # Beyond RLIMIT_SIGPENDING kill(2) still sends, only without saying who.
                failed = self._platform.signal(host_tgid, host_tid, info.signo, 0)
        if failed:
            raise from_errno(-failed)

    def identify(self, host_tid: int) -> None:
        """At a signal-delivery stop: if the signal is one of ours, show the guest its true sender."""
        cookie = self._platform.signal_cookie(host_tid)
        sent = self._cookies.pop(cookie, None) if cookie > 0 else None
        if sent is not None:
            self._platform.set_siginfo(host_tid, sent[1].pack())

    def taken(self, task: "Task", signo: int, cookie: int) -> SigInfo | None:
        """The host kernel has given `task` a signal with that value, which is a cookie if it is one of ours."""
        host_tgid, info = self._cookies.get(cookie, (0, None))
        if info is None or info.signo != signo or host_tgid != task.group.host_tgid:
            return None
        del self._cookies[cookie]
        return info

    def origin(self, host_tid: int) -> tuple[int, int]:
        """At a signal-delivery stop: (si_code, si_pid) as the host kernel has them; code 0 when the task is gone."""
        if self._platform.get_siginfo(host_tid, self._info):
            return 0, 0
        _, _, code, _, pid, _, _ = _RT.unpack_from(self._bytes)
        return code, pid

    def name_user(self, host_tid: int, uid: int) -> None:
        """After `origin`: the siginfo names the user `uid`."""
        self._bytes[_UID_AT : _UID_AT + 4] = uid.to_bytes(4, "little")
        self._platform.set_siginfo(host_tid, self._info)
