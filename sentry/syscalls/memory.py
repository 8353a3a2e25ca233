"""File mappings: mmap(2) of a descriptor. Anonymous memory is the host kernel's (native.py).

The host maps the sentry's own descriptor: it is injected at the guest's number for this one call, and the call goes on
natively. Mappings of regular files are usually answered in C the same way (native/src/fast.c).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from sentry.abi.linux import (
    MAP_ANONYMOUS,
    MAP_HUGETLB,
    MAP_PRIVATE,
    MAP_SHARED,
    MAP_SHARED_VALIDATE,
    MS_NOEXEC,
    PROT_EXEC,
    PROT_WRITE,
)
from sentry.errors import EACCES, EBADF, EINVAL, ENOMEM, EPERM
from sentry.mm.hostmap import remember
from sentry.syscalls.declare import CONTINUE, syscall
from sentry.syscalls.kinds import Addr, Int, MapFlags, Off, Prot, Size

if TYPE_CHECKING:
    from sentry.kernel.task import Task

MAP_TYPE = 0xF
PAGE = 4096


@syscall(fast="regular files", may_continue="the descriptor has been checked and injected for this call")
def sys_mmap(task: Task, addr: Addr, length: Size, prot: Prot, flags: MapFlags, fd: Int, offset: Off) -> Any:
    if flags & MAP_ANONYMOUS:
        if flags & MAP_HUGETLB:
            raise ENOMEM("no huge pages are set aside for guests")
        return CONTINUE
    if offset % PAGE:
        raise EINVAL
    file = task.fds.get(fd)
    if not file.readable and not file.writable:
        raise EBADF  # O_PATH
    if not length:
        raise EINVAL
    kind = flags & MAP_TYPE
    if kind not in (MAP_SHARED, MAP_PRIVATE, MAP_SHARED_VALIDATE):
        raise EINVAL
    if not file.readable:
        raise EACCES
    if kind != MAP_PRIVATE and prot & PROT_WRITE and not file.writable:
        raise EACCES
    is_noexec = file.path is not None and bool(file.path.mount.flags & MS_NOEXEC)
    if is_noexec and prot & PROT_EXEC:
        raise EPERM
    host_fd = file.mapping()
    remember(host_fd, file.path)
    never_code = file.inode.noexec_fd(file.writable) if is_noexec else -1  # mprotect(2) is the host kernel's
    try:
        task.fds.inject(task.kernel.call_id, fd, host_fd if never_code < 0 else never_code)
    finally:
        if never_code >= 0:
            os.close(never_code)
    return CONTINUE
