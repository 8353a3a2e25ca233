"""Making, naming, connecting, configuring sockets: socket(2), bind(2), connect(2), accept(2) and others."""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING, Annotated

from sentry.abi.linux import O_NONBLOCK, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_TYPE_MASK
from sentry.errors import EINVAL, ENOTSOCK, LinuxError
from sentry.kernel.fdtable import release_unused
from sentry.net import create, create_pair
from sentry.net.options import NeedsRoom
from sentry.net.sockaddr import MAX_SIZE
from sentry.net.socket import Socket
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, File, Int, choice, field, flags

if TYPE_CHECKING:
    from sentry.kernel.task import Task

_INT = Struct("<i")
_PAIR = Struct("<ii")
_MAX_OPTION = 512  # no option we know is larger
_MAX_OPTION_READ = 4096

SocketFamily = Annotated[
    int, choice(strict=False, AF_UNSPEC=0, AF_UNIX=1, AF_INET=2, AF_INET6=10, AF_NETLINK=16, AF_PACKET=17)
]
SocketType = Annotated[
    int,
    flags(
        field(0xF, SOCK_STREAM=1, SOCK_DGRAM=2, SOCK_RAW=3, SOCK_RDM=4, SOCK_SEQPACKET=5, SOCK_PACKET=10),
        field(0xFFF7_F7F0, **{"0": 0}),  # unknown bits reach the handler, which refuses them
        SOCK_CLOEXEC=SOCK_CLOEXEC,
        SOCK_NONBLOCK=SOCK_NONBLOCK,
    ),
]
AcceptFlags = Annotated[int, flags(SOCK_CLOEXEC=SOCK_CLOEXEC, SOCK_NONBLOCK=SOCK_NONBLOCK)]
OptionLevel = Annotated[
    int,
    choice(
        strict=False,
        SOL_IP=0,
        SOL_SOCKET=1,
        SOL_TCP=6,
        SOL_UDP=17,
        SOL_IPV6=41,
        SOL_ICMPV6=58,
        SOL_RAW=255,
        SOL_PACKET=263,
        SOL_NETLINK=270,
    ),
]
ShutdownHow = Annotated[int, choice(strict=False, SHUT_RD=0, SHUT_WR=1, SHUT_RDWR=2)]


def as_socket(file: object) -> Socket:
    """ENOTSOCK for another kind of file."""
    if not isinstance(file, Socket):
        raise ENOTSOCK
    return file


def read_addr(task: Task, addr: int, size: int) -> bytes:
    """move_addr_to_kernel."""
    if not 0 <= size <= MAX_SIZE:
        raise EINVAL
    return task.mem.read(addr, size) if size else b""


def write_addr(task: Task, name: bytes, addr: int, size_addr: int) -> None:
    """move_addr_to_user: as much as fits, and how much it would have been."""
    room = _INT.unpack(task.mem.read(size_addr, 4))[0]
    if room < 0:
        raise EINVAL
    task.mem.write(addr, name[:room])
    task.mem.write_u32(size_addr, len(name))


def _open_flags(kind: int) -> tuple[int, int]:
    """The file's O_NONBLOCK and whether the descriptor is close-on-exec, of SOCK_* flags."""
    if kind & ~SOCK_TYPE_MASK & ~(SOCK_CLOEXEC | SOCK_NONBLOCK):
        raise EINVAL
    return (O_NONBLOCK if kind & SOCK_NONBLOCK else 0), kind & SOCK_CLOEXEC


@syscall(partial="AF_UNIX, AF_INET, AF_INET6 and AF_NETLINK (routes and lists of sockets, read-only)")
def sys_socket(task: Task, family: SocketFamily, kind: SocketType, protocol: Int) -> int:
    file_flags, cloexec = _open_flags(kind)
    sock = create(task, family, kind & SOCK_TYPE_MASK, protocol, file_flags)
    return task.fds.install(sock, cloexec=bool(cloexec))


@syscall
def sys_socketpair(task: Task, family: SocketFamily, kind: SocketType, protocol: Int, fds: Addr) -> None:
    file_flags, cloexec = _open_flags(kind)
    task.mem.write(fds, task.mem.read(fds, _PAIR.size))  # EFAULT comes before the sockets are made
    one, other = create_pair(task, family, kind & SOCK_TYPE_MASK, protocol, file_flags)
    installed: list[int] = []
    try:
        installed.append(task.fds.install(one, cloexec=bool(cloexec)))
        installed.append(task.fds.install(other, cloexec=bool(cloexec)))
        task.mem.write(fds, _PAIR.pack(*installed))
    except LinuxError:
        for fd in installed:
            task.fds.close(fd)
        if len(installed) < 2:
            release_unused(other)
        raise


@syscall
async def sys_bind(task: Task, file: File, addr: Addr, size: Int) -> None:
    sock = as_socket(file)
    await sock.bind(task, read_addr(task, addr, size))


@syscall
async def sys_connect(task: Task, file: File, addr: Addr, size: Int) -> None:
    name = read_addr(task, addr, size)  # comes before ENOTSOCK on Linux, too
    await as_socket(file).connect(task, name)


@syscall
def sys_listen(task: Task, file: File, backlog: Int) -> None:
    as_socket(file).listen(task, backlog)


@syscall
async def sys_accept(task: Task, file: File, addr: Addr, size_addr: Addr) -> int:
    return await _accept(task, as_socket(file), addr, size_addr, 0)


@syscall
async def sys_accept4(task: Task, file: File, addr: Addr, size_addr: Addr, accept_flags: AcceptFlags) -> int:
    return await _accept(task, as_socket(file), addr, size_addr, accept_flags)


async def _accept(task: Task, sock: Socket, addr: int, size_addr: int, accept_flags: int) -> int:
    file_flags, cloexec = _open_flags(accept_flags)
    task.fds.check_room()
    new, name = await sock.accept(task, file_flags)
    if addr:
        try:
            write_addr(task, name, addr, size_addr)
        except LinuxError:
            release_unused(new)
            raise
    return task.fds.install(new, cloexec=bool(cloexec))


@syscall
def sys_getsockname(task: Task, file: File, addr: Addr, size_addr: Addr) -> None:
    write_addr(task, as_socket(file).getsockname(), addr, size_addr)


@syscall
def sys_getpeername(task: Task, file: File, addr: Addr, size_addr: Addr) -> None:
    write_addr(task, as_socket(file).getpeername(), addr, size_addr)


@syscall
def sys_shutdown(task: Task, file: File, how: ShutdownHow) -> None:
    as_socket(file).shutdown(how)


@syscall(partial="options with pointers in them (socket filters) give ENOPROTOOPT")
def sys_setsockopt(
    task: Task, file: File, level: OptionLevel, name: Int, value_addr: Addr, size: Int
) -> None:
    sock = as_socket(file)
    if size < 0:
        raise EINVAL
    value = task.mem.read_some(value_addr, min(size, _MAX_OPTION)) if size else b""
    sock.setsockopt(task, level, name, value)


@syscall(partial="options with pointers in them (socket filters) give ENOPROTOOPT")
def sys_getsockopt(
    task: Task, file: File, level: OptionLevel, name: Int, value_addr: Addr, size_addr: Addr
) -> None:
    sock = as_socket(file)
    size = _INT.unpack(task.mem.read(size_addr, 4))[0]
    if size < 0:
        raise EINVAL
    try:
        value = sock.getsockopt(task, level, name, min(size, _MAX_OPTION_READ))
    except NeedsRoom as error:
        task.mem.write_u32(size_addr, error.size)
        raise
    task.mem.write(value_addr, value)
    task.mem.write_u32(size_addr, len(value))
