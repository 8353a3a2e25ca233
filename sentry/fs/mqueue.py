"""mqueue: POSIX message queues and the file system that shows them (mq_overview(7)).

The queues are the kernel's, kept in ``queues_of(kernel)``; every mount of b"mqueue" shows them as files.
The system calls are in sentry/syscalls/mqueue.py.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    CAP_SYS_RESOURCE,
    EPOLLIN,
    EPOLLOUT,
    EPOLLRDNORM,
    EPOLLWRNORM,
    NOTIFY_REMOVED,
    NOTIFY_WOKENUP,
    RLIMIT_MSGQUEUE,
    S_IFDIR,
    S_IFREG,
    S_ISVTX,
    SEEK_CUR,
    SEEK_END,
    SEEK_SET,
    SI_MESGQ,
    SIGEV_NONE,
    SIGEV_SIGNAL,
    SIGEV_THREAD,
)
from sentry.errors import EACCES, EBUSY, EINVAL, EMFILE, ENOENT, ENOSPC, ESRCH
from sentry.fs.proc import sysctl
from sentry.kernel.sched import WaitQueue, running_task
from sentry.kernel.signals import SigInfo
from sentry.vfs.file import File
from sentry.vfs.inode import NEVER, Filesystem, Inode
from sentry.vfs.special import Directory
from sentry.vfs.stat import DirEntry

if TYPE_CHECKING:
    from sentry.kernel.fdtable import FdTable
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task
    from sentry.net.netlink import NetlinkSocket
    from sentry.vfs.mount import Path

MQUEUE_MAGIC = 0x19800202
PRIO_MAX = 32768
HARD_MSGMAX, HARD_MSGSIZEMAX = 65536, 16 << 20
READABLE, WRITABLE = EPOLLIN | EPOLLRDNORM, EPOLLOUT | EPOLLWRNORM
DT_REG = 8
MESSAGE_COST = 48 + 48  # struct msg_msg and struct posix_msg_tree_node, as RLIMIT_MSGQUEUE counts
Owner = tuple[int, int]  # uid, gid


class Notify:
    """A process that asked by mq_notify(3) to hear of the next message. This one hears nothing (SIGEV_NONE)."""

    kind = SIGEV_NONE
    signo = 0

    def __init__(self, task: Task) -> None:
        self.group = task.group
        self.fds = task.fds  # a close by its table ends it

    def tell(self, sender: Task) -> None:
        """A message has come."""

    def removed(self) -> None:
        """It will not be told."""


class BySignal(Notify):
    kind = SIGEV_SIGNAL

    def __init__(self, task: Task, signo: int, value: int) -> None:
        super().__init__(task)
        self.signo = signo
        self.value = value

    def tell(self, sender: Task) -> None:
        if self.signo:
            info = SigInfo(self.signo, SI_MESGQ, sender.group.tgid, sender.creds.uid, self.value)
            try:
                sender.kernel.send_signal(self.group, info)
            except ESRCH:
                pass


class ByThread(Notify):
    """SIGEV_THREAD: libc's helper thread reads the cookie from a netlink socket."""

    kind = SIGEV_THREAD

    def __init__(self, task: Task, socket: NetlinkSocket, cookie: bytes) -> None:
        super().__init__(task)
        self.socket = socket
        self.cookie = cookie

    def tell(self, sender: Task) -> None:
        self._send(NOTIFY_WOKENUP)

    def removed(self) -> None:
        self._send(NOTIFY_REMOVED)

    def _send(self, what: int) -> None:
        self.socket.deliver(self.cookie[:-1] + bytes([what]))


class Queue(Inode):
    """A message queue: the inode of its file."""

    __slots__ = (
        "_order", "charged", "max_messages", "max_size", "messages", "name", "notify", "opens", "queue",
        "queued_bytes", "receivers",
    )  # fmt: skip
    fs: Queues

    def __init__(self, fs: Queues, name: bytes, mode: int, owner: Owner, max_messages: int, max_size: int) -> None:
        super().__init__(fs, fs.next_ino(), S_IFREG | mode, *owner)
        self.name = name
        self.size = 80  # FILENT_SIZE, what stat(2) shows
        self.max_messages = max_messages
        self.max_size = max_size
        self.messages: list[tuple[int, int, bytes]] = []  # a heap of (-priority, order, data)
        self._order = 0
        self.queued_bytes = 0
        self.receivers = 0  # blocked in mq_timedreceive
        self.notify: Notify | None = None
        self.queue = WaitQueue()
        self.opens = 0
        self.charged = (0, 0)  # whose RLIMIT_MSGQUEUE pays, and how much

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
            notify.tell(task)
        self.queue.wake(READABLE)
        return True

    def take(self) -> tuple[int, bytes] | None:
        """(priority, data) of the oldest message of the highest priority; None when empty."""
        if not self.messages:
            return None
        negative, _, data = heappop(self.messages)
        self.queued_bytes -= len(data)
        self.queue.wake(WRITABLE)
        return -negative, data

    def set_notify(self, task: Task, notify: Notify | None) -> None:
        """mq_notify(3): EBUSY when somebody is registered; None ends what the caller has asked for."""
        if notify is None:
            if self.notify is not None and self.notify.group is task.group:
                self._forget()
            return
        if self.notify is not None:
            raise EBUSY
        self.notify = notify
        notify.fds.mind(self)

    def flushed(self, fds: FdTable) -> None:
        super().flushed(fds)
        if self.notify is not None and self.notify.fds is fds:
            self._forget()

    def _forget(self) -> None:
        notify, self.notify = self.notify, None
        if notify is not None:
            notify.removed()

    def let_go(self) -> None:
        """A name or an open file of it is gone: with the last one, it goes."""
        if not self.nlink and not self.opens:
            self.fs.freed(self)

    def text(self) -> bytes:
        """What reading the file says."""
        notify = self.notify
        return b"QSIZE:%-10d NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n" % (
            self.queued_bytes,
            notify.kind if notify is not None else 0,
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
        inode.opens += 1

    async def read(self, task: Task, size: int) -> bytes:
        data = self.inode.text()[self.pos : self.pos + size]
        self.pos += len(data)
        return data

    async def pread(self, task: Task, size: int, offset: int) -> bytes:
        return self.inode.text()[offset : offset + size]

    def seek(self, offset: int, whence: int) -> int:
        to = offset + {SEEK_CUR: self.pos, SEEK_END: self.inode.size}.get(whence, 0)
        if whence not in (SEEK_SET, SEEK_CUR, SEEK_END) or to < 0:
            raise EINVAL
        self.pos = to
        return to

    async def ftruncate(self, task: Task, size: int) -> None:
        """Allowed, and means nothing."""

    def poll(self) -> int:
        queue = self.inode
        mask = READABLE if queue.messages else 0
        return mask | (WRITABLE if len(queue.messages) < queue.max_messages else 0)

    def describe(self) -> bytes | None:
        if self.path is not None:
            return None
        return b"/" + self.inode.name + (b"" if self.inode.nlink else b" (deleted)")

    def release(self) -> None:
        self.inode.opens -= 1
        self.inode.let_go()


class Queues(Filesystem):
    """The queues of a kernel, which is an IPC namespace."""

    name = b"mqueue"
    magic = MQUEUE_MAGIC
    cache_policy = NEVER

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.by_name: dict[bytes, Queue] = {}
        self._alive = 0
        self._used: dict[int, int] = {}  # bytes, by user
        self._last_ino = 1
        self.root = RootDirectory(self)

    def next_ino(self) -> int:
        self._last_ino += 1
        return self._last_ino

    def limit(self, name: bytes) -> int:
        """/proc/sys/fs/mqueue/NAME."""
        return int(sysctl.read(self.kernel, b"fs/mqueue/" + name))

    def create(self, task: Task, name: bytes, mode: int, sizes: tuple[int, int] | None, owner: Owner) -> Queue:
        """A new queue of `sizes` (messages, bytes each; None: the defaults) with that uid and gid. EINVAL beyond the
        limits, ENOSPC for too many, EMFILE for more bytes than the user may have in queues."""
        admin = task.creds.has_cap(CAP_SYS_RESOURCE)
        if self._alive >= self.limit(b"queues_max") and not admin:
            raise ENOSPC
        most, largest = self.limit(b"msg_max"), self.limit(b"msgsize_max")
        if sizes is None:
            messages = min(self.limit(b"msg_default"), most)
            size = min(self.limit(b"msgsize_default"), largest)
        else:
            messages, size = sizes
            if admin:
                most, largest = HARD_MSGMAX, HARD_MSGSIZEMAX
            if not (0 < messages <= most and 0 < size <= largest):
                raise EINVAL
        uid, used = task.creds.uid, messages * (size + MESSAGE_COST)
        if self._used.get(uid, 0) + used > task.group.rlimits.get(RLIMIT_MSGQUEUE)[0]:
            raise EMFILE
        queue = Queue(self, name, mode, owner, messages, size)
        queue.charged = uid, used
        self._used[uid] = self._used.get(uid, 0) + used
        self._alive += 1
        self.by_name[name] = queue
        return queue

    def remove(self, name: bytes) -> None:
        """The name goes; the queue lives as long as somebody has it open. ENOENT."""
        queue = self.by_name.pop(name, None)
        if queue is None:
            raise ENOENT
        queue.nlink = 0
        queue.let_go()

    def freed(self, queue: Queue) -> None:
        uid, used = queue.charged
        self._used[uid] -= used
        if not self._used[uid]:
            del self._used[uid]
        self._alive -= 1


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
        return self.fs.create(running_task(), name, mode & 0o7777, None, (uid, gid))

    async def unlink(self, name: bytes, inode: Inode) -> None:
        self.fs.remove(name)

    async def open(self, task: Task, path: Path, flags: int) -> File:
        if flags & 3:
            raise EACCES
        return Directory(self, path, flags)
