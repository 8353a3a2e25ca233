"""Conditions on a call's registers that decide whether the host kernel may run it.

One condition compiles to Python (the dispatcher), to BPF (the guest's filter, platform/filter.py) and to a
sentence (docs/syscalls.md), so the three agree. A condition can only look at registers: what a pointer
points to may change between the check and the use. Build them with:

    masked(3, MAP_ANONYMOUS | MAP_HUGETLB, MAP_ANONYMOUS, "MAP_ANONYMOUS without MAP_HUGETLB")
    arg_in(0, {P_ALL, P_PID, P_PGID}, "idtype is P_ALL, P_PID or P_PGID")      # low 32 bits: C's int
    arg_in(1, {FUTEX_WAIT, FUTEX_WAKE}, mask=FUTEX_CMD_MASK)
    all_of(a, b), any_of(a, b)
"""

from __future__ import annotations

LOW = 0xFFFF_FFFF


class Constraint:
    """A condition on the registers a0..a5."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def python(self) -> str:
        """Source of a boolean expression over a0..a5."""
        raise NotImplementedError

    def holds(self, args: tuple[int, ...]) -> bool:
        """Whether it holds for these registers (slow; compiled entries use :meth:`python`)."""
        return bool(eval(self.python(), {f"a{index}": value for index, value in enumerate(args)}))


class Masked(Constraint):
    """``(arg & mask) == value``, 64 bits."""

    __slots__ = ("arg", "mask", "value")

    def __init__(self, arg: int, mask: int, value: int, text: str = "") -> None:
        super().__init__(text or f"arg{arg} & {mask:#x} == {value:#x}")
        self.arg = arg
        self.mask = mask & ((1 << 64) - 1)
        self.value = value

    def python(self) -> str:
        return f"a{self.arg} & {self.mask:#x} == {self.value:#x}"


class ArgIn(Constraint):
    """``(low 32 bits of arg & mask)`` is one of ``values``."""

    __slots__ = ("arg", "mask", "values")

    def __init__(self, arg: int, values: frozenset[int], mask: int, text: str = "") -> None:
        listed = ", ".join(map(str, sorted(values)))
        super().__init__(text or f"arg{arg} & {mask:#x} in {{{listed}}}")
        self.arg = arg
        self.values = tuple(sorted(value & LOW for value in values))
        self.mask = mask & LOW

    def python(self) -> str:
        return f"a{self.arg} & {self.mask:#x} in {{{', '.join(map(str, self.values))}}}"


class AllOf(Constraint):
    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Constraint, ...]) -> None:
        super().__init__(" and ".join(part.text for part in parts))
        self.parts = parts

    def python(self) -> str:
        return " and ".join(f"({part.python()})" for part in self.parts)


class AnyOf(Constraint):
    __slots__ = ("parts",)

    def __init__(self, parts: tuple[Constraint, ...]) -> None:
        super().__init__(" or ".join(part.text for part in parts))
        self.parts = parts

    def python(self) -> str:
        return " or ".join(f"({part.python()})" for part in self.parts)


def masked(arg: int, mask: int, value: int, text: str = "") -> Constraint:
    return Masked(arg, mask, value, text)


def arg_in(arg: int, values: set[int], text: str = "", *, mask: int = LOW) -> Constraint:
    return ArgIn(arg, frozenset(values), mask, text)


def all_of(*parts: Constraint) -> Constraint:
    return AllOf(parts)


def any_of(*parts: Constraint) -> Constraint:
    return AnyOf(parts)
