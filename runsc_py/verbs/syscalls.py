"""`syscalls`: which system calls are supported, from the one table."""

import click


@click.command(short_help="show which system calls are supported")
@click.option("--format", "-f", "form", default="table", metavar="table|json", help="How to print them.")
def command(form: str) -> None:
    """Print the support table of system calls."""
    from sentry.syscalls.table import support_rows

    from runsc_py.errors import RuntimeFault

    if form not in ("table", "json"):
        raise RuntimeFault("invalid format option")
    rows = [list(row) for row in support_rows()]
    if form == "json":
        import json

        click.echo(json.dumps(rows))
        return
    widths: list[int] = []
    for row in rows:
        for column, cell in enumerate(row[:-1]):
            if column == len(widths):
                widths.append(0)
            widths[column] = max(widths[column], len(str(cell)))
    for row in rows:
        cells = [str(cell).ljust(width) for cell, width in zip(row, widths, strict=False)] + [str(row[-1])]
        click.echo("  ".join(cells).rstrip())
