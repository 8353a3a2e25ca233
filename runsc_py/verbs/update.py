"""`update`: change a running container's limits."""

import sys

import click

from runsc_py.cli import Invocation


@click.command(short_help="update container resource constraints")
@click.argument("container_id")
@click.option("--resources", "-r", default="", metavar="FILE|-", help="linux.resources as JSON.")
@click.option("--blkio-weight", type=int, default=0)
@click.option("--cpu-period", type=int, default=0)
@click.option("--cpu-quota", type=int, default=0)
@click.option("--cpu-burst", type=int, default=0)
@click.option("--cpu-share", type=int, default=0)
@click.option("--cpu-rt-period", type=int, default=0)
@click.option("--cpu-rt-runtime", type=int, default=0)
@click.option("--cpuset-cpus", default="")
@click.option("--cpuset-mems", default="")
@click.option("--memory", default="", help="In bytes, or with a unit: 64M.")
@click.option("--memory-reservation", default="")
@click.option("--memory-swap", default="")
@click.option("--pids-limit", type=int, default=0)
@click.option("--kernel-memory", hidden=True, default="")
@click.option("--kernel-memory-tcp", hidden=True, default="")
@click.option("--cpu-idle", type=int, default=None)
@click.pass_obj
def command(
    invocation: Invocation,
    container_id: str,
    resources: str,
    blkio_weight: int,
    cpu_period: int,
    cpu_quota: int,
    cpu_burst: int,
    cpu_share: int,
    cpu_rt_period: int,
    cpu_rt_runtime: int,
    cpuset_cpus: str,
    cpuset_mems: str,
    memory: str,
    memory_reservation: str,
    memory_swap: str,
    pids_limit: int,
    kernel_memory: str,
    kernel_memory_tcp: str,
    cpu_idle: int | None,
) -> None:
    """Change the limits of a container. Zero leaves a limit as it is, -1 lifts it."""
    from runsc_py import lifecycle, spec, state
    from runsc_py.errors import host_fault

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
        wanted = spec.decode(data, spec.Resources, "resources")
    else:
        wanted = spec.Resources(
            memory=spec.Memory(
                limit=_bytes(memory), reservation=_bytes(memory_reservation), swap=_bytes(memory_swap)
            ),
            cpu=spec.Cpu(
                shares=cpu_share,
                quota=cpu_quota,
                period=cpu_period,
                burst=cpu_burst,
                cpus=cpuset_cpus,
                mems=cpuset_mems,
                realtime_period=cpu_rt_period,
                realtime_runtime=cpu_rt_runtime,
                idle=cpu_idle,
            ),
            pids=spec.Pids(limit=pids_limit),
            block_io=spec.BlockIO(weight=blkio_weight),
        )
    lifecycle.update(container, wanted, invocation.log)


def _bytes(text: str) -> int:
    from runsc_py.cli import parse_size

    return -1 if text == "-1" else parse_size(text)
