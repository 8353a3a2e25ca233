"""sentry/syscalls/identity.py: ids and capabilities, and who may change them (credentials(7), capabilities(7))."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from errno import EFAULT, EINVAL, EPERM, ESRCH
from pathlib import Path

import pytest

from sentry.abi.linux import (
    CAP_CHOWN,
    CAP_KILL,
    CAP_NET_RAW,
    CAP_SETGID,
    CAP_SETPCAP,
    CAP_SETUID,
    ERESTARTSYS,
    PR_SET_PDEATHSIG,
)
from sentry.abi.x86_64 import NUMBERS
from sentry.kernel.creds import ALL_CAPS, Credentials
from sentry.kernel.task import Task
from sentry.syscalls.identity import KEEP, SECBIT_KEEP_CAPS, SECBIT_NO_SETUID_FIXUP, sys_setuid
from tests.unit.kernel_rig import Buffer, KernelRig, answer, with_memory

USER = Credentials(5, 6, 7, 6, 15, 16, 17, 16)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[KernelRig]:
    made = KernelRig(tmp_path)
    yield made
    made.close()


@pytest.fixture
def task(rig: KernelRig) -> Task:
    return with_memory(rig.first_task())


@pytest.fixture
def buffer() -> Buffer:
    return Buffer()


def uids(task: Task) -> tuple[int, ...]:
    return task.creds[:4]


def gids(task: Task) -> tuple[int, ...]:
    return task.creds[4:8]


# --- user ids


def test_root_sets_all_ids_and_loses_its_capabilities(task: Task) -> None:
    assert answer(task, "setuid", 9) == 0
    assert uids(task) == (9, 9, 9, 9)
    assert (task.creds.cap_permitted, task.creds.cap_effective) == (0, 0)
    assert answer(task, "setuid", 0) == -EPERM


def test_who_becomes_another_hears_no_more_of_its_parent_or_stays_itself(task: Task) -> None:
    task.parent_death_signal = 9
    rewritten = sys_setuid(task, 9)
    assert (rewritten.registers, rewritten.nr) == ({0: PR_SET_PDEATHSIG, 1: 0}, NUMBERS["prctl"])
    assert rewritten.finish(-ERESTARTSYS) == -ERESTARTSYS  # the call is to be made again
    assert (uids(task), task.parent_death_signal) == ((0, 0, 0, 0), 9)
    assert rewritten.finish(0) == 0
    assert (uids(task), task.parent_death_signal) == ((9, 9, 9, 9), 0)
    assert sys_setuid(task, 9) == 0


def test_a_user_moves_between_its_real_and_saved_id(task: Task) -> None:
    task.creds = USER
    assert answer(task, "setuid", 7) == 0
    assert uids(task) == (5, 7, 7, 7)
    assert answer(task, "setuid", 6) == -EPERM
    assert answer(task, "setuid", 5) == 0
    assert uids(task) == (5, 5, 7, 5)
    assert answer(task, "setuid", KEEP) == -EINVAL


@pytest.mark.parametrize(
    ("ids", "result", "after"),
    [
        ((KEEP, KEEP), 0, (5, 6, 7, 6)),
        ((6, KEEP), 0, (6, 6, 6, 6)),
        ((KEEP, 7), 0, (5, 7, 7, 7)),
        ((KEEP, 5), 0, (5, 5, 7, 5)),  # to the real id: the saved one stays
        ((7, KEEP), -EPERM, (5, 6, 7, 6)),  # the saved id is not for the real one
        ((KEEP, 99), -EPERM, (5, 6, 7, 6)),
        ((6, 5), 0, (6, 5, 5, 5)),
    ],
)
def test_setreuid(task: Task, ids: tuple[int, int], result: int, after: tuple[int, ...]) -> None:
    task.creds = USER
    assert answer(task, "setreuid", *ids) == result
    assert uids(task) == after


@pytest.mark.parametrize(
    ("ids", "result", "after"),
    [
        ((7, 5, 6), 0, (7, 5, 6, 5)),
        ((KEEP, KEEP, 5), 0, (5, 6, 5, 6)),
        ((KEEP, KEEP, 8), -EPERM, (5, 6, 7, 6)),
    ],
)
def test_setresuid(task: Task, ids: tuple[int, ...], result: int, after: tuple[int, ...]) -> None:
    task.creds = USER
    assert answer(task, "setresuid", *ids) == result
    assert uids(task) == after


def test_group_ids_follow_the_same_rules_without_capabilities(task: Task) -> None:
    task.creds = USER
    assert answer(task, "setgid", 16) == -EPERM
    assert answer(task, "setgid", 17) == 0 and gids(task) == (15, 17, 17, 17)
    assert answer(task, "setregid", 17, 15) == 0 and gids(task) == (17, 15, 15, 15)
    assert answer(task, "setresgid", KEEP, 17, KEEP) == 0 and gids(task) == (17, 17, 15, 17)
    assert answer(task, "setresgid", 99, KEEP, KEEP) == -EPERM
    assert answer(task, "setregid", 99, KEEP) == -EPERM
    assert answer(task, "setgid", KEEP) == -EINVAL
    task.creds = USER._replace(cap_effective=1 << CAP_SETGID)
    assert answer(task, "setgid", 99) == 0 and gids(task) == (99, 99, 99, 99)


def test_file_system_ids_answer_with_the_old_one(task: Task) -> None:
    task.creds = USER
    assert answer(task, "setfsuid", 99) == 6 and task.creds.fsuid == 6  # refused without saying so
    assert answer(task, "setfsuid", 7) == 6 and task.creds.fsuid == 7
    assert answer(task, "setfsuid", KEEP) == 7
    assert answer(task, "setfsgid", 17) == 16 and task.creds.fsgid == 17
    assert answer(task, "setfsgid", 99) == 17 and task.creds.fsgid == 17


def test_a_file_system_id_takes_the_file_capabilities_along(task: Task) -> None:
    file_caps = 1 << CAP_CHOWN
    assert answer(task, "setfsuid", 5) == 0
    assert not task.creds.cap_effective & file_caps and task.creds.has_cap(CAP_KILL)
    assert answer(task, "setfsuid", 0) == 5
    assert task.creds.cap_effective & file_caps


def test_effective_id_away_from_root_and_back(task: Task) -> None:
    assert answer(task, "setresuid", KEEP, 5, KEEP) == 0
    assert (task.creds.cap_permitted, task.creds.cap_effective) == (ALL_CAPS, 0)
    assert answer(task, "setresuid", KEEP, 0, KEEP) == 0
    assert task.creds.cap_effective == ALL_CAPS


@pytest.mark.parametrize(
    ("bits", "kept"), [(SECBIT_KEEP_CAPS, (ALL_CAPS, 0)), (SECBIT_NO_SETUID_FIXUP, (ALL_CAPS, ALL_CAPS))]
)
def test_secure_bits_keep_capabilities(task: Task, bits: int, kept: tuple[int, int]) -> None:
    task.creds = task.creds._replace(securebits=bits)
    sys_setuid(task, 5)
    assert (task.creds.cap_permitted, task.creds.cap_effective) == kept


def test_asking(task: Task, buffer: Buffer) -> None:
    task.creds = USER
    assert [answer(task, name) for name in ("getuid", "geteuid", "getgid", "getegid")] == [5, 6, 15, 16]
    at = buffer.addr
    assert answer(task, "getresuid", at, at + 4, at + 8) == 0
    assert struct.unpack("<3I", buffer.get(12)) == (5, 6, 7)
    assert answer(task, "getresgid", at, at + 4, at + 8) == 0
    assert struct.unpack("<3I", buffer.get(12)) == (15, 16, 17)
    assert answer(task, "getresgid", at, 0, at) == -EFAULT


# --- supplementary groups


def test_groups_are_kept_sorted_and_need_the_capability(task: Task, buffer: Buffer) -> None:
    assert answer(task, "setgroups", 3, buffer.put(struct.pack("<3I", 9, 2, 5))) == 0
    assert task.creds.groups == (2, 5, 9)
    assert answer(task, "getgroups", 0, 0) == 3
    assert answer(task, "getgroups", 2, buffer.addr) == -EINVAL
    assert answer(task, "getgroups", -1, buffer.addr) == -EINVAL
    assert answer(task, "getgroups", 5, buffer.addr) == 3
    assert struct.unpack("<3I", buffer.get(12)) == (2, 5, 9)
    assert answer(task, "setgroups", 65537, buffer.addr) == -EINVAL
    assert answer(task, "setgroups", 1, 0) == -EFAULT
    task.creds = USER
    assert answer(task, "setgroups", 0, 0) == -EPERM


# --- capabilities

V1, V2, V3 = 0x19980330, 0x20071026, 0x20080522


def header(buffer: Buffer, version: int, pid: int = 0) -> tuple[int, int]:
    """Addresses of the header and of the data behind it."""
    buffer.put(struct.pack("<Ii", version, pid))
    return buffer.addr, buffer.addr + 8


def test_capget_in_one_or_two_words(rig: KernelRig, task: Task, buffer: Buffer) -> None:
    task.creds = Credentials(cap_effective=1 | 1 << 35, cap_permitted=3 | 1 << 36, cap_inheritable=4)
    assert answer(task, "capget", *header(buffer, V3)) == 0
    assert struct.unpack("<6I", buffer.get(32)[8:]) == (1, 3, 4, 8, 16, 0)
    other = rig.fork(task, pid=12)
    other.creds = Credentials(cap_effective=8)
    assert answer(task, "capget", *header(buffer, V1, 12)) == 0
    assert struct.unpack("<3I", buffer.get(20)[8:]) == (8, 0, 0)
    assert answer(task, "capget", *header(buffer, V3, 99)) == -ESRCH
    assert answer(task, "capget", *header(buffer, V3, -1)) == -EINVAL


def test_an_unknown_version_is_answered_with_the_known_one(task: Task, buffer: Buffer) -> None:
    at, data = header(buffer, 7)
    assert answer(task, "capget", at, 0) == 0
    assert struct.unpack("<I", buffer.get(4)) == (V3,)
    at, data = header(buffer, 7)
    assert answer(task, "capget", at, data) == -EINVAL
    at, data = header(buffer, 7)
    assert answer(task, "capset", at, data) == -EINVAL
    assert answer(task, "capget", 0, 0) == -EFAULT


def capset(task: Task, buffer: Buffer, effective: int, permitted: int, inheritable: int, pid: int = 0) -> int:
    words = [part >> shift & KEEP for shift in (0, 32) for part in (effective, permitted, inheritable)]
    buffer.put(struct.pack("<Ii6I", V3, pid, *words))
    return answer(task, "capset", buffer.addr, buffer.addr + 8)


A, B, C = 1 << CAP_CHOWN, 1 << CAP_KILL, 1 << CAP_NET_RAW


@pytest.mark.parametrize(
    ("wanted", "result"),
    [
        ((A, A, 0), 0),  # less
        ((0, A | B, 0), 0),
        ((A, A, B), 0),  # what is permitted may be inherited
        ((A, A | C, 0), -EPERM),  # more
        ((B, A, 0), -EPERM),  # effective but not permitted
        ((A, A, C), -EPERM),  # neither permitted nor inheritable
    ],
)
def test_capset_only_ever_takes_away(task: Task, buffer: Buffer, wanted: tuple[int, int, int], result: int) -> None:
    task.creds = Credentials(5, 5, 5, 5, cap_permitted=A | B, cap_effective=A, cap_ambient=A)
    assert capset(task, buffer, *wanted) == result
    if not result:
        assert (task.creds.cap_effective, task.creds.cap_permitted, task.creds.cap_inheritable) == wanted
        assert task.creds.cap_ambient == A & wanted[1] & wanted[2]


def test_setpcap_may_inherit_from_the_bounding_set(task: Task, buffer: Buffer) -> None:
    own = 1 << CAP_SETPCAP
    task.creds = Credentials(cap_permitted=own, cap_effective=own, cap_bounding=C)
    assert capset(task, buffer, own, own, C) == 0
    assert capset(task, buffer, own, own, C | A) == -EPERM


def test_capset_is_for_oneself_and_needs_data(task: Task, buffer: Buffer) -> None:
    assert capset(task, buffer, 0, 0, 0, pid=77) == -EPERM
    assert capset(task, buffer, 0, 0, 0, pid=task.tid) == 0
    at, _ = header(buffer, V3)
    assert answer(task, "capset", at, 0) == -EFAULT
    assert not task.creds.has_cap(CAP_SETUID)
