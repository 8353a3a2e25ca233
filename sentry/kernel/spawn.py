"""First tasks: container init, and every process that `exec` adds.

The zygote forks the task, which makes an execve that names nothing. Its handler looks for the program, so that a
missing one is an error of `create` or `exec`, and waits, as calls do, for the order to start: then argv and envp are in
the task's scratch memory, and the execve goes on with them.
"""

from struct import pack
from typing import TYPE_CHECKING, Any, Protocol

from sentry.abi.linux import AT_FDCWD, RLIM_INFINITY, RLIMIT_FSIZE, RLIMIT_NOFILE, S_IFDIR, S_IFMT, SIGKILL
from sentry.errors import E2BIG, EACCES, EIO, ENOENT, ENOTDIR, LinuxError
from sentry.kernel.creds import ALL_CAPS, Credentials
from sentry.kernel.execute import Execution
from sentry.kernel.fdtable import FdTable
from sentry.kernel.nproc import apply_limit
from sentry.kernel.program import Program, find
from sentry.kernel.sched import Future, WaitQueue, wait
from sentry.kernel.task import Rlimits, Task, ThreadGroup
from sentry.vfs.context import FsContext
from sentry.vfs.perm import MAY_EXEC, allowed
from sentry.vfs.walk import resolve

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.vfs.file import File

SCRATCH_ADDRESS = 0x610000000000
DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Process(Protocol):
    """What a first task is made of: sentry.boot.ProcessConfig."""

    @property
    def args(self) -> list[bytes]: ...
    @property
    def env(self) -> list[bytes]: ...
    @property
    def cwd(self) -> bytes: ...
    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...
    @property
    def groups(self) -> tuple[int, ...]: ...
    @property
    def umask(self) -> int | None: ...
    @property
    def caps(self) -> dict[str, int]: ...
    @property
    def rlimits(self) -> dict[int, tuple[int, int]]: ...
    @property
    def no_new_privs(self) -> bool: ...
    @property
    def oom_score_adj(self) -> int | None: ...


class SpawnError(Exception):
    """The process can't be started; the text is for the user, in the words clients know."""


def credentials(process: Process) -> Credentials:
    """The task's credentials before its first exec."""
    uid, gid, caps = process.uid, process.gid, process.caps
    return Credentials(
        uid, uid, uid, uid, gid, gid, gid, gid, tuple(sorted(process.groups)),
        caps.get("permitted", 0) & ALL_CAPS, caps.get("effective", 0) & ALL_CAPS,
        caps.get("inheritable", 0) & ALL_CAPS, caps.get("bounding", 0) & ALL_CAPS,
        caps.get("ambient", 0) & ALL_CAPS, process.no_new_privs,
    )  # fmt: skip


class Spawn:
    """One first task on its way. `files`: its descriptors, by number."""

    def __init__(
        self, kernel: "Kernel", container: Any, process: Process, files: "dict[int, File]", stub_fd: int
    ) -> None:
        self.kernel = kernel
        self.container = container
        self.process = process
        self.files = files
        self.stub_fd = stub_fd
        self.ready: Future[Task] = Future()  # the program is found, the task waits for go()
        self.task: Task | None = None
        self._program: Program | None = None
        self._execution: Execution | None = None  # once it may start
        self._start = WaitQueue()

    def make_task(self, group: ThreadGroup, host_tid: int) -> Task:
        """The task that the zygote has forked."""
        process = self.process
        group.container, group.mounts = self.container, self.container.mounts
        group.rlimits = Rlimits(process.rlimits)
        group.argv = tuple(process.args)
        group.oom_score_adj = process.oom_score_adj or 0
        group.parent = None
        nofile = group.rlimits.get(RLIMIT_NOFILE)[0]
        fds = FdTable(nofile)
        fds.stub_fd = self.stub_fd
        fds.set_limits(nofile, group.rlimits.get(RLIMIT_FSIZE)[0] != RLIM_INFINITY)
        for number, file in self.files.items():
            fds.install_at(number, file)
        root = self.container.mounts.root_path
        fs = FsContext(root, root, 0o022 if process.umask is None else process.umask)
        task = Task(self.kernel, host_tid, group, fs, fds)
        task.creds = credentials(process)
        apply_limit(task)
        return task

    def forked(self, task: Task) -> None:
        self.task = task

    async def execute(self) -> Execution:
        """The task's execve."""
        task = self.task
        assert task is not None
        if self._program is None:
            await self._look(task)
        while self._execution is None:
            await wait(self._start)
        return self._execution

    async def _look(self, task: Task) -> None:
        if getattr(self.process, "terminal", False):
            from sentry.fs.devpts import give_terminal

            give_terminal(task)
        try:
            self._program = await self._prepare(task)
        except (SpawnError, LinuxError) as error:
            self.ready.fail(error if isinstance(error, SpawnError) else SpawnError(_reason(error)))
            self.kernel.platform.signal(task.host_tid, 0, SIGKILL, 0)
            raise EIO
        except Exception:
            self.ready.fail(SpawnError("a bug of the sentry's, see its log"))
            raise
        self.ready.set(task)

    async def _prepare(self, task: Task) -> Program:
        process = self.process
        if not process.args or not process.args[0]:
            raise SpawnError("args must not be empty")
        try:
            place = await resolve(task, AT_FDCWD, process.cwd or b"/")
            if place.inode.mode & S_IFMT != S_IFDIR:
                raise ENOTDIR
            if not allowed(task, place.inode, MAY_EXEC):
                raise EACCES
        except LinuxError as error:
            raise SpawnError(
                f'error during container init: chdir to cwd ("{_text(process.cwd)}") set in config.json failed: '
                f"{_reason(error)}"
            ) from None
        task.fs.cwd = place
        return await self._find(task, process.args[0])

    async def _find(self, task: Task, name: bytes) -> Program:
        """The program as execvp(3) finds it; messages as runc words them."""
        if b"/" in name:
            try:
                return await find(task, AT_FDCWD, name)
            except LinuxError as error:
                verb = "stat " + _text(name) + ": " if isinstance(error, (ENOENT, ENOTDIR)) else ""
                raise SpawnError(f'exec: "{_text(name)}": {verb}{_reason(error)}') from None
        path = DEFAULT_PATH
        for entry in self.process.env:
            if entry.startswith(b"PATH="):
                path = entry[5:]
        denied: LinuxError | None = None
        for directory in path.split(b":"):
            try:
                return await find(task, AT_FDCWD, (directory or b".") + b"/" + name)
            except EACCES as error:
                denied = error
            except (ENOENT, ENOTDIR):
                continue
            except LinuxError as error:
                raise SpawnError(f'exec: "{_text(name)}": {_reason(error)}') from None
        if denied is not None:
            raise SpawnError(f'exec: "{_text(name)}": {_reason(denied)}')
        raise SpawnError(f'exec: "{_text(name)}": executable file not found in $PATH')

    def died(self) -> None:
        """The task has ended before its program began: whoever waits for it is told."""
        self.ready.fail(SpawnError("the process was killed before it began"))

    def go(self) -> None:
        """Start the program. SpawnError when its arguments are too long."""
        task, program = self.task, self._program
        assert task is not None and program is not None
        argv = list(self.process.args)
        if program.argv_head is not None:
            argv[:1] = program.argv_head
        try:
            empty, argv_at, envp_at = write_arguments(task, argv, self.process.env)
        except LinuxError as error:
            raise SpawnError(f"cannot pass the arguments: {_reason(error)}") from None
        self._execution = Execution(task, program._replace(argv_head=None), empty, argv_at, envp_at)
        self._start.wake()


def write_arguments(task: Task, argv: list[bytes], env: list[bytes]) -> tuple[int, int, int]:
    """Put argv and envp into a first task's scratch memory: the addresses of "", argv, envp."""
    pointers_at = SCRATCH_ADDRESS + 8
    strings_at = pointers_at + 8 * (len(argv) + len(env) + 2)
    pointers: list[int] = []
    strings: list[bytes] = []
    at = strings_at
    for group in (argv, env):
        for word in group:
            pointers.append(at)
            strings.append(word + b"\0")
            at += len(word) + 1
        pointers.append(0)
    if at - SCRATCH_ADDRESS > 6 << 20:
        raise E2BIG
    task.mem.write(SCRATCH_ADDRESS, bytes(8) + pack(f"<{len(pointers)}Q", *pointers) + b"".join(strings))
    return SCRATCH_ADDRESS, pointers_at, pointers_at + 8 * (len(argv) + 1)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _reason(error: BaseException) -> str:
    """An error as Go's errno strings have it: lower case."""
    import os

    return os.strerror(error.errno).lower() if isinstance(error, LinuxError) else str(error)
