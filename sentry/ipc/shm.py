"""Segments of shared memory (shmget(2)), and who has them attached.

A segment's memory is a host file of the sentry's store, made when it is first attached. Guests map it like any other
file and unmap it natively, in pieces if they like, so nobody counts: that a segment is attached is read from the host's
maps of the processes that may have it, when somebody asks. One that is to be removed is looked at whenever such a
process detaches, executes or ends, and at each call on shared memory.
"""

from __future__ import annotations

import os
from time import time
from typing import TYPE_CHECKING, NamedTuple

from sentry.abi.linux import IPC_PRIVATE, S_IFREG
from sentry.abi.x86_64 import major, minor
from sentry.errors import ENOMEM, from_host
from sentry.fs.memfd import kernel_mount
from sentry.fs.proc import sysctl
from sentry.fs.proc.maps import host_text
from sentry.fs.store import Store
from sentry.ipc.ids import PERMISSIONS, IpcObject, Registry
from sentry.mm.hostmap import remember
from sentry.vfs.inode import Inode
from sentry.vfs.mount import Path, anonymous_path

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task, ThreadGroup

PAGE = 4096
SHM_DEST, SHM_LOCKED = 0o1000, 0o2000  # of a segment's mode: goes with its last attachment; SHM_LOCK


class Area(NamedTuple):
    """A mapping of a segment in some process."""

    start: int
    end: int
    offset: int
    host_id: bytes  # b"MAJOR:MINOR INODE", as the host's maps have it


class Segment(IpcObject):
    """`size` in bytes, as it was asked for."""

    def __init__(self, task: Task, key: int, mode: int, size: int) -> None:
        super().__init__(task, key, mode)
        self.kernel = task.kernel
        self.name = b"/SYSV%08x" % (key & 0xFFFFFFFF)
        self.size = size
        self.atime = self.dtime = 0
        self.creator: ThreadGroup | None = task.group  # None once it has ended
        self.creator_pid, self.last_pid = task.group.tgid, 0
        self.groups: dict[ThreadGroup, int] = {}  # that may have it attached: how often, when last seen
        self.coming = 0  # attachments under way
        self.was_attached = False
        self.host_id = b""
        self._number = 0  # of the host file; 0: none yet
        self._host_fd = -1  # kept only where a file can't be opened again

    @property
    def pages(self) -> int:
        return (self.size + PAGE - 1) // PAGE

    def resident(self) -> int:
        """Pages that hold something."""
        if not self._number:
            return 0
        store = self.kernel.store
        found = os.fstat(self._host_fd) if self._host_fd >= 0 else store.stat(self._number)
        return found.st_blocks * 512 // PAGE

    def open(self, write: bool) -> int:
        """A host descriptor of its memory, the caller's to close. ENOMEM when the host gives none."""
        store: Store = self.kernel.store
        try:
            if not self._number:
                self._number, host_fd = store.create("sysv")
                self._made(host_fd)
                if store.reopens:
                    os.close(host_fd)
                else:
                    self._host_fd = host_fd
            return store.reopen(self._number, write, self._host_fd)
        except OSError as error:
            raise from_host(error) from None

    def _made(self, host_fd: int) -> None:
        os.ftruncate(host_fd, self.size)
        host = os.fstat(host_fd)
        self.host_id = b"%02x:%02x %d" % (major(host.st_dev), minor(host.st_dev), host.st_ino)
        remember(host_fd, self._path())

    def _path(self) -> Path:
        """Where its mappings are shown to come from."""
        inode = Inode(kernel_mount(), self.id, S_IFREG | self.mode & PERMISSIONS, self.uid, self.gid, nlink=0)
        path = anonymous_path(inode, self.name)
        path.dentry.dead = True
        return path

    def attached(self) -> int:
        """How often it is attached (shm_nattch)."""
        count = self.coming
        for group, before in list(self.groups.items()):
            found = sum(area.host_id == self.host_id for area in areas(group))
            if found < before:
                self.left_by(group)
            if found:
                self.groups[group] = found
            else:
                del self.groups[group]
            count += found
        return count

    def left_by(self, group: ThreadGroup) -> None:
        """A process has unmapped it, once or for good; known when somebody looks."""
        self.dtime, self.last_pid = int(time()), group.tgid

    def destroy(self) -> None:
        """Its memory is given back, whoever still has a descriptor of it."""
        if not self._number:
            return
        try:
            host_fd = self.open(True)
        except ENOMEM:
            return
        os.ftruncate(host_fd, 0)
        os.close(host_fd)
        self.kernel.store.remove(self._number)
        if self._host_fd >= 0:
            os.close(self._host_fd)


class Segments(Registry[Segment]):
    """All of a kernel."""

    def __init__(self) -> None:
        super().__init__()
        self._users: dict[ThreadGroup, set[Segment]] = {}  # the other way round than Segment.groups

    def by_host_id(self, host_id: bytes) -> Segment | None:
        return next((each for each in self.by_index.values() if each.host_id == host_id), None)

    def total_pages(self) -> int:
        return sum(each.pages for each in self.by_index.values())

    # --- attachments

    def attached(self, segment: Segment, task: Task) -> None:
        """`task` has just mapped it."""
        segment.was_attached = True
        segment.atime, segment.last_pid = int(time()), task.group.tgid
        self._use(task.group, segment)

    def detached(self, segment: Segment, group: ThreadGroup) -> None:
        """shmdt(2)."""
        segment.left_by(group)
        self.settle(segment.kernel)

    def forked(self, parent: ThreadGroup, child: ThreadGroup) -> None:
        """`child` has a copy of the address space of `parent`."""
        for segment in self._users.get(parent, ()):
            segment.atime, segment.last_pid = int(time()), parent.tgid
            self._use(child, segment)

    def left(self, group: ThreadGroup) -> None:
        """The process has executed another program, or ended: what it had attached it has no more."""
        for segment in self._users.pop(group, ()):
            if segment.groups.pop(group, 0):
                segment.left_by(group)
        if self.by_index:
            self.settle(group.kernel)

    def exited(self, group: ThreadGroup) -> None:
        """The process has ended."""
        for segment in self.by_index.values():
            if segment.creator is group:
                segment.creator = None
        self.left(group)

    def _use(self, group: ThreadGroup, segment: Segment) -> None:
        segment.groups[group] = segment.groups.get(group, 0) + 1
        self._users.setdefault(group, set()).add(segment)

    # --- removal

    def mark(self, segment: Segment) -> None:
        """IPC_RMID: gone at once, or with its last attachment."""
        segment.mode |= SHM_DEST
        segment.key = IPC_PRIVATE
        self.settle(segment.kernel)

    def settle(self, kernel: Kernel) -> None:
        """Remove the segments whose time has come."""
        forced = sysctl.read(kernel, b"kernel/shm_rmid_forced") != b"0"
        for segment in list(self.by_index.values()):
            unwanted = forced and (segment.was_attached or segment.creator is None)
            if (segment.mode & SHM_DEST or unwanted) and not segment.attached():
                self.remove(segment)
                segment.destroy()


segments = Segments()


def areas(group: ThreadGroup) -> list[Area]:
    """The mappings of a process that are of one of our segments, by address."""
    found = []
    ours = {each.host_id for each in segments.by_index.values()}
    # A leader that has ended before its threads has no memory any more.
    texts = (host_text(group.kernel, task.host_tid, "maps") for task in group.threads())
    for line in next(filter(None, texts), b"").splitlines():
        words = line.split(None, 5)
        host_id = b" ".join(words[3:5])
        if host_id in ours:
            start, _, end = words[0].partition(b"-")
            found.append(Area(int(start, 16), int(end, 16), int(words[2], 16), host_id))
    return found
