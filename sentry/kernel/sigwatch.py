"""Who waits for signals by a signalfd: noticing that one was sent, blocked or not, and whoever sent it.

A blocked signal stops nobody, so ptrace says nothing of it, and many are not the sentry's: a child's death, a timer,
the shim's kill(2). The host kernel tells the wait queue of the process's signal handlers, and a file of ours gets on
that queue when a task of the process polls a signalfd of ours. So before a task first waits for a signalfd it makes an
epoll_ctl(2) of the host's, with two descriptors that are injected for it, which adds a signalfd to an epoll set of the
sentry's (native/src/sigwatch.c). The set then tells of each signal to the process, once.
"""

import os
from resource import RLIMIT_NOFILE, getrlimit
from struct import unpack_from
from typing import TYPE_CHECKING, Any

from native import ffi, lib
from sentry.abi.linux import EPOLL_CTL_ADD, EPOLLEXCLUSIVE, EPOLLIN
from sentry.abi.x86_64 import EPOLL_EVENT, NUMBERS
from sentry.errors import EFAULT, ENOMEM, LinuxError, from_errno
from sentry.kernel.rewrite import AGAIN, Rewritten
from sentry.kernel.sched import WaitQueue

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task, ThreadGroup

_AT_ONCE = 64
# Numbers of descriptors that the sentry does not use itself. Each thread that joins needs one that its process does not
# use either, which is likely among the first; the others cost a larger table.
RESERVED = (range(1008, 1024), range(4080, 4096))


class SignalQueue(WaitQueue):
    """Woken when a signal is sent to the process (Linux: signalfd_wqh), or by `look` when one was. `host_fd` is the
    process's signalfd in our epoll set; -1: it has none yet."""

    __slots__ = ("host_fd", "look")

    def __init__(self, look: "Callable[[], None]") -> None:
        super().__init__()
        self.look = look
        self.host_fd = -1


def queue_of(group: "ThreadGroup") -> SignalQueue:
    """The queue that signals to the process wake, made at first use."""
    if group.signal_queue is None:
        group.signal_queue = SignalQueue(group.kernel.sigwatch.look)
    return group.signal_queue


class SignalWatch:
    """The epoll set of one kernel, made when it is first needed."""

    def __init__(self, kernel: "Kernel") -> None:
        self.kernel = kernel
        self._queues: dict[int, SignalQueue] = {}  # by the cookie that the set tells
        self._last = 0
        self._taken = ffi.new("uint64_t[]", _AT_ONCE)

    def joining(self, task: "Task") -> "Joining | None":
        """What `task` has to make before it waits for signals by `queue_of` its process; None: nothing."""
        if queue_of(task.group).host_fd >= 0:
            self.look()  # what was sent before is no news to who waits from now on
            return None
        host_set = lib.nc_sigwatch_set()
        if host_set < 0:
            raise from_errno(-host_set)
        self.kernel.scheduler.watch(host_set, EPOLLIN, self.look)
        return Joining(self, task, host_set)

    def look(self, events: int = EPOLLIN) -> None:
        """Wake the queues of those who were sent something since the last look."""
        more = True
        while more:
            count = lib.nc_sigwatch_take(self._taken, _AT_ONCE)
            for i in range(count):
                queue = self._queues.get(self._taken[i])
                if queue is not None:
                    queue.wake(EPOLLIN)
            more = count == _AT_ONCE

    def new_cookie(self) -> int:
        self._last += 1
        return self._last

    def joined(self, queue: SignalQueue, cookie: int, host_fd: int) -> None:
        """The process's signalfd is in the set, which tells `cookie` from now on."""
        self._queues[cookie] = queue
        queue.host_fd = host_fd

    def group_exited(self, group: "ThreadGroup") -> None:
        """The process is gone, and what it had in the set tells nothing more."""
        queue = group.signal_queue
        if queue is not None and queue.host_fd >= 0:
            os.close(queue.host_fd)
            queue.host_fd = -1
            self._queues = {cookie: each for cookie, each in self._queues.items() if each is not queue}


class Joining(Rewritten):
    """The process's epoll_ctl(set, EPOLL_CTL_ADD, signalfd, event). The event it reads is whatever is on its stack:
    what counts is given to the set afterwards (nc_sigwatch_arm), by a descriptor of the very same number."""

    def __init__(self, watch: SignalWatch, task: "Task", host_set: int) -> None:
        super().__init__({}, nr=NUMBERS["epoll_ctl"], finish=self._made)
        self._watch = watch
        self._task = task
        self._queue = queue_of(task.group)
        self._host_set = host_set
        self._injected = False
        self._set_number = task.fds.lend()
        self._number = -1
        self._host_fd = lib.nc_sigwatch_new()
        try:
            if self._host_fd < 0:
                raise from_errno(-self._host_fd)
            self._number = _lend(task)
        except LinuxError:
            self.over()
            raise

    def at_stop(self, regs: Any) -> dict[int, int]:
        self.registers = {0: self._set_number, 1: EPOLL_CTL_ADD, 2: self._number, 3: self._some_event(regs.rsp)}
        return self.registers

    def _some_event(self, sp: int) -> int:
        """An address that can be read as a struct epoll_event. EPOLLEXCLUSIVE could not be changed later."""
        data = self._task.mem.read_some(sp, 1024)
        for at in range(0, len(data) - EPOLL_EVENT.size, 4):
            if not unpack_from("<I", data, at)[0] & EPOLLEXCLUSIVE:
                return sp + at
        raise EFAULT("a stack without a word to borrow")

    def notified(self, call_id: int) -> None:
        inject = self._watch.kernel.platform.inject
        for host_fd, number in ((self._host_set, self._set_number), (self._host_fd, self._number)):
            if inject(call_id, host_fd, number, 1) < 0:
                raise ENOMEM
        self._injected = True

    def _made(self, result: int) -> int:
        if result < 0:
            return -ENOMEM.errno
        if self._queue.host_fd < 0:  # else another thread was faster
            cookie = self._watch.new_cookie()
            if self._ask(lambda number: lib.nc_sigwatch_arm(number, cookie)) < 0:
                return -ENOMEM.errno
            self._watch.joined(self._queue, cookie, self._host_fd)
            self._watch.look()  # it tells of itself at first
            self._host_fd = -1
        return AGAIN

    def _ask(self, ask: "Callable[[int], int]") -> int:
        """The set knows a signalfd by file and number."""
        os.dup2(self._host_fd, self._number, inheritable=False)
        try:
            return ask(self._number)
        finally:
            reserve(self._number)

    def over(self) -> None:
        if self._host_fd >= 0:
            if self._injected:
                self._ask(lib.nc_sigwatch_disarm)
            os.close(self._host_fd)
            self._host_fd = -1
        self._give_back()

    def _give_back(self) -> None:
        self._task.fds.give_back(self._number)
        self._task.fds.give_back(self._set_number)


def _lend(task: "Task") -> int:
    """A reserved number that the guest does not use; ENOMEM."""
    try:
        return task.fds.lend(RESERVED[0])
    except ENOMEM:
        return task.fds.lend(RESERVED[1])


def reserve_all() -> None:
    """Keep those numbers from other use, as far as we may have them: before many are in use."""
    most = getrlimit(RLIMIT_NOFILE)[0]
    for numbers in RESERVED:
        if numbers.stop <= most:
            reserve(*numbers)


def reserve(*numbers: int) -> None:
    """/dev/null stands there."""
    for number in numbers:
        os.dup2(0, number, inheritable=False)
