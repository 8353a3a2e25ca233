"""--systemd-cgroup: where systemd is the host's init, a scope of its own; elsewhere, directories and a warning.

runc judges the first where it is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runsc_py.cgroups import dbus
from runsc_py.cgroups.limits import OWN_TASKS
from tests import leaks, sandboxes
from tests.e2e.containers import Containers
from tests.e2e.test_cgroups import MIB, ONLY_V2, WAIT, eventually, settings

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

with_systemd = pytest.mark.skipif(not dbus.booted(), reason="systemd is not the init of this host")
NAME = f"test{os.getpid()}"
SCOPE = f"pre-{NAME}.scope"
PATH = f"runscpytest-sub.slice:pre:{NAME}"
RESOURCES = {"memory": {"limit": 256 * MIB}, "cpu": {"shares": 512, "quota": 50000, "period": 100000}, "pids": {"limit": 77}}
V1 = {"memory.limit_in_bytes": str(256 * MIB), "cpu.shares": "512", "cpu.cfs_quota_us": "50000", "pids.max": "77"}
V2 = {"memory.max": str(256 * MIB), "cpu.weight": "20", "cpu.max": "50000 100000", "pids.max": "77"}


@pytest.fixture(params=["runc", "runsc-py"])
def oci(request: pytest.FixtureRequest, busybox_root: Path, tmp_path: Path) -> Iterator[Containers]:
    command = str(sandboxes.COMMAND) if request.param == "runsc-py" else shutil.which("runc", path=sandboxes.PATH)
    if not command:
        pytest.skip("runc is not installed")
    before = leaks.snapshot()
    made = Containers([command, "--systemd-cgroup"], tmp_path, busybox_root)
    yield made
    made.clean()
    if dbus.booted():
        subprocess.run(["systemctl", "stop", "runscpytest.slice"], capture_output=True)
    left = [line for line in leaks.left_since(before, tmp_path) if not line.endswith("/state")]
    if request.param == "runc":  # on v1 it leaves the slice's directories in hierarchies that systemd does not use
        left = [line for line in left if "runscpytest.slice" not in line]
    assert not left, "left behind:\n" + "\n".join(left)


def show(*names: str) -> dict[str, str]:
    options = [f"--property={name}" for name in names]
    shown = subprocess.run(["systemctl", "show", SCOPE, *options], check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in shown.splitlines())


@with_systemd
def test_a_scope_with_its_limits_as_properties(oci: Containers) -> None:
    container = oci.create(WAIT, linux={"cgroupsPath": PATH, "resources": RESOURCES}).start()
    container.says("ready")
    memory = "MemoryMax" if ONLY_V2 else "MemoryLimit"
    unit = show("ActiveState", "Slice", "Delegate", "ControlGroup", memory, "TasksMax")
    where = f"/runscpytest.slice/runscpytest-sub.slice/{SCOPE}"
    own = 0 if oci.is_runc else OWN_TASKS
    assert unit == {
        "ActiveState": "active", "Slice": "runscpytest-sub.slice", "Delegate": "yes", "ControlGroup": where,
        memory: str(256 * MIB), "TasksMax": str(77 + own),
    }  # fmt: skip
    assert where in Path(f"/proc/{container.pid}/cgroup").read_text()
    found = settings(container, V1, V2)
    expected = {**V1, **V2, "pids.max": str(77 + own)}
    assert found == {name: expected[name] for name in found} and found

    ran = oci("update", "--pids-limit", "99", "c")
    assert ran.code == 0, ran
    assert show("TasksMax") == {"TasksMax": str(99 + own)}
    subprocess.run(["systemctl", "daemon-reload"], check=True)  # systemd sets anew what it knows
    expected = {"pids.max": str(99 + own)}
    assert settings(container, expected, expected) == expected

    assert container("kill", "KILL").code == 0
    container.exit_code()
    ran = container("delete")
    assert ran.code == 0, ran
    eventually(lambda: show("ActiveState")["ActiveState"] == "inactive", "the scope is still there")


@with_systemd
def test_a_scope_that_fails_leaves_nothing(oci: Containers) -> None:
    """A program that is not there."""
    bundle = oci.bundle(["/bin/nonexistent"], linux={"cgroupsPath": PATH})
    assert oci("run", "--bundle", bundle, "c").code == 1
    eventually(lambda: show("ActiveState")["ActiveState"] == "inactive", "the scope is still there")


@with_systemd
def test_a_path_must_have_three_parts(oci: Containers) -> None:
    ran = oci("run", "--bundle", oci.bundle("true", linux={"cgroupsPath": "/a/b"}), "c")
    assert ran.code == 1
    assert 'of format "slice:prefix:name"' in ran.stderr


@pytest.mark.skipif(dbus.booted(), reason="systemd is the init of this host")
@pytest.mark.parametrize("oci", ["runsc-py"], indirect=True)
def test_without_systemd_directories_stand_in(oci: Containers) -> None:
    container = oci.create(WAIT, linux={"cgroupsPath": PATH, "resources": {"pids": {"limit": 77}}}).start()
    container.says("ready")
    assert f"/runscpytest.slice/runscpytest-sub.slice/{SCOPE}" in Path(f"/proc/{container.pid}/cgroup").read_text()
    expected = {"pids.max": str(77 + OWN_TASKS)}
    assert settings(container, expected, expected) == expected
    assert any("systemd does not run here" in record["msg"] for record in oci.log())
