"""What the guest is told of CPUs and limits: lists, masks, /sys, cgroup files; and from the spec to the sentry."""

from types import SimpleNamespace

import pytest

from runsc_py.build import limits
from runsc_py.spec import Cpu, Memory, Pids, Resources
from sentry.boot import ProcessConfig, SandboxConfig
from sentry.container import _limits
from sentry.fs.cgroupfs import Cgroup2
from sentry.fs.proc.system import cpu_list, cpu_mask
from sentry.fs.sysfs import Sysfs
from tests.unit.pseudo_world import FakeKernel, run


@pytest.mark.parametrize(
    ("cpus", "text", "mask"),
    [
        ((0,), b"0\n", b"1\n"),
        ((0, 1, 2, 3), b"0-3\n", b"f\n"),
        ((1, 3), b"1,3\n", b"a\n"),
        ((0, 1, 8), b"0-1,8\n", b"103\n"),
        ((0, 32), b"0,32\n", b"1,00000001\n"),
        ((), b"\n", b"0\n"),
    ],
)
def test_lists_and_masks_of_cpus(cpus, text, mask):
    assert cpu_list(cpus) == text
    assert cpu_mask(cpus) == mask


def text_of(inode, path):
    for name in path.split(b"/"):
        inode = run(inode.lookup(name))
    return inode.make(None)


@pytest.fixture
def kernel():
    kernel = FakeKernel()
    yield kernel
    kernel.close()


def test_sysfs_has_the_cpus_of_the_sandbox_by_the_hosts_numbers(kernel):
    kernel.cpus = (1, 3)
    root = Sysfs(kernel).root
    assert text_of(root, b"devices/system/cpu/online") == b"1,3\n"
    possible = text_of(root, b"devices/system/cpu/possible")
    assert int(possible.strip().rpartition(b"-")[2]) >= 3
    assert text_of(root, b"devices/system/cpu/cpu3/topology/core_id") == b"1\n"
    assert text_of(root, b"devices/system/cpu/cpu0/online") == b"0\n"
    assert text_of(root, b"devices/system/node/node0/cpulist") == b"1,3\n"


def test_cgroup_files_tell_the_limits(kernel):
    kernel.memory_limit, kernel.cpu_max, kernel.pids_limit = 1 << 28, (150_000, 100_000), 99
    root = Cgroup2(kernel).root
    assert text_of(root, b"memory.max") == b"268435456\n"
    assert text_of(root, b"cpu.max") == b"150000 100000\n"
    assert text_of(root, b"pids.max") == b"99\n"
    kernel.memory_limit, kernel.cpu_max, kernel.pids_limit = None, None, 5  # an update
    assert text_of(root, b"memory.max") == b"max\n"
    assert text_of(root, b"cpu.max") == b"max 100000\n"
    assert text_of(root, b"pids.max") == b"5\n"


def test_limits_of_the_spec():
    assert limits(None) == limits(Resources()) == {}
    resources = Resources(memory=Memory(limit=1 << 28), cpu=Cpu(quota=150_000, period=100_000), pids=Pids(limit=-1))
    assert limits(resources) == {"memory_limit": 1 << 28, "cpu_quota": 150_000, "cpu_period": 100_000}


def test_a_quota_bounds_the_number_of_cpus():
    kernel = SimpleNamespace()
    _limits(kernel, SandboxConfig("c", ProcessConfig([], []), cpu_quota=50_000))
    assert len(kernel.cpus) == 1
    assert kernel.cpu_max == (50_000, 100_000)
    _limits(kernel, SandboxConfig("c", ProcessConfig([], []), memory_limit=4096))
    assert kernel.memory_limit == 4096
