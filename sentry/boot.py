"""Starting a sandbox: what the command line calls, and the forks that lead to the sentry.

    CLI ── fork ──▶ launcher ── fork ──▶ sentry   (pid 1 of the sandbox's PID namespace)
                        └────── fork ──▶ zygote   (pid 2 of it)   ── CLONE_PARENT ──▶ container init, exec'd processes

The launcher loads the sentry's code, while its caller moves it into the cgroup. It joins the network namespace, becomes
an unprivileged user and makes the user and PID namespaces; then it is no longer needed and ends, so that sentry, zygote
and init become children of whoever reaps for the caller (a shim, or the CLI itself). Everything is forked, nothing
executed: pages stay shared and no start-up is paid twice.
"""

import _socket as socket
import gc
import os
from collections.abc import Callable
from time import sleep
from typing import Any, NamedTuple, NoReturn

from native import ffi, lib
from sentry.errors import LinuxError, from_errno

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = (
    0x00020000, 0x04000000, 0x08000000, 0x20000000, 0x40000000,
)  # fmt: skip
NOBODY = 65534
HOSTNAME = b"localhost"  # of a container without one
# The stub's number in every guest's host descriptor table, with two more for a program and its interpreter: the last of
# those that need no table beyond the one inside the kernel's files_struct.
STUB_FD = 61
SCRATCH_SIZE = 8 << 20
PR_SET_DUMPABLE, PR_SET_NAME, PR_SET_NO_NEW_PRIVS = 4, 15, 38


class BootError(Exception):
    """The sandbox could not be started; the text says why, in the words clients know from runc."""


class ProcessConfig(NamedTuple):
    """A first process. `caps`: masks by set name (effective, permitted, inheritable, bounding, ambient); `rlimits`:
    (soft, hard) by RLIMIT_* number; rows, cols: the terminal's size (0: as it is)."""

    args: list[bytes]
    env: list[bytes]
    cwd: bytes = b"/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    umask: int | None = None
    caps: dict[str, int] = {}
    rlimits: dict[int, tuple[int, int]] = {}
    no_new_privs: bool = False
    terminal: bool = False
    rows: int = 0
    cols: int = 0
    oom_score_adj: int | None = None


class MountConfig(NamedTuple):
    """A mount of the container. `export` is the gofer's, for fstype "gofer"; flags are MS_*; `source` is what
    /proc/mounts shows; `copy_up`: a tmpfs begins with what it covers."""

    destination: bytes
    fstype: bytes | str
    export: int | None = None
    flags: int = 0
    data: bytes = b""
    source: bytes = b"none"
    copy_up: bool = False


class SandboxConfig(NamedTuple):
    """All the sentry is told of its container. `uts`: without a hostname, that of this namespace. `enter` is called
    first in the launcher; `adopt` by `start`, with the launcher's pid, before it forks (moving it into the cgroup)."""

    id: str
    process: ProcessConfig
    hostname: bytes = b""
    uts: str = ""
    domainname: bytes = b""
    root_readonly: bool = False
    overlay: bool = False
    overlay_size: int | None = None
    mounts: list[MountConfig] = []
    devices: list[tuple[bytes, str, int, int, int, int, int]] = []
    masked_paths: list[bytes] = []
    readonly_paths: list[bytes] = []
    sysctl: dict[str, str] = {}
    memory_limit: int | None = None
    cpu_quota: int | None = None
    cpu_period: int | None = None
    pids_limit: int | None = None
    network: str = "none"
    netns: str | None = None
    strace: bool = False
    strace_fd: int = -1
    debug: bool = False
    panic_on_bug: bool = False
    platform: str = "seccomp"
    rootless: bool = False
    uid_map: list[tuple[int, int, int]] = []
    gid_map: list[tuple[int, int, int]] = []
    enter: Callable[[], None] | None = None
    adopt: Callable[[int], None] | None = None
    log_fd: int = -1
    log_json: bool = False


class Sandbox(NamedTuple):
    """What runs now, by host pid."""

    init_pid: int
    sentry_pid: int


class Inherited(NamedTuple):
    """Descriptors that the sentry takes over from the launcher."""

    control: int
    stdio: list[int]
    gofer: int
    preserved: list[int]
    report: int
    log: int
    strace: int


def start(
    config: SandboxConfig,
    control: socket.socket,
    stdio: list[int],
    gofer_fd: int,
    preserve_fds: list[int],
    console: socket.socket | None = None,
) -> Sandbox:
    """Start a sandbox whose first task waits for `start`. BootError when it can't be, with nothing left running."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC, 0)
    strace_fd = config.strace_fd if config.strace else -1  # kept open it would keep a client's pipe from its end
    inherited = Inherited(
        control.fileno(), stdio, gofer_fd, preserve_fds, theirs.fileno(), config.log_fd, strace_fd
    )
    launcher = os.fork()
    if launcher == 0:
        gc.freeze()  # the caller's garbage, collected here, would close numbers that are ours
        gc.disable()
        ours.close()
        _launch(config, inherited)
    theirs.close()
    sentry_pid = init_pid = 0
    try:
        if config.adopt is not None:
            config.adopt(launcher)
        try:
            ours.send(b"+")
        except OSError:
            pass  # it has failed, and says why
        sentry_pid = _receive(ours)
        _reap(launcher)  # a zombie counts against a limit of tasks
        init_pid = _receive(ours)
    finally:
        ours.close()
        _reap(launcher)
        if sentry_pid and not init_pid:
            _end(sentry_pid)
    return Sandbox(init_pid, sentry_pid)


def _reap(launcher: int) -> None:
    try:
        os.waitpid(launcher, 0)
    except ChildProcessError:
        pass  # done already


def _receive(sock: socket.socket) -> int:
    """One report: b"+<number>" or b"-<why>"."""
    message = sock.recv(4096)
    if message[:1] == b"+":
        return int(message[1:])
    raise BootError(message[1:].decode("utf-8", "replace") or "the sandbox ended while starting")


def _end(pid: int) -> None:
    """Kill a sentry that did not come up. Its PID namespace dies with it, and it is gone when those of its processes
    that are our children (where we are the subreaper) have been reaped too."""
    try:
        os.kill(pid, 9)
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            for child in _nested_children():
                os.waitpid(child, os.WNOHANG)
            sleep(0.002)
    except OSError:
        pass  # not our child: its own reaper takes it


def _nested_children() -> list[int]:
    """Our children that live in another PID namespace than ours."""
    found = []
    with open(f"/proc/self/task/{os.getpid()}/children", "rb") as children:
        pids = children.read().split()
    for pid in pids:
        try:
            with open(b"/proc/%s/status" % pid, "rb") as status:
                text = status.read()
        except OSError:
            continue
        line = text[text.index(b"NSpid:") + 6 :].split(b"\n", 1)[0]
        if len(line.split()) > 1 and b"NSpid:" in text:
            found.append(int(pid))
    return found


def check(result: int, what: str) -> int:
    """A native result; BootError with `what` when it is an error."""
    if result < 0:
        raise BootError(f"{what}: {os.strerror(-result).lower()}")
    return result


def _launch(config: SandboxConfig, inherited: Inherited) -> NoReturn:
    from sentry.preload import load

    report = inherited.report
    try:
        if config.enter is not None:
            config.enter()
        load()
        if os.read(report, 1) != b"+":
            os._exit(1)  # nobody waits any more
        if config.uts and not config.hostname:
            config = config._replace(hostname=_hostname_of(config.uts))
        own_net = _namespaces(config)
        page = lib.nc_shared_new()
        check(lib.nc_make_stub(), "loader stub")
        program = _guest_filter(config)
        sentry_pid = os.fork()
        if sentry_pid == 0:
            _run_sentry(config, inherited, page)
        os.write(report, b"+%d" % sentry_pid)
        if os.fork() == 0:
            os.setsid()
            lib.nc_zygote(page, program, len(program) // 8, STUB_FD, int(own_net), SCRATCH_SIZE)
            os._exit(1)
    except BaseException as error:
        report_failure(report, error)
        os._exit(1)
    os._exit(0)


def report_failure(report: int, error: BaseException) -> None:
    text = str(error)
    if not isinstance(error, BootError):
        text = f"{type(error).__name__}: {error}"
    try:
        os.write(report, b"-" + text.encode("utf-8", "replace")[:4000])
    except OSError:
        pass


def _guest_filter(config: SandboxConfig) -> bytes:
    from sentry.platform.filter import guest_filter
    from sentry.syscalls.declare import TABLE

    return guest_filter(TABLE, trace_all=config.strace)


def _hostname_of(uts: str) -> bytes:
    """A pod's other containers share the name of its first; the launcher leaves that namespace again."""
    fd = os.open(uts, os.O_RDONLY | os.O_CLOEXEC)
    check(lib.nc_setns(fd, CLONE_NEWUTS), f"joining UTS namespace {uts}")
    os.close(fd)
    return os.fsencode(os.uname().nodename)


def _namespaces(config: SandboxConfig) -> bool:
    """The launcher's own way down: network, user, the rest. True when guests get a network namespace of their own."""
    own_net = config.netns == ""
    if config.netns:
        _join_network(config.netns, config.sysctl)
    if os.geteuid() == 0:
        _become_nobody()
    check(lib.nc_prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "dumpable")  # /proc/self/uid_map must be ours to write
    check(lib.nc_new_user_namespace(), "making a user namespace")
    fresh_net = config.network == "none" or config.netns is None
    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS
    if fresh_net and not config.netns:
        flags |= CLONE_NEWNET
        own_net = False
    check(lib.nc_unshare(flags), "making namespaces")
    _set_hostname(config.hostname or HOSTNAME)
    return own_net


def _set_hostname(name: bytes) -> None:
    """The guests' name is asked of the sentry; whoever joins their namespace finds it there."""
    try:
        socket.sethostname(os.fsdecode(name))
    except OSError as error:
        raise BootError(f"error during container init: sethostname: {os.strerror(error.errno or 22).lower()}") from None


def set_up_network(sysctls: dict[str, str]) -> None:
    """In a network namespace that is not the host's own, while it may be changed."""
    from sentry.net import set_up_namespace

    try:
        set_up_namespace(sysctls)
    except OSError as error:
        reason = os.strerror(error.errno or 5).lower()
        raise BootError(f"error during container init: {error.filename}: {reason}") from None


def _join_network(netns: str, sysctls: dict[str, str]) -> None:
    fd = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    theirs = os.fstat(fd).st_ino
    hosts = {_network_namespace(of) for of in ("self", "1")}
    check(lib.nc_setns(fd, CLONE_NEWNET), f"joining network namespace {netns}")
    os.close(fd)
    if theirs not in hosts:
        set_up_network(sysctls)


def _network_namespace(of: str) -> int:
    try:
        return os.stat(f"/proc/{of}/ns/net").st_ino
    except OSError:
        return 0


def _become_nobody() -> None:
    try:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    except OSError:
        # In a user namespace without such an id, or that may set no groups, root is an unprivileged user already.
        with open("/proc/self/uid_map", "rb") as id_map:
            if id_map.read().split() == [b"0", b"0", b"4294967295"]:
                raise


def _run_sentry(config: SandboxConfig, inherited: Inherited, page: Any) -> NoReturn:
    from sentry.service import serve

    status = 1
    try:
        status = serve(config, inherited, page)
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else 1
    except BaseException as error:
        report_failure(inherited.report, error)
    finally:
        os._exit(status)


def seize_zygote(page: Any) -> tuple[int, int]:
    """In the sentry: take the zygote under ptrace and its listener. Gives (zygote's pid, listener)."""
    state = lib.nc_shared_wait(page, 1)
    if state != 1:
        where = ffi.string(lib.nc_shared_where(page)).decode()
        raise BootError(f"zygote: {where}: {os.strerror(abs(lib.nc_shared_value(page))).lower()}")
    zygote: int = lib.nc_shared_value(page)
    check(lib.nc_seize(zygote), "ptrace of the zygote")
    lib.nc_shared_set(page, 2)
    state = lib.nc_shared_wait(page, 3)
    if state != 3:
        raise BootError(f"seccomp filter: {os.strerror(abs(lib.nc_shared_value(page))).lower()}")
    pidfd = check(lib.nc_pidfd_open(zygote), "pidfd of the zygote")
    listener = check(lib.nc_pidfd_getfd(pidfd, lib.nc_shared_value(page)), "taking the seccomp listener")
    os.close(pidfd)
    check(lib.nc_listener(listener), "seccomp listener")
    lib.nc_shared_set(page, 4)
    return zygote, listener


def host_error(result: int) -> LinuxError:
    return from_errno(-result)
