"""Sending and receiving on sockets: sendto(2), recvfrom(2), sendmsg(2), recvmsg(2), sendmmsg(2), recvmmsg(2).

Headers are copied once, checked in Linux's order (copy_msghdr_from_user), and written back field by field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

from sentry.abi import linux
from sentry.abi.linux import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    MSG_CMSG_CLOEXEC,
    MSG_DONTWAIT,
    MSG_WAITFORONE,
    SOCK_DGRAM,
    SOCK_STREAM,
)
from sentry.abi.x86_64 import MSGHDR, TASK_SIZE, TIMESPEC
from sentry.errors import EFAULT, EINVAL, EMSGSIZE, ENOBUFS, Interrupted, LinuxError
from sentry.kernel.memory import IOV_MAX, MAX_COPY, MAX_RW_COUNT
from sentry.kernel.sched import sched
from sentry.net.scm import Control, deliver, parse
from sentry.net.sockaddr import MAX_SIZE
from sentry.net.socket import Received, Socket
from sentry.syscalls.declare import syscall
from sentry.syscalls.kinds import Addr, File, InBuffer, OutBuffer, Size, TimespecPtr, UInt, flags
from sentry.syscalls.sockets import as_socket, read_addr, write_addr

if TYPE_CHECKING:
    from sentry.kernel.task import Task

FAST = "on TCP, without names, control messages and unusual flags, unless it has to wait"
_NAMELEN, _CONTROLLEN, _FLAGS = 8, 40, 48  # offsets in struct msghdr
_MMSG_SIZE = 64  # struct mmsghdr: a msghdr and the length of its message
_MAX_CONTROL = 131072  # net.core.optmem_max
_NS = 1_000_000_000

MsgFlags = Annotated[
    int,
    flags(
        ignore_unknown=True,
        MSG_OOB=linux.MSG_OOB,
        MSG_PEEK=linux.MSG_PEEK,
        MSG_DONTROUTE=linux.MSG_DONTROUTE,
        MSG_CTRUNC=linux.MSG_CTRUNC,
        MSG_TRUNC=linux.MSG_TRUNC,
        MSG_DONTWAIT=linux.MSG_DONTWAIT,
        MSG_EOR=linux.MSG_EOR,
        MSG_WAITALL=linux.MSG_WAITALL,
        MSG_CONFIRM=linux.MSG_CONFIRM,
        MSG_ERRQUEUE=linux.MSG_ERRQUEUE,
        MSG_NOSIGNAL=linux.MSG_NOSIGNAL,
        MSG_MORE=linux.MSG_MORE,
        MSG_WAITFORONE=linux.MSG_WAITFORONE,
        MSG_ZEROCOPY=linux.MSG_ZEROCOPY,
        MSG_FASTOPEN=linux.MSG_FASTOPEN,
        MSG_CMSG_CLOEXEC=linux.MSG_CMSG_CLOEXEC,
    ),
]


class Header(NamedTuple):
    """A struct msghdr, copied and checked."""

    addr: int
    name_addr: int
    name_size: int
    iov: list[tuple[int, int]]
    control_addr: int
    control_size: int

    @property
    def size(self) -> int:
        return min(sum(length for _, length in self.iov), MAX_RW_COUNT)


def read_header(task: Task, addr: int) -> Header:
    """copy_msghdr_from_user."""
    name_addr, name_size, iov_addr, count, control_addr, control_size, _ = MSGHDR.unpack(
        task.mem.read(addr, MSGHDR.size)
    )
    if not name_addr:
        name_size = 0
    if name_size >= 1 << 31:
        raise EINVAL
    if count > IOV_MAX:
        raise EMSGSIZE
    iov = task.mem.read_iovec(iov_addr, count)
    return Header(addr, name_addr, min(name_size, MAX_SIZE), iov, control_addr, control_size)


# --- sending


@syscall(fast=FAST)
async def sys_sendto(
    task: Task, file: File, buffer: InBuffer, size: Size, msg_flags: MsgFlags, addr: Addr, addr_size: UInt
) -> int:
    if buffer > TASK_SIZE:
        raise EFAULT  # whatever the size (access_ok)
    sock = as_socket(file)
    name = read_addr(task, addr, addr_size) if addr else b""
    if addr and not name and sock.type == SOCK_DGRAM and sock.domain in (AF_INET, AF_INET6):
        raise EINVAL  # other families, and sendmsg(2), go by the size alone
    return await _send(task, sock, [(buffer, min(size, MAX_RW_COUNT))], msg_flags, name, None)


@syscall(fast=FAST)
async def sys_sendmsg(task: Task, file: File, addr: Addr, msg_flags: MsgFlags) -> int:
    return await _sendmsg(task, as_socket(file), read_header(task, addr), msg_flags)


@syscall
async def sys_sendmmsg(task: Task, file: File, addr: Addr, count: UInt, msg_flags: MsgFlags) -> int:
    sock = as_socket(file)
    done = 0
    try:
        for at in range(addr, addr + min(count, IOV_MAX) * _MMSG_SIZE, _MMSG_SIZE):
            sent = await _sendmsg(task, sock, read_header(task, at), msg_flags)
            task.mem.write_u32(at + MSGHDR.size, sent)
            done += 1
    except (LinuxError, Interrupted):
        if not done:
            raise
    return done


async def _sendmsg(task: Task, sock: Socket, header: Header, msg_flags: int) -> int:
    name = read_addr(task, header.name_addr, header.name_size) if header.name_size else b""
    control = None
    if header.control_size:
        if header.control_size > _MAX_CONTROL:
            raise ENOBUFS
        raw = task.mem.read(header.control_addr, header.control_size)
        control = parse(task, raw, sock.domain == AF_UNIX)
    return await _send(task, sock, header.iov, msg_flags, name, control)


async def _send(
    task: Task, sock: Socket, iov: list[tuple[int, int]], msg_flags: int, name: bytes, control: Control | None
) -> int:
    """Copy the data in and send it; a long stream goes in pieces."""
    total = min(sum(length for _, length in iov), MAX_RW_COUNT)
    if total <= MAX_COPY:
        return await sock.send(task, _read(task, iov, total), msg_flags, name, control)
    if sock.type != SOCK_STREAM:
        raise EMSGSIZE
    sent = 0
    try:
        while sent < total:
            size = min(total - sent, MAX_COPY)
            now = await sock.send(task, _read(task, _tail(iov, sent), size), msg_flags, name, control)
            sent += now
            name, control = b"", None
            if now < size:
                break
    except (LinuxError, Interrupted):
        if not sent:
            raise
    return sent


def _read(task: Task, iov: list[tuple[int, int]], size: int) -> bytes:
    if len(iov) == 1:
        return task.mem.read(iov[0][0], size) if size else b""
    return task.mem.read_vec(iov, size)


def _tail(iov: list[tuple[int, int]], skip: int) -> list[tuple[int, int]]:
    """The vector without its first `skip` bytes."""
    rest = []
    for addr, length in iov:
        if skip >= length:
            skip -= length
            continue
        rest.append((addr + skip, length - skip))
        skip = 0
    return rest


# --- receiving


@syscall(fast=FAST)
async def sys_recvfrom(
    task: Task, file: File, buffer: OutBuffer, size: Size, msg_flags: MsgFlags, addr: Addr, size_addr: Addr
) -> int:
    if buffer > TASK_SIZE:
        raise EFAULT
    received = await as_socket(file).recv(task, min(size, MAX_RW_COUNT), msg_flags)
    received.drop()
    task.mem.write(buffer, received.data)
    if addr:
        write_addr(task, received.name, addr, size_addr)
    return received.length


@syscall
async def sys_recvmsg(task: Task, file: File, addr: Addr, msg_flags: MsgFlags) -> int:
    return await _recvmsg(task, as_socket(file), read_header(task, addr), msg_flags)


@syscall
async def sys_recvmmsg(
    task: Task, file: File, addr: Addr, count: UInt, msg_flags: MsgFlags, timeout: TimespecPtr
) -> int:
    sock = as_socket(file)
    limit = _limit(task, timeout) if timeout else None
    done = 0
    try:
        for at in range(addr, addr + min(count, IOV_MAX) * _MMSG_SIZE, _MMSG_SIZE):
            got = await _recvmsg(task, sock, read_header(task, at), msg_flags & ~MSG_WAITFORONE)
            task.mem.write_u32(at + MSGHDR.size, got)
            done += 1
            if msg_flags & MSG_WAITFORONE:
                msg_flags |= MSG_DONTWAIT
            if limit is not None and sched().now_ns() >= limit:  # looked at between messages only (BUGS)
                break
    except (LinuxError, Interrupted):
        if not done:
            raise
    if limit is not None:
        seconds, rest = divmod(max(limit - sched().now_ns(), 0), _NS)
        task.mem.write(timeout, TIMESPEC.pack(seconds, rest))
    return done


def _limit(task: Task, timeout: int) -> int:
    seconds, nanoseconds = TIMESPEC.unpack(task.mem.read(timeout, TIMESPEC.size))
    if seconds < 0 or not 0 <= nanoseconds < _NS:
        raise EINVAL
    return sched().now_ns() + int(seconds) * _NS + int(nanoseconds)


async def _recvmsg(task: Task, sock: Socket, header: Header, msg_flags: int) -> int:
    received = await sock.recv(task, header.size, msg_flags)
    try:
        _write(task, header, received)
    except LinuxError:
        received.drop()
        raise
    cloexec = bool(msg_flags & MSG_CMSG_CLOEXEC)
    layout = deliver(task, received, bool(header.control_addr), min(header.control_size, 1 << 20), cloexec)
    if layout.data:
        task.mem.write(header.control_addr, bytes(layout.data))
    if header.name_addr:
        write_addr(task, received.name, header.name_addr, header.addr + _NAMELEN)
    result_flags = received.flags | layout.flags | (msg_flags & MSG_CMSG_CLOEXEC)
    task.mem.write_u32(header.addr + _FLAGS, result_flags)
    task.mem.write_u64(header.addr + _CONTROLLEN, len(layout.data))
    return received.length


def _write(task: Task, header: Header, received: Received) -> None:
    """Scatter the data, all of it or EFAULT."""
    data = received.data
    if not data:
        return
    if len(header.iov) == 1:
        task.mem.write(header.iov[0][0], data)
    elif task.mem.write_vec(header.iov, data) < len(data):
        raise EFAULT
