"""tmpfs, path walk and name changes against the host kernel: the same random calls, the same errno,
the same tree.

Covers: sentry.vfs.namespace, sentry.vfs.open, sentry.vfs.perm, sentry.vfs.walk
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import unpack_from
from typing import Any

import pytest

from sentry.abi.linux import AT_FDCWD, AT_SYMLINK_FOLLOW, O_PATH
from sentry.fs.overlay import Overlay
from sentry.fs.store import Store
from sentry.kernel.creds import Credentials
from sentry.kernel.fdtable import drain
from sentry.syscalls import attrs, dirs, files, paths, xattrs
from sentry.vfs.dentry import evict
from sentry.vfs.open import check_combination
from sentry.vfs.perm import Protected
from tests.unit.vfs_rig import ROOT, Rig, run, user

libc = ctypes.CDLL(None, use_errno=True)

NAMES = [b"a", b"b", b"c", b"d"]
ODD = [b".", b"..", b"", b"x" * 256, b"x" * 255]


def host(function: str, *args: Any) -> int:
    """A raw C call in this process: 0 or errno; descriptors are closed again."""
    result = getattr(libc, function)(*args)
    if result < 0:
        return ctypes.get_errno()
    if function == "openat":
        os.close(result)
    return 0


class Host:
    """The calls on a directory of the host, through libc."""

    def __init__(self, root: Path) -> None:
        self.top = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        (root / "x" / "y").mkdir(parents=True)
        self.root = os.open(root / "x" / "y", os.O_RDONLY | os.O_DIRECTORY)

    def close(self) -> None:
        os.close(self.root)
        os.close(self.top)

    def mkdir(self, path: bytes, mode: int) -> int:
        return host("mkdirat", self.root, path, mode)

    def mknod(self, path: bytes, mode: int) -> int:
        return host("mknodat", self.root, path, mode, ctypes.c_ulong(0))

    def open(self, path: bytes, flags: int, mode: int) -> int:
        return host("openat", self.root, path, flags, mode)

    def unlink(self, path: bytes) -> int:
        return host("unlinkat", self.root, path, 0)

    def rmdir(self, path: bytes) -> int:
        return host("unlinkat", self.root, path, 0x200)

    def symlink(self, target: bytes, path: bytes) -> int:
        return host("symlinkat", target, self.root, path)

    def link(self, old: bytes, new: bytes, flags: int) -> int:
        return host("linkat", self.root, old, self.root, new, flags)

    def rename(self, old: bytes, new: bytes, flags: int) -> int:
        return host("renameat2", self.root, old, self.root, new, flags)

    def chmod(self, path: bytes, mode: int) -> int:
        return host("fchmodat", self.root, path, mode, 0)

    def chown(self, path: bytes, uid: int, gid: int) -> int:
        return host("fchownat", self.root, path, uid, gid, 0x100)

    def utime(self, path: bytes, now: bool) -> int:
        return host("utimensat", self.root, path, None if now else b"\x01" + bytes(31), 0)

    def setxattr(self, path: bytes, name: bytes) -> int:
        return self._from_root("lsetxattr", path, name, b"value", ctypes.c_size_t(5), 0)

    def getxattr(self, path: bytes, name: bytes) -> int:
        return self._from_root("lgetxattr", path, name, None, ctypes.c_size_t(0))

    def _from_root(self, function: str, *args: Any) -> int:
        here = os.open(".", os.O_RDONLY)
        os.fchdir(self.root)
        try:
            return host(function, *args)
        finally:
            os.fchdir(here)
            os.close(here)

    def truncate(self, path: bytes, size: int) -> int:
        return self._from_root("truncate", path, ctypes.c_long(size))

    def access(self, path: bytes, mode: int) -> int:
        return host("faccessat", self.root, path, mode, 0x200)

    def lstat(self, path: bytes) -> int:
        try:
            os.stat(path, dir_fd=self.root, follow_symlinks=False)
        except OSError as error:
            return error.errno or 0
        return 0

    def stat(self, path: bytes) -> int:
        try:
            os.stat(path, dir_fd=self.root)
        except OSError as error:
            return error.errno or 0
        return 0

    def append(self, path: bytes, data: bytes) -> int:
        try:
            fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK, dir_fd=self.root)
        except OSError as error:
            return error.errno or 0
        if stat.S_ISREG(os.fstat(fd).st_mode):
            os.write(fd, data)
        os.close(fd)
        return 0

    def tree(self) -> dict[bytes, Any]:
        return _host_tree(self.top, b"")


def _host_tree(fd: int, prefix: bytes) -> dict[bytes, Any]:
    out: dict[bytes, Any] = {}
    for text in os.listdir(fd):
        name = os.fsencode(text)
        info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        size = info.st_size if not stat.S_ISDIR(info.st_mode) else 0
        what: Any = info.st_mode, info.st_nlink, info.st_uid, info.st_gid, size
        if stat.S_ISLNK(info.st_mode):
            what += (os.readlink(name, dir_fd=fd),)
        elif stat.S_ISREG(info.st_mode):
            content = os.open(name, os.O_RDONLY, dir_fd=fd)
            what += (os.read(content, 65536),)
            os.close(content)
        out[prefix + name] = what
        if stat.S_ISDIR(info.st_mode):
            below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
            out.update(_host_tree(below, prefix + name + b"/"))
            os.close(below)
    return out


class Ours:
    """The same calls on the VFS."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        rig.errno(paths.sys_mkdir, b"/x", 0o755)
        rig.errno(paths.sys_mkdir, b"/x/y", 0o755)
        rig.call(dirs.sys_chdir, b"/x/y")
        e = rig.errno
        self.mkdir = lambda path, mode: e(paths.sys_mkdir, path, mode)
        self.mknod = lambda path, mode: e(paths.sys_mknod, path, mode, 0)
        self.unlink = lambda path: e(paths.sys_unlink, path)
        self.rmdir = lambda path: e(paths.sys_rmdir, path)
        self.symlink = lambda target, path: e(paths.sys_symlink, target, path)
        self.link = lambda old, new, flags: e(paths.sys_linkat, AT_FDCWD, old, AT_FDCWD, new, flags)
        self.rename = lambda old, new, flags: e(paths.sys_renameat2, AT_FDCWD, old, AT_FDCWD, new, flags)
        self.chmod = lambda path, mode: e(attrs.sys_chmod, path, mode)
        self.chown = lambda path, uid, gid: e(attrs.sys_lchown, path, uid, gid)
        self.truncate = lambda path, size: e(files.sys_truncate, path, size)
        self.access = lambda path, mode: e(paths.access, AT_FDCWD, path, mode, 0x200)
        self.stat = lambda path: e(attrs.sys_stat, path, rig.buffer)
        self.lstat = lambda path: e(attrs.sys_lstat, path, rig.buffer)

    def open(self, path: bytes, flags: int, mode: int) -> int:
        def opened(task: Any) -> None:
            if not flags & O_PATH:
                check_combination(flags)
            self.rig.task.fds.close(self.rig.call(files.sys_open, path, flags, mode))

        return self.rig.errno(opened)

    def utime(self, path: bytes, now: bool) -> int:
        addr = 0
        if not now:
            addr = self.rig.task.mem.BASE + 4096
            self.rig.task.mem.write(addr, b"\x01" + bytes(31))
        return self.rig.errno(attrs.sys_utimensat, AT_FDCWD, self.rig.task.mem.put(path), addr, 0)

    def setxattr(self, path: bytes, name: bytes) -> int:
        mem = self.rig.task.mem
        return self.rig.errno(xattrs.sys_lsetxattr, path, mem.put(name), mem.BASE, 5, 0)

    def getxattr(self, path: bytes, name: bytes) -> int:
        return self.rig.errno(xattrs.sys_lgetxattr, path, self.rig.task.mem.put(name), 0, 0)

    def append(self, path: bytes, data: bytes) -> int:
        def appended(task: Any) -> None:
            fd = self.rig.call(files.sys_open, path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK, 0)
            file = task.fds.get(fd)
            if stat.S_ISREG(file.inode.mode):
                run(file.write(task, data))
            task.fds.close(fd)

        return self.rig.errno(appended)

    def tree(self) -> dict[bytes, Any]:
        return _our_tree(self.rig, b"/")


def listing(rig: Rig, path: bytes) -> list[bytes]:
    """Names in a directory, by getdents64."""
    fd = rig.call(files.sys_open, path, os.O_RDONLY | os.O_DIRECTORY, 0)
    file = rig.task.fds.get(fd)
    names = []
    while size := rig.call(dirs.sys_getdents64, file, rig.buffer, 4096):
        data = rig.bytes(size)
        at = 0
        while at < size:
            reclen = unpack_from("<H", data, at + 16)[0]
            names.append(data[at + 19 : at + reclen].split(b"\0")[0])
            at += reclen
    rig.task.fds.close(fd)
    assert names[:2] == [b".", b".."]
    return names[2:]


def _our_tree(rig: Rig, path: bytes) -> dict[bytes, Any]:
    out: dict[bytes, Any] = {}
    for name in listing(rig, path):
        whole = path + name
        rig.call(attrs.sys_lstat, whole, rig.buffer)
        _, _, nlink, mode, uid, gid = unpack_from("<QQQIII", rig.bytes(144))
        size = unpack_from("<q", rig.bytes(144), 48)[0]
        what: Any = mode, nlink, uid, gid, size if not stat.S_ISDIR(mode) else 0
        if stat.S_ISLNK(mode):
            length = rig.call(paths.sys_readlink, whole, rig.buffer, 4096)
            what += (rig.bytes(length),)
        elif stat.S_ISREG(mode):
            fd = rig.call(files.sys_open, whole, os.O_RDONLY, 0)
            what += (run(rig.task.fds.get(fd).read(rig.task, 65536)),)
            rig.task.fds.close(fd)
        out[whole[1:]] = what
        if stat.S_ISDIR(mode):
            out.update(_our_tree(rig, whole + b"/"))
    return out


def some_path(rng: random.Random) -> bytes:
    parts = [rng.choice(NAMES) for _ in range(rng.choice((1, 1, 1, 2, 2, 3)))]
    if rng.random() < 0.12:
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(ODD))
    path = b"/".join(parts)
    if rng.random() < 0.1:
        path += b"/"
    # An absolute path or one that leaves the root would leave the host's directory.
    depth = 0
    for part in path.split(b"/"):
        depth += -1 if part == b".." else 0 if part in (b"", b".") else 1
        if depth < 0:
            return b"a"
    return path.lstrip(b"/")


def some_call(rng: random.Random) -> Callable[[Any], int]:
    path, other = some_path(rng), some_path(rng)
    kind = rng.randrange(22)
    if kind == 0:
        return lambda on: on.mkdir(path, rng_mode)
    if kind == 1:
        mode = rng.choice((stat.S_IFREG, stat.S_IFIFO, stat.S_IFSOCK, stat.S_IFDIR, 0, 0o150000)) | 0o644
        return lambda on: on.mknod(path, mode)
    if kind in (2, 3, 4):
        flags = rng.choice((os.O_RDONLY, os.O_WRONLY, os.O_RDWR)) | os.O_NONBLOCK
        for flag in (os.O_CREAT, os.O_CREAT, os.O_EXCL, os.O_TRUNC, os.O_DIRECTORY, os.O_NOFOLLOW):
            if rng.random() < 0.35:
                flags |= flag
        if not flags & os.O_CREAT:
            flags &= ~os.O_EXCL
        return lambda on: on.open(path, flags, 0o666)
    if kind == 5:
        return lambda on: on.unlink(path)
    if kind == 6:
        return lambda on: on.rmdir(path)
    if kind in (7, 8):
        target = rng.choice((other, b"../" + other if path.count(b"/") == 1 else other, b"nowhere"))
        return lambda on: on.symlink(target, path)
    if kind == 9:
        flags = rng.choice((0, 0, AT_SYMLINK_FOLLOW, 0x8000000))
        return lambda on: on.link(path, other, flags)
    if kind in (10, 11, 12):
        flags = rng.choice((0, 0, 0, 1, 2, 3, 8))
        return lambda on: on.rename(path, other, flags)
    if kind == 13:
        return lambda on: on.stat(path)
    if kind == 14:
        size = rng.choice((0, 5, -1, 4097))
        return lambda on: on.truncate(path, size)
    if kind == 15:
        bits = rng.choice((0o600, 0o4755, 0o2711, 0o1777, 0))
        return lambda on: on.chmod(path, bits)
    if kind == 16:
        data = b"%d" % rng.randrange(50)
        return lambda on: on.append(path, data)
    if kind == 17:
        uid, gid = rng.choice((0, 1000, 0xFFFFFFFF)), rng.choice((0, 1000, 2000, 0xFFFFFFFF))
        return lambda on: on.chown(path, uid, gid)
    if kind == 18:
        now = rng.random() < 0.5
        return lambda on: on.utime(path, now)
    if kind == 19:
        name = rng.choice((OF_USERS, b"trusted.x", b"system.x", b"nothing"))
        return lambda on: on.setxattr(path, name)
    if kind == 20:
        name = rng.choice((OF_USERS, b"trusted.x"))
        return lambda on: on.getxattr(path, name)
    mode = rng.choice((0, 1, 2, 4, 7))
    return lambda on: on.access(path, mode)


rng_mode = 0o755

BASE = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None


def _users_attribute() -> bytes:
    """`user.x`, unless this host's tmpfs has no attributes of users, as Linux 6.1's has not."""
    try:
        with tempfile.NamedTemporaryFile(dir=BASE) as file:
            os.setxattr(file.name, "user.x", b"value")
    except OSError:
        return b"trusted.x"
    return b"user.x"


OF_USERS = _users_attribute()


@pytest.fixture(autouse=True)
def protections(monkeypatch: pytest.MonkeyPatch) -> None:
    """As this host has them."""
    for name in ("hardlinks", "symlinks", "regular", "fifos"):
        monkeypatch.setattr(Protected, name, int(Path(f"/proc/sys/fs/protected_{name}").read_text()))


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    rig.task.fs.umask = 0o022
    yield rig
    rig.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="the VFS plays root: so must the host")
@pytest.mark.parametrize("seed", range(50))
def test_random_calls_give_the_hosts_errno_and_tree(seed: int, rig: Rig, tmp_path: Path) -> None:
    compare(seed, rig, tmp_path, 10_000)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="the VFS plays root: so must the host")
@pytest.mark.parametrize("seed", range(100, 150))
def test_overlay_over_a_full_tree_behaves_as_a_plain_one(seed: int, rig: Rig, tmp_path: Path) -> None:
    """The first calls make the lower tree; the others go to an overlay over it."""
    compare(seed, rig, tmp_path, 100)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="the VFS plays root: so must the host")
@pytest.mark.parametrize("seed", range(200, 250))
def test_two_users_get_the_hosts_permission_errors(seed: int, rig: Rig, tmp_path: Path) -> None:
    # What setfsuid(2) leaves of root's capabilities: all but those for files (CAP_FS_SET).
    left = ROOT.cap_effective & ~sum(1 << cap for cap in (0, 1, 2, 3, 4, 9, 27, 32))
    other = user(1000, 1000, tuple(os.getgroups()))._replace(cap_effective=left)
    compare(seed, rig, tmp_path, 10_000, (ROOT, other))


def compare(
    seed: int, rig: Rig, tmp_path: Path, overlay_at: int, users: tuple[Credentials, ...] = (ROOT,)
) -> None:
    """250 random calls on the host's tmpfs and on `rig`'s, each by one of `users`; from call `overlay_at`
    on, to an
    overlay over `rig`'s."""
    rng = random.Random(seed)
    umask = os.umask(0o022)
    root = (BASE or tmp_path) / f"vfs-{os.getpid()}-{seed}"
    root.mkdir()
    theirs, ours = Host(root), Ours(rig)
    lower_tree = None
    done: list[str] = []
    try:
        for step in range(250):
            if step == overlay_at:
                lower_tree = ours.tree()
                ours = Ours(Rig(Overlay(rig.fs, Store(None))))
            call = some_call(rng)
            done.append(described(call))
            creds = rng.choice(users)
            ours.rig.task.creds = creds
            libc.setfsgid(creds.fsgid)
            libc.setfsuid(creds.fsuid)
            want = call(theirs)
            libc.setfsuid(0)
            libc.setfsgid(0)
            got = call(ours)
            ours.rig.task.creds = ROOT
            done[-1] += f" by {creds.fsuid}: {want}"
            assert got == want, (step, done[-4:], os.strerror(want), os.strerror(got), theirs.tree())
            if step % 25 == 24:
                assert ours.tree() == theirs.tree(), done[-25:]
                drain()
                evict(100)
        if lower_tree is not None:
            assert Ours(rig).tree() == lower_tree
            ours.rig.close()
    finally:
        theirs.close()
        os.umask(umask)
        shutil.rmtree(root)


def described(call: Callable[[Any], int]) -> str:
    cells = [cell.cell_contents for cell in call.__closure__ or ()]
    arguments = ", ".join(
        f"{name}={value}" for name, value in zip(call.__code__.co_freevars, cells, strict=True)
    )
    return f"{call.__code__.co_names[0]}({arguments})"


def test_user_credentials_are_checked_component_by_component(rig: Rig) -> None:
    rig.call(paths.sys_mkdir, b"/closed", 0o700)
    rig.call(paths.sys_mkdir, b"/closed/in", 0o777)
    other = rig.sub(user(1000, 1000))
    assert other.errno(attrs.sys_stat, b"/closed", other.buffer) == 0
    assert other.errno(attrs.sys_stat, b"/closed/in", other.buffer) == 13
    assert other.errno(attrs.sys_stat, b"/closed/none", other.buffer) == 13
    rig.call(attrs.sys_chmod, b"/closed", 0o711)
    assert other.errno(attrs.sys_stat, b"/closed/in", other.buffer) == 0
    rig.call(attrs.sys_chmod, b"/closed", 0o700)
    assert other.errno(attrs.sys_stat, b"/closed/in", other.buffer) == 13
