"""sentry/kernel/memory.py on the test's own process: faults, short copies, strings that end at a page's end."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator

import pytest

from sentry.errors import EFAULT, EINVAL, ENAMETOOLONG, ESRCH, LinuxError
from sentry.kernel.memory import Memory

PAGE = 4096
LIBC = ctypes.CDLL(None, use_errno=True)


class Pages:
    """Two readable pages with nothing behind them, and a read-only third kept apart."""

    def __init__(self) -> None:
        self.map = mmap.mmap(-1, 4 * PAGE)
        self.anchor = ctypes.c_char.from_buffer(self.map)
        self.start = ctypes.addressof(self.anchor)
        self.end = self.start + 2 * PAGE  # the next page can't be read
        self.read_only = self.start + 3 * PAGE
        self._protect(self.end, 0)
        self._protect(self.read_only, 1)

    def _protect(self, addr: int, prot: int) -> None:
        assert LIBC.mprotect(ctypes.c_void_p(addr), PAGE, prot) == 0

    def put(self, addr: int, data: bytes) -> None:
        ctypes.memmove(addr, data, len(data))

    def get(self, addr: int, size: int) -> bytes:
        return ctypes.string_at(addr, size)

    def close(self) -> None:
        self._protect(self.end, 3)
        self._protect(self.read_only, 3)
        del self.anchor
        self.map.close()


@pytest.fixture
def pages() -> Iterator[Pages]:
    made = Pages()
    yield made
    made.close()


@pytest.fixture
def memory() -> Memory:
    return Memory(os.getpid())


def test_what_is_written_is_read(pages: Pages, memory: Memory) -> None:
    for size in (0, 1, 100, PAGE, 2 * PAGE):
        data = os.urandom(size)
        memory.write(pages.start, data)
        assert memory.read(pages.start, size) == data
        assert memory.read_some(pages.start, size) == data


def test_all_or_nothing_at_a_fault(pages: Pages, memory: Memory) -> None:
    for call in (
        lambda: memory.read(pages.end - 4, 8),
        lambda: memory.read(pages.end - 5000, 8000),  # the path for large ones
        lambda: memory.write(pages.end - 4, bytes(8)),
        lambda: memory.write(pages.read_only, b"x"),
        lambda: memory.read(0, 1),
        lambda: memory.read(1 << 63, 8),
        lambda: memory.read((1 << 64) - 4, 8),
    ):
        with pytest.raises(EFAULT):
            call()


def test_some_is_as_much_as_there_is(pages: Pages, memory: Memory) -> None:
    pages.put(pages.end - 4, b"abcd")
    assert memory.read_some(pages.end - 4, 100) == b"abcd"
    assert memory.write_some(pages.end - 2, b"wxyz") == 2
    assert pages.get(pages.end - 4, 4) == b"abwx"
    with pytest.raises(EFAULT):
        memory.read_some(pages.end, 100)
    with pytest.raises(EFAULT):
        memory.write_some(pages.read_only, b"x")
    assert memory.read_some(0, 0) == b"" and memory.write_some(0, b"") == 0


def test_a_string_may_end_with_its_page(pages: Pages, memory: Memory) -> None:
    pages.put(pages.end - 4, b"abc\0")
    assert memory.read_cstr(pages.end - 4) == b"abc"
    assert memory.read_cstr(pages.end - 1) == b""


def test_a_string_over_a_page_border(pages: Pages, memory: Memory) -> None:
    pages.put(pages.start + PAGE - 3, b"abcdef\0")
    assert memory.read_cstr(pages.start + PAGE - 3) == b"abcdef"


def test_a_string_that_runs_into_nothing_is_a_fault(pages: Pages, memory: Memory) -> None:
    pages.put(pages.end - 4, b"abcd")
    for limit in (4096, 8192):
        with pytest.raises(EFAULT):
            memory.read_cstr(pages.end - 4, limit)
        with pytest.raises(EFAULT):
            memory.read_cstr(0, limit)


def test_a_string_longer_than_allowed(pages: Pages, memory: Memory) -> None:
    pages.put(pages.start, b"a" * 5000 + b"\0")
    for limit in (16, 4096, 5000):
        with pytest.raises(ENAMETOOLONG):
            memory.read_cstr(pages.start, limit)
    assert len(memory.read_cstr(pages.start, 5001)) == 5000


def test_a_string_of_just_the_limit_is_found_before_the_fault(pages: Pages, memory: Memory) -> None:
    pages.put(pages.end - 4, b"abcd")
    with pytest.raises(ENAMETOOLONG):
        memory.read_cstr(pages.end - 4, 4)


def test_numbers(pages: Pages, memory: Memory) -> None:
    memory.write_u32(pages.start, -1)
    memory.write_u64(pages.start + 8, (1 << 64) + 5)
    assert memory.read_u32(pages.start) == 0xFFFFFFFF
    assert memory.read_u64(pages.start + 8) == 5
    assert memory.read_u64(pages.start) == 0xFFFFFFFF


def iovec(pages: Pages, *entries: tuple[int, int]) -> int:
    for index, (addr, size) in enumerate(entries):
        pages.put(pages.start + index * 16, addr.to_bytes(8, "little") + size.to_bytes(8, "little"))
    return pages.start


def test_a_vector_is_gathered_and_scattered(pages: Pages, memory: Memory) -> None:
    a, b = pages.start + 100, pages.start + 200
    vec = memory.read_iovec(iovec(pages, (a, 3), (0, 0), (b, 4)), 3)
    assert vec == [(a, 3), (0, 0), (b, 4)]
    assert memory.write_vec(vec, b"abcdefghi") == 7
    assert memory.read_vec(vec, 100) == b"abcdefg"
    assert memory.read_vec(vec, 5) == b"abcde"
    assert memory.read_vec(vec, 0) == b"" and memory.write_vec(vec, b"") == 0


def test_a_vector_is_cut_at_its_first_fault(pages: Pages, memory: Memory) -> None:
    pages.put(pages.start + 100, b"abc")
    vec = [(pages.start + 100, 3), (pages.end, 4), (pages.start + 100, 3)]
    assert memory.read_vec(vec, 100) == b"abc"
    assert memory.write_vec(vec, b"123456") == 3
    with pytest.raises(EFAULT):
        memory.read_vec(vec[1:], 100)
    with pytest.raises(EFAULT):
        memory.write_vec(vec[1:], b"1")


@pytest.mark.parametrize(("count", "error"), [(-1, EINVAL), (1025, EINVAL), (1024, EFAULT)])
def test_vectors_that_are_refused(pages: Pages, memory: Memory, count: int, error: type[LinuxError]) -> None:
    with pytest.raises(error):
        memory.read_iovec(pages.end - 16, count)


def test_negative_lengths_are_refused(pages: Pages, memory: Memory) -> None:
    with pytest.raises(EINVAL):
        memory.read_iovec(iovec(pages, (1, 1 << 63)), 1)
    assert memory.read_iovec(0, 0) == []


def test_a_thread_that_is_gone_has_no_memory(pages: Pages) -> None:
    gone = Memory(8_000_000)
    with pytest.raises(EFAULT):
        gone.read(pages.start, 1)
    with pytest.raises((EFAULT, ESRCH)):
        gone.read_cstr(pages.start)
