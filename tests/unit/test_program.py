"""sentry/kernel/program.py: which program a path means, or why none: beside the host's own execve, then by itself."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sentry.abi.linux import (
    AT_EMPTY_PATH,
    AT_FDCWD,
    AT_SYMLINK_NOFOLLOW,
    CAP_KILL,
    CAP_SETUID,
    MS_NOEXEC,
    MS_NOSUID,
)
from sentry.errors import EACCES, EBADF, EINVAL, ELOOP, ENOENT, ETXTBSY
from sentry.kernel import program
from sentry.kernel.elf import ET_DYN, PT_INTERP
from sentry.kernel.program import Program, find
from sentry.syscalls import files, paths, xattrs
from tests.unit.test_elf import image, phdr
from tests.unit.test_tmpfs import write
from tests.unit.vfs_rig import Rig, user

# mov $60, %eax; xor %edi, %edi; syscall
EXIT = bytes.fromhex("b83c00000031ff0f05")
TINY = image(phdr(filesz=120 + len(EXIT)), entry=0x400078) + EXIT


def dynamic(interp: bytes, **changes: Any) -> bytes:
    """A program with an interpreter."""
    head = phdr(PT_INTERP, offset=changes.pop("offset", 176), filesz=changes.pop("size", len(interp)))
    return image(head, phdr(vaddr=0, filesz=0x100), kind=ET_DYN, entry=0x10, **changes) + interp.ljust(256, b"\0")


def dyn_tiny() -> bytes:
    return image(phdr(vaddr=0, filesz=120 + len(EXIT)), kind=ET_DYN, entry=0x78) + EXIT


def beside(folder: bytes) -> bytes:
    """A program whose interpreter is `ld` in the same folder."""
    return dynamic(folder + b"/ld\0")


# name: the files, {dir}-relative; "run" is executed. A missing mode is 0755.
CASES: dict[str, dict[str, Any]] = {
    "a program": {"run": TINY},
    "no permission": {"run": (TINY, 0o644)},
    "a directory": {"run": None},
    "nothing": {},
    "empty": {"run": b""},
    "text": {"run": b"hello, world\n"},
    "a short header": {"run": TINY[:63]},
    "headers cut off": {"run": TINY[:100]},
    "headers behind the end": {"run": TINY[:32] + struct.pack("<Q", 1 << 40) + TINY[40:]},
    "headers at a negative place": {"run": TINY[:32] + struct.pack("<Q", (1 << 64) - 64) + TINY[40:]},
    "another machine": {"run": image(phdr(), machine=183) + bytes(4096)},
    "an object file": {"run": image(phdr(), kind=1) + bytes(4096)},
    "script": {"run": b"#!{dir}/tiny\n", "tiny": TINY},
    "script with an argument": {"run": b"#! \t{dir}/tiny \t one two \t\n", "tiny": TINY},
    "script with a tab, then a space": {"run": b"#!{dir}/tiny\tone two\n", "tiny": TINY},
    "script without a newline": {"run": b"#!{dir}/tiny", "tiny": TINY},
    "script with a NUL": {"run": b"#!{dir}/tiny\0rest\n", "tiny": TINY},
    "script without interpreter": {"run": b"#!\n"},
    "script of blanks": {"run": b"#!  \t \n"},
    "script of two bytes": {"run": b"#!"},
    "script with a missing interpreter": {"run": b"#!{dir}/missing\n"},
    "script with a carriage return": {"run": b"#!{dir}/tiny\r\n", "tiny": TINY},
    "script with a directory": {"run": b"#!{dir}/folder\n", "folder": None},
    "script whose interpreter may not run": {"run": b"#!{dir}/tiny\n", "tiny": (TINY, 0o644)},
    "script whose interpreter is text": {"run": b"#!{dir}/text\n", "text": b"text"},
    "script in a script": {"run": b"#!{dir}/a x\n", "a": b"#!{dir}/tiny y\n", "tiny": TINY},
    "script of itself": {"run": b"#!{dir}/run\n"},
    "line longer than is looked at": {"run": b"#!{dir}/" + b"x" * 300 + b"\n"},
    "argument longer than is looked at": {"run": b"#!{dir}/tiny " + b"x" * 300 + b"\n", "tiny": TINY},
    "blanks longer than is looked at": {"run": b"#!{dir}/tiny" + b" " * 300 + b"\n", "tiny": TINY},
    "only blanks for longer": {"run": b"#!" + b" " * 300 + b"\n"},
    "missing ELF interpreter": {"run": dynamic(b"/nowhere/ld.so\0")},
    "ELF interpreter's name without a NUL": {"run": dynamic(b"{dir}/tiny", size=4)},
    "ELF interpreter's name cut off": {"run": dynamic(b"/nowhere/ld.so\0", size=4000)},
    "ELF interpreter's name too long": {"run": dynamic(b"/nowhere/ld.so\0", size=4097)},
    "ELF interpreter's name too short": {"run": dynamic(b"\0", size=1)},
    "ELF interpreter that may not run": {"run": dynamic(b"/etc/passwd\0"), "/etc/passwd": (b"x", 0o644)},
    "ELF interpreter that is a directory": {"run": dynamic(b"/etc\0"), "/etc": None},
    "ELF interpreter's name at a negative place": {"run": dynamic(b"/x\0", offset=(1 << 64) - 8)},
    "ELF interpreter's name behind the end": {"run": dynamic(b"/x\0", offset=1 << 40)},
    "ELF interpreter": {"run": beside, "ld": dyn_tiny()},
    "ELF interpreter that is text": {"run": beside, "ld": b"text" * 50},
    "ELF interpreter that is short": {"run": beside, "ld": b"text"},
    "ELF interpreter of headers cut off": {"run": beside, "ld": TINY[:70]},
    "ELF interpreter of another machine": {"run": beside, "ld": image(phdr(), machine=183) + bytes(999)},
    "ELF interpreter that is a link": {"run": dynamic(b"/proc/self/exe\0", size=3)},
    "nothing to load": {"run": image(phdr(PT_INTERP + 3)) + bytes(100)},
    **{
        f"{count} scripts": {
            "run": b"#!{dir}/1\n",
            **{str(n): b"#!{dir}/%d\n" % (n + 1) for n in range(1, count)},
            str(count): TINY,
        }
        for count in (4, 5, 6)
    },
}
# The host gets to the point of no return with it and kills the process; here it is known before.
LATER_ON_LINUX = {"nothing to load"}


def host_errno(folder: Path, case: dict[str, Any]) -> int:
    for name, content in case.items():
        if name.startswith("/"):
            continue  # is there
        data, mode = content if isinstance(content, tuple) else (content, 0o755)
        if callable(data):
            data = data(os.fsencode(folder))
        if data is None:
            (folder / name).mkdir()
        else:
            (folder / name).write_bytes(data.replace(b"{dir}", os.fsencode(folder)))
            (folder / name).chmod(mode)
    try:
        pid = os.posix_spawn(folder / "run", ["run"], {})
    except OSError as error:
        return error.errno or 0
    os.waitpid(pid, 0)
    return 0


@pytest.fixture
def rig() -> Iterator[Rig]:
    made = Rig()
    yield made
    made.close()


def put(rig: Rig, path: bytes, data: bytes | None, mode: int = 0o755) -> None:
    if data is None:
        rig.call(paths.sys_mkdir, path, 0o755)
        return
    write(rig, path, data)
    place = rig.call(lambda task: resolved(task, path))
    place.inode.mode = place.inode.mode & ~0o7777 | mode


async def resolved(task: Any, path: bytes) -> Any:
    from sentry.vfs.walk import resolve

    return await resolve(task, AT_FDCWD, path)


def tree(rig: Rig, case: dict[str, Any], folder: bytes = b"/d") -> None:
    put(rig, folder, None)
    for name, content in case.items():
        data, mode = content if isinstance(content, tuple) else (content, 0o755)
        if callable(data):
            data = data(folder)
        path = folder + b"/" + name.encode()
        if name.startswith("/"):
            path = name.encode()
            if path.count(b"/") > 1:
                put(rig, os.path.dirname(path), None)
        put(rig, path, None if data is None else data.replace(b"{dir}", folder), mode)


def found(rig: Rig, path: bytes, dirfd: int = AT_FDCWD, flags: int = 0) -> Program:
    return rig.call(find, dirfd, path, flags)


@pytest.mark.parametrize("name", CASES)
def test_execve_fails_as_the_hosts(name: str, rig: Rig, tmp_path: Path) -> None:
    case = CASES[name]
    expected = host_errno(tmp_path, case)
    tree(rig, case)
    got = rig.errno(find, AT_FDCWD, b"/d/run")
    if name in LATER_ON_LINUX:
        assert got
    else:
        assert got == expected


# --- what is found


def test_a_program_is_named_after_its_path(rig: Rig) -> None:
    tree(rig, {"run": TINY})
    plain = found(rig, b"/d/run")
    assert (plain.path, plain.comm, plain.argv_head, plain.secure, plain.readable) == (b"/d/run", b"run", None, False, True)
    assert plain.elf.entry == 0x400078 and plain.interp_file is None


def test_a_link_is_followed_but_gives_the_name(rig: Rig) -> None:
    tree(rig, {"run": TINY})
    rig.call(paths.sys_symlink, b"d/run", b"/link")
    linked = found(rig, b"/link")
    assert (linked.path, linked.comm) == (b"/link", b"link")
    assert linked.place.dentry.name == b"run"
    with pytest.raises(ELOOP):
        found(rig, b"/link", flags=AT_SYMLINK_NOFOLLOW)


def test_a_script_becomes_its_interpreters_argument(rig: Rig) -> None:
    tree(rig, {"run": b"#! {dir}/a  first second\t\n", "a": b"#!{dir}/tiny\tx\n", "tiny": TINY})
    script = found(rig, b"/d/run")
    assert script.argv_head == [b"/d/tiny", b"x", b"/d/a", b"first second", b"/d/run"]
    assert script.place.dentry.name == b"tiny" and script.comm == b"run" and script.path == b"/d/run"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"#!/bin/sh\n", [b"/bin/sh"]),
        (b"#!/bin/sh\t-e\n", [b"/bin/sh", b"-e"]),
        (b"#!/bin/sh\t-e x\n", [b"/bin/sh", b"-e x"]),
        (b"#!/bin/sh -e\tx \n", [b"/bin/sh", b"-e\tx"]),
        (b"#!/bin/sh -e\0x\n", [b"/bin/sh", b"-e"]),
        (b"#!/bin/sh\0-e\n", [b"/bin/sh"]),
        (b"#!/bin/sh", [b"/bin/sh"]),
        (b"#! sh\n", [b"sh"]),
        ((b"#!/bin/sh " + b"x" * 300)[:256], [b"/bin/sh", b"x" * 246]),
        ((b"#!/bin/sh" + b" " * 300)[:256], [b"/bin/sh"]),
    ],
)
def test_words_of_a_script(line: bytes, words: list[bytes]) -> None:
    assert program._script_words(line) == words


def test_an_elf_interpreter_is_looked_up_from_the_root(rig: Rig) -> None:
    tree(rig, {"run": dynamic(b"/lib/ld.so\0"), "/lib/ld.so": dyn_tiny()})
    loaded = found(rig, b"/d/run")
    assert loaded.interp_file is not None and loaded.interp_elf is not None
    assert loaded.interp_elf.entry == 0x78


def test_execveat_of_a_descriptor(rig: Rig) -> None:
    tree(rig, {"run": TINY})
    fd = rig.call(files.sys_open, b"/d/run", os.O_RDONLY, 0)
    folder = rig.call(files.sys_open, b"/d", os.O_RDONLY, 0)
    whole = found(rig, b"", fd, AT_EMPTY_PATH)
    assert (whole.path, whole.comm) == (b"/dev/fd/%d" % fd, b"run")
    beneath = found(rig, b"run", folder)
    assert beneath.path == b"/dev/fd/%d/run" % folder
    assert found(rig, b"/d/run", folder).path == b"/d/run"
    for args, error in (
        ((fd, b"", 0), ENOENT),
        ((99, b"", AT_EMPTY_PATH), EBADF),
        ((fd, b"", 0x40), ENOENT),
        ((fd, b"", 0x40 | AT_EMPTY_PATH), EINVAL),
        ((folder, b"", AT_EMPTY_PATH), EACCES),
    ):
        with pytest.raises(error):
            found(rig, args[1], args[0], args[2])


# --- permission


def test_a_mount_without_exec_runs_nothing(rig: Rig) -> None:
    tree(rig, {"run": b"#!{dir}/tiny\n", "tiny": TINY})
    rig.mounts.root.flags |= MS_NOEXEC
    for path in (b"/d/run", b"/d/tiny"):
        with pytest.raises(EACCES):
            found(rig, path)


def test_a_user_needs_execute_not_read(rig: Rig) -> None:
    tree(rig, {"run": (TINY, 0o711), "mine": (TINY, 0o700), "cwd": None})
    other = rig.sub(user(5, 5))
    hidden = other.call(find, AT_FDCWD, b"/d/run")
    assert not hidden.readable
    assert other.errno(find, AT_FDCWD, b"/d/mine") == EACCES.errno


def owned(rig: Rig, mode: int, uid: int = 7, gid: int = 8) -> Any:
    tree(rig, {"run": (TINY, mode), "script": (b"#!{dir}/run\n", mode)})
    for name in (b"/d/run", b"/d/script"):
        inode = rig.call(lambda task, name=name: resolved(task, name)).inode
        inode.uid, inode.gid = uid, gid
    return rig.sub(user(5, 5))


def test_set_id_bits_change_who_runs_it(rig: Rig) -> None:
    made = owned(rig, 0o6755).call(find, AT_FDCWD, b"/d/run")
    assert (made.creds.uid, made.creds.euid, made.creds.egid, made.secure) == (5, 7, 8, True)


def test_set_gid_without_group_execute_is_a_locking_mark(rig: Rig) -> None:
    made = owned(rig, 0o2745).call(find, AT_FDCWD, b"/d/run")
    assert (made.creds.egid, made.secure) == (5, False)


def test_set_id_bits_of_a_scripts_interpreter_count_and_not_the_scripts(rig: Rig) -> None:
    other = owned(rig, 0o6755)
    rig.call(lambda task: resolved(task, b"/d/script")).inode.uid = 9
    assert other.call(find, AT_FDCWD, b"/d/script").creds.euid == 7


@pytest.mark.parametrize("why", ["nosuid", "no_new_privs"])
def test_set_id_bits_that_do_not_count(rig: Rig, why: str) -> None:
    other = owned(rig, 0o6755)
    if why == "script":
        resolved_inode = rig.call(lambda task: resolved(task, b"/d/run")).inode
        resolved_inode.mode &= 0o100755
        assert other.call(find, AT_FDCWD, b"/d/script").creds.euid == 5
        return
    if why == "nosuid":
        rig.mounts.root.flags |= MS_NOSUID
    else:
        other.task.creds = other.task.creds._replace(no_new_privs=True)
    assert other.call(find, AT_FDCWD, b"/d/run").creds.euid == 5


@pytest.mark.parametrize(("holds_back", "euid"), [(True, 5), (False, 7)])
def test_a_tracer_may_hold_a_program_back(rig: Rig, holds_back: bool, euid: int) -> None:
    other = owned(rig, 0o6755)
    other.task.tracee = SimpleNamespace(holds_back=holds_back)
    made = other.call(find, AT_FDCWD, b"/d/run")
    assert made.creds.euid == euid and made.secure


def test_set_id_bits_of_a_scripts_interpreter_count(rig: Rig) -> None:
    other = owned(rig, 0o6755)
    resolved_inode = rig.call(lambda task: resolved(task, b"/d/script")).inode
    resolved_inode.mode &= 0o100755
    assert other.call(find, AT_FDCWD, b"/d/script").creds.euid == 7


def test_file_capabilities_are_given(rig: Rig) -> None:
    other = owned(rig, 0o755)
    data = struct.pack("<IIIII", 0x02000001, 1 << CAP_KILL, 0, 0, 0)
    mem = rig.task.mem
    mem.write(mem.BASE, data)
    rig.call(xattrs.sys_setxattr, b"/d/run", mem.put(b"security.capability"), mem.BASE, len(data), 0)
    made = other.call(find, AT_FDCWD, b"/d/run")
    assert made.creds.cap_effective == 1 << CAP_KILL and made.secure and made.gains
    rig.mounts.root.flags |= MS_NOSUID
    assert not other.call(find, AT_FDCWD, b"/d/run").creds.cap_permitted


def test_a_file_that_is_being_written_is_not_run(rig: Rig) -> None:
    tree(rig, {"run": TINY, "script": b"#!{dir}/run\n"})
    fd = rig.call(files.sys_open, b"/d/run", os.O_WRONLY, 0)
    for name in (b"/d/run", b"/d/script"):
        with pytest.raises(ETXTBSY):
            found(rig, name)
    rig.task.fds.close(fd)
    found(rig, b"/d/script")


def test_a_script_behind_a_descriptor_that_will_be_closed_has_no_name(rig: Rig) -> None:
    tree(rig, {"run": b"#!{dir}/tiny\n", "tiny": TINY})
    fd = rig.call(files.sys_open, b"/d/run", os.O_RDONLY, 0)
    assert found(rig, b"", fd, AT_EMPTY_PATH).comm == b"tiny"
    rig.task.fds.set_cloexec(fd, True)
    with pytest.raises(ENOENT):
        found(rig, b"", fd, AT_EMPTY_PATH)


def test_set_id_root_gives_root_capabilities(rig: Rig) -> None:
    made = owned(rig, 0o4755, uid=0).call(find, AT_FDCWD, b"/d/run")
    assert made.creds.has_cap(CAP_SETUID)
