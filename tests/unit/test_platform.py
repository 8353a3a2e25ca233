"""sentry/platform: what base.py asks of a platform is what seccomp.py has, and what the tests' own stands in for."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from native import lib
from sentry.platform import base, seccomp
from tests.unit.kernel_rig import FakePlatform

OPERATIONS = [name for name, value in vars(base.Platform).items() if inspect.isfunction(value) and name[0] != "_"]


@pytest.mark.parametrize("name", OPERATIONS)
def test_seccomp_has_the_operation_as_a_function_of_the_c_core(name: str) -> None:
    made = seccomp.make()
    operation: Any = getattr(made, name)
    assert callable(operation)
    assert operation in [getattr(lib, each) for each in dir(lib) if each.startswith("nc_")]


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_platform_of_the_tests_takes_the_same_arguments(name: str) -> None:
    wanted = list(inspect.signature(getattr(base.Platform, name)).parameters)
    assert list(inspect.signature(getattr(FakePlatform, name)).parameters) == wanted


def test_nothing_is_there_that_nobody_asks_for() -> None:
    assert {name for name in vars(seccomp.SeccompPlatform) if name[0] != "_"} == {*OPERATIONS, "name"}
    assert seccomp.make().name == "seccomp"
