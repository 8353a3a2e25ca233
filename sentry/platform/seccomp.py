"""The default platform: seccomp user notification for system calls, ptrace for life-cycle events (native/src/loop.c).

Its operations are the C core's functions themselves, so that calling one through the interface costs nothing more.
"""

from typing import TYPE_CHECKING

from native import lib

if TYPE_CHECKING:
    from sentry.platform.base import Platform


class SeccompPlatform:
    """See base.Platform for what each does."""

    name = "seccomp"

    next = lib.nc_next
    hold = lib.nc_hold
    reply = lib.nc_reply
    reply_next = lib.nc_reply_next
    is_open = lib.nc_id_valid
    let_run = lib.nc_continue
    inject = lib.nc_addfd

    seize = lib.nc_seize
    trace_more = lib.nc_trace_more
    interrupt = lib.nc_interrupt
    resume = lib.nc_resume
    resume_to_call = lib.nc_resume_to_call
    listen = lib.nc_listen
    detach = lib.nc_detach
    finish = lib.nc_finish
    park = lib.nc_park
    unparked = lib.nc_unparked
    restart = lib.nc_restart
    stop_seen = lib.nc_task_stopped
    ask_first_stop = lib.nc_task_first_stop
    started = lib.nc_task_started
    get_regs = lib.nc_getregs
    set_regs = lib.nc_setregs
    guest_regs = lib.nc_guest_regs
    peek = lib.nc_peek
    poke = lib.nc_poke
    peek_user = lib.nc_peek_user
    poke_user = lib.nc_poke_user
    get_regset = lib.nc_get_regset
    set_regset = lib.nc_set_regset
    stack_pointer = lib.nc_stack_pointer
    event_message = lib.nc_eventmsg

    signal = lib.nc_signal
    signal_cookie = lib.nc_sigcookie
    get_siginfo = lib.nc_getsiginfo
    set_siginfo = lib.nc_setsiginfo
    get_sigmask = lib.nc_getsigmask
    set_sigmask = lib.nc_setsigmask

    arm = lib.nc_arm
    watch = lib.nc_watch


def make() -> "Platform":
    """The platform object of a sentry."""
    return SeccompPlatform()
