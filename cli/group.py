"""`kraft group`: list, describe, seek and delete consumer groups; Kafka's words and headings."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from cli.cluster_partitions import without_links
from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, HttpClient, RequestFailure, segment
from cli.invocation import Invocation, command, current
from cli.lazy_group import LazyGroup
from cli.offsets import Point, parse_span
from cli.rendering import Column, print_rows

_HERE: Final = "cli.group"
COMMANDS: Final = {
    "list": (f"{_HERE}:list_groups", "List groups with their states."),
    "describe": (f"{_HERE}:describe", "How far a group is, partition by partition; its members."),
    "seek": (f"{_HERE}:seek", "Set an empty group's offsets anew."),
    "delete": (f"{_HERE}:delete", "Delete empty groups with their offsets."),
}
GROUPS: Final = f"{CLUSTER}/consumer-groups"
Row = dict[str, Any]


@click.group(cls=LazyGroup, lazy=COMMANDS)
def group() -> None:
    """List, describe, seek and delete consumer groups."""


def _path(name: str) -> str:
    return f"{GROUPS}/{segment(name)}"


def _start() -> tuple[Invocation, HttpClient]:
    invocation = current()
    return invocation, HttpClient.of(invocation)


# -- list -------------------------------------------------------------------------------------------------------------

_LIST_COLUMNS: Final = (
    Column("GROUP", "consumer_group_id"),
    Column("STATE", "state"),
    Column("#MEMBERS", "members_count"),
    Column("ASSIGNMENT-STRATEGY", lambda row: row["partition_assignor"] or "-", wide=True),
    Column("PROTOCOL", lambda row: row["protocol_type"] or "-", wide=True),
    Column("COORDINATOR", "coordinator_id", wide=True),
)


@command("list")
@click.option("--state", metavar="STATE", help="Only those that are stable, empty, preparing-rebalance...")
def list_groups(*, state: str | None) -> None:
    """List groups; with -q their names only."""
    invocation, client = _start()
    query = "" if state is None else f"?state={segment(state.replace('-', '_'))}"
    rows = [without_links(found) for found in client.get_list(GROUPS + query)]
    if invocation.quiet and not invocation.is_machine_readable:
        for row in rows:
            click.echo(row["consumer_group_id"])
    elif rows or invocation.is_machine_readable:
        print_rows(invocation, _LIST_COLUMNS, rows)
    else:
        invocation.notice("No groups." if state else "No groups yet: kraft consume TOPIC -g GROUP")


# -- describe ---------------------------------------------------------------------------------------------------------

_OFFSET_COLUMNS: Final = (
    Column("GROUP", "consumer_group_id"),
    Column("TOPIC", "topic_name"),
    Column("PARTITION", "partition_id"),
    Column("CURRENT-OFFSET", "current_offset"),
    Column("LOG-END-OFFSET", "log_end_offset"),
    Column("LAG", "lag"),
    Column("CONSUMER-ID", "consumer_id"),
    Column("HOST", "host"),
    Column("CLIENT-ID", "client_id"),
    Column("INSTANCE-ID", "instance_id", wide=True),
)
_MEMBER_COLUMNS: Final = (
    Column("GROUP", "consumer_group_id"),
    Column("CONSUMER-ID", "consumer_id"),
    Column("HOST", "host"),
    Column("CLIENT-ID", "client_id"),
    Column("#PARTITIONS", "partitions_count"),
    Column("ASSIGNMENT", lambda row: " ".join(row["assignment"]) or "-", wide=True),
    Column("INSTANCE-ID", "instance_id", wide=True),
)
_STATE_COLUMNS: Final = (
    Column("GROUP", "consumer_group_id"),
    Column("COORDINATOR", "coordinator_id"),
    Column("ASSIGNMENT-STRATEGY", lambda row: row["partition_assignor"] or "-"),
    Column("STATE", "state"),
    Column("#MEMBERS", "members_count"),
    Column("GENERATION", "generation_id", wide=True),
)


@command()
@click.argument("names", metavar="[GROUP...]", nargs=-1)
@click.option("--members", is_flag=True, help="Who is in it, and how many partitions each reads (wide: which).")
@click.option("--state", is_flag=True, help="Its state, coordinator and assignment strategy.")
def describe(*, names: tuple[str, ...], members: bool, state: bool) -> None:
    """How far a group is, partition by partition, and who reads what; without a name: of all groups.

    An offset is the next one to read; LAG is what can be read and was not committed, "-" where nothing was committed.
    """
    if members and state:
        raise click.UsageError("--members and --state show different things: use one of them.")
    invocation, client = _start()
    wanted = names or [found["consumer_group_id"] for found in client.get_list(GROUPS)]
    groups = [without_links(client.get(_path(name))) for name in wanted]
    for found in groups:
        if not found["members_count"]:
            invocation.notice(f"Consumer group '{found['consumer_group_id']}' has no active members.")
    if state:
        print_rows(invocation, _STATE_COLUMNS, groups)
        return
    rows: list[Row] = []
    for found in groups:
        name = found["consumer_group_id"]
        lags = [without_links(one) for one in client.get_list(f"{_path(name)}/lags")]
        rows += _members(client, name, lags) if members else lags
    if rows or invocation.is_machine_readable:
        print_rows(invocation, _MEMBER_COLUMNS if members else _OFFSET_COLUMNS, rows)


def _members(client: HttpClient, name: str, lags: Sequence[Mapping[str, Any]]) -> list[Row]:
    rows = [without_links(one) for one in client.get_list(f"{_path(name)}/consumers")]
    for row in rows:
        own = [f"{one['topic_name']}-{one['partition_id']}" for one in lags if one["consumer_id"] == row["consumer_id"]]
        row |= {"partitions_count": len(own), "assignment": own}
    return rows


# -- seek -------------------------------------------------------------------------------------------------------------

_SEEK_COLUMNS: Final = (
    Column("GROUP", "consumer_group_id"),
    Column("TOPIC", "topic_name"),
    Column("PARTITION", "partition_id"),
    Column("OLD-OFFSET", "old_offset"),
    Column("NEW-OFFSET", "new_offset"),
)


@command()
@click.argument("name", metavar="GROUP")
@click.option("--to", "to_text", metavar="WHERE", help="start, end, an offset such as 47, or @ and a time; see above.")
@click.option("--by", "shift", type=int, metavar="N", help="So many records on from where it is; -N: back.")
@click.option(
    "-t",
    "--topics",
    "topics_text",
    metavar="TOPIC[:N,N][,...]",
    multiple=True,
    help="Only these topics, or partitions of a topic.  [default: all that the group has committed]",
)
@click.option("--dry-run", is_flag=True, help="Show what would become of it, and change nothing.")
def seek(*, name: str, to_text: str | None, shift: int | None, topics_text: tuple[str, ...], dry_run: bool) -> None:
    """Set a group's offsets anew. Its consumers must be stopped.

    \b
      kraft group seek billing --to start
      kraft group seek billing --to @-1h -t orders
      kraft group seek billing --to 47 -t orders:0,2 --dry-run
      kraft group seek billing --by -100

    Times are as for kraft consume: @-1h, @2025-01-31T08:00, @1735689600000. What lies outside of a partition becomes
    its nearer end.
    """  # noqa: D301 - click's mark for "keep these lines"
    invocation, client = _start()
    if (to_text is None) == (shift is None):
        raise click.UsageError("Say where to: either --to or --by.")
    wish: Row = {"dry_run": dry_run}
    wish |= {"shift": shift} if to_text is None else _place(to_text)
    wish |= _targets(client, topics_text)
    path = f"{_path(name)}/offsets:reset"
    found = client.send("POST", path, wish, repeatable=shift is None)["data"]
    rows = [without_links(one) for one in found]
    if rows or invocation.is_machine_readable:
        print_rows(invocation, _SEEK_COLUMNS, rows)
    if not rows:
        invocation.notice(f"Group {name} has committed nothing there.")
    elif dry_run:
        invocation.notice("A dry run: nothing was changed.")


def _place(text: str) -> Row:
    try:
        span = parse_span(text, now_ms=time.time_ns() // 1_000_000)
    except ValueError as error:
        raise click.UsageError(f"--to {text}: {error}") from None
    point: Point = span.start
    if span.until is not None or (point.value and point.kind in ("start", "end")):
        raise click.UsageError(f"--to {text}: expected start, end, an offset or @ and a time; --by moves by so many.")
    if point.kind in ("start", "end"):
        return {"to": "earliest" if point.kind == "start" else "latest"}
    return {point.kind: point.value}


def _targets(client: HttpClient, texts: Sequence[str]) -> Row:
    """`orders`, `orders,events`, `orders:0,2`: as in Kafka, commas part topics until a colon begins partitions."""
    topics: list[str] = []
    partitions: list[Row] = []
    for text in texts:
        name, colon, numbers = text.partition(":")
        if not colon:
            topics += [one.strip() for one in text.split(",")]
            continue
        if not all(one.strip().isdecimal() for one in numbers.split(",")):
            raise click.UsageError(f"-t {text}: expected partition numbers after the colon, such as {name}:0,2.")
        partitions += [{"topic_name": name, "partition_id": int(one)} for one in numbers.split(",")]
    if not partitions:
        return {"topics": topics} if topics else {}
    for name in topics:
        listed = client.get_list(f"{CLUSTER}/topics/{segment(name)}/partitions")
        partitions += [{"topic_name": name, "partition_id": one["partition_id"]} for one in listed]
    return {"partitions": partitions}


# -- delete -----------------------------------------------------------------------------------------------------------


@command()
@click.argument("names", metavar="GROUP...", nargs=-1, required=True)
@click.option("--if-exists", is_flag=True, help="A group that does not exist is no failure.")
def delete(*, names: tuple[str, ...], if_exists: bool) -> None:
    """Delete groups with all that they committed. Their consumers must be stopped. This can't be undone."""
    invocation, client = _start()
    deleted = []
    for name in names:
        try:
            client.request("DELETE", _path(name))
        except RequestFailure as failure:
            if failure.outcome_is_unknown:
                message = f"{failure.message}; group {name} may have been deleted: kraft group list"
                raise Failure(message, failure.exit_code) from None
            if failure.exit_code is not ExitCode.NOT_FOUND or not if_exists:
                raise
            continue
        deleted.append({"consumer_group_id": name})
        if not invocation.is_machine_readable:
            click.echo(f"Deleted group {name}.")
    if invocation.is_machine_readable:
        print_rows(invocation, (), deleted)
