"""sentry/abi/x86_64.py: packed structs read back by libc, numbers asked from libc."""

import ctypes
import os
import struct

from sentry.abi import x86_64
from sentry.abi.x86_64 import NAMES, NUMBERS, major, makedev, minor, pack_stat, pack_statfs, pack_statx

LIBC = ctypes.CDLL(None, use_errno=True)


def host_struct(call: str, size: int, *before: object) -> bytes:
    buffer = ctypes.create_string_buffer(size)
    assert getattr(LIBC, call)(*before, buffer) == 0
    return buffer.raw


def test_numbers_are_unique_and_name_known_calls():
    assert len(NAMES) == len(NUMBERS)
    assert (NUMBERS["read"], NUMBERS["openat"], NUMBERS["clone3"], NUMBERS["mseal"]) == (0, 257, 435, 462)
    assert LIBC.syscall(NUMBERS["getpid"]) == os.getpid()


def test_stat_is_what_the_host_kernel_writes(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 5000)
    path = os.fsencode(tmp_path / "file")
    st = os.stat(path)
    buffer = ctypes.create_string_buffer(144)
    assert LIBC.syscall(NUMBERS["stat"], path, buffer) == 0
    assert buffer.raw == pack_stat(
        st.st_dev, st.st_ino, st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_rdev, st.st_size,
        st.st_blksize, st.st_blocks, st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns,
    )  # fmt: skip


def test_statx_is_what_the_host_kernel_writes():
    st = os.stat("/dev/null")
    buffer = ctypes.create_string_buffer(256)
    assert LIBC.syscall(NUMBERS["statx"], -100, b"/dev/null", 0, 0x7FF, buffer) == 0
    mask, attributes, attributes_mask, mnt_id = (
        struct.unpack_from(code, buffer.raw, at)[0]
        for code, at in (("<I", 0), ("<Q", 8), ("<Q", 56), ("<Q", 144))
    )
    assert buffer.raw == pack_statx(
        mask, st.st_dev, st.st_ino, st.st_mode, st.st_nlink, st.st_uid, st.st_gid, st.st_rdev, st.st_size,
        st.st_blksize, st.st_blocks, st.st_atime_ns, st.st_mtime_ns, st.st_ctime_ns,
        struct.unpack_from("<q", buffer.raw, 80)[0] * 10**9 + struct.unpack_from("<I", buffer.raw, 88)[0],
        attributes, attributes_mask, mnt_id,
    )  # fmt: skip


def test_statfs_is_what_the_host_kernel_writes():
    buffer = ctypes.create_string_buffer(120)
    assert LIBC.syscall(NUMBERS["statfs"], b"/proc", buffer) == 0
    fields = struct.unpack("<7q2i3q32x", buffer.raw)
    fsid = (fields[7] & 0xFFFFFFFF) | (fields[8] & 0xFFFFFFFF) << 32
    assert buffer.raw == pack_statfs(*fields[:7], fsid, *fields[9:])
    assert len(pack_statfs(0x01021994, 4096, 2, 1, 1, 2, 1, fsid=2**64 - 1)) == 120


def test_times_before_the_epoch():
    packed = pack_stat(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 0, 0)
    assert struct.unpack_from("<qq", packed, 72) == (-1, 999_999_999)


def test_device_numbers():
    for pair in ((1, 3), (136, 70000), (5000, 300)):
        dev = os.makedev(*pair)
        assert makedev(*pair) == dev
        assert (major(dev), minor(dev)) == pair


def test_sizes_of_small_structs():
    sizes = {
        "EPOLL_EVENT": 12, "MSGHDR": 56, "CMSGHDR": 16, "FLOCK": 32, "TERMIOS": 36, "TERMIOS2": 44,
        "DIRENT64": 19, "SYSINFO": 112, "STACK_T": 24, "SIGACTION": 32, "RUSAGE": 144,
        "SECCOMP_DATA": 64, "SOCK_FILTER": 8,
    }  # fmt: skip
    for name, size in sizes.items():
        assert getattr(x86_64, name).size == size, name
    assert len(x86_64.pack_utsname(b"Linux", b"n" * 100, b"r", b"v", b"m", b"d")) == 390
