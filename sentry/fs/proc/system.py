"""/proc's files about the whole system: uptime, loadavg, stat, meminfo, cpuinfo, version, ..."""

from __future__ import annotations

import os
from time import CLOCK_BOOTTIME, clock_gettime, time
from typing import TYPE_CHECKING

from sentry.fs.proc import sysvipc
from sentry.fs.proc.facts import facts_of
from sentry.fs.pseudo import Link, Text, Tree, constant
from sentry.fs.registry import proc_filesystems

if TYPE_CHECKING:
    from sentry.kernel.kernel import Kernel
    from sentry.kernel.task import Task

#: uname(2)'s release and version: the Linux whose behaviour is offered.
SYSNAME = b"Linux"
RELEASE = b"6.1.0"
VERSION = b"#1 SMP PREEMPT_DYNAMIC runsc-py"
MACHINE = b"x86_64"
CLOCK_TICKS = 100
PAGE_KB = 4


def cpu_count(kernel: Kernel) -> int:
    """CPUs the sandbox may use."""
    return len(kernel.cpus)


def possible_cpus(kernel: Kernel) -> int:
    """How many CPU numbers there are: getcpu(2) gives a smaller one."""
    return max(facts_of(kernel).online_cpus, kernel.cpus[-1] + 1)


def cpu_list(cpus: tuple[int, ...]) -> bytes:
    """A list of CPUs as the kernel writes it: 0-3,8."""
    ranges: list[list[int]] = []
    for cpu in cpus:
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return b",".join(b"%d" % low if low == high else b"%d-%d" % (low, high) for low, high in ranges) + b"\n"


def cpu_mask(cpus: tuple[int, ...]) -> bytes:
    """The same as a mask, in words of 32 bits."""
    bits = sum(1 << cpu for cpu in cpus)
    words = [bits >> shift & 0xFFFFFFFF for shift in range(0, max(bits.bit_length(), 1), 32)]
    return b"%x" % words[-1] + b"".join(b",%08x" % word for word in reversed(words[:-1])) + b"\n"


def mem_total_kb(kernel: Kernel) -> int:
    """The host's memory, or the sandbox's limit where that is less."""
    total = facts_of(kernel).mem_total_kb or 1 << 20
    limit = kernel.memory_limit
    return total if limit is None else min(total, limit // 1024)


def mem_free_kb(kernel: Kernel) -> int:
    """What is left of it."""
    try:
        free = os.sysconf("SC_AVPHYS_PAGES") * PAGE_KB
    except (OSError, ValueError):
        free = mem_total_kb(kernel) // 2
    total = mem_total_kb(kernel)
    if kernel.memory_limit is None:
        return min(free, total)
    return max(0, min(free, total - used_kb(kernel)))


def used_kb(kernel: Kernel) -> int:
    """Resident memory of all guests."""
    used = 0
    for group in kernel.groups():
        fields = kernel.pids.read(group.host_tgid, "statm").split()
        if len(fields) > 1:
            used += int(fields[1]) * PAGE_KB
    return used


def uptime(task: Task) -> bytes:
    up = clock_gettime(CLOCK_BOOTTIME)
    return b"%.2f %.2f\n" % (up, up * cpu_count(task.kernel) * 0.9)


def loadavg(task: Task) -> bytes:
    kernel = task.kernel
    groups = kernel.groups()
    newest = max((group.tgid for group in groups), default=1)
    running = sum(1 for each in kernel.tasks.values() if each.call is None)
    return b"0.00 0.00 0.00 %d/%d %d\n" % (min(running, cpu_count(kernel)), len(kernel.tasks), newest)


def stat(task: Task) -> bytes:
    kernel = task.kernel
    cpus = cpu_count(kernel)
    user = system = 0
    for group in kernel.groups():
        fields = kernel.pids.read(group.host_tgid, "stat").rpartition(b")")[2].split()
        if len(fields) > 12:
            user += int(fields[11])
            system += int(fields[12])
    ticks = int(clock_gettime(CLOCK_BOOTTIME) * CLOCK_TICKS)
    idle = max(0, ticks * cpus - user - system)
    lines = [b"cpu  %d 0 %d %d 0 0 0 0 0 0" % (user, system, idle)]
    share = (user // cpus, system // cpus, idle // cpus)
    lines += [b"cpu%d %d 0 %d %d 0 0 0 0 0 0" % (cpu, *share) for cpu in kernel.cpus]
    running = sum(1 for each in kernel.tasks.values() if each.call is None)
    lines += [
        b"intr 0",
        b"ctxt 0",
        b"btime %d" % (time() - clock_gettime(CLOCK_BOOTTIME)),
        b"processes %d" % max((group.tgid for group in kernel.groups()), default=1),
        b"procs_running %d" % max(1, running),
        b"procs_blocked 0",
        b"softirq 0 0 0 0 0 0 0 0 0 0 0",
    ]
    return b"\n".join(lines) + b"\n"


def meminfo(task: Task) -> bytes:
    kernel = task.kernel
    total, free = mem_total_kb(kernel), mem_free_kb(kernel)
    used = used_kb(kernel)
    cached = max(0, min(total - free - used, total // 8))
    values = (
        (b"MemTotal", total), (b"MemFree", free), (b"MemAvailable", min(total, free + cached)),
        (b"Buffers", 0),
        (b"Cached", cached), (b"SwapCached", 0), (b"Active", used), (b"Inactive", cached),
        (b"Active(anon)", used), (b"Inactive(anon)", 0), (b"Active(file)", 0), (b"Inactive(file)", cached),
        (b"Unevictable", 0), (b"Mlocked", 0), (b"SwapTotal", 0), (b"SwapFree", 0), (b"Dirty", 0),
        (b"Writeback", 0), (b"AnonPages", used), (b"Mapped", cached), (b"Shmem", 0), (b"KReclaimable", 0),
        (b"Slab", 0), (b"SReclaimable", 0), (b"SUnreclaim", 0), (b"KernelStack", 0), (b"PageTables", 0),
        (b"NFS_Unstable", 0), (b"Bounce", 0), (b"WritebackTmp", 0), (b"CommitLimit", total // 2),
        (b"Committed_AS", used), (b"VmallocTotal", 34359738367), (b"VmallocUsed", 0), (b"VmallocChunk", 0),
        (b"Percpu", 0), (b"AnonHugePages", 0), (b"ShmemHugePages", 0), (b"ShmemPmdMapped", 0),
    )  # fmt: skip
    text = b"".join(b"%-16s%8d kB\n" % (name + b":", value) for name, value in values)
    return text + (
        b"HugePages_Total:       0\nHugePages_Free:        0\nHugePages_Rsvd:        0\n"
        b"HugePages_Surp:        0\nHugepagesize:       2048 kB\nHugetlb:               0 kB\n"
    )


def cpuinfo(task: Task) -> bytes:
    """The host's first CPU, once for each CPU of the sandbox."""
    count = cpu_count(task.kernel)
    own = {b"siblings": count, b"cpu cores": count}
    blocks = []
    for core, cpu in enumerate(task.kernel.cpus):
        numbers = {**own, b"processor": cpu, b"core id": core, b"apicid": cpu, b"initial apicid": cpu}
        lines = []
        for line in facts_of(task.kernel).cpuinfo.splitlines():
            key, colon, _ = line.partition(b":")
            value = numbers.get(key.strip())
            lines.append(line if value is None or not colon else key + b": %d" % value)
        blocks.append(b"\n".join(lines) + b"\n\n")
    return b"".join(blocks)


def version(task: Task) -> bytes:
    return b"%s version %s (runsc-py@sandbox) (gcc) %s\n" % (SYSNAME, RELEASE, VERSION)


def partitions(task: Task) -> bytes:
    return b"major minor  #blocks  name\n\n"


def devices(task: Task) -> bytes:
    return (
        b"Character devices:\n  1 mem\n  5 /dev/tty\n  5 /dev/console\n  5 /dev/ptmx\n 10 misc\n136 pts\n\n"
        b"Block devices:\n"
    )


def interrupts(task: Task) -> bytes:
    return b"".join([b"   ", *(b"%11s" % (b"CPU%d" % cpu) for cpu in task.kernel.cpus), b"\n"])


def vmstat(task: Task) -> bytes:
    kernel = task.kernel
    return (
        b"nr_free_pages %d\nnr_anon_pages %d\npgpgin 0\npgpgout 0\npswpin 0\npswpout 0\npgfault 0\n"
        b"pgmajfault 0\n" % (mem_free_kb(kernel) // PAGE_KB, used_kb(kernel) // PAGE_KB)
    )


def tree() -> Tree:
    """The files at the top of /proc that are about no process."""
    return {
        b"cmdline": constant(b"BOOT_IMAGE=/vmlinuz quiet\n"),
        b"consoles": constant(b""),
        b"cpuinfo": Text(cpuinfo),
        b"devices": Text(devices),
        b"diskstats": constant(b""),
        b"filesystems": Text(lambda task: proc_filesystems()),
        b"interrupts": Text(interrupts),
        b"loadavg": Text(loadavg),
        b"locks": constant(b""),
        b"meminfo": Text(meminfo),
        b"misc": constant(b""),
        b"modules": constant(b""),
        b"mounts": Link(lambda: b"self/mounts"),
        b"net": Link(lambda: b"self/net"),
        b"partitions": Text(partitions),
        b"stat": Text(stat),
        b"swaps": constant(b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n"),
        b"sysvipc": sysvipc.tree(),
        b"uptime": Text(uptime),
        b"version": Text(version),
        b"vmstat": Text(vmstat),
    }
