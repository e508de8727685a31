"""`kraft produce`: the console producer. Lines in, record batches out, and an exact account of what is safe."""

import os
import stat
import sys
import time

import click

from cli.failure import ExitCode, Failure
from cli.http_client import HttpClient
from cli.invocation import Invocation, command, current
from cli.line_source import LineFormat, runs
from cli.producer import ProduceOptions, Producer, Receipts
from cli.progress import StatusLine
from cli.rendering import count, print_document, size
from wire.compression import Compression


@command()
@click.argument("topic")
@click.option("-k", "--key", metavar="KEY", help="The key of every record.")
@click.option("-K", "--key-separator", metavar="TEXT", help="Each line is key, this text, value; \\t is a tab.")
@click.option("-H", "--header", "headers", metavar="NAME=VALUE", multiple=True, help="A header of every record.")
@click.option("-p", "--partition", type=click.IntRange(min=0), metavar="N", help="Write to this partition only.")
@click.option("--null-marker", metavar="TEXT", help="A key or value that reads so is null (a tombstone).")
@click.option("--acks", type=click.Choice(["all", "-1", "1", "0"]), default="all", show_default=True)
@click.option(
    "-z",
    "--compression",
    type=click.Choice([codec.name.lower() for codec in Compression]),
    default="none",
    show_default=True,
    help="How the record batches are compressed.",
)
def produce(
    *,
    topic: str,
    key: str | None,
    key_separator: str | None,
    headers: tuple[str, ...],
    partition: int | None,
    null_marker: str | None,
    acks: str,
    compression: str,
) -> None:
    """Write the lines of stdin to TOPIC, a record each.

    Records with a key go to the partition that every Kafka client would choose; those without go to one partition after
    the other, a batch each. With --acks all (as preset) a record counts once it is safe on disk.

    When something fails it says how many records were acknowledged and from which line on to resume.
    """
    invocation = current()
    if key is not None and key_separator is not None:
        raise click.UsageError("-k gives all records one key, -K takes it from the line: use one of them.")
    options = ProduceOptions(
        topic=topic,
        partition=partition,
        acks=acks,
        compression=Compression[compression.upper()],
        headers=tuple(_header(text) for text in headers),
    )
    line_format = LineFormat(
        key.encode() if key is not None else None,
        _unescape(key_separator) if key_separator is not None else None,
        null_marker.encode() if null_marker is not None else None,
    )
    if sys.stdin is None:
        raise Failure("stdin is closed: give the lines as a file or a pipe", ExitCode.USAGE)
    if sys.stdin.isatty():
        invocation.notice(f"Each line becomes a record of {topic}; end with Ctrl-D.")
    began_s = time.monotonic()
    producer = Producer(HttpClient.of(invocation), options)
    with StatusLine(invocation) as status_line:
        _write_all(producer, line_format, status_line, topic)
    _report(invocation, topic, producer.receipts, time.monotonic() - began_s)


def _write_all(producer: Producer, line_format: LineFormat, status_line: StatusLine, topic: str) -> None:
    descriptor = sys.stdin.fileno()
    found = os.fstat(descriptor)
    total_bytes = found.st_size if stat.S_ISREG(found.st_mode) else 0
    began_s = time.monotonic()
    receipts = producer.receipts
    try:
        for run in runs(descriptor, line_format):
            producer.write(run)
            if status_line.is_due:
                status_line.show(_progress(topic, receipts, time.monotonic() - began_s, total_bytes))
    except (Failure, KeyboardInterrupt) as ended:
        status_line.clear()
        account = _account(receipts)
        if isinstance(ended, KeyboardInterrupt):
            raise Failure(f"interrupted; {account}", ExitCode.INTERRUPTED) from None
        raise Failure(f"{ended.message}\nkraft: {account}", ended.exit_code) from None


def _account(receipts: Receipts) -> str:
    """Exactly what is safe, and where to go on."""
    before = receipts.first_missing - 1
    after = receipts.records - before
    text = f"{count(receipts.records, 'record')} acknowledged"
    if receipts.records == 0:
        return text
    text += f"; resume at line {receipts.first_missing} (tail -n +{receipts.first_missing})"
    if after > 0:
        text += f"; {count(after, 'record')} of later lines would be written again by that"
    return text


def _progress(topic: str, receipts: Receipts, seconds: float, total_bytes: int) -> str:
    share = f"  {min(99, 100 * receipts.bytes // total_bytes)}%" if total_bytes else ""
    rate = f"{receipts.records / seconds:,.0f}/s" if seconds > 0 else ""
    return f"{topic}: {count(receipts.records, 'record')}{share}  {size(receipts.bytes)}  {rate}"


def _report(invocation: Invocation, topic: str, receipts: Receipts, seconds: float) -> None:
    document = {
        "topic_name": topic,
        "records": receipts.records,
        "bytes": receipts.bytes,
        "partitions": [
            {
                "partition_id": partition,
                "records": receipt.records,
                "first_offset": receipt.first_offset,
                "last_offset": receipt.last_offset,
            }
            for partition, receipt in sorted(receipts.partitions.items())
        ],
    }
    text = f"Wrote {count(receipts.records, 'record')} ({size(receipts.bytes)}) to {topic} in {seconds:.1f} s."
    if receipts.records == 0:
        text = "Nothing to write: stdin was empty."
    if invocation.quiet and not invocation.is_machine_readable:
        return
    print_document(invocation, document, [text])


def _header(text: str) -> tuple[str, bytes | None]:
    name, equals, value = text.partition("=" if "=" in text else ":")
    if not equals or not name:
        raise click.UsageError(f"-H {text}: expected name=value.")
    return name, value.encode()


def _unescape(text: str) -> bytes:
    separator = text.replace("\\t", "\t").replace("\\0", "\0").encode()
    if not separator:
        raise click.UsageError("-K is empty: give the text between key and value.")
    return separator
