"""`kafka-console-producer` and `kafka-console-consumer` as shims: done by `kraft produce` and `kraft consume`."""

from collections.abc import Sequence
from typing import Final

import click

from cli.bootstrap import Server
from cli.failure import ExitCode, Failure
from cli.invocation import CONTEXT_SETTINGS
from cli.shims_options import (
    bootstrap_arguments,
    bootstrap_options,
    chosen_servers,
    matching_topics,
    properties,
    refuse_unknown,
)

_READER_PROPERTIES: Final = ("parse.key", "key.separator", "null.marker", "ignore.error")
_PRODUCER_PROPERTIES: Final = ("acks", "compression.type", "client.id", "linger.ms", "batch.size", "enable.idempotence")
_FORMATTER_PROPERTIES: Final = (
    *("print.timestamp", "print.partition", "print.offset", "print.headers", "print.key", "print.value"),
    *("key.separator", "line.separator"),
)
_CONSUMER_PROPERTIES: Final = ("group.id", "auto.offset.reset", "client.id", "isolation.level", "enable.auto.commit")
_COMPRESSIONS: Final = ("none", "gzip", "snappy", "lz4", "zstd")


@click.command(context_settings=CONTEXT_SETTINGS)
@bootstrap_options
@click.option("--topic", required=True, metavar="NAME")
@click.option("--compression-codec", type=click.Choice(_COMPRESSIONS), is_flag=False, flag_value="gzip")
@click.option(
    "--property", "--reader-property", "reader_texts", metavar="KEY=VALUE", multiple=True, help="parse.key..."
)
@click.option("--producer-property", "--command-property", "producer_texts", metavar="KEY=VALUE", multiple=True)
@click.option("--request-required-acks", "acks", type=click.Choice(["all", "-1", "1", "0"]))
@click.option("--sync", is_flag=True, help="Accepted: a record counts once it is acknowledged anyway.")
@click.option("--timeout", "linger_ms", metavar="MS", help="Accepted: lines are sent as soon as the writer pauses.")
@click.option("--batch-size", metavar="N", help="Accepted, as --timeout.")
def kafka_console_producer(
    *,
    bootstrap_server: str | None,
    zookeeper: str | None,
    topic: str,
    compression_codec: str | None,
    reader_texts: tuple[str, ...],
    producer_texts: tuple[str, ...],
    acks: str | None,
    sync: bool,  # noqa: ARG001 - accepted, as its help says
    linger_ms: str | None,  # noqa: ARG001 - accepted, as its help says
    batch_size: str | None,  # noqa: ARG001 - accepted, as its help says
) -> list[str]:
    """Write lines from stdin to a topic: the options of Kafka's tool, done by kraft produce."""
    reader = properties("--property", reader_texts)
    refuse_unknown("--property", reader, _READER_PROPERTIES)
    producer = properties("--producer-property", producer_texts)
    refuse_unknown("--producer-property", producer, _PRODUCER_PROPERTIES)
    arguments = [*bootstrap_arguments(chosen_servers(bootstrap_server, zookeeper)), "-q", "produce"]
    if acks := acks or producer.get("acks"):
        arguments += ["--acks", acks]
    if compression := compression_codec or producer.get("compression.type"):
        arguments += ["-z", compression]
    if _is_true(reader, "parse.key"):
        arguments += ["-K", reader.get("key.separator", "\t")]
    if "null.marker" in reader:
        arguments += ["--null-marker", reader["null.marker"]]
    return [*arguments, "--", topic]


@click.command(context_settings=CONTEXT_SETTINGS)
@bootstrap_options
@click.option("--topic", metavar="NAME")
@click.option("--include", "--whitelist", "include", metavar="REGEX", help="All topics that match.")
@click.option("--from-beginning", is_flag=True, help="All that is there, then what comes.")
@click.option("--max-messages", type=click.IntRange(min=1), metavar="N", help="End after so many.")
@click.option("--timeout-ms", type=click.IntRange(min=1), metavar="MS", help="End when nothing came for so long.")
@click.option("--partition", type=click.IntRange(min=0), metavar="N")
@click.option("--offset", metavar="OFFSET", help="earliest, latest or a number; with --partition.")
@click.option("--group", metavar="GROUP", help="Share the partitions with the other members of this group.")
@click.option(
    *("--property", "--formatter-property", "formatter_texts"),
    metavar="KEY=VALUE",
    multiple=True,
    help="print.key=true, key.separator=: and so on.",
)
@click.option("--consumer-property", "--command-property", "consumer_texts", metavar="KEY=VALUE", multiple=True)
@click.option("--isolation-level", metavar="LEVEL", help="Accepted: nothing is ever uncommitted.")
@click.option("--skip-message-on-error", is_flag=True, help="Accepted: bytes are printed as they are.")
def kafka_console_consumer(
    *,
    bootstrap_server: str | None,
    zookeeper: str | None,
    topic: str | None,
    include: str | None,
    from_beginning: bool,
    max_messages: int | None,
    timeout_ms: int | None,
    partition: int | None,
    offset: str | None,
    group: str | None,
    formatter_texts: tuple[str, ...],
    consumer_texts: tuple[str, ...],
    isolation_level: str | None,  # noqa: ARG001 - accepted, as its help says
    skip_message_on_error: bool,  # noqa: ARG001 - accepted, as its help says
) -> list[str]:
    """Print the records of a topic: the options of Kafka's tool, done by kraft consume. Goes on until Ctrl-C."""
    formatter = properties("--property", formatter_texts)
    refuse_unknown("--property", formatter, _FORMATTER_PROPERTIES)
    consumer = properties("--consumer-property", consumer_texts)
    refuse_unknown("--consumer-property", consumer, _CONSUMER_PROPERTIES)
    chosen = chosen_servers(bootstrap_server, zookeeper)
    arguments = [*bootstrap_arguments(chosen), "-q", "consume"]
    start = _start(from_beginning=from_beginning, offset=offset, partition=partition, consumer=consumer)
    if group := group or consumer.get("group.id"):
        arguments += ["-g", group, *(["--from-beginning"] if start == "start" else [])]
        if partition is not None:
            raise click.UsageError("A group shares out the partitions: --group, or --partition.")
    elif start is not None:
        arguments += ["-o", start, "--follow"]
    if max_messages is not None:
        arguments += ["-n", str(max_messages)]
    if timeout_ms is not None:
        arguments += ["--timeout", f"{timeout_ms / 1000:g}"]
    if partition is not None:
        arguments += ["-p", str(partition)]
    if formatter:
        arguments += ["-f", _template(formatter)]
    return [*arguments, "--", *_topics(chosen, topic, include)]


def _topics(chosen: Sequence[Server] | None, topic: str | None, include: str | None) -> list[str]:
    if (topic is None) == (include is None):
        raise click.UsageError("Name what to read: --topic NAME, or --include REGEX.")
    if include is None:
        return [str(topic)]
    found = matching_topics(chosen, include, exclude_internal=True)
    if not found:
        raise Failure(f"no topic matches {include}", ExitCode.NOT_FOUND)
    return found


def _start(*, from_beginning: bool, offset: str | None, partition: int | None, consumer: dict[str, str]) -> str | None:
    """What `-o` is told; None where only what comes from now on is wanted."""
    if offset is not None:
        if partition is None or from_beginning:
            raise click.UsageError("--offset says where to begin in one partition: with --partition, and alone.")
        named = {"earliest": "start", "latest": "end"}.get(offset, offset)
        if named not in ("start", "end") and not named.isdecimal():
            raise click.UsageError(f"--offset {offset}: expected earliest, latest or a number.")
        return named
    if from_beginning or consumer.get("auto.offset.reset") in ("earliest", "smallest"):
        return "start"
    return None


def _template(formatter: dict[str, str]) -> str:
    """What Kafka's DefaultMessageFormatter prints, in its order, as a template of `kraft consume -f`."""
    separator = _literal(formatter.get("key.separator", "\t"))
    fields = [
        template
        for name, template in (
            ("print.timestamp", "CreateTime:%T"),
            ("print.partition", "Partition:%p"),
            ("print.offset", "Offset:%o"),
            ("print.headers", "%h"),
            ("print.key", "%k"),
        )
        if _is_true(formatter, name)
    ]
    if formatter.get("print.value", "true").lower() == "true":
        fields.append("%v")
    return separator.join(fields) + _literal(formatter.get("line.separator", "\n"))


def _literal(text: str) -> str:
    """A text that stands for itself in a template."""
    return text.replace("\\", "\\\\").replace("%", "%%").replace("\t", "\\t").replace("\n", "\\n")


def _is_true(given: dict[str, str], name: str) -> bool:
    return given.get(name, "false").lower() == "true"
