"""The six hooks of the runtime-spec: argv exactly `args`, state JSON on stdin, a time limit, runc's
error texts.

Called by lifecycle: prestart and createRuntime once init exists (its network namespace can be furnished
then), createContainer after them in that namespace with the rootfs as its directory, startContainer inside
the sandbox just before the program, poststart and poststop on the host.
"""

from collections.abc import Callable
from typing import Any

from runsc_py import interruption
from runsc_py.errors import RuntimeFault, errno_text
from runsc_py.processes import go_process_state

CREATE_HOOKS = ("prestart", "createRuntime", "createContainer")


def to_record(hooks: Any) -> dict[str, list[dict[str, Any]]]:
    """The typed hooks as plain values for the state file; stages without hooks are left out."""
    if hooks is None:
        return {}
    stages = {
        "prestart": hooks.prestart,
        "createRuntime": hooks.create_runtime,
        "createContainer": hooks.create_container,
        "startContainer": hooks.start_container,
        "poststart": hooks.poststart,
        "poststop": hooks.poststop,
    }
    return {
        stage: [{"path": h.path, "args": h.args, "env": h.env, "timeout": h.timeout} for h in found]
        for stage, found in stages.items()
        if found
    }


def run(hooks: list[dict[str, Any]], state: dict[str, Any], cwd: str, enter: Callable[[], None] | None = None) -> None:
    """Run a stage's hooks in order; the first that fails ends it with a RuntimeFault."""
    for index, hook in enumerate(hooks):
        try:
            _run_one(hook, state, cwd, enter)
        except RuntimeFault as fault:
            raise RuntimeFault(f"error running hook #{index}: {fault}") from None


def run_all(hooks: list[dict[str, Any]], state: dict[str, Any], cwd: str, warn: Callable[[str], None]) -> None:
    """Run every hook; a failure is only warned of (poststop)."""
    for index, hook in enumerate(hooks):
        try:
            _run_one(hook, state, cwd, None)
        except RuntimeFault as fault:
            warn(f"error running poststop hook #{index}: {fault}")


def state_json(state: dict[str, Any]) -> bytes:
    """What a hook reads on stdin: the spec's own fields."""
    import json

    names = ("ociVersion", "id", "status", "pid", "bundle", "annotations")
    return json.dumps({name: state[name] for name in names if name in state}).encode()


def _run_one(hook: dict[str, Any], state: dict[str, Any], cwd: str, enter: Callable[[], None] | None) -> None:

    import subprocess

    argv = hook["args"] or [hook["path"]]
    environment = dict(entry.partition("=")[::2] for entry in hook["env"] or ())
    timeout = hook["timeout"]
    interruption.hold()
    try:
        child = subprocess.Popen(
            argv,
            executable=hook["path"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            cwd=cwd or "/",
            close_fds=True,
            preexec_fn=enter,  # noqa: PLW1509
        )
    except OSError as error:
        raise RuntimeFault(f"fork/exec {hook['path']}: {errno_text(error)}") from None
    except subprocess.SubprocessError as error:
        raise RuntimeFault(f"fork/exec {hook['path']}: {error}") from None
    try:
        interruption.release()
        out, err = child.communicate(state_json(state), timeout=timeout)
    except BaseException as error:
        _abandon(child)
        if isinstance(error, subprocess.TimeoutExpired):
            raise RuntimeFault(f"hook ran past specified timeout of {timeout:.1f}s") from None
        raise
    if child.returncode:
        status = -child.returncode if child.returncode < 0 else child.returncode << 8
        raise RuntimeFault(
            f"error running hook: {go_process_state(status)}, stdout: {_text(out)}, stderr: {_text(err)}"
        )


def _abandon(child: Any) -> None:
    """Kill a hook. A grandchild may still hold the pipes: its time is up too, so they are not read on."""
    child.kill()
    child.wait()
    for pipe in (child.stdin, child.stdout, child.stderr):
        try:
            pipe.close()
        except OSError:
            pass


def _text(data: bytes) -> str:
    return data[:4096].decode("utf-8", "replace")


def enter_network(descriptor: int) -> Callable[[], None]:
    """For a hook's child: join the network namespace that `descriptor` (of /proc/PID/ns/net) is."""

    def enter() -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, 0x40000000):
            raise OSError(ctypes.get_errno(), "setns")

    return enter
