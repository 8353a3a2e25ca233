"""What the kernel asks of a platform: the thing that runs guest threads and stops them at system calls.

`seccomp` (seccomp.py) is the one there is. A PTRACE_SYSEMU platform answers the same questions from stops instead of
notifications: `next` fills the same event, `reply` writes the result register and resumes, `inject` runs an injected
call. Nothing above this interface knows which one serves it.

Results are those of the C core: >= 0, or -errno. Thread ids are the host's, as the sentry's PID namespace numbers them.
"""

from typing import Any, Protocol


class Platform(Protocol):
    """The operations, in the order of a guest's life."""

    name: str

    # --- events

    def next(self, event: Any, mode: int) -> int:
        """Wait for the next event (struct nc_event); gives its kind, NC_EV_*."""

    def hold(self, on: int) -> int:
        """With 1, `next` gives no more system calls (they wait to be received) until told otherwise with 0."""

    def reply(self, call_id: int, result: int) -> int:
        """Answer an intercepted call with a value or -errno."""

    def reply_next(self, call_id: int, result: int, event: Any) -> int:
        """`reply`, then `next`: one crossing into C for each system call."""

    def is_open(self, call_id: int) -> int:
        """Whether the caller still waits for its answer; -ENOENT when it has died."""

    def let_run(self, call_id: int) -> int:
        """The host kernel shall run the intercepted call itself."""

    def inject(self, call_id: int, host_fd: int, guest_fd: int, cloexec: int) -> int:
        """Put a copy of `host_fd` into the caller's host table at `guest_fd`, while the call is open."""

    # --- a thread that is stopped, or shall stop

    def seize(self, tid: int) -> int:
        """Trace a thread that runs; it is not stopped."""

    def trace_more(self, tid: int, what: int) -> int:
        """Of a stopped thread: what it reports besides forks, execs and exits (NC_TRACE_*); so will those it makes."""

    def interrupt(self, tid: int) -> int:
        """Bring the thread to a stop, which comes as an event."""

    def resume(self, tid: int, signal: int) -> int:
        """Go on from a stop, delivering `signal` (0: none)."""

    def resume_to_call(self, tid: int, signal: int) -> int:
        """`resume`, to the next entry to or exit from a system call, a stop with SIGTRAP."""

    def listen(self, tid: int) -> int:
        """Stay in a group stop until SIGCONT."""

    def detach(self, tid: int, signal: int) -> int:
        """Let go of a thread that is about to die of `signal`."""

    def finish(self, tid: int, nr: int, result: int, then: int) -> int:
        """At a stop in a call: end it with `result`, one of -ERESTART* to make call `nr` again (-1: none). `then`: run,
        remain in the process's group stop, or stay stopped (NC_GO, NC_STAY, NC_LEAVE)."""

    def park(self, tid: int, stay: int) -> int:
        """At a stop in a call: let the thread sleep where signals reach it (`stay`: once its group stop is over)."""

    def unparked(self, tid: int) -> int:
        """The thread has left that sleep."""

    def restart(self, tid: int, nr: int, result: int, signal: int) -> int:
        """At a signal stop: make the call number `nr` (-1: none) end with `result` under the handler of `signal`."""

    def stop_seen(self, tid: int) -> int:
        """The stop asked for by `interrupt` has been taken."""

    def ask_first_stop(self, tid: int) -> int:
        """Let the first stop of a new thread come as an event; otherwise the platform answers it."""

    def started(self, tid: int) -> int:
        """A new thread's first stop has been taken."""

    def get_regs(self, tid: int, regs: Any) -> int:
        """Registers of a stopped thread (struct nc_regs)."""

    def set_regs(self, tid: int, regs: Any) -> int: ...

    def stack_pointer(self, tid: int) -> int:
        """The stack pointer of a stopped thread; 0 when it is gone."""

    def guest_regs(self, tid: int, nr: int, regs: Any) -> int:
        """Registers of a stopped thread for its tracer: a parked one stands in call `nr`, interrupted."""

    def peek(self, tid: int, addr: int, word: Any) -> int:
        """A word of a stopped thread's memory, whatever its protection."""

    def poke(self, tid: int, addr: int, word: int) -> int: ...

    def peek_user(self, tid: int, offset: int, word: Any) -> int:
        """A word of struct user."""

    def poke_user(self, tid: int, offset: int, word: int) -> int: ...

    def get_regset(self, tid: int, kind: int, buffer: Any, size: int) -> int:
        """A set of registers (NT_*); its size."""

    def set_regset(self, tid: int, kind: int, buffer: Any, size: int) -> int: ...

    def event_message(self, tid: int) -> int:
        """What a life-cycle stop is about: a child's thread id."""

    # --- signals

    def signal(self, tgid: int, tid: int, signo: int, cookie: int) -> int:
        """Queue a signal for a thread (or with `tid` 0 the group). It carries `cookie`, as the value of SI_QUEUE."""

    def signal_cookie(self, tid: int) -> int:
        """At a signal stop: the cookie it carries; 0 for a signal of the host kernel's."""

    def get_siginfo(self, tid: int, data: Any) -> int:
        """At a signal stop: the 128 bytes of its struct siginfo."""

    def set_siginfo(self, tid: int, data: Any) -> int: ...

    def get_sigmask(self, tid: int) -> int: ...

    def set_sigmask(self, tid: int, mask: int) -> int: ...

    # --- the rest of the loop

    def arm(self, deadline_ns: int) -> int:
        """Make `next` return NC_EV_TIMER at that time (CLOCK_MONOTONIC); negative: never."""

    def watch(self, host_fd: int, events: int, cookie: int) -> int:
        """Make `next` return NC_EV_IO while a host descriptor of ours is ready; events 0: no more."""
