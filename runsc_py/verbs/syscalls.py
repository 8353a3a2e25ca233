"""`syscalls`: which system calls are supported, from the one table."""

from typing import TYPE_CHECKING

from runsc_py.command import Option, Verb
from runsc_py.errors import RuntimeFault

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", form: str) -> None:
    from sentry.syscalls.table import support_rows

    if form not in ("table", "json"):
        raise RuntimeFault("invalid format option")
    rows = [list(row) for row in support_rows()]
    if form == "json":
        import json

        print(json.dumps(rows))
        return
    widths: list[int] = []
    for row in rows:
        for column, cell in enumerate(row[:-1]):
            if column == len(widths):
                widths.append(0)
            widths[column] = max(widths[column], len(str(cell)))
    for row in rows:
        cells = [str(cell).ljust(width) for cell, width in zip(row, widths, strict=False)] + [str(row[-1])]
        print("  ".join(cells).rstrip())


VERB = Verb(
    "show which system calls are supported",
    [Option("--format", "-f", to="form", default="table", metavar="table|json", help="How to print them.")],
    (),
    run,
)
