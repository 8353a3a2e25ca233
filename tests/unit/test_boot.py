"""sentry/boot.py, confine.py and the host's facts: the parts that need no namespace."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sentry import boot, confine
from sentry.abi.x86_64 import NUMBERS
from sentry.boot import BootError, ProcessConfig, SandboxConfig
from sentry.fs import registry
from sentry.fs.proc.facts import HostFacts, collect_host_facts, facts_of, random_uuid
from sentry.fs.store import Store
from sentry.fs.types import register_types
from tests.unit.kernel_rig import KernelRig


def reported(error: BaseException) -> str:
    """What the caller of start() is told."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        boot.report_failure(theirs.fileno(), error)
        with pytest.raises(BootError) as told:
            boot._receive(ours)
    return str(told.value)


def test_a_failure_travels_in_its_own_words() -> None:
    assert reported(BootError("no such thing: ünable")) == "no such thing: ünable"
    assert reported(ValueError("odd")) == "ValueError: odd"
    assert len(reported(BootError("x" * 10000))) < 4096


def test_pids_are_reported_as_numbers_and_silence_is_a_failure() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            theirs.send(b"+1234")
            assert boot._receive(ours) == 1234
        with pytest.raises(BootError, match="the sandbox ended while starting"):
            boot._receive(ours)


def test_a_report_nobody_reads_is_no_failure_of_its_own() -> None:
    read, write = os.pipe()
    os.close(read)
    boot.report_failure(write, BootError("unheard"))
    os.close(write)


def test_native_errors_say_what_was_tried() -> None:
    assert boot.check(7, "anything") == 7
    with pytest.raises(BootError, match=r"^joining: operation not permitted$"):
        boot.check(-1, "joining")
    assert boot.host_error(-2).errno == 2


def test_the_guest_filter_grows_with_strace() -> None:
    plain = SandboxConfig("c", ProcessConfig([b"sh"], []))
    assert len(boot._guest_filter(plain)) % 8 == 0
    assert boot._guest_filter(plain) != boot._guest_filter(plain._replace(strace=True))


def test_configurations_share_no_mutable_default_by_accident() -> None:
    first = ProcessConfig([b"a"], [])
    assert first.caps == {} and first.rlimits == {} and first.cwd == b"/"
    assert SandboxConfig("c", first).mounts == []


def test_children_in_our_own_namespace_are_not_the_sandboxes() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    assert child not in boot._nested_children()
    os.waitpid(child, 0)


# --- what the sentry may call


def test_every_allowed_name_is_a_system_call_and_named_once() -> None:
    assert set(confine.ALLOWED) <= set(NUMBERS)
    assert len(confine.ALLOWED) == len(set(confine.ALLOWED))


@pytest.mark.parametrize(
    "name",
    ["execve", "execveat", "open", "creat", "mount", "umount2", "open_tree", "fsopen", "move_mount", "chroot", "pivot_root",
     "setns", "unshare", "clone", "clone3", "fork", "vfork", "bpf", "init_module", "kexec_load", "io_uring_setup",
     "userfaultfd", "perf_event_open", "mknod", "mknodat", "setuid", "capset", "socket", "symlink", "link", "rename",
     "socketpair", "pidfd_getfd", "pidfd_send_signal", "prctl", "mmap", "mprotect"],
)  # fmt: skip
def test_what_the_sentry_never_needs_is_not_allowed(name: str) -> None:
    assert name not in confine.ALLOWED


def test_the_host_pid_of_a_process_is_read_from_its_pidfd() -> None:
    fdinfo = os.open("/proc/self/fdinfo", os.O_RDONLY | os.O_DIRECTORY)
    host: Any = SimpleNamespace(fdinfo=fdinfo)
    try:
        assert confine.Host.pid_of(host, os.getpid()) == os.getpid()
        with pytest.raises(OSError):
            confine.Host.pid_of(host, 8_000_000)
    finally:
        os.close(fdinfo)


# --- what it knows of the host


def test_facts_are_the_hosts() -> None:
    facts = collect_host_facts()
    os.close(facts.zero_fd)
    meminfo = Path("/proc/meminfo").read_text()
    assert f"{facts.mem_total_kb} kB" in meminfo.splitlines()[0]
    assert facts.cpuinfo.startswith(b"processor") and facts.cpuinfo.count(b"processor\t") == 1
    assert facts.online_cpus == os.cpu_count()
    kernel = SimpleNamespace(facts=facts)
    assert facts_of(kernel) is facts
    assert isinstance(facts_of(SimpleNamespace()), HostFacts)


def test_the_boot_id_is_a_version_4_uuid() -> None:
    made = random_uuid()
    assert len(made) == 36 and made[14:15] == b"4" and made[19:20] in b"89ab" and made != random_uuid()


def test_each_registered_file_system_type_can_be_made(tmp_path: Path) -> None:
    rig = KernelRig(tmp_path)
    rig.kernel.store = Store(None)
    register_types(rig.kernel)
    for name in (b"proc", b"sysfs", b"tmpfs", b"devtmpfs", b"mqueue", b"cgroup2", b"devpts"):
        assert registry.create(name, name, b"", 0).root is not None, name
    rig.close()
