"""The SIOCGIF* ioctls (netdevice(7)): read-only, answered by a hidden host socket in the sandbox's own
namespace.

They work on a socket of any family. What would change an interface gives EPERM, as without CAP_NET_ADMIN.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from sentry.abi.linux import AF_INET, SOCK_DGRAM
from sentry.errors import EINVAL, ENOTTY, EOPNOTSUPP, EPERM, LinuxError
from sentry.net import hostsock

if TYPE_CHECKING:
    from sentry.kernel.task import Task

SIOCGIFNAME = 0x8910
SIOCGIFCONF = 0x8912
SIOCGIFFLAGS = 0x8913
SIOCGIFADDR = 0x8915
SIOCGIFDSTADDR = 0x8917
SIOCGIFBRDADDR = 0x8919
SIOCGIFNETMASK = 0x891B
SIOCGIFMETRIC = 0x891D
SIOCGIFMTU = 0x8921
SIOCGIFHWADDR = 0x8927
SIOCGIFINDEX = 0x8933
SIOCGIFTXQLEN = 0x8942
SIOCETHTOOL = 0x8946
SIOCGIFMAP = 0x8970

_PLAIN = (
    SIOCGIFNAME, SIOCGIFFLAGS, SIOCGIFADDR, SIOCGIFDSTADDR, SIOCGIFBRDADDR, SIOCGIFNETMASK, SIOCGIFMETRIC,
    SIOCGIFMTU, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFTXQLEN, SIOCGIFMAP,
)  # fmt: skip
IFREQ_COMMANDS = frozenset((*_PLAIN, SIOCGIFCONF, SIOCETHTOOL))
#: what changes interfaces, routes or neighbours
_CHANGING = frozenset((
    0x890B, 0x890C, 0x890D, 0x8911, 0x8914, 0x8916, 0x8918, 0x891A, 0x891C, 0x891E, 0x8920, 0x8922, 0x8923,
    0x8924, 0x8925, 0x8930, 0x8931, 0x8932, 0x8934, 0x8936, 0x8937, 0x8943, 0x8953, 0x8955, 0x8971, 0x8980,
    0x8981, 0x8983,
))  # fmt: skip

_IFREQ_SIZE = 40
_IFCONF = Struct("<i4xQ")
_INT = Struct("<i")

_hidden = -1


def hidden_socket() -> int:
    """The host socket that is asked; made once."""
    global _hidden
    if _hidden < 0:
        _hidden = hostsock.open_socket(AF_INET, SOCK_DGRAM, 0)
    return _hidden


def interface_ioctl(task: Task, cmd: int, arg: int) -> int:
    """One of IFREQ_COMMANDS."""
    if cmd == SIOCETHTOOL:
        raise EOPNOTSUPP
    host_fd = hidden_socket()
    if cmd != SIOCGIFCONF:
        request = task.mem.read(arg, _IFREQ_SIZE)
        task.mem.write(arg, hostsock.ioctl(host_fd, cmd, request))
        return 0
    size, buffer = _IFCONF.unpack(task.mem.read(arg, _IFCONF.size))
    if size < 0:
        raise EINVAL
    if buffer:
        found = hostsock.interface_list(host_fd, cmd, size)
        if found:
            task.mem.write(buffer, found)
        size = len(found)
    else:  # only how much room it takes
        size = len(hostsock.interface_list(host_fd, cmd, hostsock.BUFFER_SIZE))
    task.mem.write(arg, _INT.pack(size))
    return 0


def refused_ioctl(cmd: int) -> LinuxError:
    """What an ioctl from 0x8900 on gives that nothing here answers."""
    return EPERM() if cmd in _CHANGING else ENOTTY()
