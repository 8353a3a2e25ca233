"""sentry/kernel/loader.py: the plan the loader stub gets (native/include/plan.h), and the stack it jumps with."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from sentry.abi.linux import MAP_ANONYMOUS, MAP_FIXED_NOREPLACE, MAP_PRIVATE, PROT_EXEC, PROT_READ, PROT_WRITE
from sentry.errors import ENOMEM
from sentry.kernel import loader
from sentry.kernel.creds import Credentials
from sentry.kernel.elf import ET_DYN, PF_R, PF_W, PF_X, Elf, Segment

PLAN_H = Path(__file__).parents[2] / "native/include/plan.h"
FILE, ANONYMOUS = MAP_PRIVATE | MAP_FIXED_NOREPLACE, MAP_PRIVATE | MAP_FIXED_NOREPLACE | MAP_ANONYMOUS


class Mapping(NamedTuple):
    addr: int
    length: int
    prot: int
    flags: int
    fd: int
    offset: int
    zero_from: int
    zero_len: int


def program(*segments: Segment, kind: int = 2, phdr_vaddr: int = 0x400040) -> Elf:
    return Elf(kind, 0x400100, 64, len(segments), segments, None, phdr_vaddr)


def plan(*segments: Segment, base: int = 0) -> list[Mapping]:
    return [Mapping(*struct.unpack("<8Q", entry)) for entry in loader.segments(program(*segments), base, 62)]


# --- segments


def test_a_segment_becomes_one_mapping_of_whole_pages() -> None:
    assert plan(Segment(0x400100, 0x100, 0x1000, 0x1000, PF_R | PF_X)) == [
        Mapping(0x400000, 0x2000, PROT_READ | PROT_EXEC, FILE, 62, 0, 0x401100, 0)
    ]


def test_the_base_is_added() -> None:
    (mapping,) = plan(Segment(0x1000, 0x1000, 0x10, 0x10, PF_R), base=0x7E0000000000)
    assert (mapping.addr, mapping.offset) == (0x7E0000001000, 0x1000)


def test_bss_within_the_last_file_page_is_cleared() -> None:
    (mapping,) = plan(Segment(0x401F00, 0x1F00, 0x20, 0xA0, PF_R | PF_W))
    assert (mapping.addr, mapping.length) == (0x401000, 0x1000)
    assert (mapping.zero_from, mapping.zero_len) == (0x401F20, 0xE0)


def test_bss_beyond_it_is_anonymous_memory() -> None:
    data, bss = plan(Segment(0x401F00, 0x1F00, 0x20, 0x3000, PF_R | PF_W))
    assert (data.addr, data.length, data.zero_len) == (0x401000, 0x1000, 0xE0)
    assert bss == Mapping(0x402000, 0x3000, PROT_READ | PROT_WRITE, ANONYMOUS, (1 << 64) - 1, 0, 0, 0)


def test_a_segment_that_is_all_bss_maps_no_file() -> None:
    (bss,) = plan(Segment(0x402000, 0x2000, 0, 0x1800, PF_R | PF_W))
    assert (bss.addr, bss.length, bss.flags) == (0x402000, 0x2000, ANONYMOUS)


def test_a_read_only_tail_is_not_written() -> None:
    (mapping,) = plan(Segment(0x400000, 0, 0x10, 0x20, PF_R))
    assert mapping.zero_len == 0


def test_a_page_that_ends_exactly_needs_no_clearing() -> None:
    data, bss = plan(Segment(0x401000, 0x1000, 0x1000, 0x1800, PF_R | PF_W))
    assert data.zero_len == 0 and (bss.addr, bss.length) == (0x402000, 0x1000)


# --- base


def test_a_fixed_program_has_no_base_and_others_a_random_one() -> None:
    assert loader.pick_base(program(Segment(0x400000, 0, 1, 1, PF_R)), False) == 0
    pie = program(Segment(0x3000, 0, 1, 1, PF_R), kind=ET_DYN)
    bases = {loader.pick_base(pie, False) + 0x3000 for _ in range(8)}
    assert len(bases) > 1
    assert all(0x555500000000 <= base < 0x556500000000 and base % 4096 == 0 for base in bases)
    assert 0x7E0000000000 <= loader.pick_base(pie, True) + 0x3000 < 0x7F0000000000


# --- the plan as C reads it


def test_the_layout_is_that_of_plan_h() -> None:
    text = PLAN_H.read_text()
    assert int(re.search(r"NC_PLAN_MAX (\d+)", text)[1]) == loader.PLAN_MAX  # type: ignore[index]
    body = re.search(r"struct nc_segment \{(.*?)\};", text, re.S)[1]  # type: ignore[index]
    fields = re.findall(r"\w+(?=[,;])", re.sub(r"/\*.*?\*/", "", body))
    assert fields == ["addr", "len", "prot", "flags", "fd", "offset", "zero_from", "zero_len"]
    body = re.search(r"struct nc_plan \{(.*?)\};", text, re.S)[1]  # type: ignore[index]
    fields = re.findall(r"(\w+)(?:\[\w+\])?(?=[,;])", body)
    assert fields == ["n", "entry", "sp", "forget_parent", "ready", "comm", "segment"]


def test_a_plan_says_how_many_where_to_and_what_for() -> None:
    entries = loader.segments(program(Segment(0x400000, 0, 1, 1, PF_R)), 0, 62)
    packed = loader.pack_plan(entries, 0x1234, 0x5678, True, False, b"a-name-that-is-too-long")
    assert struct.unpack_from("<5Q16s", packed) == (1, 0x1234, 0x5678, 1, 0, b"a-name-that-is-\0")
    assert packed[56:] == entries[0]


def test_too_many_segments_are_an_error_not_an_overflow() -> None:
    with pytest.raises(ENOMEM):
        loader.pack_plan([bytes(64)] * (loader.PLAN_MAX + 1), 0, 0, False, False, b"x")
    loader.pack_plan([bytes(64)] * loader.PLAN_MAX, 0, 0, False, False, b"x")


# --- the stack


class Stack:
    """Memory that ends at TOP, as a stack does."""

    TOP = 0x7FFF0000

    def __init__(self, block: bytes) -> None:
        self.sp = self.TOP - len(block)
        self.below = 0x4000
        self.data = bytearray(self.below) + block

    def _at(self, addr: int) -> int:
        return addr - self.sp + self.below

    def read_some(self, addr: int, size: int) -> bytes:
        return bytes(self.data[self._at(addr) :][:size])

    def write(self, addr: int, data: bytes) -> None:
        at = self._at(addr)
        assert at >= 0 and at + len(data) <= len(self.data)
        self.data[at : at + len(data)] = data

    def words(self, addr: int, count: int) -> tuple[int, ...]:
        return struct.unpack_from(f"<{count}Q", self.data, self._at(addr))

    def text(self, addr: int) -> bytes:
        return bytes(self.data[self._at(addr) :]).partition(b"\0")[0]


def block(argv: int, envp: int, auxv: list[tuple[int, int]], tail: bytes = b"strings") -> bytes:
    words = [argv, *range(1, argv + 1), 0, *range(1, envp + 1), 0]
    for pair in auxv:
        words += pair
    return struct.pack(f"<{len(words)}Q", *words) + tail


@pytest.mark.parametrize(("argv", "envp"), [(1, 0), (3, 5), (0, 0), (4000, 3000)])
def test_the_stack_moves_down_and_keeps_its_order(argv: int, envp: int) -> None:
    auxv = [(25, 0xAA), (loader.AT_EXECFN, 1), (loader.AT_ENTRY, 2), (loader.AT_UID, 3), (0, 0)]
    stack = Stack(block(argv, envp, auxv))
    new = loader.build_stack(SimpleNamespace(mem=stack), stack.sp, b"/bin/prog", {loader.AT_ENTRY: 0x99})  # type: ignore[arg-type]
    assert new < stack.sp and (stack.sp - new) % 16 == 0
    count = 1 + argv + 1 + envp + 1
    words = stack.words(new, count + 10)
    assert words[0] == argv and words[1 : argv + 1] == tuple(range(1, argv + 1))
    pairs = dict(zip(words[count::2], words[count + 1 :: 2], strict=True))
    assert stack.text(pairs.pop(loader.AT_EXECFN)) == b"/bin/prog"
    assert pairs == {25: 0xAA, loader.AT_ENTRY: 0x99, loader.AT_UID: 3, 0: 0}
    assert stack.data.endswith(b"strings")


@pytest.mark.parametrize("length", [1, 7, 15, 16, 4095])
def test_paths_of_all_lengths_end_with_a_nul(length: int) -> None:
    stack = Stack(block(1, 1, [(loader.AT_EXECFN, 0), (0, 0)]))
    path = b"p" * length
    new = loader.build_stack(SimpleNamespace(mem=stack), stack.sp, path, {})  # type: ignore[arg-type]
    words = stack.words(new, 9)
    assert stack.text(words[6]) == path
    assert stack.sp + 9 * 8 >= words[6] + length + 1  # within what the stack's old head occupied


def test_auxv_describes_the_program() -> None:
    task: Any = SimpleNamespace(creds=Credentials(1, 2, 2, 2, 3, 4, 4, 4))
    elf = program(Segment(0, 0, 0x1000, 0x1000, PF_R), kind=ET_DYN, phdr_vaddr=0x40)
    found = loader.auxv_patches(elf, 0x10000, 0x20000, task, True)
    assert found == {
        loader.AT_PHDR: 0x10040, loader.AT_PHENT: 56, loader.AT_PHNUM: 1, loader.AT_BASE: 0x20000,
        loader.AT_ENTRY: 0x410100, loader.AT_UID: 1, loader.AT_EUID: 2, loader.AT_GID: 3, loader.AT_EGID: 4,
        loader.AT_SECURE: 1,
    }  # fmt: skip
    hidden = loader.auxv_patches(elf._replace(phdr_vaddr=0), 0x10000, 0, task, False)
    assert hidden[loader.AT_PHDR] == 0 and hidden[loader.AT_SECURE] == 0


def test_the_numbers_are_those_of_the_host() -> None:
    """AT_PAGESZ and its like are in /proc/self/auxv; the entry of this process is what AT_ENTRY says."""
    raw = Path("/proc/self/auxv").read_bytes()
    pairs = dict(struct.iter_unpack("<QQ", raw))
    assert pairs[loader.AT_UID] == os.getuid() and pairs[loader.AT_PHENT] == 56
