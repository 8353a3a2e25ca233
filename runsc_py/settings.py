"""What the command line says about a sandbox, besides the spec. Apart, so that the parser loads little."""


class Settings:
    """What the command line says about a sandbox, besides the spec."""

    __slots__ = (
        "debug",
        "network",
        "overlay",
        "overlay_size",
        "panic_on_bug",
        "platform",
        "rootless",
        "shared_root",
        "strace",
        "strace_fd",
        "systemd_cgroup",
    )

    def __init__(self) -> None:
        self.platform = "seccomp"
        self.network = ""  # none | host | "" = as the bundle suggests
        self.overlay = False
        self.overlay_size = 0
        self.strace = False
        self.strace_fd = 2
        self.debug = False
        self.panic_on_bug = False
        self.rootless = "auto"
        self.shared_root = False  # others change the root file system too: nothing of it is trusted to stay as it was
        self.systemd_cgroup = False
