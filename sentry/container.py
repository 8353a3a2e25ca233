"""The container: its mounts, its descriptors, its init. Built once, from the configuration, inside the sentry.

Mount points that are missing are made, as runc makes them: in the rootfs when it can be written, else the
configuration is at fault and the error says where.
"""

import os
import posixpath
from typing import TYPE_CHECKING, Any

from sentry.abi.linux import AT_FDCWD, MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, S_IFDIR, S_IFMT, S_IFREG
from sentry.boot import HOSTNAME, BootError, MountConfig, SandboxConfig
from sentry.errors import EEXIST, ENOENT, LinuxError
from sentry.fs import registry
from sentry.fs.goferfs import GoferFs, connect
from sentry.fs.overlay import Overlay
from sentry.fs.store import Store
from sentry.fs.tmpcopyup import copy_tree
from sentry.fs.tmpfs import Tmpfs
from sentry.kernel.creds import ALL_CAPS, Credentials
from sentry.vfs.context import FsContext
from sentry.vfs.mount import Mount, MountNamespace, Path, mount_flags
from sentry.vfs.namespace import mkdir
from sentry.vfs.open import open_path
from sentry.vfs.perm import Protected
from sentry.vfs.walk import resolve

if TYPE_CHECKING:
    from sentry.confine import Host
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import ThreadGroup
    from sentry.vfs.file import File

CPU_PERIOD_US = 100_000  # the host kernel's own choice
_ROOT = Credentials(cap_permitted=ALL_CAPS, cap_effective=ALL_CAPS)


class _Builder:
    """Stands in for a task while there is none: names are resolved with all capabilities from the container's root."""

    def __init__(self, kernel: "Kernel", root: Path, mounts: MountNamespace) -> None:
        self.kernel = kernel
        self.creds = _ROOT
        self.fs = FsContext(root, root, 0)
        self.mounts = mounts
        self.group = self
        self.fds: Any = None


class Container:
    """One container of the sandbox."""

    def __init__(self, kernel: "Kernel", config: SandboxConfig, mounts: MountNamespace, host: "Host") -> None:
        self.kernel = kernel
        self.id = config.id
        self.mounts = mounts
        self.host = host
        self.init_group: ThreadGroup | None = None

    def stdio_files(self, terminal: bool, stdio: list[int], preserved: list[int]) -> "dict[int, File]":
        """The first process's descriptors: 0, 1, 2 and the preserved ones from 3 on."""
        files = self.exec_files(terminal, dict(enumerate(stdio)))
        files.update(self.exec_files(False, {3 + index: fd for index, fd in enumerate(preserved)}))
        return files

    def exec_files(self, terminal: bool, fds: dict[int, int]) -> "dict[int, File]":
        """Files over host descriptors, by guest number. Equal descriptors become one file."""
        from sentry.fs.hoststream import HostStream

        files: dict[int, File] = {}
        made: dict[int, File] = {}
        for number, fd in fds.items():
            if fd not in made and terminal and number < 3:
                console = made[fd] = self._console(fd)
                for other, extra in fds.items():  # a terminal is one, however often it was passed
                    if other < 3 and extra != fd:
                        made[extra] = console
                        os.close(extra)
            elif fd not in made:
                made[fd] = HostStream(self.kernel, fd)
            files[number] = made[fd]
        return files


    def _console(self, fd: int) -> "File":
        from sentry.fs.tty.console import open_console

        return open_console(self.kernel, self.mounts, fd)


async def build(kernel: "Kernel", config: SandboxConfig, host: "Host") -> Container:
    """Mount everything and set the kernel's names. BootError says which mount can't be made, and why."""
    kernel.store = Store(host.store, host.noexec_store)
    kernel.facts = host.facts
    Protected.take(host.facts.protected)
    _limits(kernel, config)
    kernel.hostname = config.hostname or HOSTNAME
    if config.domainname:
        kernel.domainname = config.domainname
    _register(kernel)
    _sysctls(kernel, config.sysctl)
    client = connect(host.gofer)
    root_fs: Any = GoferFs(client, 0)
    if config.overlay:
        root_fs = Overlay(root_fs, kernel.store, config.overlay_size)
    read_only = MS_RDONLY if config.root_readonly and not config.overlay else 0
    mounts = MountNamespace(Mount(root_fs, mount_flags(read_only)))
    task = _Builder(kernel, mounts.root_path, mounts)
    for mount in config.mounts:
        await _mount(task, mount, client)
    await _devices(task, config)
    await _working_directory(task, config.process.cwd)
    for path in config.readonly_paths:
        await _cover(task, path, True)
    for path in config.masked_paths:
        await _cover(task, path, False)
    if config.root_readonly:
        mounts.root.flags |= MS_RDONLY
    return Container(kernel, config, mounts, host)


def _limits(kernel: "Kernel", config: SandboxConfig) -> None:
    """What the container may use, as its own files tell it: the cgroup outside holds it to that."""
    kernel.cpus = tuple(sorted(os.sched_getaffinity(0)))
    if config.cpu_quota is not None:
        period = config.cpu_period or CPU_PERIOD_US
        kernel.cpu_max = config.cpu_quota, period
        kernel.cpus = kernel.cpus[: max(1, -(-config.cpu_quota // period))]
    kernel.memory_limit = config.memory_limit
    kernel.pids_limit = config.pids_limit


def _register(kernel: "Kernel") -> None:
    """The file system types of this kernel."""
    from sentry.fs.types import register_types

    register_types(kernel)


def _sysctls(kernel: "Kernel", values: dict[str, str]) -> None:
    from sentry.fs.proc import sysctl

    for name, value in values.items():
        try:
            sysctl.apply(kernel, {name: value})
        except LinuxError as error:
            raise BootError(f"error during container init: sysctl {name}={value}: {error}") from None


def _fs_type(mount: MountConfig) -> bytes:
    kind = mount.fstype.encode() if isinstance(mount.fstype, str) else mount.fstype
    return b"tmpfs" if kind == b"dev" else kind  # /dev is a tmpfs that _devices fills


async def _mount(task: Any, mount: MountConfig, client: Any) -> None:
    kind = _fs_type(mount)
    try:
        if mount.export is not None:
            fs: Any = GoferFs(client, mount.export)
            at = await _mount_point(task, mount.destination, fs.root.mode & S_IFMT == S_IFDIR)
            task.mounts.mount(Mount(fs, mount_flags(mount.flags)), at)
            return
        data = mount.data
        if kind == b"tmpfs" and (mode := await _mode(task, mount.destination)):
            data = b"mode=%o,%s" % (mode & 0o7777, data)  # what it covers gives it its mode, unless it has one
        at = await _mount_point(task, mount.destination, True)
        fs = registry.create(kind, mount.source, data, mount.flags)
        if mount.copy_up:
            await copy_tree(task, at.inode, fs.root)
        task.mounts.mount(Mount(fs, mount_flags(mount.flags), mount.source), at)
    except LinuxError as error:
        raise BootError(
            f'error during container init: error mounting "{kind.decode()}" to rootfs at '
            f'"{mount.destination.decode("utf-8", "replace")}": {error!r}'
        ) from None


async def _mode(task: Any, path: bytes) -> int:
    """The mode of what is at a place; 0 when nothing is."""
    try:
        return (await resolve(task, AT_FDCWD, path)).inode.mode
    except ENOENT:
        return 0


async def _working_directory(task: Any, path: bytes) -> None:
    """A missing one is made, as runc does; where that can't be, or it is no directory, the first task will say so."""
    try:
        await _mount_point(task, path or b"/", True)
    except LinuxError:
        pass


async def _mount_point(task: Any, path: bytes, directory: bool) -> Path:
    """The place to mount on, made when it is missing."""
    try:
        return await resolve(task, AT_FDCWD, path)
    except ENOENT:
        pass
    parent = posixpath.dirname(path)
    if parent not in (b"/", b""):
        await _mount_point(task, parent, True)
    if directory:
        try:
            await mkdir(task, AT_FDCWD, path, 0o755)
        except EEXIST:
            pass
    else:
        from sentry.abi.linux import O_CREAT, O_WRONLY

        await open_path(task, AT_FDCWD, path, O_CREAT | O_WRONLY, S_IFREG | 0o644)
    return await resolve(task, AT_FDCWD, path)


async def _devices(task: Any, config: SandboxConfig) -> None:
    """The device nodes and links of /dev, where the bundle mounts one of ours."""
    from sentry.fs.dev import populate_dev

    try:
        place = await resolve(task, AT_FDCWD, b"/dev")
    except LinuxError:
        return
    if place.mount.fs.name in (b"tmpfs", b"devtmpfs"):
        await populate_dev(task, place, config.devices, config.process.terminal)


async def _cover(task: Any, path: bytes, readable: bool) -> None:
    """readonlyPaths: mount the place over itself read-only; maskedPaths: hide it. A missing one is no error."""
    try:
        place = await resolve(task, AT_FDCWD, path)
    except LinuxError:
        return
    flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC
    if readable:
        mount = place.mount.clone(place.dentry)
        mount.flags |= MS_RDONLY
    elif place.inode.mode & S_IFMT == S_IFDIR:
        mount = Mount(Tmpfs(task.kernel.store, 4096, mode=0o755), flags, b"tmpfs")
    else:
        from sentry.fs.dev import null_inode_path

        source = null_inode_path(task.kernel)
        mount = Mount(source.mount.fs, MS_NOSUID | MS_NOEXEC, b"none", source.dentry)  # a device that can be opened
    task.mounts.mount(mount, place)
