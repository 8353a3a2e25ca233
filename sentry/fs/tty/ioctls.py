"""What ioctl(2) does to terminals, and to the masters of ptys (ioctl_tty(2)): settings, job control, flow, the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import (
    CAP_SYS_ADMIN,
    CLOCAL,
    SIGTTOU,
    TCFLSH,
    TCGETA,
    TCGETS,
    TCGETS2,
    TCSBRK,
    TCSBRKP,
    TCSETA,
    TCSETAF,
    TCSETAW,
    TCSETS,
    TCSETS2,
    TCSETSF,
    TCSETSF2,
    TCSETSW,
    TCSETSW2,
    TCXONC,
    TIOCCBRK,
    TIOCCONS,
    TIOCEXCL,
    TIOCGDEV,
    TIOCGETD,
    TIOCGEXCL,
    TIOCGLCKTRMIOS,
    TIOCGPGRP,
    TIOCGSID,
    TIOCGSOFTCAR,
    TIOCGWINSZ,
    TIOCINQ,
    TIOCNOTTY,
    TIOCNXCL,
    TIOCOUTQ,
    TIOCSBRK,
    TIOCSCTTY,
    TIOCSETD,
    TIOCSLCKTRMIOS,
    TIOCSPGRP,
    TIOCSSOFTCAR,
    TIOCSTI,
    TIOCSWINSZ,
    TIOCVHANGUP,
)
from sentry.abi.x86_64 import TERMIOS, TERMIOS2, WINSIZE, makedev
from sentry.errors import EINVAL, EIO, ENOTTY, EPERM, ESRCH
from sentry.fs.proc import sysctl
from sentry.fs.tty.jobs import check_change
from sentry.fs.tty.termios import TERMIO, Termios

if TYPE_CHECKING:
    from sentry.fs.tty.tty import Tty
    from sentry.kernel.task import Task
    from sentry.vfs.file import File

INT = (1 << 31) - 1
SLAVE_MAJOR = 136


async def tty_ioctl(task: Task, file: File, tty: Tty, cmd: int, arg: int, master: bool = False) -> int:
    """What terminals and pty masters have in common; `tty` is the slave side, whose settings count."""
    mem = task.mem
    if cmd == TCGETS:
        mem.write(arg, tty.ldisc.termios.pack())
    elif cmd == TIOCGWINSZ:
        mem.write(arg, tty.get_winsize())
    elif cmd == TIOCSWINSZ:
        tty.set_winsize(mem.read(arg, WINSIZE.size))
    elif cmd in _SETTERS:
        await _set_termios(task, tty, cmd, arg)
    elif cmd == TCGETS2:
        mem.write(arg, tty.ldisc.termios.pack2())
    elif cmd == TCGETA:
        mem.write(arg, tty.ldisc.termios.pack_old())
    elif cmd == TIOCGPGRP:
        if not master and task.kernel.ttys.of(task.group) is not tty:
            raise ENOTTY
        mem.write_u32(arg, tty.pgrp)
    elif cmd == TIOCSPGRP:
        await _set_pgrp(task, tty, arg)
    elif cmd == TIOCGSID:
        if (not master and task.kernel.ttys.of(task.group) is not tty) or not tty.session:
            raise ENOTTY
        mem.write_u32(arg, tty.session)
    elif cmd == TIOCSCTTY:
        _set_controlling(task, file, tty, arg)
    elif cmd == TIOCNOTTY:
        if task.kernel.ttys.of(task.group) is not tty:
            raise ENOTTY
        task.kernel.ttys.leave(task.group, tty, task.kernel)
    elif cmd == TIOCINQ:
        mem.write_u32(arg, tty.ldisc.input_count())
    elif cmd == TIOCOUTQ:
        mem.write_u32(arg, 0)
    elif cmd == TCFLSH:
        await check_change(task, tty, SIGTTOU)
        tty.flush(arg)
    elif cmd == TCXONC:
        await check_change(task, tty, SIGTTOU)
        _flow(tty, arg)
    elif cmd in (TCSBRK, TCSBRKP):
        await check_change(task, tty, SIGTTOU)
        await tty.drain()
    elif cmd in (TIOCEXCL, TIOCNXCL):
        tty.exclusive = cmd == TIOCEXCL
    elif cmd == TIOCGEXCL:
        mem.write_u32(arg, int(tty.exclusive))
    elif cmd == TIOCGETD:
        mem.write_u32(arg, 0)  # N_TTY
    elif cmd == TIOCSETD:
        if mem.read_u32(arg) != 0:
            raise EINVAL("only N_TTY")
    elif cmd in (TIOCVHANGUP, TIOCCONS, TIOCSLCKTRMIOS):
        if not task.creds.has_cap(CAP_SYS_ADMIN):
            raise EPERM
        if cmd != TIOCVHANGUP:
            raise ENOTTY("no console to redirect, no settings to lock")
        tty.hang_up()
    elif cmd == TIOCGLCKTRMIOS:
        mem.write(arg, bytes(TERMIOS.size))
    elif cmd == TIOCSTI:
        _type(task, tty, arg, master)
    elif cmd in (TIOCGSOFTCAR, TIOCSSOFTCAR):
        _carrier(task, tty, cmd, arg)
    elif cmd == TIOCGDEV:
        mem.write_u32(arg, makedev(SLAVE_MAJOR, tty.index))
    elif cmd not in (TIOCSBRK, TIOCCBRK):  # there is no line to break
        raise ENOTTY
    return 0


def _type(task: Task, tty: Tty, addr: int, master: bool) -> None:
    """TIOCSTI: a byte of input, as if it had been typed."""
    admin = task.creds.has_cap(CAP_SYS_ADMIN)
    if not admin and sysctl.read(task.kernel, b"dev/tty/legacy_tiocsti") == b"0":
        raise EIO
    if not admin and (master or task.kernel.ttys.of(task.group) is not tty):
        raise EPERM
    tty.insert(task.mem.read(addr, 1))


def _carrier(task: Task, tty: Tty, cmd: int, addr: int) -> None:
    """Whether the modem's carrier is not minded (CLOCAL)."""
    now = tty.ldisc.termios
    if cmd == TIOCGSOFTCAR:
        task.mem.write_u32(addr, bool(now.cflag & CLOCAL))
        return
    cflag = now.cflag | CLOCAL if task.mem.read_u32(addr) else now.cflag & ~CLOCAL
    tty.set_termios(Termios(now.iflag, now.oflag, cflag, now.lflag, now.line, now.cc, now.ispeed, now.ospeed))


# command -> (layout, flush input first, wait for output first)
_SETTERS: dict[int, tuple[str, bool, bool]] = {
    TCSETS: ("termios", False, False),
    TCSETSW: ("termios", False, True),
    TCSETSF: ("termios", True, True),
    TCSETS2: ("termios2", False, False),
    TCSETSW2: ("termios2", False, True),
    TCSETSF2: ("termios2", True, True),
    TCSETA: ("termio", False, False),
    TCSETAW: ("termio", False, True),
    TCSETAF: ("termio", True, True),
}


async def _set_termios(task: Task, tty: Tty, cmd: int, arg: int) -> None:
    layout, flush, drain = _SETTERS[cmd]
    await check_change(task, tty, SIGTTOU)
    if layout == "termios":
        new = Termios.unpack(task.mem.read(arg, TERMIOS.size))
    elif layout == "termios2":
        new = Termios.unpack2(task.mem.read(arg, TERMIOS2.size))
    else:
        new = tty.ldisc.termios.updated_old(task.mem.read(arg, TERMIO.size))
    if flush:
        tty.flush(0)
    if drain:
        await tty.drain()
    tty.set_termios(new)


async def _set_pgrp(task: Task, tty: Tty, addr: int) -> None:
    """tcsetpgrp(3)."""
    try:
        await check_change(task, tty, SIGTTOU)
    except EIO:
        raise ENOTTY
    pgid = task.mem.read_u32(addr)
    if pgid > INT:
        raise EINVAL
    kernel, sid = task.kernel, task.group.sid()
    if kernel.ttys.of(task.group) is not tty or tty.session != sid:
        raise ENOTTY
    members = [group for group in kernel.groups() if group.pgid() == pgid]
    one = members[0] if members else kernel.find_group(pgid)
    if one is None:
        raise ESRCH
    if not members or one.sid() != sid:
        raise EPERM
    tty.pgrp = pgid
    tty.foreground.wake()


def _set_controlling(task: Task, file: File, tty: Tty, steal: int) -> None:
    group, ttys = task.group, task.kernel.ttys
    sid = group.sid()
    leads = group.tgid == sid
    if leads and tty.session == sid:
        return
    admin = task.creds.has_cap(CAP_SYS_ADMIN)
    if not leads or ttys.of(group) is not None:
        raise EPERM
    if tty.session and not (steal == 1 and admin):
        raise EPERM
    if not file.readable and not admin:
        raise EPERM
    ttys.set(sid, tty, group.pgid())


def _flow(tty: Tty, action: int) -> None:
    """tcflow(3)."""
    if action not in (0, 1, 2, 3):
        raise EINVAL
    if action == 0:
        tty.set_stopped(True)
    elif action == 1:
        tty.set_stopped(False)
        tty.ldisc.output_ready()
    # 2 and 3 send STOP and START to the other end, which a pty's master reads as ordinary bytes
    elif tty.room():
        cc = tty.ldisc.termios.cc
        tty.put(bytes((cc[9] if action == 2 else cc[8],)))
