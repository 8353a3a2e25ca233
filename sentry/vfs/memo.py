"""The path memo: path names resolved before, so that the second stat of a path costs one dictionary lookup.

An entry holds for one root, one working directory (absolute paths: any) and one set of credentials. It is
true while `cache.generation` stands still (no directory, symbolic link or mount changed); the dentry it
ends at takes its entries out itself when its name moves or dies (Dentry.forget). Only walks through file
systems of cache policy ALWAYS whose mode bits decide about permission are entered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from sentry.abi.linux import CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
from sentry.vfs.dentry import cache, invalidate

if TYPE_CHECKING:
    from sentry.kernel.creds import Credentials
    from sentry.kernel.task import Task
    from sentry.vfs.mount import Path

MAX_ENTRIES = 8192  #: paths in one memo
MAX_MEMOS = 64  #: combinations of root, working directory and credentials

_SEARCH_CAPS = 1 << CAP_DAC_OVERRIDE | 1 << CAP_DAC_READ_SEARCH


class Memo:
    """path -> where it ends, for walks that follow a final link and that do not."""

    __slots__ = ("creds", "cwd", "followed", "generation", "root", "unfollowed")

    NONE: ClassVar[Memo]  #: matches nothing

    def __init__(self, root: Path | None, cwd: Path | None, creds: Credentials | None) -> None:
        self.generation = cache.generation
        self.root = root
        self.cwd = cwd
        self.creds = creds
        self.followed: dict[bytes, Path] = {}
        self.unfollowed: dict[bytes, Path] = {}

    def clear(self) -> None:
        _clear(self.followed)
        _clear(self.unfollowed)


def _clear(entries: dict[bytes, Path]) -> None:
    """Empty one table; a dentry may be in others too."""
    for place in entries.values():
        dentry = place.dentry
        if dentry.memos is not None:
            dentry.memos = [each for each in dentry.memos if each[0] is not entries] or None
    entries.clear()


Memo.NONE = Memo(None, None, None)
Memo.NONE.generation = -1

_memos: dict[object, Memo] = {}


def recall(task: Task, path: bytes, follow: bool) -> Path | None:
    """Where `path` (absolute, or relative to the working directory) ends; maybe a negative dentry.
    None: walk.
    """
    fs = task.fs
    memo = fs.absolute if path[:1] == b"/" else fs.relative
    if (
        memo.generation != cache.generation
        or memo.creds is not task.creds
        or memo.root is not fs.root
        or (memo.cwd is not fs.cwd and memo.cwd is not None)
    ):
        return None
    return (memo.followed if follow else memo.unfollowed).get(path)


def remember(task: Task, path: bytes, follow: bool, place: Path) -> None:
    """Enter what a walk from the root or working directory found."""
    fs = task.fs
    absolute = path[:1] == b"/"
    memo = fs.absolute if absolute else fs.relative
    if (
        memo.generation != cache.generation
        or memo.creds is not task.creds
        or memo.root is not fs.root
        or (memo.cwd is not fs.cwd and memo.cwd is not None)
    ):
        memo = _find(task, absolute)
    entries = memo.followed if follow else memo.unfollowed
    if len(entries) >= MAX_ENTRIES:
        _clear(entries)
    entries[path] = place
    dentry = place.dentry
    if dentry.memos is None:
        dentry.memos = []
    dentry.memos.append((entries, path))


def _find(task: Task, absolute: bool) -> Memo:
    """The memo for the task's present root, directory and rights, emptied if it is out of date."""
    fs = task.fs
    creds = task.creds
    cwd = None if absolute else fs.cwd
    key = (fs.root, cwd, creds.fsuid, creds.fsgid, creds.groups, creds.cap_effective & _SEARCH_CAPS)
    memo = _memos.get(key)
    if memo is None or memo.generation != cache.generation:
        if memo is not None:
            memo.clear()
        elif len(_memos) >= MAX_MEMOS:
            forget_all()
        memo = _memos[key] = Memo(fs.root, cwd, creds)
    elif memo.creds is not creds or memo.root is not fs.root or memo.cwd is not cwd:
        # The same rights and places, held in other objects: a second view of the same entries.
        view = Memo(fs.root, cwd, creds)
        view.followed, view.unfollowed = memo.followed, memo.unfollowed
        memo = view
    if absolute:
        fs.absolute = memo
    else:
        fs.relative = memo
    return memo


def forget_all() -> None:
    """Drop every entry and with it the references that keep dentries cached."""
    for memo in _memos.values():
        memo.clear()
    _memos.clear()
    invalidate()
