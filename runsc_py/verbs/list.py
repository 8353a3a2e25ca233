"""`list`: the containers of this root."""

import click

from runsc_py.cli import Invocation
from runsc_py.errors import RuntimeFault


@click.command(short_help="list containers")
@click.option("--format", "-f", "form", default="table", metavar="table|json", help="How to print them.")
@click.option("--quiet", "-q", is_flag=True, help="Print ids only.")
@click.pass_obj
def command(invocation: Invocation, form: str, quiet: bool) -> None:
    """List the containers whose state is under --root."""
    from runsc_py import state

    if form not in ("table", "json"):
        raise RuntimeFault("invalid format option")
    containers = state.load_all(invocation.root)
    if quiet:
        for container in containers:
            click.echo(container.id)
        return
    rows = []
    for container in containers:
        row = container.describe()
        row["owner"] = _user_name(container.owner)
        rows.append(row)
    if form == "json":
        import json

        click.echo(json.dumps(rows or None))
        return
    table = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    table += [(r["id"], str(r["pid"]), r["status"], r["bundle"], r["created"], r["owner"]) for r in rows]
    widths = [max(12, *(len(line[column]) + 3 for line in table)) for column in range(5)]
    for line in table:
        click.echo("".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)) + line[5])


def _user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"#{uid}"
