"""How `kraft status` looks: the verdict first, then what helps, the nodes, the partitions in trouble.

At most 80 columns wide as long as ids and names are short. Colour only says again what the words say.
"""

import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import click

from cli.cluster_partitions import TROUBLES, behind_of, name_of, state_of
from cli.data_directory import LocalCluster, shown
from cli.invocation import wants_colour
from cli.rendering import Column, count, table_lines

_STATE_COLOURS: Final = {"ready": "green", "down": "red", "fenced": "red"}


def _in_sync(row: Mapping[str, Any]) -> str | None:
    if row["replicas_count"] is None:
        return None
    in_sync = row["replicas_count"] - row["out_of_sync_replicas_count"]
    return f"{in_sync:,} of {row['replicas_count']:,}"


def _behind(row: Mapping[str, Any]) -> str | None:
    lag = row["lag_offsets_total"]
    return None if lag is None else f"{lag:,}"


NODES: Final = (
    Column("NODE", "node_id"),
    Column("STATE", "state"),
    Column("ROLE", "role"),
    Column("LEADS", "leaders_count"),
    Column("IN SYNC", _in_sync),
    Column("BEHIND", _behind),
    Column("PID", "pid"),
    Column("HTTP", lambda row: row["http"].removeprefix("http://")),
    Column("KAFKA", "kafka", wide=True),
    Column("PEER", "peer", wide=True),
    Column("LOG", "log_file", wide=True),
)
PARTITIONS: Final = (
    Column("PARTITION", name_of),
    Column("LEADER", lambda row: "none" if row["leader_id"] is None else row["leader_id"]),
    Column("REPLICAS", "replica_ids"),
    Column("ISR", "in_sync_replica_ids"),
    Column("BEHIND", lambda row: behind_of(row) or None),
    Column("STATE", state_of),
)


def lines(cluster: LocalCluster, document: Mapping[str, Any], *, wide: bool) -> Iterator[str]:
    """The report, line by line."""
    word, facts = _verdict(document)
    first, *more = _wrapped(f"{word}: {facts}", indent="")
    yield _styled(word, "green" if document["healthy"] else "red") + first.removeprefix(word)
    yield from more
    for reason in document["reasons"]:
        yield from _wrapped(reason, indent="  - ")
    yield ""
    yield from _table(NODES, document["nodes"], wide=wide)
    if troubled := document["troubled_partitions"]:
        yield ""
        yield from _table(PARTITIONS, troubled, wide=wide)
        if rest := _not_shown(document):
            yield rest
    yield ""
    yield f"{_summary(document)}Data: {shown(cluster.directory)}  Cluster: {cluster.cluster_id}"


def _verdict(document: Mapping[str, Any]) -> tuple[str, str]:
    nodes = document["nodes"]
    ready = sum(row["state"] in ("ready", "draining") for row in nodes)
    facts = [f"{ready} of {count(len(nodes), 'node')} ready"]
    leader = document["leader_id"]
    if leader is not None and leader >= 0:
        facts.append(f"node {leader} leads")
    elif any(row["pid"] for row in nodes):
        facts.append("the quorum has no leader")
    counted = [(document[trouble.counted_in], trouble.words) for trouble in TROUBLES]
    facts += [f"{count(number, 'partition')} {words}" for number, words in counted if number]
    return "All well" if document["healthy"] else "NOT WELL", ", ".join(facts)


def _wrapped(text: str, *, indent: str) -> list[str]:
    """As wide as the terminal, or in one line where a program reads."""
    width = max(40, min(shutil.get_terminal_size().columns, 120) - 1) if sys.stdout.isatty() else 10_000
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent="    ")


def _table(columns: Sequence[Column], rows: Sequence[Mapping[str, Any]], *, wide: bool) -> Iterator[str]:
    kept = [column for column in columns if wide or not column.wide]
    cells = [[column.text(row) for column in kept] for row in rows]
    heading, *body = table_lines([column.heading for column in kept], cells)
    yield heading
    for line, row in zip(body, rows, strict=True):
        yield _styled_state(line, row.get("state"))


def _styled_state(line: str, state: object) -> str:
    """The node's state in its colour, wherever it stands in the line."""
    if not isinstance(state, str) or not wants_colour(sys.stdout):
        return line
    return line.replace(f" {state} ", f" {_styled(state, _STATE_COLOURS.get(state, 'yellow'))} ", 1)


def _styled(text: str, colour: str) -> str:
    return click.style(text, fg=colour, bold=True) if wants_colour(sys.stdout) else text


def _not_shown(document: Mapping[str, Any]) -> str | None:
    """How many partitions in trouble there are beyond those in the table."""
    most, state = max((document[trouble.counted_in] or 0, trouble.state) for trouble in TROUBLES)
    shown_rows = len(document["troubled_partitions"])
    return f"... {most:,} in all: kraft partition list --{state}" if most > shown_rows else None


def _summary(document: Mapping[str, Any]) -> str:
    if document["topics_count"] is None:
        return ""
    topics = count(document["topics_count"], "topic")
    partitions = f" with {count(document['partitions_count'], 'partition')}" if document["topics_count"] else ""
    return f"{topics}{partitions}.  "
