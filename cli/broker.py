"""`kraft broker`: which brokers there are, emptying one that shall leave, and forgetting one that has left.

A broker leaves in three steps, each safe to stop at: `drain` moves its replicas away, then its node is stopped, then
`remove` unregisters it. For a node of this machine `kraft down --node ID --remove` does all three.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from cli.cluster_partitions import Row, check_brokers, list_brokers, list_partitions, parse_broker_ids
from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, HttpClient, RequestFailure
from cli.invocation import Invocation, command, current
from cli.lazy_group import LazyGroup
from cli.partition_move import carry_out, plan, throttle_option
from cli.rendering import Column, count, print_document, print_rows

COMMANDS: Final = {
    "list": ("cli.broker:list_all", "Which are in service, what they hold, who is behind."),
    "drain": ("cli.broker:drain", "Move everything away from a broker that shall leave."),
    "remove": ("cli.broker:remove", "Forget a broker that is empty and stopped."),
}
POLL_S: Final = 0.2


def state_of(broker: Mapping[str, Any]) -> str:
    """`in service`, `fenced` (silent, or just starting) or `stopping`."""
    return "fenced" if broker["is_fenced"] else "stopping" if broker["is_draining"] else "in service"


def endpoint_text(endpoint: Mapping[str, Any] | None) -> str | None:
    """`host:port`, with an address of IPv6 in brackets."""
    if endpoint is None:
        return None
    host = endpoint["host"]
    return f"{f'[{host}]' if ':' in host else host}:{endpoint['port']}"


def _lag_text(row: Mapping[str, Any]) -> str | None:
    total = row["lag_offsets_total"]
    return None if total is None else f"{total:,}"


COLUMNS: Final = (
    Column("BROKER", "broker_id"),
    Column("STATE", state_of),
    Column("LEADS", "leaders_count"),
    Column("REPLICAS", "replicas_count"),
    Column("OUT OF SYNC", "out_of_sync_replicas_count"),
    Column("RECORDS BEHIND", _lag_text),
    Column("HTTP", lambda row: endpoint_text(row["http"])),
    Column("KAFKA", lambda row: endpoint_text(next(iter(row["listeners"].values()), None))),
    Column("PEER", lambda row: endpoint_text(row["peer"]), wide=True),
    Column("RACK", "rack", wide=True),
    Column("EPOCH", "broker_epoch", wide=True),
)


@click.group(cls=LazyGroup, lazy=COMMANDS)
def broker() -> None:
    """Brokers: what they hold, and how one leaves."""


@command("list")
def list_all() -> None:
    """List the brokers that are registered, in service or not."""
    invocation = current()
    print_rows(invocation, COLUMNS, list_brokers(HttpClient.of(invocation), with_lag=True))


@command()
@click.argument("broker_ids", metavar="ID...", nargs=-1, required=True, type=int)
@click.option("--to", "to_text", metavar="IDS", help="Who takes them over.  [default: whoever holds least]")
@click.option("-r", "--replication-factor", type=click.IntRange(min=1), metavar="N", help="[default: as they have]")
@click.option(
    "--throttle", type=throttle_option, metavar="RATE", help="What each broker may fetch a second for it: 50MB; none."
)
@click.option("--wait/--no-wait", "waits", default=True, help="Until nothing is left.  [default: --wait]")
def drain(
    *,
    broker_ids: tuple[int, ...],
    to_text: str | None,
    replication_factor: int | None,
    throttle: int | str | None,
    waits: bool,
) -> None:
    """Move every replica of a broker to others, while all goes on; then it can be stopped and removed.

    The same as kraft partition move --all --from ID, and again for what was created there meanwhile.
    """
    invocation = current()
    to = () if to_text is None else parse_broker_ids(to_text, "--to")
    client = HttpClient.of(invocation)
    done = empty(
        invocation,
        client,
        broker_ids,
        to=to,
        replication_factor=replication_factor,
        throttle=throttle,
        waits=waits,
    )
    if invocation.format == "json":
        print_rows(invocation, (), done)
    elif not done and not invocation.is_machine_readable:
        click.echo("Nothing to move: it holds nothing." if len(broker_ids) == 1 else "Nothing to move.")


def empty(
    invocation: Invocation,
    client: HttpClient,
    broker_ids: Sequence[int],
    *,
    to: Sequence[int] = (),
    replication_factor: int | None = None,
    throttle: int | str | None = None,
    waits: bool = True,
) -> list[Row]:
    """Move everything away from these brokers, as often as something new is found there; what became of it."""
    check_brokers(list_brokers(client), broker_ids, must_serve=False)
    done: list[Row] = []
    while rows := [row for row in list_partitions(client) if {*broker_ids} & {*row["replica_ids"]}]:
        moves = plan(client, rows, to=to, leaving=broker_ids, replication_factor=replication_factor)
        if moves:
            done += carry_out(invocation, client, moves, throttle=throttle, waits=waits)
        elif waits:
            time.sleep(POLL_S)  # moves that somebody has begun
        if not waits:
            break
    return done


@command()
@click.argument("broker_id", metavar="ID", type=int)
def remove(broker_id: int) -> None:
    """Forget a broker that holds nothing and was stopped.

    Its id may be given again. Were its node started once more, it would join as a new broker, empty: what lies in its
    folders is deleted, since the cluster has assigned it nothing.
    """
    invocation = current()
    unregister(HttpClient.of(invocation), broker_id, timeout_s=invocation.timeout_s or 0.0)
    print_document(invocation, {"broker_id": broker_id, "state": "removed"}, [f"Removed broker {broker_id}."])


def unregister(client: HttpClient, broker_id: int, *, timeout_s: float) -> None:
    """Make the cluster forget a broker; one that was just stopped is fenced first, which is waited for."""
    deadline = time.monotonic() + timeout_s
    if held := list_partitions(client, broker_id=broker_id):
        raise Failure(
            f"broker {broker_id} holds {count(len(held), 'replica')}: kraft broker drain {broker_id}", ExitCode.CONFLICT
        )
    while True:
        brokers = {found["broker_id"]: found for found in list_brokers(client)}
        check_brokers(list(brokers.values()), [broker_id], must_serve=False)
        if brokers[broker_id]["is_fenced"]:
            break
        if time.monotonic() > deadline:
            raise Failure(f"broker {broker_id} is in service: stop its node first", ExitCode.CONFLICT)
        time.sleep(POLL_S)
    try:
        client.request("DELETE", f"{CLUSTER}/brokers/{broker_id}", repeatable=True)
    except RequestFailure as failure:
        if failure.exit_code is not ExitCode.NOT_FOUND:  # an answer that was lost: it is gone
            raise
