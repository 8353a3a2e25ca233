"""/proc: translated facts of tasks, permission to look, texts in the form programs parse.

Covers: sentry.fs.proc.fds, sentry.fs.proc.maps, sentry.fs.proc.mounts, sentry.fs.proc.status
Covers: sentry.fs.proc.task
"""

import os
import re
from types import SimpleNamespace

import pytest

from sentry.abi.linux import AT_FDCWD, O_RDONLY, O_RDWR
from sentry.errors import EACCES, EINVAL, ENOENT, EPERM
from sentry.fs.proc import sysctl
from sentry.fs.proc.fs import Procfs
from sentry.fs.pseudo import PseudoDirectory, PseudoFilesystem, constant
from sentry.mm import hostmap
from sentry.vfs.mount import Mount
from sentry.vfs.open import open_path
from sentry.vfs.walk import resolve
from tests.unit.pseudo_world import USER, run, world


@pytest.fixture
def proc():
    kernel, task = world(Procfs)
    yield kernel, task
    kernel.close()


def read(task, path: str, size: int = 1 << 20) -> bytes:
    file = run(open_path(task, AT_FDCWD, path.encode(), O_RDONLY, 0))
    return run(file.read(task, size))


def write(task, path: str, data: bytes) -> None:
    file = run(open_path(task, AT_FDCWD, path.encode(), O_RDWR, 0))
    run(file.write(task, data))


def names(task, path: str) -> list[str]:
    directory = run(open_path(task, AT_FDCWD, path.encode(), O_RDONLY, 0))
    return [entry.name.decode() for entry in run(directory.readdir(task))]


def link(task, path: str) -> bytes:
    place = run(resolve(task, AT_FDCWD, path.encode(), follow=False))
    return place.inode.readlink_for(task)


def test_root_lists_processes_and_files(proc) -> None:
    kernel, task = proc
    kernel.process(7, task.group)
    listed = names(task, "/")
    assert {"1", "7", "self", "thread-self", "meminfo", "sys", "uptime", "mounts"} <= set(listed)
    assert link(task, "/self") == b"1"
    assert link(task, "/thread-self") == b"1/task/1"


def test_every_file_can_be_read(proc) -> None:
    _, task = proc
    for name in names(task, "/"):
        if (
            name not in (".", "..", "self", "thread-self", "net", "mounts", "sys", "sysvipc")
            and not name.isdigit()
        ):
            assert isinstance(read(task, "/" + name), bytes), name
    for name in names(task, "/1"):
        if name in ("clear_refs", "mem"):  # nothing to read, or not at 0
            continue
        if name not in (".", "..", "cwd", "exe", "root", "fd", "fdinfo", "ns", "net", "task", "attr"):
            assert isinstance(read(task, "/1/" + name), bytes), name
    for name in names(task, "/1/net"):
        if name not in (".", "..", "stat"):
            assert isinstance(read(task, "/net/" + name), bytes), name


def test_stat_shows_guest_ids_only(proc) -> None:
    kernel, task = proc
    child = kernel.process(5, task.group)
    child.host_tid = child.group.host_tgid = os.getpid()
    fields = read(task, "/1/stat").decode().split()
    assert fields[:8] == ["1", "(guest)", "R", "0", "1", "1", "0", "-1"]
    assert len(fields) == 52
    assert str(os.getpid()) not in fields
    places = [str(place) for place in task.group.places]
    assert [fields[index] for index in (25, 26, 44, 45)] == places and fields[28] == "0"
    stranger = kernel.process(9, task.group, USER)
    fields = read(stranger, "/1/stat").decode().split()
    assert [fields[index] for index in (25, 26, 27, 44, 45, 46, 47)] == ["1", "1", *["0"] * 5]


def test_status_in_the_host_order_with_guest_values(proc) -> None:
    _, task = proc
    text = read(task, "/self/status").decode()
    lines = dict(line.split(":\t", 1) for line in text.splitlines())
    assert lines["Pid"] == "1"
    assert lines["PPid"] == "0"
    assert lines["Uid"] == "0\t0\t0\t0"
    assert lines["Seccomp"] == "0"
    mask = sum(1 << cpu for cpu in os.sched_getaffinity(0))
    assert (int(lines["Cpus_allowed"].replace(",", ""), 16), lines["Mems_allowed_list"]) == (mask, "0")
    assert lines["State"] == "R (running)"
    assert re.fullmatch(r" +\d+ kB", lines["VmRSS"])
    assert text.startswith("Name:\tguest\nUmask:\t0022\nState:")


def test_status_names_the_tracer_guest_and_its_stop(proc) -> None:
    kernel, task = proc
    tracer = kernel.process(5, task.group)
    assert "TracerPid:\t0\n" in read(tracer, "/1/status").decode()
    task.tracee = SimpleNamespace(tracer=tracer, stop=None)
    assert "TracerPid:\t5\n" in read(tracer, "/1/status").decode()
    task.tracee.stop = "a stop"
    assert "State:\tt (tracing stop)\n" in read(tracer, "/1/status").decode()
    assert read(tracer, "/1/stat").split()[2] == b"t"


def test_cmdline_and_environ_are_the_process_memory(proc) -> None:
    _, task = proc
    with open("/proc/self/cmdline", "rb") as host:
        assert read(task, "/1/cmdline") == host.read()
    with open("/proc/self/environ", "rb") as host:
        assert read(task, "/1/environ") == host.read()


def test_auxv_is_found_on_the_stack(proc) -> None:
    _, task = proc
    with open("/proc/self/auxv", "rb") as host:
        assert read(task, "/1/auxv") == host.read()


def test_others_may_not_look_into_a_process(proc) -> None:
    kernel, task = proc
    other = kernel.process(9, task.group, USER)
    for name in ("maps", "environ", "auxv", "smaps"):
        with pytest.raises(EACCES):
            read(other, "/1/" + name)
    with pytest.raises(EACCES):
        names(other, "/1/fd")
    with pytest.raises(EACCES):
        link(other, "/1/exe")
    assert read(other, "/1/stat")
    assert read(task, "/9/environ") == b""


def test_an_undumpable_process_belongs_to_root(proc) -> None:
    kernel, task = proc
    user = kernel.process(9, task.group, USER)
    place = run(resolve(task, AT_FDCWD, b"/9/environ"))
    assert place.inode.uid == 1000
    user.group.dumpable = 0
    assert run(resolve(task, AT_FDCWD, b"/9/environ")).inode.uid == 0
    assert run(resolve(task, AT_FDCWD, b"/9")).inode.uid == 1000


def test_maps_name_guest_files_and_hide_host_ones(proc, tmp_path) -> None:
    import mmap

    _, task = proc
    known, unknown = tmp_path / "known", tmp_path / "secret-host-name"
    for file in (known, unknown):
        file.write_bytes(b"x" * 4096)
    with (
        open(known, "r+b") as a,
        open(unknown, "r+b") as b,
        mmap.mmap(a.fileno(), 4096) as _m1,
        mmap.mmap(b.fileno(), 4096) as _m2,
    ):
        hostmap.remember(a.fileno(), run(resolve(task, AT_FDCWD, b"/meminfo")))
        text = read(task, "/1/maps")
    hostmap.forget_all()
    assert b" /meminfo\n" in text
    assert b"secret" not in text and b"python" not in text
    assert b"[stack]" in text and b"[vdso]" in text
    for line in text.splitlines():
        assert re.match(rb"[0-9a-f]+-[0-9a-f]+ [r-][w-][x-][ps] [0-9a-f]{8,} [0-9a-f]+:[0-9a-f]+ \d+ ", line)


def test_fd_links_and_fdinfo(proc) -> None:
    _, task = proc
    task.fds.files[3] = run(open_path(task, AT_FDCWD, b"/meminfo", O_RDWR & 0, 0))
    assert names(task, "/self/fd") == [".", "..", "3"]
    assert link(task, "/self/fd/3") == b"/meminfo"
    assert read(task, "/self/fd/3").startswith(b"MemTotal:")
    assert read(task, "/self/fdinfo/3").startswith(b"pos:\t0\nflags:\t0100000\nmnt_id:\t")
    for missing in ("4", "03", "x"):
        with pytest.raises(ENOENT):
            link(task, "/self/fd/" + missing)


def test_meminfo_and_cpuinfo_keep_to_the_sandbox_limits(proc) -> None:
    kernel, task = proc
    kernel.memory_limit = 64 << 20
    assert b"MemTotal:          65536 kB\n" in read(task, "/meminfo")
    assert read(task, "/cpuinfo").count(b"processor") == 2
    assert read(task, "/stat").startswith(b"cpu  ")


def test_sequential_reads_continue_and_a_rewind_reads_anew(proc) -> None:
    kernel, task = proc
    file = run(open_path(task, AT_FDCWD, b"/sys/kernel/hostname", O_RDONLY, 0))
    assert run(file.read(task, 2)) == b"bo"
    kernel.hostname = b"other"
    assert run(file.read(task, 100)) == b"x\n"
    assert run(file.read(task, 100)) == b""
    file.seek(0, 0)
    assert run(file.read(task, 100)) == b"other\n"
    assert run(file.pread(task, 3, 2)) == b"her"


def test_sysctls_take_what_is_valid(proc) -> None:
    kernel, task = proc
    write(task, "/sys/kernel/hostname", b"new\n")
    assert kernel.hostname == b"new"
    write(task, "/sys/net/core/somaxconn", b"128\n")
    assert read(task, "/sys/net/core/somaxconn") == b"128\n"
    with pytest.raises(EINVAL):
        write(task, "/sys/net/core/somaxconn", b"many\n")
    task.creds = USER
    with pytest.raises(EACCES):
        write(task, "/sys/net/core/somaxconn", b"1\n")
    sysctl.apply(kernel, {"net.ipv4.ip_local_port_range": "2000 3000"})
    assert read(task, "/sys/net/ipv4/ip_local_port_range") == b"2000\t3000\n"
    with pytest.raises(ENOENT):
        sysctl.apply(kernel, {"net.made.up": "1"})
    with pytest.raises(EPERM):
        sysctl.apply(kernel, {"kernel.pid_max": "1"})
    sysctl.reset()


def test_mountinfo_of_the_own_root(proc) -> None:
    _, task = proc
    fs = PseudoFilesystem()
    fs.root = PseudoDirectory(fs, {b"x": constant(b"")})
    fs.name = b"sysfs"
    task.mounts.mount(Mount(fs, 1, b"a b"), run(resolve(task, AT_FDCWD, b"/sys")))
    lines = read(task, "/mounts").splitlines()
    assert lines == [b"root / proc rw 0 0", b"a\\040b /sys sysfs ro 0 0"]
    info = read(task, "/self/mountinfo").splitlines()
    assert re.fullmatch(rb"\d+ \d+ 0:\d+ / / rw - proc root rw", info[0])
    assert re.fullmatch(rb"\d+ \d+ 0:\d+ / /sys ro - sysfs a\\040b rw", info[1])


def test_oom_score_adj_goes_down_only_with_the_capability(proc) -> None:
    kernel, task = proc
    user = kernel.process(9, task.group, USER)
    write(user, "/self/oom_score_adj", b"500")
    assert read(user, "/self/oom_score_adj") == b"500\n"
    with pytest.raises(EACCES):
        write(user, "/self/oom_score_adj", b"0")
    with pytest.raises(EINVAL):
        write(user, "/self/oom_score_adj", b"1001")


def test_a_dead_process_has_no_directory(proc) -> None:
    _, task = proc
    with pytest.raises(ENOENT):
        read(task, "/99/stat")
    with pytest.raises(ENOENT):
        read(task, "/01/stat")


def test_namespaces_can_be_read_but_not_entered(proc) -> None:
    _, task = proc
    assert re.fullmatch(rb"net:\[\d+\]", link(task, "/self/ns/net"))
    assert link(task, "/self/ns/pid_for_children") == link(task, "/self/ns/pid")
