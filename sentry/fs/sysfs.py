"""sysfs(5): the little of /sys that programs in containers look at: CPUs, memory nodes, interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentry.abi.linux import SYSFS_MAGIC
from sentry.fs.proc.system import cpu_list, cpu_mask, mem_free_kb, mem_total_kb, possible_cpus
from sentry.fs.pseudo import Link, PseudoDirectory, PseudoFilesystem, Text, Tree, constant
from sentry.vfs.inode import NEVER
from sentry.vfs.stat import DirEntry

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

IFF_LOOPBACK_UP = b"0x9\n"
IFF_ETHER_UP = b"0x1003\n"


class Sysfs(PseudoFilesystem):
    """One /sys."""

    name = b"sysfs"
    magic = SYSFS_MAGIC
    cache_policy = NEVER
    file_size = 4096

    def __init__(self, kernel: Kernel) -> None:
        super().__init__()
        self.kernel = kernel
        self.root = PseudoDirectory(self, _tree(kernel))


def _cpu(cpu: int, core: int, cpus: tuple[int, ...]) -> Tree:
    alone, itself = constant(cpu_mask((cpu,))), constant(cpu_list((cpu,)))
    return {
        b"online": constant(b"1\n"),
        b"topology": {
            b"core_id": constant(b"%d\n" % core),
            b"core_cpus": alone,
            b"core_cpus_list": itself,
            b"core_siblings": constant(cpu_mask(cpus)),
            b"core_siblings_list": constant(cpu_list(cpus)),
            b"package_cpus_list": constant(cpu_list(cpus)),
            b"physical_package_id": constant(b"0\n"),
            b"thread_siblings": alone,
            b"thread_siblings_list": itself,
        },
        b"cache": {
            b"index0": _cache(1, b"Data", 32, cpu),
            b"index1": _cache(1, b"Instruction", 32, cpu),
            b"index2": _cache(2, b"Unified", 1024, cpu),
        },
    }


def _cache(level: int, kind: bytes, size_kb: int, cpu: int) -> Tree:
    return {
        b"coherency_line_size": constant(b"64\n"),
        b"level": constant(b"%d\n" % level),
        b"shared_cpu_list": constant(b"%d\n" % cpu),
        b"size": constant(b"%dK\n" % size_kb),
        b"type": constant(kind + b"\n"),
        b"ways_of_associativity": constant(b"8\n"),
    }


def _cpus(kernel: Kernel) -> Tree:
    cpus = kernel.cpus
    possible = tuple(range(possible_cpus(kernel)))
    tree: Tree = {b"cpu%d" % cpu: _cpu(cpu, core, cpus) for core, cpu in enumerate(cpus)}
    for cpu in set(possible) - set(cpus):
        tree[b"cpu%d" % cpu] = {b"online": constant(b"0\n")}
    tree[b"online"] = constant(cpu_list(cpus))
    tree[b"possible"] = tree[b"present"] = constant(cpu_list(possible))
    tree[b"offline"] = constant(cpu_list(tuple(cpu for cpu in possible if cpu not in cpus)))
    tree[b"isolated"] = constant(b"\n")
    tree[b"kernel_max"] = constant(b"8191\n")
    tree[b"vulnerabilities"] = {}
    return tree


def _node_meminfo(task: Task) -> bytes:
    total, free = mem_total_kb(task.kernel), mem_free_kb(task.kernel)
    rows = ((b"MemTotal", total), (b"MemFree", free), (b"MemUsed", total - free))
    return b"".join(b"Node 0 %-15s%8d kB\n" % (name + b":", value) for name, value in rows)


def _nodes(kernel: Kernel) -> Tree:
    node: Tree = {
        b"cpulist": constant(cpu_list(kernel.cpus)),
        b"cpumap": constant(cpu_mask(kernel.cpus)),
        b"distance": constant(b"10\n"),
        b"meminfo": Text(_node_meminfo),
        b"numastat": constant(b"numa_hit 0\nnuma_miss 0\nnuma_foreign 0\n"),
    }
    tree: Tree = {b"node0": node}
    for name in (b"has_cpu", b"has_memory", b"has_normal_memory", b"online", b"possible"):
        tree[name] = constant(b"0\n")
    return tree


def _interfaces() -> list[tuple[int, bytes]]:
    import _socket as socket

    try:
        return [(index, name.encode()) for index, name in socket.if_nameindex()]
    except OSError:
        return [(1, b"lo")]


class _NetDirectory(PseudoDirectory):
    """The interfaces there are now."""

    __slots__ = ()

    def __init__(self, fs: Any) -> None:
        super().__init__(fs, {})

    def _refresh(self) -> None:
        self.tree = {name: _interface(index, name) for index, name in _interfaces()}

    def child(self, name: bytes) -> Any:
        if name not in self.tree:
            self._refresh()
        return super().child(name)

    async def readdir(self) -> list[DirEntry]:
        self._refresh()
        return await super().readdir()


def _interface(index: int, name: bytes) -> Tree:
    loopback = name == b"lo"
    zero = constant(b"0\n")
    return {
        b"address": constant(
            b"00:00:00:00:00:00\n" if loopback else b"02:00:00:00:00:%02x\n" % (index & 0xFF)
        ),
        b"addr_len": constant(b"6\n"),
        b"carrier": constant(b"1\n"),
        b"flags": constant(IFF_LOOPBACK_UP if loopback else IFF_ETHER_UP),
        b"ifindex": constant(b"%d\n" % index),
        b"mtu": constant(b"65536\n" if loopback else b"1500\n"),
        b"operstate": constant(b"unknown\n" if loopback else b"up\n"),
        b"tx_queue_len": constant(b"1000\n"),
        b"type": constant(b"772\n" if loopback else b"1\n"),
        b"statistics": {
            direction + what: zero
            for direction in (b"rx_", b"tx_")
            for what in (b"bytes", b"packets", b"errors", b"dropped")
        },
    }


def _tree(kernel: Kernel) -> Tree:
    never = constant(b"always madvise [never]\n")
    return {
        b"block": {},
        b"bus": {},
        b"class": {
            b"block": {},
            b"mem": {},
            b"misc": {},
            b"net": _NetDirectory,
            b"power_supply": {},
            b"tty": {},
        },
        b"dev": {b"block": {}, b"char": {}},
        b"devices": {
            b"system": {
                b"cpu": lambda fs: PseudoDirectory(fs, _cpus(kernel)),
                b"node": lambda fs: PseudoDirectory(fs, _nodes(kernel)),
            },
            b"virtual": {b"dmi": {b"id": {}}, b"net": Link(lambda: b"../../class/net")},
        },
        b"firmware": {},
        b"fs": {b"cgroup": {}},
        b"hypervisor": {},
        b"kernel": {
            b"debug": {},
            b"fscaps": constant(b"1\n"),
            b"mm": {
                b"hugepages": {
                    b"hugepages-2048kB": {
                        b"free_hugepages": constant(b"0\n"),
                        b"nr_hugepages": constant(b"0\n"),
                        b"surplus_hugepages": constant(b"0\n"),
                    }
                },
                b"transparent_hugepage": {
                    b"defrag": constant(b"always defer defer+madvise madvise [never]\n"),
                    b"enabled": never,
                    b"hpage_pmd_size": constant(b"2097152\n"),
                    b"shmem_enabled": constant(b"always within_size advise [never] deny force\n"),
                },
            },
            b"security": {},
            b"uevent_seqnum": constant(b"0\n"),
        },
        b"module": {},
        b"power": {},
    }
