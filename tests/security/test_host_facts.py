"""Nothing of the host shows in the guest's /proc, /sys, /dev, mounts, environment or names: all of it is read and searched."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import bundles, sandboxes

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

READ_ALL = r"""
find /proc /sys -xdev 2>/dev/null | while read -r path; do
    case $path in
        */mem|*/kmsg|*/pagemap|*/clear_refs) continue ;;
    esac
    if [ -L "$path" ]; then echo "$path -> $(readlink "$path")"
    elif [ -f "$path" ]; then echo "== $path"; timeout 2 head -c 20000 "$path" 2>/dev/null | tr '\0' '\n'; fi
done
ls -lR /dev; mount; env; df; dmesg; uname -a; ip a; ip route; hostname; id; ps
"""


def _words(path: str, pattern: str) -> set[str]:
    try:
        return set(re.findall(pattern, Path(path).read_text(errors="replace"), re.M))
    except OSError:
        return set()


def host_facts(*folders: Path) -> set[str]:
    """Strings that only somebody who saw the host could say."""
    system = os.uname()
    facts = {system.release, system.version, f" {system.nodename} ", str(sandboxes.REPOSITORY), *map(str, folders)}
    facts |= _words("/proc/sys/kernel/random/boot_id", r"\S+")
    facts |= _words("/etc/machine-id", r"\S{16,}")
    facts |= {word for word in _words("/proc/cmdline", r"\S+") if len(word) > 6}
    facts |= {word for word in _words("/proc/partitions", r"\d ([a-z]+\d*)$") if len(word) > 2}
    facts |= _words("/proc/self/mountinfo", r"- \S+ (/\S{3,}) ")
    facts |= _words("/proc/self/cgroup", r"::(/.{3,})$")
    for interface in Path("/sys/class/net").iterdir():
        facts |= _words(str(interface / "address"), r"(?!00:00:00:00:00:00)[0-9a-f:]{17}")
    addresses = subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True, check=False).stdout
    facts |= set(re.findall(r"inet6? (?!127\.|::1)([0-9a-f.:]+)/", addresses))
    return facts - {""}


def test_nothing_of_the_host_shows(busybox_root: Path, runtime: sandboxes.Runtime, tmp_path: Path) -> None:
    environment = {**runtime.environment(), "SECRET_OF_THE_HOST": "surely-not-seen"}
    argv = runtime.do_argv(["sh", "-c", READ_ALL], busybox_root)
    ran = sandboxes.finished(argv, timeout=100, env=environment)
    assert "== /proc/1/status" in ran.stdout and "== /proc/1/mounts" in ran.stdout, ran.stdout[-2000:]
    facts = host_facts(busybox_root, runtime.state, tmp_path) | {"surely-not-seen", "SECRET_OF_THE_HOST"}
    assert len(facts) > 5
    seen = {fact: line for fact in facts for line in ran.stdout.splitlines() if fact in f" {line} "}
    assert not seen


def test_no_host_pid_shows(busybox_root: Path, runtime: sandboxes.Runtime) -> None:
    """Whatever of /proc names processes names the guest's own few."""
    script = (
        "sleep 5 & cat /proc/self/status /proc/1/status | grep -E '^(Pid|PPid|Tgid|TracerPid|NS.*|.*:)' | "
        "grep -E '^(Pid|PPid|Tgid|TracerPid|NSpid|NStgid|NSpgid|NSsid)'; cut -d' ' -f1,4-8 /proc/self/stat; "
        "cat /proc/sys/kernel/ns_last_pid /proc/loadavg 2>/dev/null; ls /proc | grep '^[0-9]'; kill %1"
    )
    ran = runtime.do(["sh", "-c", script], busybox_root)
    numbers = [int(word) for line in ran.stdout.splitlines() if "." not in line for word in re.findall(r"\d+", line)]
    assert numbers and max(numbers) < 100, ran


def test_shared_folders_show_no_host_path(busybox_root: Path, runtime: sandboxes.Runtime, tmp_path: Path) -> None:
    """A bind mount's source, and the path of a descriptor that was opened on the host's side."""
    shared = tmp_path / "a-folder-of-the-host"
    shared.mkdir()
    (shared / "file").write_text("content")
    (shared / "file").chmod(0o666)
    for folder in (shared, *shared.parents):
        if str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    script = "cat /proc/self/mountinfo /proc/mounts; exec 5</mnt/file; ls -l /proc/self/fd; cat /proc/self/fdinfo/5; realpath /mnt/file"
    bundle = bundles.make(
        tmp_path / "bundle", busybox_root, ["sh", "-c", script], mounts=[bundles.bind(shared, "/mnt", "ro")]
    )
    ran = runtime("run", "--bundle", bundle, "facts")
    assert "/mnt/file" in ran.stdout, ran
    assert shared.name not in ran.stdout
