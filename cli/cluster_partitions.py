"""Partitions and brokers as the cluster tells them, and as a person names them and reads what is the matter with them.

Owns the grammar of `TOPIC`, `TOPIC:0,2` and `TOPIC-0`, the broker lists of `--to` and `--from`, and the words for a
partition's state. Refuses topics, partitions and brokers that are not there, before anything is changed.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import click

from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, HttpClient, segment
from cli.rendering import count, nodes_named

Row = dict[str, Any]
PARTITIONS: Final = f"{CLUSTER}/partitions"
PAGE: Final = 10_000


class Trouble(NamedTuple):
    """`state` of the list of partitions, the field of health that counts it, and the words for it."""

    state: str
    counted_in: str
    words: str


TROUBLES: Final = (
    Trouble("unavailable", "leaderless_partitions_count", "without a leader"),
    Trouble("under-min-isr", "under_min_isr_partitions_count", "below min ISR"),
    Trouble("under-replicated", "under_replicated_partitions_count", "under-replicated"),
    Trouble("reassigning", "reassigning_partitions_count", "moving"),
)
"""The worst first."""


class Named(NamedTuple):
    """Some partitions of a topic, or all (None)."""

    topic: str
    partitions: tuple[int, ...] | None


def parse_named(text: str) -> Named:
    """`TOPIC` or `TOPIC:0,2`; a topic's name holds no colon."""
    topic, colon, numbers = text.partition(":")
    if not topic or (colon and not _are_numbers(numbers)):
        raise click.UsageError(f"{text}: expected TOPIC or TOPIC:PARTITION[,PARTITION...], such as orders:0,2.")
    return Named(topic, tuple(map(int, numbers.split(","))) if colon else None)


def parse_partition(text: str) -> tuple[str, int]:
    """`TOPIC-0` or `TOPIC:0`."""
    topic, separator, number = text.rpartition(":" if ":" in text else "-")
    if not topic or not separator or not _are_numbers(number) or "," in number:
        raise click.UsageError(f"{text}: expected TOPIC-PARTITION, such as orders-0.")
    return topic, int(number)


def parse_broker_ids(text: str, option: str) -> tuple[int, ...]:
    """`2,3,4`, each once."""
    if not _are_numbers(text) or len(set(text.split(","))) != len(text.split(",")):
        raise click.UsageError(f"{option} {text}: expected broker ids, each once, such as 2,3,4.")
    return tuple(map(int, text.split(",")))


def _are_numbers(text: str) -> bool:
    return all(item.isascii() and item.isdecimal() and len(item) < 11 for item in text.split(","))


def list_brokers(client: HttpClient, *, with_lag: bool = False) -> list[Row]:
    """All that are registered, by id."""
    return [without_links(found) for found in client.get_list(f"{CLUSTER}/brokers{'?lag=1' if with_lag else ''}")]


def list_partitions(client: HttpClient, *, topic: str | None = None, **wanted: object) -> list[Row]:
    """Of all topics, or of one; `wanted`: `state` and `broker_id` of the resource."""
    query = {"limit": PAGE, **wanted} | ({} if topic is None else {"topic": topic})
    return [without_links(found) for found in client.get_list(f"{PARTITIONS}?{urlencode(query)}")]


def partitions_of(client: HttpClient, named: Sequence[Named]) -> list[Row]:
    """Those that are named; ends the command where one is not there."""
    found: list[Row] = []
    for topic in dict.fromkeys(one.topic for one in named):
        rows = {row["partition_id"]: row for row in list_partitions(client, topic=topic)}
        wishes = [one.partitions for one in named if one.topic == topic]
        numbers = sorted({number for wish in wishes for number in (rows if wish is None else wish)})
        for number in numbers:
            if number not in rows:
                raise Failure(f"topic {topic} has no partition {number}: it has 0 to {max(rows)}", ExitCode.NOT_FOUND)
            found.append(rows[number])
    return found


def reassignments(client: HttpClient) -> dict[tuple[str, int], Row]:
    """What is being moved, by topic and partition."""
    path = f"{CLUSTER}/topics/-/partitions/-/reassignment?limit={PAGE}"
    return {key_of(found): without_links(found) for found in client.get_list(path)}


def topic_path(topic: str) -> str:
    return f"{CLUSTER}/topics/{segment(topic)}"


def key_of(row: Mapping[str, Any]) -> tuple[str, int]:
    return row["topic_name"], row["partition_id"]


def name_of(row: Mapping[str, Any]) -> str:
    """`orders-0`, as Kafka writes it."""
    return f"{row['topic_name']}-{row['partition_id']}"


def target_of(row: Mapping[str, Any]) -> list[int]:
    """Where it lies, or will when its move is done; the preferred leader first."""
    return [replica for replica in row["replica_ids"] if replica not in row["removing_replica_ids"]]


def check_brokers(brokers: Sequence[Row], ids: Collection[int], *, must_serve: bool) -> None:
    """End the command where one is not registered, or (`must_serve`) could not take a replica now."""
    known = {broker["broker_id"]: broker for broker in brokers}
    for broker_id in ids:
        if (broker := known.get(broker_id)) is None:
            there = ", ".join(map(str, known))
            raise Failure(f"there is no broker {broker_id}: registered are {there}", ExitCode.NOT_FOUND)
        if must_serve and not in_service(broker):
            what = "fenced (it is down, or just starting)" if broker["is_fenced"] else "about to stop"
            raise Failure(f"broker {broker_id} is {what}: it can't take replicas now", ExitCode.CONFLICT)


def in_service(broker: Mapping[str, Any]) -> bool:
    return not broker["is_fenced"] and not broker["is_draining"]


def state_of(row: Mapping[str, Any]) -> str:
    """What an operator wants to know of a partition, the worst first; `ok` where nothing is the matter."""
    words = []
    replicas, in_sync = target_of(row), row["in_sync_replica_ids"]
    if row["leader_id"] is None:
        words.append("no leader")
    if row["is_under_min_isr"]:
        words.append(f"below min ISR ({len(in_sync)} of {row['min_in_sync_replicas']})")
    elif row["is_under_replicated"]:
        words.append(f"under-replicated ({len(set(in_sync) & set(replicas))} of {len(replicas)})")
    if moving := moving_of(row):
        words.append(f"moving {moving}")
    return ", ".join(words) or "ok"


def moving_of(row: Mapping[str, Any]) -> str:
    """`+4 -1`: which replicas come and which go; empty where it is not being moved."""
    coming = [f"+{replica}" for replica in row["adding_replica_ids"]]
    return " ".join([*coming, *(f"-{replica}" for replica in row["removing_replica_ids"])])


def behind_of(row: Mapping[str, Any]) -> str:
    """Who is behind, and by how many records as far as the leader knows: `2 by 1,234`."""
    followers = {follower["broker_id"]: follower["lag"] for follower in row["followers"] or ()}
    lacking = [replica for replica in row["replica_ids"] if replica not in row["in_sync_replica_ids"]]
    words = []
    for replica in lacking:
        lag = followers.get(replica)
        words.append(f"{replica} by {'?' if lag is None else f'{lag:,}'}")
    return ", ".join(words)


def without_links(resource: Mapping[str, Any]) -> Row:
    """A resource of the API without its links: a script wants the facts."""
    return {
        key: value
        for key, value in resource.items()
        if key not in ("kind", "metadata") and not (isinstance(value, dict) and set(value) == {"related"})
    }


def failures_told(failures: Sequence[Mapping[str, Any]], what: str) -> str:
    """What of a request for many partitions was refused, the first few by name."""
    lines = [f"{name_of(failure)}: {failure['message']}" for failure in failures[:5]]
    if len(failures) > len(lines):
        lines.append(f"and {len(failures) - len(lines):,} more")
    return "\nkraft: ".join([f"{count(len(failures), 'partition')} {what}", *lines])


def brokers_named(broker_ids: Sequence[int]) -> str:
    """`broker 2`, `brokers 1 and 3`."""
    return nodes_named(broker_ids, verb=False).replace("node", "broker", 1)
