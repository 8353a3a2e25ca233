"""The loader stub's plan, and the new program's stack: what the sentry answers when the stub asks (native/src/stub.c).

The host kernel has executed the stub: a fresh address space with argv, envp, and an auxiliary vector that describes
the stub. The sentry turns the vector into the program's, moves the block down a little to make room for the path of
AT_EXECFN, and gives the stub the mappings to make.
"""

import os
from struct import Struct, pack, unpack_from
from typing import TYPE_CHECKING

from sentry.abi.linux import (
    MAP_ANONYMOUS,
    MAP_FIXED_NOREPLACE,
    MAP_PRIVATE,
    PROT_EXEC,
    PROT_READ,
    PROT_WRITE,
)
from sentry.errors import EFAULT, ENOMEM
from sentry.kernel.elf import ET_DYN, PAGE, PF_R, PF_W, PF_X, PHDR_SIZE, Elf

if TYPE_CHECKING:
    from sentry.kernel.task import Task

AT_NULL, AT_PHDR, AT_PHENT, AT_PHNUM, AT_BASE, AT_ENTRY = 0, 3, 4, 5, 7, 9
AT_UID, AT_EUID, AT_GID, AT_EGID, AT_SECURE, AT_EXECFN = 11, 12, 13, 14, 23, 31
PLAN_MAX = 24
_BLOCK_MAX = 16 << 20  # the host lets arguments, environment and their pointers have 6 MiB
_PLAN = Struct("<QQQQQ16s")
_SEGMENT = Struct("<QQQQQQQQ")
# Where Linux puts position-independent programs, and a range of its own for interpreters below the host's mmap area.
_PIE_BASE, _INTERP_BASE = 0x555500000000, 0x7E0000000000


def pick_base(elf: Elf, interpreter: bool) -> int:
    """The load bias: 0 for a fixed-address program, else a random place."""
    if elf.type != ET_DYN:
        return 0
    low, _ = elf.span
    return (_INTERP_BASE if interpreter else _PIE_BASE) + int.from_bytes(os.urandom(3)) * PAGE - low


def segments(elf: Elf, base: int, fd: int) -> list[bytes]:
    """The plan's entries for one ELF file that sits at `fd` of the guest's host table."""
    entries = []
    for segment in elf.segments:
        start = segment.vaddr + base
        page = start & -PAGE
        prot = (
            (PROT_READ if segment.flags & PF_R else 0)
            | (PROT_WRITE if segment.flags & PF_W else 0)
            | (PROT_EXEC if segment.flags & PF_X else 0)
        )
        file_end, mem_end = start + segment.file_size, start + segment.mem_size
        anonymous_from = page
        if segment.file_size:
            length = (file_end - page + PAGE - 1) & -PAGE
            anonymous_from = page + length
            zero = anonymous_from - file_end if mem_end > file_end and prot & PROT_WRITE else 0
            entries.append(
                _SEGMENT.pack(
                    page, length, prot, MAP_PRIVATE | MAP_FIXED_NOREPLACE, fd, segment.offset & -PAGE, file_end, zero
                )
            )
        if mem_end > anonymous_from:
            length = (mem_end - anonymous_from + PAGE - 1) & -PAGE
            flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE | MAP_ANONYMOUS
            entries.append(_SEGMENT.pack(anonymous_from, length, prot, flags, 0xFFFFFFFFFFFFFFFF, 0, 0, 0))
    return entries


def pack_plan(
    entries: list[bytes], entry: int, sp: int, forget_parent: bool, ready: bool, comm: bytes
) -> bytes:
    """struct nc_plan (native/include/plan.h), as far as it is used."""
    if len(entries) > PLAN_MAX:
        raise ENOMEM("more segments than the loader stub maps")
    return _PLAN.pack(len(entries), entry, sp, forget_parent, ready, comm[:15]) + b"".join(entries)


def build_stack(task: "Task", sp: int, path: bytes, patches: dict[int, int]) -> int:
    """Rewrite argc..auxv at `sp` for the program: `patches` are auxv values by type. The new stack pointer."""
    values, auxv = _read_vectors(task, sp)
    size = len(values) * 8
    room = (len(path) + 1 + 15) & -16
    new_sp = sp - room
    text_at = new_sp + size
    for at in range(auxv, len(values), 2):
        if values[at] == AT_EXECFN:
            values[at + 1] = text_at
        elif values[at] in patches:
            values[at + 1] = patches[values[at]]
    task.mem.write(new_sp, pack(f"<{len(values)}Q", *values) + path.ljust(room, b"\0"))
    return new_sp


def _read_vectors(task: "Task", sp: int) -> tuple[list[int], int]:
    """The words of argc, argv, envp and auxv at `sp`, and at which the last begins."""
    size = 2048
    while size <= _BLOCK_MAX:
        data = task.mem.read_some(sp, size)
        words = len(data) // 8
        values = list(unpack_from(f"<{words}Q", data))
        try:
            auxv = values.index(0, values[0] + 2) + 1
            end = auxv
            while values[end] != AT_NULL:
                end += 2
        except (ValueError, IndexError):
            pass
        else:
            if end + 2 <= words:
                return values[: end + 2], auxv
        if len(data) < size:
            break
        size *= 4
    raise EFAULT("somebody wrote over it: the host kernel laid out a whole one")


def auxv_patches(elf: Elf, base: int, interp_base: int, task: "Task", secure: bool) -> dict[int, int]:
    """The auxiliary vector's values that describe the program rather than the stub (getauxval(3))."""
    creds = task.creds
    return {
        AT_PHDR: elf.phdr_vaddr + base if elf.phdr_vaddr else 0,
        AT_PHENT: PHDR_SIZE,
        AT_PHNUM: elf.phnum,
        AT_BASE: interp_base,
        AT_ENTRY: elf.entry + base,
        AT_UID: creds.uid,
        AT_EUID: creds.euid,
        AT_GID: creds.gid,
        AT_EGID: creds.egid,
        AT_SECURE: int(secure),
    }
