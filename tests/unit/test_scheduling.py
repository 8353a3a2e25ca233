"""sentry/syscalls/sched.py and priority.py: policies, CPU masks, niceness, which are the host thread's own (here: ours)."""

import os
import struct

import pytest

from sentry.abi import linux as L
from sentry.errors import E2BIG, EACCES, EINVAL, EOPNOTSUPP, EPERM, ESRCH
from sentry.fs.proc.fs import Procfs
from sentry.syscalls import priority, sched
from tests.unit.pseudo_world import USER, world

BUF = 0x1000
ATTR = struct.Struct("<IIQiIQQQII")


@pytest.fixture
def rig():
    """This process's own policy and priority stand for the guest's: put back afterwards."""
    kernel, task = world(Procfs)
    yield kernel, task
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    kernel.close()


@pytest.fixture
def user(rig):
    kernel, task = rig
    made = kernel.process(5, task.group, USER)
    made.host_tid = task.host_tid
    return made


def test_priorities(rig, user) -> None:
    _, task = rig
    assert priority.sys_getpriority(task, L.PRIO_PROCESS, 0) == 20 - os.getpriority(os.PRIO_PROCESS, 0)
    with pytest.raises(ESRCH):
        priority.sys_getpriority(task, L.PRIO_PROCESS, 99)
    with pytest.raises(EINVAL):
        priority.sys_getpriority(task, 3, 0)
    with pytest.raises(EACCES):
        priority.sys_setpriority(user, L.PRIO_PROCESS, 0, -5)
    with pytest.raises(EPERM):
        priority.sys_setpriority(user, L.PRIO_PROCESS, 1, 5)


def test_who_lacks_a_capability_of_the_targets_may_not_slow_it_down(rig, user) -> None:
    _, task = rig
    user.creds = user.creds._replace(euid=task.creds.uid)
    with pytest.raises(EPERM):
        priority.sys_setpriority(user, L.PRIO_PROCESS, 1, 19)


def test_policies_are_set_with_the_flag_that_children_do_not_have_them(rig) -> None:
    _, task = rig
    task.mem.write_u32(BUF, 0)
    assert sched.sys_sched_getscheduler(task, 0) == L.SCHED_NORMAL
    sched.sys_sched_setscheduler(task, 0, L.SCHED_BATCH | L.SCHED_RESET_ON_FORK, BUF)
    assert os.sched_getscheduler(0) == L.SCHED_BATCH | L.SCHED_RESET_ON_FORK
    sched.sys_sched_getattr(task, 0, BUF, 56, 0)
    assert ATTR.unpack(task.mem.read(BUF, 56))[:3] == (56, L.SCHED_BATCH, L.SCHED_FLAG_RESET_ON_FORK)


def test_real_time_is_refused_whatever_the_guest_may(rig) -> None:
    _, task = rig
    task.mem.write_u32(BUF, 0)
    with pytest.raises(EINVAL):
        sched.sys_sched_setscheduler(task, 0, L.SCHED_FIFO, BUF)
    task.mem.write_u32(BUF, 1)
    with pytest.raises(EPERM):
        sched.sys_sched_setscheduler(task, 0, L.SCHED_FIFO, BUF)
    with pytest.raises(EINVAL):
        sched.sys_sched_setparam(task, 0, BUF)
    assert sched.sys_sched_get_priority_max(task, L.SCHED_RR) == 99
    assert sched.sys_sched_get_priority_min(task, L.SCHED_DEADLINE) == 0
    with pytest.raises(EINVAL):
        sched.sys_sched_get_priority_max(task, 4)


def test_idle_is_left_only_with_the_right_to_be_nice(rig, user) -> None:
    user.mem.write_u32(BUF, 0)
    user.creds = user.creds._replace(uid=user.creds.euid)
    sched.sys_sched_setscheduler(user, 0, L.SCHED_IDLE, BUF)
    with pytest.raises(EPERM):
        sched.sys_sched_setscheduler(user, 0, L.SCHED_NORMAL, BUF)
    user.group.rlimits.set(L.RLIMIT_NICE, 40, 40)
    if os.getuid() == 0:  # the host asks for the same right
        sched.sys_sched_setscheduler(user, 0, L.SCHED_NORMAL, BUF)
        assert os.sched_getscheduler(0) == L.SCHED_NORMAL


@pytest.mark.parametrize(
    ("attr", "error"),
    [
        (ATTR.pack(47, 0, 0, 0, 0, 0, 0, 0, 0, 0), E2BIG),
        (ATTR.pack(60, 0, 0, 0, 0, 0, 0, 0, 0, 0) + b"\1\0\0\0", E2BIG),
        (ATTR.pack(5000, 0, 0, 0, 0, 0, 0, 0, 0, 0), E2BIG),
        (ATTR.pack(48, 0, L.SCHED_FLAG_UTIL_CLAMP, 0, 0, 0, 0, 0, 0, 0), EINVAL),
        (ATTR.pack(56, 0, L.SCHED_FLAG_UTIL_CLAMP, 0, 0, 0, 0, 0, 0, 0), EOPNOTSUPP),
        (ATTR.pack(48, 0, 0x1000, 0, 0, 0, 0, 0, 0, 0), EINVAL),
        (ATTR.pack(48, 1 << 31, 0, 0, 0, 0, 0, 0, 0, 0), EINVAL),
        (ATTR.pack(48, L.SCHED_DEADLINE, 0, 0, 0, 0, 0, 0, 0, 0), EINVAL),
        (ATTR.pack(48, L.SCHED_DEADLINE, 0, 0, 0, 2000, 3000, 3000, 0, 0), EPERM),
        (ATTR.pack(60, 0, 0, 0, 0, 0, 0, 0, 0, 0) + bytes(4), None),
        (ATTR.pack(0, 99, L.SCHED_FLAG_KEEP_POLICY, 0, 0, 0, 0, 0, 0, 0), None),
    ],
)
def test_attributes(rig, attr: bytes, error: type[Exception] | None) -> None:
    _, task = rig
    task.mem.write(BUF, attr)
    if error is None:
        sched.sys_sched_setattr(task, 0, BUF, 0)
        return
    with pytest.raises(error):
        sched.sys_sched_setattr(task, 0, BUF, 0)
    if error is E2BIG:
        assert task.mem.read_u32(BUF) == ATTR.size


def test_priority_of_input_and_output(rig, user) -> None:
    _, task = rig
    nobody_set_one = priority.sys_ioprio_get(task, L.IOPRIO_WHO_PROCESS, 0)
    best_effort = L.IOPRIO_CLASS_BE << L.IOPRIO_CLASS_SHIFT
    try:
        priority.sys_ioprio_set(task, L.IOPRIO_WHO_PROCESS, 0, best_effort | 3)
        assert priority.sys_ioprio_get(task, L.IOPRIO_WHO_PROCESS, 0) == best_effort | 3
        for ioprio, error in ((1, EINVAL), (4 << 13, EINVAL), (L.IOPRIO_CLASS_RT << 13, EPERM)):
            with pytest.raises(error):
                priority.sys_ioprio_set(user, L.IOPRIO_WHO_PROCESS, 0, ioprio)
        with pytest.raises(EPERM):
            priority.sys_ioprio_set(user, L.IOPRIO_WHO_PROCESS, 1, best_effort)
        with pytest.raises(ESRCH):
            priority.sys_ioprio_get(task, L.IOPRIO_WHO_PROCESS, 99)
        priority.sys_ioprio_set(task, L.IOPRIO_WHO_PROCESS, 0, 0)
        usual = (os.getpriority(os.PRIO_PROCESS, 0) + 20) // 5
        assert priority.sys_ioprio_get(task, L.IOPRIO_WHO_USER, 0) == best_effort | usual
    finally:
        priority.sys_ioprio_set(task, L.IOPRIO_WHO_PROCESS, 0, nobody_set_one)


def test_affinity_is_the_hosts(rig) -> None:
    _, task = rig
    size = sched.sys_sched_getaffinity(task, 0, 128, BUF)
    bits = int.from_bytes(task.mem.read(BUF, size), "little")
    assert {cpu for cpu in range(bits.bit_length()) if bits >> cpu & 1} == os.sched_getaffinity(0)
    sched.sys_sched_setaffinity(task, 0, size, BUF)
    task.mem.write(BUF, bytes(8))
    with pytest.raises(EINVAL):
        sched.sys_sched_setaffinity(task, 0, 8, BUF)
