"""goferfs: the sentry's file system over a real gofer, driven by a scheduler without a sandbox.

Covers: sentry.fs.goferfile
"""

import errno
import gc
import os
import stat
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gofer import boot
from gofer import protocol as p
from gofer.client import Client
from gofer.exports import Export
from sentry.abi.linux import AT_FDCWD
from sentry.errors import (
    EACCES,
    EEXIST,
    ENAMETOOLONG,
    ENOENT,
    ENOTDIR,
    EOPNOTSUPP,
    EROFS,
    LinuxError,
)
from sentry.fs import goferfs
from sentry.fs.goferfs import GoferFs, GoferInode
from sentry.fs.overlay import Overlay
from sentry.fs.store import Store
from sentry.kernel.sched import Scheduler
from sentry.vfs.inode import ALWAYS, REVALIDATE
from sentry.vfs.namespace import unlink
from sentry.vfs.open import open_path
from sentry.vfs.stat import SetAttr
from sentry.vfs.walk import resolve
from tests.gofer_rig import tree
from tests.unit.vfs_rig import Rig as VfsRig
from tests.unit.vfs_rig import user

TASK: Any = None
PLACE: Any = SimpleNamespace(mount=SimpleNamespace(flags=0), dentry=None)


class Rig:
    """A scheduler, a gofer, and the file systems of its exports."""

    def __init__(self, root: Path) -> None:
        exports = [Export(str(root), exclusive=True), Export(str(root)), Export(str(root), readonly=True)]
        self.scheduler = Scheduler()
        self.handle = boot.start(boot.GoferConfig(exports, rootless=os.geteuid() != 0))
        self.handle.wait_ready()
        self.client = goferfs.connect(self.handle.socket_fd)
        self.requests: list[int] = []
        self.exclusive, self.shared, self.readonly = (GoferFs(self.client, number) for number in range(3))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        job = self.scheduler.spawn(coroutine)
        while not job.ended:
            self.client.on_readable()
            self.scheduler.run_ready()
        if job.error is not None:
            raise job.error
        return job.value

    def walk(self, inode: GoferInode, *names: bytes) -> GoferInode:
        for name in names:
            inode = self.run(inode.lookup(name))
        return inode

    def count(self, work: Callable[[], object]) -> list[int]:
        """The operations that `work` sends to the gofer."""
        sent: list[int] = []
        new = Client._message

        def counting(client: Client, number: int, op: int, handle: int, payload: bytes) -> bytes:
            sent.append(op)
            return new(client, number, op, handle, payload)

        Client._message = counting  # type: ignore[method-assign]
        try:
            work()
        finally:
            Client._message = new  # type: ignore[method-assign]
        return sent

    def close(self) -> None:
        self.client.close()
        os.waitpid(self.handle.pid, 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path)


@pytest.fixture
def rig(root: Path) -> Iterator[Rig]:
    before = len(os.listdir("/proc/self/fd"))
    rig = Rig(root)
    yield rig
    rig.close()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_policy_is_the_exports(rig: Rig) -> None:
    assert rig.exclusive.cache_policy == ALWAYS
    assert rig.shared.cache_policy == REVALIDATE
    assert rig.readonly.read_only and not rig.shared.read_only


def test_lookup_gives_one_inode_for_all_names(rig: Rig, root: Path) -> None:
    os.link(root / "file", root / "dir/other")
    top = rig.exclusive.root
    inode = rig.walk(top, b"file")
    assert rig.walk(top, b"dir", b"other") is inode
    assert inode.ino == (root / "file").stat().st_ino
    with pytest.raises(ENOENT):
        rig.walk(top, b"absent")


def test_inode_that_died_is_forgotten(rig: Rig) -> None:
    top = rig.exclusive.root
    inode = rig.walk(top, b"file")
    rig.walk(top, b"file")
    handle = inode.handle
    del inode
    assert rig.exclusive.forgotten == [(handle, 2)]
    assert list(rig.exclusive.inodes) == [top.handle]
    rig.exclusive.forget()
    with pytest.raises(OSError, match="gofer") as caught:
        rig.client.call_sync(p.GETATTR, handle)
    assert caught.value.errno == errno.EBADF
    assert rig.walk(top, b"file").size == 6


def test_second_open_needs_no_request(rig: Rig) -> None:
    inode = rig.walk(rig.exclusive.root, b"file")
    file = rig.run(inode.open(TASK, PLACE, os.O_RDONLY))
    assert rig.run(file.pread(TASK, 100, 0)) == b"inside"

    def again() -> None:
        second = inode.open_now(TASK, PLACE, os.O_RDONLY)
        assert second is not None
        assert rig.run(second.pread(TASK, 100, 2)) == b"side"

    assert rig.count(again) == []


def test_reader_of_a_created_file_gets_a_readonly_descriptor(rig: Rig, root: Path) -> None:
    """Else a shared mapping of it could be made writable with mprotect(2)."""
    inode = rig.run(rig.exclusive.root.create(b"new", 0o100644, 0, 0))
    writer = rig.run(inode.open(TASK, PLACE, os.O_WRONLY))
    assert rig.run(writer.pwrite(TASK, b"text", 0)) == 4
    assert (root / "new").read_bytes() == b"text"
    import fcntl

    reader = rig.run(inode.open(TASK, PLACE, os.O_RDONLY))
    assert fcntl.fcntl(reader.mapping(), fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY


def test_size_and_times_follow_writes(rig: Rig, root: Path) -> None:
    inode = rig.walk(rig.exclusive.root, b"file")
    file = rig.run(inode.open(TASK, PLACE, os.O_RDWR))
    rig.run(file.pwrite(TASK, b"longer than before", 0))
    now = inode.stat_now()
    assert now is not None and now.size == 18 and now.mtime_ns == (root / "file").stat().st_mtime_ns
    del file
    inode.close_idle()
    now = inode.stat_now()
    assert now is not None and now.size == 18


def test_setattr_reaches_the_host(rig: Rig, root: Path) -> None:
    inode = rig.walk(rig.exclusive.root, b"file")
    rig.run(inode.setattr(TASK, SetAttr(mode=0o640, size=2, mtime_ns=10**18)))
    host = (root / "file").stat()
    assert (stat.S_IMODE(host.st_mode), host.st_size, host.st_mtime_ns) == (0o640, 2, 10**18)
    assert (inode.mode & 0o7777, inode.size, inode.mtime_ns) == (0o640, 2, 10**18)


def test_names_come_and_go(rig: Rig, root: Path) -> None:
    top = rig.exclusive.root
    made = rig.run(top.mkdir(b"made", 0o40750, 0, 0))
    rig.run(made.symlink(b"link", b"target", 0, 0))
    rig.run(made.mknod(b"fifo", stat.S_IFIFO | 0o600, 0, 0, 0))
    assert rig.walk(made, b"link").readlink_now() == b"target"
    with pytest.raises(EEXIST):
        rig.run(top.mkdir(b"made", 0o40750, 0, 0))
    link = rig.walk(made, b"link")
    rig.run(made.unlink(b"link", link))
    assert link.nlink == 0
    file = rig.walk(top, b"file")
    rig.run(made.link(b"second", file))
    assert file.nlink == 2
    rig.run(top.rename(b"file", file, made, b"moved", None, 0))
    assert sorted(os.listdir(root / "made")) == ["fifo", "moved", "second"]
    assert rig.walk(made, b"moved") is file
    assert rig.run(file.getattr()).nlink == 2


def test_directory_attributes_follow_changes(rig: Rig, root: Path) -> None:
    top = rig.exclusive.root
    assert rig.run(top.getattr()).nlink == root.stat().st_nlink
    rig.run(top.mkdir(b"made", 0o40755, 0, 0))
    now = rig.run(top.getattr())
    assert (now.nlink, now.mtime_ns) == (root.stat().st_nlink, root.stat().st_mtime_ns)


def test_unlinked_file_can_still_be_read(rig: Rig) -> None:
    top = rig.exclusive.root
    inode = rig.walk(top, b"file")
    rig.run(top.unlink(b"file", inode))
    file = rig.run(inode.open(TASK, PLACE, os.O_RDONLY))
    assert rig.run(file.pread(TASK, 100, 0)) == b"inside"


def test_listing_is_looked_up_in_batches(rig: Rig, root: Path) -> None:
    for number in range(100):
        (root / "dir" / f"{number}").write_text("x" * number)
    directory = rig.walk(rig.exclusive.root, b"dir")
    entries = rig.run(directory.readdir())
    assert {entry.name for entry in entries} == {b"%d" % number for number in range(100)} | {b"deep"}
    kept = []

    def stat_all() -> None:
        for entry in entries:
            inode = rig.walk(directory, entry.name)
            kept.append(inode)
            assert inode.mode >> 12 == entry.dtype and inode.ino == entry.ino
            now = inode.stat_now()
            assert now is not None
            if entry.dtype == 8:
                assert now.size == int(entry.name)

    assert rig.count(stat_all) == [p.LOOKUPN] * 4
    assert [inode.lookups for inode in kept] == [1] * 101


def test_batched_answer_gives_way_to_a_change(rig: Rig, root: Path) -> None:
    for number in range(10):
        (root / "dir" / f"{number}").touch()
    directory = rig.walk(rig.exclusive.root, b"dir")
    first, second, third = [entry.name for entry in rig.run(directory.readdir())][:3]
    victim = rig.walk(directory, first)
    rig.run(directory.unlink(first, victim))
    other = rig.walk(rig.exclusive.root, b"dir", second)
    rig.run(directory.rename(second, other, directory, third, rig.walk(directory, third), 0))
    assert rig.walk(directory, third) is other
    with pytest.raises(ENOENT):
        rig.walk(directory, second)


def test_names_of_a_directory_made_here_are_known(rig: Rig, root: Path) -> None:
    made = rig.run(rig.exclusive.root.mkdir(b"made", 0o40750, 0, 0))

    def use() -> None:
        for name in (b"a", b"b"):
            with pytest.raises(ENOENT):
                rig.walk(made, name)
            rig.run(made.create(name, 0o100644, 0, 0))
        rig.run(made.unlink(b"a", rig.walk(made, b"a")))
        with pytest.raises(ENOENT):
            rig.walk(made, b"a")
        rig.run(made.rename(b"b", rig.walk(made, b"b"), made, b"c", None, 0))
        for name in (b"a", b"b"):
            with pytest.raises(ENOENT):
                rig.walk(made, name)
        rig.walk(made, b"c")

    assert rig.count(use) == [p.CREATE, p.CREATE, p.LOOKUP, p.UNLINK, p.LOOKUP, p.RENAME, p.LOOKUP]
    assert os.listdir(root / "made") == ["c"]


def test_names_of_a_listed_directory_are_known(rig: Rig) -> None:
    directory = rig.walk(rig.exclusive.root, b"dir")
    assert directory.names is None
    rig.run(directory.readdir())
    assert directory.names == {b"deep"}

    def miss() -> None:
        with pytest.raises(ENOENT):
            rig.walk(directory, b"absent")

    assert rig.count(miss) == []
    shared = rig.walk(rig.shared.root, b"dir")
    rig.run(shared.readdir())
    assert shared.names is None


def test_what_has_no_extended_attributes_is_asked_once(rig: Rig) -> None:
    file = rig.walk(rig.exclusive.root, b"file")
    assert rig.count(lambda: [rig.run(file.listxattr(TASK)) for _ in range(3)]) == [p.LISTXATTR]
    made = rig.run(rig.exclusive.root.create(b"made", 0o100644, 0, 0))
    assert rig.count(lambda: rig.run(made.listxattr(TASK))) == []
    try:
        rig.run(made.setxattr(TASK, b"user.x", b"1", 0))
    except EOPNOTSUPP:  # of the host's file system
        pass
    assert rig.count(lambda: rig.run(made.listxattr(TASK))) == [p.LISTXATTR]
    shared = rig.walk(rig.shared.root, b"file")
    assert rig.count(lambda: [rig.run(shared.listxattr(TASK)) for _ in range(2)]) == [p.LISTXATTR] * 2


def test_a_walk_in_a_shared_tree_is_one_request(rig: Rig, root: Path) -> None:
    top = rig.shared.root
    found: list[Any] = []
    assert rig.count(lambda: found.extend(rig.run(top.walk([b"dir", b"deep", b"file", b"x"], False)))) == [p.WALK]
    assert [inode.mode >> 12 for inode in found] == [4, 4, 8]
    assert rig.run(top.walk([b"dir", b"none", b"x"], False))[1:] == [None]
    assert found[2] is rig.walk(top, b"dir", b"deep", b"file")


@pytest.mark.parametrize("tree", ["exclusive", "readonly", "overlay"])
def test_a_first_open_is_one_request(rig: Rig, root: Path, tree: str) -> None:
    (root / "dir" / "link").symlink_to("deep")
    fs: Any = getattr(rig, tree, None) or Overlay(rig.exclusive, Store(None))
    vfs = VfsRig(fs)

    def read(path: bytes) -> bytes:
        file = rig.run(open_path(vfs.task, AT_FDCWD, path, os.O_RDONLY))
        return rig.run(file.pread(TASK, 100, 0))

    assert rig.count(lambda: read(b"/dir/deep/file")) == [p.WALK_OPEN]
    again = [p.WALK] if tree == "readonly" else []
    assert rig.count(lambda: read(b"/dir/deep/file")) == again
    assert read(b"/dir/link/file") == b"deep"
    assert read(b"/file") == b"inside"
    with pytest.raises(ENOENT):
        read(b"/dir/deep/none")
    with pytest.raises(ENOTDIR):
        read(b"/file/x")
    (root / "secret").write_text("x")
    (root / "secret").chmod(0o600)
    stranger = vfs.sub(user(7, 7))
    with pytest.raises(EACCES):
        rig.run(open_path(stranger.task, AT_FDCWD, b"/secret", os.O_RDONLY))
    vfs.close()


def test_a_path_in_a_shared_tree_is_one_request_each_time(rig: Rig, root: Path) -> None:
    vfs = VfsRig(rig.shared)

    def find(path: bytes) -> Any:
        return rig.run(resolve(vfs.task, AT_FDCWD, path)).inode

    file: Any = None
    for _ in range(2):
        assert rig.count(lambda: find(b"/dir/deep/file")) == [p.WALK]
    file = find(b"/dir/deep/file")
    os.rename(root / "file", root / "dir" / "deep" / "file")
    assert find(b"/dir/deep/file") is not file
    assert rig.count(lambda: find(b"dir/./deep/../deep/file")) == [p.LOOKUP, p.LOOKUP, p.WALK]
    for path, error in ((b"/dir/none/x", ENOENT), (b"/dir/deep/file/x", ENOTDIR), (b"/dir/" + b"n" * 256, ENAMETOOLONG)):
        with pytest.raises(error):
            find(path)
    (root / "dir" / "link").symlink_to("deep")
    assert find(b"/dir/link/file") is find(b"/dir/deep/file")
    (root / "dir" / "deep").chmod(0)
    stranger = vfs.sub(user(7, 7))
    with pytest.raises(EACCES):
        rig.run(resolve(stranger.task, AT_FDCWD, b"/dir/deep/file"))
    (root / "dir" / "deep").chmod(0o755)

    def make() -> None:
        rig.run(open_path(vfs.task, AT_FDCWD, b"/dir/deep/new", os.O_CREAT | os.O_WRONLY, 0o644))
        rig.run(unlink(vfs.task, AT_FDCWD, b"/dir/deep/new"))

    assert rig.count(make) == [p.WALK, p.CREATE, p.WALK, p.UNLINK]
    vfs.close()


def test_shared_tree_shows_what_others_do(rig: Rig, root: Path) -> None:
    inode = rig.walk(rig.shared.root, b"file")
    (root / "file").write_bytes(b"changed outside")
    inode.fresh_ns = 0
    assert inode.stat_now() is None
    assert rig.run(inode.getattr()).size == 15
    os.rename(root / "dir" / "deep" / "file", root / "file")
    assert rig.walk(rig.shared.root, b"file") is not inode


def test_readonly_tree_is_refused_by_the_gofer_too(rig: Rig) -> None:
    top = rig.readonly.root
    with pytest.raises(EROFS):
        rig.run(top.mkdir(b"made", 0o40755, 0, 0))
    with pytest.raises(EROFS):
        rig.run(rig.walk(top, b"file").open(TASK, PLACE, os.O_RDWR))


def test_statfs_is_the_hosts(rig: Rig, root: Path) -> None:
    assert rig.run(rig.exclusive.statfs()).blocks == os.statvfs(root).f_blocks


def test_slow_answer_is_waited_for_in_the_scheduler(rig: Rig) -> None:
    """The gofer is stopped: the request must suspend its job, not the loop, and go on when it runs again."""
    import signal

    os.kill(rig.handle.pid, signal.SIGSTOP)
    try:
        job = rig.scheduler.spawn(rig.exclusive.root.lookup(b"file"))
        assert not job.ended
        other = rig.scheduler.spawn(rig.exclusive.root.lookup(b"dir"))
        assert not other.ended
    finally:
        os.kill(rig.handle.pid, signal.SIGCONT)
    while not (job.ended and other.ended):
        rig.client.on_readable()
        rig.scheduler.run_ready()
    assert job.error is None and other.error is None


def test_death_of_the_gofer_fails_what_waits(rig: Rig) -> None:
    import signal

    os.kill(rig.handle.pid, signal.SIGKILL)
    with pytest.raises(LinuxError) as caught:
        rig.walk(rig.exclusive.root, b"file")
    assert caught.value.errno == errno.EIO
    assert rig.client.closed
