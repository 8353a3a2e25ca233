"""Under Docker: the daemon runs by hand on a machine apart, with runsc-py as a runtime beside runc.

Each test also runs with runc. The image is a busybox root, loaded from a tar.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks, sandboxes
from tests.e2e import images
from tests.e2e.machine import Machine, limits_of, missing, until
from tests.e2e.terminal import Terminal

# The client that came with the daemon, where there is another.
DOCKER = shutil.which("docker", path=f"/usr/bin:{sandboxes.PATH}") or "docker"
IMAGE = "example.test/busybox:latest"
PARENT = f"runsc-py-test-{os.getpid()}-docker"

pytestmark = [
    pytest.mark.root,
    pytest.mark.sandbox,
    pytest.mark.skipif(
        bool(missing("dockerd", "docker", "containerd", "iptables")),
        reason=missing("dockerd", "docker", "containerd", "iptables"),
    ),
]


class Docker:
    """The client of a daemon, with the runtime under test."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.runtime = "runc"
        self.daemon_pid = 0
        self.environment = {"PATH": sandboxes.PATH, "HOME": str(folder), "TERM": "xterm"}
        self.environment |= {"DOCKER_HOST": f"unix://{folder}/docker.sock", "DOCKER_BUILDKIT": "0"}

    def __call__(self, *args: str | Path, stdin: bytes = b"") -> sandboxes.Ran:
        return sandboxes.finished([DOCKER, *args], stdin, 60, env=self.environment)

    def ok(self, *args: str | Path, stdin: bytes = b"") -> str:
        """What a command that succeeds prints."""
        ran = self(*args, stdin=stdin)
        assert ran.code == 0, ran
        return ran.stdout

    def run_argv(self, *args: str | Path) -> list[str]:
        return ["run", "--runtime", self.runtime, *map(str, args)]

    def run(self, *args: str | Path, stdin: bytes = b"") -> sandboxes.Ran:
        return self(*self.run_argv("--rm", *args), stdin=stdin)

    def script(self, *options: str | Path, script: str, stdin: bytes = b"") -> sandboxes.Ran:
        return self.run(*options, IMAGE, "sh", "-c", script, stdin=stdin)

    def detached(self, name: str, script: str, *options: str) -> None:
        self.ok(*self.run_argv("--detach", "--name", name, *options, IMAGE, "sh", "-c", script))

    def state(self, name: str, field: str = "Status") -> str:
        return self.ok("inspect", "--format", f"{{{{.State.{field}}}}}", name).strip()

    def logs(self, name: str) -> str:
        ran = self("logs", name)
        return ran.stdout + ran.stderr

    def configure(self, default_runtime: str) -> None:
        config = {
            "data-root": f"{self.folder}/data",
            "exec-root": f"{self.folder}/exec",
            "pidfile": f"{self.folder}/docker.pid",
            "hosts": [self.environment["DOCKER_HOST"]],
            "cgroup-parent": f"/{PARENT}",
            "runtimes": {"runsc-py": {"path": str(sandboxes.COMMAND)}},
            "default-runtime": default_runtime,
        }
        (self.folder / "daemon.json").write_text(json.dumps(config))

    def reload(self, default_runtime: str) -> None:
        self.configure(default_runtime)
        os.kill(int((self.folder / "docker.pid").read_text()), signal.SIGHUP)
        until(lambda: default_runtime == self.ok("info", "--format", "{{.DefaultRuntime}}").strip())


@pytest.fixture(scope="module")
def daemon(busybox_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    folder = tmp_path_factory.mktemp("docker")
    with Machine(folder) as machine:
        docker = Docker(machine, folder)
        docker.configure("runc")
        machine.start(["dockerd", "--config-file", folder / "daemon.json"], lambda: docker("version").code == 0)
        docker.ok("load", stdin=images.archive(busybox_root, IMAGE, ["sh"]))
        yield docker


@pytest.fixture(params=["runc", "runsc-py"])
def docker(request: pytest.FixtureRequest, daemon: Docker) -> Iterator[Docker]:
    """The daemon with no container in it; after the test nothing of one is left but what the test removes."""
    daemon.runtime = request.param
    before, mounts = leaks.snapshot(), daemon.machine.mounts()
    yield daemon
    for name in daemon.ok("ps", "--all", "--quiet").split():
        daemon.ok("rm", "--force", name)
    if request.param == "runc":
        leaks.remove_cgroups(PARENT)
    left = leaks.left_since(before, daemon.folder / "none")
    left += [f"mount {place}" for place in daemon.machine.mounts() - mounts if not place.endswith("/netns/default")]
    left += [f"file {path}" for path in (daemon.folder / "exec/runtime-runc").rglob("*") if path.name != "moby"]
    assert not left, "left behind:\n" + "\n".join(left)


def test_exit_code_and_streams(docker: Docker) -> None:
    ran = docker.script("-i", script="cat; echo error >&2; exit 7", stdin=b"from stdin\n" * 5000)
    assert (ran.stdout, ran.stderr, ran.code) == ("from stdin\n" * 5000, "error\n", 7)
    ran = docker.script(script="cat; kill -9 $$")
    assert (ran.stdout, ran.code) == ("", 0)  # stdin is empty, and init is not killed by its own signal
    ran = docker.script("--init", script="ps -o args | grep -c '^sh -c'; kill -9 $$")
    assert ran.code == 137, ran


@pytest.mark.parametrize(
    ("program", "code", "text"),
    [
        ("/bin/nonexist", 127, "no such file or directory"),
        ("nonexist", 127, "executable file not found in $PATH"),
        ("/etc/passwd", 126, "permission denied"),
    ],
)
def test_bad_program(docker: Docker, program: str, code: int, text: str) -> None:
    ran = docker.run(IMAGE, program)
    assert ran.code == code and text in ran.stderr, ran


def test_who_and_where(docker: Docker) -> None:
    chosen = ["--user", "1000:7", "--group-add", "77", "--workdir", "/srv/new", "--env", "A=1 2", "--hostname", "named"]
    chosen += ["--cap-drop", "ALL", "--cap-add", "CHOWN", "--ulimit", "nofile=100:200", "--security-opt", "no-new-privileges"]
    chosen += ["--oom-score-adj", "300", "--add-host", "other:10.0.0.9"]
    ran = docker.script(
        *chosen,
        script="id -u; id -G; pwd; echo $A; hostname; cat /etc/hostname; ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; "
        "grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status; grep other /etc/hosts; touch file 2> /dev/null || echo refused",
    )
    assert ran.stdout.split() == [
        *("1000", "7", "77", "/srv/new", "1", "2", "named", "named", "100", "200", "300"),
        *("CapBnd:", "0000000000000001", "NoNewPrivs:", "1", "10.0.0.9", "other", "refused"),
    ], ran


def test_mounts(docker: Docker, tmp_path: Path) -> None:
    for name in ("shared", "fixed"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "from-host").write_text("host\n")
    ran = docker.script(
        *("--volume", f"{tmp_path}/shared:/shared", "--volume", f"{tmp_path}/fixed:/fixed:ro", "--read-only"),
        *("--volume", f"{tmp_path}/fixed/from-host:/etc/single", "--tmpfs", "/mem:size=64k,mode=1770", "--volume", "/own"),
        script="exec 2> /dev/null; cat /shared/from-host /etc/single; echo guest > /shared/new; echo x > /fixed/x || echo fixed; "
        "echo x > /x || echo readonly; stat -c %a /mem; head -c 100000 /dev/zero > /mem/x || echo full; touch /own/x && ls /own",
    )
    assert ran.stdout.split() == ["host", "host", "fixed", "readonly", "1770", "full", "x"], ran
    assert (tmp_path / "shared/new").read_text() == "guest\n"


def test_limits(docker: Docker) -> None:
    docker.detached("one", "sleep 1000", "--memory", "96m", "--cpus", "0.5", "--cpuset-cpus", "0")
    assert docker.ok("exec", "one", "nproc") == "1\n"
    pid = docker.state("one", "Pid")
    assert limits_of(pid, *LIMITS) == ["100663296", "50000", "0"]
    docker.ok("update", "--memory", "200m", "--memory-swap", "300m", "--cpus", "0.7", "--pids-limit", "20", "one")
    assert limits_of(pid, *LIMITS) == ["209715200", "70000", "0"]
    forks = docker("exec", "one", "sh", "-c", "for i in $(seq 30); do sleep 1000 & echo $i; done")
    assert forks.stdout.endswith("\n18\n"), forks  # beside `sleep` and `sh`
    stats = docker.ok("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", "one")
    assert stats.startswith("one ") and stats.endswith(" / 200MiB\n")


LIMITS = [("memory", "limit_in_bytes"), ("cpu", "cfs_quota_us"), ("cpuset", "cpus")]


def test_out_of_memory(docker: Docker) -> None:
    script = "until test -e /go; do sleep 0.02; done; exec tail -c 300000000 /dev/zero"
    docker.detached("one", script, "--memory", "96m", "--memory-swap", "96m")
    docker.ok("exec", "one", "touch", "/go")  # only now somebody watches for it
    assert docker.ok("wait", "one") == "137\n"
    assert docker.state("one", "OOMKilled") == "true"


def test_terminal(docker: Docker) -> None:
    argv = [DOCKER, *docker.run_argv("--rm", "-it", IMAGE, "sh")]
    with Terminal(argv, docker.environment, rows=31, columns=97) as terminal:
        terminal.expect("# ")
        terminal.send("test -t 0 && test -t 2 && tt''y\n")
        terminal.expect("\n/dev/(pts/0|console)\r+\n")
        terminal.send("stty size\n")
        terminal.expect("\n31 97\r+\n")
        terminal.resize(20, 70)
        terminal.process.send_signal(signal.SIGWINCH)
        terminal.send("until test \"$(stty size)\" = '20 70'; do sleep 0.05; done; echo res''ized\n")
        terminal.expect("\nresized\r+\n")
        terminal.send("sh -c 'echo sleeping; sleep 1000'\n")
        terminal.expect("\nsleeping\r+\n")
        terminal.send("\x03")
        terminal.expect("# ")
        terminal.send("exit 9\n")
        assert terminal.wait() == 9


def test_networks(docker: Docker) -> None:
    addresses = "ip -o addr | grep -c eth0; ping -c 1 -W 2 127.0.0.1 | grep -c ' 0% packet loss'"
    assert docker.script("--network", "none", script=addresses).stdout.split() == ["0", "1"]
    assert docker.script("--network", "host", script="ip -o link | grep -c docker0").stdout == "1\n"
    serve = "mkdir /w; hostname > /w/index.html; exec httpd -f -p 80 -h /w"
    docker.detached("web", serve, "--hostname", "web", "--publish", "127.0.0.1:8080:80", "--user", "0")
    address = docker.ok("inspect", "--format", "{{.NetworkSettings.IPAddress}}", "web").strip()
    ask = f"i=0; until wget -qO- http://{address}/; do i=$((i+1)); test $i -lt 50 || exit 1; sleep 0.1; done 2> /dev/null"
    ran = docker.script(script=f"{ask}; ping -c 1 -W 2 {address} | grep -c ' 0% packet loss'")
    assert ran.stdout.split() == ["web", "1"], ran
    ran = docker.script("--network", "container:web", script="wget -qO- http://127.0.0.1/")
    assert ran.stdout == "web\n", ran
    with docker.machine.network(), socket.create_connection(("127.0.0.1", 8080), 5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"".join(iter(lambda: connection.recv(4096), b"")).endswith(b"\r\n\r\nweb\n")


def test_exec(docker: Docker) -> None:
    docker.detached("one", "sleep 1000")
    ran = docker("exec", "-i", "one", "sh", "-c", "cat; echo error >&2; exit 3", stdin=b"to exec\n")
    assert (ran.stdout, ran.stderr, ran.code) == ("to exec\n", "error\n", 3)
    ran = docker("exec", "--user", "1000:7", "--workdir", "/etc", "--env", "A=b", "one", "sh", "-c", "id -u; pwd; echo $A; kill -9 $$")
    assert (ran.stdout, ran.code) == ("1000\n/etc\nb\n", 137), ran
    for program, said in (("/bin/nonexist", "no such file or directory"), ("/etc", "permission denied")):
        ran = docker("exec", "one", program)
        assert ran.code in (126, 127) and said in ran.stdout + ran.stderr, ran  # which of them depends on the client
    docker.ok("exec", "--detach", "one", "sh", "-c", "echo done > /detached")
    until(lambda: docker("exec", "one", "cat", "/detached").stdout == "done\n")
    with Terminal([DOCKER, "exec", "-it", "one", "sh"], docker.environment, rows=20, columns=77) as terminal:
        terminal.expect("# ")
        terminal.send("test -t 1 && stty size\n")
        terminal.expect("\n20 77\r+\n")
        terminal.send("exit 4\n")
        assert terminal.wait() == 4


def test_stop(docker: Docker) -> None:
    docker.detached("kind", "trap 'echo stopping; exit 5' TERM; echo up; while :; do sleep 0.05; done")
    docker.detached("stubborn", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    for name, code in (("kind", "5"), ("stubborn", "137")):
        until(lambda name=name: docker.logs(name) == "up\n", lambda name=name: docker.logs(name))
        began = time.monotonic()
        docker.ok("stop", "--time", "1", name)
        assert (time.monotonic() - began >= 1) == (name == "stubborn")
        assert (docker.state(name), docker.state(name, "ExitCode")) == ("exited", code)
    assert docker.logs("kind") == "up\nstopping\n"
    docker.ok("start", "kind")
    until(lambda: docker.logs("kind") == "up\nstopping\nup\n")
    docker.ok("kill", "--signal", "TERM", "kind")
    assert docker.ok("wait", "kind") == "5\n"
    began_s = int(time.time())
    docker.ok("rm", "--force", "kind")
    text = docker.ok("events", "--since", str(began_s - 60), "--until", str(began_s + 2), "--format", "{{.Actor.Attributes.name}} {{.Action}}")
    assert [line for line in text.splitlines() if line in ("kind start", "kind die")][-4:] == ["kind start", "kind die"] * 2


def test_pause(docker: Docker) -> None:
    docker.detached("one", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done")
    until(lambda: len(docker.logs("one")) > 0)
    docker.ok("pause", "one")
    assert docker.state("one") == "paused"
    before = docker.logs("one")
    assert docker("exec", "one", "true").code != 0
    assert docker.logs("one") == before
    docker.ok("unpause", "one")
    until(lambda: docker.logs("one") != before)
    docker.ok("pause", "one")
    docker.ok("kill", "one")
    assert docker.ok("wait", "one") == "137\n"


def test_top_and_cp(docker: Docker, tmp_path: Path) -> None:
    docker.detached("one", "sleep 1000 & sleep 1001 & wait")
    until(lambda: docker.ok("top", "one", "-o", "pid,args").count("sleep 100") == 4)  # the shell's line has both
    (tmp_path / "in").write_text("from outside\n")
    docker.ok("cp", tmp_path / "in", "one:/root/copied")
    assert docker.ok("exec", "one", "sh", "-c", "cat /root/copied; echo from inside > /root/made") == "from outside\n"
    docker.ok("cp", "one:/root/made", tmp_path / "out")
    assert (tmp_path / "out").read_text() == "from inside\n"
    assert {"A /root/copied", "A /root/made"} <= set(docker.ok("diff", "one").splitlines())


def test_attach(docker: Docker) -> None:
    docker.ok(*docker.run_argv("--detach", "-i", "--name", "one", IMAGE, "sh", "-c", "read line; sleep 0.2; echo got $line; exit 6"))
    ran = docker("attach", "one", stdin=b"this\n")
    assert ran.code == 6 and docker.logs("one") == "got this\n", ran


def test_restart_policy(docker: Docker) -> None:
    docker.detached("one", "echo run; exit 3", "--restart", "on-failure:2")
    until(lambda: docker.state("one") == "exited" and docker.logs("one") == "run\n" * 3, lambda: docker.logs("one"))
    assert docker.state("one", "ExitCode") == "3"


def test_build(docker: Docker, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("context\n")
    lines = [
        f"FROM {IMAGE}",
        "ENV A=b",
        "RUN echo built > /built && mkdir -p /a/b && mv /a /c && rm /bin/vi",
        "WORKDIR /app",
        "COPY file .",
        "USER 1000",
        'RUN test "$(id -u) $A $(pwd)" = "1000 b /app" && ! touch refused 2> /dev/null',
        "CMD cat /built file; ls -d /c/b /bin/vi 2> /dev/null",
    ]
    (tmp_path / "Dockerfile").write_text("\n".join(lines))
    docker.reload(docker.runtime)
    try:
        docker.ok("build", "--no-cache", "--quiet", "--tag", "built", tmp_path)
        assert docker.run("built").stdout == "built\ncontext\n/c/b\n"
        (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo out; exit 5")
        ran = docker("build", "--no-cache", tmp_path)
        assert ran.code == 5 or "returned a non-zero code: 5" in ran.stderr, ran
    finally:
        docker.reload("runc")
