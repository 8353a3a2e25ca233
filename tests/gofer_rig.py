"""A gofer on a folder of the test's, spoken to over the bare socket: as a sentry does, hostile or not."""

import os
import signal
import socket
from collections.abc import Iterable
from pathlib import Path

from gofer import boot
from gofer import protocol as p
from gofer.exports import Export

PIDFD_POLL_S = 5


class Refused(Exception):
    """The gofer answered with an errno."""

    def __init__(self, errno: int) -> None:
        super().__init__(os.strerror(errno))
        self.errno = errno


class Gofer:
    """`with Gofer([Export(...)]) as gofer: gofer.lookup(gofer.attach(), b"name")`."""

    def __init__(self, exports: list[Export], **config: object) -> None:
        rootless = os.geteuid() != 0
        self.handle = boot.start(boot.GoferConfig(exports, rootless=rootless, **config))  # type: ignore[arg-type]
        self.handle.wait_ready()
        self.pid = self.handle.pid
        self.sock = socket.socket(fileno=self.handle.socket_fd)
        self.sock.settimeout(10)
        self.number = 0

    def __enter__(self) -> "Gofer":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> int:
        """Hang up; the exit status of the gofer, which must end by itself."""
        self.sock.close()
        pidfd = os.pidfd_open(self.pid)
        try:
            import select

            ended, _, _ = select.select([pidfd], [], [], PIDFD_POLL_S)
            if not ended:
                os.kill(self.pid, signal.SIGKILL)
            status = os.waitpid(self.pid, 0)[1]
            assert ended, "the gofer outlived its socket"
            return status
        finally:
            os.close(pidfd)

    # --- one message

    def raw(self, message: bytes) -> None:
        self.sock.send(message)

    def receive(self) -> tuple[int, int, int, bytes, list[int]]:
        """(id, errno, value, data, descriptors)"""
        data, fds, _flags, _from = socket.recv_fds(self.sock, p.MAX_MESSAGE + 4096, 8)
        assert data, f"the gofer is gone: {os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])}"
        number, errno, _zero, value = p.REPLY.unpack_from(data)
        return number, errno, value, data[p.HEAD :], list(fds)

    def call(self, op: int, handle: int, payload: bytes = b"") -> tuple[int, bytes, int]:
        """(value, data, descriptor or -1); raises Refused."""
        self.number += 1
        self.raw(p.HEADER.pack(self.number, op, 0, handle) + payload)
        number, errno, value, data, fds = self.receive()
        assert number == self.number
        assert len(fds) <= 1
        if errno:
            assert not fds
            raise Refused(errno)
        return value, data, fds[0] if fds else -1

    # --- requests

    def attach(self, export: int = 0) -> int:
        return self.call(p.ATTACH, 0, p.ATTACH_ARGS.pack(p.VERSION, export))[0]

    def lookup(self, handle: int, *names: bytes) -> int:
        for name in names:
            handle = self.call(p.LOOKUP, handle, name)[0]
        return handle

    def attr(self, handle: int) -> p.Attr:
        return p.Attr(self.call(p.GETATTR, handle)[1])

    def open(self, handle: int, flags: int = os.O_RDONLY) -> int:
        return self.call(p.OPEN, handle, p.FLAGS.pack(flags))[2]

    def read(self, handle: int) -> bytes:
        fd = self.open(handle)
        try:
            return os.pread(fd, 1 << 20, 0)
        finally:
            os.close(fd)

    def create(
        self, handle: int, name: bytes, mode: int = 0o644, flags: int = os.O_RDWR, uid: int = 0, gid: int = 0
    ) -> tuple[int, int]:
        value, _data, fd = self.call(p.CREATE, handle, p.CREATE_ARGS.pack(flags, mode, uid, gid) + name)
        return value, fd

    def mkdir(self, handle: int, name: bytes, mode: int = 0o755, uid: int = 0, gid: int = 0) -> int:
        return self.call(p.MKDIR, handle, p.OWNER_ARGS.pack(mode, uid, gid) + name)[0]

    def mknod(self, handle: int, name: bytes, mode: int) -> int:
        return self.call(p.MKNOD, handle, p.OWNER_ARGS.pack(mode, 0, 0) + name)[0]

    def symlink(self, handle: int, name: bytes, target: bytes) -> int:
        return self.call(p.SYMLINK, handle, p.SYMLINK_ARGS.pack(0, 0, len(name)) + name + target)[0]

    def link(self, handle: int, name: bytes, target: int) -> None:
        self.call(p.LINK, handle, p.HANDLE.pack(target) + name)

    def unlink(self, handle: int, name: bytes) -> None:
        self.call(p.UNLINK, handle, name)

    def rename(self, olddir: int, old: bytes, newdir: int, new: bytes, flags: int = 0) -> None:
        self.call(p.RENAME, olddir, p.RENAME_ARGS.pack(newdir, flags, len(old)) + old + new)

    def setattr(
        self, handle: int, valid: int, mode: int = 0, uid: int = 0, gid: int = 0, size: int = 0,
        atime: int = 0, mtime: int = 0,
    ) -> p.Attr:  # fmt: skip
        args = p.SETATTR_ARGS.pack(valid, mode, uid, gid, size, atime, mtime)
        return p.Attr(self.call(p.SETATTR, handle, args)[1])

    def names(self, handle: int) -> list[bytes]:
        found: list[bytes] = []
        cookie = 0
        while True:
            value, data, _fd = self.call(p.READDIR, handle, p.COOKIE.pack(cookie))
            found += [name for name, _ino, _kind in p.parse_dirents(data)]
            if value == p.EOF_COOKIE:
                return found
            cookie = value

    def forget(self, handles: Iterable[int]) -> None:
        items = b"".join(p.FORGET_ITEM.pack(handle, 1) for handle in handles)
        self.raw(p.HEADER.pack(0, p.FORGET, 0, 0) + items)


def tree(where: Path) -> Path:
    """root/ for the container, outside/ that it must never reach."""
    root, outside = where / "root", where / "outside"
    (root / "dir").mkdir(parents=True)
    (root / "dir" / "deep").mkdir()
    (root / "file").write_bytes(b"inside")
    (root / "dir" / "deep" / "file").write_bytes(b"deep")
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    return root
