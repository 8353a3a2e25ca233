"""FsContext: a task's root, working directory and umask (Linux's fs_struct; shared by CLONE_FS)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentry.vfs.memo import Memo

if TYPE_CHECKING:
    from sentry.vfs.mount import Mount, Path


class FsContext:
    """`root` and `cwd` are replaced whole, never changed in place: the path memo compares their identity."""

    __slots__ = ("absolute", "cwd", "relative", "root", "umask")

    def __init__(self, root: Path, cwd: Path | None = None, umask: int = 0o022) -> None:
        self.root = root
        self.cwd = root if cwd is None else cwd
        self.umask = umask
        self.absolute = self.relative = Memo.NONE

    def copy(self) -> FsContext:
        """fork(2): the same places, from now on changed separately."""
        new = FsContext(self.root, self.cwd, self.umask)
        new.absolute = self.absolute
        new.relative = self.relative
        return new

    def moved(self, became: dict[Mount, Mount]) -> None:
        """After unshare(CLONE_NEWNS): the same places in the copied mounts."""
        self.root = self.root._replace(mount=became.get(self.root.mount, self.root.mount))
        self.cwd = self.cwd._replace(mount=became.get(self.cwd.mount, self.cwd.mount))
