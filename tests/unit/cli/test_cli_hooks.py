"""Hooks: what they are given, and how their failures read."""

import json
import sys

import pytest

from runsc_py import hooks, spec
from runsc_py.errors import RuntimeFault

STATE = {"ociVersion": "1.0.2", "id": "c", "pid": 7, "status": "creating", "bundle": "/b", "rootfs": "/r"}


def shell(script, **fields):
    return {"path": "/bin/sh", "args": ["sh", "-c", script], "env": None, "timeout": None, **fields}


def test_a_hook_gets_the_state_its_arguments_and_only_its_environment(tmp_path):
    script = f"cat > {tmp_path}/state; echo $0 $1 $A $HOME > {tmp_path}/rest"
    hooks.run([shell(script, args=["sh", "-c", script, "zero", "one"], env=["A=b"])], STATE, str(tmp_path))
    assert json.loads((tmp_path / "state").read_text()) == {
        "ociVersion": "1.0.2", "id": "c", "pid": 7, "status": "creating", "bundle": "/b",
    }  # fmt: skip
    assert (tmp_path / "rest").read_text() == "zero one b\n"


def test_the_first_failure_ends_the_stage(tmp_path):
    with pytest.raises(RuntimeFault) as caught:
        hooks.run(
            [shell("true"), shell("echo out; echo err >&2; exit 3"), shell(f"touch {tmp_path}/x")], STATE, "/"
        )
    assert str(caught.value) == (
        "error running hook #1: error running hook: exit status 3, stdout: out\n, stderr: err\n"
    )
    assert not (tmp_path / "x").exists()


def test_a_hook_that_is_killed():
    with pytest.raises(RuntimeFault, match=r"signal: killed"):
        hooks.run([shell("kill -9 $$")], STATE, "/")


@pytest.mark.slow
def test_a_hook_that_runs_too_long():
    with pytest.raises(RuntimeFault, match=r"hook ran past specified timeout of 1.0s"):
        hooks.run([shell("sleep 10", timeout=1)], STATE, "/")


def test_a_hook_that_is_missing():
    with pytest.raises(RuntimeFault, match=r"fork/exec /nope: no such file or directory"):
        hooks.run([shell("", path="/nope")], STATE, "/")


def test_a_hook_that_does_not_read_its_stdin():
    hooks.run([{"path": sys.executable, "args": ["x", "-c", ""], "env": None, "timeout": None}], STATE, "/")


def test_all_poststop_hooks_run_and_failures_are_warned_of(tmp_path):
    said = []
    hooks.run_all([shell("exit 1"), shell(f"touch {tmp_path}/x")], STATE, "/", said.append)
    assert len(said) == 1
    assert (tmp_path / "x").exists()


def test_the_record_keeps_the_stages_that_have_hooks():
    record = hooks.to_record(spec.Hooks(prestart=[spec.Hook("/a", ["a"])], poststop=[]))
    assert record == {"prestart": [{"path": "/a", "args": ["a"], "env": None, "timeout": None}]}
    assert hooks.to_record(None) == {}
