"""`do`: run a command over a directory or the host's own root, read-only, with writes kept in memory."""

import os
from typing import TYPE_CHECKING

from runsc_py.command import Option, Verb
from runsc_py.errors import RuntimeFault

if TYPE_CHECKING:
    from runsc_py.cli import Invocation
    from runsc_py.spec import Spec

# What of the caller's environment goes in.
_PASSED = (
    "PATH",
    "TERM",
    "HOME",
    "LANG",
    "LANGUAGE",
    "TZ",
    "USER",
    "LOGNAME",
    "SHELL",
    "COLORTERM",
    "NO_COLOR",
)
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def run(
    invocation: "Invocation",
    args: tuple[str, ...],
    rootfs: str,
    tty: bool,
    network: str,
    cwd: str,
    env: tuple[str, ...],
    hostname: str,
    interactive: bool,
) -> int:
    invocation.close_inherited()
    from runsc_py import lifecycle
    from runsc_py.verbs.run import run_container

    root = os.path.abspath(rootfs)
    if not os.path.isdir(root):
        raise RuntimeFault(f"--rootfs {rootfs}: not a directory")
    settings = invocation.settings
    settings.overlay = True
    settings.network = network or settings.network or "none"
    if settings.network not in ("none", "host"):
        raise RuntimeFault(f"invalid --network value: {settings.network} (none or host)")
    loaded = _spec(args, root, tty and os.isatty(0), cwd, env, hostname, settings.network)
    how = lifecycle.Options()
    how.use_cgroup = False
    container_id = f"do-{os.getpid()}-{os.urandom(4).hex()}"
    return run_container(invocation, container_id, loaded, "/", how)


def _spec(
    args: tuple[str, ...],
    rootfs: str,
    terminal: bool,
    cwd: str,
    env: tuple[str, ...],
    hostname: str,
    network: str,
) -> "Spec":
    from runsc_py import console, options, spec

    capabilities = [f"CAP_{name}" for name in options.DEFAULT_CAPABILITIES.split()]
    process = spec.Process(
        args=list(args),
        env=_environment(env),
        cwd=cwd or _default_cwd(rootfs),
        terminal=terminal,
        user=spec.User(),
        capabilities=spec.Capabilities(bounding=capabilities, effective=capabilities, permitted=capabilities),
    )
    if terminal:
        rows, columns = console.get_size(0)
        process.console_size = spec.Box(height=rows, width=columns)
    spec.check_process(process)
    strict = ["nosuid", "noexec", "nodev"]
    namespaces = ["pid", "ipc", "uts", "mount", *(["network"] if network == "none" else [])]
    return spec.Spec(
        oci_version="1.2.0",
        process=process,
        root=spec.Root(path=rootfs),
        hostname=hostname,
        mounts=[
            spec.Mount("/proc", "proc", "proc", strict),
            spec.Mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755"]),
            spec.Mount("/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "ptmxmode=0666", "mode=0620", "gid=5"]),
            spec.Mount("/dev/shm", "tmpfs", "shm", [*strict, "mode=1777"]),
            spec.Mount("/dev/mqueue", "mqueue", "mqueue", strict),
            spec.Mount("/sys", "sysfs", "sysfs", [*strict, "ro"]),
        ],
        linux=spec.Linux(namespaces=[spec.Namespace(name) for name in namespaces]),
    )


def _environment(given: tuple[str, ...]) -> list[str]:
    passed = [f"{name}={os.environ[name]}" for name in os.environ if name in _PASSED or name.startswith("LC_")]
    if "PATH" not in os.environ:
        passed.append(f"PATH={_DEFAULT_PATH}")
    for entry in given:
        if "=" not in entry:
            entry = f"{entry}={os.environ.get(entry, '')}"
        passed.append(entry)
    return passed


def _default_cwd(rootfs: str) -> str:
    """Where the caller is, if that is in there; else the root."""
    try:
        here = os.getcwd()
    except OSError:
        return "/"
    return here if rootfs == "/" or os.path.isdir(rootfs + here) else "/"


VERB = Verb(
    "run a command in a throw-away sandbox",
    [
        Option("--rootfs", "--root", default="/", metavar="DIR", help="Its root; the host's by default."),
        Option("--interactive", "-i", kind="flag", help="Keep stdin open (it always is)."),
        Option("--tty", "-t", kind="flag", help="Give it a terminal, if stdin is one."),
        Option("--network", metavar="none|host", help="Its network; none by default."),
        Option("--cwd", metavar="DIR", help="Its working directory."),
        Option("--env", "-e", kind="list", metavar="NAME=VALUE", help="Add to its environment."),
        Option("--hostname", default="runsc-py", metavar="NAME", help="Its host name."),
    ],
    ("args...",),
    run,
    stop_at_arguments=True,
    description="Run a command over a read-only root under a memory overlay: no bundle, image or registry.",
)
