"""Under the Kubernetes container runtime interface: containerd's CRI plugin with runsc-py as a runtime handler.

Pods get their network from a CNI bridge on a machine apart. Each test also runs with runc as the handler.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import leaks, sandboxes
from tests.e2e import images
from tests.e2e.cri import Cri, CriError
from tests.e2e.cri_stream import STDERR, STDOUT, Stream
from tests.e2e.machine import Machine, limits_of, missing, until

IMAGE, PAUSE = "example.test/busybox:latest", "example.test/pause:latest"
PARENT = f"runsc-py-test-{os.getpid()}-cri"
CONTAINER = 1  # whose PID namespace is asked for, as kubelet does
CREATED, RUNNING, EXITED = range(3)
WHY_NOT = missing("containerd", "ctr", "containerd-shim-runc-v2", "curl", "iptables")
if not WHY_NOT and not Path("/usr/lib/cni/bridge").exists():
    WHY_NOT = "not installed: the CNI plugins"

pytestmark = [pytest.mark.root, pytest.mark.sandbox, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)]

CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.internal.v1.tracing"]
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    options = {{Root = "{folder}/runtime"}}
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runsc-py]
    runtime_type = "io.containerd.runc.v2"
    options = {{BinaryName = "{command}", Root = "{folder}/runtime"}}
"""
NETWORK = """{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
   "ipam": {"type": "host-local", "routes": [{"dst": "0.0.0.0/0"}], "ranges": [[{"subnet": "10.89.0.0/24"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
"""


class Runtime:
    """containerd behind its CRI socket, and the runtime handler under test."""

    def __init__(self, machine: Machine, folder: Path) -> None:
        self.machine = machine
        self.folder = folder
        self.cri = Cri(folder / "containerd.sock")
        self.handler = "runc"
        self.pods = 0

    def ctr(self, *args: str | Path) -> sandboxes.Ran:
        return self.machine.run(["ctr", "--address", f"{self.folder}/containerd.sock", "--namespace", "k8s.io", *args])

    def pod(self, name: str = "pod", **config: Any) -> Pod:
        return Pod(self, name, config)


class Pod:
    def __init__(self, runtime: Runtime, name: str, config: dict[str, Any]) -> None:
        self.cri = runtime.cri
        runtime.pods += 1
        self.logs = runtime.folder / f"logs-{runtime.pods}"
        self.config = {
            "metadata": {"name": name, "uid": f"{name}-{runtime.pods}", "namespace": "default"},
            "hostname": f"{name}-host",
            "log_directory": str(self.logs),
            "linux": {"cgroup_parent": f"/{PARENT}"},
            **config,
        }
        self.id = self.cri("RunPodSandbox", config=self.config, runtime_handler=runtime.handler)["pod_sandbox_id"]
        self.address = self.cri("PodSandboxStatus", pod_sandbox_id=self.id)["status"]["network"]["ip"]

    def create(self, name: str, script: str | list[str], security: dict[str, Any] | None = None, **config: Any) -> Container:
        wanted = {
            "metadata": {"name": name},
            "image": {"image": IMAGE},
            "command": ["sh", "-c", script] if isinstance(script, str) else script,
            "log_path": f"{name}.log",
            **config,
        }
        context = {"namespace_options": {"pid": CONTAINER}, **(security or {})}
        wanted["linux"] = {**wanted.get("linux", {}), "security_context": context}
        made = self.cri("CreateContainer", pod_sandbox_id=self.id, config=wanted, sandbox_config=self.config)
        return Container(self, made["container_id"], self.logs / f"{name}.log")

    def start(self, name: str, script: str, security: dict[str, Any] | None = None, **config: Any) -> Container:
        container = self.create(name, script, security, **config)
        self.cri("StartContainer", container_id=container.id)
        return container


class Container:
    def __init__(self, pod: Pod, container_id: str, log: Path) -> None:
        self.cri = pod.cri
        self.id = container_id
        self.log_path = log

    def status(self) -> dict[str, Any]:
        return self.cri("ContainerStatus", container_id=self.id)["status"]

    def log(self) -> list[str]:
        """`stream text` for each line of the log."""
        rows = [line.split(" ", 3) for line in self.log_path.read_text().splitlines()]
        return [f"{stream} {text}" for _, stream, _, text in rows]

    def exec(self, *command: str, timeout: int = 20) -> tuple[str, str, int]:
        done = self.cri("ExecSync", container_id=self.id, cmd=list(command), timeout=timeout)
        return done["stdout"].decode(), done["stderr"].decode(), done["exit_code"]

    def stop(self, timeout: int) -> int:
        self.cri("StopContainer", container_id=self.id, timeout=timeout)
        assert self.status()["state"] == EXITED
        return self.status()["exit_code"]


@pytest.fixture(scope="module")
def daemon(busybox_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    folder = tmp_path_factory.mktemp("cri")
    config = CONFIG.format(folder=folder, pause=PAUSE, command=sandboxes.COMMAND)
    (folder / "config.toml").write_text(config)
    (folder / "pods.conflist").write_text(NETWORK)
    with Machine(folder) as machine:
        runtime = Runtime(machine, folder)
        machine.start(["containerd", "--config", folder / "config.toml"], lambda: runtime.ctr("version").code == 0)
        for name, command in ((IMAGE, ["sh"]), (PAUSE, ["sleep", "1000000"])):
            (folder / "image.tar").write_bytes(images.archive(busybox_root, name, command))
            imported = runtime.ctr("image", "import", folder / "image.tar")
            assert imported.code == 0, imported
        until(lambda: runtime.cri("Version")["runtime_api_version"] == "v1")
        yield runtime


@pytest.fixture(params=["runc", "runsc-py"])
def runtime(request: pytest.FixtureRequest, daemon: Runtime) -> Iterator[Runtime]:
    """No pod is there; after the test nothing of one is left but what the test removes."""
    daemon.handler = request.param
    before, mounts = leaks.snapshot(), daemon.machine.mounts()
    yield daemon
    for pod in daemon.cri("ListPodSandbox")["items"]:
        daemon.cri("StopPodSandbox", pod_sandbox_id=pod["id"])
        daemon.cri("RemovePodSandbox", pod_sandbox_id=pod["id"])
    if request.param == "runc":
        leaks.remove_cgroups(PARENT)
    left = leaks.left_since(before, daemon.folder / "none")
    left += [f"mount {place}" for place in daemon.machine.mounts() - mounts if not place.endswith("/run/netns")]
    left += [f"file {path}" for path in (daemon.folder / "runtime").rglob("*") if path.name != "k8s.io"]
    assert not left, "left behind:\n" + "\n".join(left)


def test_the_life_of_a_container(runtime: Runtime) -> None:
    pod = runtime.pod()
    one = pod.create("one", "trap 'echo stopping; exit 3' TERM; hostname; echo error >&2; while :; do sleep 0.05; done")
    assert one.status()["state"] == CREATED
    one.cri("StartContainer", container_id=one.id)
    assert one.status()["state"] == RUNNING
    until(lambda: sorted(one.log()) == ["stderr error", "stdout pod-host"], one.log)
    assert one.exec("sh", "-c", "hostname; cat /etc/hostname; echo error >&2; exit 7") == ("pod-host\npod-host\n", "error\n", 7)
    with pytest.raises(CriError, match="no such file or directory"):
        one.exec("/bin/nonexist")
    with pytest.raises(CriError, match="timeout"):
        one.exec("sleep", "100", timeout=1)
    stats = one.cri("ContainerStats", container_id=one.id)["stats"]
    assert stats["cpu"]["usage_core_nano_seconds"]["value"] > 0 and stats["memory"]["working_set_bytes"]["value"] > 0
    assert one.stop(10) == 3
    assert one.log()[-1] == "stdout stopping"
    one.cri("RemoveContainer", container_id=one.id)
    with pytest.raises(CriError):
        one.status()


def test_a_container_that_does_not_stop_or_start(runtime: Runtime) -> None:
    pod = runtime.pod()
    assert pod.start("stubborn", "trap '' TERM; while :; do sleep 0.05; done").stop(1) == 137
    missing_program = pod.create("missing", ["/bin/nonexist"])
    with pytest.raises(CriError, match="no such file or directory"):
        pod.cri("StartContainer", container_id=missing_program.id)
    assert missing_program.status()["reason"] == "StartError"
    done = pod.start("done", "exit 9")
    until(lambda: done.status()["state"] == EXITED)
    assert (done.status()["exit_code"], done.status()["reason"]) == (9, "Error")


def test_what_a_container_is_given(runtime: Runtime, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "from-host").write_text("host\n")
    resources = {"memory_limit_in_bytes": 96 << 20, "cpu_quota": 50000, "cpu_period": 100000}
    one = runtime.pod().start(
        "one",
        "exec 2> /dev/null; id -u; pwd; echo $A; cat /mnt/from-host; touch /mnt/x || echo fixed; touch /x || echo readonly; sleep 1000",
        {"run_as_user": {"value": 1000}, "readonly_rootfs": True},
        working_dir="/srv/new",
        envs=[{"key": "A", "value": "1 2"}],
        mounts=[{"container_path": "/mnt", "host_path": str(shared), "readonly": True}],
        linux={"resources": resources},
    )
    wanted = ["1000", "/srv/new", "1 2", "host", "fixed", "readonly"]
    until(lambda: one.log() == [f"stdout {line}" for line in wanted], one.log)
    limits = ("memory", "limit_in_bytes"), ("cpu", "cfs_quota_us")
    pid = next(row.split()[1] for row in runtime.ctr("task", "ls").stdout.splitlines() if row.startswith(one.id))
    assert limits_of(pid, *limits) == ["100663296", "50000"]
    one.cri("UpdateContainerResources", container_id=one.id, linux={"memory_limit_in_bytes": 200 << 20, "cpu_quota": 70000, "cpu_period": 100000})
    assert limits_of(pid, *limits) == ["209715200", "70000"]


def test_a_pods_network(runtime: Runtime) -> None:
    """Two containers share it, another pod and the machine reach it."""
    pod = runtime.pod(port_mappings=[{"container_port": 80, "host_port": 8082}])
    pod.start("web", "mkdir /w; echo page > /w/index.html; exec httpd -f -p 80 -h /w")
    ask = "i=0; until wget -qO- http://{}/; do i=$((i+1)); test $i -lt 50 || exit 1; sleep 0.1; done 2> /dev/null"
    beside = pod.start("beside", f"{ask.format('127.0.0.1')}; ip -o addr show eth0 | grep -c {pod.address}/; hostname")
    until(lambda: beside.status()["state"] == EXITED)
    assert beside.log() == ["stdout page", "stdout 1", "stdout pod-host"]
    other = runtime.pod("other").start("one", f"{ask.format(pod.address)}; hostname")
    until(lambda: other.status()["state"] == EXITED)
    assert other.log() == ["stdout page", "stdout other-host"]
    for address in (("127.0.0.1", 8082), (pod.address, 80)):
        with runtime.machine.network(), socket.create_connection(address, 5) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert b"".join(iter(lambda: connection.recv(4096), b"")).endswith(b"\r\n\r\npage\n")


def test_exec_streams(runtime: Runtime) -> None:
    one = runtime.pod().start("one", "sleep 1000")
    url = one.cri("Exec", container_id=one.id, cmd=["sh"], tty=True, stdin=True, stdout=True)["url"]
    with runtime.machine.network(), Stream(url) as stream:
        stream.expect("# ")
        stream.resize(33, 99)
        stream.send("until test \"$(stty size)\" = '33 99'; do sleep 0.05; done; tty\n")
        stream.expect("\n/dev/pts/[0-9]+\r\n")
        stream.send("sh -c 'echo sleeping; sleep 1000'\n")
        stream.expect("\nsleeping\r\n")
        stream.send("\x03")
        stream.expect("# ")
        stream.send("exit 5\n")
        assert stream.wait() == 5
    script = "read line; echo got $line; echo error >&2; exit 6"
    url = one.cri("Exec", container_id=one.id, cmd=["sh", "-c", script], stdin=True, stdout=True, stderr=True)["url"]
    with runtime.machine.network(), Stream(url) as stream:
        stream.send("this\n")
        assert stream.wait() == 6
        assert (stream.said[STDOUT], stream.said[STDERR]) == (b"got this\n", b"error\n")


def test_a_killed_pod_is_seen(runtime: Runtime) -> None:
    """SIGKILL of the pid that the shim watches."""
    pod = runtime.pod()
    one = pod.start("one", "sleep 1000")
    pids = {row.split()[0]: int(row.split()[1]) for row in runtime.ctr("task", "ls").stdout.splitlines()[1:]}
    for victim in (one.id, pod.id):
        os.kill(pids[victim], signal.SIGKILL)
    until(lambda: one.status()["state"] == EXITED)
    assert one.status()["exit_code"] == 137
    until(lambda: pod.cri("PodSandboxStatus", pod_sandbox_id=pod.id)["status"]["state"] == 1)
