"""`kraft topic trim`: give up the oldest records of a topic, in all of its replicas."""

import time
from typing import Any, Final

import click

from cli.cluster_partitions import topic_path
from cli.failure import ExitCode, Failure
from cli.http_client import HttpClient
from cli.invocation import command, current
from cli.offsets import Point, parse_span
from cli.rendering import Column, print_rows

COLUMNS: Final = (
    Column("PARTITION", "partition_id"),
    Column("LOG-START-OFFSET", "log_start_offset"),
    Column("LOG-END-OFFSET", "high_watermark"),
    Column("DELETED", "deleted"),
)


@command()
@click.argument("name")
@click.option(
    "-o",
    "--before",
    "before",
    metavar="WHERE",
    required=True,
    help="Everything below goes: end, 47, -1000 (all but the last thousand), @2025-01-01T00:00:00Z, @-1h.",
)
@click.option(
    "-p", "--partition", "partitions", type=click.IntRange(min=0), metavar="N", multiple=True, help="Only this."
)
def trim(*, name: str, before: str, partitions: tuple[int, ...]) -> None:
    """Delete the oldest records of a topic. This can't be undone.

    \b
      kraft topic trim events -o @-24h
      kraft topic trim events -o end -p 0
    """  # noqa: D301 - click's mark for "keep these lines"
    invocation = current()
    point = _point(before)
    client = HttpClient.of(invocation)
    path = f"{topic_path(name)}/partitions"
    wanted = partitions or [row["partition_id"] for row in client.get_list(path)]
    rows = [_trimmed(client, f"{path}/{partition}", point) for partition in sorted(set(wanted))]
    print_rows(invocation, COLUMNS, rows)


def _point(text: str) -> Point:
    try:
        span = parse_span(text, now_ms=time.time_ns() // 1_000_000)
    except ValueError as error:
        raise click.UsageError(f"-o {text}: {error}.") from None
    if span.until is not None:
        raise click.UsageError(f"-o {text}: a range; name the offset before which everything goes.")
    return span.start


def _trimmed(client: HttpClient, path: str, point: Point) -> dict[str, Any]:
    query = f"?timestamp={point.value}" if point.kind == "timestamp" else ""
    known = client.get(f"{path}/offset{query}")
    earliest, latest = known["earliest_offset"], known["latest_offset"]
    match point.kind:
        case "start":
            before = earliest + point.value
        case "end":
            before = latest + point.value
        case "timestamp":
            before = known["offset"]
        case _:
            before = point.value
            if before > latest:
                raise Failure(
                    f"partition {known['partition_id']} ends at {latest}: {before} is beyond it", ExitCode.FAILURE
                )
    wanted = {"before_offset": max(earliest, min(before, latest))}
    told: dict[str, Any] = client.send("POST", f"{path}/records:trim", wanted, repeatable=True)
    return {**told, "deleted": max(0, told["log_start_offset"] - earliest)}
