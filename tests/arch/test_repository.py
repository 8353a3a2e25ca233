"""What the repository's text holds: no path of a developer's machine, no package host, no stray file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.arch import source

# Assembled from parts, so that this file does not hold them.
FOREIGN = [
    "/" + "work/",
    "/tmp/" + "work",
    "/" + "root/.ca" + "che",
    "/" + "root/.py",
    "py" + "env/",
    "deb." + "debian.org",
    "snapshot." + "debian",
    "security." + "debian.org",
    "pypi" + ".org",
    "files." + "pythonhosted",
]
BINARY = (".png", ".tar", ".gz", ".so", ".o")


def texts() -> list[Path]:
    return [path for path in source.tracked_files() if not path.name.endswith(BINARY)]


@pytest.mark.parametrize("foreign", FOREIGN)
def test_no_path_of_a_machine(foreign: str) -> None:
    found = [str(path.relative_to(source.REPOSITORY)) for path in texts() if foreign in path.read_text(errors="replace")]
    assert not found, f"{foreign!r} in {found}"


def test_no_build_product_is_tracked() -> None:
    tracked = [str(path.relative_to(source.REPOSITORY)) for path in source.tracked_files()]
    wrong = [name for name in tracked if re.search(r"\.(so|o|pyc|egg-info|log)$|/build/|__pycache__", name)]
    assert not wrong


def test_each_python_file_says_what_it_is_for() -> None:
    """A docstring or a comment opens every module that holds code."""
    wrong = []
    for path in source.tracked_files():
        if path.suffix == ".py" and (text := path.read_text().strip()) and not text.startswith(('"""', "#", "'''", 'r"""')):
            wrong.append(str(path.relative_to(source.REPOSITORY)))
    assert not wrong


def test_files_end_with_one_newline() -> None:
    wrong = []
    for path in texts():
        if path.suffix in (".py", ".c", ".h", ".md", ".sh", ".toml"):
            text = path.read_text(errors="replace")
            if text and (not text.endswith("\n") or text.endswith("\n\n")):
                wrong.append(str(path.relative_to(source.REPOSITORY)))
    assert not wrong
