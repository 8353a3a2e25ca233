"""uname, sysinfo, limits, random bytes; memory devices and what /dev starts with."""

import struct

import pytest

from sentry.abi import linux as L
from sentry.errors import EFAULT, EINVAL, ENODEV, ENOSPC, EPERM, ESRCH
from sentry.fs import dev
from sentry.fs.cgroupfs import Cgroup1, Cgroup2
from sentry.fs.proc.fs import Procfs
from sentry.fs.store import Store
from sentry.fs.sysfs import Sysfs
from sentry.fs.tmpfs import Tmpfs
from sentry.syscalls import system
from sentry.vfs.open import open_path
from sentry.vfs.walk import resolve
from tests.unit.pseudo_world import USER, run, world

BUF = 0x1000


@pytest.fixture
def rig():
    kernel, task = world(Procfs)
    task.fds.set_limits = lambda nofile, finite: None
    yield kernel, task
    kernel.close()


def test_uname_and_names(rig) -> None:
    kernel, task = rig
    system.sys_uname(task, BUF)
    fields = [task.mem.read(BUF + 65 * i, 65).rstrip(b"\0") for i in range(6)]
    assert fields[0] == b"Linux" and fields[1] == b"box" and fields[4] == b"x86_64"
    task.mem.write(BUF, b"other")
    system.sys_sethostname(task, BUF, 5)
    assert kernel.hostname == b"other"
    with pytest.raises(EINVAL):
        system.sys_sethostname(task, BUF, 65)
    task.creds = USER
    with pytest.raises(EPERM):
        system.sys_sethostname(task, BUF, 5)


def test_sysinfo_keeps_to_the_limit(rig) -> None:
    kernel, task = rig
    kernel.memory_limit = 1 << 28
    system.sys_sysinfo(task, BUF)
    assert struct.unpack_from("<5Q", task.mem.read(BUF, 112))[4] == 1 << 28
    assert task.mem.read_u32(BUF + 104) == 1


def test_getrandom_stops_at_a_fault(rig) -> None:
    _, task = rig
    assert system.sys_getrandom(task, BUF, 16, 0) == 16
    assert task.mem.read(BUF, 16) != bytes(16)
    with pytest.raises(EINVAL):
        system.sys_getrandom(task, BUF, 1, L.GRND_RANDOM | L.GRND_INSECURE)
    with pytest.raises(EFAULT):
        system.sys_getrandom(task, 0, 1, 0)


def test_limits_may_be_lowered_by_all_and_raised_by_few(rig) -> None:
    kernel, task = rig
    user = kernel.process(5, task.group, USER)
    user.fds.set_limits = lambda nofile, finite: None
    system.set_limit(user, user.group, L.RLIMIT_NOFILE, 10, 20)
    with pytest.raises(EPERM):
        system.set_limit(user, user.group, L.RLIMIT_NOFILE, 10, 21)
    with pytest.raises(EINVAL):
        system.set_limit(user, user.group, L.RLIMIT_NOFILE, 11, 10)
    system.sys_prlimit64(task, 5, L.RLIMIT_NOFILE, 0, BUF)
    assert struct.unpack("<QQ", task.mem.read(BUF, 16)) == (10, 20)
    with pytest.raises(EPERM):
        system.sys_prlimit64(user, 1, L.RLIMIT_NOFILE, 0, BUF)
    with pytest.raises(ESRCH):
        system.sys_prlimit64(task, 99, L.RLIMIT_NOFILE, 0, BUF)
    with pytest.raises(EINVAL):
        system.sys_getrlimit(task, 16, BUF)


@pytest.fixture
def devices():
    kernel, task = world(lambda kernel: Tmpfs(Store(None), mode=0o755))
    run(dev.populate_dev(task, task.fs.root, [(b"/dev/net/tun", "c", 10, 200, 0o666, 0, 0)], True))
    yield kernel, task
    kernel.close()


def open_it(task, path: bytes, flags: int = L.O_RDWR):
    return run(open_path(task, L.AT_FDCWD, path, flags, 0))


def test_default_devices_and_links(devices) -> None:
    _, task = devices
    names = {entry.name for entry in run(task.fs.root.inode.readdir())}
    assert names == {
        b"null", b"zero", b"full", b"random", b"urandom", b"tty", b"console", b"ptmx", b"fd", b"stdin",
        b"stdout", b"stderr", b"pts", b"shm", b"mqueue", b"net",
    }  # fmt: skip
    tun = run(resolve(task, L.AT_FDCWD, b"/net/tun")).inode
    assert (tun.mode, tun.rdev) == (L.S_IFCHR | 0o666, 0xAC8)


def test_memory_devices(devices, monkeypatch) -> None:
    _, task = devices
    names = (b"/null", b"/zero", b"/full", b"/urandom")
    null, zero, full, random = (open_it(task, name) for name in names)
    assert run(null.read(task, 9)) == b"" and run(null.write(task, b"abc")) == 3
    assert run(zero.read(task, 9)) == bytes(9) and run(zero.write(task, b"abc")) == 3
    assert run(full.read(task, 9)) == bytes(9)
    with pytest.raises(ENOSPC):
        run(full.write(task, b"x"))
    assert len(run(random.read(task, 64))) == 64 and run(random.pread(task, 64, 3)) != bytes(64)
    with pytest.raises(ENODEV):
        null.mapping()
    monkeypatch.setattr(dev, "host_zero_fd", 77)
    assert zero.mapping() == 77


def test_null_for_masked_paths(devices) -> None:
    kernel, task = devices
    path = dev.null_inode_path(kernel)
    file = run(path.inode.open(task, path, L.O_RDWR))
    assert run(file.read(task, 1)) == b""


def read(task, path: bytes) -> bytes:
    return run(open_it(task, path, L.O_RDONLY).read(task, 1 << 16))


def walk(task, path: bytes = b"/") -> int:
    """Read every file of a tree; how many there were."""
    count = 0
    for entry in run(run(resolve(task, L.AT_FDCWD, path)).inode.readdir()):
        below = path.rstrip(b"/") + b"/" + entry.name
        if entry.dtype == 4:
            count += walk(task, below)
        elif entry.dtype == 8:
            assert isinstance(read(task, below), bytes)
            count += 1
    return count


def test_sysfs_shows_the_cpus(rig) -> None:
    kernel, task = world(Sysfs)
    assert read(task, b"/devices/system/cpu/online") == b"0-1\n"
    assert b"lo" in [entry.name for entry in run(resolve_dir(task, b"/class/net").readdir())]
    assert read(task, b"/class/net/lo/mtu") == b"65536\n"
    assert walk(task) > 50
    kernel.close()


def resolve_dir(task, path: bytes):
    return run(resolve(task, L.AT_FDCWD, path)).inode


def test_cgroup_views(rig) -> None:
    kernel, task = world(Cgroup2)
    assert walk(task) > 20
    assert read(task, b"/memory.max") == b"max\n"
    assert read(task, b"/cgroup.procs") == b"1\n"
    kernel.close()
    kernel, task = world(lambda kernel: Cgroup1(kernel, b"memory,cpu,cpuacct,pids,cpuset,freezer"))
    assert read(task, b"/memory.limit_in_bytes") == b"9223372036854771712\n"
    assert walk(task) > 15
    kernel.close()
