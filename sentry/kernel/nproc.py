"""RLIMIT_NPROC: how many threads a user may have (getrlimit(2)).

The host kernel forks, so it must hold the limit; but to it all guests are one user. It is told the user's limit plus
the threads that others have at that time. A privileged process has the sandbox's own limit.
"""

from typing import TYPE_CHECKING

from native import lib
from sentry.abi.linux import CAP_SYS_ADMIN, CAP_SYS_RESOURCE, RLIMIT_NPROC

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.task import Task

TASKS_MAX = 8192  # as the zygote sets it (native/src/boot.c)
_EXEMPTING = 1 << CAP_SYS_RESOURCE | 1 << CAP_SYS_ADMIN


def exempt(creds: "Credentials") -> bool:
    """Whether fork(2) ignores the limit."""
    return creds.uid == 0 or bool(creds.cap_effective & _EXEMPTING)


def host_limit(task: "Task") -> int:
    """What the host kernel shall refuse a fork at."""
    soft = task.group.rlimits.get(RLIMIT_NPROC)[0]
    uid = task.creds.uid
    if exempt(task.creds) or soft >= TASKS_MAX:
        return TASKS_MAX
    others = 1 + sum(1 for each in task.kernel.tasks.values() if each.creds.uid != uid)  # and the zygote
    return min(soft + others, TASKS_MAX)


def apply_limit(task: "Task") -> None:
    """Tell the host, after a change of the limit or of the credentials."""
    lib.nc_prlimit(task.group.host_tgid, RLIMIT_NPROC, host_limit(task), TASKS_MAX)
