"""A bundle, a state root, and runsc-py over the fake sandbox or the real; a test may leave nothing behind."""

import ctypes
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

REPOSITORY = pathlib.Path(__file__).parents[2]


class Rig:
    def __init__(self, directory: pathlib.Path, real: bool = False) -> None:
        self.real = real  # the host's root under the real sentry
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: we are the shim
        self.directory = directory
        self.statuses: dict[int, int] = {}  # of children reaped
        self.root = directory / "state"
        self.bundle = directory / "bundle"
        (self.bundle / "rootfs").mkdir(parents=True)
        self.cgroup = f"/runsc-py-test-{os.getpid()}"
        self.config()

    def config(self, *args: str, **process: object) -> dict:
        """Write config.json for a program; returns it, to be changed and written by `write`."""
        config = {
            "ociVersion": "1.0.2",
            "process": {
                "args": list(args) or ["sleep", "100"],
                "cwd": "/",
                "env": ["PATH=/bin:/usr/bin"],
                **process,
            },
            "root": {"path": "/" if self.real else "rootfs"},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts"},
            ],
            "linux": {"namespaces": [{"type": "pid"}], "cgroupsPath": f"{self.cgroup}/c"},
        }
        self.write(config)
        return config

    def write(self, config: object) -> None:
        (self.bundle / "config.json").write_text(json.dumps(config))

    def argv(self, *words: str) -> list[str]:
        if words[0] in ("create", "run"):
            words = (words[0], "--bundle", str(self.bundle), *words[1:])
        module = "runsc_py" if self.real else "tests.cli.fake"
        return [sys.executable, "-m", module, "--root", str(self.root), *words]

    def start(self, *words: str, **options: object) -> subprocess.Popen:
        environment = {"PYTHONPATH": str(REPOSITORY), "PATH": "/bin:/usr/bin", **options.pop("env", {})}
        return subprocess.Popen(self.argv(*words), env=environment, cwd=self.directory, **options)

    def run(self, *words: str, stdin: bytes = b"", code: int | None = 0, **options: object) -> bytes:
        """Run a command to its end; its stdout. Its exit code must be `code`; its stderr is kept."""
        child = self.start(*words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        out, self.err = child.communicate(stdin, timeout=20)
        if code is not None:
            assert child.returncode == code, (words, child.returncode, self.err)
        return out

    def create(self, container_id: str = "c", *words: str, **options: object) -> int:
        """Create a container with stdio of its own; the pid in its pid file."""
        if hasattr(self, "out"):
            self.out.close()
        self.out = open(self.directory / "out", "w+b")
        child = self.start(
            "create",
            "--pid-file",
            str(self.directory / "pid"),
            *words,
            container_id,
            stdin=subprocess.DEVNULL,
            stdout=self.out,
            stderr=subprocess.STDOUT,
            **options,
        )
        assert child.wait(20) == 0, self.output()
        return int((self.directory / "pid").read_text())

    def output(self) -> bytes:
        self.out.seek(0)
        return self.out.read()

    def state(self, container_id: str = "c") -> dict:
        return json.loads(self.run("state", container_id))

    def status(self, pid: int) -> int:
        """Reap as a shim does until `pid`, a child of ours by then, has ended; its exit code as a shell has it."""
        wait_until(lambda: self.reap() and pid in self.statuses)
        return exit_code(self.statuses[pid])

    def reap(self) -> bool:
        """Reap every child that has ended: the first process of a PID namespace ends after all others of it."""
        try:
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                self.statuses[ended[0]] = ended[1]
        except ChildProcessError:
            pass
        return True

    def close(self) -> None:
        """End what is left; complain of whatever was not a container of the test's own."""
        for name in os.listdir(self.root) if self.root.exists() else []:
            self.run("delete", "--force", name)
        if hasattr(self, "out"):
            self.out.close()
        assert not self.root.exists() or os.listdir(self.root) == []
        wait_until(lambda: not self.children())
        assert not self.cgroups()

    def children(self) -> list[int]:
        """Live processes that became ours; dead ones are reaped."""
        self.reap()
        task = f"/proc/self/task/{os.getpid()}/children"
        return [int(word) for word in pathlib.Path(task).read_text().split()]

    def cgroups(self) -> list[str]:
        found = pathlib.Path("/sys/fs/cgroup")
        return [str(p) for p in found.glob("*" + self.cgroup)] + [str(p) for p in found.glob(self.cgroup[1:])]


def exit_code(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def wait_until(condition, seconds: float = 5) -> None:
    """Poll: what other processes do cannot be waited for otherwise."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


SIGKILL = signal.SIGKILL
