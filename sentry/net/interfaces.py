"""The SIOCGIF* ioctls (netdevice(7)): read-only, answered by a hidden host socket in the sandbox's own
namespace.

They work on a socket of any family. What would change an interface gives EPERM, as without CAP_NET_ADMIN.
"""

from __future__ import annotations

from struct import Struct
from typing import TYPE_CHECKING

from sentry.abi.linux import AF_INET, AF_INET6, SOCK_DGRAM
from sentry.errors import EINVAL, ENOPKG, ENOTTY, EOPNOTSUPP, EPERM, EPFNOSUPPORT, LinuxError
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
SIOCGIFPFLAGS = 0x8935
SIOCGIFINDEX = 0x8933
SIOCGIFTXQLEN = 0x8942
SIOCETHTOOL = 0x8946
SIOCGIFMAP = 0x8970

_PLAIN = (
    SIOCGIFNAME, SIOCGIFFLAGS, SIOCGIFMETRIC, SIOCGIFMTU, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFTXQLEN, SIOCGIFMAP,
)  # fmt: skip
#: AF_INET answers these (devinet_ioctl), other families do not know them
_ADDRESSES = (SIOCGIFADDR, SIOCGIFDSTADDR, SIOCGIFBRDADDR, SIOCGIFNETMASK, SIOCGIFPFLAGS)
IFREQ_COMMANDS = frozenset((*_PLAIN, *_ADDRESSES, SIOCGIFCONF, SIOCETHTOOL))
#: what changes interfaces
_CHANGING = frozenset((
    0x8911, 0x8914, 0x891E, 0x8920, 0x8922, 0x8923, 0x8924, 0x8930, 0x8931, 0x8932, 0x8934, 0x8936, 0x8937, 0x8943,
    0x8947, 0x8948, 0x8949, 0x8971, 0x8990, 0x8991, 0x8992, 0x8995, 0x89A0, 0x89A1, 0x89A2, 0x89A3, 0x89B0,
))  # fmt: skip
#: what changes addresses, routes or neighbours: AF_INET's (ip_rt_ioctl, devinet_ioctl, arp_ioctl)
_CHANGING_INET = frozenset((0x890B, 0x890C, 0x8916, 0x8918, 0x891A, 0x891C, 0x8934, 0x8953, 0x8955))
_CHANGING_INET6 = frozenset((0x890B, 0x890C, 0x8916, 0x8918, 0x8936))
_GIFSLAVE, _GIFBR, _GIFVLAN, _GARP = 0x8929, 0x8940, 0x8982, 0x8954
_BONDINFO = (0x8993, 0x8994)

_IFREQ_SIZE, _IFNAMSIZ = 40, 16
_IFCONF = Struct("<i4xQ")
_INT = Struct("<i")

_hidden = -1


def hidden_socket() -> int:
    """The host socket that is asked; made once."""
    global _hidden
    if _hidden < 0:
        _hidden = hostsock.open_socket(AF_INET, SOCK_DGRAM, 0)
    return _hidden


def interface_index(name: bytes) -> int:
    """The number of an interface; 0 for no name, ENODEV for one there is not."""
    if not name:
        return 0
    answer = hostsock.ioctl(hidden_socket(), SIOCGIFINDEX, name.ljust(_IFREQ_SIZE, b"\0"))
    return int.from_bytes(answer[_IFNAMSIZ : _IFNAMSIZ + 4], "little")


def interface_name(index: int) -> bytes:
    answer = hostsock.ioctl(hidden_socket(), SIOCGIFNAME, bytes(_IFNAMSIZ) + _INT.pack(index).ljust(24, b"\0"))
    return answer[:_IFNAMSIZ].split(b"\0")[0]


def interface_ioctl(task: Task, domain: int, cmd: int, arg: int) -> int:
    """One of IFREQ_COMMANDS, on a socket of family `domain`."""
    if cmd in _ADDRESSES and domain != AF_INET:
        raise ENOTTY
    if cmd == SIOCETHTOOL:
        task.mem.read(task.mem.read_u64(arg + _IFNAMSIZ), 4)  # ifr_data: which question
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


def refused_ioctl(domain: int, cmd: int) -> LinuxError:
    """What an ioctl from 0x8900 on gives that nothing here answers: of a kernel without bridges, bonds and VLANs."""
    if cmd in _CHANGING:
        return EPERM()
    if (domain == AF_INET and cmd in _CHANGING_INET) or (domain == AF_INET6 and cmd in _CHANGING_INET6):
        return EPERM()
    if cmd == _GIFSLAVE:
        return EINVAL()
    if cmd == _GIFBR or cmd in _BONDINFO:
        return EOPNOTSUPP()
    if cmd == _GIFVLAN:
        return ENOPKG()
    if cmd == _GARP and domain == AF_INET:
        return EPFNOSUPPORT()
    return ENOTTY()
