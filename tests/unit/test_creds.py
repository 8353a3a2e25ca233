"""sentry/kernel/creds.py: who a program runs as (capabilities(7), "Transformation of capabilities during execve()")."""

from __future__ import annotations

import pytest

from sentry.abi.linux import CAP_CHOWN, CAP_KILL, CAP_NET_RAW, CAP_SETUID
from sentry.errors import EPERM
from sentry.kernel.creds import ALL_CAPS, Credentials, exec_credentials, gains
from sentry.vfs.filecaps import FileCaps

A, B, C, D = 1 << CAP_CHOWN, 1 << CAP_KILL, 1 << CAP_NET_RAW, 1 << CAP_SETUID
NOROOT, KEEP_CAPS = 1, 16


def creds(uid: int = 0, euid: int | None = None, **more: int | bool) -> Credentials:
    euid = uid if euid is None else euid
    return Credentials(uid, euid, euid, euid, uid, uid, uid, uid)._replace(**more)  # type: ignore[arg-type]


def caps(new: Credentials) -> tuple[int, int, int]:
    return new.cap_permitted, new.cap_effective, new.cap_ambient


@pytest.mark.parametrize(
    ("old", "uid", "expected", "secure"),
    [
        # root gets what the bounding set allows, and what it may inherit
        (creds(0, cap_bounding=A | B), None, (A | B, A | B, 0), False),
        (creds(0, cap_bounding=A, cap_inheritable=C), None, (A | C, A | C, 0), False),
        (creds(0, cap_permitted=ALL_CAPS, cap_bounding=0), None, (0, 0, 0), False),
        # a user loses all but the ambient set
        (creds(5, cap_permitted=A | B, cap_effective=A | B), None, (0, 0, 0), False),
        (creds(5, cap_permitted=A | B, cap_effective=B, cap_inheritable=A, cap_ambient=A), None, (A, A, A), False),
        # a set-user-id-root program of a user: capabilities, no ambient set, and the C library is told
        (creds(5, cap_bounding=A | B), 0, (A | B, A | B, 0), True),
        (creds(5, cap_bounding=A, cap_permitted=B, cap_inheritable=B, cap_ambient=B), 0, (A | B, A | B, 0), True),
        # real root under another effective id: permitted, not effective
        (creds(0, 5, cap_bounding=A), None, (A, 0, 0), True),
        # root that runs a program of a user
        (creds(0, cap_bounding=A), 5, (A, 0, 0), True),
        # SECBIT_NOROOT: root is nobody special
        (creds(0, cap_bounding=A, securebits=NOROOT), None, (0, 0, 0), False),
        # no_new_privs: never more than before
        (creds(0, cap_bounding=A | B, cap_permitted=A, no_new_privs=True), None, (A, A, 0), False),
    ],
)
def test_capabilities_after_exec(
    old: Credentials, uid: int | None, expected: tuple[int, int, int], secure: bool
) -> None:
    new, told = exec_credentials(old, uid, None)
    assert caps(new) == expected
    assert told is secure


@pytest.mark.parametrize(
    ("old", "uid", "file", "expected", "secure"),
    [
        # a user gets what the file grants within the bounding set, and what both may inherit
        (creds(5, cap_bounding=A | B), None, FileCaps(A, 0, True), (A, A, 0), True),
        (creds(5, cap_bounding=A | B), None, FileCaps(A, 0, False), (A, 0, 0), True),
        (creds(5, cap_bounding=0, cap_inheritable=B), None, FileCaps(0, B | C, True), (B, B, 0), True),
        # the ambient set goes, even if the file grants nothing
        (creds(5, cap_permitted=A, cap_inheritable=A, cap_ambient=A), None, FileCaps(0, 0, False), (0, 0, 0), False),
        # root has all anyway
        (creds(0, cap_bounding=A | B), None, FileCaps(A, 0, True), (A | B, A | B, 0), False),
        # a set-user-id-root program with capabilities gives a user those only
        (creds(5, cap_bounding=A | B), 0, FileCaps(A, 0, True), (A, A, 0), True),
        # no_new_privs: never more than before
        (creds(5, cap_bounding=A, no_new_privs=True), None, FileCaps(A, 0, True), (0, 0, 0), True),
    ],
)
def test_file_capabilities(
    old: Credentials, uid: int | None, file: FileCaps, expected: tuple[int, int, int], secure: bool
) -> None:
    new, told = exec_credentials(old, uid, None, file)
    assert caps(new) == expected
    assert told is secure


def test_a_program_that_needs_more_than_the_bounding_set_is_not_run() -> None:
    with pytest.raises(EPERM):
        exec_credentials(creds(5, cap_bounding=A), None, None, FileCaps(A | B, 0, True))


def test_who_shares_his_place_with_another_gains_nothing() -> None:
    new, secure = exec_credentials(creds(5, cap_bounding=A), 0, 0, unsafe=True)
    assert new[:8] == (5, 5, 5, 5, 5, 5, 5, 5)
    assert caps(new) == (0, 0, 0) and secure
    may_set_ids = creds(5, cap_effective=1 << CAP_SETUID, cap_permitted=1 << CAP_SETUID, cap_bounding=A)
    assert exec_credentials(may_set_ids, 7, None, unsafe=True)[0].euid == 7


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"euid": 6}, True),
        ({"fsgid": 6}, True),
        ({"uid": 6, "suid": 6, "gid": 6, "sgid": 6, "groups": (6,)}, False),
        ({"cap_permitted": 0}, False),
        ({"cap_permitted": A | B}, True),
    ],
)
def test_what_hides_a_process_from_its_like(change: dict[str, int], expected: bool) -> None:
    old = creds(5, cap_permitted=A)
    assert gains(old, old._replace(**change)) is expected  # type: ignore[arg-type]


def test_set_ids_change_effective_saved_and_file_system_ids() -> None:
    new, secure = exec_credentials(creds(5), 7, 8)
    assert new[:8] == (5, 7, 7, 7, 5, 8, 8, 8)
    assert secure


def test_a_set_group_id_program_loses_the_ambient_set_too() -> None:
    old = creds(5, cap_permitted=A, cap_inheritable=A, cap_ambient=A)
    assert caps(exec_credentials(old, None, 9)[0]) == (0, 0, 0)


def test_saved_ids_follow_the_effective_ones_at_each_exec() -> None:
    old = creds(0, 0)._replace(euid=5, egid=6)
    new, secure = exec_credentials(old, None, None)
    assert (new.suid, new.fsuid, new.sgid, new.fsgid) == (5, 5, 6, 6)
    assert secure


def test_keep_caps_is_cleared_and_the_other_secure_bits_stay() -> None:
    new, _ = exec_credentials(creds(5, securebits=KEEP_CAPS | NOROOT), None, None)
    assert new.securebits == NOROOT


def test_what_exec_never_changes() -> None:
    old = creds(0, cap_bounding=A, cap_inheritable=B, no_new_privs=True)._replace(groups=(1, 2))
    new, _ = exec_credentials(old, None, None)
    assert (new.cap_bounding, new.cap_inheritable, new.no_new_privs, new.groups) == (A, B, True, (1, 2))


def test_capability_and_group_questions() -> None:
    user = creds(5, cap_effective=A, cap_permitted=A | B)._replace(fsgid=6, groups=(7,))
    assert user.has_cap(CAP_CHOWN) and not user.has_cap(CAP_KILL)
    assert [user.in_group(gid) for gid in (5, 6, 7, 8)] == [False, True, True, False]


@pytest.mark.parametrize(
    ("old", "uid", "file", "euid", "permitted"),
    [
        (creds(5, cap_bounding=A | B), 0, None, 5, 0),
        (creds(5, cap_bounding=A | B), None, FileCaps(A, 0, True), 5, 0),
        (creds(5, cap_bounding=A | B, cap_permitted=A), None, FileCaps(A | B, 0, True), 5, A),
        # who could become that user anyway does
        (creds(5, cap_bounding=A, cap_permitted=D, cap_effective=D), 0, None, 0, 0),
        # nothing to gain, nothing to lose
        (creds(0, cap_bounding=A, cap_permitted=A), None, None, 0, A),
    ],
)
def test_a_traced_program_gains_nothing(
    old: Credentials, uid: int | None, file: FileCaps | None, euid: int, permitted: int
) -> None:
    new, _ = exec_credentials(old, uid, None, file, unsafe=True)
    assert (new.euid, new.cap_permitted) == (euid, permitted)
