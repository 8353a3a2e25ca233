"""An unprivileged user's containers: with his single id, and with subordinate ids that newuidmap(1) gives him.

runc judges each test where it is installed. (`do` and what concerns limits are ours alone.)
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import leaks, rootless, sandboxes
from tests.rootless import RANGE, UID, User, quoted

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

FILES = ["CAP_CHOWN", "CAP_FOWNER", "CAP_DAC_OVERRIDE", "CAP_SETUID", "CAP_SETGID"]


class Bundle:
    """A user, a runtime and a bundle with a root that is the user's own."""

    def __init__(self, user: User, command: str, busybox: Path) -> None:
        self.user = user
        self.command = [command, "--root", str(user.home / "state"), "--log", str(user.home / "log")]
        self.folder = user.home / "bundle"
        self.root = self.folder / "rootfs"
        made = user.shell(f"mkdir -p {self.root} && cd {busybox} && tar cf - . | tar xf - -C {self.root} --no-same-owner")
        assert made.code == 0, made

    def __call__(self, *words: str | Path) -> sandboxes.Ran:
        return self.user.run([*self.command, *words])

    def config(self, script: str, **linux: Any) -> None:
        path = self.folder / "config.json"
        path.unlink(missing_ok=True)
        made = self("spec", "--rootless", "--bundle", self.folder)
        assert made.code == 0, made
        config = json.loads(path.read_text())
        config["process"].update(terminal=False, args=["/bin/sh", "-c", script])
        config["root"]["readonly"] = False
        for kind in ("bounding", "effective", "permitted"):
            config["process"]["capabilities"][kind] += FILES
        if self.user.ranges:
            first, count = RANGE
            for kind in ("uidMappings", "gidMappings"):
                config["linux"][kind].append({"containerID": 1, "hostID": first, "size": count})
        config["linux"].update(linux)
        path.write_text(json.dumps(config))

    def run(self, script: str, **linux: Any) -> sandboxes.Ran:
        self.config(script, **linux)
        return self("run", "--bundle", self.folder, "c")

    def owner(self, name: str) -> tuple[int, int]:
        found = os.lstat(self.root / name)
        return found.st_uid, found.st_gid


@pytest.fixture(params=[False, True], ids=["single", "ranges"])
def user(request: pytest.FixtureRequest) -> Iterator[User]:
    """In a folder that others may enter, as pytest's own may not."""
    if why := rootless.problem(request.param):
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="rootless-") as folder:
        os.chmod(folder, 0o755)
        home = Path(folder) / "home"
        home.mkdir()
        made = User(home, request.param)
        if made.run(["unshare", "--user", "true"]).code:
            pytest.skip("this host lets no user make a user namespace")
        before = leaks.snapshot()
        yield made
        left = [line for line in leaks.left_since(before, home) if not line.endswith("/state")]
        assert not left, "left behind:\n" + "\n".join(left)


@pytest.fixture(params=["runc", "runsc-py"])
def bundle(request: pytest.FixtureRequest, user: User, busybox_root: Path) -> Iterator[Bundle]:
    command = str(sandboxes.COMMAND) if request.param == "runsc-py" else shutil.which("runc", path=sandboxes.PATH)
    if not command:
        pytest.skip("runc is not installed")
    made = Bundle(user, command, busybox_root)
    if request.param == "runc" and made.run("true").code:
        pytest.skip("runc does not run rootless here")
    yield made
    made("delete", "--force", "c")


def test_he_is_root_inside(bundle: Bundle) -> None:
    ran = bundle.run("id -u; id -g; touch /new && chmod 2755 /new && ls -ln /new | cut -d' ' -f1; exit 7")
    assert (ran.stdout, ran.code) == ("0\n0\n-rwxr-sr-x\n", 7), ran
    assert bundle.owner("new") == (UID, UID)


MAKES_FILES = """
for owner in 0:0 5:6 4999:5000 5001:1; do
    touch /f-$owner && chown $owner /f-$owner 2>/dev/null; echo $owner $?; stat -c %u:%g /f-$owner
done
ln -s x /link && chown -h 7:7 /link; stat -c %u:%g /link
mkdir /folder && chown 1000:1000 /folder && chmod 777 /folder
su daemon -s /bin/sh -c 'id -u; touch /folder/file; ln -s x /folder/link' 2>/dev/null; stat -c %u:%g /folder /folder/*
"""


def test_files_belong_to_whom_he_may_give_them(bundle: Bundle) -> None:
    """What is said inside and what is found outside."""
    ran = bundle.run(MAKES_FILES)
    said = ran.stdout.splitlines()
    if not bundle.user.ranges:
        assert said[:8] == ["0:0 0", "0:0", "5:6 1", "0:0", "4999:5000 1", "0:0", "5001:1 1", "0:0"], ran
        assert bundle.owner("f-5:6") == bundle.owner("folder") == (UID, UID)
        return
    first, _ = RANGE
    assert said == [
        "0:0 0", "0:0", "5:6 0", "5:6", "4999:5000 0", "4999:5000", "5001:1 1", "0:0",
        "7:7", "1", "1000:1000", "1:1", "1:1",
    ], ran  # fmt: skip
    assert bundle.owner("f-0:0") == bundle.owner("f-5001:1") == (UID, UID)
    assert bundle.owner("f-5:6") == (first + 4, first + 5)
    assert bundle.owner("f-4999:5000") == (first + 4998, first + 4999)
    assert bundle.owner("link") == (first + 6, first + 6)
    assert bundle.owner("folder/file") == bundle.owner("folder/link") == (first, first)


def exit_code(pid: int, timeout: float = 20) -> int:
    """Of a child of ours, whose namespace's other processes come to us too and have to be reaped before it."""
    deadline = time.monotonic() + timeout
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        assert time.monotonic() < deadline, "still running"
        leaks.reap_orphans(frozenset([pid]))
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1])


def test_the_life_of_his_container(bundle: Bundle) -> None:
    bundle.config("trap 'exit 5' TERM; while :; do sleep 0.05; done")
    output = bundle.user.home / "out"
    pid_file = bundle.user.home / "pid"
    command = quoted(*bundle.command, "create", "--bundle", bundle.folder, "--pid-file", pid_file, "c")
    made = bundle.user.shell(f"{command} < /dev/null > {output} 2>&1")
    assert made.code == 0, output.read_text()
    assert bundle("start", "c").code == 0
    ran = bundle("exec", "c", "/bin/sh", "-c", "id -u; echo text > /file; cat /file")
    assert (ran.stdout, ran.code) == ("0\ntext\n", 0), ran
    assert bundle.owner("file") == (UID, UID)
    state = json.loads(bundle("state", "c").stdout)
    assert (state["status"], state["pid"]) == ("running", int(pid_file.read_text()))
    assert bundle("list", "-q").stdout == "c\n"
    assert bundle("kill", "c", "TERM").code == 0
    assert exit_code(state["pid"]) == 5
    assert json.loads(bundle("state", "c").stdout)["status"] == "stopped"
    assert bundle("delete", "c").code == 0
    assert bundle("state", "c").code == 1


# ---- ours alone


@pytest.fixture
def ours(user: User, busybox_root: Path) -> Bundle:
    return Bundle(user, str(sandboxes.COMMAND), busybox_root)


def test_do_over_a_root_of_another(ours: Bundle, busybox_root: Path) -> None:
    """Writes stay in memory, so there every id can own."""
    ran = ours("do", "--rootfs", busybox_root, "--", "/bin/sh", "-c", "id -u; touch /f && chown 5:6 /f && stat -c %u:%g /f")
    assert (ran.stdout, ran.code) == ("0\n5:6\n", 0), ran
    assert not (busybox_root / "f").exists()


def test_without_a_namespace_in_the_spec_he_has_all_his_ids(ours: Bundle) -> None:
    namespaces = [{"type": name} for name in ("pid", "ipc", "uts", "mount")]
    ran = ours.run("touch /f && chown 5:6 /f; stat -c %u:%g /f", namespaces=namespaces)
    if ours.user.ranges:
        assert ran.stdout == "5:6\n", ran
        assert ours.owner("f") == (RANGE[0] + 4, RANGE[0] + 5)
    else:
        assert ran.stdout == "0:0\n", ran
        assert ours.owner("f") == (UID, UID)


def test_limits_he_may_not_set_are_a_warning(ours: Bundle) -> None:
    ran = ours.run("echo ran", resources={"pids": {"limit": 50}})
    assert (ran.stdout, ran.code) == ("ran\n", 0), ran
    said = (ours.user.home / "log").read_text()
    assert "cgroup: " in said and "warning" in said, said


def test_ids_that_are_not_his_are_refused(ours: Bundle) -> None:
    ours.config("true")
    path = ours.folder / "config.json"
    config = json.loads(path.read_text())
    config["linux"]["uidMappings"] = [{"containerID": 0, "hostID": UID, "size": 1}, {"containerID": 1, "hostID": 1, "size": 9}]
    path.write_text(json.dumps(config))
    ran = ours("run", "--bundle", ours.folder, "c")
    assert ran.code == 1, ran
    assert "newuidmap" in ran.stderr, ran
    assert ours("list", "-q").stdout == ""


def test_root_of_a_user_namespace(ours: Bundle) -> None:
    """As podman calls us for a plain user. The container's init must be ours to wait for."""
    maps = ["--map-root-user", *(["--map-auto"] if ours.user.ranges else [])]
    ours.config("id -u; touch /f; chown 5:6 /f; stat -c %u:%g /f; exit 7", uidMappings=None, gidMappings=None,
                namespaces=[{"type": name} for name in ("pid", "ipc", "uts", "mount")])  # fmt: skip
    script = f"""
        export XDG_RUNTIME_DIR={ours.user.home}
        {ours.command[0]} run --bundle {ours.folder} c; echo $?
        {ours.command[0]} run --detach --bundle {ours.folder} d > /dev/null; echo $?
        {ours.command[0]} delete --force d; echo $?; ls {ours.user.home}/runsc-py
    """
    ran = ours.user.run(["unshare", "--user", *maps, "--mount", "/bin/sh", "-c", script])
    owner = "5:6" if ours.user.ranges else "0:0"
    assert ran.stdout == f"0\n{owner}\n7\n0\n0\n", ran
    assert ours.owner("f") == ((RANGE[0] + 4, RANGE[0] + 5) if ours.user.ranges else (UID, UID))
