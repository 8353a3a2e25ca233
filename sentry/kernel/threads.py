"""Threads that the host kernel makes without telling the sentry.

A thread of pthread_create(3) causes no ptrace event, so that it costs hardly more than natively. The sentry meets it
(seizes it and makes its Task) at its first intercepted call, and all threads of a process before somebody signals that
process or looks at its threads. A thread that nobody has met has what the threads of its process have in common. So
before one becomes different from the others they are all met, and the process is `mixed` from then on: what its threads
make is announced (syscalls/tasks.py).
"""

from typing import TYPE_CHECKING

from native import lib
from sentry.kernel.task import Task

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import ThreadGroup


class Threads:
    """Meets the threads of one kernel's processes."""

    def __init__(self, kernel: "Kernel") -> None:
        self.kernel = kernel

    def meet_caller(self, tid: int) -> Task | None:
        """The thread that makes its first intercepted call; None when it is dying, or of no process of ours."""
        leader = self.kernel.tasks.get(self.kernel.pids.host_tgid(tid))
        return None if leader is None else self._meet(leader.group, tid)

    def meet(self, group: "ThreadGroup") -> list[Task]:
        """All threads of the process that were not met before."""
        pids, tasks = self.kernel.pids, self.kernel.tasks
        if pids.thread_count(group.host_tgid) <= len(group.tasks):
            return []
        met = [self._meet(group, tid) for tid in pids.threads(group.host_tgid) if tid not in tasks]
        return [task for task in met if task is not None]

    def part(self, task: Task) -> None:
        """`task` is about to have other credentials, descriptors or places than the rest of its process."""
        group = task.group
        self.meet(group)
        if len(group.tasks) > 1 and not group.mixed:
            group.mixed = True
            for each in group.tasks:
                lib.nc_task_set_mixed(each.host_tid, 1)

    def _meet(self, group: "ThreadGroup", tid: int) -> Task | None:
        kernel = self.kernel
        if not group.tasks or kernel.platform.seize(tid):
            return None
        like = group.tasks[0]
        task = Task(kernel, tid, group, like.fs, like.fds.share())
        task.inherit(like)
        kernel.life.adopt(task)
        kernel.platform.started(tid)  # it runs already: no first stop will come
        return task
