"""Where cgroups are on this host: v1 hierarchies, the unified one (v2), or both (hybrid)."""

import os


class Hierarchy:
    """One mounted cgroup filesystem. `name` is its controllers' (v1) or "" for the unified one."""

    __slots__ = ("controllers", "mountpoint", "own", "root", "unified")

    def __init__(self, mountpoint: str, controllers: tuple[str, ...], unified: bool, root: str = "/") -> None:
        self.mountpoint = mountpoint
        self.controllers = controllers
        self.unified = unified
        self.root = root  # the part of the hierarchy that the mount shows
        self.own = "/"  # the caller's own cgroup in it, or, where v2 is alone, the one above

    def directory(self, path: str) -> str:
        """The directory of cgroup `path`: absolute from the hierarchy's root, else below the caller's own."""
        if not path.startswith("/"):
            own = self.own
            if self.root != "/" and own.startswith(self.root):
                own = own[len(self.root) :]
            path = os.path.join("/", own.lstrip("/"), path)
        return self.mountpoint + os.path.normpath("/" + path.lstrip("/"))


def detect(mountinfo: str = "/proc/self/mountinfo", own: str = "/proc/self/cgroup") -> list[Hierarchy]:
    """The hierarchies of this host, v1 ones first. A hierarchy mounted twice counts once."""
    found: dict[tuple[str, ...], Hierarchy] = {}
    try:
        with open(mountinfo, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    for line in lines:
        left, _, right = line.partition(" - ")
        if not right.startswith(("cgroup ", "cgroup2 ")):
            continue
        fields, tail = left.split(" "), right.split(" ")
        mountpoint = fields[4].replace("\\040", " ")
        if tail[0] == "cgroup2":
            key: tuple[str, ...] = ("",)
            hierarchy = Hierarchy(mountpoint, _available(mountpoint), True, fields[3])
        else:
            options = [o for o in tail[2].split(",") if o not in _GENERIC and not o.startswith(_GENERIC_PREFIX)]
            key = tuple(sorted(options))
            hierarchy = Hierarchy(mountpoint, key, False, fields[3])
        if key and key not in found:
            found[key] = hierarchy
    _own_cgroups(found, own)
    return sorted(found.values(), key=lambda h: h.unified)


_GENERIC = {"rw", "ro", "xattr", "noprefix", "clone_children", "nsdelegate", "cpuset_v2_mode"}
_GENERIC_PREFIX = ("release_agent=", "gid=", "uid=")


def _available(mountpoint: str) -> tuple[str, ...]:
    try:
        with open(f"{mountpoint}/cgroup.controllers", encoding="ascii") as file:
            return tuple(file.read().split())
    except OSError:
        return ()


def _own_cgroups(found: dict[tuple[str, ...], Hierarchy], own: str) -> None:
    try:
        with open(own, encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        hierarchy = found.get(tuple(sorted(controllers.split(","))))
        if hierarchy is not None:
            hierarchy.own = path
    if set(found) == {("",)}:
        # v2 alone: a cgroup with processes, such as ours, can't have one with limits below it. Beside it one can be.
        found[("",)].own = os.path.dirname(found[("",)].own)
