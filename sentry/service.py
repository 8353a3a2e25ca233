"""The sentry process: from the fork to the end of its container.

`serve` takes what it needs from the host, gives up the rest (confine.py), builds the kernel and the container,
reports to whoever started it, and runs the loop. Afterwards the container is ruled through the control socket.
"""

import _socket as socket
import gc
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from native import lib
from sentry import confine
from sentry.abi.linux import SIGCONT, SIGKILL, SIGSTOP
from sentry.boot import STUB_FD, BootError, Inherited, ProcessConfig, SandboxConfig, report_failure, seize_zygote
from sentry.container import CPU_PERIOD_US, Container, build
from sentry.control import ControlError, ControlServer, Message, Reply
from sentry.errors import LinuxError
from sentry.kernel.execute import Executor
from sentry.kernel.fdtable import drain
from sentry.kernel.kernel import Kernel
from sentry.kernel.lifecycle import MAGIC_LOAD, MAGIC_READY
from sentry.kernel.sched import Job
from sentry.kernel.signals import SigInfo
from sentry.kernel.spawn import Spawn, SpawnError
from sentry.kernel.task import Task
from sentry.log import STDERR, Log, describe
from sentry.platform import seccomp
from sentry.syscalls.declare import CONTINUE, Restart, lookup, set_unsupported_report

if TYPE_CHECKING:
    from sentry.kernel.task import ThreadGroup


BUGS_TOLD = 100  # records of bugs, before they become rare


class _LoaderEntry:
    """The table entry of one of the loader stub's magic calls."""

    is_async = False
    restart = Restart.SYS
    name = "load"

    def __init__(self, handler: Callable[[Task, tuple[int, ...]], object]) -> None:
        self.handler = handler


def serve(config: SandboxConfig, inherited: Inherited, page: Any) -> int:
    """Run the sentry to the end of its container; the exit status of the process."""
    host = confine.gather(config, inherited)
    log = Log(host.log, config.debug, config.log_json, plain=config.log_fd == STDERR)
    try:
        service = _boot(config, host, log, page)
    except Exception as error:
        report_failure(host.report, error)
        if not isinstance(error, BootError):
            log.error(f"bug in the sentry: {describe(error)}")
        return 1
    try:
        service.kernel.run()
    except Exception as error:  # a kernel state that can't be trusted any more ends the sandbox
        log.error(f"bug in the sentry: {describe(error)}")
        return 1
    service.server.close()
    return 0


def _boot(config: SandboxConfig, host: confine.Host, log: Log, page: Any) -> "Service":
    zygote, listener = seize_zygote(page)
    host = confine.lock_down(config, host, listener)
    kernel = Kernel(seccomp.make(), lookup, CONTINUE, host.proc)
    kernel.panic_on_bug = config.panic_on_bug
    kernel.life.zygote.tid = zygote
    kernel.drain_objects = drain
    set_unsupported_report(lambda name: log.warning(f"unsupported system call: {name}"))
    executor = Executor(kernel)
    kernel._handlers[MAGIC_LOAD] = _LoaderEntry(  # type: ignore[assignment]
        lambda task, args: executor.load(task, kernel.call_id, args[0], args[1])
    )
    kernel._handlers[MAGIC_READY] = _LoaderEntry(lambda task, args: executor.ready(task))  # type: ignore[assignment]
    service = Service(kernel, config, host, log)
    gc.freeze()  # what is loaded by now stays; what comes is looked at when there is some of it
    gc.set_threshold(20_000, 50, 1000)
    gc.enable()
    service.begin()
    return service


class Service:
    """The container's life as its owner sees it."""

    def __init__(self, kernel: Kernel, config: SandboxConfig, host: confine.Host, log: Log) -> None:
        self.kernel = kernel
        self.config = config
        self.host = host
        self.log = log
        self.container: Container | None = None
        self.init: Spawn | None = None
        self.started = False
        self.bugs = 0
        self._waits: dict[int, list[Reply]] = {}  # by host pid of a first task
        self._first: dict[int, int] = {}  # host tid -> the pid our owner knows it by
        self._ended: dict[int, int] = {}  # pid our owner knows -> wait status
        listener = socket.socket(fileno=host.control)
        self.server = ControlServer(
            listener,
            {
                "start": self.on_start,
                "exec": self.on_exec,
                "wait": self.on_wait,
                "signal": self.on_signal,
                "pids": self.on_pids,
                "pause": self.on_pause,
                "resume": self.on_resume,
                "limits": self.on_limits,
                "hold": self.on_hold,
                "release": self.on_release,
                "state": self.on_state,
                "stats": self.on_stats,
                "stop": self.on_stop,
            },
        )
        self.server.on_bug = lambda text: log.error("control: " + text)
        kernel.life.on_exit = self.on_task_exit
        kernel.on_bug = self.on_bug
        if config.strace:
            from sentry.strace import Tracer

            Tracer(host.strace if host.strace >= 0 else host.log).attach(kernel)

    def begin(self) -> None:
        """Build the container and its init; report when it waits for `start`, or why it can't."""
        self.kernel.scheduler.spawn(self._begin(), None, self._begun)

    async def _begin(self) -> Task:
        container = await build(self.kernel, self.config, self.host)
        self.container = container
        files = container.stdio_files(self.config.process.terminal, self.host.stdio, self.host.preserved)
        spawn = Spawn(self.kernel, container, self.config.process, files, STUB_FD)
        self.init = spawn
        self.kernel.life.order(spawn)
        return await spawn.ready.wait()

    def _begun(self, job: Job) -> None:
        error = job.error
        if error is not None:
            if not isinstance(error, (SpawnError, BootError, LinuxError)):
                self.on_bug(None, None, (), error)
            text = f"error during container init: {error!r}" if isinstance(error, LinuxError) else str(error)
            report_failure(self.host.report, BootError(f"unable to start container process: {text}"))
            os.close(self.host.report)
            os._exit(1)
        task: Task = job.value
        assert self.container is not None
        self.container.init_group = task.group
        pid = self._register(task)
        self.server.attach(self.kernel.scheduler.watch, self.kernel.scheduler.unwatch)
        os.write(self.host.report, b"+%d" % pid)
        os.close(self.host.report)

    def _register(self, task: Task) -> int:
        """A first task's pid as our owner knows it."""
        pid = self.host.pid_of(task.host_tid)
        self._first[task.host_tid] = pid
        return pid

    # --- requests

    def on_start(self, message: Message, fds: list[int], reply: Reply) -> None:
        if self.init is None or self.started:
            reply.fail("cannot start an already running container")
            return
        self.started = True
        try:
            self.init.go()
        except SpawnError as error:
            reply.fail(str(error))
            return
        reply.send()

    def on_exec(self, message: Message, fds: list[int], reply: Reply) -> None:
        fields = dict(message["process"])
        numbers = fields.pop("fds", list(range(len(fds))))
        process = ProcessConfig(
            **{
                **fields,
                "args": [os.fsencode(arg) for arg in fields["args"]],
                "env": [os.fsencode(entry) for entry in fields["env"]],
                "cwd": os.fsencode(fields.get("cwd") or "/"),
                "groups": tuple(fields.get("groups") or ()),
                "rlimits": {int(key): tuple(value) for key, value in (fields.get("rlimits") or {}).items()},
            }
        )
        container = self.container
        if container is None or container.init_group is None or container.init_group.exited:
            raise ControlError("cannot exec in a stopped container")
        self.kernel.scheduler.spawn(
            self._exec(container, process, dict(zip(numbers, fds, strict=True))),
            None,
            lambda job: self._execed(job, reply),
        )

    async def _exec(self, container: Container, process: ProcessConfig, fds: dict[int, int]) -> int:
        files = container.exec_files(process.terminal, fds)
        spawn = Spawn(self.kernel, container, process, files, STUB_FD)
        self.kernel.life.order(spawn)
        task = await spawn.ready.wait()
        pid = self._register(task)
        spawn.go()
        return pid

    def _execed(self, job: Job, reply: Reply) -> None:
        error = job.error
        if error is None:
            reply.send({"pid": job.value})
            return
        if not isinstance(error, (SpawnError, BootError, LinuxError, OSError)):
            self.on_bug(None, None, (), error)
        reply.fail(str(error))

    def on_wait(self, message: Message, fds: list[int], reply: Reply) -> None:
        pid = int(message["pid"])
        if pid in self._ended:
            reply.send({"status": self._ended[pid]})
        elif pid in self._first.values():
            self._waits.setdefault(pid, []).append(reply)
            if message.get("kill_on_close"):
                reply.on_close = lambda: self._kill(pid)
        else:
            reply.fail("no such process")

    def _find(self, pid: int) -> "ThreadGroup | None":
        for host_tid, known in self._first.items():
            if known == pid:
                task = self.kernel.tasks.get(host_tid)
                return task.group if task is not None else None
        return None

    def _kill(self, pid: int) -> None:
        group = self._find(pid)
        if group is not None:
            self._signal(group, SIGKILL)

    def _signal(self, group: "ThreadGroup", signo: int) -> None:
        try:
            self.kernel.send_signal(group, SigInfo(signo))
        except LinuxError:
            pass  # it has just died

    def on_signal(self, message: Message, fds: list[int], reply: Reply) -> None:
        signo = int(message["signal"])
        if not 0 < signo <= 64:
            reply.fail(f"unknown signal {signo}")
            return
        if message["pid"] == "all":
            for group in self.kernel.groups():
                self._signal(group, signo)
        else:
            found = self._find(int(message["pid"]))
            if found is None:
                reply.fail("process already finished")
                return
            # A task that has not begun has no handlers: what would end a program ends it.
            self._signal(found, signo if self.started or signo in (0, 17, 18, 23, 28) else SIGKILL)
        reply.send()

    def on_pids(self, message: Message, fds: list[int], reply: Reply) -> None:
        pids = []
        for group in self.kernel.groups():
            try:
                pids.append(self.host.pid_of(group.host_tgid))
            except OSError:
                continue
        reply.send({"pids": pids})

    def on_pause(self, message: Message, fds: list[int], reply: Reply) -> None:
        for group in self.kernel.groups():
            self._signal(group, SIGSTOP)
        reply.send()

    def on_resume(self, message: Message, fds: list[int], reply: Reply) -> None:
        for group in self.kernel.groups():
            self._signal(group, SIGCONT)
        reply.send()

    def on_limits(self, message: Message, fds: list[int], reply: Reply) -> None:
        kernel = self.kernel
        kernel.memory_limit, kernel.pids_limit = message.get("memory_limit"), message.get("pids_limit")
        quota = message.get("cpu_quota")
        kernel.cpu_max = (quota, message.get("cpu_period") or CPU_PERIOD_US) if quota else None
        reply.send()

    def on_hold(self, message: Message, fds: list[int], reply: Reply) -> None:
        def done(held: bool) -> None:
            if held:
                reply.send()
            else:
                reply.fail("a guest is in a call that can't be interrupted")

        self.kernel.holding.begin(done)

    def on_release(self, message: Message, fds: list[int], reply: Reply) -> None:
        self.kernel.holding.end()
        reply.send()

    def on_state(self, message: Message, fds: list[int], reply: Reply) -> None:
        reply.send({"status": "running" if self.started else "created"})

    def on_stats(self, message: Message, fds: list[int], reply: Reply) -> None:
        reply.send(
            {
                "tasks": len(self.kernel.tasks),
                "answered_in_c": lib.nc_counter(0),
                "answered_in_python": lib.nc_counter(1),
                "stops": lib.nc_counter(2),
            }
        )

    def on_stop(self, message: Message, fds: list[int], reply: Reply) -> None:
        reply.send()
        self.kernel.running = False

    # --- events

    def on_task_exit(self, task: Task, status: int) -> None:
        pid = self._first.pop(task.host_tid, None) if task.host_tid == task.group.host_tgid else None
        if pid is not None:
            self._ended[pid] = status
            for reply in self._waits.pop(pid, ()):
                reply.send({"status": status})
        if not self.kernel.tasks and self.init is not None and self.init.ready.done:
            self.kernel.running = False  # init is gone, and its PID namespace with it

    def on_bug(self, task: Task | None, entry: Any, args: tuple[int, ...], error: BaseException) -> None:
        """One loud record: the call as strace would show it, and where it failed. A guest who has found a bug does not
        fill the log with it: of many records only the 128th, the 256th and so on is written."""
        self.bugs += 1
        if self.bugs > BUGS_TOLD and self.bugs & (self.bugs - 1):
            return
        call = entry.name if entry is not None else "outside a call"
        if entry is not None and task is not None:
            try:
                from sentry.syscalls.show import format_call

                call = format_call(entry, task, args)
            except Exception as failure:  # the record must not fail because of the guest's pointers
                call = f"{entry.name}(…) [{failure!r}]"
        self.log.error(f"bug in the sentry: {call}: {describe(error)}")
