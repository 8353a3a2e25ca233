"""`update`: change a running container's limits."""

import sys
from typing import TYPE_CHECKING, Any

from runsc_py.command import Option, Verb

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", container_id: str, resources: str, **limits: Any) -> None:
    from runsc_py import lifecycle, spec, state
    from runsc_py.errors import host_fault
    from runsc_py.typed import decode

    container = state.load(invocation.root, container_id, lock=True)
    if resources:
        try:
            if resources == "-":
                data = sys.stdin.buffer.read()
            else:
                with open(resources, "rb") as file:
                    data = file.read()
        except OSError as error:
            raise host_fault(f"open {resources}", error) from None
        wanted = decode(data, spec.Resources, "resources")
    else:
        wanted = _resources(limits)
    lifecycle.update(container, wanted, invocation.log)


def _bytes(text: str) -> int:
    from runsc_py.cli import parse_size

    return -1 if text == "-1" else parse_size(text)


def _resources(limits: dict[str, Any]) -> Any:
    from runsc_py import spec

    idle = limits["cpu_idle"]
    return spec.Resources(
        memory=spec.Memory(
            limit=_bytes(limits["memory"]),
            reservation=_bytes(limits["memory_reservation"]),
            swap=_bytes(limits["memory_swap"]),
        ),
        cpu=spec.Cpu(
            shares=limits["cpu_share"],
            quota=limits["cpu_quota"],
            period=limits["cpu_period"],
            burst=limits["cpu_burst"],
            realtime_period=limits["cpu_rt_period"],
            realtime_runtime=limits["cpu_rt_runtime"],
            cpus=limits["cpuset_cpus"],
            mems=limits["cpuset_mems"],
            idle=int(idle) if idle in ("0", "1") else None,
        ),
        pids=spec.Pids(limit=limits["pids_limit"]),
        block_io=spec.BlockIO(weight=limits["blkio_weight"]),
    )


VERB = Verb(
    "update container resource constraints",
    [
        Option("--resources", "-r", metavar="FILE|-", help="linux.resources as JSON."),
        Option("--blkio-weight", kind="int", help="Weight of block I/O, 10 to 1000."),
        Option("--cpu-period", kind="int", help="CFS period in microseconds."),
        Option("--cpu-quota", kind="int", help="CFS quota in microseconds."),
        Option("--cpu-burst", kind="int", help="CFS burst in microseconds."),
        Option("--cpu-share", kind="int", help="CPU shares."),
        Option("--cpu-rt-period", kind="int", help="Realtime period in microseconds."),
        Option("--cpu-rt-runtime", kind="int", help="Realtime runtime in microseconds."),
        Option("--cpu-idle", metavar="0|1", help="SCHED_IDLE for the whole cgroup."),
        Option("--cpuset-cpus", metavar="LIST", help="CPUs to use."),
        Option("--cpuset-mems", metavar="LIST", help="Memory nodes to use."),
        Option("--memory", metavar="SIZE", help="Memory limit, in bytes or with a unit: 64M."),
        Option("--memory-reservation", metavar="SIZE", help="Soft limit of memory."),
        Option("--memory-swap", metavar="SIZE", help="Limit of memory and swap together."),
        Option("--pids-limit", kind="int", help="Limit of processes and threads."),
        Option("--kernel-memory"),
        Option("--kernel-memory-tcp"),
    ],
    ("container_id",),
    run,
    description="Change the limits of a container. Zero leaves a limit as it is, -1 lifts it.",
)
