"""Names in the spec to numbers of the kernel: mount options, capabilities, rlimits, signals."""

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_SYNCHRONOUS, MS_REMOUNT = 1, 2, 4, 8, 16, 32
MS_MANDLOCK, MS_DIRSYNC, MS_NOSYMFOLLOW, MS_NOATIME, MS_NODIRATIME = 64, 128, 256, 1024, 2048
MS_BIND, MS_REC, MS_SILENT, MS_RELATIME, MS_I_VERSION = 4096, 16384, 32768, 1 << 21, 1 << 23
MS_STRICTATIME, MS_LAZYTIME = 1 << 24, 1 << 25

# option -> (flags to set, flags to clear)
_MOUNT_FLAGS: dict[str, tuple[int, int]] = {
    "async": (0, MS_SYNCHRONOUS),
    "atime": (0, MS_NOATIME),
    "bind": (MS_BIND, 0),
    "defaults": (0, 0),
    "dev": (0, MS_NODEV),
    "diratime": (0, MS_NODIRATIME),
    "dirsync": (MS_DIRSYNC, 0),
    "exec": (0, MS_NOEXEC),
    "iversion": (MS_I_VERSION, 0),
    "lazytime": (MS_LAZYTIME, 0),
    "loud": (0, MS_SILENT),
    "mand": (MS_MANDLOCK, 0),
    "noatime": (MS_NOATIME, 0),
    "nodev": (MS_NODEV, 0),
    "nodiratime": (MS_NODIRATIME, 0),
    "noexec": (MS_NOEXEC, 0),
    "noiversion": (0, MS_I_VERSION),
    "nolazytime": (0, MS_LAZYTIME),
    "nomand": (0, MS_MANDLOCK),
    "norelatime": (0, MS_RELATIME),
    "nostrictatime": (0, MS_STRICTATIME),
    "nosuid": (MS_NOSUID, 0),
    "nosymfollow": (MS_NOSYMFOLLOW, 0),
    "rbind": (MS_BIND | MS_REC, 0),
    "relatime": (MS_RELATIME, 0),
    "remount": (MS_REMOUNT, 0),
    "ro": (MS_RDONLY, 0),
    "rw": (0, MS_RDONLY),
    "silent": (MS_SILENT, 0),
    "strictatime": (MS_STRICTATIME, 0),
    "suid": (0, MS_NOSUID),
    "symfollow": (0, MS_NOSYMFOLLOW),
    "sync": (MS_SYNCHRONOUS, 0),
}
# Recursive attributes: the guest sees one mount per bind, so they are the plain ones.
_RECURSIVE = ("ro", "rw", "atime", "dev", "diratime", "exec", "noatime", "nodev", "nodiratime", "noexec",
              "norelatime", "nostrictatime", "nosuid", "nosymfollow", "relatime", "strictatime", "suid",
              "symfollow")  # fmt: skip
for _name in _RECURSIVE:
    _MOUNT_FLAGS["r" + _name] = _MOUNT_FLAGS[_name]
# Propagation means nothing inside: a sandbox has one mount namespace of its own.
_PROPAGATION = ("private", "shared", "slave", "unbindable")
_IGNORED = {p for name in _PROPAGATION for p in (name, "r" + name)} | {"idmap", "ridmap"}

MOUNT_OPTIONS = sorted({*_MOUNT_FLAGS, *_IGNORED, "tmpcopyup"} - {"idmap", "ridmap"})


def parse_mount_options(options: list[str]) -> tuple[int, list[str]]:
    """Options of a mount -> MS_* flags and the filesystem's own data."""
    flags, data = 0, []
    for option in options:
        if option in _MOUNT_FLAGS:
            on, off = _MOUNT_FLAGS[option]
            flags = (flags | on) & ~off
        elif option and option not in _IGNORED:
            data.append(option)
    return flags, data


CAPABILITIES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]
_CAPABILITY_BITS = {name: 1 << bit for bit, name in enumerate(CAPABILITIES)}
ALL_CAPABILITIES = (1 << len(CAPABILITIES)) - 1
DEFAULT_CAPABILITIES = "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW " \
    "SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"  # fmt: skip


def capability_mask(names: list[str] | None, unknown: list[str] | None = None) -> int:
    """Names such as CAP_CHOWN -> a mask; names this kernel does not know are appended to `unknown`."""
    mask = 0
    for name in names or ():
        bit = _CAPABILITY_BITS.get(name.upper().removeprefix("CAP_"))
        if bit is not None:
            mask |= bit
        elif unknown is not None and name not in unknown:
            unknown.append(name)
    return mask


RLIMITS = {
    f"RLIMIT_{name}": number
    for number, name in enumerate(
        [
            "CPU",
            "FSIZE",
            "DATA",
            "STACK",
            "CORE",
            "RSS",
            "NPROC",
            "NOFILE",
            "MEMLOCK",
            "AS",
            "LOCKS",
            "SIGPENDING",
            "MSGQUEUE",
            "NICE",
            "RTPRIO",
            "RTTIME",
        ]
    )
}

SIGNALS = {
    name: number
    for number, name in enumerate(
        [
            "HUP",
            "INT",
            "QUIT",
            "ILL",
            "TRAP",
            "ABRT",
            "BUS",
            "FPE",
            "KILL",
            "USR1",
            "SEGV",
            "USR2",
            "PIPE",
            "ALRM",
            "TERM",
            "STKFLT",
            "CHLD",
            "CONT",
            "STOP",
            "TSTP",
            "TTIN",
            "TTOU",
            "URG",
            "XCPU",
            "XFSZ",
            "VTALRM",
            "PROF",
            "WINCH",
            "IO",
            "PWR",
            "SYS",
        ],
        1,
    )
}
SIGNALS |= {"IOT": 6, "POLL": 29, "CLD": 17, "RTMIN": 34, "RTMAX": 64}


def parse_signal(text: str) -> int | None:
    """`9`, `KILL`, `SIGKILL`, `rtmin+2` -> the number; None when there is no such signal."""
    if text.isascii() and text.isdigit():
        number = int(text)
        return number if 0 <= number <= 64 else None
    name = text.upper().removeprefix("SIG")
    if name in SIGNALS:
        return SIGNALS[name]
    for base, sign in (("RTMIN+", 1), ("RTMAX-", -1)):
        if name.startswith(base) and name[6:].isdigit():
            number = SIGNALS[base[:5]] + sign * int(name[6:])
            return number if 34 <= number <= 64 else None
    return None
