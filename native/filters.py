"""The seccomp programs of our own processes: rules, compiled to BPF by libseccomp.

    program = filters.compiled(RULES)      # while files can still be opened
    filters.load(program)                  # for all threads of this process; a call no rule names fails with EPERM

To import pyseccomp takes longer than bare Python does to start, so `make native` compiles the rules that it finds
(scripts/build_filters.py writes native/_filters.py). Rules that are not among those, word for word, are compiled here.
"""

import os

from native._core import ffi, lib

ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
EQUAL = 0xFFFF_FFFF_FFFF_FFFF  # the mask of a comparison of the whole argument

# (action, call, conditions that must all hold): (number of the argument, mask, value)
Rule = tuple[int, str, tuple[tuple[int, int, int], ...]]
Rules = tuple[Rule, ...]


def allow(*names: str) -> Rules:
    return tuple((ALLOW, name, ()) for name in names)


def compiled(rules: Rules) -> bytes:
    """The program: struct sock_filter instructions."""
    try:
        from native._filters import PROGRAMS
    except ImportError:
        return compile_now(rules)
    found: bytes | None = PROGRAMS.get(rules)
    return compile_now(rules) if found is None else found


def compile_now(rules: Rules) -> bytes:
    import pyseccomp

    program = pyseccomp.SyscallFilter(pyseccomp.ERRNO(1))
    for action, name, conditions in rules:
        arguments = [pyseccomp.Arg(n, pyseccomp.MASKED_EQ, mask, value) for n, mask, value in conditions]
        program.add_rule(action, name, *arguments)
    with open(os.memfd_create("filter", os.MFD_CLOEXEC), "w+b") as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()


def load(program: bytes) -> None:
    """Needs no_new_privs. OSError when the kernel refuses."""
    result = lib.nc_load_filter(ffi.from_buffer(program), len(program) // 8)
    if result < 0:
        raise OSError(-result, f"seccomp filter: {os.strerror(-result)}")
