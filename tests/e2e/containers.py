"""Driving an OCI runtime's verbs by hand: runsc-py, and runc to judge the tests themselves."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from tests import bundles, leaks, sandboxes
from tests.sandboxes import Ran


class Containers:
    """A runtime command with its own state directory, and the bundles of a test."""

    def __init__(self, command: list[str], folder: Path, root: Path) -> None:
        self.command = command
        self.folder = folder
        self.root = root
        self.own_options: list[str] = []  # global ones, that runc does not have
        self.is_runc = Path(command[0]).name == "runc"

    def argv(self, *args: str | Path) -> list[str]:
        options = ["--root", self.folder / "state", "--log", self.folder / "log.json", "--log-format", "json"]
        return [*self.command, *map(str, options), *self.own_options, *map(str, args)]

    def __call__(self, *args: str | Path, stdin: bytes = b"", timeout: float = 30) -> Ran:
        return sandboxes.finished(self.argv(*args), stdin, timeout, env=self.environment())

    def environment(self) -> dict[str, str]:
        return {"PATH": sandboxes.PATH, "RUNSC_PY_PANIC_ON_BUG": "1"}

    def bundle(self, script: str | list[str], name: str = "bundle", **changes: Any) -> Path:
        args = ["/bin/sh", "-c", script] if isinstance(script, str) else script
        # The default is the id, which another run of these tests on this machine uses too.
        linux = {"cgroupsPath": f"/runsc-py-test-{os.getpid()}-{name}", **changes.pop("linux", {})}
        changes["linux"] = linux
        return bundles.make(self.folder / name, self.root, args, **changes)

    def run(self, script: str | list[str], *options: str, name: str = "c", stdin: bytes = b"", **changes: Any) -> Ran:
        bundle = self.bundle(script, f"bundle-{name}", **changes)
        return self("run", "--bundle", bundle, *options, name, stdin=stdin)

    def create(self, script: str | list[str], *options: str | Path, name: str = "c", **changes: Any) -> Container:
        """`create` with the output in a file, as a pipe would be held by the container."""
        bundle = self.bundle(script, f"bundle-{name}", **changes)
        container = Container(self, name)
        arguments = self.argv("create", "--bundle", bundle, "--pid-file", container.pid_file, *options, name)
        with open(container.output, "wb") as output:
            made = subprocess.run(
                arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=self.environment(), timeout=30
            )
        assert made.returncode == 0, container.text()
        container.pid = int(container.pid_file.read_text())
        return container

    def log(self) -> list[dict[str, Any]]:
        path = self.folder / "log.json"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def last_error(self) -> str:
        """What a shim shows: the last record of level error."""
        return next((record["msg"] for record in reversed(self.log()) if record["level"] == "error"), "")

    def clean(self) -> None:
        with contextlib.suppress(AssertionError):
            for name in self("list", "-q").stdout.split():
                self("delete", "--force", name)


class Container:
    def __init__(self, runtime: Containers, name: str) -> None:
        self.runtime = runtime
        self.name = name
        self.pid = -1
        self.pid_file = runtime.folder / f"{name}.pid"
        self.output = runtime.folder / f"{name}.out"

    def __call__(self, verb: str, *args: str | Path, stdin: bytes = b"") -> Ran:
        """A verb whose last or only positional argument is the id."""
        return self.runtime(verb, self.name, *args, stdin=stdin)

    def start(self) -> Container:
        started = self("start")
        assert started.code == 0, started
        return self

    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def state(self) -> dict[str, Any]:
        shown = self("state")
        assert shown.code == 0, shown
        return json.loads(shown.stdout)

    def status(self) -> str:
        return str(self.state()["status"])

    def says(self, text: str, timeout: float = 20) -> None:
        """Wait until the container has printed `text`."""
        deadline = time.monotonic() + timeout
        while text not in self.text():
            assert time.monotonic() < deadline, f"no {text!r} in {self.text()!r}"
            time.sleep(0.01)

    def reaped(self) -> None:
        """Whatever became of it: no zombie of it is left to us."""
        with contextlib.suppress(ChildProcessError):
            self.exit_code()

    def exit_code(self, timeout: float = 20) -> int:
        """Wait for the init pid, which is our child since `create` ended: its status is the container's."""
        deadline = time.monotonic() + timeout
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            assert time.monotonic() < deadline, f"still running: {self.text()!r}"
            # An exec's process that came to us must be reaped before its namespace's init can be.
            leaks.reap_orphans(frozenset([self.pid]))
            time.sleep(0.01)
