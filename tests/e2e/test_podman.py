"""Under podman and buildah, with runsc-py as their OCI runtime, on a machine apart. Each test also runs with runc."""

from __future__ import annotations

import os
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks, sandboxes
from tests.e2e import images
from tests.e2e.machine import Machine, limits_of, missing, until
from tests.e2e.terminal import Terminal

IMAGE = "example.test/busybox:latest"
PARENT = f"runsc-py-test-{os.getpid()}-podman"
WHY_NOT = missing("podman", "conmon", "iptables")
if not WHY_NOT and not Path("/usr/lib/cni/bridge").exists():
    WHY_NOT = "not installed: the CNI plugins"

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]

CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:4096", "nproc=4096:4096"]
log_driver = "k8s-file"
[network]
network_config_dir = "{folder}/networks"
cni_plugin_dirs = ["/usr/lib/cni"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["runc", "runsc-py"]
"""
STORAGE_CONF = """
[storage]
driver = "overlay"
graphroot = "{folder}/graph"
runroot = "{folder}/run"
"""
NETWORK = """{"cniVersion": "0.4.0", "name": "podman", "plugins": [
  {"type": "bridge", "bridge": "cni-podman0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "10.88.0.0/16"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}, {"type": "firewall"}, {"type": "tuning"}]}
"""


class Podman:
    """podman and buildah with folders of their own, and the runtime under test."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.runtime = "runc"
        machine.environment |= {
            "CONTAINERS_CONF": f"{folder}/containers.conf",
            "CONTAINERS_STORAGE_CONF": f"{folder}/storage.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{folder}/registries.conf",
            "TMPDIR": str(folder),
            "TERM": "xterm",
        }
        (folder / "containers.conf").write_text(CONTAINERS_CONF.format(folder=folder))
        (folder / "storage.conf").write_text(STORAGE_CONF.format(folder=folder))
        (folder / "registries.conf").write_text("")
        policy = folder / ".config/containers/policy.json"
        policy.parent.mkdir(parents=True)
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        (folder / "networks").mkdir()
        (folder / "networks/podman.conflist").write_text(NETWORK)

    def argv(self, *args: str | Path) -> list[str]:
        return ["podman", "--runtime", self.runtime, *map(str, args)]

    def __call__(self, *args: str | Path, stdin: bytes = b"") -> sandboxes.Ran:
        return self.machine.run(self.argv(*args), stdin)

    def ok(self, *args: str | Path, stdin: bytes = b"") -> str:
        ran = self(*args, stdin=stdin)
        assert ran.code == 0, ran
        return ran.stdout

    def run(self, *args: str | Path, stdin: bytes = b"") -> sandboxes.Ran:
        return self("run", "--rm", "--cgroup-parent", PARENT, *args, stdin=stdin)

    def script(self, *options: str | Path, script: str, stdin: bytes = b"") -> sandboxes.Ran:
        return self.run(*options, IMAGE, "sh", "-c", script, stdin=stdin)

    def detached(self, name: str, script: str, *options: str) -> None:
        chosen = ["--detach", "--name", name, *([] if "--pod" in options else ["--cgroup-parent", PARENT]), *options]
        self.ok("run", *chosen, IMAGE, "sh", "-c", script)

    def state(self, name: str, field: str = "Status") -> str:
        return self.ok("inspect", "--format", f"{{{{.State.{field}}}}}", name).strip()


@pytest.fixture(scope="module")
def host(busybox_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    folder = tmp_path_factory.mktemp("podman")
    with Machine(folder) as machine:
        podman = Podman(machine, folder)
        (folder / "image.tar").write_bytes(images.archive(busybox_root, IMAGE, ["sh"]))
        podman.ok("load", "--input", folder / "image.tar")
        yield podman


@pytest.fixture(params=["runc", "runsc-py"])
def podman(request: pytest.FixtureRequest, host: Podman) -> Iterator[Podman]:
    host.runtime = str(sandboxes.COMMAND) if request.param == "runsc-py" else shutil.which("runc", path=sandboxes.PATH) or "runc"
    before, mounts = leaks.snapshot(), host.machine.mounts()
    yield host
    host("pod", "rm", "--all", "--force", "--time", "0")
    host("rm", "--all", "--force", "--time", "0")
    # podman's own are there with either runtime, conmon's own in conmon's
    pods = [f"{PARENT}/*"] if request.param == "runc" else []
    leaks.remove_cgroups(f"{PARENT}/conmon/{PARENT}", f"{PARENT}/conmon", *pods, PARENT)
    left = leaks.left_since(before, host.folder / "none")
    left += [f"mount {place}" for place in host.machine.mounts() - mounts if not place.endswith(("/overlay", "/run/netns"))]
    left += host.machine.run(["find", "/run/runsc-py", "-mindepth", "1"]).stdout.splitlines()
    assert not left, "left behind:\n" + "\n".join(left)


def test_exit_code_and_streams(podman: Podman) -> None:
    ran = podman.script("-i", script="cat; echo error >&2; exit 7", stdin=b"from stdin\n" * 5000)
    assert (ran.stdout, ran.stderr, ran.code) == ("from stdin\n" * 5000, "error\n", 7)
    for program, code, text in (
        ("/bin/nonexist", 127, "no such file or directory"),
        ("nonexist", 127, "executable file not found in $PATH"),
        ("/etc/passwd", 126, "permission denied"),
    ):
        ran = podman.run(IMAGE, program)
        assert ran.code == code and text in ran.stderr, ran


def test_options(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared/from-host").write_text("host\n")
    chosen = ["--user", "1000:7", "--workdir", "/etc", "--env", "A=1", "--hostname", "named", "--cap-drop", "ALL"]
    chosen += ["--ulimit", "nofile=100:200", "--ulimit", "nproc=4096:4096", "--read-only", "--tmpfs", "/mem:size=64k,mode=1777"]
    chosen += ["--volume", f"{tmp_path}/shared:/shared:ro", "--oom-score-adj", "300"]
    ran = podman.script(
        *chosen,
        script="exec 2> /dev/null; id -u; id -G; pwd; echo $A; hostname; ulimit -n; cat /shared/from-host /proc/self/oom_score_adj; "
        "grep CapBnd /proc/self/status; echo x > /shared/x || echo fixed; echo x > /etc/x || echo readonly; touch /tmp/x && ls /tmp; "
        "head -c 100000 /dev/zero > /mem/x || echo full",
    )
    assert ran.stdout.split() == [
        *("1000", "7", "/etc", "1", "named", "100", "host", "300", "CapBnd:", "0000000000000000", "fixed", "readonly"),
        *("x", "full"),
    ], ran


def test_a_tmpfs_begins_with_the_images_files(podman: Podman) -> None:
    """podman mounts with `tmpcopyup`."""
    ran = podman.script("--tmpfs", "/etc", script="grep -c root /etc/passwd; echo more >> /etc/passwd; grep ' /etc ' /proc/mounts | cut -d' ' -f3")
    assert ran.stdout == "1\ntmpfs\n", ran


def test_user_namespace(podman: Podman) -> None:
    map_ = "0:100000:65536"
    ran = podman.script("--uidmap", map_, "--gidmap", map_, script="id -u; touch /made; chown 5:5 /made; stat -c %u:%g /made /etc")
    assert ran.stdout.split() == ["0", "5:5", "0:0"], ran


def test_terminal(podman: Podman) -> None:
    podman.detached("one", "sleep 1000")
    for command, code in ((["run", "--rm", "--cgroup-parent", PARENT, "-it", IMAGE, "sh"], 9), (["exec", "-it", "one", "sh"], 4)):
        argv = podman.machine.argv(podman.argv(*command))
        with Terminal(argv, podman.machine.environment, rows=31, columns=97) as terminal:
            terminal.expect("# ")
            terminal.send("test -t 0 && test -t 2 && stty size\n")
            terminal.expect("\n31 97\r+\n")
            terminal.send("sh -c 'echo sleeping; sleep 1000'\n")
            terminal.expect("\nsleeping\r+\n")
            terminal.send("\x03")
            terminal.expect("# ")
            terminal.send(f"exit {code}\n")
            assert terminal.wait() == code


def test_life(podman: Podman) -> None:
    podman.detached("one", "trap 'echo stopping; exit 5' TERM; echo up; while :; do sleep 0.05; done", "--memory", "96m")
    until(lambda: podman.ok("logs", "one") == "up\n")
    ran = podman("exec", "-i", "--user", "1000", "--workdir", "/etc", "--env", "A=b", "one", "sh", "-c", "cat; id -u; pwd; echo $A; exit 3", stdin=b"in\n")
    assert (ran.stdout, ran.code) == ("in\n1000\n/etc\nb\n", 3), ran
    assert podman("exec", "one", "sh", "-c", "kill -9 $$").code == 137
    assert podman("exec", "one", "/bin/nonexist").code == 127
    podman.ok("exec", "--detach", "one", "sh", "-c", "echo done > /detached")
    until(lambda: podman("exec", "one", "cat", "/detached").stdout == "done\n")
    assert "sleep" in podman.ok("top", "one", "-o", "pid,args")  # by the container's own ps
    podman.ok("pause", "one")
    assert podman.state("one") == "paused"
    podman.ok("unpause", "one")
    podman.ok("update", "--memory", "200m", "one")
    assert limits_of(podman.state("one", "Pid"), ("memory", "limit_in_bytes")) == ["209715200"]
    assert podman.ok("stats", "--no-stream", "--format", "{{.Name}}", "one") == "one\n"
    podman.ok("stop", "--time", "5", "one")
    assert (podman.state("one"), podman.state("one", "ExitCode")) == ("exited", "5")
    assert podman.ok("logs", "one") == "up\nstopping\n"
    podman.ok("start", "one")
    until(lambda: podman.ok("logs", "one").count("up\n") == 2)
    podman.ok("kill", "one")
    assert podman.ok("wait", "one") == "137\n"


def test_stop_kills(podman: Podman) -> None:
    podman.detached("one", "trap '' TERM; echo up; while :; do sleep 0.05; done")
    until(lambda: podman.ok("logs", "one") == "up\n")
    began = time.monotonic()
    podman.ok("stop", "--time", "1", "one")
    assert time.monotonic() - began >= 1
    assert podman.state("one", "ExitCode") == "137"


def test_pod(podman: Podman) -> None:
    made = ["--name", "pod", "--infra-image", IMAGE, "--infra-command", "/bin/sleep 1000", "--publish", "127.0.0.1:8081:80"]
    podman.ok("pod", "create", *made, "--cgroup-parent", PARENT)
    podman.detached("web", "mkdir /w; echo page > /w/index.html; exec httpd -f -p 80 -h /w", "--pod", "pod")
    ask = "i=0; until wget -qO- http://127.0.0.1/; do i=$((i+1)); test $i -lt 50 || exit 1; sleep 0.1; done 2> /dev/null; hostname"
    ran = podman("run", "--rm", "--pod", "pod", IMAGE, "sh", "-c", ask)
    assert ran.stdout == "page\npod\n", ran
    with podman.machine.network(), socket.create_connection(("127.0.0.1", 8081), 5) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert b"".join(iter(lambda: connection.recv(4096), b"")).endswith(b"\r\n\r\npage\n")
    podman.ok("pod", "stop", "--time", "0", "pod")
    podman.ok("pod", "start", "pod")
    assert podman.ok("exec", "web", "hostname") == "pod\n"


@pytest.mark.skipif(bool(missing("buildah")), reason=missing("buildah"))
def test_buildah(podman: Podman, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("context\n")
    lines = [
        f"FROM {IMAGE}",
        "RUN echo built > /built && mkdir -p /a/b && mv /a /c && rm /bin/vi",
        "WORKDIR /app",
        "COPY file .",
        "RUN --mount=type=tmpfs,target=/mem touch /mem/x && test -e file",
        "USER 1000",
        'RUN test "$(id -u) $(pwd)" = "1000 /app" && ! touch refused 2> /dev/null',
        "CMD cat /built file; ls -d /c/b /bin/vi 2> /dev/null",
    ]
    (tmp_path / "Dockerfile").write_text("\n".join(lines))
    build = ["buildah", "bud", "--runtime", podman.runtime, "--isolation", "oci", "--no-cache", "--cgroup-parent", f"{PARENT}-build"]
    ran = podman.machine.run([*build, "--tag", "built", tmp_path])
    assert ran.code == 0, ran
    assert podman.run("built").stdout == "built\ncontext\n/c/b\n"
    (tmp_path / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo out; exit 5")
    ran = podman.machine.run([*build, tmp_path])
    assert ran.code == 5 or "exit status 5" in ran.stderr, ran
