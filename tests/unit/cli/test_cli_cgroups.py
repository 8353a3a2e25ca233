"""Cgroups: where they are, which files are written; over directories that stand for cgroupfs."""

import os

import pytest

from runsc_py import cgroups, spec
from runsc_py.cgroups import files, layout, limits, oom, stats
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


def test_beside_the_callers_own_where_v2_is_alone(tmp_path, monkeypatch):
    """The caller's own cgroup has processes (us), so nothing below it can have limits."""
    (tmp_path / "mountinfo").write_text("30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n")
    (tmp_path / "own").write_text("0::/user.slice/user-0.slice/session-1.scope\n")
    monkeypatch.setattr(layout, "_available", lambda mountpoint: ("cpu", "memory"))
    (only,) = layout.detect(str(tmp_path / "mountinfo"), str(tmp_path / "own"))
    assert only.directory("x") == "/sys/fs/cgroup/user.slice/user-0.slice/x"
    assert only.directory("/x") == "/sys/fs/cgroup/x"


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


def test_swap_of_v2_is_what_is_over_memory():
    def swap(**memory):
        return {file: value for _, file, value in limits.v2(spec.Resources(memory=spec.Memory(**memory)))}

    assert swap(limit=1000, swap=1000) == {"memory.max": "1000", "memory.swap.max": "0"}
    assert swap(limit=1000, swap=-1) == {"memory.max": "1000", "memory.swap.max": "max"}
    assert swap(limit=-1) == {"memory.max": "max", "memory.swap.max": "max"}
    with pytest.raises(RuntimeFault, match=r"memory\+swap limit should be >= memory limit"):
        swap(limit=1000, swap=500)
    with pytest.raises(RuntimeFault, match="unable to set swap limit without memory limit"):
        swap(swap=500)


IO = spec.Resources(
    block_io=spec.BlockIO(
        weight=500,
        weight_device=[spec.WeightDevice(8, 0, 10), spec.WeightDevice(8, 16, 1000)],
        throttle_read_bps_device=[spec.ThrottleDevice(8, 0, 1048576)],
        throttle_write_iops_device=[spec.ThrottleDevice(8, 0, 0)],
    )
)


def test_io_of_v2():
    throttles = [("io", "io.max", "8:0 rbps=1048576"), ("io", "io.max", "8:0 wiops=max")]
    assert list(limits.v2(IO)) == [
        ("io", "io.weight", "4950"),
        ("io", "io.weight", "8:0 1"),
        ("io", "io.weight", "8:16 10000"),
        *throttles,
    ]
    assert list(limits.v2(IO, lambda file: file == "io.bfq.weight")) == [
        ("io", "io.bfq.weight", "500"),
        ("io", "io.bfq.weight", "8:0 10"),
        ("io", "io.bfq.weight", "8:16 1000"),
        *throttles,
    ]


def test_io_of_v1():
    assert [row[1:] for row in limits.v1(IO, lambda file: file == "blkio.bfq.weight")] == [
        ("blkio.bfq.weight", "500"),
        ("blkio.bfq.weight_device", "8:0 10"),
        ("blkio.bfq.weight_device", "8:16 1000"),
        ("blkio.throttle.read_bps_device", "8:0 1048576"),
        ("blkio.throttle.write_iops_device", "8:0 0"),
    ]
    assert next(limits.v1(IO)) == ("blkio", "blkio.weight", "500")


def test_rarer_limits():
    rare = spec.Resources(
        hugepage_limits=[spec.HugepageLimit("2MB", 4194304)],
        rdma={"mlx5_1": spec.RdmaLimit(3, 10000)},
        network=spec.NetworkResources(1048577, [spec.NetworkPriority("eth0", 500)]),
    )
    assert [row[1:] for row in limits.v2(rare, lambda file: "rsvd" in file)] == [
        ("hugetlb.2MB.max", "4194304"),
        ("hugetlb.2MB.rsvd.max", "4194304"),
        ("rdma.max", "mlx5_1 hca_handle=3 hca_object=10000"),
    ]
    assert [row[1:] for row in limits.v1(rare)] == [
        ("hugetlb.2MB.limit_in_bytes", "4194304"),
        ("rdma.max", "mlx5_1 hca_handle=3 hca_object=10000"),
        ("net_cls.classid", "1048577"),
        ("net_prio.ifpriomap", "eth0 500"),
    ]


@pytest.mark.parametrize(
    "resources",
    [
        spec.Resources(unified={"memory.high/../../other/cgroup.kill": "1"}),
        spec.Resources(unified={"../cgroup.kill": "1"}),
        spec.Resources(unified={"": "1"}),
        spec.Resources(hugepage_limits=[spec.HugepageLimit("2MB/../../x", 1)]),
        spec.Resources(rdma={"a b": spec.RdmaLimit(1, 1)}),
        spec.Resources(memory=spec.Memory(swappiness=101)),
    ],
)
def test_a_resource_that_leads_elsewhere_is_refused(resources):
    with pytest.raises(RuntimeFault):
        limits.check(resources, unified=True)


def test_unified_is_for_v2_alone():
    with pytest.raises(RuntimeFault, match="cannot use unified on cgroup v1"):
        limits.check(spec.Resources(unified={"memory.high": "1"}), unified=False)


def test_what_v2_cannot_do_is_named():
    asked = spec.Resources(memory=spec.Memory(swappiness=3, disable_oom_killer=True, kernel_tcp=1))
    assert len(list(limits.ignored(asked, unified=True))) == 3
    assert list(limits.ignored(asked, unified=False)) == ["kernel memory settings"]


def test_an_update_keeps_what_it_does_not_name():
    old = spec.Resources(memory=spec.Memory(limit=100, swap=150), cpu=spec.Cpu(quota=5, period=10, shares=7))
    new = spec.Resources(memory=spec.Memory(limit=120, swap=0), cpu=spec.Cpu(quota=6, shares=0), pids=spec.Pids(9))
    made = limits.merged(old, new)
    assert made == spec.Resources(
        memory=spec.Memory(limit=120), cpu=spec.Cpu(quota=6, period=10, shares=7), pids=spec.Pids(limit=9)
    )
    assert limits.merged(made, spec.Resources(memory=spec.Memory(swap=200))).memory == spec.Memory(limit=120, swap=200)
    made = limits.merged(old, spec.Resources(memory=spec.Memory(limit=-1), cpu=spec.Cpu(idle=1)))
    assert (made.memory.limit, made.memory.swap, made.cpu.idle, made.cpu.shares) == (-1, None, 1, None)
    assert old.memory.swap == 150
    assert limits.merged(spec.Resources(unified={"a.b": "1"}), spec.Resources(unified={"c.d": "2"})).unified == {
        "a.b": "1",
        "c.d": "2",
    }


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


def test_a_period_too_short_for_the_old_quota_is_set_after_the_new_one(fake, monkeypatch):
    fake.controllers = ("cpu",)
    manager = cgroups.make("/x", "id", None, True, no_warnings, [fake])
    written = []

    def write(path, value):
        name = os.path.basename(path)
        if name == "cpu.cfs_period_us" and not written:
            raise OSError(22, "Invalid argument")
        written.append((name, value))

    monkeypatch.setattr(cgroups, "write", write)
    manager.apply(spec.Resources(cpu=spec.Cpu(quota=1000, period=2000)), True, no_warnings)
    assert written == [("cpu.cfs_quota_us", "1000"), ("cpu.cfs_period_us", "2000")]
    manager.remove()


def test_a_cgroup_that_takes_no_process_is_no_pretence(fake):
    manager = cgroups.make("/x", "id", None, True, no_warnings, [fake])
    with pytest.raises(RuntimeFault, match=r"cannot move a process to .*/x: no such file"):
        manager.join([os.getpid()], True, no_warnings)
    said = []
    manager.join([os.getpid()], False, said.append)
    assert len(said) == 1
    assert manager.v1 == {}
    assert os.listdir(fake.mountpoint) == []


@pytest.fixture
def fake_v2(tmp_path):
    """A v2 hierarchy whose root offers some controllers; what lies below is plain files."""
    (tmp_path / "cgroup.controllers").write_text("cpu memory\n")
    (tmp_path / "cgroup.subtree_control").write_text("cpu\n")
    return layout.Hierarchy(str(tmp_path), ("cpu", "memory"), True)


def test_v2_children_get_the_controllers_that_are_there(fake_v2):
    manager = cgroups.make("/x", "id", None, True, no_warnings, [fake_v2])
    assert files.read(f"{fake_v2.mountpoint}/cgroup.subtree_control").startswith("+memory")
    manager.remove()


def test_a_unified_resource_without_its_controller_is_an_error(fake_v2):
    asked = spec.Resources(unified={"misc.max": "1"})
    with pytest.raises(RuntimeFault, match=r'unified resource "misc.max" can\'t be set: no controller "misc" here'):
        cgroups.make("/x", "id", asked, True, no_warnings, [fake_v2])
    assert not os.path.exists(f"{fake_v2.mountpoint}/x")


def test_oom_watch_counts_kills(tmp_path):
    manager = cgroups.Manager()
    manager.unified = str(tmp_path)
    with pytest.raises(OSError):
        oom.OomWatch(manager)
    (tmp_path / "cgroup.controllers").write_text("memory\n")
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 4\noom_kill 1\n")
    with oom.OomWatch(manager) as watch:
        assert not watch.fired()
        events.write_text("low 0\noom 5\noom_kill 3\n")
        assert watch.fired()
        assert not watch.fired()


def test_a_path_may_not_climb(fake):
    with pytest.raises(RuntimeFault, match="must not contain"):
        cgroups.make("/a/../../b", "id", None, True, no_warnings, [fake])


def test_stats_of_nothing():
    assert stats.collect({})["pids"] == {}


def test_stats_of_v2(tmp_path):
    files = {
        "cgroup.controllers": "cpu hugetlb io memory pids",
        "cpu.stat": "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_throttled 0\n",
        "memory.current": "77\n",
        "memory.max": "100\n",
        "memory.swap.current": "3\n",
        "memory.swap.max": "max\n",
        "memory.stat": "file 9\nanon 1\n",
        "pids.current": "6\n",
        "pids.max": "54\n",
        "io.stat": "8:16 rbytes=4096 wbytes=0 rios=2 wios=0 dbytes=9 dios=1\n",
        "hugetlb.2MB.current": "0\n",
        "hugetlb.2MB.rsvd.current": "0\n",
        "hugetlb.2MB.events": "max 2\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    data = stats.collect({"unified": str(tmp_path)})
    assert data["cpu"]["usage"]["total"] == 5000
    assert data["memory"]["usage"] == {"limit": 100, "usage": 77, "failcnt": 0}
    assert data["memory"]["swap"] == {"limit": 2**64 - 1, "usage": 80, "failcnt": 0}
    assert data["memory"]["cache"] == 9
    assert data["pids"] == {"current": 2, "limit": 50}
    assert data["blkio"] == {
        "ioServiceBytesRecursive": [
            {"major": 8, "minor": 16, "op": "Read", "value": 4096},
            {"major": 8, "minor": 16, "op": "Write"},
        ],
        "ioServicedRecursive": [
            {"major": 8, "minor": 16, "op": "Read", "value": 2},
            {"major": 8, "minor": 16, "op": "Write"},
        ],
    }
    assert data["hugetlb"] == {"2MB": {"failcnt": 2}}


def test_ranges():
    assert files.parse_ranges("0-2, 5") == [0, 1, 2, 5]
    assert files.parse_ranges("") == []
    for wrong in ("a", "1-", "-", "0-99999999999"):
        with pytest.raises(ValueError):
            files.parse_ranges(wrong)
