"""Running a command in a root: bare, in a plain chroot in namespaces of its own, and in a runsc-py sandbox.

Both give back a `Ran`: stdout, stderr and the exit code as a shell shows it (128+n for a signal), so that a
test runs a command in both and compares. The bare run sees what the sandbox's command sees: it is pid 1 of
its PID namespace, has the same capabilities and environment, a fresh writable layer over the root, /proc,
/dev, /dev/pts, a /tmp, and a loopback interface.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
COMMAND = Path(sys.executable).parent / "runsc-py"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/root", "TERM": "xterm", "LANG": "C.UTF-8"}
HOSTNAME = "guest"
TIMEOUT_S = 120


class Ran(NamedTuple):
    stdout: str
    stderr: str
    code: int

    def __str__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"


def capabilities() -> list[str]:
    """What a command gets by default, as `chown`, `kill`, …"""
    from runsc_py import options

    return [name.lower() for name in options.DEFAULT_CAPABILITIES.split()]


def finished(argv: Sequence[str | Path], stdin: bytes = b"", timeout: float = TIMEOUT_S, **how: object) -> Ran:
    """Run on the host to its end. On a timeout what it said so far is shown."""
    with subprocess.Popen(
        [str(part) for part in argv],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        **how,  # type: ignore[call-overload]
    ) as process:
        try:
            out, err = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            out, err = _what_it_said(process)
            text = Ran(out.decode(errors="replace"), err.decode(errors="replace"), -9)
            raise AssertionError(f"no end after {timeout:.0f} s: {shlex.join(map(str, argv))}\n{text}") from None
    code = process.returncode if process.returncode >= 0 else 128 - process.returncode
    return Ran(out.decode(errors="replace"), err.decode(errors="replace"), code)


def _what_it_said(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """After a kill: a sandbox that lives on may hold the pipes open, so not to their end."""
    try:
        return process.communicate(timeout=2)
    except subprocess.TimeoutExpired as partly:
        assert process.stdout and process.stderr and process.stdin
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
        return partly.stdout or b"", partly.stderr or b""


# ---- bare Linux

# Runs as pid 1 of fresh namespaces: lays a memory layer over the root (or takes it as it is), fills /dev, mounts what
# else is wanted, and becomes the command.
_BARE = r"""
set -e
mount -t tmpfs -o mode=755 layer "$WORK"
mkdir "$WORK/up" "$WORK/work" "$WORK/root"
if [ -n "$PLAIN" ]; then
    mount --rbind "$ROOT" "$WORK/root"
else
    mount -t overlay -o "lowerdir=$ROOT,upperdir=$WORK/up,workdir=$WORK/work" layer "$WORK/root"
fi
cd "$WORK/root"
mount -t proc -o nosuid,nodev,noexec proc proc
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
mount -t tmpfs -o mode=755,nosuid tmpfs dev
mkdir dev/pts dev/shm dev/mqueue
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5,nosuid,noexec devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev,noexec shm dev/shm
mount -t mqueue -o nosuid,nodev,noexec mqueue dev/mqueue
umask 0
mknod dev/null c 1 3; mknod dev/zero c 1 5; mknod dev/full c 1 7
mknod dev/random c 1 8; mknod dev/urandom c 1 9; mknod dev/tty c 5 0
chmod 666 dev/null dev/zero dev/full dev/random dev/urandom dev/tty
ln -s /proc/self/fd dev/fd; ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout; ln -s /proc/self/fd/2 dev/stderr; ln -s pts/ptmx dev/ptmx
mount -t tmpfs -o mode=1777 tmpfs tmp
umask 022
if [ -n "$BIND" ]; then
    mount --bind "$BIND" mnt
    if [ -n "$BIND_OPTIONS" ]; then mount -o "remount,bind,$BIND_OPTIONS" mnt; fi
fi
busybox ip link set lo up
echo "$HOST_NAME" > /proc/sys/kernel/hostname
if [ -n "$TTY" ]; then exec <"$TTY" >"$TTY" 2>&1; fi
cd /
exec setpriv --clear-groups --bounding-set=-all"$CAPS" --inh-caps=-all -- chroot "$WORK/root" /bin/sh -c \
    'cd "$0" && exec env -i "$@"' "$DIRECTORY" "$@"
"""


def bare_problem() -> str:
    """Why nothing can be run bare here; empty if it can."""
    if os.geteuid() != 0:
        return "a chroot in fresh namespaces needs root"
    for tool in ("unshare", "setpriv", "busybox", "chroot"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    return ""


class Bare(NamedTuple):
    """What a bare run has beyond the usual: the root itself instead of a layer over it, a bind mount at /mnt, capabilities."""

    plain: bool = False
    bind: str = ""
    bind_options: str = ""
    capabilities: tuple[str, ...] = ()


USUAL = Bare()


def bare_argv(
    argv: Sequence[str], root: Path, work: Path, cwd: str = "/", extra: dict[str, str] | None = None, how: Bare = USUAL
) -> tuple[list[str], dict[str, str]]:
    """The host command that runs `argv` bare, and its environment."""
    caps = "".join(f",+{name}" for name in (*capabilities(), *how.capabilities))
    given = [f"{name}={value}" for name, value in {**ENVIRONMENT, **(extra or {})}.items()]
    unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--net", "--uts", "--ipc"]
    command = [*unshare, "--propagation", "private", "/bin/sh", "-c", _BARE, "sh", *given, *argv]
    environment = {"PATH": PATH, "ROOT": str(root), "WORK": str(work), "CAPS": caps, "TTY": ""}
    environment.update(HOST_NAME=HOSTNAME, DIRECTORY=cwd, PLAIN="1" if how.plain else "")
    environment.update(BIND=how.bind, BIND_OPTIONS=how.bind_options)
    return command, environment


def bare(
    argv: Sequence[str],
    root: Path,
    stdin: bytes = b"",
    cwd: str = "/",
    timeout: float = TIMEOUT_S,
    how: Bare = USUAL,
    **env: str,
) -> Ran:
    with tempfile.TemporaryDirectory(prefix="bare-") as work:
        command, environment = bare_argv(argv, root, Path(work), cwd, env, how)
        return finished(command, stdin, timeout, env=environment)


# ---- the sandbox


class Runtime:
    """runsc-py with a state directory of its own; what a test leaves in it is a leak."""

    def __init__(self, state: Path, platform: str = "", command: Path = COMMAND) -> None:
        self.state = state
        self.platform = platform
        self.command = command

    def argv(self, *args: str | Path) -> list[str]:
        options = [str(self.command), "--root", str(self.state / "state"), "--log", str(self.state / "log.json")]
        options += ["--log-format", "json"]
        if self.platform:
            options += ["--platform", self.platform]
        return [*options, *map(str, args)]

    def __call__(self, *args: str | Path, stdin: bytes = b"", timeout: float = TIMEOUT_S) -> Ran:
        return finished(self.argv(*args), stdin, timeout, env=self.environment())

    def environment(self) -> dict[str, str]:
        return {**ENVIRONMENT, "RUNSC_PY_PANIC_ON_BUG": "1"}

    def do_argv(self, argv: Sequence[str], root: Path, cwd: str = "/", tty: bool = False, **env: str) -> list[str]:
        given = [part for name, value in env.items() for part in ("--env", f"{name}={value}")]
        terminal = ["-it"] if tty else []
        return self.argv("do", *terminal, "--rootfs", root, "--cwd", cwd, "--hostname", HOSTNAME, *given, "--", *argv)

    def do(
        self, argv: Sequence[str], root: Path, stdin: bytes = b"", cwd: str = "/", timeout: float = TIMEOUT_S, **env: str
    ) -> Ran:
        return finished(self.do_argv(argv, root, cwd, **env), stdin, timeout, env=self.environment())

    def log(self) -> str:
        path = self.state / "log.json"
        return path.read_text() if path.exists() else ""


def sandbox_problem() -> str:
    """Why no sandbox can be run here; empty if one can."""
    if not COMMAND.exists():
        return "runsc-py is not installed beside this interpreter (make venv)"
    if not any((REPOSITORY / "native").glob("_core*.so")):
        return "the C core is not built (make native)"
    return ""


@contextmanager
def runtime(platform: str = "") -> Iterator[Runtime]:
    with tempfile.TemporaryDirectory(prefix="runsc-py-") as folder:
        yield Runtime(Path(folder), platform)
