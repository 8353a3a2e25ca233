"""User namespace maps for a spec that has none: of a plain user his subordinate ids, or his single id.

They are written by whoever makes the namespace (gofer/boot.py).
"""

import os

from runsc_py.errors import RuntimeFault

Map = list[tuple[int, int, int]]  # (inside, outside, count)


def is_rootless(flag: str) -> bool:
    """`--rootless true|false|auto`: auto means "not root of the host": root of a user namespace (podman makes one for
    a plain user and calls us in it) can set no limits either."""
    if flag in ("true", "1"):
        return True
    if flag in ("false", "0"):
        return False
    if flag in ("auto", ""):
        return os.geteuid() != 0 or in_user_namespace()
    raise RuntimeFault(f"invalid --rootless value: {flag}")


def in_user_namespace() -> bool:
    """Are we in another user namespace than the host's first?"""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as file:
            return file.read().split() != ["0", "0", "4294967295"]
    except OSError:
        return False  # a kernel without them


def default_maps() -> tuple[Map, Map]:
    """(uid map, gid map) for the caller: himself as root, then his ranges of /etc/subuid and /etc/subgid if
    the set-uid helpers newuidmap and newgidmap are there to apply them; else himself alone."""
    uid, gid = os.geteuid(), os.getegid()
    uid_map: Map = [(0, uid, 1)]
    gid_map: Map = [(0, gid, 1)]
    if uid == 0:
        return [(0, 0, 0xFFFFFFFF)], [(0, 0, 0xFFFFFFFF)]
    if _helper("newuidmap") and _helper("newgidmap"):
        names = _names(uid)
        uids, gids = _ranges("/etc/subuid", names), _ranges("/etc/subgid", names)
        if uids and gids:
            return uid_map + _lay_out(uids), gid_map + _lay_out(gids)
    return uid_map, gid_map


def _helper(name: str) -> bool:
    return any(
        os.access(os.path.join(directory, name), os.X_OK)
        for directory in (os.environ.get("PATH") or "/usr/bin:/bin:/usr/sbin:/sbin").split(":")
    )


def _names(uid: int) -> set[str]:
    names = {str(uid)}
    try:
        import pwd

        names.add(pwd.getpwuid(uid).pw_name)
    except KeyError:
        pass
    return names


def _ranges(path: str, names: set[str]) -> list[tuple[int, int]]:
    """(first, count) of each line of /etc/subuid that is the user's."""
    found = []
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                fields = line.strip().split(":")
                if len(fields) == 3 and fields[0] in names and fields[1].isdigit() and fields[2].isdigit():
                    found.append((int(fields[1]), int(fields[2])))
    except OSError:
        pass
    return [(first, count) for first, count in found if count > 0]


def _lay_out(ranges: list[tuple[int, int]]) -> Map:
    mapping, inside = [], 1
    for first, count in ranges:
        mapping.append((inside, first, count))
        inside += count
    return mapping
