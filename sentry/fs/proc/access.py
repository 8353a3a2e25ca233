"""Who may look into a process: ptrace_may_access (ptrace(2)), with PTRACE_MODE_READ_FSCREDS for /proc, and with
PTRACE_MODE_ATTACH_REALCREDS for who reaches into it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.abi.linux import CAP_SYS_PTRACE
from sentry.errors import EACCES, ENODEV
from sentry.fs.pseudo import PseudoFile, PseudoInode, TextFile

if TYPE_CHECKING:
    from sentry.kernel.task import Task
    from sentry.vfs.file import File
    from sentry.vfs.mount import Path


class ProcessInode(PseudoInode):
    """What is in /proc/PID: made anew at each look-up, it takes no mode; an owner it forgets."""

    __slots__ = ()
    fixed_mode = True


class ProcessFile(PseudoFile):
    """A file in /proc/PID."""

    __slots__ = ()
    fixed_mode = True
    no_mapping = ENODEV

    def open_now(self, task: Task, path: Path, flags: int) -> File:
        return ProcessTextFile(self, path, flags)

    async def open(self, task: Task, path: Path, flags: int) -> File:
        return ProcessTextFile(self, path, flags)


class ProcessTextFile(TextFile):
    """An open one: it can't be spliced from (its f_op has a read, no read_iter)."""

    __slots__ = ()
    gives_splice = False


def may_look(task: Task, target: Task) -> bool:
    """Whether `task` may read memory-like facts (environ, maps, fd) of `target`."""
    if task.group is target.group:
        return True
    mine, theirs = task.creds, target.creds
    if mine.has_cap(CAP_SYS_PTRACE):
        return True
    if not (
        mine.fsuid == theirs.euid == theirs.suid == theirs.uid
        and mine.fsgid == theirs.egid == theirs.sgid == theirs.gid
    ):
        return False
    return target.group.dumpable == 1 and not theirs.cap_permitted & ~mine.cap_effective


def may_attach(task: Task, target: Task) -> bool:
    """Whether `task` may take descriptors and memory of `target`, by its real ids."""
    if task.group is target.group:
        return True
    mine, theirs = task.creds, target.creds
    if mine.has_cap(CAP_SYS_PTRACE):
        return True
    same_user = mine.uid == theirs.euid == theirs.suid == theirs.uid
    if not (same_user and mine.gid == theirs.egid == theirs.sgid == theirs.gid):
        return False
    return target.group.dumpable == 1 and not theirs.cap_permitted & ~mine.cap_permitted


def check_look(task: Task, target: Task) -> None:
    """EACCES unless may_look()."""
    if not may_look(task, target):
        raise EACCES("not allowed to look into that process")


def owner(target: Task, world_readable_directory: bool = False) -> tuple[int, int]:
    """Who owns a process's files: its effective ids, root for one that is not dumpable (task_dump_owner)."""
    if target.group.dumpable == 1 or world_readable_directory:
        return target.creds.euid, target.creds.egid
    return 0, 0
