"""The root file systems the tests run programs in: a static busybox and a Debian.

`python -m tests.roots` makes those that are missing, with progress on stderr. They are kept outside the
repository, in the user's cache folder, under a name that holds a hash of their recipe: change the recipe
and a new root is made. `RUNSC_PY_ROOTS` names another folder. A root that is there is complete: each is
made under another name and renamed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

DEBIAN_PACKAGES = (
    "bash bc binutils bsdextrautils coreutils diffutils file findutils gawk gcc git grep gzip hostname iproute2 less "
    "libc6-dev make ncurses-bin netcat-openbsd patch perl procps psmisc python3 python3-venv sed sqlite3 tar time "
    "util-linux xz-utils"
).split()
SUITE = "bookworm"

PASSWD = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/:/bin/false\nuser:x:1000:1000:user:/home/user:/bin/sh\n"
GROUP = "root:x:0:\ndaemon:x:1:\nuser:x:1000:\n"
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"


class MissingTool(Exception):
    """A root can't be made here; says what is missing."""


def say(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)


def roots_folder() -> Path:
    if chosen := os.environ.get("RUNSC_PY_ROOTS"):
        return Path(chosen)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "runsc-py" / "roots"


def busybox_root() -> Path:
    """A root with a static busybox, all its applets, /etc with two users, and empty mount points."""
    program = _static_busybox()
    recipe = [program.read_bytes(), PASSWD, GROUP, HOSTS, "layout 2"]
    return _made("busybox", recipe, lambda root: _fill_busybox(root, program))


def debian_root() -> Path:
    """A Debian with the compilers, interpreters and tools of the daily set."""
    return _made("debian", [SUITE, *DEBIAN_PACKAGES, "layout 1"], _fill_debian)


def existing_debian_root() -> Path | None:
    """The Debian root if it is made already: tests skip rather than spend minutes on it."""
    path = _path("debian", [SUITE, *DEBIAN_PACKAGES, "layout 1"])
    return path if path.is_dir() else None


def _path(name: str, recipe: list[str | bytes]) -> Path:
    digest = hashlib.sha256()
    for part in recipe:
        digest.update(part if isinstance(part, bytes) else part.encode())
        digest.update(b"\0")
    return roots_folder() / f"{name}-{digest.hexdigest()[:12]}"


def _made(name: str, recipe: list[str | bytes], fill: Callable[[Path], None]) -> Path:
    final = _path(name, recipe)
    if final.is_dir():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=final.parent))
    try:
        partial.chmod(0o755)
        fill(partial)
        partial.rename(final)
    except BaseException:
        subprocess.run(["rm", "-rf", "--one-file-system", str(partial)], check=False)
        raise
    return final


def _static_busybox() -> Path:
    found = shutil.which("busybox", path=os.environ.get("PATH", "") + ":/bin:/usr/bin")
    if found is None:
        raise MissingTool("busybox is not installed (Debian package busybox-static)")
    if b"ld-linux" in Path(found).read_bytes()[:4096]:
        raise MissingTool(f"{found} is not static (Debian package busybox-static)")
    return Path(found).resolve()


def _fill_busybox(root: Path, program: Path) -> None:
    for folder in "bin sbin usr/bin usr/sbin etc dev proc sys tmp root home/user var/tmp run mnt".split():
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in ("tmp", "var/tmp"):
        (root / folder).chmod(0o1777)
    shutil.copy(program, root / "bin/busybox")
    (root / "bin/busybox").chmod(0o755)
    applets = subprocess.run([program, "--list-full"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        link = root / applet
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to("/bin/busybox")
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    (root / "etc/hosts").write_text(HOSTS)
    (root / "etc/hostname").write_text("localhost\n")
    if os.geteuid() == 0:
        os.chown(root / "home/user", 1000, 1000)


def _fill_debian(root: Path) -> None:
    if os.geteuid() != 0:
        raise MissingTool("making the Debian root needs root")
    say(f"making the Debian root ({len(DEBIAN_PACKAGES)} packages; some minutes)")
    started = time.monotonic()
    include = ",".join(DEBIAN_PACKAGES)
    sources = _debian_sources()
    if shutil.which("mmdebstrap"):
        command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory", f"--include={include}"]
        command += ["--skip=output/dev", *_apt_options()]
        command += ["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"]
        command += ["--dpkgopt=path-exclude=/usr/share/locale/*", SUITE, str(root), "-"]
        _run_with_progress(command, "\n".join(sources) + "\n")
    elif shutil.which("debootstrap", path="/usr/sbin:/sbin:/usr/bin"):
        mirror = sources[0].split()[-3]
        _run_with_progress(["debootstrap", "--variant=minbase", f"--include={include}", SUITE, str(root), mirror], "")
    else:
        raise MissingTool("neither mmdebstrap nor debootstrap is installed")
    with open(root / "etc/passwd", "a") as passwd:
        passwd.write("user:x:1000:1000:user:/home/user:/bin/bash\n")
    with open(root / "etc/group", "a") as group:
        group.write("user:x:1000:\n")
    (root / "home/user").mkdir(parents=True, exist_ok=True)
    os.chown(root / "home/user", 1000, 1000)
    (root / "etc/hosts").write_text(HOSTS)
    (root / "etc/hostname").write_text("localhost\n")
    shutil.rmtree(root / "var/lib/apt/lists", ignore_errors=True)
    say(f"made the Debian root in {time.monotonic() - started:.0f} s")


def _debian_sources() -> list[str]:
    """The sources of Debian itself that apt is configured with here, as one-line entries."""
    form = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", form, "Created-By: Packages"], capture_output=True, text=True
    )
    lines = []
    for row in listed.stdout.splitlines():
        origin, uri, release, component = row.split("|")
        if origin == "Debian" and component == "main" and release.split("-")[0] == SUITE:
            line = f"deb {uri} {release} main"
            if line not in lines:
                lines.append(line)
    lines.sort(key=lambda line: line.split()[-2] != SUITE)
    if not lines:
        raise MissingTool(f"apt has no list of Debian {SUITE} (run apt-get update)")
    return lines


def _apt_options() -> list[str]:
    """This machine's apt transport settings (a proxy, a certificate), which mmdebstrap's own apt would not read."""
    dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True).stdout
    wanted = ("Acquire::http", "Acquire::https", "Acquire::Retries")
    keep = [line for line in dump.splitlines() if line.startswith(wanted) and '""' not in line]
    return [f"--aptopt={line}" for line in keep]


def _run_with_progress(command: list[str], stdin: str) -> None:
    """Run, showing each line that says how far it is; on failure show the last ones."""
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdin and process.stdout
        process.stdin.write(stdin.encode())
        process.stdin.close()
        tail: list[str] = []
        shown = time.monotonic()
        for raw in process.stdout:
            line = raw.decode(errors="replace").rstrip()
            tail = [*tail[-30:], line]
            if line.startswith("I:") or time.monotonic() - shown > 5:
                shown = time.monotonic()
                print(f"   {line[:110]}", file=sys.stderr, flush=True)
    if process.returncode:
        raise RuntimeError(f"{command[0]} failed ({process.returncode}):\n" + "\n".join(tail))


def main() -> None:
    for name, make in (("busybox", busybox_root), ("debian", debian_root)):
        try:
            path = make()
        except MissingTool as missing:
            say(f"no {name} root: {missing}; its tests will be skipped")
            continue
        say(f"{name} root: {path}")


if __name__ == "__main__":
    main()
