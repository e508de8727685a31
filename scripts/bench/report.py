"""What a bench prints: a small table for people, one line of JSON for machines."""

import argparse
import json
import os
import platform
from collections.abc import Mapping, Sequence


def parser(description: str) -> argparse.ArgumentParser:
    """The options that all benches share."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="print one line of JSON instead of a table")
    made.add_argument("--directory", help="where the data goes while it runs (default: the system's temporary folder)")
    return made


def show(title: str, rows: Sequence[Mapping[str, object]], *, as_json: bool) -> None:
    """Print the rows; all rows of one call have the same keys."""
    if as_json:
        machine = {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
        print(json.dumps({"bench": title, "machine": machine, "rows": rows}), flush=True)
        return
    headings = list(rows[0])
    cells = [headings, *[[shown(row[heading]) for heading in headings] for row in rows]]
    widths = [max(len(line[column]) for line in cells) for column in range(len(headings))]
    is_number = [isinstance(rows[0][heading], (int, float)) for heading in headings]
    print(f"\n{title}")
    for line in cells:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, is_number, strict=True)
        ]
        print("  " + "  ".join(padded).rstrip(), flush=True)


def shown(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 1 else f"{value:.2f}"


def bound(measured: float, *, at_most: float | None = None, at_least: float | None = None) -> str:
    """How the figure stands to its bound."""
    if at_most is not None:
        return f"{'ok' if measured <= at_most else 'OVER'} (<= {at_most:g})"
    assert at_least is not None
    return f"{'ok' if measured >= at_least else 'UNDER'} (>= {at_least:g})"
