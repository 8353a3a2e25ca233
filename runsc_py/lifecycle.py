"""The life of a container: create, start, exec, kill, pause, delete. The verbs are thin over this.

    container, sandbox = create(root, id, spec, bundle, settings, log, ...)
    start(container, log); kill(container, signal, everybody); delete(container, force, log)

Whatever fails half-way takes everything made so far with it: processes, cgroups, directory.
"""

import os
import time
from typing import TYPE_CHECKING, Any

from runsc_py import build, cgroups, console, hooks, interruption, rootless, state
from runsc_py.errors import NotRunning, RuntimeFault, SandboxGone, errno_text, host_fault
from runsc_py.logs import Log
from runsc_py.processes import Identity, become_subreaper, kill_and_wait, reap_children
from runsc_py.settings import Settings
from runsc_py.spec import root_path
from runsc_py.state import Container
from runsc_py.typed import convert, plain

if TYPE_CHECKING:
    from runsc_py.spec import Process, Resources, Spec
    from sentry.control import Client

SIGKILL = 9


class Created:
    """A created container, with what only its creator has: the console's master."""

    __slots__ = ("container", "init_pid", "master")

    def __init__(self, container: Container, init_pid: int, master: int) -> None:
        self.container = container
        self.init_pid = init_pid
        self.master = master  # -1 without a terminal, or when it went to --console-socket


class Options:
    """How to create: the flags of `create` and `run`."""

    __slots__ = ("console_socket", "foreground", "pid_file", "preserve_fds", "use_cgroup")

    def __init__(self) -> None:
        self.console_socket = ""
        self.pid_file = ""
        self.preserve_fds = 0
        self.foreground = False  # the creator stays, and stderr is its own
        self.use_cgroup = True


def create(
    root: str, container_id: str, spec: "Spec", bundle: str, settings: Settings, log: Log, how: Options
) -> Created:
    """Make the container, its first task stopped before its program. Raises with nothing left behind."""
    become_subreaper()  # what must be killed can then be reaped; the living pass on to our own reaper
    interruption.begin()
    container = state.create(root, container_id)
    attempt = _Attempt(container, log)
    try:
        return attempt.make(spec, bundle, settings, how)
    except BaseException as error:
        interruption.ignore()
        attempt.undo()
        if isinstance(error, OSError):
            raise host_fault("unable to start container process", error) from error
        raise
    finally:
        attempt.close_files()


class _Attempt:
    """One try at creating: every step records what `undo` must take back."""

    def __init__(self, container: Container, log: Log) -> None:
        self.container = container
        self.log = log
        self.cgroup: cgroups.Manager | None = None
        self.victims: list[Identity] = []
        self.files: list[int] = []
        self.listener: Any = None
        self.pid_file = ""
        self.foreground = False

    def make(self, spec: "Spec", bundle: str, settings: Settings, how: Options) -> Created:
        from sentry.boot import BootError

        container, process = self.container, spec.process
        self.foreground = how.foreground
        assert process is not None
        self._describe(spec, bundle, settings)
        plan = build.plan(spec, bundle, not settings.shared_root, settings.overlay)
        fields = build.process_fields(process, self.log.warning)
        stdio, master = self._stdio(fields)
        try:
            init_pid = self._boot(spec, plan, fields, settings, stdio, how)
        except BootError as error:
            text = str(error).removeprefix("unable to start container process: ")
            raise RuntimeFault(f"unable to start container process: {text}") from None
        container.init_pid, container.init_start = init_pid, Identity(init_pid).start
        self.victims.append(container.init)
        if not container.init_start:
            raise RuntimeFault("unable to start container process: its first task ended at once")
        container.save()  # before the hooks: if we are killed, `delete --force` finds what to clean up
        self._run_hooks()
        if master >= 0 and how.console_socket:
            console.send_master(how.console_socket, master)
            master = -1  # closed with the attempt
        elif master >= 0:
            self.files.remove(master)
        if how.pid_file:
            self.pid_file = how.pid_file
            write_pid_file(how.pid_file, init_pid)
        return Created(container, init_pid, master)

    def _describe(self, spec: "Spec", bundle: str, settings: Settings) -> None:
        container = self.container
        container.oci_version = spec.oci_version
        container.bundle = bundle
        container.rootfs = root_path(spec, bundle)
        container.created = timestamp()
        container.annotations = dict(spec.annotations or {})
        container.owner = os.geteuid()
        container.hooks = hooks.to_record(spec.hooks)
        container.rootless = rootless.is_rootless(settings.rootless)
        container.process_defaults = plain(spec.process)

    def _make_cgroup(self, spec: "Spec", settings: Settings, pids: list[int]) -> None:
        """The container's cgroups, with its processes in them."""
        linux = spec.linux
        path = (linux.cgroups_path if linux else "") or ""
        resources = linux.resources if linux else None
        required = bool(path) and not self.container.rootless
        wanted = path or (resources and plain(resources).keys() - {"devices"})
        warn = self.log.debug if self.container.rootless and not wanted else self.log.warning
        if resources and resources.devices:
            self.log.debug("cgroup: device rules are not set: no process of a sandbox can open a device of the host")
        if settings.systemd_cgroup:
            from runsc_py.cgroups import systemd

            self.cgroup = systemd.make(path, self.container, resources, pids, required, self.log.warning)
        else:
            self.cgroup = cgroups.make(path, self.container.id, resources, required, warn)
            self.cgroup.join(pids, required, warn)
        self.container.cgroup = self.cgroup.record()
        self.container.resources = plain(resources) or {}

    def _stdio(self, fields: dict[str, Any]) -> tuple[list[int], int]:
        if not fields["terminal"]:
            return [0, 1, 2], -1
        master, slave = console.open_pair(fields["rows"], fields["cols"])
        self.files += [master, slave]
        return [slave, slave, slave], master

    def _boot(
        self,
        spec: "Spec",
        plan: build.Plan,
        fields: dict[str, Any],
        settings: Settings,
        stdio: list[int],
        how: Options,
    ) -> int:
        """Fork the gofer and the sandbox."""
        from gofer.boot import GoferConfig
        from gofer.boot import start as start_gofer
        from sentry.boot import BootError
        from sentry.boot import start as start_sandbox
        from sentry.control import make_listener

        container = self.container
        uid_map, gid_map = build.id_maps(spec)
        plain_user = container.rootless and os.geteuid() != 0
        if plain_user and not uid_map:
            uid_map, gid_map = rootless.default_maps()
        self.listener = make_listener(container.directory)
        lock_fd = container._lock_fd

        def enter() -> None:  # in each forked child, first
            interruption.end()
            os.close(lock_fd)  # a lock outlives the command that took it as long as a child holds it

        def adopt(launcher: int) -> None:  # while the children load their code: the kernel takes its time for these
            self._set_oom_score(fields["oom_score_adj"], launcher, gofer.pid)
            if how.use_cgroup:
                self._make_cgroup(spec, settings, [launcher, gofer.pid])

        gofer = start_gofer(
            GoferConfig(
                exports=plan.exports,
                uid_map=uid_map,
                gid_map=gid_map,
                rootless=plain_user,
                enter=enter,
            )
        )
        self.files.append(gofer.socket_fd)
        container.gofer_pid, container.gofer_start = gofer.pid, Identity(gofer.pid).start
        self.victims.append(Identity(gofer.pid, container.gofer_start))
        config = self._sandbox_config(spec, plan, fields, settings, (uid_map, gid_map), enter, adopt)
        preserve = list(range(3, 3 + how.preserve_fds))
        try:
            sandbox = start_sandbox(config, self.listener, stdio, gofer.socket_fd, preserve, None)
        except BootError:
            self._gofer_ready(gofer)  # its own reason, if it is the one that failed, says more
            raise
        self._gofer_ready(gofer)
        container.sentry_pid, container.sentry_start = sandbox.sentry_pid, Identity(sandbox.sentry_pid).start
        self.victims.append(Identity(sandbox.sentry_pid, container.sentry_start))
        return int(sandbox.init_pid)

    def _set_oom_score(self, value: int | None, *pids: int) -> None:
        """The sandbox's processes inherit it. To lower it takes CAP_SYS_RESOURCE: clients live with a warning."""
        try:
            for pid in pids if value is not None else ():
                with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
                    file.write(str(value))
        except OSError as error:
            self.log.warning(f"oomScoreAdj {value} is not applied: {errno_text(error)}")

    def _gofer_ready(self, gofer: Any) -> None:
        from gofer.boot import GoferError

        try:
            gofer.wait_ready()
        except GoferError as error:
            self.files.remove(gofer.socket_fd)  # closed by it
            raise RuntimeFault(f"unable to start container process: {error}") from None

    def _sandbox_config(
        self,
        spec: "Spec",
        plan: build.Plan,
        fields: dict[str, Any],
        settings: Settings,
        maps: tuple[Any, Any],
        enter: Any,
        adopt: Any,
    ) -> Any:
        from sentry.boot import SandboxConfig

        linux = spec.linux
        network, netns = build.network(spec, settings.network)
        hostname, uts = build.hostname(spec)
        log_fd = self.log.open()
        if log_fd < 0 and self.foreground:
            log_fd = 2
        return SandboxConfig(
            id=self.container.id,
            process=build.process_config(fields),
            hostname=build.text_bytes(hostname),
            uts=uts,
            domainname=build.text_bytes(spec.domainname or ""),
            root_readonly=bool(spec.root and spec.root.readonly),
            overlay=settings.overlay,
            overlay_size=settings.overlay_size or None,
            mounts=plan.mounts,
            devices=plan.devices,
            masked_paths=[build.text_bytes(p) for p in (linux.masked_paths if linux else None) or ()],
            readonly_paths=[build.text_bytes(p) for p in (linux.readonly_paths if linux else None) or ()],
            sysctl=dict((linux.sysctl if linux else None) or {}),
            **build.limits(linux.resources if linux else None),
            network=network,
            netns=netns,
            strace=settings.strace,
            strace_fd=settings.strace_fd,
            debug=settings.debug,
            panic_on_bug=settings.panic_on_bug,
            platform=settings.platform,
            rootless=self.container.rootless,
            uid_map=maps[0],
            gid_map=maps[1],
            enter=enter,
            adopt=adopt,
            log_fd=log_fd,
            log_json=self.log.json_format,
        )

    def _run_hooks(self) -> None:
        container = self.container
        described = container.describe("creating")
        for stage in hooks.CREATE_HOOKS:
            if found := container.hooks.get(stage):
                enter, cwd = None, container.bundle
                if stage == "createContainer":
                    network = os.open(f"/proc/{container.init_pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
                    self.files.append(network)
                    enter, cwd = hooks.enter_network(network), container.rootfs
                try:
                    hooks.run(found, described, cwd, enter)
                except RuntimeFault as fault:
                    raise RuntimeFault(
                        f"unable to start container process: error during container init: {fault}"
                    ) from None

    def undo(self) -> None:
        kill_and_wait(self.victims)
        reap_children()
        if self.cgroup is not None:
            kill_and_wait([Identity(pid) for pid in self.cgroup.processes() if pid != os.getpid()])
            reap_children()
            self.cgroup.remove(self.log.warning)
        if self.pid_file:
            try:
                os.unlink(self.pid_file)
            except OSError:
                pass
        self.container.remove()

    def close_files(self) -> None:
        if self.listener is not None:
            self.listener.close()
        for descriptor in dict.fromkeys(self.files):
            try:
                os.close(descriptor)
            except OSError:
                pass
        self.files.clear()
        self.container.unlock()


def client(container: Container, timeout: float = 10.0) -> "Client":
    """A connection to the container's sentry; SandboxGone when there is none."""
    from sentry.control import Client, ControlGone

    try:
        return Client(container.socket_path, timeout)
    except ControlGone as error:
        raise SandboxGone(str(error)) from None


def request(container: Container, op: str, timeout: float = 10.0, **fields: Any) -> dict[str, Any]:
    """One request, one answer."""
    from sentry.control import ControlError, ControlGone

    with client(container, timeout) as connection:
        try:
            return connection.call(op, **fields)
        except ControlGone as error:
            raise SandboxGone(str(error)) from None
        except ControlError as error:
            raise RuntimeFault(str(error)) from None


def start(container: Container, log: Log) -> None:
    """Let a created container's program run. The container is locked by the caller."""
    status = container.status()
    if status == "stopped":
        raise RuntimeFault("cannot start a container that has stopped")
    if status == "paused":
        raise RuntimeFault("cannot start a container in the paused state")
    if status == "running":
        raise RuntimeFault("cannot start an already running container")
    _start_container_hooks(container, log)
    container.started = True
    container.save()
    try:
        request(container, "start")
    except RuntimeFault:
        if container.init.alive():
            container.started = False
            container.save()
        raise
    if found := container.hooks.get("poststart"):
        try:
            hooks.run(found, container.describe("running"), container.bundle)
        except RuntimeFault:
            kill_and_wait([container.init])
            raise


def _start_container_hooks(container: Container, log: Log) -> None:
    """startContainer hooks run inside, as tasks of the sandbox, with the state on their stdin."""
    for index, hook in enumerate(container.hooks.get("startContainer") or ()):
        from runsc_py import inside

        try:
            inside.run_hook(container, hook, log)
        except RuntimeFault as fault:
            kill_and_wait([container.init])
            raise RuntimeFault(
                f"unable to start container process: error during container init: error running hook #{index}: {fault}"
            ) from None


def kill(container: Container, signal: int, everybody: bool) -> None:
    """Signal the first task, or every process of the container."""
    status = container.status()
    if status == "stopped":
        if everybody:
            return
        raise NotRunning
    if status != "paused":
        try:
            request(container, "signal", pid="all" if everybody else container.init_pid, signal=signal)
            return
        except SandboxGone:
            pass
        except RuntimeFault as fault:
            if "no such process" in str(fault) and not everybody:
                raise NotRunning from None
    # The sentry cannot be asked: the host's kill(2) on the very process does the same.
    if not container.init.signal(signal) and not everybody:
        raise NotRunning
    if everybody and signal == SIGKILL:
        for pid in cgroups.Manager.restore(container.cgroup).processes():
            if pid not in (container.sentry_pid, container.gofer_pid):
                Identity(pid).signal(SIGKILL)
    if status == "paused" and signal == SIGKILL:
        thaw(container)  # a frozen task dies only once it runs again


def pause(container: Container) -> None:
    if container.status() not in ("running", "created"):
        raise NotRunning
    if not _freeze(container):
        request(container, "pause")  # by signals, which guests can see
    container.paused = True
    container.save()


def _freeze(container: Container) -> bool:
    """Have the host freeze sentry, gofer and guests. False where it can't be."""
    manager = cgroups.Manager.restore(container.cgroup)
    if not manager.can_freeze():
        return False
    try:
        request(container, "hold")
        if manager.freeze(True):
            return True
        request(container, "release")
    except RuntimeFault:
        pass
    return False


def resume(container: Container) -> None:
    if container.status() != "paused":
        raise RuntimeFault("container not paused")
    thaw(container)
    container.paused = False
    container.save()


def thaw(container: Container) -> None:
    """Undo `pause`, whichever way it was done."""
    manager = cgroups.Manager.restore(container.cgroup)
    frozen = manager.can_freeze() and manager.frozen()
    if frozen:
        manager.freeze(False)
    try:
        request(container, "release" if frozen else "resume")
    except SandboxGone:
        pass


def update(container: Container, resources: "Resources", log: Log) -> None:
    if container.status() == "stopped":
        raise NotRunning
    from runsc_py import spec
    from runsc_py.cgroups import limits

    before = convert(container.resources, spec.Resources, "state.json: resources")
    after = limits.merged(before, resources)
    cgroups.Manager.restore(container.cgroup).apply(after, not container.rootless, log.warning)
    container.resources = plain(after)
    container.save()
    if container.status() != "paused":  # frozen, the sentry answers nobody
        try:
            request(container, "limits", **build.limits(after))
        except RuntimeFault as fault:
            log.warning(f"guests are not told of their new limits: {fault}")


def delete(container: Container, force: bool, log: Log) -> None:
    """Remove a stopped container, or with force any. Nothing of it is left: process, cgroup, socket, file."""
    status = container.status()
    if status == "created" and not force:
        kill_and_wait([container.init])  # as runc: a container that never ran may be deleted
    elif status != "stopped" and not force:
        raise RuntimeFault(f"cannot delete container {container.id} that is not stopped: {status}")
    _end_processes(container, log)
    cgroups.Manager.restore(container.cgroup).remove(log.warning)
    described = container.describe("stopped")
    container.remove()
    if found := container.hooks.get("poststop"):
        hooks.run_all(found, described, container.bundle if os.path.isdir(container.bundle) else "/", log.warning)


def _end_processes(container: Container, log: Log) -> None:
    """Kill what is left: the first task, then sentry and gofer, then whoever is in the cgroup."""
    victims = [container.init, *container.helpers]
    victims += [Identity(pid, start) for pid, start in container.waiters]
    manager = cgroups.Manager.restore(container.cgroup)
    if manager.can_freeze() and (container.paused or manager.frozen()):
        for victim in victims:
            victim.signal(SIGKILL)
        manager.freeze(False)
    survivors = kill_and_wait(victims)
    for _ in range(50):
        reap_children()
        left = [Identity(pid) for pid in manager.processes() if pid != os.getpid()]
        left = [victim for victim in left if victim.alive()]
        if not left:
            break
        survivors = kill_and_wait(left, 1.0)
    if survivors:
        log.warning(f"processes that cannot be killed: {survivors}")


def write_pid_file(path: str, pid: int) -> None:
    try:
        state.write_aside(path, str(pid).encode(), 0o644)
    except OSError as error:
        raise host_fault(f"cannot write the pid file {path}", error) from None


def timestamp() -> str:
    """Now, as RFC 3339 with nanoseconds."""
    seconds, nanoseconds = divmod(time.time_ns(), 10**9)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09d}Z"


def open_bundle(path: str) -> str:
    """The absolute path of a bundle directory, in runc's words if there is none."""
    bundle = os.path.abspath(path or ".")
    try:
        os.stat(os.path.join(bundle, "."))
    except OSError as error:
        raise host_fault(f"chdir {path}", error) from None
    return bundle


def execute(
    container: Container, process: "Process", fds: list[int], guest_fds: list[int], log: Log
) -> tuple["Client", int]:
    """Start another first task in the container: the connection (to wait on) and its host pid."""
    from sentry.control import ControlError, ControlGone

    fields = build.process_fields(process, log.warning)
    fields["fds"] = guest_fds
    connection = client(container)
    try:
        answer = connection.call("exec", fds=fds, process=fields)
        return connection, int(answer["pid"])
    except ControlGone as error:
        connection.close()
        raise SandboxGone(str(error)) from None
    except (ControlError, KeyError, ValueError) as error:
        connection.close()
        text = str(error).removeprefix("unable to start container process: ")
        raise RuntimeFault(f"unable to start container process: {text}") from None
