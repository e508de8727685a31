"""`kraft quorum`: the metadata quorum's leader, voters and log, as the node that answers sees them."""

from collections.abc import Mapping
from typing import Any, Final

import click

from cli.http_client import CLUSTER, HttpClient
from cli.invocation import command, current
from cli.lazy_group import LazyGroup
from cli.rendering import Column, print_document, table_lines

COMMANDS: Final = {"status": ("cli.quorum:status", "Leader, term, and how far each voter is.")}
COLUMNS: Final = (
    Column("VOTER", "node_id"),
    Column("ROLE", lambda voter: "leader" if voter.get("is_leader") else "follower"),
    Column("ENDPOINT", lambda voter: f"{voter['host']}:{voter['port']}"),
    Column("LOG-END-INDEX", "match_index"),
    Column("LAG", "lag"),
    Column("HEARD", lambda voter: None if voter.get("last_heard_ms") is None else f"{voter['last_heard_ms']} ms ago"),
)


@click.group(cls=LazyGroup, lazy=COMMANDS)
def quorum() -> None:
    """The metadata quorum."""


@command()
def status() -> None:
    """Show who leads the metadata quorum and how far each voter's log is.

    Any node asks the leader, who alone knows the others' positions; while it can't be asked they stand as "-".
    """
    invocation = current()
    document: dict[str, Any] = HttpClient.of(invocation).get(f"{CLUSTER}/quorum")
    document = {key: value for key, value in document.items() if key not in ("kind", "metadata")}
    print_document(invocation, document, _lines(document))


def _lines(document: Mapping[str, Any]) -> list[str]:
    """`kafka-metadata-quorum describe --status`, then the voters as a table."""
    leader = document.get("leader_id")
    facts = [
        ("ClusterId", document.get("cluster_id")),
        ("LeaderId", "none" if leader is None or leader < 0 else leader),
        ("LeaderEpoch", document.get("term")),
        ("CommitIndex", document.get("commit_index")),
        ("LastApplied", document.get("last_applied")),
        ("LogStartIndex", document.get("log_start_index")),
        ("LogEndIndex", document.get("log_end_index")),
    ]
    voters = [{**voter, "is_leader": voter["node_id"] == leader} for voter in document.get("voters", ())]
    rows = [[column.text(voter) for column in COLUMNS] for voter in voters]
    lines = [f"{name + ':':<16}{value}" for name, value in facts if value is not None]
    return [*lines, "", *table_lines([column.heading for column in COLUMNS], rows)]
