"""Calls that are not made, each with its reason."""

from __future__ import annotations

import ast

import pytest

from tests.arch import source

# A call -> (packages it is banned in, the reason).
BANNED = {
    "time.sleep": (("sentry", "gofer"), "the loop would stop for everybody: await a deadline"),
    "os.system": (("runsc_py", "sentry", "gofer"), "a shell reads what we pass: give an argument list"),
    "os.popen": (("runsc_py", "sentry", "gofer"), "a shell reads what we pass: give an argument list"),
    "print": (("sentry", "gofer"), "their stdout is the container's: use the log"),
    "input": (("runsc_py", "sentry", "gofer"), "stdin is the container's"),
    "eval": (("runsc_py", "sentry", "gofer"), "text is not code"),
    "pickle.loads": (("runsc_py", "sentry", "gofer"), "a message that runs code; use the typed protocol"),
    "pickle.load": (("runsc_py", "sentry", "gofer"), "a message that runs code; use the typed protocol"),
    "inspect.signature": (("sentry",), "12 microseconds a call: compile a decoder once"),
    "os.chdir": (("sentry",), "one process serves many tasks: a walk starts from a dentry"),
    "os.umask": (("sentry",), "the umask is a task's, and applied by the vfs"),
    "threading.Thread": (("sentry", "gofer"), "the kernel has one thread and no locks; waiting is a coroutine"),
}

# Where one is made after all, and why it may be.
ALLOWED = {
    ("sentry.control", "time.sleep"): "its client half runs in the command, which has nothing else to do",
    ("sentry.syscalls.decode", "eval"): "compiles a decoder, once, from our own declarations",
    ("sentry.syscalls.constraint", "eval"): "compiles a check, once, from our own declarations",
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


@pytest.mark.parametrize("module", source.modules())
def test_banned_calls(module: str) -> None:
    package = module.partition(".")[0]
    wrong = []
    for node in ast.walk(source.tree(source.modules()[module])):
        if isinstance(node, ast.Call):
            packages, reason = BANNED.get(dotted(node.func), ((), ""))
            if package in packages and (module, dotted(node.func)) not in ALLOWED:
                wrong.append(f"line {node.lineno}: {dotted(node.func)}: {reason}")
    assert not wrong, f"{module}: {wrong}"


@pytest.mark.parametrize("module", [name for name in source.modules() if name.startswith("sentry.")])
def test_base_exceptions_are_not_caught(module: str) -> None:
    """`Interrupted` is a BaseException so that no handler swallows a signal. The scheduler alone may look."""
    if module in ("sentry.kernel.sched", "sentry.boot"):
        return
    wrong = []
    for node in ast.walk(source.tree(source.modules()[module])):
        if isinstance(node, ast.ExceptHandler):
            name = dotted(node.type) if node.type else "everything"
            reraises = any(isinstance(part, ast.Raise) and part.exc is None for part in ast.walk(node))
            if name in ("everything", "BaseException") and not reraises:
                wrong.append(f"line {node.lineno}: except {name}")
    assert not wrong, f"{module}: {wrong}"
