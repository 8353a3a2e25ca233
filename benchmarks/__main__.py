"""`make bench`: system calls, start-up, memory and whole programs, in the sandbox and beside it, as ratios against bars.

Every figure is taken in this one run: the same static program on bare Linux (a chroot of the same root) and in
a sandbox, a bare seccomp notification as the yardstick for intercepted calls, and `runc run` beside ours. Whole
programs (programs.py) have no bars.
A ratio over its bar is marked; the exit code stays 0, since a busy machine is no bug.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from benchmarks import programs
from tests import bundles, leaks, roots, sandboxes
from tests.e2e.containers import Containers

HERE = Path(__file__).parent


class Bar(NamedTuple):
    """A benchmark's limit, as a multiple of what it is measured against; 0: none."""

    name: str
    against: str
    limit: float


BARS = [
    Bar("getppid", "notify", 1.3),
    Bar("lseek", "notify", 1.3),
    Bar("fstat", "notify", 1.3),
    Bar("umask", "notify", 2),  # a handler in Python and nothing else
    Bar("uname", "notify", 2),  # and one copy to the guest
    Bar("pread_4k", "notify", 2.5),
    Bar("pipe_write_read", "notify", 4),
    Bar("stat", "notify", 5),
    Bar("open_close", "notify", 12),
    Bar("mmap_touch_munmap", "native", 1.5),
    Bar("futex_wake", "native", 1.5),
    Bar("futex_handover", "native", 1.5),
    Bar("thread", "native", 1.5),
    Bar("fork_exit_wait", "native", 5),
    Bar("fork_exec_wait", "native", 4),
    Bar("vfork_exec_wait", "native", 4),
    Bar("tcp_ping_pong", "native", 0),
]
RUN_LIMIT_MS = 120
PSS_LIMIT_MB = 40


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="these benchmarks, by name")
    parser.add_argument("--no-startup", action="store_true", help="leave out start-up and memory")
    parser.add_argument("--programs", action="store_true", help="only the whole programs")
    parser.add_argument("--no-programs", action="store_true", help="leave them out")
    options = parser.parse_args()
    if problem := sandboxes.bare_problem() or sandboxes.sandbox_problem():
        sys.exit(f"error: {problem}")
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        if not options.programs:
            root = bench_root(Path(folder))
            calls(root, options.only)
            if not options.no_startup:
                startup(Path(folder), root)
                memory(Path(folder), root)
        if not (options.no_programs or options.only):
            whole_programs()


def bench_root(folder: Path) -> Path:
    """The busybox root with the benchmark program in it."""
    root = folder / "root"
    subprocess.run(["cp", "-a", roots.busybox_root(), root], check=True)
    shutil.copy(HERE / "build/bench", root / "bench")
    folder.chmod(0o755)
    return root


def figures(ran: sandboxes.Ran) -> dict[str, float]:
    if ran.code:
        print(ran, file=sys.stderr)
    rows = (line.split() for line in ran.stdout.splitlines())
    return {row[0]: float(row[1]) for row in rows if len(row) == 2}


def calls(root: Path, only: list[str]) -> None:
    step("one bare notification")
    yardstick = figures(sandboxes.finished([HERE / "build/notify"]))["notify"]
    step("the benchmark program on bare Linux")
    native = figures(sandboxes.bare(["/bench", *only], root))
    step("the same in a sandbox")
    with sandboxes.runtime() as runtime:
        ours = figures(runtime.do(["/bench", *only], root, timeout=600))
    step("one bare notification again")
    yardstick = min(yardstick, figures(sandboxes.finished([HERE / "build/notify"]))["notify"])

    print(f"\n{'':20}{'native ns':>12}{'sandbox ns':>12}{'ratio':>9}  {'against':16}{'bar':>6}")
    print(f"{'notify round trip':20}{yardstick:12.0f}")
    for bar in BARS:
        if bar.name not in ours:
            if not only or bar.name in only:
                print(f"{bar.name:20}{native.get(bar.name, 0):12.0f}{'-':>12}")
            continue
        base = yardstick if bar.against == "notify" else native[bar.name]
        ratio = ours[bar.name] / base
        limit = f"{bar.limit:6.1f}" + ("" if ratio <= bar.limit else "  over") if bar.limit else ""
        print(f"{bar.name:20}{native[bar.name]:12.0f}{ours[bar.name]:12.0f}{ratio:9.2f}  {bar.against:16}{limit}")


def startup(folder: Path, root: Path) -> None:
    step("start-up, 20 runs each")
    print()
    for name, command in (("runsc-py run true", str(sandboxes.COMMAND)), ("runc run true", shutil.which("runc"))):
        if command is None:
            continue
        bundle = bundles.make(folder / "bundle", root, ["/bin/true"])
        runtime = Containers([command], folder, root)
        times = []
        for number in range(22):
            begun = time.monotonic()
            ran = runtime("run", "--bundle", bundle, f"bench{number}")
            if ran.code:
                print(ran, file=sys.stderr)
                break
            times.append((time.monotonic() - begun) * 1000)
        if times:
            middle = statistics.median(times[2:] or times)
            bar = f"  bar {RUN_LIMIT_MS} ms" + ("" if middle <= RUN_LIMIT_MS else "  over") if "runsc" in name else ""
            print(f"{name:20}{middle:12.1f} ms (best {min(times):.1f}){bar}")


def memory(folder: Path, root: Path) -> None:
    step("memory of an idle sandbox")
    leaks.become_subreaper()
    before = leaks.snapshot()
    runtime = Containers([str(sandboxes.COMMAND)], folder, root)
    container = runtime.create(["/bin/sleep", "1000"], name="idle").start()
    time.sleep(1)
    guest = os.readlink(f"/proc/{container.pid}/ns/pid")
    total = 0.0
    print()
    for pid in sorted(leaks._children() - before.children):
        if os.readlink(f"/proc/{pid}/ns/pid") == guest:
            continue
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        pss = next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:")) / 1024
        total += pss
        name = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip() or "?"
        print(f"{'PSS':20}{pss:12.1f} MB  {name[:60]}")
    mark = "" if total <= PSS_LIMIT_MB else "  over"
    print(f"{'PSS, all':20}{total:12.1f} MB  bar {PSS_LIMIT_MB} MB{mark}")
    runtime("delete", "--force", "idle")
    leaks.left_since(before, folder)


def whole_programs() -> None:
    root = roots.existing_debian_root()
    if root is None:
        print("\nwhole programs: no Debian root is made (make roots)")
        return
    programs.print_table(root)


def step(text: str) -> None:
    print(f"== {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
