"""Under containerd: `ctr run` and `ctr task exec` with `--runc-binary`, from an image imported from a tar.

containerd runs by hand with a root, a state folder and a socket of its own. Each test also runs with runc.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks, sandboxes
from tests.e2e import images
from tests.e2e.terminal import Terminal

TOOLS = ("containerd", "ctr", "containerd-shim-runc-v2")
MISSING = [tool for tool in TOOLS if not shutil.which(tool, path=sandboxes.PATH)]
# Another run on this machine has containers of its own: the parent of their cgroups differs.
NAMESPACE = f"runsc-py-test-{os.getpid()}"
LONG = "long"
IMAGE = "example.test/busybox:latest"

pytestmark = [
    pytest.mark.root,
    pytest.mark.sandbox,
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {' '.join(MISSING)}"),
]

CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "{folder}/containerd.sock"
"""


class Containerd:
    def __init__(self, folder: Path, runtime: str) -> None:
        self.folder = folder
        self.runtime = runtime

    def argv(self, *args: str) -> list[str]:
        return ["ctr", "--address", f"{self.folder}/containerd.sock", "--namespace", NAMESPACE, *args]

    def ctr(self, *args: str, stdin: bytes = b"") -> sandboxes.Ran:
        return sandboxes.finished(self.argv(*args), stdin, 60, env={"PATH": sandboxes.PATH})

    def run_argv(self, name: str, *command: str, options: tuple[str, ...] = ()) -> list[str]:
        chosen = ["--runc-binary", self.runtime, "--runc-root", f"{self.folder}/runtime"]
        return ["run", "--rm", *chosen, *options, IMAGE, name, *command]

    def run(self, name: str, *command: str, stdin: bytes = b"") -> sandboxes.Ran:
        return self.ctr(*self.run_argv(name, *command), stdin=stdin)


@pytest.fixture(scope="module")
def daemon(busybox_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("containerd")
    (folder / "config.toml").write_text(CONFIG.format(folder=folder))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            ["containerd", "--config", folder / "config.toml"],
            stdout=log,
            stderr=log,
            env={"PATH": f"{sandboxes.PATH}"},
            start_new_session=True,
        )
    containerd = Containerd(folder, "")
    try:
        deadline = time.monotonic() + 30
        while containerd.ctr("version").code:
            assert time.monotonic() < deadline and process.poll() is None, (folder / "log").read_text()
            time.sleep(0.1)
        image = folder / "image.tar"
        image.write_bytes(images.archive(busybox_root, IMAGE, ["sh"]))
        imported = containerd.ctr("image", "import", str(image))
        assert imported.code == 0, imported
        yield folder
    finally:
        process.terminate()
        process.wait(20)
        subprocess.run(["umount", "-R", folder / "state"], capture_output=True)


@pytest.fixture(params=["runc", "runsc-py"])
def containerd(request: pytest.FixtureRequest, daemon: Path) -> Iterator[Containerd]:
    command = str(sandboxes.COMMAND) if request.param == "runsc-py" else shutil.which("runc", path=sandboxes.PATH)
    if command is None:
        pytest.skip("runc is not installed")
    before = leaks.snapshot()
    made = Containerd(daemon, command)
    yield made
    for name in made.ctr("task", "ls", "-q").stdout.split():
        made.ctr("task", "rm", "--force", name)
    for name in made.ctr("container", "ls", "-q").stdout.split():
        made.ctr("container", "rm", name)
    if request.param == "runc":
        leaks.remove_cgroups(NAMESPACE)
    left = [line for line in leaks.left_since(before, daemon / "none") if "ctr " not in line]
    assert not left, "left behind:\n" + "\n".join(left)
    runtime_state = daemon / "runtime"
    files = [path for path in runtime_state.rglob("*") if path.is_file()] if runtime_state.exists() else []
    assert not files


@pytest.mark.parametrize("code", [0, 7, 200])
def test_exit_code(containerd: Containerd, code: int) -> None:
    ran = containerd.run(f"code{code}", "sh", "-c", f"echo output; echo error >&2; exit {code}")
    assert ran.code == code, ran
    assert ran.stdout == "output\n"
    assert "error" in ran.stderr


def test_stdin(containerd: Containerd) -> None:
    """Lines, not the end of file: this ctr never passes that on."""
    ran = containerd.run("stdin", "sh", "-c", "read a; read b; echo $b $a", stdin=b"first line\nsecond\n")
    assert ran.stdout == "second first line\n", ran


def test_bad_program(containerd: Containerd) -> None:
    ran = containerd.run("bad", "/bin/nonexist")
    assert ran.code != 0
    assert "no such file or directory" in ran.stderr, ran


def test_terminal(containerd: Containerd) -> None:
    argv = containerd.argv(*containerd.run_argv("tty", "sh", options=("-t",)))
    with Terminal(argv, {"PATH": sandboxes.PATH, "TERM": "xterm"}, rows=31, columns=97) as terminal:
        terminal.expect("# ")
        terminal.send("test -t 0 && echo ter''minal\n")
        terminal.expect("\nterminal\r+\n")
        terminal.send("stty size\n")
        terminal.expect("\n31 97\r+\n")
        terminal.send("sleep 1000\n")
        terminal.expect("1000\r+\n")
        time.sleep(0.3)
        terminal.send("\x03")
        terminal.expect("# ")
        terminal.send("exit 9\n")
        assert terminal.wait() == 9


@pytest.fixture
def task(containerd: Containerd) -> Iterator[Containerd]:
    """A task called `long` that runs until it is told to stop."""
    chosen = ["--runc-binary", containerd.runtime, "--runc-root", f"{containerd.folder}/runtime"]
    script = "trap 'exit 5' TERM; while :; do sleep 0.05; done"
    ran = containerd.ctr("run", "--detach", *chosen, IMAGE, LONG, "sh", "-c", script)
    assert ran.code == 0, ran
    yield containerd
    containerd.ctr("task", "kill", "--signal", "KILL", LONG)
    deadline = time.monotonic() + 10
    while "RUNNING" in containerd.ctr("task", "ls").stdout and time.monotonic() < deadline:
        time.sleep(0.05)
    containerd.ctr("task", "delete", LONG)
    containerd.ctr("container", "delete", LONG)


def test_exec(task: Containerd) -> None:
    ran = task.ctr("task", "exec", "--exec-id", "e1", LONG, "sh", "-c", "cat; hostname > /dev/null; exit 3", stdin=b"to exec\n")
    assert (ran.stdout, ran.code) == ("to exec\n", 3), ran
    ran = task.ctr("task", "exec", "--exec-id", "e2", "--user", "1000", LONG, "id", "-u")
    assert ran.stdout == "1000\n", ran
    ran = task.ctr("task", "exec", "--exec-id", "e3", "--cwd", "/etc", LONG, "sh", "-c", "pwd; kill -9 $$")
    assert (ran.stdout, ran.code) == ("/etc\n", 137), ran
    ran = task.ctr("task", "exec", "--exec-id", "e4", LONG, "/bin/nonexist")
    assert ran.code != 0 and "no such file" in ran.stderr, ran


def test_exec_terminal(task: Containerd) -> None:
    argv = task.argv("task", "exec", "--exec-id", "t1", "--tty", LONG, "sh")
    with Terminal(argv, {"PATH": sandboxes.PATH, "TERM": "xterm"}, rows=20, columns=77) as terminal:
        terminal.expect("# ")
        terminal.send("test -t 1 && stty size\n")
        terminal.expect("\n20 77\r+\n")
        terminal.send("exit 4\n")
        assert terminal.wait() == 4


def test_task_verbs(task: Containerd) -> None:
    assert "RUNNING" in task.ctr("task", "ls").stdout
    pids = task.ctr("task", "ps", LONG).stdout.splitlines()
    assert len(pids) >= 2
    assert task.ctr("task", "pause", LONG).code == 0
    assert "PAUSED" in task.ctr("task", "ls").stdout
    assert task.ctr("task", "resume", LONG).code == 0
    assert "RUNNING" in task.ctr("task", "ls").stdout
    assert task.ctr("task", "metrics", LONG).code == 0
    task.ctr("task", "kill", "--signal", "TERM", LONG)
    ran = task.ctr("task", "delete", LONG)
    deadline = time.monotonic() + 10
    while ("still running" in ran.stderr or "must be stopped" in ran.stderr) and time.monotonic() < deadline:
        time.sleep(0.05)
        ran = task.ctr("task", "delete", LONG)
    assert ran.code == 5 or "5" in ran.stderr, ran


def test_killed_pid_is_seen(task: Containerd) -> None:
    """SIGKILL of the pid a shim watches ends the task."""
    row = next(line for line in task.ctr("task", "ls").stdout.splitlines() if line.startswith(LONG))
    os.kill(int(row.split()[1]), 9)
    deadline = time.monotonic() + 10
    while "STOPPED" not in task.ctr("task", "ls").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.05)
