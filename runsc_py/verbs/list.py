"""`list`: the containers of this root."""

from typing import TYPE_CHECKING

from runsc_py.command import Option, Verb
from runsc_py.errors import RuntimeFault

if TYPE_CHECKING:
    from runsc_py.cli import Invocation


def run(invocation: "Invocation", form: str, quiet: bool) -> None:
    from runsc_py import state

    if form not in ("table", "json"):
        raise RuntimeFault("invalid format option")
    containers = state.load_all(invocation.root)
    if quiet:
        for container in containers:
            print(container.id)
        return
    rows = []
    for container in containers:
        row = container.describe()
        row["owner"] = _user_name(container.owner)
        rows.append(row)
    if form == "json":
        import json

        print(json.dumps(rows or None))
        return
    table = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    table += [(r["id"], str(r["pid"]), r["status"], r["bundle"], r["created"], r["owner"]) for r in rows]
    widths = [max(12, *(len(line[column]) + 3 for line in table)) for column in range(5)]
    for line in table:
        print("".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)) + line[5])


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"


VERB = Verb(
    "list containers",
    [
        Option("--format", "-f", to="form", default="table", metavar="table|json", help="How to print them."),
        Option("--quiet", "-q", kind="flag", help="Print ids only."),
    ],
    (),
    run,
    description="List the containers whose state is under --root.",
)
