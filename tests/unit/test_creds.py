"""sentry/kernel/creds.py: who a program runs as (capabilities(7), "Transformation of capabilities during execve()")."""

from __future__ import annotations

from struct import pack

import pytest

from sentry.abi.linux import CAP_CHOWN, CAP_KILL, CAP_NET_RAW, CAP_SETUID
from sentry.errors import EINVAL, EPERM
from sentry.kernel.creds import ALL_CAPS, Credentials, FileCaps, exec_credentials, parse_file_caps

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


def file_caps(permitted: int, inheritable: int = 0, effective: bool = True) -> FileCaps:
    return FileCaps(permitted, inheritable, effective)


@pytest.mark.parametrize(
    ("old", "uid", "of_file", "expected", "secure"),
    [
        # a user gets what the bounding set allows, and what he may inherit
        (creds(5, cap_bounding=A | B), None, file_caps(A), (A, A, 0), True),
        (creds(5, cap_bounding=A | B), None, file_caps(A | C, effective=False), (A, 0, 0), True),
        (creds(5, cap_bounding=0, cap_inheritable=B), None, file_caps(0, B | C), (B, B, 0), True),
        (creds(5, cap_permitted=B, cap_inheritable=B, cap_ambient=B), None, file_caps(A), (A, A, 0), True),
        # root is root all the same
        (creds(0, cap_bounding=A | B), None, file_caps(A), (A | B, A | B, 0), False),
        # a set-user-id-root program gives a user only those of the file
        (creds(5, cap_bounding=A | B), 0, file_caps(A), (A, A, 0), True),
        # no_new_privs: never more than before
        (creds(5, cap_bounding=A, no_new_privs=True), None, file_caps(A), (0, 0, 0), True),
    ],
)
def test_file_capabilities(
    old: Credentials, uid: int | None, of_file: FileCaps, expected: tuple[int, int, int], secure: bool
) -> None:
    new, told = exec_credentials(old, uid, None, of_file)
    assert caps(new) == expected
    assert told is secure


def test_a_program_does_not_run_without_a_capability_of_its_file() -> None:
    with pytest.raises(EPERM):
        exec_credentials(creds(0, cap_bounding=A), None, None, file_caps(A | C))


def test_file_capabilities_are_parsed() -> None:
    assert parse_file_caps(pack("<5I", 0x02000001, A, 0, 1, 0)) == FileCaps(A | 1 << 32, 0, True)
    assert parse_file_caps(pack("<3I", 0x01000000, A, B)) == FileCaps(A, B, False)
    assert parse_file_caps(pack("<6I", 0x03000000, A, 0, 0, 0, 0)) == FileCaps(A, 0, False)
    assert parse_file_caps(pack("<6I", 0x03000000, A, 0, 0, 0, 1000)) is None
    for bad in (b"", b"\0", pack("<5I", 0x01000000, 0, 0, 0, 0), pack("<5I", 0x04000000, 0, 0, 0, 0)):
        with pytest.raises(EINVAL):
            parse_file_caps(bad)


def test_no_new_privs_takes_the_effective_id_back() -> None:
    new, _ = exec_credentials(creds(5)._replace(euid=7, no_new_privs=True), None, None)
    assert (new.euid, new.suid) == (5, 5)


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
    new, _ = exec_credentials(old, uid, None, file, traced=True)
    assert (new.euid, new.cap_permitted) == (euid, permitted)
