"""Reading ELF headers: what execve(2) needs to know of a program or its interpreter (elf(5), fs/binfmt_elf.c)."""

from struct import Struct
from typing import NamedTuple

from sentry.abi.x86_64 import ELF_MACHINE
from sentry.errors import ENOEXEC

ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_INTERP, PT_PHDR = 1, 3, 6
PF_X, PF_W, PF_R = 1, 2, 4
PAGE = 4096
HEADER_SIZE = 64
PHDR_SIZE = 56
MAX_PHDRS = 65536 // PHDR_SIZE
TASK_SIZE = 0x7FFFFFFFF000

_EHDR = Struct("<16sHHIQQQIHHHHHH")
_PHDR = Struct("<IIQQQQQQ")


class Segment(NamedTuple):
    """A PT_LOAD entry. Addresses are the file's own, before any base is added."""

    vaddr: int
    offset: int
    file_size: int
    mem_size: int
    flags: int


class Elf(NamedTuple):
    """An executable's headers."""

    type: int
    entry: int
    phoff: int
    phnum: int
    segments: tuple[Segment, ...]
    interp: tuple[int, int] | None  # offset and size of the interpreter's path in the file
    phdr_vaddr: int

    @property
    def span(self) -> tuple[int, int]:
        """The page-aligned addresses from the first segment's start to the last one's end."""
        low = min(segment.vaddr for segment in self.segments) & -PAGE
        high = max(segment.vaddr + segment.mem_size for segment in self.segments)
        return low, (high + PAGE - 1) & -PAGE

    def places(self, base: int) -> tuple[int, int, int, int]:
        """Where code begins and ends, and data, loaded at `base`, as proc_pid_stat(5) tells it."""
        file_ends = [(segment.vaddr + segment.file_size, segment.flags) for segment in self.segments]
        return (
            base + min(segment.vaddr for segment in self.segments),
            base + max((end for end, flags in file_ends if flags & PF_X), default=0),
            base + max(segment.vaddr for segment in self.segments),
            base + max(end for end, _ in file_ends),
        )


def header(data: bytes) -> tuple[int, int]:
    """(offset, size) of the program headers of a file that begins with `data`. ENOEXEC: not one we run."""
    if len(data) < HEADER_SIZE or data[:4] != b"\x7fELF":
        raise ENOEXEC
    ident, kind, machine, _, _, phoff, _, _, _, phentsize, phnum, *_ = _EHDR.unpack_from(data)
    if ident[4] != 2 or ident[5] != 1 or machine != ELF_MACHINE or kind not in (ET_EXEC, ET_DYN):
        raise ENOEXEC
    if phentsize != PHDR_SIZE or not 0 < phnum <= MAX_PHDRS:
        raise ENOEXEC
    return phoff, phnum * PHDR_SIZE


def parse(data: bytes, phdrs: bytes) -> Elf:
    """The headers, checked: `data` is the file's beginning, `phdrs` what `header` pointed at."""
    _, kind, _, _, entry, phoff, _, _, _, _, phnum, *_ = _EHDR.unpack_from(data)
    segments: list[Segment] = []
    interp = None
    phdr_vaddr = 0
    for p_type, flags, offset, vaddr, _, file_size, mem_size, _ in _PHDR.iter_unpack(phdrs[: phnum * PHDR_SIZE]):
        if p_type == PT_LOAD:
            if mem_size == 0:
                continue
            if file_size > mem_size or vaddr + mem_size > TASK_SIZE or offset % PAGE != vaddr % PAGE:
                raise ENOEXEC
            if segments and vaddr < segments[-1].vaddr:
                raise ENOEXEC
            if offset <= phoff < offset + file_size:
                phdr_vaddr = phoff - offset + vaddr
            segments.append(Segment(vaddr, offset, file_size, mem_size, flags))
        elif p_type == PT_INTERP and interp is None:
            if not 2 <= file_size <= 4096:
                raise ENOEXEC
            interp = (offset, file_size)
    if not segments:
        raise ENOEXEC
    return Elf(kind, entry, phoff, phnum, tuple(segments), interp, phdr_vaddr)
