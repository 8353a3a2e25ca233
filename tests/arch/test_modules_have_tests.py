"""Each module is tested by name: some test file imports it, or says in its head which modules it covers."""

from __future__ import annotations

import functools
import re

import pytest

from tests.arch import source

TESTS = source.REPOSITORY / "tests"
# Modules with nothing of their own to test; one that made what every test imports.
EXEMPT = ("runsc_py.__main__", "native._filters", "native.build")


@functools.cache
def named_in_tests() -> frozenset[str]:
    """Imported modules, and dotted names after `Covers:` in a test's docstring."""
    found: set[str] = set()
    for path in TESTS.rglob("*.py"):
        for entry in source.imports(path):
            found.add(entry.module)
        for line in re.findall(r"^Covers: (.*)$", path.read_text(), re.M):
            found.update(re.findall(r"[\w.]+\w", line))
    return frozenset(found)


@pytest.mark.parametrize("module", source.modules())
def test_module_has_a_test(module: str) -> None:
    path = source.modules()[module]
    if module in EXEMPT or (path.name == "__init__.py" and not source.tree(path).body[1:]):
        return
    assert module in named_in_tests(), f"no test imports {module} or names it after `Covers:`"
