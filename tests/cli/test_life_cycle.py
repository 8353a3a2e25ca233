"""The state machine of a container and everything callers rely on around it, over the fake sandbox.

Covers: runsc_py.build, runsc_py.console, runsc_py.foreground, runsc_py.inside, runsc_py.lifecycle
Covers: runsc_py.verbs.create, runsc_py.verbs.delete, runsc_py.verbs.do, runsc_py.verbs.events
Covers: runsc_py.verbs.exec, runsc_py.verbs.kill, runsc_py.verbs.list, runsc_py.verbs.pause
Covers: runsc_py.verbs.ps, runsc_py.verbs.resume, runsc_py.verbs.run, runsc_py.verbs.start
Covers: runsc_py.verbs.state, runsc_py.verbs.update, runsc_py.verbs.wait
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys

import pytest

from tests.cli.rig import REPOSITORY, alive, exit_code, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.root]


def told(rig, *words, code=1, **options):
    """The message of a command that must fail: said once, on stderr, in one line."""
    out = rig.run(*words, code=code, **options)
    assert out == b""
    assert rig.err.count(b"\n") == 1
    return json.loads(rig.err.decode().partition("msg=")[2])


def test_the_life_of_a_container(rig):
    rig.config("sh", "-c", "echo hello; exit 7")
    pid = rig.create()
    state = rig.state()
    assert (state["status"], state["pid"], state["id"]) == ("created", pid, "c")
    assert state["bundle"] == str(rig.bundle)
    assert os.getpgid(pid)
    assert rig.output() == b""
    rig.run("start", "c")
    assert rig.status(pid) == 7
    assert rig.output() == b"hello\n"
    state = rig.state()
    assert (state["status"], state["pid"]) == ("stopped", 0)
    rig.run("delete", "c")
    assert told(rig, "state", "c") == "container does not exist"


def test_init_is_a_child_of_whoever_reaps_for_the_caller(rig):
    pid = rig.create()
    with open(f"/proc/{pid}/stat") as file:
        assert int(file.read().rpartition(")")[2].split()[1]) == os.getpid()


def test_errors_of_the_state_machine(rig):
    assert told(rig, "start", "c") == "container does not exist"
    assert told(rig, "kill", "c", "9") == "container does not exist"
    assert told(rig, "delete", "c") == "container does not exist"
    assert told(rig, "exec", "c", "true", code=255) == "exec failed: container does not exist"
    rig.run("delete", "--force", "c")
    assert rig.err == b""

    pid = rig.create()
    assert told(rig, "create", "c") == "runsc-py create failed: container with given ID already exists"
    assert told(rig, "run", "c") == "runsc-py run failed: container with given ID already exists"
    assert told(rig, "resume", "c") == "container not paused"
    assert told(rig, "kill", "c", "FOO") == 'unknown signal "FOO"'
    rig.run("start", "c")
    assert told(rig, "start", "c") == "cannot start an already running container"
    assert told(rig, "delete", "c") == "cannot delete container c that is not stopped: running"

    rig.run("pause", "c")
    assert rig.state()["status"] == "paused"
    assert told(rig, "pause", "c") == "container not running"
    assert told(rig, "start", "c") == "cannot start a container in the paused state"
    assert told(rig, "delete", "c") == "cannot delete container c that is not stopped: paused"
    assert "paused container" in told(rig, "exec", "c", "true", code=255)
    rig.run("resume", "c")
    assert rig.state()["status"] == "running"

    rig.run("kill", "c", "9")
    assert rig.status(pid) == 128 + 9
    assert told(rig, "kill", "c", "15") == "container not running"
    rig.run("kill", "--all", "c", "9")
    assert told(rig, "start", "c") == "cannot start a container that has stopped"
    assert told(rig, "exec", "c", "true", code=255) == "exec failed: cannot exec in a stopped container"
    assert told(rig, "pause", "c") == "container not running"
    assert told(rig, "update", "--memory", "10M", "c") == "container not running"
    assert told(rig, "events", "--stats", "c") == "container with id c is not running"
    assert rig.run("ps", "--format", "json", "c") == b"[]\n"
    rig.run("delete", "c")


def test_a_paused_container_can_be_killed_and_deleted(rig):
    pid = rig.create()
    rig.run("start", "c")
    rig.run("pause", "c")
    rig.run("kill", "c", "9")
    assert rig.status(pid) == 128 + 9
    rig.run("delete", "c")
    rig.create("d")
    rig.run("start", "d")
    rig.run("pause", "d")
    rig.run("delete", "--force", "d")


def test_deleting_a_created_container_ends_it(rig):
    pid = rig.create()
    rig.run("delete", "c")
    assert rig.status(pid) == 128 + 9


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"args": ["/nonexist"]}, 'exec: "/nonexist": stat /nonexist: no such file or directory'),
        ({"args": ["nonexist"]}, 'exec: "nonexist": executable file not found in $PATH'),
        ({"args": ["/etc"]}, 'exec: "/etc": permission denied'),
    ],
)
def test_a_program_that_is_missing_leaves_nothing(rig, change, message):
    rig.config(**change)
    expected = f"unable to start container process: {message}"
    log = rig.directory / "log.json"
    words = ("--log", str(log), "--log-format=json")
    child = subprocess.run(
        [*rig.argv("create", "c")[:5], *words, "create", "--bundle", str(rig.bundle), "c"],
        env={"PYTHONPATH": str(REPOSITORY)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=20,
    )
    assert child.returncode == 1
    assert child.stderr.decode() == f"runsc-py create failed: {expected}\n"
    (record,) = log.read_text().splitlines()
    assert json.loads(record)["msg"] == f"runsc-py create failed: {expected}"
    assert os.listdir(rig.root) == []
    wait_until(lambda: not rig.children())
    assert rig.cgroups() == []
    assert told(rig, "run", "c") == f"runsc-py run failed: {expected}"


def test_run_gives_the_programs_output_and_exit_code(rig):
    rig.config("sh", "-c", "cat; echo err >&2; exit 3")
    assert rig.run("run", "c", stdin=b"in", code=3) == b"in"
    assert rig.err == b"err\n"
    assert os.listdir(rig.root) == []


def test_run_of_a_program_that_is_killed(rig):
    rig.config("sh", "-c", "echo up; exec sleep 100")
    child = rig.start("run", "c", stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"up\n"
    rig.run("kill", "c", "KILL")
    assert child.wait(10) == 137
    child.stdout.close()
    assert os.listdir(rig.root) == []


def test_run_passes_signals_on(rig):
    rig.config("sh", "-c", "trap 'echo got; exit 4' TERM; echo ready; while :; do sleep 0.01; done")
    child = rig.start("run", "c", stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"ready\n"
    child.send_signal(signal.SIGTERM)
    assert child.stdout.read() == b"got\n"
    assert child.wait(10) == 4
    child.stdout.close()


def test_run_detached(rig):
    rig.config()
    child = rig.start("run", "-d", "--pid-file", "pid", "c", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    assert child.wait(10) == 0
    assert rig.state()["status"] == "running"
    assert alive(int((rig.directory / "pid").read_text()))
    rig.run("delete", "-f", "c")


def test_run_keep(rig):
    rig.config("true")
    rig.run("run", "--keep", "c")
    assert rig.state()["status"] == "stopped"
    rig.run("delete", "c")


def test_exec(rig):
    rig.create()
    assert rig.run("exec", "c", "cat", stdin=b"abc") == b"abc"  # before start, too
    rig.run("start", "c")
    assert (
        rig.run("exec", "-e", "A=1", "--cwd", "/tmp", "c", "sh", "-c", "echo $A; pwd; exit 9", code=9) == b"1\n/tmp\n"
    )
    rig.run("exec", "c", "sh", "-c", "kill -9 $$", code=137)
    assert told(rig, "exec", "c", "nonexist", code=255) == (
        'exec failed: unable to start container process: exec: "nonexist": executable file not found in $PATH'
    )
    assert told(rig, "exec", "c", code=255) == "exec failed: process args cannot be empty"
    (rig.directory / "process.json").write_text('{"args":["echo","x"],"cwd":"/","env":["PATH=/bin"]}')
    assert rig.run("exec", "--process", "process.json", "c") == b"x\n"


def test_exec_detached_gives_a_pid_that_ends_as_the_process_does(rig):
    rig.create()
    words = (
        "exec",
        "--detach",
        "--pid-file",
        "execpid",
        "c",
        "sh",
        "-c",
        "trap 'exit 5' TERM; echo up; sleep 100 & wait",
    )
    child = rig.start(*words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert child.stdout.readline() == b"up\n"
    assert child.wait(10) == 0
    pid = int((rig.directory / "execpid").read_text())
    os.kill(pid, signal.SIGTERM)
    assert rig.status(pid) == 5
    child.stdout.close()


# A caller of exec that is a subreaper of its own, as podman's conmon is.
OTHER_SUBREAPER = """
import ctypes, os, subprocess, sys, signal
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
subprocess.run(sys.argv[2:], check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
pid = int(open("execpid").read())
while not os.path.exists("guest"):
    os.sched_yield()
if int(sys.argv[1]):
    os.kill(pid, int(sys.argv[1]))
_, status = os.waitpid(pid, 0)
print(os.WTERMSIG(status) + 128 if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
"""


@pytest.mark.parametrize(
    ("send", "script", "code"),
    [
        (0, "UP; sleep 0.1; exit 6", 6),
        (15, "trap 'exit 5' TERM; UP; while :; do sleep 0.01; done", 5),
        (9, "UP; exec sleep 50", 137),
        (0, "UP; kill -11 $$", 139),
    ],
)
def test_a_waiter_stands_for_a_process_that_another_subreaper_asked_for(rig, send, script, code):
    rig.create()
    rig.run("start", "c")
    command = rig.argv(
        "exec",
        "--detach",
        "--pid-file",
        "execpid",
        "c",
        "sh",
        "-c",
        script.replace("UP", f"echo $$ > {rig.directory}/guest"),
    )
    caller = subprocess.run(
        [sys.executable, "-c", OTHER_SUBREAPER, str(send), *command],
        env={"PYTHONPATH": str(REPOSITORY), "PATH": "/bin:/usr/bin"},
        cwd=rig.directory,
        stdout=subprocess.PIPE,
        timeout=20,
        check=True,
    )
    assert int(caller.stdout) == code
    if not rig.real and (rig.directory / "guest").exists():  # else its number is the guest's own
        guest = int((rig.directory / "guest").read_text())
        wait_until(lambda: dead(guest))


def dead(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def receive_master(rig, *words):
    """Run a command with --console-socket; the terminal's master it sent."""
    path = str(rig.directory / "console.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(10)
        child = rig.start(*words[:1], "--console-socket", path, *words[1:], stdin=subprocess.DEVNULL)
        connection, _ = listener.accept()
        with connection:
            _, fds, _, _ = socket.recv_fds(connection, 100, 4)
        assert child.wait(10) == 0
    os.unlink(path)
    (master,) = fds
    return master


def read_all(master):
    data = b""
    try:
        while select.select([master], [], [], 5)[0] and (chunk := os.read(master, 1000)):
            data += chunk
    except OSError:
        pass
    os.close(master)
    return data


def test_a_terminal_goes_to_the_console_socket(rig):
    rig.config("sh", "-c", "tty >&2; stty size; exit 2", terminal=True, consoleSize={"height": 33, "width": 101})
    master = receive_master(rig, "create", "--pid-file", "pid", "c")
    rig.run("start", "c")
    assert rig.status(int((rig.directory / "pid").read_text())) == 2
    out = read_all(master)
    assert b"/dev/pts/" in out
    assert b"33 101" in out


def test_exec_with_a_terminal(rig):
    rig.create()
    master = receive_master(
        rig, "exec", "--detach", "--tty", "--pid-file", "pid", "c", "sh", "-c", "test -t 0 && echo yes"
    )
    assert rig.status(int((rig.directory / "pid").read_text())) == 0
    assert read_all(master) == b"yes\r\n"


def test_a_foreground_terminal_is_proxied(rig):
    rig.config("sh", "-c", "stty size; read x; echo got $x; exit 8", terminal=True)
    master, slave = os.openpty()
    import fcntl
    import struct
    import termios

    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 21, 77, 0, 0))
    child = rig.start("run", "c", stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    while b"21 77" not in seen:
        seen += os.read(master, 1000)
    os.write(master, b"typed\r")
    seen = read_all(master)
    assert child.wait(10) == 8
    assert b"got typed" in seen


def test_terminal_without_console_socket(rig):
    rig.config(terminal=True)
    assert "without setting console socket" in told(rig, "create", "c")
    rig.config()
    assert "cannot use console socket" in told(rig, "create", "--console-socket", "/x", "c")
    rig.config(terminal=True)
    assert "console socket /nonexist" in told(rig, "create", "--console-socket", "/nonexist", "c")
    assert os.listdir(rig.root) == []


def test_only_preserved_descriptors_are_passed_on(rig):
    read_end, write_end = os.pipe()
    extra = os.dup(write_end)
    rig.config("sh", "-c", "ls /proc/self/fd; echo kept >&3")

    def arrange():
        os.dup2(write_end, 3)
        os.dup2(extra, 4)

    assert rig.run("run", "--preserve-fds", "1", "c", preexec_fn=arrange, close_fds=False) == b"0\n1\n2\n3\n4\n"
    os.close(write_end)
    os.close(extra)
    assert os.read(read_end, 100) == b"kept\n"
    assert os.read(read_end, 100) == b""  # nobody keeps it open
    os.close(read_end)
    assert "descriptor 3 is not open" in told(rig, "run", "--preserve-fds", "300", "c")


def test_nobody_keeps_the_containers_stdout(rig):
    rig.config("sh", "-c", "exec >/dev/null 2>&1; sleep 100")
    child = rig.start("create", "c", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert child.wait(10) == 0
    started = rig.start("start", "c", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    assert started.stdout.read() == b""
    assert started.wait(10) == 0
    assert child.stdout.read() == b""
    child.stdout.close()
    started.stdout.close()


def test_hooks_run_in_their_order(rig):
    config = rig.config("sh", "-c", f"echo program >> {rig.directory}/order")

    def hook(name):
        return [{"path": "/bin/sh", "args": ["sh", "-c", f"echo {name} $(cat) >> {rig.directory}/order"],
                 "env": ["PATH=/bin:/usr/bin"]}]  # fmt: skip

    stages = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    config["hooks"] = {stage: hook(stage) for stage in stages}
    rig.write(config)
    pid = rig.create()
    assert [line.split()[0] for line in (rig.directory / "order").read_text().splitlines()] == stages[:3]
    rig.run("start", "c")
    rig.status(pid)
    rig.run("delete", "c")
    lines = (rig.directory / "order").read_text().splitlines()
    names = [line.split()[0] for line in lines]
    assert names[:4] == stages[:4]
    assert sorted(names[4:6]) == ["poststart", "program"]  # at the same time
    assert names[6:] == ["poststop"]
    states = {line.split()[0]: json.loads(line.partition(" ")[2]) for line in lines if "{" in line}
    assert states["prestart"] == {
        "ociVersion": "1.0.2", "id": "c", "status": "creating", "pid": pid, "bundle": str(rig.bundle),
    }  # fmt: skip
    assert states["startContainer"]["status"] == "created"
    assert states["poststart"]["status"] == "running"
    assert states["poststop"]["status"] == "stopped"


@pytest.mark.parametrize("stage", ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"])
def test_a_failing_hook_ends_the_container(rig, stage):
    config = rig.config()
    config["hooks"] = {stage: [{"path": "/bin/sh", "args": ["sh", "-c", "exit 3"]}]}
    rig.write(config)
    message = told(rig, "run", "c")
    assert "error running hook #0: error running hook: exit status 3" in message
    assert os.listdir(rig.root) == []


def test_a_failing_poststop_hook_is_only_warned_of(rig):
    config = rig.config("true")
    config["hooks"] = {"poststop": [{"path": "/bin/false"}]}
    rig.write(config)
    rig.run("run", "c")
    assert b"level=warning" in rig.err


def test_list_and_ps(rig):
    pid = rig.create()
    table = rig.run("list").decode().splitlines()
    assert table[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert table[1].split()[:4] == ["c", str(pid), "created", str(rig.bundle)]
    (entry,) = json.loads(rig.run("list", "--format", "json"))
    assert entry["owner"] == "root"
    assert rig.run("list", "-q") == b"c\n"
    assert json.loads(rig.run("ps", "--format", "json", "c")) == [pid]
    assert str(pid) in rig.run("ps", "c").decode()


def test_cgroup_limits_and_placement(rig):
    config = rig.config()
    config["linux"]["resources"] = {
        "memory": {"limit": 50 << 20},
        "pids": {"limit": 20},
        "cpu": {"shares": 0},
    }
    rig.write(config)
    pid = rig.create()
    with open(f"/proc/{pid}/cgroup") as file:
        assert f"{rig.cgroup}/c" in file.read()
    rig.run(
        "update",
        "--resources",
        "-",
        "c",
        stdin=b'{"pids":{"limit":30},"cpu":{"quota":50000,"period":100000}}',
    )
    data = json.loads(rig.run("events", "--stats", "c"))
    assert data["type"] == "stats"
    assert data["data"]["memory"]["usage"]["limit"] == 50 << 20
    assert data["data"]["pids"]["limit"] == 30
    told(rig, "update", "--resources", "-", "c", stdin=b'{"pids":{"limit":"x"}}')


def test_a_limit_that_cannot_be_set_leaves_nothing(rig):
    config = rig.config()
    config["linux"]["resources"] = {"cpu": {"cpus": "900-1000"}}
    rig.write(config)
    assert "cpuset.cpus" in told(rig, "create", "c")
    assert os.listdir(rig.root) == []
    assert rig.cgroups() == []


def test_wait(rig):
    rig.config("sleep", "0.3")
    rig.create()
    rig.run("start", "c")
    assert json.loads(rig.run("wait", "c")) == {"id": "c", "exitStatus": 0}
    assert told(rig, "wait", "c") == "container not running"


def test_a_sandbox_that_was_killed_can_be_deleted(rig):
    pid = rig.create()
    rig.run("start", "c")
    with open(rig.root / "c" / "state.json") as file:
        saved = json.load(file)
    os.kill(saved["sentry_pid"], 9)
    os.kill(saved["gofer_pid"], 9)
    rig.run("kill", "c", "9", code=None)  # falls back on the host, if the guests did not die with their sentry
    assert rig.status(pid) in (137, 127)  # between its listener and itself dying a call may give ENOSYS
    rig.run("delete", "c")


def test_create_interrupted_in_a_hook_leaves_nothing(rig):
    config = rig.config()
    config["hooks"] = {
        "prestart": [{"path": "/bin/sh", "args": ["sh", "-c", f"touch {rig.directory}/in; exec sleep 100"]}]
    }
    rig.write(config)
    child = rig.start("run", "c", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_until((rig.directory / "in").exists)
    child.send_signal(signal.SIGTERM)
    assert b"interrupted by SIGTERM" in child.communicate(timeout=10)[1]
    assert child.returncode == 128 + 15
    assert os.listdir(rig.root) == []
    wait_until(lambda: not rig.children())


def test_create_killed_in_a_hook_can_be_deleted(rig):
    config = rig.config()
    config["hooks"] = {"prestart": [{"path": "/bin/sh", "args": ["sh", "-c", f"touch {rig.directory}/in; sleep 100"]}]}
    rig.write(config)
    child = rig.start("create", "c", stdin=subprocess.DEVNULL)
    wait_until((rig.directory / "in").exists)
    child.kill()
    child.wait()
    rig.run("delete", "--force", "c")
    while orphans := rig.children():  # the hook's
        for orphan in orphans:
            os.kill(orphan, 9)


def test_do(rig):
    out = rig.run("do", "--env", "A=b", "--cwd", "/tmp", "--", "sh", "-c", "echo $A; pwd; exit 4", code=4)
    assert out == b"b\n/tmp\n"
    assert told(rig, "do", "nonexist").startswith("runsc-py do failed: unable to start container process")
    assert told(rig, "do", "--rootfs", "/nonexist", "true") == "runsc-py do failed: --rootfs /nonexist: not a directory"
    assert os.listdir(rig.root) == []


def test_many_containers_leave_nothing(rig):
    rig.config("true")
    for number in range(5):
        rig.run("run", f"c{number}")
    assert os.listdir(rig.root) == []
    wait_until(lambda: not rig.children())
    assert rig.cgroups() == []


def test_concurrent_verbs_on_one_container(rig):
    rig.create()
    starts = [rig.start("start", "c", stderr=subprocess.DEVNULL) for _ in range(3)]
    assert sorted(child.wait(10) for child in starts) == [0, 1, 1]
    deletes = [rig.start("delete", "--force", "c", stderr=subprocess.DEVNULL) for _ in range(3)]
    assert [child.wait(10) for child in deletes] == [0, 0, 0]


def test_exit_codes_of_statuses():
    assert exit_code(3 << 8) == 3
    assert exit_code(9) == 137
