"""Guests that misbehave hurt only their own sandbox: they crash, bomb, fill memory and the overlay, reach out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import bundles, leaks, sandboxes
from tests.e2e.containers import Containers

pytestmark = [pytest.mark.root, pytest.mark.sandbox]


@pytest.fixture
def oci(busybox_root: Path, tmp_path: Path) -> Iterator[Containers]:
    before = leaks.snapshot()
    made = Containers([str(sandboxes.COMMAND)], tmp_path, busybox_root)
    yield made
    made.clean()
    assert not leaks.left_since(before, tmp_path)


def _bystander_is_well(oci: Containers) -> None:
    ran = oci.run("echo well", name="bystander")
    assert (ran.stdout, ran.code) == ("well\n", 0), ran


def test_crash(oci: Containers) -> None:
    ran = oci.run("sh -c 'kill -SEGV $$'; echo $?; sh -c 'kill -ABRT $$'; echo $?")
    assert ran.stdout.split() == ["139", "134"], ran


def test_fork_bomb_ends_at_the_limit(oci: Containers) -> None:
    bystander = oci.create("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done", name="bystander").start()
    bystander.says("ready")
    limits = {"resources": {"pids": {"limit": 60}}}
    bomb = oci.create("bomb() { bomb | bomb & }; bomb; sleep 1000", name="bomb", linux=limits).start()
    ran = oci("exec", "bystander", "echo", "alive")
    assert ran.stdout == "alive\n", ran
    assert bomb("kill", "KILL").code == 0
    assert bomb.exit_code() in (137, 2, 0)
    bystander("kill", "TERM")
    assert bystander.exit_code() == 5


def test_memory_hog_is_killed_alone(oci: Containers) -> None:
    limits = {"resources": {"memory": {"limit": 96 << 20, "swap": 96 << 20}}}
    ran = oci.run("tail /dev/zero; echo survived $?; head -c 300m /dev/zero | tail | wc -c", name="hog", linux=limits)
    assert ran.code != 0 or "survived 137" in ran.stdout, ran
    _bystander_is_well(oci)


def test_full_tmpfs_gives_enospc(oci: Containers) -> None:
    ran = oci.run("dd if=/dev/zero of=/dev/shm/f bs=1M count=100; echo $?; rm /dev/shm/f; echo x > /dev/shm/g; cat /dev/shm/g")
    assert "No space left" in ran.stderr, ran
    assert ran.stdout.split() == ["1", "x"]


def test_full_overlay_gives_enospc(oci: Containers, busybox_root: Path) -> None:
    """`do` keeps writes in memory: a guest that fills it gets an error, not the host's memory."""
    with sandboxes.runtime() as runtime:
        script = "dd if=/dev/zero of=/f bs=1M count=100000 2>&1 | tail -1; rm /f; echo after > /g; cat /g"
        ran = runtime.do(["sh", "-c", script], busybox_root, timeout=120)
        assert ran.stdout.endswith("after\n"), ran


def test_descriptor_hog(oci: Containers, probe_root: Path) -> None:
    oci.root = probe_root
    ran = oci.run("for i in 1 2 3; do /probe limits > /dev/null; done; ulimit -n 8; /probe pipe_basic | tail -1; echo $?")
    assert "end" in ran.stdout, ran


@pytest.mark.parametrize(
    "path",
    [
        "/proc/1/root/../../../../etc/shadow",
        "/proc/self/root/../../../etc/shadow",
        "/proc/self/cwd/../../../../../etc/shadow",
        "/../../../../etc/shadow",
        "/mnt/link-out/shadow",
        "/mnt/link-up/etc/shadow",
    ],
)
def test_path_escape(oci: Containers, path: str) -> None:
    """No path leads to the host's files: busybox's root has no shadow file, the host has."""
    shared = oci.folder / "shared"
    shared.mkdir()
    (shared / "link-out").symlink_to("/etc")
    (shared / "link-up").symlink_to("../../../../../../../..")
    ran = oci.run(["cat", path], mounts=[bundles.bind(shared, "/mnt", "rw")])
    assert ran.code == 1 and ran.stdout == "", ran
    assert "No such file" in ran.stderr, ran


def test_what_is_mapped_from_a_noexec_bind_mount_stays_data(oci: Containers, probe: Path) -> None:
    """The probe maps a file of /dev/shm; the other way round for a mount that is not noexec."""
    shared = oci.folder / "shared"
    shared.mkdir()
    program = bundles.bind(probe, "/probe", "ro")
    command = ["/probe", "mprotect_of_noexec_mapping"]
    ran = oci.run(command, mounts=[program, bundles.bind(shared, "/dev/shm", "rw", "noexec")])
    for what in ("shared", "private", "none", "a part", "in a child", "moved", "unlinked"):
        assert f"{what}: mprotect -1 EACCES\n" in ran.stdout, ran
    ran = oci.run(command, mounts=[program, bundles.bind(shared, "/dev/shm", "rw")])
    assert "shared: mprotect 0 \n" in ran.stdout, ran


def test_network_none_reaches_nothing(oci: Containers) -> None:
    ran = oci.run("nc -w 1 8.8.8.8 53 < /dev/null; echo $?; ip addr | grep -c 'inet '; ls /sys/class/net 2>/dev/null")
    lines = ran.stdout.split()
    assert lines[0] == "1", ran
    assert lines[1] == "1", ran


def test_host_abstract_sockets_are_out_of_reach(oci: Containers) -> None:
    import socket

    name = f"runsc-py-test-{os.getpid()}"
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"\0{name}")
    server.listen()
    server.setblocking(False)
    ran = oci.run(f"cat /proc/net/unix | grep -c {name}")
    server.close()
    assert ran.stdout.strip() in ("0", ""), ran


def test_dangerous_calls_are_refused(oci: Containers) -> None:
    script = (
        "mount -t tmpfs x /mnt; echo $?; unshare -m true; echo $?; chroot /mnt true; echo $?; insmod /etc/passwd; echo $?; "
        "reboot -f; echo $?; swapon /etc/passwd; echo $?; mknod /tmp/sda b 8 0 && cat /tmp/sda; echo $?; date -s @0"
    )
    capabilities = {"bounding": [], "effective": [], "permitted": []}
    ran = oci.run(script, capabilities=capabilities)
    codes = ran.stdout.splitlines()[:7]
    assert len(codes) == 7 and "0" not in codes, ran
    assert "can't set date" in ran.stderr


def test_killing_the_world_stays_inside(oci: Containers) -> None:
    bystander = oci.create("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done", name="bystander").start()
    bystander.says("ready")
    ran = oci.run("sleep 1000 & kill -9 -1; echo $?; kill -9 2 3 4 5 6 7 8 9 10 2>/dev/null; echo done", name="killer")
    assert "done" in ran.stdout, ran
    assert bystander.status() == "running"
    bystander("kill", "TERM")
    assert bystander.exit_code() == 5
