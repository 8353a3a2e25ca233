"""FsContext: a task's root, working directory and umask (Linux's fs_struct; shared by CLONE_FS)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from native import ffi, lib

if TYPE_CHECKING:
    from sentry.vfs.mount import Mount, Path


class FsContext:
    """`nc` is the places as the C core's walks need them."""

    __slots__ = ("_cwd", "_root", "nc", "umask")

    def __init__(self, root: Path, cwd: Path | None = None, umask: int = 0o022) -> None:
        self._root = root
        self._cwd = root if cwd is None else cwd
        self.umask = umask
        self.nc: Any = ffi.gc(lib.nc_fs_new(), lib.nc_fs_free)
        self._publish()

    @property
    def root(self) -> Path:
        return self._root

    @root.setter
    def root(self, place: Path) -> None:
        self._root = place
        self._publish()

    @property
    def cwd(self) -> Path:
        return self._cwd

    @cwd.setter
    def cwd(self, place: Path) -> None:
        self._cwd = place
        self._publish()

    def _publish(self) -> None:
        root, cwd = self._root, self._cwd
        root_nc, cwd_nc = root.dentry.nc, cwd.dentry.nc
        lib.nc_fs_set(
            self.nc,
            root.mount.twin(), ffi.NULL if root_nc is None else root_nc,
            cwd.mount.twin(), ffi.NULL if cwd_nc is None else cwd_nc,
        )  # fmt: skip

    def copy(self) -> FsContext:
        """fork(2): the same places, from now on changed separately."""
        return FsContext(self._root, self._cwd, self.umask)

    def moved(self, became: dict[Mount, Mount]) -> None:
        """After unshare(CLONE_NEWNS): the same places in the copied mounts."""
        self.root = self._root._replace(mount=became.get(self._root.mount, self._root.mount))
        self.cwd = self._cwd._replace(mount=became.get(self._cwd.mount, self._cwd.mount))
