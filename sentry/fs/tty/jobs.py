"""Job control: which session a terminal controls, and who may use it (credentials(7), tty(4), setpgid(2)).

Sessions and process groups live in the host kernel; what is kept here is only the link from a session to its
terminal. ``kernel.ttys`` is the sandbox's ControllingTerminals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import SIGCONT, SIGHUP, SIGTTIN
from sentry.errors import EIO, ESRCH
from sentry.kernel.sched import sched, wait

if TYPE_CHECKING:
    from sentry.fs.tty.tty import Tty
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task, ThreadGroup


FIRST_LOOK_NS, LAST_LOOK_NS = 250_000_000, 8_000_000_000


class ControllingTerminals:
    """The controlling terminal of each session that has one."""

    __slots__ = ("_by_session", "_old_pgrp", "_without")

    def __init__(self) -> None:
        self._by_session: dict[int, Tty] = {}
        self._old_pgrp: dict[int, int] = {}  # by session whose terminal hung up: who was in the foreground
        self._without: set[int] = set()  # processes that gave theirs up (TIOCNOTTY) inside a session with one

    def of(self, group: ThreadGroup) -> Tty | None:
        """The controlling terminal of a process (Linux: current->signal->tty)."""
        if not self._by_session or group.tgid in self._without:
            return None
        return self._by_session.get(group.sid())

    def of_session(self, sid: int) -> Tty | None:
        return self._by_session.get(sid)

    def set(self, sid: int, tty: Tty, pgid: int) -> None:
        """`tty` becomes the terminal of session `sid`, with `pgid` in the foreground."""
        self.forget(tty)
        self._by_session[sid] = tty
        tty.session = sid
        tty.pgrp = pgid
        tty.foreground.wake()

    def forget(self, tty: Tty) -> None:
        """No session has `tty` any more."""
        if tty.session and self._by_session.get(tty.session) is tty:
            del self._by_session[tty.session]
            if not self._by_session:
                self._without.clear()
        tty.session = tty.pgrp = 0
        tty.foreground.wake()

    def leave(self, group: ThreadGroup, tty: Tty, kernel: Kernel) -> None:
        """TIOCNOTTY: a leader takes the terminal from its whole session, another process only from itself."""
        if group.tgid != tty.session:
            self._without.add(group.tgid)
            return
        pgrp = tty.pgrp
        self.forget(tty)
        if pgrp:
            kernel.signal_pgrp(pgrp, SIGHUP)
            kernel.signal_pgrp(pgrp, SIGCONT)

    def hang_up(self, tty: Tty, kernel: Kernel) -> None:
        """The other end of `tty` is gone: SIGHUP and SIGCONT to the leader of its session."""
        sid, pgrp = tty.session, tty.pgrp
        self.forget(tty)
        leader = kernel.find_task(sid) if sid else None
        if leader is not None:
            if pgrp:
                self._old_pgrp[sid] = pgrp
            signal_group(leader.group, SIGHUP)
            signal_group(leader.group, SIGCONT)

    def group_exited(self, group: ThreadGroup, kernel: Kernel) -> None:
        """A process is gone; if it led a session with a terminal, the foreground group gets SIGHUP."""
        self._without.discard(group.tgid)
        tty = self._by_session.get(group.tgid)
        if tty is None:
            old_pgrp = self._old_pgrp.pop(group.tgid, 0)
            if old_pgrp:
                kernel.signal_pgrp(old_pgrp, SIGHUP)
                kernel.signal_pgrp(old_pgrp, SIGCONT)
            return
        pgrp = tty.pgrp
        self.forget(tty)
        if pgrp:
            kernel.signal_pgrp(pgrp, SIGHUP)
        tty.session_ended()


def signal_group(group: ThreadGroup, sig: int) -> None:
    """A signal from the kernel itself to one process."""
    try:
        group.kernel.send_signal(group, sig)
    except ESRCH:
        pass


async def check_change(task: Task, tty: Tty, sig: int) -> None:
    """tty_check_change(): a background process that reads (SIGTTIN) or changes (SIGTTOU) its terminal stops.

    Returns when it may go on; raises EIO where nobody could continue it. Linux restarts the call when the
    process is continued; here the call waits meanwhile, and looks again when the foreground changes or after
    a while.
    """
    group, kernel = task.group, task.kernel
    patience_ns = FIRST_LOOK_NS
    while True:
        if tty.pgrp == 0 or kernel.ttys.of(group) is not tty:
            return
        pgid = group.pgid()
        if pgid == tty.pgrp:
            return
        if ignores(task, sig):
            if sig == SIGTTIN:
                raise EIO("background read with SIGTTIN ignored")
            return
        if is_orphaned(kernel, pgid):
            raise EIO("background process group is orphaned")
        kernel.signal_pgrp(pgid, sig)
        await wait(tty.foreground, deadline_ns=sched().now_ns() + patience_ns)
        patience_ns = min(2 * patience_ns, LAST_LOOK_NS)


def ignores(task: Task, sig: int) -> bool:
    """Whether `task` blocks or ignores `sig`; dispositions live in the host kernel."""
    status = task.kernel.pids.status(task.host_tid)
    mask = int(status.get(b"SigBlk", b"0"), 16) | int(status.get(b"SigIgn", b"0"), 16)
    return bool(mask >> (sig - 1) & 1)


def is_orphaned(kernel: Kernel, pgid: int) -> bool:
    """No member's parent is in another group of the same session (POSIX: orphaned process group)."""
    for group in kernel.groups():
        if group.pgid() != pgid:
            continue
        parent = group.parent
        if parent is not None and parent.pgid() != pgid and parent.sid() == group.sid():
            return False
    return True
