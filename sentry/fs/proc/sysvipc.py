"""/proc/sysvipc: a table of each kind of System V IPC object (proc_sysvipc(5))."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from sentry.fs.pseudo import Text, Tree

if TYPE_CHECKING:
    from sentry.ipc.msg import MessageQueue
    from sentry.ipc.sem import SemaphoreSet
    from sentry.ipc.shm import Segment
    from sentry.kernel.task import Task

PAGE = 4096
_SEM_HEAD = b"       key      semid perms      nsems   uid   gid  cuid  cgid      otime      ctime\n"
_MSG_HEAD = (
    b"       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime"
    b"      rtime      ctime\n"
)
_SHM_HEAD = (
    b"       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime"
    b"      dtime      ctime                   rss                  swap\n"
)


def _sem_row(it: SemaphoreSet) -> bytes:
    return b"%10d %10d  %4o %10u %5u %5u %5u %5u %10u %10u\n" % (
        it.key, it.id, it.mode, len(it.values), it.uid, it.gid, it.cuid, it.cgid, it.otime, it.ctime
    )  # fmt: skip


def _msg_row(it: MessageQueue) -> bytes:
    return b"%10d %10d  %4o  %10u %10u %5u %5u %5u %5u %5u %5u %10u %10u %10u\n" % (
        it.key, it.id, it.mode, it.bytes, len(it.messages), it.last_sender, it.last_receiver,
        it.uid, it.gid, it.cuid, it.cgid, it.stime, it.rtime, it.ctime,
    )  # fmt: skip


def _shm_row(it: Segment) -> bytes:
    attached = it.attached()  # may find out that it was unmapped
    return b"%10d %10d  %4o %21u %5u %5u  %5u %5u %5u %5u %5u %10u %10u %10u %21u %21u\n" % (
        it.key, it.id, it.mode, it.size, it.creator_pid, it.last_pid, attached,
        it.uid, it.gid, it.cuid, it.cgid, it.atime, it.dtime, it.ctime, it.resident() * PAGE, 0,
    )  # fmt: skip


def _table(head: bytes, objects: Callable[[Task], Iterable[Any]], row: Callable[[Any], bytes]) -> Text:
    return Text(lambda task: head + b"".join(row(each) for each in objects(task)))


def _sets(task: Task) -> Iterable[SemaphoreSet]:
    from sentry.ipc.sem import sets

    return sets.in_order()


def _queues(task: Task) -> Iterable[MessageQueue]:
    from sentry.ipc.msg import queues

    return queues.in_order()


def _segments(task: Task) -> Iterable[Segment]:
    from sentry.ipc.shm import segments

    segments.settle(task.kernel)
    return segments.in_order()


def tree() -> Tree:
    """The directory."""
    return {
        b"msg": _table(_MSG_HEAD, _queues, _msg_row),
        b"sem": _table(_SEM_HEAD, _sets, _sem_row),
        b"shm": _table(_SHM_HEAD, _segments, _shm_row),
    }
