"""Compiles the C core's objects with the address and undefined-behaviour sanitizers; runs the C tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NATIVE = HERE.parent.parent / "native"
SOURCES = ("ready", "iter", "reg", "pipe", "eventfd", "inet", "sock", "file", "fdt", "fast", "mem", "task", "copy", "names", "walk", "paths", "open", "xattr")
FLAGS = ["-std=gnu11", "-D_GNU_SOURCE", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"]
FLAGS += ["-Wno-missing-field-initializers", "-fno-sanitize-recover=all", "-fsanitize=address,undefined"]

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")]


def compiled(name: str, folder: Path) -> Path:
    program = folder / name
    sources = [HERE / f"{name}.c", HERE / "harness.c", *(NATIVE / "src" / f"{each}.c" for each in SOURCES)]
    command = ["gcc", *FLAGS, "-I", NATIVE / "include", "-I", HERE, "-o", program, *sources]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return program


def test_objects(tmp_path: Path) -> None:
    done = subprocess.run([compiled("objects", tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_streams(tmp_path: Path) -> None:
    done = subprocess.run([compiled("streams", tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_names(tmp_path: Path) -> None:
    done = subprocess.run([compiled("names", tmp_path)], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


def test_regular_files_answer_as_linux(tmp_path: Path) -> None:
    program = compiled("same_as_linux", tmp_path)
    for seed in range(1, 6):
        done = subprocess.run([program, str(seed), "5000"], capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout) == (0, "ok\n"), f"seed {seed}: {done.stderr}"
