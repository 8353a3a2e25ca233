"""Starts a container's gofer: `start(GoferConfig(...))` forks it and gives its pid and socket.

Called by the command line before the sandbox starts. The child confines itself while the caller goes on;
`GoferHandle.wait_ready` tells whether that went well. The gofer ends when the sentry's end of the socket is
closed, so the caller must close its own copy once the sentry has it. (It is the first process of a PID
namespace of its own, where the host allows it: of the signals sent to it only SIGKILL and SIGSTOP work.)
"""

import _socket
import gc
import os
from collections.abc import Callable

from gofer.exports import Export, ExportError, IdMap


class GoferError(Exception):
    """The gofer did not start: one line that says why."""


class GoferConfig:
    """exports[0] is the rootfs. `enter` runs first in the child (it joins the cgroup).

    rootless: make a user namespace with the maps (one entry of one id, or what newuidmap(1) grants).
    Otherwise the maps say how the container's ids are stored on the host; empty: as they are.
    """

    __slots__ = ("enter", "exports", "gid_map", "rootless", "uid_map")

    def __init__(
        self,
        exports: list[Export],
        uid_map: IdMap | None = None,
        gid_map: IdMap | None = None,
        rootless: bool = False,
        enter: Callable[[], None] | None = None,
    ) -> None:
        self.exports = exports
        self.uid_map = uid_map or []
        self.gid_map = gid_map or []
        self.rootless = rootless
        self.enter = enter


class GoferHandle:
    __slots__ = ("_status", "pid", "socket_fd")

    def __init__(self, pid: int, socket_fd: int, status: int) -> None:
        self.pid = pid
        self.socket_fd = socket_fd
        self._status = status

    def wait_ready(self) -> None:
        """Until it serves. Raises GoferError with its reason, and reaps it, if it could not start."""
        if self._status < 0:
            return
        report = bytearray()
        while chunk := os.read(self._status, 4096):
            report += chunk
            if chunk.endswith(b"\n"):
                break
        os.close(self._status)
        self._status = -1
        if report != b"ok\n":
            os.close(self.socket_fd)
            how = ""
            try:
                status = os.waitpid(self.pid, 0)[1]
                how = f" (signal {os.WTERMSIG(status)})" if os.WIFSIGNALED(status) else ""
            except ChildProcessError:
                pass
            text = report.decode("utf-8", "replace").strip()
            raise GoferError(text or f"the gofer ended before it was ready{how}")


def start(config: GoferConfig) -> GoferHandle:
    kind = _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, kind, 0)
    status_read, status_write = os.pipe()
    go_read, go_write = os.pipe()
    pid = _fork(config.rootless)
    if pid == 0:
        try:
            # The caller's garbage must not be collected here: it would close numbers that are ours.
            gc.freeze()
            os.close(status_read)
            os.close(go_write)
            ours.close()
            _child(config, _above_2(theirs.detach()), _above_2(status_write), _above_2(go_read))
        except BaseException as error:
            _report(status_write, str(error) if str(error) else type(error).__name__)
        finally:
            os._exit(1)
    theirs.close()
    os.close(status_write)
    os.close(go_read)
    handle = GoferHandle(pid, ours.detach(), status_read)
    try:
        if config.rootless:
            _map_ids(pid, config, status_read)
            os.write(go_write, b"g")
    except GoferError:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(handle.socket_fd)
        os.close(status_read)
        raise
    finally:
        os.close(go_write)
    return handle


def _above_2(fd: int) -> int:
    """Out of the way of the standard streams, should the caller have been started without."""
    if fd > 2:
        return fd
    moved = _above_2(os.dup(fd))
    os.close(fd)
    return moved


def _report(status: int, text: str) -> None:
    try:
        os.write(status, text.replace("\n", " ").encode("utf-8", "replace")[:4000] + b"\n")
    except OSError:
        pass


def _fork(rootless: bool) -> int:
    """fork, into a new PID namespace if we may."""
    if rootless or os.geteuid() != 0:
        return os.fork()
    from gofer import hostcalls as host

    try:
        home = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return os.fork()
    try:
        host.setns(home, host.CLONE_NEWPID)  # a user namespace's root may not come back, so it must not leave
        host.unshare(host.CLONE_NEWPID)
    except OSError:
        os.close(home)
        return os.fork()
    try:
        pid = os.fork()
    finally:
        # Only the gofer goes there, not the caller's next child. (In the child this fails, as it should.)
        try:
            host.setns(home, host.CLONE_NEWPID)
        except OSError:
            pass
        os.close(home)
    return pid


def _map_ids(pid: int, config: GoferConfig, status: int) -> None:
    """Write the maps of the child's user namespace, once it says that it has one."""
    word = os.read(status, 4096)
    if word != b"u":
        raise GoferError(word.decode("utf-8", "replace").strip() or "the gofer ended early")
    uids = config.uid_map or [(0, os.geteuid(), 1)]
    gids = config.gid_map or [(0, os.getegid(), 1)]
    _write_map(pid, "uid", uids, os.geteuid())
    _write_map(pid, "gid", gids, os.getegid())


def _write_map(pid: int, kind: str, ids: IdMap, own: int) -> None:
    own_only = len(ids) == 1 and ids[0][1] == own and ids[0][2] == 1
    try:
        if own_only or os.geteuid() == 0:
            if kind == "gid" and os.geteuid() != 0:
                with open(f"/proc/{pid}/setgroups", "w") as setgroups:
                    setgroups.write("deny")
            with open(f"/proc/{pid}/{kind}_map", "w") as id_map:
                id_map.write("".join(f"{inside} {outside} {count}\n" for inside, outside, count in ids))
            return
    except OSError as error:
        raise GoferError(f"can't write the {kind} map of a user namespace: {os.strerror(error.errno or 5)}")
    import subprocess

    command = [f"new{kind}map", str(pid), *(str(number) for entry in ids for number in entry)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise GoferError(f"{command[0]}: {os.strerror(error.errno or 5)}")
    if done.returncode:
        raise GoferError(f"{command[0]}: {done.stderr.strip() or done.returncode}")


def _child(config: GoferConfig, sock: int, status: int, go: int) -> None:
    if config.enter is not None:
        config.enter()
    from gofer import confine, server
    from gofer.exports import open_export
    from native import filters

    exports = config.exports
    for export in exports:
        if export.fd is not None:
            export.fd = _above_2(export.fd)
    given = [export.fd for export in exports if export.fd is not None]
    confine.rename_process()
    confine.leave_terminal()
    confine.close_all_but([sock, status, go, *given])
    os.umask(0)
    if config.rootless:
        _user_namespace(status, go)
    else:
        _open_all(exports, open_export)
        if os.geteuid() == 0:
            _leave_groups()
    os.close(go)
    program = filters.compiled(confine.rules(any(export.connect for export in exports)))
    confine.leave_namespaces()
    if config.rootless:
        _open_all(exports, open_export)
    self_fd = confine.open_self_fd()
    descriptors = confine.limits()
    for fd in given:
        os.close(fd)
    held = confine.capabilities()
    confine.empty_root()
    os.fchdir(self_fd)
    confine.drop_privileges(held)
    served = server.Server(
        sock,
        exports,
        self_fd,
        [] if config.rootless else config.uid_map,
        [] if config.rootless else config.gid_map,
        lenient_owner=config.rootless,
        budget=max(64, min(descriptors // 2, 8192)),
    )
    _settle()
    filters.load(program)
    os.write(status, b"ok\n")
    os.close(status)
    served.serve()
    os._exit(0)


def _leave_groups() -> None:
    try:
        os.setgroups([])
    except PermissionError:
        # Root of a user namespace without the right: the groups are a plain user's, whom the guests act as.
        with open("/proc/self/setgroups") as setgroups:
            if setgroups.read() != "deny\n":
                raise


def _user_namespace(status: int, go: int) -> None:
    from gofer import hostcalls as host

    try:
        host.unshare(host.CLONE_NEWUSER)
    except OSError as error:
        raise GoferError(f"can't make a user namespace: {os.strerror(error.errno or 5)}")
    os.write(status, b"u")
    if os.read(go, 1) != b"g":
        os._exit(1)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)


def _open_all(exports: list[Export], open_export: Callable[[Export], None]) -> None:
    for export in exports:
        try:
            open_export(export)
        except ExportError:
            raise
        except OSError as error:
            raise ExportError(f"{export.source}: {os.strerror(error.errno or 5)}") from error


def _settle() -> None:
    """What is in memory by now stays there: pages shared with the caller, as long as nobody touches them."""
    gc.freeze()
    gc.set_threshold(20_000, 50, 1000)
