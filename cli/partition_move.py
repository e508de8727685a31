"""`kraft partition move`: other brokers hold the partitions from then on, and nobody who reads or writes notices.

Owns the command: whose partitions, to whom, at which rate; the plan is cli/reassignment_plan.py's, the waiting
cli/reassignment_watch.py's. Refuses brokers that could not take a replica before it asks for anything.
"""

from collections.abc import Sequence
from typing import Any, Final

import click

from cli.byte_rate import parse_bytes_per_s
from cli.cluster_partitions import (
    PARTITIONS,
    Row,
    brokers_named,
    check_brokers,
    failures_told,
    in_service,
    key_of,
    list_brokers,
    list_partitions,
    parse_broker_ids,
    parse_named,
    partitions_of,
    reassignments,
    target_of,
)
from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, HttpClient
from cli.invocation import Invocation, command, current
from cli.reassignment_plan import Move, Placed, PlanError, moved_away, spread_over
from cli.reassignment_watch import ReassignmentWatch
from cli.rendering import Column, count, print_rows, size

THROTTLE: Final = f"{CLUSTER}/replication-throttle"
NO_THROTTLE: Final = "none"
NOTHING_TO_MOVE: Final = "Nothing to move: all lies where it shall lie."
AT_ONCE: Final = 10_000
GONE: Final = (404, 40401, 40402)
"""The error codes of a reassignment, a topic, a partition that is not there any more."""
_COLUMNS: Final = (
    Column("TOPIC", "topic_name"),
    Column("PARTITION", "partition_id"),
    Column("FROM", "replica_ids_before"),
    Column("TO", "replica_ids"),
    Column("COPIED TO", lambda row: row["copied_to"] or None),
)


def throttle_option(text: str) -> int | str:
    """A rate, or `none`."""
    if text == NO_THROTTLE:
        return text
    try:
        return parse_bytes_per_s(text)
    except ValueError as error:
        raise click.BadParameter(f"{text}: expected {error}, or none.") from None


@command()
@click.argument("names", metavar="[TOPIC[:PARTITION,...]...]", nargs=-1)
@click.option("--to", "to_text", metavar="IDS", help="The brokers that shall hold them, such as 2,3,4.")
@click.option("--from", "from_text", metavar="IDS", help="Only replace the replicas that lie on these brokers.")
@click.option("--all", "is_all", is_flag=True, help="Every partition of the cluster.")
@click.option("-r", "--replication-factor", type=click.IntRange(min=1), metavar="N", help="[default: as they have]")
@click.option(
    "--throttle", type=throttle_option, metavar="RATE", help="What each broker may fetch a second for it: 50MB; none."
)
@click.option("--wait/--no-wait", "waits", default=True, help="Until all is moved.  [default: --wait]")
@click.option("--cancel", is_flag=True, help="Give up what is being moved; it lies where it lay.")
@click.option("--dry-run", is_flag=True, help="Show what would be moved.")
def move(
    *,
    names: tuple[str, ...],
    to_text: str | None,
    from_text: str | None,
    is_all: bool,
    replication_factor: int | None,
    throttle: int | str | None,
    waits: bool,
    cancel: bool,
    dry_run: bool,
) -> None:
    """Move partitions to other brokers, while they are read and written.

    \b
      kraft partition move orders --to 2,3,4        all its replicas on these, evenly, and evenly led
      kraft partition move orders:0,2 --to 4,1      these partitions only; the first is not favoured
      kraft partition move orders --to 1,2,3 -r 3   change how many replicas it has
      kraft partition move --all --from 4           empty broker 4 (or: kraft broker drain 4)
      kraft partition move orders --cancel

    As little is copied as an even result allows. New replicas catch up first, then the old ones go. It goes on when
    this command is interrupted: kraft partition list --reassigning
    """  # noqa: D301 - click's mark for "keep these lines"
    if bool(names) == is_all:
        raise click.UsageError("Name topics (orders) or partitions (orders:0,2), or say --all.")
    invocation = current()
    client = HttpClient.of(invocation)
    if cancel:
        _cancel(invocation, client, names)
        return
    if to_text is None and from_text is None and replication_factor is None:
        raise click.UsageError("Say where to: --to 2,3,4 (or --from, or -r).")
    to = () if to_text is None else parse_broker_ids(to_text, "--to")
    leaving = () if from_text is None else parse_broker_ids(from_text, "--from")
    rows = partitions_of(client, [parse_named(text) for text in names]) if names else list_partitions(client)
    moves = plan(client, rows, to=to, leaving=leaving, replication_factor=replication_factor)
    if dry_run:
        _show(invocation, moves)
        return
    rows = carry_out(invocation, client, moves, throttle=throttle, waits=waits)
    if invocation.format == "json":
        print_rows(invocation, (), rows)
    elif not rows and not invocation.is_machine_readable:
        click.echo(NOTHING_TO_MOVE)


def plan(
    client: HttpClient,
    rows: Sequence[Row],
    *,
    to: Sequence[int] = (),
    leaving: Sequence[int] = (),
    replication_factor: int | None = None,
) -> list[Move]:
    """What has to be moved so that `rows` lie on `to` (none: wherever there is room), or no more on `leaving`."""
    brokers = list_brokers(client)
    check_brokers(brokers, to, must_serve=True)
    check_brokers(brokers, leaving, must_serve=False)
    if both := sorted({*to} & {*leaving}):
        raise Failure(f"{brokers_named(both)} can't be in both --from and --to", ExitCode.USAGE)
    racks = {broker["broker_id"]: broker["rack"] for broker in brokers}
    candidates = list(to) or [broker["broker_id"] for broker in brokers if in_service(broker)]
    partitions = [_placed(row) for row in rows]
    try:
        if not leaving:
            return spread_over(partitions, candidates, replication_factor=replication_factor, racks=racks)
        everything = [_placed(row) for row in list_partitions(client)]
        return moved_away(
            partitions,
            {*leaving},
            candidates,
            replication_factor=replication_factor,
            racks=racks,
            everything=everything,
        )
    except PlanError as error:
        raise Failure(f"{error}: add one (kraft up --add 1), or ask for fewer with -r", ExitCode.CONFLICT) from None


def _placed(row: Row) -> Placed:
    return Placed(*key_of(row), tuple(target_of(row)), tuple(row["in_sync_replica_ids"]))


def carry_out(
    invocation: Invocation, client: HttpClient, moves: Sequence[Move], *, throttle: int | str | None, waits: bool
) -> list[Row]:
    """Ask for the moves and see them through; prints what becomes of each, but for `json`, and returns it."""
    if throttle == NO_THROTTLE:
        client.send("PUT", THROTTLE, {"bytes_per_s": None}, repeatable=True)
    if not moves:
        return []
    limit = throttle if isinstance(throttle, int) else None
    invocation.notice(_told(client, moves, limit))
    failures = _ask(client, moves, limit)
    refused = {key_of(failure) for failure in failures}
    watch = ReassignmentWatch(invocation, client, [one for one in moves if one[:2] not in refused])
    if waits:
        watch.wait()
        if limit is not None:
            _lift(client)
    rows = watch.report(waited=waits)
    if waits:
        _lead_by_first(client, [one for one in moves if one[:2] not in refused])
    if failures:
        raise Failure(failures_told(failures, "could not be moved"))
    return rows


def _ask(client: HttpClient, moves: Sequence[Move], limit: int | None) -> list[dict[str, Any]]:
    """Begin the moves; what was refused."""
    failures: list[dict[str, Any]] = []
    for start in range(0, len(moves), AT_ONCE):
        some = moves[start : start + AT_ONCE]
        wish: dict[str, Any] = {
            "reassignments": [
                {"topic_name": one.topic, "partition_id": one.partition, "replicas": list(one.replicas)} for one in some
            ]
        }
        if limit is not None:
            wish["throttle_bytes_per_s"] = limit
        failures += client.send("POST", f"{PARTITIONS}:reassign", wish, repeatable=True)["failures"]
    return failures


def _told(client: HttpClient, moves: Sequence[Move], limit: int | None) -> str:
    """What begins now, and how fast it may go."""
    copies = sum(len(one.copied) for one in moves)
    receivers = sorted({broker for one in moves for broker in one.copied})
    text = f"Moving {count(len(moves), 'partition')}"
    text += f": {count(copies, 'replica')} to copy to {brokers_named(receivers)}" if receivers else ": nothing to copy"
    if limit is None:
        limit = client.get(THROTTLE)["bytes_per_s"]
        return f"{text}, at most {size(limit)}/s (set earlier; --throttle none lifts it)." if limit else f"{text}."
    return f"{text}, at most {size(limit)}/s."


def _lift(client: HttpClient) -> None:
    """The throttle that was for this move must not slow the next; unless another is still under way."""
    if not reassignments(client):
        client.send("PUT", THROTTLE, {"bytes_per_s": None}, repeatable=True)


def _lead_by_first(client: HttpClient, moves: Sequence[Move]) -> None:
    """Where the move named another first replica, that one leads: now, not at the controller's next balance."""
    wanted = [
        {"topic_name": one.topic, "partition_id": one.partition} for one in moves if one.replicas[0] != one.before[0]
    ]
    for start in range(0, len(wanted), AT_ONCE):
        wish = {"election": "PREFERRED", "partitions": wanted[start : start + AT_ONCE]}
        client.send("POST", f"{PARTITIONS}:elect-leaders", wish, repeatable=True)


def _show(invocation: Invocation, moves: Sequence[Move]) -> None:
    rows = [
        {
            "topic_name": one.topic,
            "partition_id": one.partition,
            "replica_ids_before": list(one.before),
            "replica_ids": list(one.replicas),
            "copied_to": list(one.copied),
        }
        for one in moves
    ]
    if rows or invocation.is_machine_readable:
        print_rows(invocation, _COLUMNS, rows)
    else:
        click.echo(NOTHING_TO_MOVE)


def _cancel(invocation: Invocation, client: HttpClient, names: Sequence[str]) -> None:
    """Give up what of the named partitions (none named: of all) is being moved."""
    moving = reassignments(client)
    if names:
        wanted = {key_of(row) for row in partitions_of(client, [parse_named(text) for text in names])}
        moving = {key: row for key, row in moving.items() if key in wanted}
    wishes = [{"topic_name": topic, "partition_id": partition, "replicas": None} for topic, partition in moving]
    failures: list[dict[str, Any]] = []
    for start in range(0, len(wishes), AT_ONCE):
        answer = client.send("POST", f"{PARTITIONS}:reassign", {"reassignments": wishes[start : start + AT_ONCE]})
        # what was finished meanwhile can't be given up, and that is as well
        failures += [failure for failure in answer["failures"] if failure["error_code"] not in GONE]
    done = [{"topic_name": topic, "partition_id": partition, "state": "cancelled"} for topic, partition in moving]
    if invocation.is_machine_readable:
        print_rows(invocation, (), done)
    elif not done:
        click.echo("Nothing is being moved.")
    else:
        click.echo(f"Cancelled the move of {count(len(done), 'partition')}.")
    if failures:
        raise Failure(failures_told(failures, "could not be cancelled"))
