"""RLIMIT_NPROC as the host is told it."""

from types import SimpleNamespace

from sentry.abi.linux import CAP_SYS_ADMIN, RLIMIT_NPROC
from sentry.kernel.creds import Credentials
from sentry.kernel.nproc import TASKS_MAX, exempt, host_limit
from sentry.kernel.task import Rlimits


def task_of(uid, soft, others=(), caps=0):
    creds = Credentials(uid, uid, uid, uid, cap_effective=caps)
    task = SimpleNamespace(creds=creds, group=SimpleNamespace(rlimits=Rlimits({RLIMIT_NPROC: (soft, soft)})))
    tasks = {0: task, **{n: SimpleNamespace(creds=Credentials(uid=other)) for n, other in enumerate(others, 1)}}
    task.kernel = SimpleNamespace(tasks=tasks)
    return task


def test_threads_of_others_do_not_count():
    assert host_limit(task_of(1000, 30, others=(0, 0, 7, 1000))) == 30 + 3 + 1


def test_privileged_processes_have_the_sandbox_limit():
    assert host_limit(task_of(0, 30)) == TASKS_MAX
    assert exempt(task_of(5, 30, caps=1 << CAP_SYS_ADMIN).creds)
    assert not exempt(task_of(5, 30).creds)


def test_no_limit_is_the_sandbox_limit():
    assert host_limit(task_of(1000, (1 << 64) - 1)) == TASKS_MAX
    assert host_limit(task_of(1000, TASKS_MAX - 1, others=(0, 0))) == TASKS_MAX
