"""NUMA policies of a machine with one node: get_mempolicy(2), set_mempolicy(2), mbind(2)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import (
    MPOL_F_ADDR,
    MPOL_F_MEMS_ALLOWED,
    MPOL_F_NODE,
    MPOL_F_RELATIVE_NODES,
    MPOL_F_STATIC_NODES,
    MPOL_MF_MOVE_ALL,
    MPOL_MF_STRICT,
)
from sentry.errors import EINVAL, EPERM
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, Size, UInt, ULong, choice, flags

if TYPE_CHECKING:
    from sentry.kernel.task import Task

MPOL_DEFAULT, MPOL_PREFERRED, MPOL_BIND, MPOL_INTERLEAVE, MPOL_LOCAL, MPOL_PREFERRED_MANY = range(6)
NODES = 1
MAX_NODES = 4096 * 8  # a mask of one page
PAGE = 4096
CAP_SYS_NICE = 23
Mode = Annotated[
    int,
    choice(
        strict=False, MPOL_DEFAULT=0, MPOL_PREFERRED=1, MPOL_BIND=2, MPOL_INTERLEAVE=3, MPOL_LOCAL=4,
        MPOL_PREFERRED_MANY=5,
    ),
]  # fmt: skip
GetFlags = Annotated[
    int,
    flags(width=64, MPOL_F_NODE=MPOL_F_NODE, MPOL_F_ADDR=MPOL_F_ADDR, MPOL_F_MEMS_ALLOWED=MPOL_F_MEMS_ALLOWED),
]


@syscall(partial="the policy is always the default one")
def sys_get_mempolicy(task: Task, mode: Addr, nodemask: Addr, maxnode: ULong, addr: Addr, flags: GetFlags) -> None:
    if nodemask and maxnode < NODES:
        raise EINVAL
    answer = nodes = 0
    if flags & MPOL_F_MEMS_ALLOWED:
        if flags & (MPOL_F_NODE | MPOL_F_ADDR):
            raise EINVAL
        nodes = 1
    elif flags & MPOL_F_ADDR:
        task.mem.read(addr, 1)  # on node 0, with policy 0
    elif addr or flags & MPOL_F_NODE:
        raise EINVAL
    if mode:
        task.mem.write_u32(mode, answer)
    if nodemask:
        task.mem.write(nodemask, nodes.to_bytes(_mask_size(maxnode - 1), "little"))


@syscall(partial="checked and forgotten: all memory is on one node")
def sys_set_mempolicy(task: Task, mode: Mode, nodemask: Addr, maxnode: ULong) -> None:
    _check(mode, _nodes(task, nodemask, maxnode))


@syscall(partial="checked and forgotten: all memory is on one node")
def sys_mbind(task: Task, addr: Addr, length: Size, mode: Mode, nodemask: Addr, maxnode: ULong, flags: UInt) -> None:
    nodes = _nodes(task, nodemask, maxnode)
    if flags & ~7:
        raise EINVAL
    if flags & MPOL_MF_MOVE_ALL and not task.creds.has_cap(CAP_SYS_NICE):
        raise EPERM
    if addr % PAGE or (mode == MPOL_DEFAULT and flags & ~MPOL_MF_STRICT and nodes):
        raise EINVAL
    _check(mode, nodes)


def _mask_size(bits: int) -> int:
    return max(bits + 63, 0) // 64 * 8


def _nodes(task: Task, nodemask: int, maxnode: int) -> int:
    """The node mask of the caller (get_nodes): `maxnode` counts one bit too many."""
    bits = maxnode - 1
    if not nodemask or bits <= 0:
        return 0
    if bits > MAX_NODES:
        raise EINVAL
    mask = int.from_bytes(task.mem.read(nodemask, _mask_size(bits)), "little") & (1 << bits) - 1
    if mask >> NODES:
        raise EINVAL("a node that is not there")
    return mask


def _check(mode: int, nodes: int) -> None:
    """mpol_new: which modes want nodes."""
    special = mode & (MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES)
    mode &= ~special
    if not 0 <= mode <= MPOL_PREFERRED_MANY or special == MPOL_F_STATIC_NODES | MPOL_F_RELATIVE_NODES:
        raise EINVAL
    if mode in (MPOL_DEFAULT, MPOL_LOCAL):
        if nodes or (mode == MPOL_LOCAL and special):
            raise EINVAL
    elif not nodes and not (mode == MPOL_PREFERRED and not special):
        raise EINVAL
