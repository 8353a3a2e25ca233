"""What /proc says of a live sandbox's processes: ids, capabilities, namespaces, descriptors, root, seccomp.

A sandbox is started by hand; its processes are found by parentage and told apart by what the sandbox itself
shows: the container's init pid, and the processes that are not in the container's PID namespace.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests import leaks, sandboxes
from tests.e2e.containers import Container, Containers

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

SCRIPT = "sleep 1000 & sh -c 'sleep 1000' & exec 9< /etc/passwd; echo ready; while :; do sleep 0.05; done"
OWN_NAMESPACES = ("mnt", "net", "ipc", "uts", "pid", "user")


class Live(NamedTuple):
    """One live process of the sandbox, as /proc shows it."""

    pid: int
    guest: bool
    comm: str
    status: dict[str, str]

    def namespace(self, name: str) -> str:
        return os.readlink(f"/proc/{self.pid}/ns/{name}")

    def link(self, name: str) -> str:
        return os.readlink(f"/proc/{self.pid}/{name}")

    def descriptors(self) -> dict[int, str]:
        found = {}
        for name in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                found[int(name)] = os.readlink(f"/proc/{self.pid}/fd/{name}")
            except OSError:
                continue
        return found

    def arguments(self) -> str:
        return Path(f"/proc/{self.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


class Sandbox(NamedTuple):
    container: Container
    before: leaks.Snapshot

    def processes(self) -> list[Live]:
        guest_namespace = os.readlink(f"/proc/{self.container.pid}/ns/pid")
        found = []
        for pid in sorted(leaks._children() - self.before.children):
            try:
                rows = Path(f"/proc/{pid}/status").read_text().splitlines()
                status = {row.partition(":")[0]: row.partition(":")[2].strip() for row in rows}
                if status["State"].startswith("Z"):
                    continue
                inside = os.readlink(f"/proc/{pid}/ns/pid") == guest_namespace
            except OSError:
                continue
            found.append(Live(pid, inside, status["Name"], status))
        return found

    def guests(self) -> list[Live]:
        return [process for process in self.processes() if process.guest]

    def keepers(self) -> list[Live]:
        """Sentry, gofer and whatever else runs for the sandbox outside the guest's PID namespace."""
        return [process for process in self.processes() if not process.guest]


@pytest.fixture
def sandbox(busybox_root: Path, tmp_path: Path) -> Iterator[Sandbox]:
    before = leaks.snapshot()
    runtime = Containers([str(sandboxes.COMMAND)], tmp_path, busybox_root)
    container = runtime.create(SCRIPT).start()
    container.says("ready")
    yield Sandbox(container, before)
    runtime("delete", "--force", "c")
    container.reaped()
    assert not leaks.left_since(before, tmp_path)


def test_there_are_guests_and_keepers(sandbox: Sandbox) -> None:
    assert len(sandbox.guests()) >= 3  # the shells and a sleep; another comes and goes
    assert 2 <= len(sandbox.keepers()) <= 4, [process.arguments() for process in sandbox.keepers()]


def test_guests_have_no_capability_and_no_way_to_one(sandbox: Sandbox) -> None:
    for process in sandbox.guests():
        for which in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
            assert int(process.status[which], 16) == 0, (process.comm, which, process.status[which])
        assert int(process.status["CapBnd"], 16) == 0, process.status["CapBnd"]
        assert process.status["NoNewPrivs"] == "1"


def test_guests_run_under_the_filter(sandbox: Sandbox) -> None:
    for process in sandbox.guests():
        assert process.status["Seccomp"] == "2"
        assert int(process.status["Seccomp_filters"]) >= 1


def test_guests_are_in_namespaces_of_their_own(sandbox: Sandbox) -> None:
    for process in sandbox.guests():
        for name in OWN_NAMESPACES:
            assert process.namespace(name) != os.readlink(f"/proc/self/ns/{name}"), (process.comm, name)


def test_guests_are_nobody_on_the_host(sandbox: Sandbox) -> None:
    """Guest root is not host root: inside its user namespace no id maps to a privileged one."""
    for process in sandbox.guests():
        assert "0" not in process.status["Uid"].split(), process.status["Uid"]
        assert "0" not in process.status["Gid"].split(), process.status["Gid"]
        assert process.status["Groups"].split() in ([], ["65534"]), process.status["Groups"]


def test_guests_have_an_empty_root(sandbox: Sandbox) -> None:
    for process in sandbox.guests():
        assert os.listdir(f"/proc/{process.pid}/root/") == [], process.comm
        mounts = Path(f"/proc/{process.pid}/mountinfo").read_text().splitlines()
        assert len(mounts) <= 1, mounts
        assert os.listdir(f"/proc/{process.pid}/cwd/") == []


def test_guests_hold_no_descriptor_they_could_use(sandbox: Sandbox) -> None:
    """What they have open is the sentry's. The host's table holds program files alone, for mapping, read-only;
    that no call of the guest's reaches them is the probe `no_foreign_descriptor_answers`."""
    for process in sandbox.guests():
        for number, target in process.descriptors().items():
            where = f"/proc/{process.pid}/fd/{number}"
            try:
                kind = os.stat(where).st_mode
                flags = int(Path(f"/proc/{process.pid}/fdinfo/{number}").read_text().split()[3], 8)
            except OSError:
                continue
            assert stat.S_ISREG(kind), (process.comm, number, target)
            assert flags & os.O_ACCMODE == os.O_RDONLY, (process.comm, number, target)
            assert flags & os.O_CLOEXEC or target.startswith("/memfd:"), (process.comm, number, target)


def test_guests_see_no_host_environment(sandbox: Sandbox) -> None:
    for process in sandbox.guests():
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
        assert b"RUNSC" not in environment
        assert str(sandbox.container.runtime.folder).encode() not in environment


def test_keepers_have_an_empty_root_or_their_exports(sandbox: Sandbox) -> None:
    for process in sandbox.keepers():
        if "wait" in process.arguments():
            continue
        listed = os.listdir(f"/proc/{process.pid}/root/")
        assert "etc" not in listed, (process.arguments(), listed)
        assert "proc" not in listed, (process.arguments(), listed)


def test_keepers_run_under_a_filter_of_their_own(sandbox: Sandbox) -> None:
    for process in sandbox.keepers():
        assert process.status["Seccomp"] == "2", process.arguments()
        assert process.status["NoNewPrivs"] == "1", process.arguments()


def test_keepers_hold_few_capabilities(sandbox: Sandbox) -> None:
    """Nothing that changes the host: no SYS_ADMIN, SYS_MODULE, SYS_RAWIO, SYS_BOOT, NET_ADMIN, SYS_TIME, …"""
    forbidden = sum(1 << cap for cap in (12, 14, 15, 16, 17, 21, 22, 25, 27, 32, 33, 34, 38, 39, 40))
    for process in sandbox.keepers():
        initial = process.namespace("user") == os.readlink("/proc/self/ns/user")
        if initial:
            assert int(process.status["CapEff"], 16) & forbidden == 0, (process.arguments(), process.status["CapEff"])


def test_keepers_are_in_namespaces_of_their_own(sandbox: Sandbox) -> None:
    for process in sandbox.keepers():
        for name in ("mnt", "net", "ipc", "uts"):
            theirs, ours = process.namespace(name), os.readlink(f"/proc/self/ns/{name}")
            assert theirs != ours, (process.arguments(), name)


def test_keepers_hold_no_folder_of_the_host(sandbox: Sandbox) -> None:
    """The sentry holds none at all; the gofer only its exports."""
    root = str(sandbox.container.runtime.root)
    for process in sandbox.keepers():
        for number, target in process.descriptors().items():
            if target.startswith("/") and os.path.isdir(f"/proc/{process.pid}/fd/{number}"):
                # A detached mount shows its paths from its own root: the export's, or the process's own /proc/self/fd.
                held, exported = f"/proc/{process.pid}/fd/{number}", root + target
                same = os.path.isdir(exported) and os.path.samefile(held, exported)
                assert target == "/" or target.startswith(root) or same, (process.arguments(), target)


def test_the_guest_sees_no_host_fact(sandbox: Sandbox) -> None:
    oci = sandbox.container.runtime
    ran = oci("exec", "c", "sh", "-c", "hostname; cat /proc/self/mounts /proc/self/cgroup /proc/mounts; env; cat /proc/cmdline; ls /proc")
    host = os.uname()
    assert host.nodename not in ran.stdout.split()
    assert str(oci.folder) not in ran.stdout
    assert str(oci.root) not in ran.stdout
    pids = {int(word) for word in ran.stdout.split() if word.isdigit()}
    assert sandbox.container.pid not in pids
    assert os.getpid() not in pids


def test_sentry_death_ends_the_guests(sandbox: Sandbox) -> None:
    guests = [process.pid for process in sandbox.guests()]
    sentry = [process for process in sandbox.keepers() if "sentry" in process.comm]
    assert len(sentry) == 1
    os.kill(sentry[0].pid, 9)
    deadline = time.monotonic() + 5
    while running := [pid for pid in guests if _is_running(pid)]:
        assert time.monotonic() < deadline, running
        time.sleep(0.01)


def _is_running(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
