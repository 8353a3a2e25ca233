"""Data between descriptors and memory: sentry/syscalls/fdio.py, sentry/fs/hostfile.py, sentry/fs/io.py.

Covers: sentry.fs.hostfile, sentry.fs.io, sentry.syscalls.fdio
"""

from __future__ import annotations

from collections.abc import Iterator
from errno import EAGAIN, EBADF, EFAULT, EFBIG, EINVAL, EISDIR, EOPNOTSUPP, ESPIPE
from signal import SIGXFSZ
from typing import Any

import pytest

from sentry.abi import linux
from sentry.fs.anon import anon_inode
from sentry.fs.memfd import create_memfd
from sentry.vfs.file import File
from tests.unit.fd_rig import PENDING, Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    yield rig
    rig.finish()


def regular(rig: Rig, data: bytes = b"", flags: int = linux.O_RDWR) -> int:
    task: Any = rig.task
    file: Any = create_memfd(task, b"data", False, 0o600)
    fd = rig.task.fds.install(file)
    if data:
        assert rig.write(fd, data) == len(data)
        assert rig.call("lseek", fd, 0, 0) == 0
    if flags != linux.O_RDWR:
        other = rig.task.fds.install(file.inode.open_now(task, file.path, flags))
        rig.call("close", fd)
        return other
    return fd


def content(rig: Rig, fd: int) -> bytes:
    addr, view = rig.buffer(100_000)
    got = rig.call("pread64", fd, addr, 100_000, 0)
    return bytes(view[:got])


def iovec(rig: Rig, *parts: bytes | int) -> tuple[int, list[Any]]:
    buffers = [rig.buffer(part) for part in parts]
    sizes = [part if isinstance(part, int) else len(part) for part in parts]
    packed = b"".join(
        addr.to_bytes(8, "little") + size.to_bytes(8, "little")
        for (addr, _), size in zip(buffers, sizes, strict=True)
    )
    return rig.buffer(packed)[0], [view for _, view in buffers]


class Lines(File):
    """A Python file: reads give one line each, writes are kept."""

    __slots__ = ("kept", "lines")

    def __init__(self, *lines: bytes) -> None:
        super().__init__(anon_inode(), None, linux.O_RDWR)
        self.lines = list(lines)
        self.kept = b""

    async def read(self, task: Any, size: int) -> bytes:
        return self.lines.pop(0)[:size] if self.lines else b""

    async def write(self, task: Any, data: bytes) -> int:
        self.kept += data[:5]
        return min(len(data), 5)


def test_position_is_shared_by_dup(rig: Rig) -> None:
    fd = regular(rig, b"abcdef")
    copy = rig.call("dup", fd)
    assert rig.read(fd, 2) == b"ab"
    assert rig.read(copy, 2) == b"cd"
    assert rig.call("lseek", fd, 0, linux.SEEK_CUR) == 4


def test_vectors(rig: Rig) -> None:
    fd = regular(rig)
    vec, _ = iovec(rig, b"one", b"", b"two")
    assert rig.call("writev", fd, vec, 3) == 6
    vec, views = iovec(rig, 2, 10)
    assert rig.call("preadv", fd, vec, 2, 1) == 5
    assert (views[0][:], views[1][:3]) == (b"ne", b"two")
    assert rig.call("readv", fd, vec, 1025) == -EINVAL
    assert rig.call("readv", fd, 0x1000, 1) == -EFAULT


def test_preadv2_at_the_position_and_flags(rig: Rig) -> None:
    fd = regular(rig, b"abcdef")
    vec, views = iovec(rig, 3)
    assert rig.call("preadv2", fd, vec, 1, -1, 0, 0) == 3
    assert views[0][:] == b"abc"
    assert rig.call("preadv2", fd, vec, 1, 0, 0, 0x1000) == -EOPNOTSUPP
    vec, _ = iovec(rig, b"!")
    assert rig.call("pwritev2", fd, vec, 1, 0, 0, linux.RWF_APPEND) == 1
    assert content(rig, fd) == b"abcdef!"


def test_append(rig: Rig) -> None:
    fd = regular(rig, b"abc", linux.O_RDWR | linux.O_APPEND)
    assert rig.write(fd, b"d") == 1
    assert rig.call("lseek", fd, 0, linux.SEEK_CUR) == 4
    assert rig.call("pwrite64", fd, rig.buffer(b"e")[0], 1, 0) == 1
    assert content(rig, fd) == b"abcde"


def test_access_mode(rig: Rig) -> None:
    fd = regular(rig, b"abc", linux.O_RDONLY)
    assert rig.write(fd, b"x") == -EBADF
    fd = regular(rig, b"abc", linux.O_WRONLY)
    assert rig.read(fd, 1) == -EBADF
    reader, _ = rig.pipe()
    assert rig.call("pread64", reader, rig.buffer(1)[0], 1, 0) == -ESPIPE
    assert rig.call("pread64", 99, rig.buffer(1)[0], 1, -1) == -EINVAL


def test_file_size_limit(rig: Rig) -> None:
    fd = regular(rig)
    rig.task.group.rlimits.set(linux.RLIMIT_FSIZE, 10, 10)
    assert rig.write(fd, b"x" * 8) == 8
    assert rig.write(fd, b"x" * 8) == 2
    assert rig.write(fd, b"x") == -EFBIG
    assert rig.signals == [SIGXFSZ]


def test_write_drops_setuid(rig: Rig) -> None:
    fd = regular(rig)
    inode = rig.task.fds.get(fd).inode
    inode.mode |= linux.S_ISUID | 0o755
    rig.task.creds = rig.task.creds._replace(cap_effective=0)
    assert rig.write(fd, b"x") == 1
    assert not inode.mode & linux.S_ISUID


def test_python_files_move_through_the_same_calls(rig: Rig) -> None:
    file = Lines(b"first\n", b"second\n")
    fd = rig.task.fds.install(file)
    assert rig.read(fd) == b"first\n"
    vec, views = iovec(rig, 3, 10)
    assert rig.call("readv", fd, vec, 2) == 7
    assert (views[0][:], views[1][:4]) == (b"sec", b"ond\n")
    assert rig.write(fd, b"longer") == 5
    assert rig.call("pread64", fd, rig.buffer(1)[0], 1, 0) == -ESPIPE
    assert rig.call("preadv2", fd, vec, 1, -1, 0, linux.RWF_NOWAIT) == -EOPNOTSUPP


# --- file to file


def test_sendfile_from_an_offset(rig: Rig) -> None:
    source = regular(rig, b"0123456789")
    reader, writer = rig.pipe()
    offset, view = rig.buffer((3).to_bytes(8, "little"))
    assert rig.call("sendfile", writer, source, offset, 4) == 4
    assert int.from_bytes(view[:], "little") == 7
    assert rig.call("lseek", source, 0, linux.SEEK_CUR) == 0
    assert rig.call("sendfile", writer, source, 0, 100) == 10
    assert rig.read(reader) == b"34560123456789"
    assert rig.call("sendfile", writer, source, 0, 100) == 0
    assert rig.call("sendfile", source, reader, offset, 1) == -ESPIPE


def test_sendfile_gives_back_what_found_no_room(rig: Rig) -> None:
    source = regular(rig, bytes(100_000))
    _, writer = rig.pipe(linux.O_NONBLOCK)
    assert rig.call("sendfile", writer, source, 0, 100_000) == 65536
    assert rig.call("lseek", source, 0, linux.SEEK_CUR) == 65536
    assert rig.call("sendfile", writer, source, 0, 100_000) == -EAGAIN
    assert rig.call("lseek", source, 0, linux.SEEK_CUR) == 65536


def test_copy_file_range(rig: Rig) -> None:
    source, target = regular(rig, bytes(range(256)) * 4000), regular(rig)
    size = 256 * 4000
    done = 0
    while done < size:
        done += rig.call("copy_file_range", source, 0, target, 0, size - done, 0)
    assert content(rig, target) == content(rig, source)
    assert rig.call("lseek", target, 0, linux.SEEK_CUR) == size
    assert rig.call("copy_file_range", source, 0, target, 0, 10, 0) == 0
    at_in, _ = rig.buffer((0).to_bytes(8, "little"))
    at_out, _ = rig.buffer((5).to_bytes(8, "little"))
    assert rig.call("copy_file_range", source, at_in, source, at_out, 10, 0) == -EINVAL
    assert rig.call("copy_file_range", source, 0, target, 0, 10, 1) == -EINVAL
    assert rig.call("copy_file_range", source, 0, rig.pipe()[1], 0, 10, 0) == -EINVAL


def test_splice_both_ways(rig: Rig) -> None:
    source, target = regular(rig, b"through the pipe"), regular(rig)
    reader, writer = rig.pipe()
    assert rig.call("splice", source, 0, writer, 0, 7, 0) == 7
    assert rig.call("splice", reader, 0, target, 0, 100, 0) == 7
    assert content(rig, target) == b"through"
    job = rig.start("splice", reader, 0, target, 0, 100, 0)
    assert rig.result(job) == PENDING
    assert rig.call("splice", reader, 0, target, 0, 100, 2) == -EAGAIN
    assert rig.call("splice", source, 0, writer, 0, 100, 0) == 9
    assert rig.result(job) == 9
    rig.call("close", writer)
    assert rig.call("splice", reader, 0, target, 0, 100, 0) == 0
    assert rig.call("splice", source, 0, target, 0, 100, 0) == -EINVAL


def test_tee_and_vmsplice(rig: Rig) -> None:
    first, second = rig.pipe(), rig.pipe()
    vec, _ = iovec(rig, b"ab", b"cd")
    assert rig.call("vmsplice", first[1], vec, 2, 0) == 4
    assert rig.call("tee", first[0], second[1], 3, 0) == 3
    assert rig.read(first[0]) == b"abcd"
    assert rig.read(second[0]) == b"abc"
    assert rig.call("tee", first[0], first[1], 3, 0) == -EINVAL


def test_advice_and_readahead(rig: Rig) -> None:
    fd = regular(rig)
    assert rig.call("fadvise64", fd, 0, 0, 3) == 0
    assert rig.call("fadvise64", fd, 0, 0, 9) == -EINVAL
    assert rig.call("readahead", fd, 0, 100) == 0
    assert rig.call("fadvise64", rig.pipe()[0], 0, 0, 0) == -ESPIPE


def test_directory_is_no_data(rig: Rig) -> None:
    from sentry.vfs.inode import Inode
    from sentry.vfs.special import Directory

    inode = Inode(anon_inode().fs, 9, linux.S_IFDIR | 0o755)
    fd = rig.task.fds.install(Directory(inode, None, linux.O_RDONLY))
    assert rig.read(fd) == -EISDIR
    assert rig.write(fd, b"x") == -EBADF
