"""The state directory: ROOT/ID/ holds state.json, the control socket and a lock.

`create(root, id)` makes one, `load(root, id)` reads one; `container.lock()` serialises verbs on one
container. state.json is written aside and renamed, so a reader never sees half of it. "stopped" is never
stored: it is what one sees when the init process is dead, a zombie, or another process by its start time.
"""

import fcntl
import os
from typing import Any

from runsc_py.errors import IdExists, NoSuchContainer, RuntimeFault, host_fault
from runsc_py.processes import Identity
from runsc_py.rootless import in_user_namespace

_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")


class Container:
    """What is known of a container. Everything in `_SAVED` goes to state.json."""

    _SAVED = (
        "id",
        "oci_version",
        "bundle",
        "rootfs",
        "created",
        "annotations",
        "owner",
        "init_pid",
        "init_start",
        "sentry_pid",
        "sentry_start",
        "gofer_pid",
        "gofer_start",
        "started",
        "paused",
        "cgroup",
        "resources",
        "hooks",
        "rootless",
        "process_defaults",
        "waiters",
    )

    def __init__(self, directory: str, container_id: str) -> None:
        self.directory = directory
        self.id = container_id
        self.oci_version = "1.0.2"
        self.bundle = ""
        self.rootfs = ""
        self.created = ""
        self.annotations: dict[str, str] = {}
        self.owner = 0
        self.init_pid = self.init_start = 0
        self.sentry_pid = self.sentry_start = 0
        self.gofer_pid = self.gofer_start = 0
        self.started = False
        self.paused = False
        self.cgroup: dict[str, Any] = {}
        self.resources: dict[str, Any] = {}  # linux.resources in force
        self.hooks: dict[str, Any] = {}
        self.rootless = False
        self.process_defaults: dict[str, Any] = {}  # what `exec` takes from the container's own process
        self.waiters: list[list[int]] = []
        self._lock_fd = -1

    # -- identity and status

    @property
    def init(self) -> Identity:
        return Identity(self.init_pid, self.init_start)

    @property
    def helpers(self) -> list[Identity]:
        """The processes of ours: sentry and gofer."""
        return [Identity(self.sentry_pid, self.sentry_start), Identity(self.gofer_pid, self.gofer_start)]

    def status(self) -> str:
        if not self.init.alive():
            return "stopped"
        if self.paused:
            return "paused"
        return "running" if self.started else "created"

    @property
    def socket_path(self) -> str:
        return os.path.join(self.directory, "control.sock")

    # -- the file

    def save(self) -> None:
        import json

        data = json.dumps({name: getattr(self, name) for name in self._SAVED}).encode()
        write_aside(os.path.join(self.directory, "state.json"), data, 0o600)

    def reload(self) -> None:
        try:
            with open(os.path.join(self.directory, "state.json"), "rb") as file:
                data = file.read()
        except OSError:
            raise NoSuchContainer from None
        import json

        try:
            fields = json.loads(data)
            for name in self._SAVED:
                if name in fields:
                    setattr(self, name, fields[name])
        except (ValueError, TypeError):
            raise RuntimeFault(f"{self.directory}/state.json cannot be read") from None

    def describe(self, status: str | None = None) -> dict[str, Any]:
        """The JSON of `state` (without the fields of runc's own); hooks get it on stdin."""
        status = status or self.status()
        fields: dict[str, Any] = {
            "ociVersion": self.oci_version,
            "id": self.id,
            "pid": 0 if status == "stopped" else self.init_pid,
            "status": status,
            "bundle": self.bundle,
            "rootfs": self.rootfs,
            "created": self.created,
        }
        if self.annotations:
            fields["annotations"] = self.annotations
        fields["owner"] = ""
        return fields

    # -- locking and removal

    def lock(self) -> "Container":
        """Take the container's lock, until `unlock` or the end of this process."""
        try:
            self._lock_fd = os.open(
                os.path.join(self.directory, "lock"),
                os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW,
                0o600,
            )
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX)
        except OSError as error:
            self.unlock()
            if not os.path.isdir(self.directory):
                raise NoSuchContainer from None
            raise host_fault(f"lock {self.directory}", error) from None
        return self

    def unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def remove(self) -> None:
        """Remove the directory; state.json first: half removed, the container does not exist."""
        for name in ("state.json", "control.sock", "lock"):
            try:
                os.unlink(os.path.join(self.directory, name))
            except FileNotFoundError:
                pass
        try:
            for name in os.listdir(self.directory):
                os.unlink(os.path.join(self.directory, name))
            os.rmdir(self.directory)
        except FileNotFoundError:
            pass
        self.unlock()


def check_id(container_id: str) -> None:
    if not container_id:
        raise RuntimeFault("container id cannot be empty")
    if not _ID_CHARACTERS.issuperset(container_id) or container_id in (".", ".."):
        raise RuntimeFault(f"invalid container ID format: {container_id}")
    if len(container_id) > 1024:
        raise RuntimeFault("container id is too long")


def create(root: str, container_id: str) -> Container:
    """A new container's directory, locked. IdExists if there is one already."""
    check_id(container_id)
    directory = os.path.join(root, container_id)
    try:
        os.makedirs(root, 0o711, exist_ok=True)
        os.mkdir(directory, 0o711)
    except FileExistsError:
        if _abandoned(directory):
            return create(root, container_id)
        raise IdExists from None
    except OSError as error:
        raise host_fault(f"mkdir {directory}", error) from None
    return Container(directory, container_id).lock()


def load(root: str, container_id: str, lock: bool = False) -> Container:
    """The container of that id. NoSuchContainer if there is none."""
    if not container_id:
        raise RuntimeFault("container id cannot be empty")
    check_id(container_id)
    container = Container(os.path.join(root, container_id), container_id)
    if lock:
        if not os.path.exists(os.path.join(container.directory, "state.json")):
            raise NoSuchContainer
        container.lock()
    container.reload()
    return container


def load_all(root: str) -> list[Container]:
    """Every container of this root, by id; unreadable ones are left out."""
    try:
        names = sorted(os.listdir(root))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise host_fault(f"open {root}", error) from None
    found = []
    for name in names:
        try:
            found.append(load(root, name))
        except RuntimeFault:
            continue
    return found


def write_aside(path: str, data: bytes, mode: int = 0o644) -> None:
    """Write a file so that it is either absent (or as before) or complete."""
    aside = os.path.join(os.path.dirname(path) or ".", f".{os.path.basename(path)}.{os.getpid()}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.close(descriptor)
        os.rename(aside, path)
    except BaseException:
        try:
            os.unlink(aside)
        except OSError:
            pass
        raise


def default_root() -> str:
    """/run/runsc-py for root; the user's runtime directory otherwise, and for his root of a user namespace."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if os.geteuid() == 0 and not (runtime and in_user_namespace()):
        return "/run/runsc-py"
    return os.path.join(runtime, "runsc-py") if runtime else f"/tmp/runsc-py-{os.geteuid()}"


def _abandoned(directory: str) -> bool:
    """A directory whose maker died before it wrote state.json: nobody holds its lock. Remove it."""
    if os.path.exists(os.path.join(directory, "state.json")):
        return False
    try:
        descriptor = os.open(os.path.join(directory, "lock"), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False  # being made this moment, or not ours
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.exists(os.path.join(directory, "state.json")):
            return False
        Container(directory, "").remove()
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
