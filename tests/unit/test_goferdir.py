"""What is known of host directories' names: bounded, and the longest known goes first."""

from __future__ import annotations

from typing import Any

import pytest

from sentry.fs import goferdir
from sentry.fs.goferdir import AHEAD, Ahead, AllNames


class Inode:
    names: set[bytes] | None = None


def learn(known: AllNames, count: int) -> Any:
    inode: Any = Inode()
    known.learn(inode, {b"%d" % number for number in range(count)})
    return inode


def test_the_longest_known_names_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goferdir, "NAMES_MAX", 100)
    known = AllNames()
    inodes = [learn(known, 19) for _ in range(5)]
    assert all(inode.names is not None for inode in inodes)
    inodes.append(learn(known, 19))
    assert [inode.names is not None for inode in inodes] == [False] * 4 + [True] * 2
    inodes.append(learn(known, 19))
    assert inodes[-1].names is not None


def test_names_that_come_one_by_one_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goferdir, "NAMES_MAX", 100)
    known = AllNames()
    inode = learn(known, 0)
    for number in range(200):
        if inode.names is not None:
            inode.names.add(b"%d" % number)
            known.added()
    assert inode.names is None


def test_the_dead_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(goferdir, "NAMES_MAX", 100)
    known = AllNames()
    kept = learn(known, 9)
    for _ in range(50):
        learn(known, 19)
    assert kept.names is not None


def test_names_are_asked_for_together_while_they_come_in_order() -> None:
    names = [b"%d" % number for number in range(AHEAD + 5)]
    ahead = Ahead(names)
    assert ahead.wanted(b"0") == names[:AHEAD]
    assert ahead.wanted(names[AHEAD]) == names[AHEAD:]
    assert ahead.wanted(b"3") is None
    assert ahead.wanted(b"4") == names[4 : 4 + AHEAD]
    assert ahead.wanted(b"x") is None
