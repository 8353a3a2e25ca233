"""mqueue: POSIX message queues and the file system that shows them (mq_overview(7)).

The queues are the kernel's, kept in ``queues_of(kernel)``; every mount of b"mqueue" shows them as files.
The system calls are in sentry/syscalls/mqueue.py.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, NamedTuple

from sentry.abi.linux import (
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDNORM,
    EPOLLWRNORM,
    S_IFDIR,
    S_IFREG,
    S_ISVTX,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
    SI_MESGQ,
)
from sentry.errors import EACCES, EBUSY, EINVAL, ENOENT, ENOSPC, ESRCH
from sentry.fs.proc import sysctl
from sentry.kernel.sched import WaitQueue
from sentry.kernel.signals import SigInfo
from sentry.vfs.file import File
from sentry.vfs.inode import NEVER, Filesystem, Inode
from sentry.vfs.special import Directory
from sentry.vfs.stat import DirEntry

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task, ThreadGroup
    from sentry.vfs.mount import Path

MQUEUE_MAGIC = 0x19800202
PRIO_MAX = 32768
HARD_MSGMAX, HARD_MSGSIZEMAX = 65536, 16 << 20
READABLE, WRITABLE = EPOLLIN | EPOLLRDNORM, EPOLLOUT | EPOLLWRNORM
DT_REG = 8


class Notify(NamedTuple):
    """Who asked by mq_notify(3) to hear of the next message. `signo` 0: SIGEV_NONE."""

    group: ThreadGroup
    signo: int
    value: int


class Queue(Inode):
    """A message queue: the inode of its file."""

    __slots__ = (
        "_order", "max_messages", "max_size", "messages", "notify", "queue", "queued_bytes", "receivers",
    )  # fmt: skip

    def __init__(self, fs: Queues, mode: int, uid: int, gid: int, max_messages: int, max_size: int) -> None:
        super().__init__(fs, fs.next_ino(), S_IFREG | mode, uid, gid)
        self.size = 80  # FILENT_SIZE, what stat(2) shows
        self.max_messages = max_messages
        self.max_size = max_size
        self.messages: list[tuple[int, int, bytes]] = []  # a heap of (-priority, order, data)
        self._order = 0
        self.queued_bytes = 0
        self.receivers = 0  # blocked in mq_timedreceive
        self.notify: Notify | None = None
        self.queue = WaitQueue()

    def put(self, task: Task, priority: int, data: bytes) -> bool:
        """Queue a message; False when full."""
        if len(self.messages) >= self.max_messages:
            return False
        was_empty = not self.messages
        self._order += 1
        heappush(self.messages, (-priority, self._order, data))
        self.queued_bytes += len(data)
        notify = self.notify
        if was_empty and notify is not None and not self.receivers:
            self.notify = None
            self._tell(task, notify)
        self.queue.wake(READABLE)
        return True

    def _tell(self, task: Task, notify: Notify) -> None:
        if not notify.signo:
            return
        info = SigInfo(notify.signo, SI_MESGQ, task.group.tgid, task.creds.uid, notify.value)
        try:
            task.kernel.send_signal(notify.group, info)
        except ESRCH:
            pass

    def take(self) -> tuple[int, bytes] | None:
        """(priority, data) of the oldest message of the highest priority; None when empty."""
        if not self.messages:
            return None
        negative, _, data = heappop(self.messages)
        self.queued_bytes -= len(data)
        self.queue.wake(WRITABLE)
        return -negative, data

    def set_notify(self, task: Task, notify: Notify | None) -> None:
        """mq_notify(3): EBUSY when another process is registered."""
        if notify is None:
            if self.notify is not None and self.notify.group is task.group:
                self.notify = None
            return
        if self.notify is not None and not self.notify.group.exited:
            raise EBUSY
        self.notify = notify

    def text(self) -> bytes:
        """What reading the file says."""
        notify = self.notify
        return b"QSIZE:%-10d NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n" % (
            self.queued_bytes,
            0 if notify is None or notify.signo else 1,
            notify.signo if notify is not None else 0,
            notify.group.tgid if notify is not None else 0,
        )

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return MqueueFile(self, path, flags)


class MqueueFile(File):
    """An open queue. read(2) gives its state; messages go by the mq_ calls."""

    __slots__ = ()
    inode: Queue

    def __init__(self, inode: Queue, path: Path | None, flags: int) -> None:
        super().__init__(inode, path, flags)
        self.queue = inode.queue

    async def read(self, task: Task, size: int) -> bytes:
        data = self.inode.text()[self.pos : self.pos + size]
        self.pos += len(data)
        return data

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        return self.inode.text()[offset : offset + size]

    def seek(self, offset: int, whence: int) -> int:
        base = {SEEK_SET: 0, SEEK_CUR: self.pos, SEEK_END: self.inode.size}.get(whence)
        if base is None or base + offset < 0:
            raise EINVAL
        self.pos = base + offset
        return self.pos

    async def ftruncate(self, task: Task, size: int) -> None:
        """Allowed, and means nothing."""

    def poll(self) -> int:
        queue = self.inode
        mask = READABLE if queue.messages else 0
        return mask | (WRITABLE if len(queue.messages) < queue.max_messages else 0)


class Queues(Filesystem):
    """The queues of a kernel, which is an IPC namespace."""

    name = b"mqueue"
    magic = MQUEUE_MAGIC
    cache_policy = NEVER

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.by_name: dict[bytes, Queue] = {}
        self._last_ino = 1
        self.root = RootDirectory(self)

    def next_ino(self) -> int:
        self._last_ino += 1
        return self._last_ino

    def limit(self, name: bytes) -> int:
        """/proc/sys/fs/mqueue/NAME."""
        return int(sysctl.read(self.kernel, b"fs/mqueue/" + name))

    def create(self, task: Task, name: bytes, mode: int, sizes: tuple[int, int] | None, admin: bool) -> Queue:
        """A new queue of `sizes` (messages, bytes each); EINVAL beyond the limits, ENOSPC for too many."""
        if len(self.by_name) >= self.limit(b"queues_max") and not admin:
            raise ENOSPC
        if sizes is None:
            messages = min(self.limit(b"msg_default"), self.limit(b"msg_max"))
            size = min(self.limit(b"msgsize_default"), self.limit(b"msgsize_max"))
        else:
            messages, size = sizes
            most = HARD_MSGMAX if admin else self.limit(b"msg_max")
            largest = HARD_MSGSIZEMAX if admin else self.limit(b"msgsize_max")
            if not (0 < messages <= most and 0 < size <= largest):
                raise EINVAL
        creds = task.creds
        queue = Queue(self, mode, creds.fsuid, creds.fsgid, messages, size)
        self.by_name[name] = queue
        return queue


def queues_of(kernel: Kernel) -> Queues:
    """The queues of `kernel`, made at first use."""
    global _queues
    if _queues is None or _queues.kernel is not kernel:
        _queues = Queues(kernel)
    return _queues


_queues: Queues | None = None


class RootDirectory(Inode):
    __slots__ = ()
    fs: Queues

    def __init__(self, fs: Queues) -> None:
        super().__init__(fs, 1, S_IFDIR | S_ISVTX | 0o777, nlink=2)

    async def lookup(self, name: bytes) -> Inode:
        queue = self.fs.by_name.get(name)
        if queue is None:
            raise ENOENT
        return queue

    async def readdir(self) -> list[DirEntry]:
        return [DirEntry(name, queue.ino, DT_REG) for name, queue in self.fs.by_name.items()]

    async def create(self, name: bytes, mode: int, uid: int, gid: int) -> Inode:
        fs = self.fs
        if len(fs.by_name) >= fs.limit(b"queues_max"):
            raise ENOSPC
        sizes = fs.limit(b"msg_default"), fs.limit(b"msgsize_default")
        queue = fs.by_name[name] = Queue(fs, mode & 0o7777, uid, gid, *sizes)
        return queue

    async def unlink(self, name: bytes, inode: Inode) -> None:
        if self.fs.by_name.pop(name, None) is None:
            raise ENOENT
        inode.nlink = 0

    async def open(self, task: Task, path: Path, flags: int) -> File:
        if flags & 3:
            raise EACCES
        return Directory(self, path, flags)
