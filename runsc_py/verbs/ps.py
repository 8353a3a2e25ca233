"""`ps`: the container's processes, as the host sees them."""

from typing import TYPE_CHECKING

from runsc_py.command import Option, Verb
from runsc_py.errors import RuntimeFault

if TYPE_CHECKING:
    from runsc_py.cli import Invocation
    from runsc_py.state import Container


def run(invocation: "Invocation", container_id: str, ps_options: tuple[str, ...], form: str) -> None:
    from runsc_py import state

    if form not in ("table", "json"):
        raise RuntimeFault("invalid format option")
    pids = _pids(state.load(invocation.root, container_id))
    if form == "json":
        import json

        print(json.dumps(pids))
        return
    if ps_options:
        _host_ps(pids, ps_options)
    else:
        _table(pids)


def _table(pids: list[int]) -> None:
    """What `ps -ef` shows, of these processes."""
    import time

    import psutil

    print("UID          PID    PPID STIME TTY          TIME CMD")
    for pid in pids:
        try:
            process = psutil.Process(pid)
            with process.oneshot():
                user, parent, tty = process.username(), process.ppid(), process.terminal() or "?"
                started = time.strftime("%H:%M", time.localtime(process.create_time()))
                seconds = int(sum(process.cpu_times()[:2]))
                command = " ".join(process.cmdline()) or f"[{process.name()}]"
        except psutil.NoSuchProcess:
            continue
        spent = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        print(f"{user[:8]:<8} {pid:>7} {parent:>7} {started:>5} {tty.removeprefix('/dev/'):<8} {spent} {command}")


def _host_ps(pids: list[int], ps_options: tuple[str, ...]) -> None:
    """The lines that the host's ps prints of them, whatever its options ask for."""
    import subprocess

    try:
        listing = subprocess.run(["ps", *ps_options], capture_output=True, check=False)
    except FileNotFoundError:
        raise RuntimeFault("ps: executable file not found in $PATH") from None
    if listing.returncode:
        raise RuntimeFault(f"ps: {listing.stderr.decode(errors='replace').strip()}")
    lines = listing.stdout.decode("utf-8", "surrogateescape").splitlines()
    titles = lines[0].split() if lines else []
    if "PID" not in titles:
        raise RuntimeFault("couldn't find PID field in ps output")
    column = titles.index("PID")
    print(lines[0])
    wanted = {str(pid) for pid in pids}
    for line in lines[1:]:
        fields = line.split()
        if len(fields) > column and fields[column] in wanted:
            print(line)


def _pids(container: "Container") -> list[int]:
    """Host pids of the guest's processes: the sentry knows; frozen, the cgroup does."""
    from runsc_py import cgroups, lifecycle

    status = container.status()
    if status == "stopped":
        return []
    if status != "paused":
        try:
            return sorted(int(pid) for pid in lifecycle.request(container, "pids")["pids"])
        except RuntimeFault:
            pass
    ours = {container.sentry_pid, container.gofer_pid}
    found = cgroups.Manager.restore(container.cgroup).processes()
    return [pid for pid in found if pid not in ours] or [container.init_pid]


VERB = Verb(
    "display the processes of a container",
    [Option("--format", "-f", to="form", default="table", metavar="table|json", help="How to print them.")],
    ("container_id", "[ps_options]..."),
    run,
    stop_at_arguments=True,
    description="List a container's processes: host pids as JSON, or lines of ps(1) called with PS_OPTIONS.",
)
