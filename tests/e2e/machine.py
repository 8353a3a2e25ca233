"""A machine apart, for clients that think they have one for themselves: bridges, firewall rules, /run, /var/lib.

    with Machine(folder) as machine:
        machine.start(["dockerd", …]); machine.run(["podman", …])
        with machine.network(): socket.create_connection(("127.0.0.1", 8080))

It is a network and a mount namespace, held by one process: what clients make in them goes when it does, and nothing of
it shows outside. The test's folder is the same inside and outside.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests import sandboxes

CLONE_NEWNET = 0x40000000
SETUP = "ip link set lo up && mount -t tmpfs run /run && mount -t tmpfs lib /var/lib && mkdir -m 755 /run/lock && echo ready && exec cat"


def missing(*tools: str) -> str:
    """Why tests with these programs can't run here; empty if they can."""
    names = [name for name in ("unshare", "nsenter", "ip", *tools) if not shutil.which(name, path=sandboxes.PATH)]
    return f"not installed: {' '.join(names)}" if names else ""


class Machine:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.daemons: list[subprocess.Popen[bytes]] = []
        self.environment = {"PATH": sandboxes.PATH, "HOME": str(folder)}
        self.holder = subprocess.Popen(
            ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", SETUP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self.environment,
        )
        assert self.holder.stdout and self.holder.stdout.readline() == b"ready\n", "no namespaces"

    def argv(self, argv: Sequence[str | Path]) -> list[str]:
        """The command on this side that runs `argv` inside."""
        return [str(part) for part in ("nsenter", "--target", self.holder.pid, "--mount", "--net", "--", *argv)]

    def run(self, argv: Sequence[str | Path], stdin: bytes = b"", timeout: float = 60) -> sandboxes.Ran:
        return sandboxes.finished(self.argv(argv), stdin, timeout, env=self.environment)

    def start(self, argv: Sequence[str | Path], ready: Callable[[], bool]) -> subprocess.Popen[bytes]:
        """A daemon, which is waited for; it ends with the machine. What it says goes to a file with its name."""
        log = self.folder / f"{Path(argv[0]).name}.log"
        with open(log, "wb") as output:
            daemon = subprocess.Popen(
                self.argv(argv), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.environment
            )
        self.daemons.append(daemon)
        until(ready, lambda: (daemon.poll() is None and log.read_text()) or f"ended: {log.read_text()}", 30)
        return daemon

    @contextlib.contextmanager
    def network(self) -> Iterator[None]:
        """For the time being this thread is in the machine's network: its new sockets are."""
        libc = ctypes.CDLL(None, use_errno=True)
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        inside = os.open(f"/proc/{self.holder.pid}/ns/net", os.O_RDONLY)
        try:
            assert libc.setns(inside, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            yield
        finally:
            assert libc.setns(outside, CLONE_NEWNET) == 0
            os.close(inside)
            os.close(outside)

    def mounts(self) -> set[str]:
        """The mount points inside."""
        return {line.split()[4] for line in Path(f"/proc/{self.holder.pid}/mountinfo").read_text().splitlines()}

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        for daemon in self.daemons:
            daemon.terminate()
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        assert self.holder.stdin and self.holder.stdout
        self.holder.stdin.close()
        self.holder.wait(10)
        self.holder.stdout.close()


def until(fact: Callable[[], bool], told: Callable[[], object] = lambda: "", patience_s: float = 20) -> None:
    """Wait for a fact; `told` says more when it does not come about."""
    deadline = time.monotonic() + patience_s
    while not fact():
        assert time.monotonic() < deadline, f"it did not come about: {told()}"
        time.sleep(0.02)


def limits_of(pid: str, *files: tuple[str, str]) -> list[str]:
    """What the host's files say of the cgroups of a process: (controller, file) by their names in version 1."""
    rows = [row.split(":") for row in Path(f"/proc/{pid}/cgroup").read_text().split()]
    groups = {controller: row[2] for row in rows for controller in row[1].split(",")}
    if "memory" not in groups:
        pytest.skip("the host has cgroup v2")
    return [Path(f"/sys/fs/cgroup/{kind}{groups[kind]}/{kind}.{file}").read_text().strip() for kind, file in files]
