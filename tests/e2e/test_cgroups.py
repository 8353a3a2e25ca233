"""A container's cgroup on this host, v1 or v2: placement, limits, update, freezing, kills for want of memory.

runc judges each test where it is installed.

Covers: runsc_py.cgroups.oom, sentry.kernel.holding, sentry.kernel.zygote
"""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runsc_py.cgroups.layout import detect
from runsc_py.cgroups.limits import OWN_TASKS
from tests import bundles, leaks, sandboxes
from tests.e2e.containers import Container, Containers

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

ONLY_V2 = all(hierarchy.unified for hierarchy in detect())
WAIT = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"
MIB = 1 << 20


@pytest.fixture(params=["runc", "runsc-py"])
def oci(request: pytest.FixtureRequest, busybox_root: Path, tmp_path: Path) -> Iterator[Containers]:
    """A runtime in a folder of its own; nothing of it may be left when the test ends."""
    command = str(sandboxes.COMMAND) if request.param == "runsc-py" else shutil.which("runc", path=sandboxes.PATH)
    if not command:
        pytest.skip("runc is not installed")
    before = leaks.snapshot()
    made = Containers([command], tmp_path, busybox_root)
    yield made
    made.clean()
    left = [line for line in leaks.left_since(before, tmp_path) if not line.endswith("/state")]
    assert not left, "left behind:\n" + "\n".join(left)


def group(container: Container, controller: str) -> Path:
    """The container's directory in the hierarchy of a controller."""
    for line in Path(f"/proc/{container.pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        for hierarchy in detect():
            known = hierarchy.controllers if not hierarchy.unified else ("",)
            if names.split(",") == [name for name in names.split(",") if name in known]:
                if controller in hierarchy.controllers:
                    return Path(hierarchy.mountpoint + path)
    pytest.skip(f"no {controller} controller here")


def settings(container: Container, v1: dict[str, str], v2: dict[str, str]) -> dict[str, str]:
    """Those files of `v1` or `v2`, as this host has it, that are there, and what stands in them."""
    found = {}
    for file in v2 if ONLY_V2 else v1:
        path = group(container, file.partition(".")[0]) / file
        if path.exists():
            found[file] = path.read_text().strip()
    return found


def expected(oci: Containers, found: dict[str, str], v1: dict[str, str], v2: dict[str, str]) -> dict[str, str]:
    """Our own tasks are counted on top of a limit of tasks."""
    wanted = {file: (v2 if ONLY_V2 else v1)[file] for file in found}
    if "pids.max" in wanted and not oci.is_runc:
        wanted["pids.max"] = str(int(wanted["pids.max"]) + OWN_TASKS)
    return wanted


def eventually(condition: Callable[[], bool], what: str, timeout: float = 20) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


RESOURCES = {
    "memory": {"limit": 256 * MIB, "reservation": 64 * MIB},
    "cpu": {"shares": 512, "quota": 50000, "period": 100000, "cpus": "0"},
    "pids": {"limit": 77},
}
V1 = {
    "memory.limit_in_bytes": str(256 * MIB), "memory.soft_limit_in_bytes": str(64 * MIB), "cpu.shares": "512",
    "cpu.cfs_quota_us": "50000", "cpu.cfs_period_us": "100000", "cpuset.cpus": "0", "pids.max": "77",
}  # fmt: skip
V2 = {
    "memory.max": str(256 * MIB), "memory.low": str(64 * MIB), "cpu.weight": "20", "cpu.max": "50000 100000",
    "cpuset.cpus": "0", "pids.max": "77",
}  # fmt: skip


def test_limits_are_set_and_an_update_keeps_the_others(oci: Containers) -> None:
    container = oci.create(WAIT, linux={"resources": RESOURCES}).start()
    container.says("ready")
    found = settings(container, V1, V2)
    assert found and found == expected(oci, found, V1, V2)
    change = {"memory": {"limit": 128 * MIB}, "cpu": {"quota": 70000}, "pids": {"limit": 99}}
    ran = oci("update", "--resources", "-", "c", stdin=json.dumps(change).encode())
    assert ran.code == 0, ran
    v1 = {**V1, "memory.limit_in_bytes": str(128 * MIB), "cpu.cfs_quota_us": "70000", "pids.max": "99"}
    v2 = {**V2, "memory.max": str(128 * MIB), "cpu.max": "70000 100000", "pids.max": "99"}
    found = settings(container, v1, v2)
    assert found == expected(oci, found, v1, v2)
    # A shorter period than the quota in force needs both at once.
    ran = oci("update", "--cpu-quota", "5000", "--cpu-period", "10000", "c")
    assert ran.code == 0, ran
    v1.update({"cpu.cfs_quota_us": "5000", "cpu.cfs_period_us": "10000"})
    v2["cpu.max"] = "5000 10000"
    found = settings(container, v1, v2)
    assert found == expected(oci, found, v1, v2)


@pytest.mark.parametrize("oci", ["runsc-py"], indirect=True)
def test_guests_are_told_of_an_update(oci: Containers) -> None:
    """By their own view of their cgroup."""
    strict = ["nosuid", "noexec", "nodev", "ro"]
    mounts = [bundles.mount("/sys", "sysfs", "sysfs", strict), bundles.mount("/sys/fs/cgroup", "cgroup2", "cgroup", strict)]
    container = oci.create(WAIT, mounts=mounts, linux={"resources": {"pids": {"limit": 77}}}).start()
    container.says("ready")
    assert oci("exec", "c", "/bin/cat", "/sys/fs/cgroup/pids.max").stdout == "77\n"
    assert oci("update", "--pids-limit", "99", "--memory", "128M", "c").code == 0
    shown = oci("exec", "c", "/bin/cat", "/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/memory.max")
    assert shown.stdout == f"99\n{128 * MIB}\n"


@pytest.mark.skipif(not ONLY_V2, reason="cgroup v2 alone has swap and memory apart")
def test_swap_follows_from_the_sum(oci: Containers) -> None:
    memory = {"limit": 64 * MIB, "swap": 96 * MIB}
    container = oci.create(WAIT, linux={"resources": {"memory": memory}}).start()
    container.says("ready")
    assert (group(container, "memory") / "memory.swap.max").read_text().strip() == str(32 * MIB)
    ran = oci("update", "--memory", "80M", "c")
    assert ran.code == 0, ran
    assert (group(container, "memory") / "memory.swap.max").read_text().strip() == str(32 * MIB)
    ran = oci("update", "--memory", "80M", "--memory-swap", "96M", "c")
    assert ran.code == 0, ran
    assert (group(container, "memory") / "memory.swap.max").read_text().strip() == str(16 * MIB)
    assert oci("update", "--memory", "100M", "--memory-swap", "96M", "c").code == 1


def test_the_unified_map(oci: Containers) -> None:
    unified = {"memory.high": str(200 * MIB), "pids.max": "55"}
    bundle = oci.bundle(WAIT, linux={"resources": {"unified": unified}})
    if not ONLY_V2:
        ran = oci("run", "--bundle", bundle, "c")
        assert ran.code == 1
        assert "cannot use unified on cgroup v1" in ran.stderr
        return
    container = oci.create(WAIT, linux={"resources": {"unified": unified}}).start()
    container.says("ready")
    assert (group(container, "memory") / "memory.high").read_text().strip() == unified["memory.high"]
    assert (group(container, "pids") / "pids.max").read_text().strip() == "55"


@pytest.mark.parametrize(
    "unified", [{"../cgroup.procs": "1"}, {"memory.max": "x"}, {"nothing.max": "1"}], ids=["path", "value", "controller"]
)
def test_a_unified_resource_that_cannot_be_set_leaves_nothing(oci: Containers, unified: dict[str, str]) -> None:
    ran = oci("run", "--bundle", oci.bundle("true", linux={"resources": {"unified": unified}}), "c")
    assert ran.code == 1, ran
    assert oci("state", "c").code == 1


def test_a_relative_path_lies_by_the_caller(oci: Containers) -> None:
    name = f"runsc-py-test-{os.getpid()}-relative"
    container = oci.create(WAIT, linux={"cgroupsPath": name}).start()
    container.says("ready")
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
    theirs = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{container.pid}/cgroup").read_text().splitlines())
    if ONLY_V2:
        assert theirs[""] == os.path.join(os.path.dirname(own[""]), name)
    else:
        assert theirs["pids"] == os.path.join(own["pids"], name)


# ---- pause


COUNTS_SIGNALS = "trap 'echo continued' CONT; echo ready; while :; do sleep 0.02; echo tick; done"


def frozen(container: Container) -> bool:
    if ONLY_V2:
        return "frozen 1" in (group(container, "pids") / "cgroup.events").read_text()
    return (group(container, "freezer") / "freezer.state").read_text().strip() == "FROZEN"


def test_pause_freezes_and_nobody_inside_notices(oci: Containers) -> None:
    """No guest gets a signal, or learns that its child has stopped."""
    container = oci.create(COUNTS_SIGNALS).start()
    container.says("tick")
    for _ in range(3):
        ran = container("pause")
        assert ran.code == 0, ran
        assert container.status() == "paused"
        assert frozen(container)
        said = len(container.text())
        assert container("resume").code == 0
        assert not frozen(container)
        eventually(lambda: len(container.text()) > said, "it does not go on")  # noqa: B023
    assert "continued" not in container.text()


BUSY = "for n in 1 2 3; do while :; do read x < /etc/hostname; done & done; cat /dev/zero | cat > /dev/null & echo ready; wait"


def test_busy_guests_freeze_too(oci: Containers) -> None:
    container = oci.create(BUSY).start()
    container.says("ready")
    for _ in range(5):
        assert container("pause").code == 0
        assert frozen(container)
        assert container("resume").code == 0
    assert oci("exec", "c", "/bin/echo", "still there").stdout == "still there\n"


def test_a_frozen_container_is_killed_and_deleted(oci: Containers) -> None:
    container = oci.create(BUSY).start()
    container.says("ready")
    assert container("pause").code == 0
    directory = group(container, "pids")
    assert oci("delete", "--force", "c").code == 0
    assert not directory.exists()
    container.reaped()


# ---- memory

EATS = "trap 'go=1' USR1; echo ready; while [ -z \"$go\" ]; do sleep 0.02; done; %s; echo eaten $?; sleep 1000"


def test_the_hosts_oom_killer_knows_the_containers_score(oci: Containers) -> None:
    container = oci.create(["/bin/sh", "-c", "cat /proc/self/oom_score_adj; sleep 1000"], oomScoreAdj=500).start()
    container.says("500")
    assert Path(f"/proc/{container.pid}/oom_score_adj").read_text().strip() == "500"
    container("kill", "KILL")
    container.exit_code()


def next_event(events: subprocess.Popen[str]) -> dict[str, Any]:
    assert events.stdout is not None
    ready, _, _ = select.select([events.stdout], [], [], 90)
    assert ready, "no event"
    return json.loads(events.stdout.readline())


EATERS = {"piecemeal": "tail /dev/zero", "at_once": "dd if=/dev/zero of=/dev/null bs=200M count=1 iflag=fullblock"}


@pytest.mark.parametrize("eater", EATERS.values(), ids=EATERS.keys())
def test_a_kill_for_want_of_memory_is_an_event(oci: Containers, eater: str) -> None:
    """It takes the eater alone, even in the middle of a large copy into it."""
    limit = {"limit": 96 * MIB, "swap": 96 * MIB} if ONLY_V2 else {"limit": 96 * MIB}
    container = oci.create(EATS % eater, linux={"resources": {"memory": limit}}).start()
    container.says("ready")
    with subprocess.Popen(
        oci.argv("events", "--interval", "1h", "c"), env=oci.environment(), stdout=subprocess.PIPE, text=True
    ) as events:
        try:
            if not oci.is_runc:
                assert next_event(events)["type"] == "stats"
            else:
                time.sleep(0.5)  # runc says nothing before its first interval is over
            assert container("kill", "USR1").code == 0
            told = next_event(events)
            assert (told["type"], told["id"]) == ("oom", "c")
            container.says("eaten 137")
            assert container.status() == "running"
        finally:
            container("kill", "KILL")
            container.exit_code()
            events.kill()
