"""`kraft partition`: which partitions there are, what is the matter with them, and (in modules of their own) moving
them and choosing who leads them.
"""

from typing import Final

import click

from cli.cluster_partitions import Row, behind_of, list_partitions, state_of
from cli.http_client import HttpClient
from cli.invocation import command, current
from cli.lazy_group import LazyGroup
from cli.rendering import Column, print_rows, size

COMMANDS: Final = {
    "list": ("cli.partition:list_all", "Leaders, replicas, who is in sync; all, or those in trouble."),
    "move": ("cli.partition_move:move", "Move partitions to other brokers, while they are used."),
    "transfer-leader": ("cli.partition_leaders:transfer_leader", "Let another in-sync replica lead."),
}
COLUMNS: Final = (
    Column("TOPIC", "topic_name"),
    Column("PARTITION", "partition_id"),
    Column("LEADER", lambda row: "none" if row["leader_id"] is None else row["leader_id"]),
    Column("REPLICAS", "replica_ids"),
    Column("ISR", "in_sync_replica_ids"),
    Column("ELR", lambda row: row["eligible_leader_replica_ids"] or None, wide=True),
    Column("EPOCH", "leader_epoch", wide=True),
    Column("START-OFFSET", "log_start_offset", wide=True),
    Column("HIGH-WATERMARK", "high_watermark", wide=True),
    Column("SIZE", lambda row: None if row["size_bytes"] is None else size(row["size_bytes"]), wide=True),
    Column("BEHIND", lambda row: behind_of(row) or None, wide=True),
    Column("STATE", state_of),
)
STATES: Final = ("under_replicated", "unavailable", "under_min_isr", "reassigning")


@click.group(cls=LazyGroup, lazy=COMMANDS)
def partition() -> None:
    """Partitions: what is the matter, where they lie, who leads them."""


@command("list")
@click.option("-t", "--topic", "topics", metavar="TOPIC", multiple=True, help="Of this topic only; may be repeated.")
@click.option("--under-replicated", is_flag=True, help="Those that lack in-sync replicas.")
@click.option("--unavailable", is_flag=True, help="Those without a leader: neither read nor written now.")
@click.option("--under-min-isr", is_flag=True, help="Those that refuse writes with acks=all.")
@click.option("--reassigning", is_flag=True, help="Those that are being moved.")
@click.option("--broker", "broker_id", type=int, metavar="ID", help="Those with a replica on this broker.")
def list_all(*, topics: tuple[str, ...], broker_id: int | None, **states: bool) -> None:
    """List partitions: all, or those in one of the states that are named.

    STATE says what is the matter: no leader, below min ISR, under-replicated, moving (+ comes, - goes). --format wide
    adds epochs, offsets, sizes and how far behind who is not in sync.
    """
    invocation = current()
    client = HttpClient.of(invocation)
    wanted = {} if broker_id is None else {"broker_id": broker_id}
    asked: list[str | None] = [name.replace("_", "-") for name in STATES if states[name]]
    rows: dict[tuple[str, int], Row] = {}
    for topic in topics or (None,):
        for state in asked or [None]:
            found = list_partitions(client, topic=topic, **wanted, **({} if state is None else {"state": state}))
            rows |= {(row["topic_name"], row["partition_id"]): row for row in found}
    if not rows and not invocation.is_machine_readable:
        invocation.notice("No such partition." if any(states.values()) or wanted else "No partitions yet.")
        return
    print_rows(invocation, COLUMNS, [rows[key] for key in sorted(rows)])
