"""Argument kinds: what a register means, how the handler gets it and how a trace shows it.

A kind is an ``Annotated`` type. Its :class:`Kind` carries a *decode* expression (Python source in which
``{a}`` is the register, an unsigned 64-bit int), so that a whole signature compiles to one function
(decode.py), and a *show* function for the trace. Use the ready ones below, or make one in the family that
needs it:

    EventFlags = Annotated[int, flags(EFD_NONBLOCK=0o4000, EFD_CLOEXEC=0o2000000)]  # others: EINVAL
    XattrName = Annotated[bytes, cstring(256)]

Name such a type first and annotate with the name: mypy does not take calls inside a signature.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from sentry.abi import linux
from sentry.abi.x86_64 import TIMESPEC
from sentry.errors import EBADF, LinuxError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentry.vfs.file import File as VfsFile

PATH_MAX = 4096
_LOW = 0xFFFF_FFFF


class Call(NamedTuple):
    """The call a value is shown for. ``result`` is None before it has returned (and for errors negative)."""

    task: Any
    args: tuple[int, ...]
    result: int | None


class Kind:
    """One kind of argument. ``decode`` is Python source over ``{a}`` that may refer to ``names``."""

    __slots__ = ("check", "decode", "label", "names", "resolves", "show")

    def __init__(
        self,
        label: str,
        decode: str,
        show: Callable[[int, Call, int], str],
        *,
        names: dict[str, Any] | None = None,
        check: str = "",
        resolves: bool = False,
    ) -> None:
        self.label = label
        self.decode = decode
        self.show = show  # (register, call, argument index) -> text; may raise LinuxError for a bad pointer
        self.names = names or {}
        self.check = check  # source over {a}: true if the register alone is EINVAL
        self.resolves = resolves  # looks up a descriptor: EBADF comes before the checks of later registers


# --- reading registers


def int32(value: int) -> int:
    """A register as C's int."""
    return ((value & _LOW) ^ 0x8000_0000) - 0x8000_0000


def int64(value: int) -> int:
    """A register as C's long."""
    return value if value < 1 << 63 else value - (1 << 64)


def open_file(task: Any, fd: int) -> Any:
    """The kernel's fdget(): a description opened with O_PATH is no file to it."""
    file = task.fds.get(fd if fd < 0x8000_0000 else int32(fd))
    if file.flags & linux.O_PATH:
        raise EBADF("opened with O_PATH")
    return file


_INT32 = "({a} if {a} < 0x80000000 else int32({a}))"
_INT_NAMES: dict[str, Any] = {"int32": int32}

# --- showing values


def _show_int(value: int, call: Call, index: int) -> str:
    return str(int32(value))


def _show_long(value: int, call: Call, index: int) -> str:
    return str(int64(value))


def _show_unsigned(value: int, call: Call, index: int) -> str:
    return str(value)


def _show_address(value: int, call: Call, index: int) -> str:
    return hex(value) if value else "NULL"


def _show_octal(value: int, call: Call, index: int) -> str:
    return f"{value & 0xFFFF:#05o}".replace("0o", "0")


def _show_dirfd(value: int, call: Call, index: int) -> str:
    fd = int32(value)
    return "AT_FDCWD" if fd == linux.AT_FDCWD else str(fd)


def _show_path(value: int, call: Call, index: int) -> str:
    return quote(call.task.mem.read_cstr(value, PATH_MAX)) if value else "NULL"


def _show_in_buffer(value: int, call: Call, index: int) -> str:
    if not value:
        return "NULL"
    size = call.args[index + 1] if index < 5 else STRING_LIMIT
    return _show_bytes(value, call, size)


def _show_out_buffer(value: int, call: Call, index: int) -> str:
    if not value:
        return "NULL"
    return hex(value) if call.result is None or call.result < 0 else _show_bytes(value, call, call.result)


def _show_bytes(addr: int, call: Call, size: int) -> str:
    data = bytes(call.task.mem.read(addr, min(size, STRING_LIMIT))) if size else b""
    return quote(data) + ("..." if size > STRING_LIMIT else "")


def _show_strings(value: int, call: Call, index: int) -> str:
    """argv: the words themselves, as many as strace shows."""
    if not value:
        return "NULL"
    shown: list[str] = []
    while pointer := call.task.mem.read_u64(value + 8 * len(shown)):
        if len(shown) == STRINGS_LIMIT:
            shown.append("...")
            break
        shown.append(_show_path(pointer, call, index))
    return f"[{', '.join(shown)}]"


def _show_environment(value: int, call: Call, index: int) -> str:
    count = 0
    while value and count < ENVIRONMENT_LIMIT and call.task.mem.read_u64(value + 8 * count):
        count += 1
    return f"{value:#x} /* {count} vars */" if value else "NULL"


def _show_timespec(value: int, call: Call, index: int) -> str:
    if not value:
        return "NULL"
    seconds, nanoseconds = TIMESPEC.unpack(bytes(call.task.mem.read(value, TIMESPEC.size)))
    return f"{{tv_sec={seconds}, tv_nsec={nanoseconds}}}"


STRING_LIMIT = 32  # strace's default
STRINGS_LIMIT = 32
ENVIRONMENT_LIMIT = 1024
_ESCAPES = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def quote(data: bytes) -> str:
    """C's string literal, as strace writes it: octal escapes, short unless a digit follows."""
    out = []
    for at, byte in enumerate(data):
        if byte in _ESCAPES:
            out.append(_ESCAPES[byte])
        elif 32 <= byte < 127:
            out.append(chr(byte))
        else:
            digit_follows = at + 1 < len(data) and 48 <= data[at + 1] <= 57
            out.append(f"\\{byte:03o}" if digit_follows else f"\\{byte:o}")
    return '"' + "".join(out) + '"'


def signal_name(number: int) -> str:
    """``2`` -> ``SIGINT``, ``40`` -> ``SIGRT_8``."""
    if linux.SIGRTMIN <= number <= linux.SIGRTMAX:
        return f"SIGRT_{number - linux.SIGRTMIN}"
    return _signal_names().get(number, str(number))


def _signal_names() -> dict[int, str]:
    if not _SIGNALS:
        unwanted = {"SIGRTMIN", "SIGRTMAX", "SIGPOLL", "SIGCLD", "SIGIOT", "SIGUNUSED", "SIGSTKSZ"}
        for name, value in vars(linux).items():
            if name.startswith("SIG") and "_" not in name and not name.startswith("SIGEV"):
                if name not in unwanted:
                    _SIGNALS[value] = name
    return _SIGNALS


_SIGNALS: dict[int, str] = {}

# --- making kinds: flags, enumerations, strings


class Field(NamedTuple):
    """Several bits of a flags word that together hold one of some values (O_ACCMODE, clone's exit signal)."""

    mask: int
    values: dict[str, int]


def field(mask: int, **values: int) -> Field:
    return Field(mask, values)


def flags(
    *fields: Field,
    ignore_unknown: bool = False,
    strict: bool = True,
    width: int = 32,
    check: str = "",
    **bits: int,
) -> Kind:
    """A flags word: each bit by its C name. Other bits are EINVAL, or the handler's to refuse (not ``strict``), or
    dropped (``ignore_unknown``), where ``check`` may find what is EINVAL all the same."""
    word = _LOW if width == 32 else (1 << 64) - 1
    known = 0
    for value in bits.values():
        known |= value
    for one in fields:
        known |= one.mask
    unknown = word & ~known
    show = _flags_shower(word, fields, bits)
    if ignore_unknown:
        return Kind("flags", f"{{a}} & {known & word:#x}", show, check=check)
    decode = "{a} & 0xFFFFFFFF" if width == 32 else "{a}"
    return Kind("flags", decode, show, check=f"{{a}} & {unknown:#x}" if unknown and strict else "")


def _flags_shower(
    word: int, fields: tuple[Field, ...], bits: dict[str, int]
) -> Callable[[int, Call, int], str]:
    widest_first = sorted(bits.items(), key=lambda bit: -bit[1].bit_count())

    def show(value: int, call: Call, index: int) -> str:
        rest = value & word
        names = []
        for mask, values in fields:
            part = rest & mask
            for name, meaning in values.items():
                if meaning == part:
                    names.append(name)
                    rest &= ~mask
                    break
        found = set()
        for name, bit in widest_first:
            if bit and rest & bit == bit:
                found.add(name)
                rest &= ~bit
        names += [name for name in bits if name in found]
        if rest:
            names.append(hex(rest))
        if not names:
            names = [name for name, bit in bits.items() if bit == 0] or ["0"]
        return "|".join(names)

    return show


def choice(*, strict: bool = True, **values: int) -> Kind:
    """One of an enumeration, C's int. Another value is EINVAL; without ``strict`` the handler decides."""
    names = {value: name for name, value in reversed(list(values.items()))}

    def show(value: int, call: Call, index: int) -> str:
        number = int32(value)
        return names.get(number) or names.get(value & _LOW) or (hex(number) if number > 9 else str(number))

    if not strict:
        return Kind("choice", _INT32, show, names=_INT_NAMES)
    # The check is a format string: literal braces are doubled.
    allowed = "{{" + ", ".join(str(value & _LOW) for value in sorted(set(values.values()))) + "}}"
    return Kind("choice", _INT32, show, names=_INT_NAMES, check=f"({{a}} & 0xFFFFFFFF) not in {allowed}")


def cstring(limit: int = PATH_MAX) -> Kind:
    """A string that is read at entry: EFAULT, or ENAMETOOLONG if no NUL is within ``limit``."""
    return Kind("string", f"task.mem.read_cstr({{a}}, {limit})", _show_path)


def pointer(show: Callable[[int, Call, int], str] = _show_address, label: str = "pointer") -> Kind:
    """An address that the handler reads or writes itself; ``show`` may print what is there."""
    return Kind(label, "{a}", show)


# --- the kinds

Int = Annotated[int, Kind("int", _INT32, _show_int, names=_INT_NAMES)]
UInt = Annotated[int, Kind("uint", "{a} & 0xFFFFFFFF", lambda value, call, index: str(value & _LOW))]
Long = Annotated[
    int, Kind("long", "({a} if {a} < 0x8000000000000000 else {a} - 0x10000000000000000)", _show_long)
]
ULong = Annotated[int, Kind("ulong", "{a}", _show_unsigned)]
Size = Annotated[int, Kind("size", "{a}", _show_unsigned)]
Off = Annotated[
    int, Kind("offset", "({a} if {a} < 0x8000000000000000 else {a} - 0x10000000000000000)", _show_long)
]
Addr = Annotated[int, pointer(label="address")]
InBuffer = Annotated[int, pointer(_show_in_buffer, "buffer")]  # an address; its size is the next argument
OutBuffer = Annotated[int, pointer(_show_out_buffer, "buffer")]  # an address; the result is how much is there
ArgvAddr = Annotated[int, pointer(_show_strings, "argv")]
EnvpAddr = Annotated[int, pointer(_show_environment, "envp")]
TimespecPtr = Annotated[int, pointer(_show_timespec, "timespec")]

Fd = Annotated[int, Kind("fd", _INT32, _show_int, names=_INT_NAMES)]  # the number as given, nothing looked up
DirFd = Annotated[int, Kind("dirfd", _INT32, _show_dirfd, names=_INT_NAMES)]  # resolved by the walk
File = Annotated[  # fdget(): EBADF at once, for O_PATH too
    "VfsFile",
    Kind("fd", "open_file(task, {a})", _show_int, names={"open_file": open_file}, resolves=True),
]
AnyFile = Annotated[  # fdget_raw(): descriptors opened with O_PATH as well
    "VfsFile", Kind("fd", f"task.fds.get({_INT32})", _show_int, names=_INT_NAMES, resolves=True)
]

PathArg = Annotated[bytes, cstring()]
PathAddr = Annotated[int, pointer(_show_path, "path")]  # read by the handler, which needs its place too
Mode = Annotated[int, Kind("mode", "{a} & 0o7777", _show_octal)]
FileMode = Annotated[int, Kind("mode", "{a} & 0xFFFF", _show_octal)]  # with the file type, for mknod(2)
Pid = Int
Uid = Annotated[int, Kind("uid", "{a} & 0xFFFFFFFF", _show_int)]  # -1 ("leave") arrives as 0xFFFFFFFF
Gid = Uid
Signal = Annotated[
    int, Kind("signal", _INT32, lambda value, call, index: signal_name(int32(value)), names=_INT_NAMES)
]
Dev = Annotated[int, Kind("dev", "{a} & 0xFFFFFFFF", lambda value, call, index: hex(value & _LOW))]

ClockId = Annotated[
    int,
    choice(
        strict=False,
        CLOCK_REALTIME=0,
        CLOCK_MONOTONIC=1,
        CLOCK_PROCESS_CPUTIME_ID=2,
        CLOCK_THREAD_CPUTIME_ID=3,
        CLOCK_MONOTONIC_RAW=4,
        CLOCK_REALTIME_COARSE=5,
        CLOCK_MONOTONIC_COARSE=6,
        CLOCK_BOOTTIME=7,
        CLOCK_REALTIME_ALARM=8,
        CLOCK_BOOTTIME_ALARM=9,
        CLOCK_TAI=11,
    ),
]
Whence = Annotated[int, choice(SEEK_SET=0, SEEK_CUR=1, SEEK_END=2, SEEK_DATA=3, SEEK_HOLE=4)]
_TMPFILE = linux.O_TMPFILE & ~linux.O_DIRECTORY
OpenFlags = Annotated[  # open(2) drops bits it does not know; openat2(2) refuses them itself
    int,
    flags(
        field(linux.O_ACCMODE, O_RDONLY=0, O_WRONLY=1, O_RDWR=2),
        ignore_unknown=True,
        # What no path makes right, as `check_combination` in sentry/vfs/open.py has it in words.
        check=f"{{a}} & {linux.O_CREAT | _TMPFILE:#x} and not {{a}} & {linux.O_PATH:#x} and ("
        f"{{a}} & {linux.O_CREAT | linux.O_DIRECTORY:#x} == {linux.O_CREAT | linux.O_DIRECTORY:#x}"
        f" or {{a}} & {_TMPFILE:#x} and (not {{a}} & {linux.O_DIRECTORY:#x} or not {{a}} & {linux.O_ACCMODE}))",
        O_CREAT=linux.O_CREAT,
        O_EXCL=linux.O_EXCL,
        O_NOCTTY=linux.O_NOCTTY,
        O_TRUNC=linux.O_TRUNC,
        O_APPEND=linux.O_APPEND,
        O_NONBLOCK=linux.O_NONBLOCK,
        O_SYNC=linux.O_SYNC,
        O_DSYNC=linux.O_DSYNC,
        FASYNC=linux.FASYNC,
        O_DIRECT=linux.O_DIRECT,
        O_LARGEFILE=linux.O_LARGEFILE,
        O_TMPFILE=linux.O_TMPFILE,
        O_DIRECTORY=linux.O_DIRECTORY,
        O_NOFOLLOW=linux.O_NOFOLLOW,
        O_NOATIME=linux.O_NOATIME,
        O_CLOEXEC=linux.O_CLOEXEC,
        O_PATH=linux.O_PATH,
    ),
]
Prot = Annotated[
    int,
    flags(
        ignore_unknown=True,
        width=64,
        PROT_NONE=0,
        PROT_READ=1,
        PROT_WRITE=2,
        PROT_EXEC=4,
        PROT_SEM=8,
        PROT_GROWSDOWN=linux.PROT_GROWSDOWN,
        PROT_GROWSUP=linux.PROT_GROWSUP,
    ),
]
MapFlags = Annotated[  # every bit reaches the handler: what is unknown depends on MAP_SHARED_VALIDATE
    int,
    Kind(
        "flags",
        "{a} & 0xFFFFFFFF",
        flags(
            field(linux.MAP_TYPE, MAP_SHARED=1, MAP_PRIVATE=2, MAP_SHARED_VALIDATE=3),
            MAP_FIXED=linux.MAP_FIXED,
            MAP_ANONYMOUS=linux.MAP_ANONYMOUS,
            MAP_32BIT=linux.MAP_32BIT,
            MAP_GROWSDOWN=linux.MAP_GROWSDOWN,
            MAP_DENYWRITE=linux.MAP_DENYWRITE,
            MAP_EXECUTABLE=linux.MAP_EXECUTABLE,
            MAP_LOCKED=linux.MAP_LOCKED,
            MAP_NORESERVE=linux.MAP_NORESERVE,
            MAP_POPULATE=linux.MAP_POPULATE,
            MAP_NONBLOCK=linux.MAP_NONBLOCK,
            MAP_STACK=linux.MAP_STACK,
            MAP_HUGETLB=linux.MAP_HUGETLB,
            MAP_SYNC=linux.MAP_SYNC,
            MAP_FIXED_NOREPLACE=linux.MAP_FIXED_NOREPLACE,
        ).show,
    ),
]


def safely(kind: Kind, value: int, call: Call, index: int) -> str:
    """``kind.show`` for values a hostile guest chose: what cannot be read is shown as the plain register."""
    try:
        return kind.show(value, call, index)
    except (LinuxError, OSError, ArithmeticError, ValueError, LookupError):
        return _show_address(value, call, index)
