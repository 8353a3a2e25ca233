"""The support table: ``support_rows()`` for ``runsc-py syscalls``; ``python -m sentry.syscalls.table`` writes
docs/syscalls.md (``--check``: only says whether it is up to date).
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from sentry.abi.x86_64 import NUMBERS
from sentry.syscalls import load_all
from sentry.syscalls.declare import TABLE, Entry

DOCUMENT = "docs/syscalls.md"


class Row(NamedTuple):
    """One call's line in the table."""

    number: int
    name: str
    support: str  # full, partial, native, refused, absent
    lane: str  # where it is answered: native, C, Python, filter, none; several are joined by "+"
    family: str  # the file that declares it
    note: str  # what is missing, and why it is where it is


def support_rows() -> list[Row]:
    """All calls of the architecture in the order of their numbers, absent ones included."""
    load_all()
    rows = []
    for name, number in sorted(NUMBERS.items(), key=lambda item: item[1]):
        entry = TABLE.get(number)
        if entry is None or entry.support == "absent":
            rows.append(Row(number, name, "absent", "none", "", "ENOSYS"))
        else:
            rows.append(Row(number, name, entry.support, _lane(entry), _family(entry), _note(entry)))
    return rows


def counts(rows: list[Row]) -> dict[str, int]:
    """How many calls have each level of support."""
    totals = dict.fromkeys(("full", "partial", "native", "refused", "absent"), 0)
    for row in rows:
        totals[row.support] += 1
    return totals


def _lane(entry: Entry) -> str:
    if entry.refused is not None:
        return "filter"
    lanes = ["native"] if entry.is_native else []
    if entry.fast:
        lanes.append("C")
    if entry.body is not None:
        lanes.append("Python")
    return "+".join(lanes)


def _family(entry: Entry) -> str:
    return entry.family.rpartition(".")[2]


def _note(entry: Entry) -> str:
    notes = []
    if entry.partial:
        notes.append(entry.partial)
    if entry.refused is not None:
        notes.append(f"{entry.refused.__name__}: {entry.why}" if entry.why else entry.refused.__name__)
    if entry.is_native:
        condition = f" when {entry.when.text}" if entry.when is not None else ""
        notes.append(f"native{condition}: {entry.why}")
        if entry.when is not None and entry.body is None:
            notes.append(f"otherwise {entry.otherwise.__name__}")
    if entry.fast:
        notes.append(f"C: {entry.fast}")
    if entry.may_continue:
        notes.append(f"may be continued by the host: {entry.may_continue}")
    return "; ".join(notes)


def markdown(rows: list[Row]) -> str:
    """docs/syscalls.md."""
    totals = counts(rows)
    lines = [
        "# System calls",
        "",
        "Generated from `sentry/syscalls/` by `python -m sentry.syscalls.table`; do not edit.",
        "",
        "| support | calls | meaning |",
        "|---|---|---|",
        f"| full | {totals['full']} | answered by the sentry as Linux does |",
        f"| partial | {totals['partial']} | answered by the sentry; the note says what is missing |",
        f"| native | {totals['native']} | answered by the host kernel; the note says why that is safe |",
        f"| refused | {totals['refused']} | always fails, in the guest's filter |",
        f"| absent | {totals['absent']} | ENOSYS, and one line in the log |",
        "",
        "Lanes: *native* is the host kernel, *C* the sentry's fast path, *Python* a handler, *filter* the"
        " seccomp program itself. A call with several is answered by the first that can.",
        "",
        "| nr | call | support | lane | declared in | note |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        note = row.note.replace("|", "\\|")
        lines.append(f"| {row.number} | `{row.name}` | {row.support} | {row.lane} | {row.family} | {note} |")
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Writes the document, or with ``--check`` says whether it is what would be written."""
    text = markdown(support_rows())
    if "--check" in arguments:
        with open(DOCUMENT, encoding="utf-8") as document:
            fresh = document.read() == text
        if not fresh:
            sys.stderr.write(f"{DOCUMENT} is out of date: run python -m sentry.syscalls.table\n")
        return 0 if fresh else 1
    with open(DOCUMENT, "w", encoding="utf-8") as document:
        document.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
