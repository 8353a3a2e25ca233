"""Scopes of systemd: names, properties, and the conversation with a systemd that is a fake on a socket.

Covers: runsc_py.cgroups.dbus
"""

import os

import pytest

from runsc_py import cgroups, spec
from runsc_py.cgroups import dbus, limits, systemd
from runsc_py.errors import RuntimeFault
from runsc_py.state import Container
from tests.unit.cli.fake_systemd import FakeSystemd


@pytest.mark.parametrize(
    ("path", "slice_name", "name", "directory"),
    [
        ("system.slice:docker:abc", "system.slice", "docker-abc.scope", "/system.slice/docker-abc.scope"),
        ("a-b.slice:x:y", "a-b.slice", "x-y.scope", "/a.slice/a-b.slice/x-y.scope"),
        ("-.slice::y", "-.slice", "y.scope", "/y.scope"),
        ("::y", "system.slice", "y.scope", "/system.slice/y.scope"),
        ("", "system.slice", "runsc-py-id.scope", "/system.slice/runsc-py-id.scope"),
    ],
)
def test_names(path, slice_name, name, directory):
    unit = systemd.Unit(path, "id")
    assert (unit.slice, unit.name, unit.path) == (slice_name, name, directory)
    assert systemd.Unit("", "id", rootless=True).slice == "user.slice"


@pytest.mark.parametrize("path", ["/a/b", "a.slice:b", "x:y:z", "a/../b.slice:x:y", "a.slice:x:../y", "a.slice:x:b.slice"])
def test_names_that_are_none(path):
    with pytest.raises(RuntimeFault, match=r"slice:prefix:name|invalid systemd unit"):
        systemd.Unit(path, "id")


RESOURCES = spec.Resources(
    memory=spec.Memory(limit=1000, swap=3000, reservation=500),
    cpu=spec.Cpu(shares=1024, quota=15000, period=100000, cpus="0-1,9"),
    pids=spec.Pids(limit=-1),
    unified={"memory.high": "max", "cpu.max": "max 5000", "io.max": "8:0 rbps=1"},
)


def test_properties_of_v2():
    assert systemd.properties(RESOURCES, unified=True) == [
        ("MemoryMax", ("t", 1000)),
        ("MemoryLow", ("t", 500)),
        ("MemorySwapMax", ("t", 2000)),
        ("CPUWeight", ("t", 39)),
        ("CPUQuotaPeriodUSec", ("t", 100000)),
        ("CPUQuotaPerSecUSec", ("t", 150000)),
        ("AllowedCPUs", ("ay", b"\x03\x02")),
        ("TasksMax", ("t", 2**64 - 1)),
        ("MemoryHigh", ("t", 2**64 - 1)),
        ("CPUQuotaPeriodUSec", ("t", 5000)),
        ("CPUQuotaPerSecUSec", ("t", 2**64 - 1)),
    ]


def test_properties_of_v1():
    resources = spec.Resources(memory=spec.Memory(limit=-1), cpu=spec.Cpu(shares=7, quota=12345), block_io=spec.BlockIO(5))
    assert systemd.properties(resources, unified=False) == [
        ("MemoryLimit", ("t", 2**64 - 1)),
        ("CPUShares", ("t", 7)),
        ("CPUQuotaPerSecUSec", ("t", 130000)),  # in steps of 10 ms
        ("BlockIOWeight", ("t", 5)),
    ]


@pytest.mark.parametrize("resources", [spec.Resources(unified={"memory.max": "much"}), spec.Resources(cpu=spec.Cpu(cpus="a"))])
def test_values_that_are_none(resources):
    with pytest.raises(RuntimeFault):
        systemd.properties(resources, unified=True)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", ("b", True)),
        ("'inactive-or-failed'", ("s", "inactive-or-failed")),
        ("uint64 10000000", ("t", 10000000)),
        ("-5", ("i", -5)),
    ],
)
def test_annotations_in_gvariants_text_form(text, value):
    assert systemd.annotation("x", text) == value


def test_annotations_that_are_none():
    with pytest.raises(RuntimeFault, match="annotation x: value uint64 is not understood"):
        systemd.annotation("x", "uint64")


@pytest.fixture
def fake(tmp_path, monkeypatch):
    with FakeSystemd(tmp_path) as made:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", made.address)
        monkeypatch.setattr(dbus, "booted", lambda: True)
        monkeypatch.setattr(systemd, "_only_unified", lambda: True)
        yield made


@pytest.fixture
def made(monkeypatch):
    """What is asked of the file half of cgroups: (path, resources) of each `make`."""
    asked = []

    def make(path, container_id, resources, required, warn):
        asked.append((path, resources))
        return cgroups.Manager()

    monkeypatch.setattr(cgroups, "make", make)
    return asked


def no_warnings(text):
    raise AssertionError(text)


def test_a_scope_from_start_to_end(fake, made):
    container = Container("", "c")
    container.annotations = {"org.systemd.property.TimeoutStopUSec": "uint64 5", "other": "x"}
    resources = spec.Resources(pids=spec.Pids(limit=9))
    manager = systemd.make("a-b.slice:p:c", container, resources, [os.getpid()], True, no_warnings)
    unit = fake.units["p-c.scope"]
    assert unit["Slice"] == ("s", "a-b.slice")
    assert unit["Delegate"] == ("b", True)
    assert unit["PIDs"] == ("au", [os.getpid()])
    assert unit["TimeoutStopUSec"] == ("t", 5)
    assert unit["TasksMax"] == ("t", 9 + limits.OWN_TASKS)
    assert fake.identity == str(os.getuid()).encode()
    assert made == [("/a-b.slice/p-c.scope", resources)]  # where systemd says that it is

    again = cgroups.Manager.restore(manager.record())
    systemd.set_properties(again, spec.Resources(pids=spec.Pids(limit=8)), True, no_warnings)
    assert unit["TasksMax"] == ("t", 8 + limits.OWN_TASKS)
    again.remove()
    assert fake.units == {}
    again.remove()  # it may be gone already


def test_the_failed_scope_of_a_former_container_gives_way(fake, made):
    fake.failed.add("p-c.scope")
    systemd.make("a.slice:p:c", Container("", "c"), None, [1], True, no_warnings)
    assert fake.calls.count("StartTransientUnit") == 2
    assert not fake.failed


def test_two_containers_cannot_have_one_scope(fake, made):
    systemd.make("a.slice:p:c", Container("", "c"), None, [1], True, no_warnings)
    with pytest.raises(dbus.BusError, match="StartTransientUnit failed"):
        systemd.make("a.slice:p:c", Container("", "c"), None, [1], True, no_warnings)
    assert "p-c.scope" in fake.units


def test_a_job_that_fails_is_an_error(fake, made):
    fake.result = "timeout"
    with pytest.raises(RuntimeFault, match=r"systemd: StartTransientUnit p-c.scope: timeout"):
        systemd.make("a.slice:p:c", Container("", "c"), None, [1], True, no_warnings)
    assert made == []


def test_limits_that_cannot_be_set_take_the_scope_with_them(fake, monkeypatch):
    def make(*_):
        raise RuntimeFault("no")

    monkeypatch.setattr(cgroups, "make", make)
    with pytest.raises(RuntimeFault, match="no"):
        systemd.make("a.slice:p:c", Container("", "c"), None, [1], True, no_warnings)
    assert fake.units == {}


def test_without_a_bus(fake, made, monkeypatch):
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
    with pytest.raises(RuntimeFault, match="cannot connect to unix:path=/nonexistent/bus"):
        systemd.make("a.slice:p:c", Container("", "c"), None, [1], True, no_warnings)
    said = []
    manager = systemd.make("", Container("", "c"), None, [1], False, said.append)
    assert len(said) == 1 and "without limits" in said[0]
    assert manager.directories() == []


def test_without_systemd_directories_stand_in(made, monkeypatch):
    monkeypatch.setattr(dbus, "booted", lambda: False)
    said = []
    systemd.make("a-b.slice:p:c", Container("", "c"), None, [], True, said.append)
    assert said == ["systemd does not run here: the cgroups are made without it"]
    assert made == [("/a.slice/a-b.slice/p-c.scope", None)]


def test_the_bus_of_a_user(monkeypatch, tmp_path):
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(dbus.BusError, match="no user session"):
        dbus.user_address()
    (tmp_path / "bus").touch()
    assert dbus.user_address() == f"unix:path={tmp_path}/bus"
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/x")
    assert dbus.user_address() == "unix:path=/x"
