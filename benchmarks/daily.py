"""Runs inside a root: makes a tree of small files and times programs that work on it.

    python3 -c TEXT-OF-THIS-FILE folder files      # prints `name seconds` a line

Each step leaves what the next needs. Only the programs are timed, not what is prepared for them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time

PER_FOLDER = 20
LINES = "".join(f"line {number} of a file with some text in it\n" for number in range(40))
MODULE = "".join(f"def f{number}(x):\n    return x + {number}\n" for number in range(20))
SOURCE = "#include <stdio.h>\n#include <stdlib.h>\n#include <sys/stat.h>\nint f(void) { return 1; }\n"
GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@b",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@b",
}
ENVIRONMENT = {**os.environ, **GIT}


def main(folder: str, files: int) -> None:
    os.makedirs(folder)
    os.chdir(folder)
    make_tree(files)
    sh("tar cf tree.tar tree; mkdir out")
    timed("tar x", "tar xf tree.tar -C out")
    timed("cp -a", "cp -a tree copy")
    timed("find -size", "find tree -size +100k")
    timed("du", "du -s tree")
    timed("grep -r", "grep -r needle tree || true")
    timed("chmod -R", "chmod -R u+x copy")
    timed("rm -rf", "rm -rf copy")
    timed("git add, commit", "cd tree; git init -q .; git add -A; git commit -qm one")
    timed("git status", "cd tree; git status")
    timed("git clone", "git clone -q --no-hardlinks tree clone")
    make_packages(files // PER_FOLDER)
    names = " ".join(f"pkg{number}" for number in range(files // PER_FOLDER))
    timed("python import, new", f"cd packages; python3 -c 'import sys; [*map(__import__, sys.argv[1:])]' {names}")
    timed("python import", f"cd packages; python3 -c 'import sys; [*map(__import__, sys.argv[1:])]' {names}")
    write("unit.c", SOURCE)
    timed("gcc -c, 5 times", "for n in 1 2 3 4 5; do gcc -c unit.c -o unit$n.o; done")


def make_tree(files: int) -> None:
    for number in range(files // PER_FOLDER):
        folder = f"tree/{number // 10}/{number % 10}"
        os.makedirs(folder)
        for name in range(PER_FOLDER):
            write(f"{folder}/file{name:03}.txt", f"{number} {name}\n{LINES}")
        os.symlink("file001.txt", f"{folder}/link")


def make_packages(count: int) -> None:
    for number in range(count):
        os.makedirs(f"packages/pkg{number}")
        write(f"packages/pkg{number}/__init__.py", "from . import a, b, c\n")
        for module in "abc":
            write(f"packages/pkg{number}/{module}.py", MODULE)


def write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def timed(name: str, script: str) -> None:
    begun = time.monotonic()
    sh(script)
    print(f"{name}\t{time.monotonic() - begun:.4f}", flush=True)


def sh(script: str) -> None:
    subprocess.run(["/bin/sh", "-ec", script], check=True, env=ENVIRONMENT, stdout=subprocess.DEVNULL)


main(sys.argv[1], int(sys.argv[2]))
