"""`kafka-topics` as a shim: Kafka's options become the arguments of `kraft topic`."""

from collections.abc import Sequence

import click

from cli.failure import ExitCode, Failure
from cli.invocation import CONTEXT_SETTINGS
from cli.shims_options import bootstrap_arguments, bootstrap_options, chosen_servers, matching_topics


@click.command(context_settings=CONTEXT_SETTINGS)
@bootstrap_options
@click.option("--create", "action", flag_value="create", help="Create a topic.")
@click.option("--list", "action", flag_value="list", help="List the names of all topics.")
@click.option("--describe", "action", flag_value="describe", help="Partitions, leaders, replicas, settings.")
@click.option("--alter", "action", flag_value="alter", help="More partitions, or other settings.")
@click.option("--delete", "action", flag_value="delete", help="Delete topics.")
@click.option("--topic", "topic", metavar="NAME", help="But for --create it may be a regular expression.")
@click.option("--partitions", type=click.IntRange(min=1), metavar="N")
@click.option("--replication-factor", type=click.IntRange(min=1), metavar="N")
@click.option("--config", "settings", metavar="KEY=VALUE", multiple=True)
@click.option("--delete-config", "deleted", metavar="KEY", multiple=True)
@click.option("--if-not-exists", is_flag=True)
@click.option("--if-exists", is_flag=True)
@click.option("--exclude-internal", is_flag=True, help="With --list and --describe.")
@click.option("--force", is_flag=True, help="Nothing is asked anyway.")
@click.option("--disable-rack-aware", is_flag=True, hidden=True)
def kafka_topics(
    *,
    bootstrap_server: str | None,
    zookeeper: str | None,
    action: str | None,
    topic: str | None,
    partitions: int | None,
    replication_factor: int | None,
    settings: tuple[str, ...],
    deleted: tuple[str, ...],
    if_not_exists: bool,
    if_exists: bool,
    exclude_internal: bool,
    force: bool,  # noqa: ARG001 - accepted, as Kafka's tools do
    disable_rack_aware: bool,  # noqa: ARG001 - accepted, as Kafka's tools do
) -> list[str] | None:
    """Create, list, describe, alter and delete topics: the options of Kafka's tool, done by kraft topic."""
    if action is None:
        raise click.UsageError("Say what to do: --create, --list, --describe, --alter or --delete.")
    if topic is None and action not in ("list", "describe"):
        raise click.UsageError(f"--{action} needs --topic.")
    chosen = chosen_servers(bootstrap_server, zookeeper)
    arguments = bootstrap_arguments(chosen)
    if action == "create":
        return arguments + _create(str(topic), partitions, replication_factor, settings, if_not_exists=if_not_exists)
    if action == "alter":
        return arguments + _alter(str(topic), partitions, settings, deleted)
    names = matching_topics(chosen, topic or ".*", exclude_internal=exclude_internal)
    if action == "list":
        for name in names:
            click.echo(name)
        return None
    if not names:
        if topic is None or if_exists:
            return None
        raise Failure(f"no topic matches {topic}", ExitCode.NOT_FOUND)
    return [*arguments, "topic", action, *(["--if-exists"] if if_exists and action == "delete" else []), "--", *names]


def _create(
    topic: str,
    partitions: int | None,
    replication_factor: int | None,
    settings: Sequence[str],
    *,
    if_not_exists: bool,
) -> list[str]:
    arguments = ["topic", "create"]
    if partitions is not None:
        arguments += ["-p", str(partitions)]
    if replication_factor is not None:
        arguments += ["-r", str(replication_factor)]
    arguments += [argument for setting in settings for argument in ("-c", setting)]
    if if_not_exists:
        arguments.append("--if-not-exists")
    return [*arguments, "--", topic]


def _alter(topic: str, partitions: int | None, settings: Sequence[str], deleted: Sequence[str]) -> list[str]:
    """Kafka 3 moved settings to kafka-configs; the tutorials before that have them here."""
    if partitions is not None and not settings and not deleted:
        return ["topic", "add-partitions", "-p", str(partitions), "--", topic]
    if partitions is None and (settings or deleted):
        changes = [argument for setting in settings for argument in ("-c", setting)]
        changes += [argument for key in deleted for argument in ("-d", key)]
        return ["topic", "config", *changes, "--", topic]
    raise click.UsageError("--alter takes --partitions, or --config and --delete-config: one of the two at once.")
