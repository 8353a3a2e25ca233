"""tmpfs(5): options and limits, data in the store, times, fifos, extended attributes, memfds."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from struct import unpack_from
from tempfile import TemporaryDirectory

import pytest

from sentry.abi.linux import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_FOLLOW,
    FALLOC_FL_INSERT_RANGE,
    FALLOC_FL_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE,
    FALLOC_FL_UNSHARE_RANGE,
    FALLOC_FL_ZERO_RANGE,
    S_IFIFO,
    XATTR_CREATE,
    XATTR_REPLACE,
)
from sentry.errors import EFBIG, EINVAL, ENOENT, ENOSPC, ENXIO, EOPNOTSUPP
from sentry.fs.keptopen import kept_open
from sentry.fs.store import Store
from sentry.fs.tmpfs import Tmpfs
from sentry.kernel.fdtable import drain
from sentry.kernel.sched import Scheduler
from sentry.syscalls import attrs, files, paths, xattrs
from sentry.vfs.open import check_combination
from tests.unit.vfs_rig import Rig, run

O_TMPFILE = 0x410000


@pytest.fixture
def store() -> Iterator[Store]:
    """In a tmpfs, as the sentry's own: on a disk st_blocks depends on what has been written back."""
    with TemporaryDirectory(dir="/dev/shm") as folder:
        dirfd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        yield Store(dirfd)
        os.close(dirfd)


@pytest.fixture
def rig(store: Store, tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(Tmpfs(store))
    yield rig
    rig.close()
    drain()
    del rig
    assert os.listdir(tmp_path) == []


def write(rig: Rig, path: bytes, data: bytes) -> int:
    fd = rig.call(files.sys_open, path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    put = run(rig.task.fds.get(fd).write(rig.task, data))
    rig.task.fds.close(fd)
    drain()
    return put


def read(rig: Rig, path: bytes) -> bytes:
    fd = rig.call(files.sys_open, path, os.O_RDONLY, 0)
    data = run(rig.task.fds.get(fd).read(rig.task, 1 << 20))
    rig.task.fds.close(fd)
    drain()
    return data


@pytest.mark.parametrize(
    ("options", "size", "inodes"),
    [
        (b"", None, None),
        (b"size=64k", 65536, None),
        (b"size=1", 4096, None),
        (b"size=0", None, None),
        (b"nr_blocks=3,nr_inodes=1k,mode=700", 12288, 1024),
    ],
)
def test_options(options: bytes, size: int | None, inodes: int | None) -> None:
    fs = Tmpfs.from_options(Store(None), options)
    assert (fs.max_bytes, fs.max_inodes) == (size, inodes)


@pytest.mark.parametrize("options", [b"nosuch", b"size=x", b"size=-1", b"mode=9", b"uid=-5"])
def test_bad_options_are_refused(options: bytes) -> None:
    with pytest.raises(EINVAL):
        Tmpfs.from_options(Store(None), options)


def test_the_inode_limit_counts_living_inodes(store: Store) -> None:
    rig = Rig(Tmpfs(store, max_inodes=3))
    rig.call(paths.sys_mkdir, b"/a", 0o755)
    rig.call(paths.sys_symlink, b"x", b"/b")
    assert rig.errno(paths.sys_mkdir, b"/c", 0o755) == ENOSPC.errno
    assert rig.errno(paths.sys_link, b"/b", b"/hard") == 0
    rig.call(paths.sys_rmdir, b"/a")
    assert rig.errno(paths.sys_mkdir, b"/c", 0o755) == 0
    rig.close()


def test_the_size_limit_holds_and_room_comes_back(store: Store) -> None:
    rig = Rig(Tmpfs(store, max_bytes=65536))
    assert write(rig, b"/a", bytes(40000)) == 40000
    assert write(rig, b"/b", bytes(40000)) == 65536 - 40960
    with pytest.raises(ENOSPC):
        write(rig, b"/c", b"x")
    rig.call(attrs.sys_statfs, b"/", rig.buffer)
    assert unpack_from("<qqQQQ", rig.bytes(120))[2:] == (16, 0, 0)
    rig.call(paths.sys_unlink, b"/a")
    assert write(rig, b"/c", bytes(40000)) == 40000
    fd = rig.call(files.sys_open, b"/c", os.O_RDWR, 0)
    file = rig.task.fds.get(fd)
    assert rig.errno(files.sys_fallocate, file, 0, 0, 80000) == ENOSPC.errno
    assert rig.errno(files.sys_fallocate, file, 0, -1, 1) == EINVAL.errno
    assert rig.errno(files.sys_fallocate, file, 0, 1, (1 << 63) - 1) == EFBIG.errno
    del file
    rig.close()
    drain()


def test_data_survives_when_idle_files_give_up_their_host_descriptors(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_open, "_limit", 4)
    held = rig.call(files.sys_open, b"/held", os.O_RDWR | os.O_CREAT, 0o644)
    run(rig.task.fds.get(held).write(rig.task, b"held"))
    before = len(os.listdir("/proc/self/fd"))
    for number in range(40):
        write(rig, b"/%d" % number, b"data %d" % number)
    assert len(os.listdir("/proc/self/fd")) < before + 30
    for number in range(40):
        assert read(rig, b"/%d" % number) == b"data %d" % number
    assert run(rig.task.fds.get(held).pread(rig.task, 10, 0)) == b"held"
    rig.task.fds.close(held)


def test_a_reader_cannot_write_through_its_host_descriptor(rig: Rig) -> None:
    write(rig, b"/f", b"data")
    fd = rig.call(files.sys_open, b"/f", os.O_RDONLY, 0)
    host_fd = rig.task.fds.get(fd).mapping()
    with pytest.raises(OSError):
        os.write(host_fd, b"x")
    rig.task.fds.close(fd)


def test_times_follow_writes_changes_and_utimensat(rig: Rig) -> None:
    def times() -> tuple[int, ...]:
        rig.call(attrs.sys_stat, b"/f", rig.buffer)
        a, a_ns, m, m_ns, c, c_ns = unpack_from("<6q", rig.bytes(144), 72)
        return a * 10**9 + a_ns, m * 10**9 + m_ns, c * 10**9 + c_ns

    rig.call(paths.sys_mknod, b"/f", 0o100644, 0)
    mem = rig.task.mem
    mem.write(mem.BASE + 512, (5).to_bytes(8, "little") + bytes(8) + (7).to_bytes(8, "little") + bytes(8))
    rig.call(attrs.sys_utimensat, AT_FDCWD, mem.put(b"/f"), mem.BASE + 512, 0)
    assert times()[:2] == (5 * 10**9, 7 * 10**9)
    fd = rig.call(files.sys_open, b"/f", os.O_WRONLY, 0)
    assert times()[:2] == (5 * 10**9, 7 * 10**9)
    changed = times()[2]
    rig.call(attrs.sys_chmod, b"/f", 0o600)
    assert times()[:2] == (5 * 10**9, 7 * 10**9) and times()[2] > changed
    run(rig.task.fds.get(fd).write(rig.task, b"x"))
    assert times()[0] == 5 * 10**9 and times()[1] > 10**18
    omit = (0x3FFFFFFE).to_bytes(8, "little")
    mem.write(mem.BASE + 512, bytes(8) + omit + (9).to_bytes(8, "little") + bytes(8))
    rig.call(attrs.sys_utimensat, AT_FDCWD, mem.put(b"/f"), mem.BASE + 512, 0)
    assert times()[:2] == (5 * 10**9, 9 * 10**9)
    rig.task.fds.close(fd)


def test_a_tmpfile_can_be_given_a_name_unless_it_is_exclusive(rig: Rig) -> None:
    fd = rig.call(files.sys_open, b"/", O_TMPFILE | os.O_RDWR, 0o600)
    run(rig.task.fds.get(fd).write(rig.task, b"unnamed"))
    rig.call(paths.sys_linkat, fd, b"", AT_FDCWD, b"/named", AT_EMPTY_PATH)
    assert read(rig, b"/named") == b"unnamed"
    other = rig.call(files.sys_open, b"/", O_TMPFILE | os.O_RDWR | os.O_EXCL, 0o600)
    assert rig.errno(paths.sys_linkat, other, b"", AT_FDCWD, b"/no", AT_EMPTY_PATH) == ENOENT.errno
    with pytest.raises(EINVAL):
        check_combination(O_TMPFILE)
    assert rig.errno(files.sys_open, b"/named", O_TMPFILE | os.O_RDWR, 0o600) == 20


def test_a_file_without_names_cannot_get_one_again(rig: Rig) -> None:
    fd = rig.call(files.sys_creat, b"/f", 0o600)
    rig.call(paths.sys_unlink, b"/f")
    assert rig.errno(paths.sys_linkat, fd, b"", AT_FDCWD, b"/g", AT_EMPTY_PATH) == ENOENT.errno
    assert rig.errno(paths.sys_linkat, AT_FDCWD, b"/f", AT_FDCWD, b"/g", AT_SYMLINK_FOLLOW) == ENOENT.errno


def test_a_fifo_waits_for_its_other_end(rig: Rig) -> None:
    scheduler = Scheduler()
    rig.call(paths.sys_mknod, b"/p", S_IFIFO | 0o600, 0)
    assert rig.errno(files.sys_open, b"/p", os.O_WRONLY | os.O_NONBLOCK, 0) == ENXIO.errno
    opened: list[int] = []

    async def reader() -> None:
        opened.append(await files.sys_open(rig.task, b"/p", os.O_RDONLY, 0))

    scheduler.spawn(reader())
    scheduler.run_ready()
    assert opened == []
    writer = rig.call(files.sys_open, b"/p", os.O_WRONLY | os.O_NONBLOCK, 0)
    drain()
    scheduler.run_ready()
    assert len(opened) == 1
    run(rig.task.fds.get(writer).write(rig.task, b"through"))
    assert run(rig.task.fds.get(opened[0]).read(rig.task, 100)) == b"through"


def test_extended_attributes(rig: Rig) -> None:
    rig.call(paths.sys_mkdir, b"/d", 0o755)
    mem = rig.task.mem
    mem.write(mem.BASE, b"value")

    def set_(name: bytes, size: int, flags: int = 0) -> int:
        return rig.errno(xattrs.sys_setxattr, b"/d", mem.put(name), mem.BASE, size, flags)

    def get(name: bytes, size: int) -> int:
        return rig.call(xattrs.sys_getxattr, b"/d", mem.put(name), mem.BASE + 512, size)

    assert set_(b"user.a", 5, XATTR_REPLACE) == 61
    assert set_(b"user.a", 5, XATTR_CREATE) == 0
    assert set_(b"user.a", 5, XATTR_CREATE) == 17
    assert set_(b"trusted.b", 0) == 0
    assert set_(b"user." + b"n" * 251, 1) == 34
    assert set_(b"", 1) == 34
    assert set_(b"user.big", 65537) == 7
    assert set_(b"system.posix_acl_access", 1) == 95
    assert get(b"user.a", 0) == 5
    assert get(b"user.a", 100) == 5 and rig.bytes(5, mem.BASE + 512) == b"value"
    with pytest.raises(Exception, match="ERANGE"):
        get(b"user.a", 4)
    assert rig.call(xattrs.sys_listxattr, b"/d", mem.BASE + 512, 100) == 17
    assert rig.bytes(17, mem.BASE + 512) == b"user.a\0trusted.b\0"
    assert rig.errno(xattrs.sys_removexattr, b"/d", mem.put(b"user.a")) == 0
    assert rig.errno(xattrs.sys_removexattr, b"/d", mem.put(b"user.a")) == 61


def test_memfd_names_itself_and_keeps_its_seals(rig: Rig) -> None:
    import fcntl

    fd = rig.call(files.sys_memfd_create, b"name", 2)
    file = rig.task.fds.get(fd)
    assert run(file.write(rig.task, b"data")) == 4
    fcntl.fcntl(file.mapping(), fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    assert rig.errno(files.sys_ftruncate, fd, 0) == 1
    assert rig.errno(files.sys_ftruncate, fd, 100) == 0
    assert file.path is not None and file.path.dentry.name == b"/memfd:name"
    plain = rig.task.fds.get(rig.call(files.sys_memfd_create, b"plain", 0))
    assert fcntl.fcntl(plain.mapping(), fcntl.F_GET_SEALS) == fcntl.F_SEAL_SEAL


def test_writing_and_truncating_clear_setuid(rig: Rig) -> None:
    from tests.unit.vfs_rig import user

    rig.task.fds.close(rig.call(files.sys_creat, b"/f", 0o777))
    rig.call(attrs.sys_chmod, b"/f", 0o6777)
    other = rig.sub(user(1000, 1000))
    fd = other.call(files.sys_open, b"/f", os.O_WRONLY, 0)
    run(other.task.fds.get(fd).write(other.task, b"x"))
    rig.call(attrs.sys_stat, b"/f", rig.buffer)
    assert unpack_from("<I", rig.bytes(144), 24)[0] == 0o100777


def test_a_file_of_a_noexec_mount_is_mapped_by_the_stores_noexec_twin(tmp_path: Path) -> None:
    dirfd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    rig = Rig(Tmpfs(Store(dirfd, dirfd)))
    assert write(rig, b"/f", b"text") == 4
    inode = rig.task.fds.get(rig.call(files.sys_open, b"/f", os.O_RDONLY, 0)).inode
    for writable in (False, True):
        host_fd = inode.noexec_fd(writable)
        assert os.pread(host_fd, 9, 0) == b"text"
        assert (fcntl.fcntl(host_fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR) == writable
        os.close(host_fd)
    assert Store(dirfd).reopen_noexec(1, False) == -1
    rig.close()
    drain()
    os.close(dirfd)


def test_many_files_under_a_size_limit_are_not_counted_at_each_write(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(Tmpfs(store, max_bytes=1 << 24))
    fs = rig.fs
    assert isinstance(fs, Tmpfs)
    counts = 0
    count = Tmpfs.used_bytes

    def counting(fs: Tmpfs) -> int:
        nonlocal counts
        counts += 1
        return count(fs)

    monkeypatch.setattr(Tmpfs, "used_bytes", counting)
    for number in range(500):
        write(rig, b"/%d" % number, bytes(5000))
    assert counts == 0
    assert count(fs) == 500 * 8192 == fs.charged
    for number in range(500):
        rig.call(paths.sys_unlink, b"/%d" % number)
    drain()
    assert fs.charged == count(fs) == 0
    rig.close()


def test_a_size_limit_counts_what_is_unlinked_and_open(store: Store) -> None:
    rig = Rig(Tmpfs(store, max_bytes=1 << 20))
    fd = rig.call(files.sys_open, b"/gone", os.O_RDWR | os.O_CREAT, 0o644)
    file = rig.task.fds.get(fd)
    assert run(file.write(rig.task, bytes(900_000))) == 900_000
    rig.call(paths.sys_unlink, b"/gone")
    with pytest.raises(ENOSPC):
        for number in range(50):
            write(rig, b"/%d" % number, bytes(10_000))
    rig.task.fds.close(fd)
    del file
    drain()
    write(rig, b"/more", bytes(500_000))
    rig.close()


def test_holes_and_grants_do_not_lead_beyond_a_size_limit(store: Store) -> None:
    rig = Rig(Tmpfs(store, max_bytes=1 << 20))
    fs = rig.fs
    assert isinstance(fs, Tmpfs)
    fds = [rig.call(files.sys_open, b"/%d" % n, os.O_RDWR | os.O_CREAT, 0o644) for n in range(8)]
    written = 0
    for round_ in range(200):
        file = rig.task.fds.get(fds[round_ % 8])
        offset = (round_ * 7919 % 97) * 50_000
        try:
            written += run(file.pwrite(rig.task, bytes(9000), offset))
        except ENOSPC:
            pass
        assert fs.used_bytes() <= 1 << 20
    assert written > 500_000
    del file
    for fd in fds:
        rig.task.fds.close(fd)
    drain()
    rig.close()


def test_a_limit_is_not_passed_by_growing_in_the_middle(store: Store) -> None:
    rig = Rig(Tmpfs(store, max_bytes=65536))
    fd = rig.call(files.sys_open, b"/f", os.O_RDWR | os.O_CREAT, 0o644)
    file = rig.task.fds.get(fd)
    assert rig.call(files.sys_fallocate, file, 0, 0, 8192) is None
    for mode in (FALLOC_FL_ZERO_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_UNSHARE_RANGE):
        assert rig.errno(files.sys_fallocate, file, mode, 4096, 1 << 20) == EOPNOTSUPP.errno
    assert rig.errno(files.sys_fallocate, file, FALLOC_FL_KEEP_SIZE, 0, 1 << 20) == ENOSPC.errno
    assert rig.call(files.sys_fallocate, file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) is None
    rig.close()
