"""Commands of an unprivileged user, whom the machine need not know: `User(folder, ranges=...)` and `user.argv(...)`.

The command runs in a mount namespace of its own, where /etc/passwd, /etc/subuid and /etc/subgid tell of the user, and
where folders that keep others out (root's home, as it may hold the repository or the interpreter) are replaced by a view
that lets through to what is needed. The machine's own files are not touched.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from tests import roots, sandboxes

UID = 64321
RANGE = (2_000_000, 5000)  # first id and count: nobody's, on a machine that is not made for this

# Ends as the user. $BINDS: lines of `source target`; $OPENED: folders to be replaced; $NEEDED: what lies in them.
_VIEW = r"""
set -e
stash=$(mktemp -d); mount -t tmpfs stash "$stash"
number=0
for place in $NEEDED; do
    number=$((number + 1)); mkdir "$stash/$number"; mount --bind "$place" "$stash/$number"
done
for folder in $OPENED; do mount -t tmpfs -o mode=755 view "$folder"; done
number=0
for place in $NEEDED; do
    number=$((number + 1)); mkdir -p "$place"; mount --bind "$stash/$number" "$place"
done
umount -R -l "$stash"; rmdir "$stash"
for pair in $BINDS; do mount --bind "${pair%%=*}" "${pair#*=}"; done
cd "$HOME"
exec setpriv --reuid "$ID" --regid "$ID" --clear-groups -- "$@"
"""


def problem(ranges: bool) -> str:
    """Why no such user can be made here; empty if one can."""
    if os.geteuid() != 0:
        return "making a user needs root"
    wanted = ["unshare", "setpriv", "mount", *(["newuidmap", "newgidmap"] if ranges else [])]
    for tool in wanted:
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    files = ["/etc/passwd", *(["/etc/subuid", "/etc/subgid"] if ranges else [])]
    return next((f"there is no {file}" for file in files if not os.path.exists(file)), "")


class User:
    """`home` is his, and empty. With `ranges` he has subordinate ids."""

    def __init__(self, home: Path, ranges: bool) -> None:
        self.home = home
        self.ranges = ranges
        os.chown(home, UID, UID)
        home.chmod(0o755)
        files = home.parent / "etc"
        files.mkdir()
        self._binds = []
        line = f"tester:x:{UID}:{UID}::{home}:/bin/sh\n"
        self._bind(files, "passwd", Path("/etc/passwd").read_text() + line)
        for name in ("subuid", "subgid"):
            if os.path.exists(f"/etc/{name}"):
                self._bind(files, name, f"tester:{RANGE[0]}:{RANGE[1]}\n" if ranges else "")

    def _bind(self, files: Path, name: str, text: str) -> None:
        (files / name).write_text(text)
        (files / name).chmod(0o644)
        self._binds.append(f"{files / name}=/etc/{name}")

    def argv(self, command: list[str | Path]) -> list[str]:
        places = _needed()
        closed = sorted({folder for place in places for folder in [_closed_above(place)] if folder})
        settings = {
            "NEEDED": " ".join(map(str, places)) if closed else "",
            "OPENED": " ".join(map(str, closed)),
            "BINDS": " ".join(self._binds),
            "ID": str(UID),
            "HOME": str(self.home),
            "PATH": sandboxes.PATH,
        }
        given = [f"{name}={value}" for name, value in settings.items()]
        return ["unshare", "--mount", "--propagation", "private", "env", "-i", *given, "RUNSC_PY_PANIC_ON_BUG=1",
                "/bin/sh", "-c", _VIEW, "sh", *map(str, command)]  # fmt: skip

    def run(self, command: list[str | Path], timeout: float = 60) -> sandboxes.Ran:
        return sandboxes.finished(self.argv(command), timeout=timeout)

    def shell(self, script: str, timeout: float = 60) -> sandboxes.Ran:
        return self.run(["/bin/sh", "-c", script], timeout)


def _needed() -> list[Path]:
    """What a run of ours reads, none inside another."""
    found: list[Path] = []
    for place in (sandboxes.REPOSITORY, Path(sys.base_prefix), Path(sys.prefix), roots.roots_folder()):
        if not any(place.is_relative_to(other) for other in found):
            found.append(place)
    return found


def _closed_above(place: Path) -> Path | None:
    """The topmost folder above that does not let others through."""
    return next((folder for folder in [*reversed(place.parents)] if not folder.stat().st_mode & 0o001), None)


def quoted(*words: str | Path) -> str:
    return shlex.join(map(str, words))
