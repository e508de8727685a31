"""How data looks on stdout: a table with Kafka's headings for people, JSON for programs.

Rows are plain dictionaries: `--format json` prints them as they are, a table picks columns from them.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import click

from cli.invocation import Invocation, wants_colour

_NUMBER: Final = re.compile(r"-?(\d+|\d{1,3}(,\d{3})+)")
"""`1,234`, but not the ids `2,3,1`."""


class Column(NamedTuple):
    """One column: its heading, the row's key (or how to make its text), and whether only `wide` shows it."""

    heading: str
    value: str | Callable[[Mapping[str, Any]], object]
    wide: bool = False

    def text(self, row: Mapping[str, Any]) -> str:
        """The cell as a person reads it."""
        value = row.get(self.value) if isinstance(self.value, str) else self.value(row)
        return "-" if value is None else ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def print_rows(invocation: Invocation, columns: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> None:
    """A list of things: a table, a JSON array, or a JSON document on each line."""
    if invocation.format == "json":
        print_json(rows)
    elif invocation.format == "ndjson":
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
    else:
        shown = [column for column in columns if not column.wide or invocation.format == "wide"]
        for line in table_lines([c.heading for c in shown], [[c.text(row) for c in shown] for row in rows]):
            click.echo(line)


def print_json(document: object) -> None:
    """One document: indented for a person, compact for a program."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def print_document(invocation: Invocation, document: Mapping[str, Any], text: Iterable[str]) -> None:
    """One thing: its lines for a person, or one JSON document."""
    if invocation.format == "ndjson":
        click.echo(json.dumps(document, ensure_ascii=False))
    elif invocation.format == "json":
        print_json(document)
    else:
        for line in text:
            click.echo(line)


def table_lines(headings: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "") -> Iterable[str]:
    """Columns as wide as their widest cell, numbers to the right, two blanks between, nothing after the last."""
    widths = [max(len(heading), *(len(row[i]) for row in rows), 0) for i, heading in enumerate(headings)]
    right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(headings))]
    bold = wants_colour(sys.stdout)
    for number, row in enumerate([headings, *rows]):
        cells = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(row, widths, right, strict=True)
        ]
        line = indent + "  ".join(cells).rstrip()
        yield click.style(line, bold=True) if bold and number == 0 else line


def _is_number(text: str) -> bool:
    return text == "-" or _NUMBER.fullmatch(text) is not None


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 node`, `2 nodes`, `10,000 records`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def nodes_named(node_ids: Sequence[int], *, verb: bool = True) -> str:
    """`node 2 is`, `nodes 1 and 3 are`; with `verb` False without the verb."""
    *most, last = [str(node_id) for node_id in node_ids]
    if not most:
        return f"node {last} is" if verb else f"node {last}"
    return f"nodes {', '.join(most)} and {last}{' are' if verb else ''}"


def size(number_bytes: float) -> str:
    """Bytes as a person says them: `812 B`, `1.2 MB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if number_bytes < 1000 or unit == "GB":
            break
        number_bytes /= 1000
    return f"{number_bytes:.0f} {unit}" if unit == "B" else f"{number_bytes:.1f} {unit}"
