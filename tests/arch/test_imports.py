"""Who may import whom; what may not be imported when the sentry and the gofer start."""

from __future__ import annotations

import pytest

from tests.arch import source

# A package -> what of the others it may import. Its own modules are allowed unless a layer says no.
MAY_IMPORT = {
    # the table only to print it (`runsc-py syscalls`), the exports only as the type the gofer is started with
    "runsc_py": ("runsc_py", "sentry.boot", "sentry.control", "sentry.syscalls.table", "gofer.boot", "gofer.exports"),
    "sentry": ("sentry", "gofer.client", "gofer.protocol", "native"),
    "gofer": ("gofer", "native"),
    "native": ("native",),
}

# Inside the sentry: a layer may import those below it, never above.
LAYERS = [
    ("sentry.syscalls",),
    ("sentry.kernel", "sentry.vfs", "sentry.fs", "sentry.net", "sentry.mm", "sentry.ipc"),
    ("sentry.platform",),
    # the words a declaration states its argument checks in; the filter is compiled from them
    ("sentry.abi", "sentry.errors", "sentry.syscalls.constraint"),
]

# Each costs the start-up of two processes some milliseconds; import it where it is used.
SLOW_AT_START = ("asyncio", "dataclasses", "logging", "json", "enum", "subprocess", "typing_extensions", "inspect")


def within(name: str, parents: tuple[str, ...]) -> bool:
    return any(name == parent or name.startswith(parent + ".") for parent in parents)


@pytest.mark.parametrize("module", source.modules())
def test_packages_import_only_what_they_may(module: str) -> None:
    allowed = MAY_IMPORT[module.partition(".")[0]]
    wrong = [
        f"line {entry.line}: {entry.module}"
        for entry in source.imports(source.modules()[module])
        if entry.module.partition(".")[0] in source.PACKAGES and not within(entry.module, allowed)
    ]
    assert not wrong, f"{module} imports {wrong}; it may import {', '.join(allowed)}"


def layer_of(module: str) -> int | None:
    found = [level for level, names in enumerate(LAYERS) if within(module, names)]
    return max(found, default=None)


@pytest.mark.parametrize("module", [name for name in source.modules() if layer_of(name) is not None])
def test_layers_of_the_sentry_point_down(module: str) -> None:
    level = layer_of(module)
    assert level is not None
    wrong = []
    for entry in source.imports(source.modules()[module]):
        other = layer_of(entry.module)
        if not entry.typing_only and other is not None and other < level:
            wrong.append(f"line {entry.line}: {entry.module}")
    assert not wrong, f"{module} imports upwards: {wrong}"


@pytest.mark.parametrize("module", [name for name in source.modules() if name.startswith(("sentry", "gofer"))])
def test_nothing_slow_is_imported_at_start(module: str) -> None:
    wrong = [
        f"line {entry.line}: {entry.module}"
        for entry in source.imports(source.modules()[module])
        if entry.at_import_time and not entry.typing_only and within(entry.module, SLOW_AT_START)
    ]
    assert not wrong, f"{module} imports when it is loaded: {wrong}"
