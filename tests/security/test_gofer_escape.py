"""Attacks on the gofer over its own socket, as a sentry that a guest has taken over would try them."""

import ctypes
import errno
import os
import random
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gofer import boot
from gofer import protocol as p
from gofer.exports import Export
from tests.gofer_rig import Gofer, Refused, tree

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path)


@pytest.fixture
def gofer(root: Path) -> Iterator[Gofer]:
    with Gofer([Export(str(root)), Export(str(root), readonly=True)]) as gofer:
        yield gofer
        assert gofer.lookup(gofer.attach(), b"dir"), "it serves on after the attack"


def refused(number: int | tuple[int, ...], attack: Callable[[], object]) -> None:
    with pytest.raises(Refused) as caught:
        attack()
    numbers = number if isinstance(number, tuple) else (number,)
    assert caught.value.errno in numbers, errno.errorcode.get(caught.value.errno, caught.value.errno)


BAD_NAMES = (
    b"", b".", b"..", b"/", b"/etc", b"../outside", b"dir/deep", b"dir/../..", b"file\0", b"\0", b"..\0",
    b"./..",
)  # fmt: skip


# --- names


@pytest.mark.parametrize("name", BAD_NAMES)
def test_a_name_is_one_component_in_every_operation(gofer: Gofer, root: Path, name: bytes) -> None:
    top = gofer.attach()
    directory = gofer.lookup(top, b"dir")
    file = gofer.lookup(top, b"file")
    attacks: list[Callable[[], object]] = [
        lambda: gofer.lookup(directory, name),
        lambda: gofer.create(directory, name),
        lambda: gofer.mkdir(directory, name),
        lambda: gofer.mknod(directory, name, stat.S_IFIFO | 0o600),
        lambda: gofer.symlink(directory, name, b"x"),
        lambda: gofer.link(directory, name, file),
        lambda: gofer.unlink(directory, name),
        lambda: gofer.call(p.RMDIR, directory, name),
        lambda: gofer.rename(directory, name, top, b"x"),
        lambda: gofer.rename(directory, b"deep", top, name),
    ]
    if b"\0" not in name:  # there it parts names
        attacks.append(lambda: gofer.call(p.LOOKUPN, directory, b"deep\0" + name))
        attacks.append(lambda: gofer.call(p.WALK, directory, b"deep\0" + name))
        attacks.append(lambda: gofer.call(p.WALK_OPEN, directory, b"deep\0" + name))
    for attack in attacks:
        refused(errno.EINVAL, attack)
    assert sorted(os.listdir(root)) == ["dir", "file"]
    assert os.listdir(root / "dir") == ["deep"]


def test_a_walk_ends_at_a_symlink(gofer: Gofer, root: Path) -> None:
    (root / "dir" / "out").symlink_to("../../outside")
    top = gofer.attach()
    for op in (p.WALK, p.WALK_OPEN):  # looked up anew, then known
        _value, data, fd = gofer.call(op, top, b"dir\0out\0secret")
        assert fd == -1
        answers = p.parse_batch(data)
        assert [(error, stat.S_IFMT(p.Attr(data).mode)) for error, _handle, data in answers] == [
            (0, stat.S_IFDIR),
            (0, stat.S_IFLNK),
        ]


def test_a_long_name_is_too_long(gofer: Gofer) -> None:
    refused(errno.ENAMETOOLONG, lambda: gofer.lookup(gofer.attach(), b"x" * 256))
    refused(errno.ENOENT, lambda: gofer.lookup(gofer.attach(), b"x" * 255))


def test_dotdot_by_a_file_of_that_name_in_a_rename(gofer: Gofer, root: Path) -> None:
    top = gofer.attach()
    refused(errno.EINVAL, lambda: gofer.rename(top, b"file", gofer.lookup(top, b"dir"), b".."))
    assert (root / "file").exists()


# --- symbolic links


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside/secret", "/proc/self/root/etc/passwd", "/"])
def test_symlink_is_never_followed(gofer: Gofer, root: Path, target: str) -> None:
    (root / "link").symlink_to(target)
    top = gofer.attach()
    link = gofer.lookup(top, b"link")
    assert stat.S_ISLNK(gofer.attr(link).mode)
    refused(errno.ELOOP, lambda: gofer.open(link))
    refused(errno.ENOTDIR, lambda: gofer.lookup(link, b"secret"))
    refused(errno.ENOTDIR, lambda: gofer.create(link, b"new"))
    refused(errno.ENOTDIR, lambda: gofer.names(link))
    refused((errno.EPERM, errno.ELOOP, errno.EINVAL), lambda: gofer.setattr(link, p.SET_SIZE, size=0))
    refused(errno.ENOTSUP, lambda: gofer.setattr(link, p.SET_MODE, mode=0o777))
    refused(errno.EEXIST, lambda: gofer.create(top, b"link"))


def test_chown_and_utimes_of_a_symlink_touch_the_link(gofer: Gofer, root: Path) -> None:
    victim = root.parent / "outside" / "secret"
    (root / "link").symlink_to("../outside/secret")
    before = victim.stat()
    link = gofer.lookup(gofer.attach(), b"link")
    gofer.setattr(link, p.SET_MTIME | p.SET_UID, uid=0, mtime=77)
    if os.geteuid() == 0:
        gofer.setattr(link, p.SET_UID, uid=33)
        assert os.lstat(root / "link").st_uid == 33
    after = victim.stat()
    assert (after.st_uid, after.st_mtime_ns) == (before.st_uid, before.st_mtime_ns)
    assert os.lstat(root / "link").st_mtime_ns == 77


def test_symlink_swapped_in_while_walking(root: Path) -> None:
    """A host process swaps a folder and a link to the outside as fast as it can: no walk gets out."""
    (root / "swap").mkdir()
    (root / "swap" / "secret").write_bytes(b"inside")
    os.symlink("../outside", root / "link")
    stop = threading.Event()
    exchange = ctypes.CDLL(None).renameat2

    def swap() -> None:
        while not stop.is_set():
            exchange(-100, os.fsencode(root / "swap"), -100, os.fsencode(root / "link"), 2)

    with Gofer([Export(str(root))]) as gofer:
        top = gofer.attach()
        racer = threading.Thread(target=swap)
        racer.start()
        try:
            seen = set()
            for _ in range(1500):
                try:
                    handle = gofer.lookup(top, b"swap", b"secret")
                    seen.add(gofer.read(handle))
                    gofer.forget([handle])
                except Refused as error:
                    assert error.errno in (errno.ENOTDIR, errno.ENOENT, errno.ESTALE), error
        finally:
            stop.set()
            racer.join()
        assert seen <= {b"inside"}


# --- moves


def test_directory_moved_out_while_walking_leads_no_further_up(gofer: Gofer, root: Path) -> None:
    """What was reached inside stays reachable, as if it were open; its new surroundings do not become so."""
    top = gofer.attach()
    deep = gofer.lookup(top, b"dir", b"deep")
    os.rename(root / "dir" / "deep", root.parent / "outside" / "deep")
    refused(errno.EINVAL, lambda: gofer.lookup(deep, b".."))
    refused(errno.ENOENT, lambda: gofer.lookup(deep, b"secret"))
    assert gofer.names(deep) == [b"file"]


def test_rename_race_out_of_the_root(root: Path) -> None:
    outside = root.parent / "outside"
    stop = threading.Event()

    def mover() -> None:
        while not stop.is_set():
            os.rename(root / "dir", outside / "dir")
            os.rename(outside / "dir", root / "dir")

    with Gofer([Export(str(root))]) as gofer:
        top = gofer.attach()
        racer = threading.Thread(target=mover)
        racer.start()
        try:
            for _ in range(1500):
                try:
                    directory = gofer.lookup(top, b"dir")
                    for name in (b"..", b"secret", b"../outside"):
                        with pytest.raises(Refused):
                            gofer.lookup(directory, name)
                    assert set(gofer.names(directory)) <= {b"deep"}
                    assert gofer.read(gofer.lookup(directory, b"deep", b"file")) == b"deep"
                except Refused as error:
                    assert error.errno in (errno.ENOENT, errno.ESTALE, errno.EXDEV), error
        finally:
            stop.set()
            racer.join()


# --- magic links


def test_proc_inside_a_root_gives_no_magic_link(tmp_path: Path) -> None:
    """Even a rootfs that holds a real procfs (here: the host's) leads nowhere by its links."""
    with Gofer([Export("/", recursive=True)]) as gofer:
        top = gofer.attach()
        try:
            own = gofer.lookup(top, b"proc", b"%d" % os.getpid())
        except Refused:
            pytest.skip("no /proc of this PID namespace in sight")
        for link in (b"root", b"cwd", b"exe"):
            try:
                handle = gofer.lookup(own, link)
            except Refused:
                continue
            refused(errno.ELOOP, lambda handle=handle: gofer.open(handle))
            refused(errno.ENOTDIR, lambda handle=handle: gofer.lookup(handle, b"etc"))


# --- mounts


@needs_root
@pytest.mark.root
def test_submount_is_seen_by_recursive_exports_only(root: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "none", root / "dir"], check=True)
    try:
        (root / "dir" / "on-top").touch()
        with Gofer([Export(str(root)), Export(str(root), recursive=True, readonly=True)]) as gofer:
            assert gofer.names(gofer.lookup(gofer.attach(0), b"dir")) == [b"deep"]
            below = gofer.lookup(gofer.attach(1), b"dir")
            assert gofer.names(below) == [b"on-top"]
            refused(errno.EROFS, lambda: gofer.create(below, b"new"))
    finally:
        subprocess.run(["umount", root / "dir"], check=True)


@needs_root
@pytest.mark.root
def test_host_can_unmount_what_the_gofer_holds_no_file_of(root: Path) -> None:
    with Gofer([Export(str(root), recursive=True)]):
        subprocess.run(["mount", "-t", "tmpfs", "none", root / "dir"], check=True)
        subprocess.run(["umount", root / "dir"], check=True)


# --- read-only


def test_readonly_export_changes_nothing(gofer: Gofer, root: Path) -> None:
    top = gofer.attach(1)
    directory = gofer.lookup(top, b"dir")
    file = gofer.lookup(top, b"file")
    name = b"user.x"
    before = (root / "file").stat()
    attacks: list[Callable[[], object]] = [
        lambda: gofer.open(file, os.O_RDWR),
        lambda: gofer.open(file, os.O_WRONLY),
        lambda: gofer.open(file, os.O_RDONLY | os.O_TRUNC),
        lambda: gofer.create(top, b"new"),
        lambda: gofer.mkdir(top, b"new"),
        lambda: gofer.mknod(top, b"new", stat.S_IFREG | 0o600),
        lambda: gofer.symlink(top, b"new", b"x"),
        lambda: gofer.link(top, b"new", file),
        lambda: gofer.unlink(top, b"file"),
        lambda: gofer.call(p.RMDIR, directory, b"deep"),
        lambda: gofer.rename(top, b"file", directory, b"file"),
        lambda: gofer.setattr(file, p.SET_MODE, mode=0o777),
        lambda: gofer.setattr(file, p.SET_SIZE, size=0),
        lambda: gofer.setattr(file, p.SET_MTIME_NOW),
        lambda: gofer.call(p.SETXATTR, file, p.XATTR_ARGS.pack(0, len(name)) + name + b"v"),
        lambda: gofer.call(p.REMOVEXATTR, file, name),
    ]
    for attack in attacks:
        refused(errno.EROFS, attack)
    after = (root / "file").stat()
    assert (after.st_mode, after.st_size) == (before.st_mode, before.st_size)
    assert after.st_mtime_ns == before.st_mtime_ns


def test_readonly_descriptor_can_not_be_made_writable(gofer: Gofer) -> None:
    fd = gofer.open(gofer.lookup(gofer.attach(1), b"file"))
    with pytest.raises(OSError):
        os.write(fd, b"x")
    with pytest.raises(OSError):
        os.ftruncate(fd, 0)
    if os.path.exists("/proc/self/fd"):
        # Even through the sentry's own /proc, should it have one: the mount itself is read-only.
        with pytest.raises(OSError, match="Read-only"):
            os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    os.close(fd)


def test_link_or_rename_from_a_writable_into_a_readonly_export(gofer: Gofer, root: Path) -> None:
    writable, readonly = gofer.attach(0), gofer.attach(1)
    file = gofer.lookup(writable, b"file")
    refused(errno.EROFS, lambda: gofer.link(readonly, b"new", file))
    refused(errno.EXDEV, lambda: gofer.link(writable, b"new", gofer.lookup(readonly, b"file")))
    refused(errno.EROFS, lambda: gofer.rename(writable, b"file", readonly, b"x"))
    refused(errno.EROFS, lambda: gofer.rename(readonly, b"file", writable, b"x"))


def test_same_inode_in_two_exports_has_two_handles(gofer: Gofer) -> None:
    """Else the read-only one could be written through the writable one's handle, or the other way round."""
    assert gofer.lookup(gofer.attach(0), b"file") != gofer.lookup(gofer.attach(1), b"file")


# --- kinds of files


@needs_root
@pytest.mark.root
def test_device_node_is_never_made_nor_opened(gofer: Gofer, root: Path) -> None:
    top = gofer.attach()
    refused(errno.EPERM, lambda: gofer.mknod(top, b"disk", stat.S_IFBLK | 0o666))
    refused(errno.EPERM, lambda: gofer.mknod(top, b"null", stat.S_IFCHR | 0o666))
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    device = gofer.lookup(top, b"null")
    assert gofer.attr(device).rdev == (1, 3)
    for flags in (os.O_RDONLY, os.O_RDWR):
        refused(errno.EPERM, lambda flags=flags: gofer.open(device, flags))


def test_fifo_socket_and_directory_are_never_opened(gofer: Gofer) -> None:
    top = gofer.attach()
    refused(errno.EPERM, lambda: gofer.open(gofer.mknod(top, b"fifo", stat.S_IFIFO | 0o666)))
    refused(errno.EPERM, lambda: gofer.open(gofer.mknod(top, b"sock", stat.S_IFSOCK | 0o666)))
    refused(errno.EISDIR, lambda: gofer.open(top))
    refused(errno.EISDIR, lambda: gofer.open(gofer.lookup(top, b"dir"), os.O_RDWR))


@pytest.mark.parametrize("flags", [
    os.O_PATH, os.O_DIRECTORY, os.O_CREAT, os.O_TMPFILE | os.O_RDWR, os.O_ACCMODE, os.O_DIRECT, 0xFFFFFFFF,
])  # fmt: skip
def test_open_flags_beyond_the_access_mode(gofer: Gofer, flags: int) -> None:
    refused(errno.EINVAL, lambda: gofer.open(gofer.lookup(gofer.attach(), b"file"), flags))


def test_donated_descriptor_is_the_file_and_no_path_descriptor(gofer: Gofer) -> None:
    import fcntl

    fd = gofer.open(gofer.lookup(gofer.attach(), b"file"))
    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    assert stat.S_ISREG(os.fstat(fd).st_mode)
    assert not flags & os.O_PATH and flags & os.O_ACCMODE == os.O_RDONLY
    with pytest.raises(NotADirectoryError):
        os.open("..", os.O_RDONLY, dir_fd=fd)
    os.close(fd)


def test_socket_is_connected_only_where_the_export_allows(root: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(root / "s"))
    listener.listen(1)
    try:
        with Gofer([Export(str(root)), Export(str(root), connect=True)]) as gofer:
            kind = p.FLAGS.pack(socket.SOCK_STREAM)
            handle = gofer.lookup(gofer.attach(0), b"s")
            refused(errno.ECONNREFUSED, lambda: gofer.call(p.CONNECT, handle, kind))
            allowed = gofer.lookup(gofer.attach(1), b"s")
            fd = gofer.call(p.CONNECT, allowed, kind)[2]
            with socket.socket(fileno=fd) as connected:
                accepted, _ = listener.accept()
                connected.send(b"hello")
                assert accepted.recv(10) == b"hello"
                accepted.close()
            raw = p.FLAGS.pack(socket.SOCK_RAW)
            refused(errno.EINVAL, lambda: gofer.call(p.CONNECT, allowed, raw))
            file = gofer.lookup(gofer.attach(1), b"file")
            refused(errno.ECONNREFUSED, lambda: gofer.call(p.CONNECT, file, kind))
    finally:
        listener.close()


@needs_root
@pytest.mark.root
def test_only_user_attributes_can_be_written(gofer: Gofer) -> None:
    file = gofer.lookup(gofer.attach(), b"file")
    for name in (b"security.capability", b"trusted.overlay.opaque", b"system.posix_acl_access"):
        payload = p.XATTR_ARGS.pack(0, len(name)) + name + b"value"
        refused(errno.ENOTSUP, lambda payload=payload: gofer.call(p.SETXATTR, file, payload))
        refused(errno.ENOTSUP, lambda name=name: gofer.call(p.REMOVEXATTR, file, name))
    refused(errno.ENOTSUP, lambda: gofer.call(p.GETXATTR, file, b"trusted.overlay.opaque"))


# --- handles and messages


def test_handles_that_were_never_given(gofer: Gofer) -> None:
    top = gofer.attach()
    for handle in (0, 2**64 - 1, 2**63, top + 1, 10**6):
        for op in set(p.OP_NAMES) - {p.ATTACH, p.FORGET}:
            with pytest.raises(Refused) as caught:
                gofer.call(op, handle, bytes(48))
            assert caught.value.errno in (errno.EBADF, errno.EPROTO), p.OP_NAMES[op]


def test_directory_operations_on_a_file(gofer: Gofer) -> None:
    file = gofer.lookup(gofer.attach(), b"file")
    refused(errno.ENOTDIR, lambda: gofer.lookup(file, b"x"))
    refused(errno.ENOTDIR, lambda: gofer.create(file, b"x"))
    refused(errno.ENOTDIR, lambda: gofer.names(file))
    refused(errno.ENOTDIR, lambda: gofer.rename(gofer.attach(), b"file", file, b"x"))


def test_forgetting_roots_and_too_much_does_no_harm(gofer: Gofer) -> None:
    top = gofer.attach()
    directory = gofer.lookup(top, b"dir")
    items = [(top, 2**64 - 1), (directory, 2**64 - 1), (directory, 5), (2**64 - 1, 1), (0, 0)]
    gofer.raw(p.HEADER.pack(1, p.FORGET, 0, 0) + b"".join(p.FORGET_ITEM.pack(*item) for item in items))
    refused(errno.EBADF, lambda: gofer.attr(directory))
    assert gofer.read(gofer.lookup(top, b"dir", b"deep", b"file")) == b"deep"


@pytest.mark.parametrize("message", [
    b"x",
    b"\xff" * 15,
    p.HEADER.pack(1, 0, 0, 1),
    p.HEADER.pack(1, 9999, 0, 1),
    p.HEADER.pack(1, p.LOOKUP, 7, 1) + b"file",
    p.HEADER.pack(1, p.ATTACH, 0, 0),
    p.HEADER.pack(1, p.ATTACH, 0, 0) + p.ATTACH_ARGS.pack(p.VERSION + 1, 0),
    p.HEADER.pack(1, p.READDIR, 0, 1) + b"1234",
    p.HEADER.pack(1, p.RENAME, 0, 1) + p.RENAME_ARGS.pack(1, 0, 60000) + b"a",
    p.HEADER.pack(1, p.SYMLINK, 0, 1) + p.SYMLINK_ARGS.pack(0, 0, 60000) + b"a",
    p.HEADER.pack(1, p.LOOKUPN, 0, 1) + b"\0".join([b"a"] * 1000),
    p.HEADER.pack(1, p.WALK, 0, 1) + b"\0".join([b"a"] * 1000),
    bytes(p.MAX_MESSAGE + 1),
    bytes(p.MAX_MESSAGE * 2),
])  # fmt: skip
def test_malformed_message_is_a_protocol_error(gofer: Gofer, message: bytes) -> None:
    gofer.attach()
    gofer.raw(message)
    _number, number, _value, data, fds = gofer.receive()
    assert (number, data, fds) == (errno.EPROTO, b"", [])


def test_descriptors_sent_along_are_not_kept(gofer: Gofer) -> None:
    top = gofer.attach()
    read_end, write_end = os.pipe()
    message = p.HEADER.pack(99, p.LOOKUP, 0, top) + b"file"
    socket.send_fds(gofer.sock, [message], [write_end])
    assert gofer.receive()[:2] == (99, 0)
    os.close(write_end)
    assert os.read(read_end, 1) == b"", "its copy was closed"
    os.close(read_end)


def test_many_requests_at_once_are_answered_in_order(gofer: Gofer) -> None:
    top = gofer.attach()
    for number in range(100):
        gofer.raw(p.HEADER.pack(number + 1000, p.LOOKUP, 0, top) + b"file")
    assert [gofer.receive()[0] for _ in range(100)] == [number + 1000 for number in range(100)]


def test_empty_message_ends_the_gofer(root: Path) -> None:
    gofer = Gofer([Export(str(root))])
    gofer.raw(b"")
    assert gofer.close() == 0


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_random_messages(root: Path, seed: int) -> None:
    """Valid, nearly valid and nonsense messages: every one is answered, and the outside stays as it is."""
    rng = random.Random(seed)
    words = [
        b"file", b"dir", b"deep", b"..", b".", b"", b"a", b"b", b"../outside", b"secret", b"/etc/passwd",
        b"x" * 300, b"user.a", b"\xff\xfe", b"a\0b",
    ]  # fmt: skip
    outside = root.parent / "outside"
    with Gofer([Export(str(root)), Export(str(root), readonly=True)]) as gofer:
        gofer.attach()
        gofer.attach(1)
        sent = 0
        for number in range(1, 3000):
            op = rng.choice([*p.OP_NAMES, 0, 25, 65535]) if rng.random() < 0.95 else rng.randrange(65536)
            body = b"".join(
                rng.choice((
                    lambda: rng.choice(words),
                    lambda: rng.randrange(1 << 32).to_bytes(4, "little"),
                    lambda: rng.randrange(6).to_bytes(4, "little"),
                    lambda: rng.randrange(12).to_bytes(8, "little"),
                    lambda: rng.randrange(10).to_bytes(2, "little"),
                    lambda: rng.randbytes(rng.randrange(40)),
                ))()
                for _ in range(rng.randrange(6))
            )  # fmt: skip
            zero = 0 if rng.random() < 0.98 else 1
            gofer.raw(p.HEADER.pack(number, op, zero, rng.choice([*range(14), 2**64 - 1])) + body)
            sent += 1
            if op == p.FORGET and not zero:
                continue
            answered, _errno, _value, data, fds = gofer.receive()
            assert answered == number
            assert len(data) <= p.MAX_MESSAGE
            for fd in fds:
                assert stat.S_ISREG(os.fstat(fd).st_mode)
                assert os.fstat(fd).st_ino != (outside / "secret").stat().st_ino
                os.close(fd)
        assert sent
        assert os.listdir(outside) == ["secret"]
        assert (outside / "secret").read_bytes() == b"secret"
        assert gofer.attach() == 1
        assert stat.S_ISDIR(gofer.attr(1).mode)


# --- the process itself


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_what_the_process_has_left(gofer: Gofer) -> None:
    status = status_of(gofer.pid)
    assert status["Name"] == "runsc-py-gofer"
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "1"
    for which in ("CapInh", "CapAmb"):
        assert int(status[which], 16) == 0
    for which in ("CapPrm", "CapEff", "CapBnd"):
        assert int(status[which], 16) & ~0b11011 == 0, "only CHOWN, DAC_OVERRIDE, FOWNER and FSETID"


@needs_root
@pytest.mark.root
def test_namespaces_root_and_descriptors(gofer: Gofer, root: Path) -> None:
    pid = gofer.pid
    gofer.lookup(gofer.attach(), b"dir")
    for kind in ("mnt", "pid", "ipc", "uts", "net"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    assert os.listdir(f"/proc/{pid}/root") == []
    mounts = Path(f"/proc/{pid}/mountinfo").read_text().splitlines()
    assert len(mounts) == 1 and "tmpfs" in mounts[0]
    assert b"runsc-py-gofer".startswith(Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0"))
    targets = {fd: os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")}
    for fd, target in targets.items():
        assert target in ("/dev/null", "/", "/dir") or target.startswith("socket:"), fd
    assert sum(target.startswith("socket:") for target in targets.values()) == 1


def test_callers_descriptors_do_not_reach_the_gofer(root: Path) -> None:
    secret = os.open(root.parent / "outside" / "secret", os.O_RDONLY)
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    os.set_inheritable(secret, True)
    with Gofer([Export(str(root))]):
        os.close(write_end)
        assert os.read(read_end, 1) == b""
    os.close(read_end)
    os.close(secret)


FILTERED = {
    "open": "os.open('/etc/passwd', os.O_RDONLY)",
    "openat": "os.open('etc', os.O_RDONLY, dir_fd=3)",
    "execve": "os.execv('/bin/true', ['true'])",
    "fork": "os.fork()",
    "socket": "_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM, 0)",
    "unix socket": "_socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0)",
    "mount": "host.mount(None, b'/', None, 0)",
    "unshare": "host.unshare(host.CLONE_NEWUSER)",
    "chroot": "os.chroot('/')",
    "kill": "os.kill(1, 0)",
    "device": "os.mknod('x', 0o020666, 259)",
    "executable memory": "if libc.mmap(0, 4096, 7, 34, -1, 0) == -1: raise OSError(ctypes.get_errno(), '')",
}


@pytest.mark.parametrize("call", FILTERED)
def test_filter_refuses(call: str) -> None:
    """Each in a process that has only the gofer's filter: refused with EPERM, or killed."""
    code = (
        "import ctypes, os, _socket\nfrom gofer import confine, hostcalls as host\nfrom native import filters\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "host.prctl(host.PR_SET_NO_NEW_PRIVS, 1)\nfilters.load(filters.compiled(confine.rules(False)))\n"
        f"try:\n    {FILTERED[call]}\nexcept OSError as error:\n    os._exit(40 + error.errno)\nos._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], timeout=20)
    assert done.returncode in (41, -31), "EPERM or SIGSYS"


def test_start_in_many_tries_leaks_nothing(root: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        Gofer([Export(str(root))]).close()
        handle = boot.start(boot.GoferConfig([Export(str(root / "absent"))], rootless=os.geteuid() != 0))
        with pytest.raises(boot.GoferError):
            handle.wait_ready()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_callers_garbage_closes_nothing_in_the_gofer(root: Path) -> None:
    """Collected after the fork, a file of the caller would close what has its number in the gofer."""
    import gc

    caller = os.getpid()

    class Garbage:
        def __init__(self) -> None:
            self.me = self

        def __del__(self) -> None:
            if os.getpid() != caller:
                os.closerange(3, 40)

    gc.disable()
    try:
        Garbage()
        with Gofer([Export(str(root))]) as gofer:
            top = gofer.attach()
            for _ in range(200):
                assert gofer.read(gofer.lookup(top, b"file")) == b"inside"
    finally:
        gc.enable()
