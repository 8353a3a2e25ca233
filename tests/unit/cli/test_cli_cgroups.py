"""Cgroups: where they are, which files are written; over directories that stand for cgroupfs."""

import os

import pytest

from runsc_py import cgroups, spec
from runsc_py.cgroups import layout, limits, stats
from runsc_py.errors import RuntimeFault

HYBRID = """\
30 23 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,release_agent=/x,name=systemd
34 30 0:30 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
35 30 0:28 / /elsewhere/memory rw,relatime - cgroup cgroup rw,memory
"""
OWN = "4:cpu,cpuacct:/a\n3:memory:/user/me\n1:name=systemd:/s\n0::/u\n"


@pytest.fixture
def hybrid(tmp_path, monkeypatch):
    (tmp_path / "mountinfo").write_text(HYBRID)
    (tmp_path / "own").write_text(OWN)
    monkeypatch.setattr(layout, "_available", lambda mountpoint: ())
    return layout.detect(str(tmp_path / "mountinfo"), str(tmp_path / "own"))


def test_detect_hybrid(hybrid):
    assert [(h.mountpoint, h.controllers, h.unified) for h in hybrid] == [
        ("/sys/fs/cgroup/cpu,cpuacct", ("cpu", "cpuacct"), False),
        ("/sys/fs/cgroup/memory", ("memory",), False),
        ("/sys/fs/cgroup/systemd", ("name=systemd",), False),
        ("/sys/fs/cgroup/unified", (), True),
    ]


def test_relative_paths_are_below_the_callers_own(hybrid):
    memory = hybrid[1]
    assert memory.directory("/x/y") == "/sys/fs/cgroup/memory/x/y"
    assert memory.directory("y") == "/sys/fs/cgroup/memory/user/me/y"


def test_detect_without_cgroups(tmp_path):
    (tmp_path / "m").write_text("1 2 0:1 / / rw - ext4 /dev/sda rw\n")
    assert layout.detect(str(tmp_path / "m"), str(tmp_path / "none")) == []
    assert layout.detect(str(tmp_path / "none"), str(tmp_path / "none")) == []


RESOURCES = spec.Resources(
    memory=spec.Memory(limit=1000, swap=3000, disable_oom_killer=False),
    cpu=spec.Cpu(shares=1024, quota=50000, period=100000, cpus="0-1"),
    pids=spec.Pids(limit=-1),
    block_io=spec.BlockIO(weight=0),
)


def test_v1_settings():
    assert list(limits.v1(RESOURCES)) == [
        ("memory", "memory.limit_in_bytes", "1000"),
        ("memory", "memory.memsw.limit_in_bytes", "3000"),
        ("cpu", "cpu.shares", "1024"),
        ("cpu", "cpu.cfs_period_us", "100000"),
        ("cpu", "cpu.cfs_quota_us", "50000"),
        ("cpuset", "cpuset.cpus", "0-1"),
        ("pids", "pids.max", "max"),
    ]


def test_v2_settings():
    assert list(limits.v2(RESOURCES)) == [
        ("memory", "memory.max", "1000"),
        ("memory", "memory.swap.max", "2000"),
        ("cpu", "cpu.weight", "39"),
        ("cpu", "cpu.max", "50000 100000"),
        ("cpuset", "cpuset.cpus", "0-1"),
        ("pids", "pids.max", "max"),
    ]


def test_zero_leaves_a_limit_alone():
    zeros = spec.Resources(memory=spec.Memory(limit=0, swap=0), cpu=spec.Cpu(shares=0, quota=0, period=0))
    assert list(limits.v1(zeros)) == []
    assert list(limits.v2(zeros)) == []


def test_unlimited_memory_lifts_the_swap_limit_too():
    assert list(limits.v1(spec.Resources(memory=spec.Memory(limit=-1)))) == [
        ("memory", "memory.limit_in_bytes", "-1"),
        ("memory", "memory.memsw.limit_in_bytes", "-1"),
    ]
    assert list(limits.v2(spec.Resources(memory=spec.Memory(limit=-1, swap=-1)))) == [
        ("memory", "memory.max", "max"),
        ("memory", "memory.swap.max", "max"),
    ]


def test_weights_cover_the_whole_range():
    assert limits.shares_to_weight(2) == 1
    assert limits.shares_to_weight(262144) == 10000


@pytest.fixture
def fake(tmp_path):
    """A v1 hierarchy of plain directories; files of a cgroup appear when it is made."""
    mount = tmp_path / "memory"
    mount.mkdir()
    return layout.Hierarchy(str(mount), ("memory",), False)


def no_warnings(text):
    raise AssertionError(text)


def test_make_and_remove(fake):
    manager = cgroups.make("/a/b", "id", None, True, no_warnings, [fake])
    assert os.path.isdir(f"{fake.mountpoint}/a/b")
    again = cgroups.Manager.restore(manager.record())
    again.remove()
    assert os.listdir(fake.mountpoint) == []


def test_a_parent_in_use_stays(fake):
    first = cgroups.make("/a/1", "id", None, True, no_warnings, [fake])
    second = cgroups.make("/a/2", "id", None, True, no_warnings, [fake])
    first.remove()
    assert os.listdir(f"{fake.mountpoint}/a") == ["2"]
    second.remove()
    assert os.listdir(fake.mountpoint) == []  # the last of its containers removes it, whoever made it
    os.mkdir(f"{fake.mountpoint}/theirs")
    cgroups.make("/theirs/1", "id", None, True, no_warnings, [fake]).remove()
    assert os.listdir(fake.mountpoint) == ["theirs"]


def test_a_cgroup_that_cannot_be_made_is_an_error_and_leaves_nothing(fake):
    os.mkdir(f"{fake.mountpoint}/a")
    (open(f"{fake.mountpoint}/a/b", "w")).close()
    with pytest.raises(RuntimeFault, match=r"cgroup: cannot make .*/a/b/c: not a directory"):
        cgroups.make("/a/b/c", "id", None, True, no_warnings, [fake])
    said = []
    cgroups.make("/a/b/c", "id", None, False, said.append, [fake])
    assert len(said) == 1


def test_a_limit_that_cannot_be_set_names_the_file(fake):
    limit = spec.Resources(memory=spec.Memory(limit=5))
    with pytest.raises(RuntimeFault, match=r"cannot write 5 to .*memory.limit_in_bytes: no such file"):
        cgroups.make("/x", "id", limit, True, no_warnings, [fake])
    assert os.listdir(fake.mountpoint) == []
    said = []
    manager = cgroups.make("/x", "id", limit, False, said.append, [fake])
    assert len(said) == 1
    manager.remove()


def test_a_missing_controller_is_a_warning(fake):
    said = []
    manager = cgroups.make("/x", "id", spec.Resources(pids=spec.Pids(limit=3)), True, said.append, [fake])
    assert said == ["cgroup: no pids controller here: pids.max=7 is not applied"]
    manager.remove()


def test_memsw_is_raised_before_the_limit(fake):
    manager = cgroups.make("/x", "id", None, True, no_warnings, [fake])
    directory = manager.v1["memory"]
    with open(f"{directory}/memory.memsw.limit_in_bytes", "w") as file:
        file.write("100\n")
    settings = manager._settings(spec.Resources(memory=spec.Memory(limit=500, swap=900)), limits)
    assert [s[1] for s in settings] == ["memory.memsw.limit_in_bytes", "memory.limit_in_bytes"]
    settings = manager._settings(spec.Resources(memory=spec.Memory(limit=50, swap=90)), limits)
    assert [s[1] for s in settings] == ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"]


def test_a_path_may_not_climb(fake):
    with pytest.raises(RuntimeFault, match="must not contain"):
        cgroups.make("/a/../../b", "id", None, True, no_warnings, [fake])


@pytest.mark.parametrize(
    ("path", "directory"),
    [
        ("system.slice:docker:abc", "/system.slice/docker-abc.scope"),
        ("a-b.slice:x:y", "/a.slice/a-b.slice/x-y.scope"),
        ("-.slice::y", "/y.scope"),
        ("", "/system.slice/runsc-py-id.scope"),
    ],
)
def test_systemd_paths(path, directory):
    assert cgroups.systemd_path(path, "id") == directory


def test_systemd_path_must_have_three_parts():
    with pytest.raises(RuntimeFault, match="slice:prefix:name"):
        cgroups.systemd_path("/a/b", "id")


def test_stats_of_nothing():
    assert stats.collect({})["pids"] == {}


def test_stats_of_v2(tmp_path):
    files = {
        "cgroup.controllers": "cpu memory pids",
        "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_throttled 0\n",
        "memory.current": "77\n",
        "memory.max": "max\n",
        "memory.stat": "file 9\nanon 1\n",
        "pids.current": "6\n",
        "pids.max": "54\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    data = stats.collect({"unified": str(tmp_path)})
    assert data["cpu"]["usage"]["total"] == 5000
    assert data["memory"]["usage"] == {"limit": 2**64 - 1, "usage": 77, "failcnt": 0}
    assert data["memory"]["cache"] == 9
    assert data["pids"] == {"current": 2, "limit": 50}
