"""An interactive bash on a pty: the same session on bare Linux and in the sandbox."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import sandboxes
from tests.e2e.terminal import Terminal

pytestmark = [pytest.mark.root, pytest.mark.sandbox]

BASH = ["bash", "--norc", "--noprofile", "-i"]
# A foreground job that says when it has the terminal: a key sent before would go to the shell.
JOB = "sh -c 'echo u\"\"p; exec sleep 1000'"
Start = Callable[..., Terminal]


@pytest.fixture(params=["bare", "sandbox"])
def start(request: pytest.FixtureRequest, runtime: sandboxes.Runtime, debian_root: Path) -> Iterator[Start]:
    """Start a program on a terminal: bare Linux judges the session, then the sandbox must pass it."""
    if request.param == "bare" and sandboxes.bare_problem():
        pytest.skip(sandboxes.bare_problem())
    work = tempfile.TemporaryDirectory(prefix="bare-")
    opened: list[Terminal] = []

    def begin(argv: list[str], rows: int = 24, columns: int = 80) -> Terminal:
        if request.param == "bare":
            # The chroot's own session takes the pty: `setsid --ctty`.
            command, env = sandboxes.bare_argv(["setsid", "--ctty", *argv], debian_root, Path(work.name), "/tmp")
            terminal = Terminal(command, env, rows, columns, own=False)
        else:
            command = runtime.do_argv(argv, debian_root, "/tmp", tty=True)
            terminal = Terminal(command, runtime.environment(), rows, columns)
        opened.append(terminal)
        return terminal

    yield begin
    for terminal in opened:
        terminal.__exit__(None, None, None)
    work.cleanup()


@pytest.fixture
def bash(start: Start) -> Terminal:
    terminal = start(BASH)
    terminal.expect(r"[#$] ")
    terminal.send("PS1='rea''dy> '\n")
    terminal.expect("\nready> ")
    return terminal


def test_commands_and_exit_code(bash: Terminal) -> None:
    bash.send("echo $((6 * 7)) an''swer\n")
    bash.expect("\n42 answer\r\n.*ready> ")
    bash.send("test -t 0 && test -t 1 && echo ter''minal\n")
    bash.expect("\nterminal\r\n")
    bash.expect("ready> ")
    bash.send("exit 7\n")
    assert bash.wait() == 7


def test_line_editing(bash: Terminal) -> None:
    bash.send("echo wronk\x7fg\x01\x0b")
    bash.send("echo yan\x19\n")
    bash.expect("\nyanecho wrong\r\n")
    bash.expect("ready> ")
    bash.send("\x1b[A\n")
    bash.expect("\nyanecho wrong\r\n")


def test_interrupt_ends_the_foreground_job(bash: Terminal) -> None:
    bash.send(f"{JOB}\n")
    bash.expect("\nup\r\n")
    bash.send("\x03")
    bash.expect("ready> ")
    bash.send("echo co''de $?\n")
    bash.expect("\ncode 130\r\n")


def test_interrupt_in_a_busy_loop(bash: Terminal) -> None:
    bash.send("echo g''o; while :; do :; done\n")
    bash.expect("\ngo\r\n")
    bash.send("\x03")
    bash.expect("ready> ")


def test_stop_and_foreground(bash: Terminal) -> None:
    # cat says nothing when it starts, and what is typed before it has the terminal is not echoed.
    bash.send("sh -c 'echo rea''ding; exec cat'\n")
    bash.expect("\nreading\r\n")
    bash.send("line\n")  # echoed by the terminal, then by cat: it has the terminal now
    bash.expect("line\r\nline\r\n")
    bash.send("\x1a")
    bash.expect("Stopped")
    bash.expect("ready> ")
    bash.send("jobs\n")
    bash.expect(r"\[1\]\+ +Stopped +sh")
    bash.expect("ready> ")
    bash.send("echo sta''rted; fg\n")  # one line: bash has left its own terminal settings when it says so
    bash.expect("\nstarted\r\n")
    bash.expect("cat'\r\n")
    bash.send("again\n")
    bash.expect("again\r\nagain\r\n")
    bash.send("\x04")
    bash.expect("ready> ")
    bash.send("echo co''de $?\n")
    bash.expect("\ncode 0\r\n")


def test_background_jobs(bash: Terminal) -> None:
    bash.send(f"{JOB}\n")
    bash.expect("\nup\r\n")
    bash.send("\x1a")
    bash.expect("Stopped")
    bash.expect("ready> ")
    bash.send("bg\n")
    bash.expect(r"\[1\]\+ sh -c .* &")
    bash.expect("ready> ")
    bash.send("kill %1; wait %1; echo co''de $?\n")
    bash.expect("\ncode 143\r\n|Terminated(.|\n)*code 143\r\n")


def test_quit_key(bash: Terminal) -> None:
    bash.send(f"ulimit -c 0; {JOB}\n")
    bash.expect("\nup\r\n")
    bash.send("\x1c")
    bash.expect("Quit")
    bash.expect("ready> ")
    bash.send("echo co''de $?\n")
    bash.expect("\ncode 131\r\n")


def test_window_size(start: Start) -> None:
    bash = start(BASH, rows=33, columns=101)
    bash.expect(r"[#$] ")
    bash.send("stty size\n")
    bash.expect("\n33 101\r\n")
    bash.send("trap 'echo si''ze $(stty size)' WINCH; echo trap''ped\n")
    bash.expect("\ntrapped\r\n")
    bash.resize(40, 120)
    if bash.process.poll() is None:
        bash.send("\n")
    bash.expect("size 40 120")
    bash.send("exit\n")
    assert bash.wait() == 0


def test_end_of_file_ends_the_shell(bash: Terminal) -> None:
    bash.send("false\n")
    bash.expect("ready> ")
    bash.send("\x04")
    assert bash.wait() == 1


def test_raw_mode(bash: Terminal) -> None:
    bash.send("stty raw -echo; echo g''o; dd bs=1 count=3 2>/dev/null | od -An -tx1; stty sane; echo sa''ne\n")
    bash.expect("\ngo\n")
    bash.send("\x03\x04\r")
    bash.expect("03 04 0d")
    bash.expect("sane")


def test_full_screen_program(bash: Terminal) -> None:
    bash.send("seq 500 > n; less n\n")
    bash.expect("\x1b")
    bash.expect("20")
    bash.send("G")
    bash.expect("500")
    bash.send("q")
    bash.expect("ready> ")


def test_python_prompt(start: Start) -> None:
    python = start(["python3", "-q"])
    python.expect(">>> ")
    python.send("6 * 7\n")
    python.expect("42\r\n")
    # In steps: a signal between Python's look at its flags and one long sleep would wait for the sleep's end.
    python.send("import time; print('u' 'p'); [time.sleep(0.05) for _ in iter(int, 1)]\n")
    python.expect("\nup\r\n")
    python.send("\x03")
    python.expect("KeyboardInterrupt")
    python.send("exit(5)\n")
    assert python.wait() == 5


def test_hang_up_ends_the_sandbox(runtime: sandboxes.Runtime, debian_root: Path) -> None:
    """Closing the terminal window leaves nothing running."""
    terminal = Terminal(runtime.do_argv(BASH, debian_root, "/tmp", tty=True), runtime.environment())
    terminal.expect(r"[#$] ")
    terminal.send("sleep 1000 & echo star''ted\n")
    terminal.expect("started")
    terminal.hang_up()
    terminal.process.wait(10)


def test_terminal_has_a_name(runtime: sandboxes.Runtime, debian_root: Path) -> None:
    with Terminal(runtime.do_argv(BASH, debian_root, "/tmp", tty=True), runtime.environment()) as bash:
        bash.expect(r"[#$] ")
        bash.send("tty; ls -l /proc/self/fd/0 | sed 's/.*->/is/'\n")
        name = bash.expect(r"\n(/dev/(pts/\d+|console))\r\n")[1]
        bash.expect(f"is {name}\r\n")
        bash.send("exit\n")
        assert bash.wait() == 0
