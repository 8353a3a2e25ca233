"""The OCI life cycle by hand: every verb, every error of the state machine, what is left behind.

Each test also runs against runc where that is installed, which judges the test.

Covers: runsc_py.verbs.features, runsc_py.verbs.spec
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import bundles, leaks, sandboxes
from tests.e2e.containers import Containers
from tests.e2e.machine import until

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

CGROUP = f"runsc-py-test-{os.getpid()}"
WAIT = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"


@pytest.fixture(params=["runc", "runsc-py"])
def runtime_command(request: pytest.FixtureRequest) -> list[str]:
    if request.param == "runsc-py":
        return [str(sandboxes.COMMAND)]
    found = shutil.which("runc", path=sandboxes.PATH)
    if not found:
        pytest.skip("runc is not installed")
    return [found]


@pytest.fixture
def oci(runtime_command: list[str], busybox_root: Path, tmp_path: Path) -> Iterator[Containers]:
    """A runtime in a folder of its own; nothing of it may be left when the test ends."""
    before = leaks.snapshot()
    made = Containers(runtime_command, tmp_path, busybox_root)
    yield made
    made.clean()
    left = leaks.left_since(before, tmp_path)
    # runc keeps its emptied state directory's parents; files in it are leaks for both
    left = [line for line in left if not line.endswith("/state")]
    assert not left, "left behind:\n" + "\n".join(left)


# ---- the way through


def test_create_start_stop_delete(oci: Containers) -> None:
    container = oci.create(WAIT)
    assert container.text() == ""
    state = container.state()
    assert state["status"] == "created"
    assert state["id"] == "c"
    assert state["pid"] == container.pid
    assert state["bundle"] == str(oci.folder / "bundle-c")
    assert state["ociVersion"].startswith("1.")
    container.start().says("ready")
    assert container.status() == "running"
    assert container("kill", "TERM").code == 0
    assert container.exit_code() == 5
    assert container.status() == "stopped"
    assert container("delete").code == 0
    assert container("state").code == 1


@pytest.mark.parametrize("script, code", [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$; exit 3", 3)])
def test_run_gives_the_exit_code(oci: Containers, script: str, code: int) -> None:
    """A container's init can't kill itself, as on Linux: its exit code then."""
    ran = oci.run(script)
    assert ran.code == code, ran


def test_init_killed_from_outside_gives_128_and_the_signal(oci: Containers) -> None:
    container = oci.create(WAIT).start()
    container.says("ready")
    assert container("kill", "KILL").code == 0
    assert container.exit_code() == 137


def test_run_passes_streams(oci: Containers) -> None:
    ran = oci.run("cat; echo error >&2", stdin=b"text for stdin\n")
    assert (ran.stdout, ran.stderr, ran.code) == ("text for stdin\n", "error\n", 0)


def test_run_detached(oci: Containers) -> None:
    bundle = oci.bundle("sleep 0.3; exit 4")
    pid_file = oci.folder / "pid"
    ran = subprocess.run(
        oci.argv("run", "--detach", "--bundle", bundle, "--pid-file", pid_file, "d"),
        env=oci.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )
    assert ran.returncode == 0
    _, status = os.waitpid(int(pid_file.read_text()), 0)
    assert os.waitstatus_to_exitcode(status) == 4
    assert oci("delete", "d").code == 0


def test_signals_sent_to_the_pid_reach_the_guest(oci: Containers) -> None:
    """A shim stops an exec by kill(2) on its pid."""
    container = oci.create(WAIT).start()
    container.says("ready")
    os.kill(container.pid, signal.SIGTERM)
    assert container.exit_code() == 5
    container("delete")


@pytest.mark.parametrize("name", ["15", "TERM", "SIGTERM"])
def test_kill_takes_names_and_numbers(oci: Containers, name: str) -> None:
    container = oci.create(WAIT).start()
    container.says("ready")
    assert container("kill", name).code == 0
    assert container.exit_code() == 5


def test_namespaces_and_cgroup_of_the_pid_are_the_containers(oci: Containers) -> None:
    container = oci.create(WAIT, linux={"cgroupsPath": f"/{CGROUP}/placed"}).start()
    container.says("ready")
    for name in ("net", "pid", "uts", "ipc", "mnt"):
        theirs = os.readlink(f"/proc/{container.pid}/ns/{name}")
        assert theirs != os.readlink(f"/proc/self/ns/{name}"), name
    assert f"{CGROUP}/placed" in Path(f"/proc/{container.pid}/cgroup").read_text()
    container("kill", "KILL")
    container.exit_code()
    container("delete")
    _remove_cgroups(CGROUP)


# ---- errors of the state machine


def _refused(oci: Containers, text: str, *args: str | Path, code: int = 1) -> None:
    """The call fails with this in its message, on stderr and as the log's last error."""
    ran = oci(*args)
    assert ran.code == code, ran
    assert text in ran.stderr, ran
    assert text in oci.last_error(), oci.log()


@pytest.mark.parametrize("verb", [["state"], ["start"], ["kill"], ["delete"], ["pause"], ["resume"], ["ps"]])
def test_missing_container(oci: Containers, verb: list[str]) -> None:
    _refused(oci, "container does not exist", *verb, "nobody")


def test_missing_container_other_verbs(oci: Containers) -> None:
    _refused(oci, "container does not exist", "exec", "nobody", "true", code=255)
    _refused(oci, "container does not exist", "events", "--stats", "nobody")
    _refused(oci, "container does not exist", "update", "--pids-limit", "5", "nobody")
    ran = oci("delete", "--force", "nobody")
    assert (ran.code, ran.stderr) == (0, "")


def test_created_container(oci: Containers) -> None:
    container = oci.create(WAIT)
    bundle = oci.folder / "bundle-c"
    _refused(oci, "container with given ID already exists", "create", "--bundle", bundle, "c")
    _refused(oci, "container with given ID already exists", "run", "--bundle", bundle, "c")
    ran = container("exec", "echo", "before start")
    assert (ran.code, ran.stdout) == (0, "before start\n"), ran
    assert container.status() == "created"
    container.start().says("ready")
    container("kill", "KILL")
    container.exit_code()


def test_running_container(oci: Containers) -> None:
    container = oci.create(WAIT).start()
    container.says("ready")
    _refused(oci, "cannot start an already running container", "start", "c")
    _refused(oci, "cannot delete container c that is not stopped: running", "delete", "c")
    assert container.status() == "running"
    assert container("delete", "--force").code == 0 or oci("delete", "--force", "c").code == 0
    assert container.exit_code() == 137


def test_stopped_container(oci: Containers) -> None:
    container = oci.create("exit 3").start()
    assert container.exit_code() == 3
    _refused(oci, "cannot start a container that has stopped", "start", "c")
    _refused(oci, "container not running", "kill", "c", "TERM")
    assert oci("kill", "--all", "c", "KILL").code == 0
    _refused(oci, "cannot exec in a stopped container", "exec", "c", "true", code=255)
    ran = oci("pause", "c")
    assert ran.code == 1, ran
    assert container.status() == "stopped"
    assert container("delete").code == 0
    _refused(oci, "container does not exist", "delete", "c")


def test_created_container_can_be_killed_and_deleted(oci: Containers) -> None:
    container = oci.create("echo must not run")
    assert container("kill", "KILL").code == 0
    assert container.exit_code() == 137
    assert container("delete").code == 0
    assert container.text() == ""


@pytest.mark.parametrize(
    "args, text",
    [
        (["/bin/nonexist"], "no such file or directory"),
        (["nonexist"], "executable file not found"),
        (["/etc/passwd"], "permission denied"),
        (["/etc"], "permission denied"),
    ],
)
def test_create_with_a_bad_program(oci: Containers, args: list[str], text: str) -> None:
    if args == ["/etc"] and oci.is_runc:
        pytest.skip("runc says it is a directory")
    _refused(oci, text, "create", "--bundle", oci.bundle(args), "c")
    assert oci("state", "c").code == 1


def test_create_with_a_bad_cwd(oci: Containers) -> None:
    bundle = oci.bundle("exit 0", cwd="/etc/passwd/below")
    ran = oci("create", "--bundle", bundle, "c")
    assert ran.code == 1, ran
    assert "/etc/passwd/below" in ran.stderr or "not a directory" in ran.stderr, ran


def test_bad_bundles(oci: Containers) -> None:
    ran = oci("create", "--bundle", oci.folder / "nowhere", "c")
    assert ran.code == 1
    assert "nowhere" in ran.stderr, ran
    empty = oci.folder / "empty"
    empty.mkdir()
    ran = oci("create", "--bundle", empty, "c")
    assert ran.code == 1
    assert "config.json" in ran.stderr, ran
    (empty / "config.json").write_text("{ not json")
    assert oci("create", "--bundle", empty, "c").code == 1
    (empty / "config.json").write_text("[]")
    assert oci("create", "--bundle", empty, "c").code == 1
    config = bundles.config(oci.root, ["true"])
    config["process"]["args"] = "a string"
    (empty / "config.json").write_text(json.dumps(config))
    ran = oci("create", "--bundle", empty, "c")
    assert ran.code == 1
    assert "args" in ran.stderr, ran
    config = bundles.config(oci.folder / "no-root", ["true"])
    (empty / "config.json").write_text(json.dumps(config))
    ran = oci("create", "--bundle", empty, "c")
    assert ran.code == 1
    assert "no-root" in ran.stderr, ran
    assert oci("list", "-q").stdout == ""


@pytest.mark.parametrize("name", ["../escape", "a/b", "", ".", "with space", "x\ny"])
def test_bad_ids(oci: Containers, name: str) -> None:
    ran = oci("create", "--bundle", oci.bundle("exit 0"), name)
    assert ran.code != 0, ran
    assert ran.stderr
    assert oci("list", "-q").stdout == ""


def test_bad_arguments(oci: Containers) -> None:
    for args in (["nosuchverb"], ["create", "--no-such-flag", "c"], ["kill"], ["state", "a", "b"]):
        ran = oci(*args)
        assert ran.code != 0, args
    container = oci.create(WAIT).start()
    container.says("ready")
    assert container("kill", "NOSUCHSIGNAL").code == 1
    assert container.status() == "running"


def test_errors_are_one_json_record(oci: Containers) -> None:
    ran = oci("create", "--bundle", oci.bundle(["/bin/nonexist"]), "c")
    assert ran.code == 1
    record = [record for record in oci.log() if record["level"] == "error"][-1]
    assert set(record) == {"level", "msg", "time"}
    time.strptime(record["time"].replace("Z", "+0000")[:19], "%Y-%m-%dT%H:%M:%S")
    assert "/bin/nonexist" in record["msg"]


# ---- exec


@pytest.fixture
def running(oci: Containers):
    container = oci.create(WAIT).start()
    container.says("ready")
    return container


def test_exec_code_streams_and_environment(oci: Containers, running) -> None:
    ran = oci("exec", "--env", "ADDED=yes", "--cwd", "/etc", "c", "sh", "-c", "cat; echo $ADDED; pwd; exit 6", stdin=b"in\n")
    assert (ran.stdout, ran.code) == ("in\nyes\n/etc\n", 6), ran
    ran = oci("exec", "--user", "1000:1000", "c", "id")
    assert "uid=1000" in ran.stdout and "gid=1000" in ran.stdout, ran
    ran = oci("exec", "c", "sh", "-c", "kill -9 $$")
    assert ran.code == 137, ran
    ran = oci("exec", "c", "sh", "-c", "echo $$ $PPID; ls /proc | grep -c '^[0-9]'")
    assert int(ran.stdout.split()[0]) > 1, ran


def test_exec_of_a_bad_program(oci: Containers, running) -> None:
    _refused(oci, "no such file or directory", "exec", "c", "/bin/nonexist", code=255)
    _refused(oci, "executable file not found", "exec", "c", "nonexist", code=255)
    _refused(oci, "permission denied", "exec", "c", "/etc/passwd", code=255)
    assert running.status() == "running"


def test_exec_shares_the_container(oci: Containers, running) -> None:
    oci("exec", "c", "sh", "-c", "echo shared > /tmp/f; hostname")
    ran = oci("exec", "c", "cat", "/tmp/f")
    assert ran.stdout == "shared\n", ran
    ran = oci("exec", "c", "ps", "-o", "pid,args")
    assert "sleep 0.05" in ran.stdout or "trap" in ran.stdout, ran


def test_exec_detached_leaves_its_pid(oci: Containers, running) -> None:
    pid_file = oci.folder / "exec.pid"
    process = {"args": ["sh", "-c", "sleep 0.2; exit 9"], "cwd": "/", "env": [f"PATH={sandboxes.PATH}"], "user": {"uid": 0, "gid": 0}}
    described = oci.folder / "process.json"
    described.write_text(json.dumps(process))
    ran = subprocess.run(
        oci.argv("exec", "--process", described, "--detach", "--pid-file", pid_file, "c"),
        env=oci.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=60,
    )
    assert ran.returncode == 0
    _, status = os.waitpid(int(pid_file.read_text()), 0)
    assert os.waitstatus_to_exitcode(status) == 9


def test_execs_end_with_their_container(oci: Containers, running) -> None:
    pid_file = oci.folder / "exec.pid"
    subprocess.run(
        oci.argv("exec", "--detach", "--pid-file", pid_file, "c", "sleep", "1000"),
        env=oci.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        timeout=60,
        check=True,
    )
    running("kill", "KILL")
    # a PID namespace's init is gone only when all in it are reaped, and this one is our child
    _, status = os.waitpid(int(pid_file.read_text()), 0)
    assert os.waitstatus_to_exitcode(status) == -9
    assert running.exit_code() == 137


# ---- the other verbs


def test_list_and_ps(oci: Containers, running) -> None:
    rows = json.loads(oci("list", "--format", "json").stdout)
    assert [(row["id"], row["status"], row["pid"]) for row in rows] == [("c", "running", running.pid)]
    table = oci("list").stdout.splitlines()
    assert table[0].split()[:3] == ["ID", "PID", "STATUS"]
    assert table[1].split()[:3] == ["c", str(running.pid), "running"]
    assert running.pid in json.loads(oci("ps", "--format", "json", "c").stdout)
    assert str(running.pid) in oci("ps", "c").stdout


def test_pause_and_resume(oci: Containers) -> None:
    container = oci.create("echo ready; while :; do echo tick; sleep 0.02; done").start()
    container.says("tick")
    assert container("pause").code == 0
    assert container.status() == "paused"
    time.sleep(0.1)
    quiet = container.text()
    time.sleep(0.3)
    assert container.text() == quiet
    assert container("resume").code == 0
    assert container.status() == "running"
    container.says(quiet + "tick")
    container("kill", "KILL")
    container.exit_code()


def test_events_stats_and_update(oci: Containers, running) -> None:
    stats = json.loads(oci("events", "--stats", "c").stdout)
    assert stats["type"] == "stats" and stats["id"] == "c"
    assert stats["data"]["pids"]["current"] >= 1
    assert oci("update", "--pids-limit", "50", "c").code == 0
    ran = oci("update", "--resources", "-", "c", stdin=b'{"pids": {"limit": 60}}')
    assert ran.code == 0, ran
    stats = json.loads(oci("events", "--stats", "c").stdout)
    assert stats["data"]["pids"]["limit"] == 60


def test_spec_and_features(oci: Containers) -> None:
    folder = oci.folder / "spec"
    folder.mkdir()
    assert oci("spec", "--bundle", folder).code == 0
    made = json.loads((folder / "config.json").read_text())
    assert made["process"]["args"] == ["sh"]
    assert oci("spec", "--bundle", folder).code == 1
    features = oci("features")
    if features.code == 0 or not oci.is_runc:
        shown = json.loads(features.stdout)
        assert "ociVersionMax" in shown and "mount" in shown["linux"]["namespaces"]
    assert oci("--version").code == 0
    assert oci("--help").code == 0


def test_hooks_run_in_order_with_the_state(oci: Containers) -> None:
    out = oci.folder / "hooks"
    names = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    program = oci.folder / "hook"
    program.write_text(f'#!/bin/sh\nread line\necho "$1 $line" >> {out}\n')
    program.chmod(0o755)
    inside = [name for name in names if name != "startContainer"]  # that one names a program of the container's
    hooks = {name: [{"path": str(program), "args": ["hook", name]}] for name in inside}
    container = oci.create(WAIT, hooks=hooks)
    container.start().says("ready")
    container("kill", "KILL")
    container.exit_code()
    container("delete")
    seen = [line.split(" ", 1) for line in out.read_text().splitlines()]
    assert [name for name, _ in seen] == inside
    for name, state in seen:
        told = json.loads(state)
        assert told["id"] == "c" and told["bundle"].endswith("bundle-c"), name
        if name not in ("createContainer", "poststop"):  # the first runs inside, where the pid may be another
            assert told["pid"] == container.pid, name


def test_failing_hook_fails_create(oci: Containers) -> None:
    bundle = oci.bundle("exit 0", hooks={"createRuntime": [{"path": "/bin/false"}]})
    ran = oci("create", "--bundle", bundle, "c")
    assert ran.code == 1, ran
    assert "hook" in ran.stderr, ran
    assert oci("state", "c").code == 1


def test_console_socket(oci: Containers) -> None:
    path = oci.folder / "console.sock"
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    container = oci.create("test -t 0 && test -t 1 && echo terminal; read x; echo got $x", "--console-socket", path, terminal=True)
    peer, _ = server.accept()
    _, fds, _, _ = socket.recv_fds(peer, 100, 1)
    server.close()
    peer.close()
    container.start()
    os.write(fds[0], b"typed\n")
    text = b""
    while b"got typed" not in text:
        text += os.read(fds[0], 1000)
    assert b"terminal\r\n" in text
    assert container.exit_code() == 0
    os.close(fds[0])


def test_preserved_descriptors(oci: Containers) -> None:
    bundle = oci.bundle("cat <&3; ls /proc/self/fd | grep -c '^[4-9]'; exit 0")
    reader, writer = os.pipe()
    os.write(writer, b"through three\n")
    os.close(writer)
    ran = subprocess.run(
        ["bash", "-c", f'exec 3<&{reader} 4<&{reader}; exec "$@"', "sh", *oci.argv("run", "--preserve-fds", "1", "--bundle", bundle, "p")],
        pass_fds=[reader],
        capture_output=True,
        text=True,
        env=oci.environment(),
        timeout=60,
    )
    os.close(reader)
    assert ran.stdout.splitlines()[0] == "through three", ran


# ---- what a config asks for


def test_user_limits_and_capabilities(oci: Containers) -> None:
    ran = oci.run(
        "id -u; id -g; grep Groups /proc/self/status | tr '\\t' ' '; ulimit -n; grep -E '^(Cap(Eff|Bnd)|NoNewPrivs)' /proc/self/status | tr '\\t' ' '; pwd; echo $NAME",
        user={"uid": 1000, "gid": 1000, "additionalGids": [5, 6]},
        rlimits=[{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 99}],
        capabilities={"bounding": ["CAP_KILL"], "effective": [], "permitted": []},
        cwd="/home/user",
        env=["NAME=value", f"PATH={sandboxes.PATH}"],
    )
    assert ran.stdout.splitlines() == [
        "1000",
        "1000",
        "Groups: 5 6 ",
        "77",
        "CapEff: 0000000000000000",
        "CapBnd: 0000000000000020",
        "NoNewPrivs: 1",
        "/home/user",
        "value",
    ], ran


def test_read_only_root_and_masked_paths(oci: Containers) -> None:
    ran = oci.run(
        "touch /x; echo $?; cat /proc/keys | wc -c; echo 1 > /proc/sys/kernel/domainname; echo $?; hostname",
        linux={"maskedPaths": ["/proc/keys", "/proc/kcore"], "readonlyPaths": ["/proc/sys"]},
    )
    assert ran.stdout.splitlines() == ["1", "0", "1", "guest"], ran
    assert "Read-only file system" in ran.stderr


def test_what_a_process_is_told_of_itself(oci: Containers) -> None:
    shown = "grep -E '^(Groups|Cpus_allowed_list|Mems_allowed_list)' /proc/self/status; cat /proc/self/oom_score_adj"
    ran = oci.run(
        shown,
        oomScoreAdj=500,
        user={"uid": 1000, "gid": 7, "additionalGids": [77, 5, 7]},
        linux={"resources": {"cpu": {"cpus": "0"}}},
    )
    assert ran.stdout.splitlines() == ["Groups:\t5 7 77 ", "Cpus_allowed_list:\t0", "Mems_allowed_list:\t0", "500"], ran


def test_the_host_knows_how_willing_to_die_a_container_is(oci: Containers) -> None:
    container = oci.create(WAIT, oomScoreAdj=321)
    assert Path(f"/proc/{container.pid}/oom_score_adj").read_text() == "321\n"
    container.start().says("ready")
    quiet = "exec sleep 100 < /dev/null > /dev/null 2>&1"
    oci("exec", "--detach", "--pid-file", oci.folder / "exec.pid", "c", "sh", "-c", quiet)
    pid = (oci.folder / "exec.pid").read_text()
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "321\n"
    container("kill", "KILL")
    assert container.exit_code() == 137


def test_bind_mounts(oci: Containers) -> None:
    shared, fixed, single = oci.folder / "shared", oci.folder / "fixed", oci.folder / "single"
    for folder in (shared, fixed):
        folder.mkdir()
        (folder / "from-host").write_text("host\n")
    single.write_text("one file\n")
    mounts = [
        bundles.bind(shared, "/mnt", "rw"),
        bundles.bind(fixed, "/home", "ro"),
        bundles.bind(single, "/etc/hostname", "ro"),
    ]
    ran = oci.run(
        "cat /mnt/from-host /etc/hostname; echo guest > /mnt/from-guest; mkdir /mnt/d; mv /mnt/from-host /mnt/d/moved; "
        "echo x > /home/x; echo $?; rm /home/from-host; echo $?; echo x > /etc/hostname; echo $?; ls /mnt",
        mounts=mounts,
    )
    assert ran.stdout.splitlines() == ["host", "one file", "1", "1", "1", "d", "from-guest"], ran
    assert (shared / "from-guest").read_text() == "guest\n"
    assert (shared / "d/moved").read_text() == "host\n"
    assert sorted(os.listdir(fixed)) == ["from-host"]
    assert single.read_text() == "one file\n"


@pytest.mark.parametrize("readonly", [False, True])
def test_a_tmpfs_takes_over_what_it_covers(oci: Containers, readonly: bool) -> None:
    """podman's --read-only and --tmpfs: `tmpcopyup`. Without it a tmpfs takes the mode of what it covers alone."""
    root = own_root(oci)
    for name in ("kept", "covered"):
        (root / name / "sub").mkdir(parents=True)
        (root / name / "sub/file").write_text("from the image\n")
        (root / name / "sub/link").symlink_to("file")
        os.chown(root / name / "sub/file", 5, 6)
        (root / name / "sub/file").chmod(0o640)
        (root / name).chmod(0o751)
    mounts = [
        bundles.mount("/kept", "tmpfs", "mine", ["rw", "nodev", "tmpcopyup", "size=1m"]),
        bundles.mount("/covered", "tmpfs", "tmpfs", ["rw"]),
        bundles.mount("/moded", "tmpfs", "tmpfs", ["mode=1770", "tmpcopyup"]),
    ]
    ran = oci.run(
        "cd /kept && cat sub/link && stat -c '%n %a %u %g' . sub/file && readlink sub/link; echo new > sub/file; cat sub/file; "
        "ls /covered; stat -c '%n %a' /covered /moded; grep -oE '.* /kept tmpfs rw,nodev,relatime,size=1024k' /proc/mounts",
        mounts=mounts,
        root={"path": str(root), "readonly": readonly},
    )
    assert ran.stdout.splitlines() == [
        *("from the image", ". 751 0 0", "sub/file 640 5 6", "file", "new", "/covered 751", "/moded 1770"),
        "mine /kept tmpfs rw,nodev,relatime,size=1024k",
    ], ran
    assert (root / "kept/sub/file").read_text() == "from the image\n"


@pytest.mark.parametrize("readonly", [False, True])
def test_a_missing_working_directory_is_made(oci: Containers, readonly: bool) -> None:
    root = own_root(oci)
    ran = oci.run("pwd; ls -A", cwd="/srv/app/new", root={"path": str(root), "readonly": readonly})
    assert (ran.stdout, ran.code) == ("/srv/app/new\n", 0), ran
    assert (root / "srv/app/new").is_dir()


def own_root(oci: Containers) -> Path:
    """A root that the test may change: the shared one is everybody's."""
    root = oci.folder / "root"
    subprocess.run(["cp", "-a", oci.root, root], check=True)
    return root


def test_host_changes_show_in_a_bind_mount(oci: Containers) -> None:
    shared = oci.folder / "shared"
    shared.mkdir()
    container = oci.create(
        "echo ready; while ! test -e /mnt/go; do sleep 0.02; done; cat /mnt/go; exit 8", mounts=[bundles.bind(shared, "/mnt", "rw")]
    ).start()
    container.says("ready")
    (shared / "new").write_text("from the host\n")
    (shared / "new").rename(shared / "go")
    assert container.exit_code() == 8
    assert container.text() == "ready\nfrom the host\n"


def test_a_shared_root_is_the_hosts_at_every_step(oci: Containers) -> None:
    """What was walked before is walked anew: permission, moved folders, links that lead elsewhere, files that go."""
    oci.root = own_root(oci)
    if not oci.is_runc:
        oci.own_options = ["--file-access", "shared"]
    folder = oci.root / "d"
    (folder / "e").mkdir(parents=True)
    (folder / "e/f").write_text("first\n")
    (oci.root / "link").symlink_to("d/e")
    secret = oci.folder / "secret"
    secret.write_text("the host's\n")
    script = """
    show() { for name in /d/e/f /link/f; do cat $name 2> /dev/null || echo none; done; test -d /d/e && echo folder; }
    for step in 1 2 3 4 5 6; do show; show; echo at $step; until test -e /step$step; do sleep 0.02; done; done; show; exit 8
    """
    container = oci.create(script, user={"uid": 1000, "gid": 1000}).start()

    def moved() -> None:
        (folder / "e").rename(folder / "old")
        (folder / "e").mkdir()
        (folder / "e/f").write_text("second\n")

    def led_elsewhere() -> None:
        (oci.root / "next").symlink_to("d/old")
        (oci.root / "next").rename(oci.root / "link")

    def led_outside() -> None:
        (folder / "e/f").unlink()
        (folder / "e/f").symlink_to(secret)

    def gone() -> None:
        shutil.rmtree(folder / "e")
        (folder / "e").symlink_to(oci.folder)

    steps = [lambda: folder.chmod(0o700), lambda: folder.chmod(0o755), moved, led_elsewhere, led_outside, gone]
    for number, change in enumerate(steps, 1):
        container.says(f"at {number}\n")
        change()
        (oci.root / f"step{number}").touch()
    assert container.exit_code() == 8, container.text()
    rounds = [part.split("\n", 1)[1] if number else part for number, part in enumerate(container.text().split("at "))]
    first = "first\nfirst\nfolder\n"
    assert rounds == [
        first * 2,
        "none\nnone\n" * 2,
        first * 2,
        "second\nsecond\nfolder\n" * 2,
        "second\nfirst\nfolder\n" * 2,
        "none\nfirst\nfolder\n" * 2,
        "none\nfirst\n",
    ]


SERVE = "nc -l -p 80 -e echo served & echo ready; wait $!"
ASK = "i=0; until nc 127.0.0.1 80 2> /dev/null; do i=$((i+1)); test $i -lt 200 || exit 1; sleep 0.02; done"


def test_sysctls_act_on_the_network(oci: Containers) -> None:
    """The host is asked: what is bound without a port gets one of the range."""
    script = "nc -l & until netstat -ltn | grep -q LISTEN; do sleep 0.02; done; netstat -ltn | sed -n 's/.*:::*\\([0-9]*\\) .*/\\1/p; s/.* 0.0.0.0:\\([0-9]*\\) .*/\\1/p' | sort -u"
    ran = oci.run(script, linux={"sysctl": {"net.ipv4.ip_local_port_range": "4000 4009"}})
    assert 4000 <= int(ran.stdout) <= 4009, ran
    bundle = oci.bundle("exit 0", linux={"sysctl": {"net.ipv4.ip_forward": "nonsense"}})
    ran = oci("run", "--bundle", bundle, "c")
    assert ran.code != 0 and "invalid argument" in ran.stderr, ran


def test_a_pod_shares_its_network_and_its_name(oci: Containers) -> None:
    first = oci.create(SERVE, name="first", hostname="the-pod").start()
    first.says("ready")
    shared = [{"type": kind, "path": f"/proc/{first.pid}/ns/{file}"} for kind, file in (("network", "net"), ("uts", "uts"))]
    own = [{"type": kind} for kind in ("pid", "ipc", "mount")]
    ran = oci.run(f"hostname; {ASK}", name="second", hostname="", linux={"namespaces": [*shared, *own]})
    assert (ran.stdout, ran.code) == ("the-pod\nserved\n", 0), ran
    assert first.exit_code() == 0


@pytest.mark.parametrize("opened", [True, False])
def test_who_may_bind_a_low_port(oci: Containers, opened: bool) -> None:
    linux = {"sysctl": {"net.ipv4.ip_unprivileged_port_start": "80"}} if opened else {}
    ran = oci.run(f"{SERVE} & {ASK}" if opened else SERVE, user={"uid": 1000, "gid": 1000}, linux=linux)
    assert ("served" in ran.stdout, "Permission denied" in ran.stderr) == (opened, not opened), ran


def test_host_changes_show_in_a_shared_root(oci: Containers) -> None:
    """--file-access=shared: `docker cp` over a file that the container knows."""
    oci.own_options = [] if oci.is_runc else ["--file-access", "shared"]
    root = own_root(oci)
    (root / "known").write_text("old\n")
    script = "cat /known; ls /absent; echo ready; until test -e /absent; do sleep 0.02; done; cat /known /absent; echo new > /known"
    container = oci.create(script, root={"path": str(root), "readonly": False}).start()
    container.says("ready")
    for name in ("known", "absent"):
        (root / "aside").write_text(f"{name} from the host\n")
        (root / "aside").rename(root / name)
    assert container.exit_code() == 0
    assert container.text().endswith("ready\nknown from the host\nabsent from the host\n")
    assert (root / "known").read_text() == "new\n"


def test_a_host_name_that_is_too_long(oci: Containers) -> None:
    ran = oci("run", "--bundle", oci.bundle("exit 0", hostname="n" * 65), "c")
    assert ran.code != 0 and "sethostname: invalid argument" in ran.stderr, ran


def test_two_containers_at_once(oci: Containers) -> None:
    one = oci.create(WAIT.replace("ready", "$(hostname) $(ls /proc | grep -c '^[0-9]')"), name="one", hostname="first").start()
    two = oci.create(WAIT.replace("ready", "$(hostname)"), name="two", hostname="second").start()
    one.says("first")
    two.says("second")
    assert sorted(oci("list", "-q").stdout.split()) == ["one", "two"]
    oci("exec", "one", "touch", "/tmp/mine")
    assert oci("exec", "two", "ls", "/tmp").stdout == ""
    one("kill", "KILL")
    assert one.exit_code() == 137
    assert two.status() == "running"
    assert oci("exec", "two", "echo", "alive").stdout == "alive\n"
    two("kill", "TERM")
    assert two.exit_code() == 5


@pytest.mark.parametrize("limit", [2, 7])
def test_limits_of_the_cgroup_hold(oci: Containers, limit: int) -> None:
    """What runs beside the container's own processes does not count."""
    ran = oci.run(
        "cat /sys/fs/cgroup/pids.max 2> /dev/null; for i in 1 2 3 4 5 6 7 8; do sleep 1000 & echo started $i; done",
        linux={"cgroupsPath": f"/{CGROUP}/few", "resources": {"pids": {"limit": limit}}},
    )
    assert ran.stdout.splitlines()[-1] == f"started {limit - 1}" and "can't fork" in ran.stderr, ran
    _remove_cgroups(CGROUP)


def test_fifty_in_a_row_leave_nothing(oci: Containers) -> None:
    """The fixture compares processes, mounts, cgroups, sockets and files before and after."""
    descriptors = len(os.listdir("/proc/self/fd"))
    bundle = oci.bundle("exit 0")
    for number in range(50):
        ran = oci("run", "--bundle", bundle, f"c{number}")
        assert ran.code == 0, ran
    assert oci("list", "-q").stdout == ""
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_wait_verb(oci: Containers) -> None:
    if oci.is_runc:
        pytest.skip("runc has no wait")
    container = oci.create("trap 'exit 12' TERM; echo ready; while :; do sleep 0.02; done").start()
    container.says("ready")
    waiter = subprocess.Popen(oci.argv("wait", "c"), stdout=subprocess.PIPE, text=True)
    until(lambda: has_socket(waiter.pid))
    container("kill", "TERM")
    said, _ = waiter.communicate(timeout=20)
    assert "12" in said or waiter.returncode == 12, said
    assert container.exit_code() == 12


def has_socket(pid: int) -> bool:
    """Whether the command has asked the sandbox."""
    links = []
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            links.append(os.readlink(fd))
    return any(link.startswith("socket:") for link in links)


def _remove_cgroups(name: str) -> None:
    """The parent a test named; the container's own group is the runtime's to remove."""
    for path in Path("/sys/fs/cgroup").glob(f"**/{name}"):
        path.rmdir()
