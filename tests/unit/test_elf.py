"""sentry/kernel/elf.py: headers of good programs and of files made to confuse."""

from __future__ import annotations

import random
import struct
import sys
from typing import Any

import pytest

from sentry.abi.x86_64 import ELF_MACHINE
from sentry.errors import ENOEXEC
from sentry.kernel import elf
from sentry.kernel.elf import ET_DYN, ET_EXEC, PF_R, PF_W, PF_X, PT_INTERP, PT_LOAD, TASK_SIZE, Segment


def phdr(
    kind: int = PT_LOAD, vaddr: int = 0x400000, offset: int = 0, filesz: int = 0x1000, memsz: int | None = None,
    flags: int = PF_R | PF_X,
) -> bytes:  # fmt: skip
    return struct.pack("<IIQQQQQQ", kind, flags, offset, vaddr, vaddr, filesz, filesz if memsz is None else memsz, 4096)


def image(*phdrs: bytes, kind: int = ET_EXEC, entry: int = 0x400100, **changes: Any) -> bytes:
    """A file that is only headers. Fields of the ELF header may be changed."""
    field = {
        "ident": b"\x7fELF\x02\x01\x01", "machine": ELF_MACHINE, "phoff": 64, "phentsize": 56, "phnum": len(phdrs),
        **changes,
    }  # fmt: skip
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        field["ident"], kind, field["machine"], 1, entry, field["phoff"], 0, 0, 64, field["phentsize"], field["phnum"],
        0, 0, 0,
    )  # fmt: skip
    return header + b"".join(phdrs)


def read(data: bytes) -> elf.Elf:
    offset, size = elf.header(data[:256])
    return elf.parse(data[:256], data[offset : offset + size])


def test_a_static_program() -> None:
    found = read(image(phdr(), phdr(vaddr=0x401000, offset=0x1000, filesz=0x10, memsz=0x2010, flags=PF_R | PF_W)))
    assert (found.type, found.entry, found.phnum, found.interp) == (ET_EXEC, 0x400100, 2, None)
    assert found.segments == (
        Segment(0x400000, 0, 0x1000, 0x1000, PF_R | PF_X),
        Segment(0x401000, 0x1000, 0x10, 0x2010, PF_R | PF_W),
    )
    assert found.span == (0x400000, 0x404000)
    assert found.phdr_vaddr == 0x400040


def test_a_dynamic_program_names_its_interpreter_once() -> None:
    found = read(
        image(
            phdr(PT_INTERP, offset=0x200, filesz=28), phdr(PT_INTERP, offset=0x300, filesz=9), phdr(vaddr=0), kind=ET_DYN
        )
    )
    assert found.interp == (0x200, 28)
    assert found.phdr_vaddr == 0x40


def test_this_interpreter_is_a_program() -> None:
    with open(sys.executable, "rb") as file:
        data = file.read(4096)
    found = read(data)
    assert found.segments and found.span[0] <= found.entry < found.span[1]


def test_headers_outside_of_every_segment_have_no_address() -> None:
    assert read(image(phdr(offset=0x1000))).phdr_vaddr == 0


def test_empty_segments_are_left_out() -> None:
    assert len(read(image(phdr(), phdr(vaddr=0x100, filesz=0))).segments) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x7fELF",
        b"#!/bin/sh\n" + bytes(100),
        image(phdr(), ident=b"\x7fELG\x02\x01"),
        image(phdr(), ident=b"\x7fELF\x01\x01"),  # 32 bits
        image(phdr(), ident=b"\x7fELF\x02\x02"),  # big-endian
        image(phdr(), machine=183),  # another machine's
        image(phdr(), kind=1),  # an object file
        image(phdr(), kind=4),  # a core
        image(phdr(), phentsize=32),
        image(),
        image(phnum=65535),
    ],
)
def test_no_program_at_first_sight(data: bytes) -> None:
    with pytest.raises(ENOEXEC):
        elf.header(data[:256])


@pytest.mark.parametrize(
    "phdrs",
    [
        [phdr(PT_INTERP, filesz=10)],  # nothing to load
        [phdr(filesz=0x2000, memsz=0x1000)],  # more in the file than in memory
        [phdr(offset=0x123)],  # can't be mapped there
        [phdr(vaddr=0x500000), phdr(vaddr=0x400000)],  # descending
        [phdr(vaddr=TASK_SIZE - 0x1000, memsz=0x2000)],  # into the kernel's half
        [phdr(vaddr=(1 << 64) - 0x1000, memsz=0x2000)],  # wraps
        [phdr(memsz=(1 << 64) - 1)],
        [phdr(), phdr(PT_INTERP, filesz=1)],
        [phdr(), phdr(PT_INTERP, filesz=4097)],
        [phdr(), phdr(PT_INTERP, filesz=1 << 63)],
    ],
)
def test_hostile_program_headers(phdrs: list[bytes]) -> None:
    with pytest.raises(ENOEXEC):
        read(image(*phdrs))


def test_random_headers_are_refused_or_make_sense() -> None:
    generator = random.Random(7)
    good = image(phdr(PT_INTERP, offset=0x200, filesz=28), phdr(), phdr(vaddr=0x402000, offset=0x1000))
    accepted = 0
    for _ in range(3000):
        data = bytearray(good)
        for _ in range(generator.randrange(1, 6)):
            data[generator.randrange(16, len(data))] = generator.choice((0, 1, 0x7F, 0xFF, generator.randrange(256)))
        try:
            offset, size = elf.header(bytes(data[:256]))
            if offset + size > len(data):
                continue  # program.py sees that the file is too short
            found = elf.parse(bytes(data[:256]), bytes(data[offset : offset + size]))
        except ENOEXEC:
            continue
        accepted += 1
        low, high = found.span
        assert 0 <= low < high <= TASK_SIZE + 4096
        assert all(segment.file_size <= segment.mem_size for segment in found.segments)
        assert found.interp is None or 2 <= found.interp[1] <= 4096
    assert accepted


def test_where_code_and_data_are() -> None:
    text = phdr(vaddr=0x400000, filesz=0x800)
    data = phdr(offset=0x1000, vaddr=0x402000, filesz=0x10, memsz=0x2000, flags=elf.PF_R | elf.PF_W)
    data_bytes = image(text, data)
    parsed = elf.parse(data_bytes, data_bytes[64:])
    assert parsed.places(0x10000) == (0x410000, 0x410800, 0x412000, 0x412010)
