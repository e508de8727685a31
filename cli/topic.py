"""`kraft topic`: create, list, describe, configure, grow and delete topics; Kafka's words and headings."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from cli.cluster_partitions import without_links
from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, HttpClient, RequestFailure, segment
from cli.invocation import Invocation, command, current
from cli.lazy_group import LazyGroup
from cli.rendering import Column, count, print_document, print_rows

BAD_REQUEST: Final = 40002
_HERE: Final = "cli.topic"
COMMANDS: Final = {
    "create": (f"{_HERE}:create", "Create topics."),
    "list": (f"{_HERE}:list_topics", "List topics."),
    "describe": (f"{_HERE}:describe", "Partitions, leaders, replicas and settings."),
    "config": (f"{_HERE}:config", "Show or change a topic's settings."),
    "add-partitions": (f"{_HERE}:add_partitions", "Give a topic more partitions."),
    "trim": ("cli.topic_trim:trim", "Delete a topic's oldest records."),
    "delete": (f"{_HERE}:delete", "Delete topics with their records."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def topic() -> None:
    """Create, list, describe, configure and delete topics."""


def _path(name: str) -> str:
    return f"{CLUSTER}/topics/{segment(name)}"


# -- create and delete ----------------------------------------------------------------------------------------------


@command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option(
    "-p", "--partitions", type=click.IntRange(min=1), metavar="N", help="[default: num.partitions of the cluster]"
)
@click.option(
    "-r", "--replication-factor", type=click.IntRange(min=1), metavar="N", help="[default: that of the cluster]"
)
@click.option(
    "-c", "--config", "settings", metavar="KEY=VALUE", multiple=True, help="A setting, such as retention.ms=3600000."
)
@click.option("--if-not-exists", is_flag=True, help="Leave a topic that exists as it is.")
@click.option("--validate-only", is_flag=True, help="Check, and create nothing.")
def create(
    *,
    names: tuple[str, ...],
    partitions: int | None,
    replication_factor: int | None,
    settings: tuple[str, ...],
    if_not_exists: bool,
    validate_only: bool,
) -> None:
    """Create topics."""
    invocation, client = _start()
    wish: dict[str, Any] = {"configs": [_setting(text) for text in settings]}
    if partitions is not None:
        wish["partitions_count"] = partitions
    if replication_factor is not None:
        wish["replication_factor"] = replication_factor
    if validate_only:
        wish["validate_only"] = True
    created = []
    for name in names:
        found = _create(client, name, wish, if_not_exists=if_not_exists)
        created.append(found)
        if not invocation.is_machine_readable:
            done = "exists already" if found.get("existed") else "could be created" if validate_only else ""
            click.echo(f"Topic {name} {done}." if done else f"Created topic {name}.")
    if invocation.is_machine_readable:
        print_rows(invocation, (), [without_links(found) for found in created])


def _create(client: HttpClient, name: str, wish: Mapping[str, Any], *, if_not_exists: bool) -> dict[str, Any]:
    try:
        created: dict[str, Any] = client.send("POST", f"{CLUSTER}/topics", {"topic_name": name, **wish})
    except RequestFailure as failure:
        if failure.outcome_is_unknown:
            raise Failure(
                f"{failure.message}; topic {name} may have been created: kraft topic list", failure.exit_code
            ) from None
        existing = _existing(client, name) if failure.error_code == BAD_REQUEST else None
        if existing is None:
            raise
        if if_not_exists:
            return {**existing, "existed": True}
        raise Failure(f"topic {name} exists already", ExitCode.CONFLICT) from None
    return created


def _existing(client: HttpClient, name: str) -> dict[str, Any] | None:
    """The topic, where there is one: "exists" shares its code with other bad requests."""
    try:
        found: dict[str, Any] = client.get(_path(name))
    except RequestFailure:
        return None
    return found


@command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--if-exists", is_flag=True, help="A topic that does not exist is no failure.")
def delete(*, names: tuple[str, ...], if_exists: bool) -> None:
    """Delete topics with their records. This can't be undone."""
    invocation, client = _start()
    deleted = []
    for name in names:
        try:
            client.request("DELETE", _path(name))
        except RequestFailure as failure:
            if failure.exit_code is not ExitCode.NOT_FOUND or not if_exists:
                raise
            continue
        deleted.append({"topic_name": name})
        if not invocation.is_machine_readable:
            click.echo(f"Deleted topic {name}.")
    if invocation.is_machine_readable:
        print_rows(invocation, (), deleted)


# -- list and describe ----------------------------------------------------------------------------------------------

_LIST_COLUMNS: Final = (
    Column("TOPIC", "topic_name"),
    Column("PARTITIONS", "partitions_count"),
    Column("REPLICATION", "replication_factor"),
    Column("TOPIC ID", "topic_id", wide=True),
)


@command("list")
def list_topics() -> None:
    """List topics; with -q their names only."""
    invocation, client = _start()
    topics = sorted(
        (without_links(found) for found in client.get_list(f"{CLUSTER}/topics")), key=lambda t: str(t["topic_name"])
    )
    if invocation.quiet and not invocation.is_machine_readable:
        for found in topics:
            click.echo(found["topic_name"])
    elif topics or invocation.is_machine_readable:
        print_rows(invocation, _LIST_COLUMNS, topics)
    else:
        invocation.notice("No topics yet: kraft topic create NAME")


@command()
@click.argument("names", metavar="[NAME...]", nargs=-1)
def describe(*, names: tuple[str, ...]) -> None:
    """Partitions with their leaders and replicas, and settings that are not the default; without a name: of all topics.

    --format wide adds offsets and epochs.
    """
    invocation, client = _start()
    wanted = names or sorted(str(found["topic_name"]) for found in client.get_list(f"{CLUSTER}/topics"))
    described = [_describe(client, name) for name in wanted]
    if invocation.is_machine_readable:
        print_rows(invocation, (), described)
        return
    for found in described:
        for line in _describe_lines(found, wide=invocation.format == "wide"):
            click.echo(line)
    if not described:
        invocation.notice("No topics yet: kraft topic create NAME")


def _describe(client: HttpClient, name: str) -> dict[str, Any]:
    found = without_links(client.get(_path(name)))
    configs = client.get_list(f"{_path(name)}/configs")
    found["configs"] = {entry["name"]: entry["value"] for entry in configs if not entry["is_default"]}
    found["partitions"] = [without_links(entry) for entry in client.get_list(f"{_path(name)}/partitions")]
    return found


def _describe_lines(found: Mapping[str, Any], *, wide: bool) -> list[str]:
    """As `kafka-topics --describe` prints them, tabs included."""
    configs = ",".join(f"{name}={value}" for name, value in found["configs"].items())
    name = found["topic_name"]
    headline = {
        "Topic": name,
        "TopicId": found.get("topic_id", "-"),
        "PartitionCount": found["partitions_count"],
        "ReplicationFactor": found["replication_factor"],
        "Configs": configs,
    }
    lines = ["\t".join(f"{label}: {value}" for label, value in headline.items())]
    for entry in found["partitions"]:
        leader = "none" if entry["leader_id"] is None else entry["leader_id"]
        line = (
            f"\tTopic: {name}\tPartition: {entry['partition_id']}\tLeader: {leader}\t"
            f"Replicas: {_ids(entry['replica_ids'])}\tIsr: {_ids(entry['in_sync_replica_ids'])}\t"
            f"Elr: {_ids(entry['eligible_leader_replica_ids']) or '-'}"
        )
        for label, key in _MOVING_FACTS:
            line += f"\t{label}: {_ids(entry[key])}" if entry.get(key) else ""
        if wide:
            line += "".join(f"\t{label}: {_known(entry[key])}" for label, key in _WIDE_FACTS)
        lines.append(line)
    return lines


_MOVING_FACTS: Final = (
    ("Adding Replicas", "adding_replica_ids"),
    ("Removing Replicas", "removing_replica_ids"),
)
_WIDE_FACTS: Final = (
    ("LeaderEpoch", "leader_epoch"),
    ("LogStartOffset", "log_start_offset"),
    ("HighWatermark", "high_watermark"),
    ("SizeBytes", "size_bytes"),
)


def _ids(ids: Sequence[int]) -> str:
    return ",".join(map(str, ids))


def _known(fact: int | None) -> str:
    """What only an absent leader could tell stands as "-"."""
    return "-" if fact is None else str(fact)


# -- settings and partitions ----------------------------------------------------------------------------------------

_CONFIG_COLUMNS: Final = (
    Column("SETTING", "name"),
    Column("VALUE", "value"),
    Column("SOURCE", "source"),
)


@command()
@click.argument("name")
@click.option("-c", "--config", "settings", metavar="KEY=VALUE", multiple=True, help="Set this.")
@click.option("-d", "--delete", "deleted", metavar="KEY", multiple=True, help="Go back to the cluster's default.")
def config(*, name: str, settings: tuple[str, ...], deleted: tuple[str, ...]) -> None:
    """Show a topic's settings, or change some of them at once.

    \b
      kraft topic config events
      kraft topic config events -c retention.ms=3600000 -d segment.bytes
    """  # noqa: D301 - click's mark for "keep these lines"
    invocation, client = _start()
    changes = [{**_setting(text), "operation": "SET"} for text in settings]
    changes += [{"name": key, "operation": "DELETE"} for key in deleted]
    if changes:
        client.send("POST", f"{_path(name)}/configs:alter", {"data": changes}, repeatable=True)
        if not invocation.is_machine_readable:
            click.echo(f"Changed {count(len(changes), 'setting')} of topic {name}.")
            return
    found = [without_links(entry) for entry in client.get_list(f"{_path(name)}/configs")]
    print_rows(invocation, _CONFIG_COLUMNS, found)


@command("add-partitions")
@click.argument("name")
@click.option(
    "-p", "--partitions", type=click.IntRange(min=1), metavar="N", help="How many it has in all, as in Kafka."
)
@click.option("-n", "--num", "added", type=click.IntRange(min=1), metavar="N", help="How many more it gets.")
def add_partitions(*, name: str, partitions: int | None, added: int | None) -> None:
    """Give a topic more partitions. Keys may go to other partitions from then on."""
    invocation, client = _start()
    if (partitions is None) == (added is None):
        raise click.UsageError("Give either -p (how many in all) or -n (how many more).")
    if partitions is None:
        partitions = client.get(_path(name))["partitions_count"] + added
    found = client.send("PATCH", _path(name), {"partitions_count": partitions})
    text = f"Topic {name} has {count(partitions or 0, 'partition')} now."
    print_document(invocation, without_links(found or {"topic_name": name, "partitions_count": partitions}), [text])


def _start() -> tuple[Invocation, HttpClient]:
    invocation = current()
    return invocation, HttpClient.of(invocation)


def _setting(text: str) -> dict[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise click.UsageError(f"-c {text}: expected key=value.")
    return {"name": key.strip(), "value": value.strip()}
