"""The gofer's operations, one by one, over the socket. (What must be refused: tests/security.)

Covers: gofer.server, gofer.session, gofer.looks, gofer.changes, gofer.hostcalls
"""

import ctypes
import errno
import mmap
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from gofer import protocol as p
from gofer.boot import GoferConfig, GoferError, start
from gofer.exports import Export
from gofer.nodes import Table
from tests.gofer_rig import Gofer, Refused, tree


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path)


@pytest.fixture
def gofer(root: Path) -> Iterator[Gofer]:
    with Gofer([Export(str(root), exclusive=True), Export(str(root), readonly=True)]) as gofer:
        yield gofer


def test_attach_tells_the_export_flags(gofer: Gofer) -> None:
    for export, flags in ((0, p.EXPORT_EXCLUSIVE), (1, p.EXPORT_READONLY)):
        _value, data, _fd = gofer.call(p.ATTACH, 0, p.ATTACH_ARGS.pack(p.VERSION, export))
        assert stat.S_ISDIR(p.Attr(data).mode)
        assert p.EXPORT.unpack_from(data, p.ATTR_SIZE) == (flags,)


def test_lookup_gives_the_hosts_attributes(gofer: Gofer, root: Path) -> None:
    attr = gofer.attr(gofer.lookup(gofer.attach(), b"dir", b"deep", b"file"))
    host = os.stat(root / "dir/deep/file")
    assert (attr.mode, attr.ino, attr.size) == (host.st_mode, host.st_ino, host.st_size)
    assert attr.nlink == host.st_nlink
    assert (attr.mtime_ns, attr.ctime_ns) == (host.st_mtime_ns, host.st_ctime_ns)
    assert attr.blocks == host.st_blocks


def test_lookup_of_an_inode_gives_one_handle_whatever_its_name(gofer: Gofer, root: Path) -> None:
    os.link(root / "file", root / "dir/other")
    top = gofer.attach()
    assert gofer.lookup(top, b"file") == gofer.lookup(top, b"dir", b"other") == gofer.lookup(top, b"file")
    gofer.forget([gofer.lookup(top, b"file")])
    assert gofer.read(gofer.lookup(top, b"file")) == b"inside"


def test_lookup_of_a_symlink_brings_its_target(gofer: Gofer) -> None:
    top = gofer.attach()
    gofer.symlink(top, b"link", b"/some/where")
    handle, data, _fd = gofer.call(p.LOOKUP, top, b"link")
    assert data[p.ATTR_SIZE :] == b"/some/where"
    assert gofer.call(p.READLINK, handle)[1] == b"/some/where"


def test_lookup_many_answers_each_name(gofer: Gofer) -> None:
    top = gofer.attach()
    answers = p.parse_batch(gofer.call(p.LOOKUPN, top, b"file\0nothing\0dir")[1])
    handles = [(number, handle) for number, handle, _attributes in answers]
    assert handles == [(0, gofer.lookup(top, b"file")), (errno.ENOENT, 0), (0, gofer.lookup(top, b"dir"))]


def test_a_walk_goes_down_to_what_is_absent_or_no_directory(gofer: Gofer) -> None:
    top = gofer.attach()

    def walk(path: bytes) -> list[tuple[int, int]]:
        answers = p.parse_batch(gofer.call(p.WALK, top, path.replace(b"/", b"\0"))[1])
        return [(number, handle) for number, handle, _attributes in answers]

    directory, deep = gofer.lookup(top, b"dir"), gofer.lookup(top, b"dir", b"deep")
    assert walk(b"dir/deep/file") == [(0, directory), (0, deep), (0, gofer.lookup(deep, b"file"))]
    assert walk(b"dir/none/file") == [(0, directory), (errno.ENOENT, 0)]
    assert walk(b"file/x") == [(0, gofer.lookup(top, b"file"))]
    with pytest.raises(Refused) as caught:
        gofer.call(p.WALK, gofer.lookup(top, b"file"), b"x")
    assert caught.value.errno == errno.ENOTDIR


def test_a_walk_may_open_the_file_at_its_end(gofer: Gofer, root: Path) -> None:
    top = gofer.attach()

    def walk(path: bytes) -> tuple[int, int]:
        _value, data, fd = gofer.call(p.WALK_OPEN, top, path.replace(b"/", b"\0"))
        return len(p.parse_batch(data)), fd

    count, fd = walk(b"dir/deep/file")
    assert count == 3 and os.read(fd, 10) == b"deep"
    with pytest.raises(OSError):
        os.write(fd, b"x")
    os.close(fd)
    os.mkfifo(root / "fifo")
    for path, answers in ((b"dir/deep", 2), (b"dir/none/file", 2), (b"file/x", 1), (b"fifo", 1)):
        assert walk(path) == (answers, -1)


def test_a_known_name_is_looked_up_again_and_again(root: Path) -> None:
    """In a shared tree: by what it is now, whoever changed it."""
    (root / "link").symlink_to("one")
    with Gofer([Export(str(root))]) as gofer:
        top = gofer.attach()
        file = gofer.lookup(top, b"file")
        assert gofer.lookup(top, b"file") == file
        os.rename(root / "dir" / "deep" / "file", root / "file")
        other = gofer.lookup(top, b"file")
        assert other != file
        (root / "file").unlink()
        with pytest.raises(Refused):
            gofer.lookup(top, b"file")
        assert gofer.read(other) == b"deep"
        (root / "file").touch()
        assert gofer.lookup(top, b"file") not in (file, other)
        for target in (b"one", b"two"):
            data = gofer.call(p.LOOKUP, top, b"link")[1]
            assert data[p.ATTR_SIZE :] == target
            (root / "link").unlink()
            (root / "link").symlink_to("two")


def test_create_donates_a_descriptor_of_the_new_file(gofer: Gofer, root: Path) -> None:
    top = gofer.attach()
    handle, fd = gofer.create(top, b"new", 0o4755)
    os.write(fd, b"text")
    os.close(fd)
    assert (root / "new").read_bytes() == b"text"
    assert stat.S_IMODE((root / "new").stat().st_mode) == 0o4755
    assert gofer.attr(handle).size == 4
    with pytest.raises(Refused) as refused:
        gofer.create(top, b"new")
    assert refused.value.errno == errno.EEXIST


def test_mkdir_mknod_and_unlink(gofer: Gofer, root: Path) -> None:
    top = gofer.attach()
    inner = gofer.mkdir(top, b"new", 0o1777)
    assert (root / "new").stat().st_mode == stat.S_IFDIR | 0o1777
    gofer.mknod(inner, b"pipe", stat.S_IFIFO | 0o600)
    gofer.mknod(inner, b"sock", stat.S_IFSOCK | 0o600)
    assert stat.S_ISFIFO((root / "new/pipe").stat().st_mode)
    with pytest.raises(Refused) as refused:
        gofer.call(p.RMDIR, top, b"new")
    assert refused.value.errno == errno.ENOTEMPTY
    gofer.unlink(inner, b"pipe")
    gofer.unlink(inner, b"sock")
    gofer.call(p.RMDIR, top, b"new")
    assert not (root / "new").exists()


def test_unlinked_file_stays_usable(gofer: Gofer, root: Path) -> None:
    top = gofer.attach()
    handle = gofer.lookup(top, b"file")
    gofer.unlink(top, b"file")
    assert gofer.read(handle) == b"inside"
    assert gofer.setattr(handle, p.SET_SIZE, size=2).size == 2
    assert gofer.attr(handle).nlink == 0
    assert not (root / "file").exists()


def test_rename_keeps_the_handle(gofer: Gofer, root: Path) -> None:
    top = gofer.attach()
    directory = gofer.lookup(top, b"dir")
    handle = gofer.lookup(top, b"file")
    gofer.rename(top, b"file", directory, b"moved")
    assert (root / "dir/moved").read_bytes() == b"inside"
    assert gofer.lookup(directory, b"moved") == handle
    gofer.create(top, b"a")
    with pytest.raises(Refused) as refused:
        gofer.rename(top, b"a", directory, b"moved", 1)  # RENAME_NOREPLACE
    assert refused.value.errno == errno.EEXIST
    gofer.rename(top, b"a", directory, b"moved", 2)  # RENAME_EXCHANGE
    assert gofer.lookup(top, b"a") == handle


def test_link_makes_a_second_name(gofer: Gofer, root: Path) -> None:
    top = gofer.attach()
    gofer.link(top, b"second", gofer.lookup(top, b"dir", b"deep", b"file"))
    assert os.path.samefile(root / "second", root / "dir/deep/file")


def test_a_file_without_a_name_can_be_given_one(gofer: Gofer, root: Path) -> None:
    top = gofer.attach()
    handle, data, fd = gofer.call(p.TMPFILE, top, p.OWNER_ARGS.pack(0o640, 0, 0))
    assert p.Attr(data).nlink == 0
    os.write(fd, b"unnamed")
    os.close(fd)
    gofer.link(top, b"named", handle)
    assert (root / "named").read_bytes() == b"unnamed"
    assert gofer.lookup(top, b"named") == handle


def test_setattr_changes_what_is_asked(gofer: Gofer, root: Path) -> None:
    handle = gofer.lookup(gofer.attach(), b"file")
    attr = gofer.setattr(handle, p.SET_MODE | p.SET_SIZE | p.SET_MTIME, mode=0o600, size=3, mtime=10**18 + 7)
    assert (attr.mode, attr.size, attr.mtime_ns) == (stat.S_IFREG | 0o600, 3, 10**18 + 7)
    before = gofer.setattr(handle, p.SET_ATIME, atime=5)
    assert (before.atime_ns, before.mtime_ns) == (5, 10**18 + 7)
    assert gofer.setattr(handle, p.SET_MTIME_NOW).mtime_ns > 10**18 + 7


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_ids_are_the_containers(root: Path) -> None:
    maps: dict[str, object] = {"uid_map": [(0, 100000, 1000)], "gid_map": [(0, 200000, 1000)]}
    os.chown(root / "file", 100005, 7)
    with Gofer([Export(str(root))], **maps) as gofer:
        top = gofer.attach()
        attr = gofer.attr(gofer.lookup(top, b"file"))
        assert (attr.uid, attr.gid) == (5, 65534)
        handle, fd = gofer.create(top, b"new", uid=3, gid=4)
        os.close(fd)
        assert (attr := gofer.attr(handle)).uid == 3 and attr.gid == 4
        gofer.mkdir(top, b"newdir", uid=3, gid=4)
        gofer.symlink(top, b"newlink", b"x")
        gofer.setattr(handle, p.SET_UID, uid=9)
        with pytest.raises(Refused):
            gofer.setattr(handle, p.SET_UID, uid=1000)
    assert ((root / "new").stat().st_uid, (root / "new").stat().st_gid) == (100009, 200004)
    assert ((root / "newdir").stat().st_uid, (root / "newdir").stat().st_gid) == (100003, 200004)
    assert os.lstat(root / "newlink").st_uid == 100000


def test_readdir_streams_a_large_directory(gofer: Gofer, root: Path) -> None:
    names = [b"entry-with-a-fairly-long-name-%05d" % number for number in range(3000)]
    for name in names:
        (root / "dir/deep" / name.decode()).touch()
    handle = gofer.lookup(gofer.attach(), b"dir", b"deep")
    value, data, _fd = gofer.call(p.READDIR, handle, p.COOKIE.pack(0))
    assert value != p.EOF_COOKIE and len(data) <= p.DIRENT_BYTES + 4096
    assert sorted(gofer.names(handle)) == sorted([*names, b"file"])
    assert sorted(gofer.names(handle)) == sorted([*names, b"file"])


def test_extended_attributes_of_the_user(gofer: Gofer) -> None:
    handle = gofer.lookup(gofer.attach(), b"file")
    name = b"user.key"
    try:
        gofer.call(p.SETXATTR, handle, p.XATTR_ARGS.pack(0, len(name)) + name + b"value")
    except Refused as refused:
        assert refused.errno == errno.EOPNOTSUPP
        pytest.skip("the host's file system has no user attributes")
    assert gofer.call(p.GETXATTR, handle, name)[1] == b"value"
    assert gofer.call(p.LISTXATTR, handle)[1] == b"user.key\0"
    gofer.call(p.REMOVEXATTR, handle, name)
    assert gofer.call(p.LISTXATTR, handle)[1] == b""


def test_statfs_and_fsync(gofer: Gofer, root: Path) -> None:
    top = gofer.attach()
    data = gofer.call(p.STATFS, top)[1]
    assert int.from_bytes(data[8:16], "little") == os.statvfs(root).f_bsize
    gofer.call(p.FSYNC, top, p.FLAGS.pack(0))
    gofer.call(p.FSYNC, gofer.lookup(top, b"file"), p.FLAGS.pack(1))


def test_forgotten_handle_is_gone(gofer: Gofer) -> None:
    handle = gofer.lookup(gofer.attach(), b"file")
    gofer.forget([handle])
    with pytest.raises(Refused) as refused:
        gofer.attr(handle)
    assert refused.value.errno == errno.EBADF


def test_file_export_is_the_file_itself(root: Path) -> None:
    with Gofer([Export(str(root)), Export(str(root / "file"), kind="file")]) as gofer:
        assert gofer.read(gofer.attach(1)) == b"inside"



libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]


def stays_data(host_fd: int) -> bool:
    """Whether the host lets nobody execute a mapping of it, once it is there."""
    mapped = ctypes.c_void_p(libc.mmap(None, 4096, mmap.PROT_READ, mmap.MAP_PRIVATE, host_fd, 0))
    refused = libc.mprotect(mapped, 4096, mmap.PROT_READ | mmap.PROT_EXEC) != 0
    libc.munmap(mapped, 4096)
    os.close(host_fd)
    return refused


@pytest.mark.root
def test_what_a_noexec_export_donates_never_becomes_code(root: Path) -> None:
    with Gofer([Export(str(root), noexec=True), Export(str(root))]) as gofer:
        opened = [gofer.open(gofer.lookup(gofer.attach(export), b"file")) for export in (0, 1)]
        assert [stays_data(host_fd) for host_fd in opened] == [True, False]


def test_gofer_ends_with_its_socket(root: Path) -> None:
    gofer = Gofer([Export(str(root))])
    assert gofer.close() == 0


def test_missing_source_is_one_clear_line(tmp_path: Path) -> None:
    handle = start(GoferConfig([Export(str(tmp_path / "absent"))], rootless=os.geteuid() != 0))
    with pytest.raises(GoferError, match=r"absent: No such file or directory"):
        handle.wait_ready()


def test_failing_enter_is_reported(root: Path) -> None:
    def enter() -> None:
        raise OSError("no such cgroup")

    handle = start(GoferConfig([Export(str(root))], rootless=os.geteuid() != 0, enter=enter))
    with pytest.raises(GoferError, match="no such cgroup"):
        handle.wait_ready()


# --- more handles than descriptors


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (600, 600))


def test_more_handles_than_descriptors(root: Path) -> None:
    for number in range(40):
        (root / f"d{number}").mkdir()
        for file in range(40):
            (root / f"d{number}" / f"{file}").write_text(f"{number}/{file}")
    with Gofer([Export(str(root))], enter=few_descriptors) as gofer:
        top = gofer.attach()
        handles = {}
        for number in range(40):
            directory = gofer.lookup(top, b"d%d" % number)
            for file in range(40):
                handles[number, file] = gofer.lookup(directory, b"%d" % file)
        # What moves or goes while its descriptor is closed stays reachable.
        first = gofer.lookup(top, b"d0")
        gofer.rename(top, b"d1", first, b"moved")
        gofer.unlink(first, b"0")
        for (number, file), handle in handles.items():
            assert gofer.read(handle) == b"%d/%d" % (number, file)


def test_replaced_behind_our_back_is_stale(root: Path) -> None:
    (root / "many").mkdir()
    for number in range(1200):
        (root / "many" / f"{number}").touch()
    with Gofer([Export(str(root))], enter=few_descriptors) as gofer:
        top = gofer.attach()
        handle = gofer.lookup(top, b"file")
        many = gofer.lookup(top, b"many")
        for number in range(1200):
            gofer.lookup(many, b"%d" % number)
        os.rename(root / "file", root / "gone")
        (root / "file").write_bytes(b"another")
        with pytest.raises(Refused) as refused:
            gofer.read(handle)
        assert refused.value.errno == errno.ESTALE
        assert gofer.read(gofer.lookup(top, b"file")) == b"another"


def test_table_drops_parents_after_their_last_child(root: Path) -> None:
    export = Export(str(root))
    export.root = os.open(root, os.O_PATH)
    table = Table(budget=64)
    top = table.root(export)
    directory = table.enter(top, b"dir", os.open(root / "dir", os.O_PATH))
    deep = table.enter(directory, b"deep", os.open(root / "dir/deep", os.O_PATH))
    table.forget(directory.id, 1)
    assert directory.id in table.nodes
    table.forget(deep.id, 1)
    assert list(table.nodes) == [top.id]
    assert not table.opened
    os.close(export.root)


def test_places_for_mounts_are_made_in_a_read_only_tree(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    (root / "var").mkdir(parents=True)
    outside.mkdir()
    (root / "run").symlink_to("/var")
    (root / "out").symlink_to("../../outside")
    (root / "dangling").symlink_to("/nowhere")
    places = ((b"/a/b", True), (b"/a/file", False), (b"/run/x", True), (b"/out/x", True), (b"/dangling", True))
    with Gofer([Export(str(root), readonly=True, mount_points=places)]) as gofer:
        gofer.attach()
    assert (root / "a/b").is_dir() and (root / "a/file").is_file() and (root / "var/x").is_dir()
    assert list(outside.iterdir()) == []
    assert sorted(os.listdir(root)) == ["a", "dangling", "out", "run", "var"]
