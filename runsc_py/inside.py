"""Programs of ours that run inside a container: the startContainer hooks."""

import os
from typing import Any

from runsc_py import hooks, lifecycle, spec
from runsc_py.errors import RuntimeFault
from runsc_py.logs import Log
from runsc_py.processes import Identity, go_process_state
from runsc_py.state import Container
from runsc_py.typed import convert


def run_hook(container: Container, hook: dict[str, Any], log: Log) -> None:
    """Run a hook as a task of the sandbox, with the state JSON on its stdin, and wait for it."""
    process = convert(container.process_defaults, spec.Process, "process")
    process.args = [hook["path"], *(hook["args"] or [""])[1:]]
    process.env, process.cwd, process.terminal = hook["env"] or [], "/", False
    read_end, write_end = os.pipe()
    os.write(write_end, hooks.state_json(container.describe("created")))  # far less than a pipe holds
    os.close(write_end)
    null = os.open("/dev/null", os.O_RDWR)
    try:
        connection, pid = lifecycle.execute(container, process, [read_end, null, null], [0, 1, 2], log)
    finally:
        os.close(read_end)
        os.close(null)
    from sentry.control import ControlGone

    timeout = hook["timeout"]
    with connection:
        identity = Identity(pid)
        try:
            answer = connection.call("wait", timeout=timeout, pid=pid)
        except ControlGone:
            if identity.signal(9):
                raise RuntimeFault(f"hook ran past specified timeout of {timeout or 0:.1f}s") from None
            raise
    if status := int(answer.get("status", 0)):
        raise RuntimeFault(f"error running hook: {go_process_state(status)}, stdout: , stderr: ")
