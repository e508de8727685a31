"""`kraft consume`: the console consumer. Prints records of topics, from where one wishes to where one wishes, or as a
member of a group.
"""

import signal
import sys
import time
from collections.abc import Sequence
from typing import Final, Self

import click

from cli.consumer import TopicConsumer
from cli.failure import ExitCode, Failure, NothingCameFailure
from cli.group_consumer import GroupConsumer
from cli.http_client import HttpClient
from cli.invocation import Invocation, command, current
from cli.offsets import END, START, Span, parse_span
from cli.record_format import PLAIN, WIDE, ConsumedRecord, Formatter, json_document, template

WAIT_MS: Final = 5_000
WAIT_AMONG_TOPICS_MS: Final = 100
UNREADABLE_PAUSE_S: Final = 0.2
UNREADABLE_PATIENCE_S: Final = 30.0


@command()
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True)
@click.option(
    "-o", "--offset", "span_text", metavar="OFFSET", help="Where to begin, or from where to where; see above."
)
@click.option("--from-beginning", is_flag=True, help="The same as -o start.")
@click.option(
    "-n", "--num", "limit", type=click.IntRange(min=1), metavar="N", help="End after N records; waits for them."
)
@click.option("-f", "--template", "template_text", metavar="TEMPLATE", help="How to print a record; see above.")
@click.option("-F", "--follow", is_flag=True, help="Go on with new records as they come.")
@click.option("-p", "--partition", "partitions_text", metavar="N[,N...]", help="Only these partitions.")
@click.option("-g", "--group", "group_id", metavar="GROUP", help="Read as a member of this group; see above.")
def consume(
    *,
    topics: tuple[str, ...],
    span_text: str | None,
    from_beginning: bool,
    limit: int | None,
    template_text: str | None,
    follow: bool,
    partitions_text: str | None,
    group_id: str | None,
) -> None:
    """Print the records of topics: their values, a line each, unless told otherwise.

    \b
    Where it begins and ends
      nothing given          new records as they come, as Kafka's console consumer
      --from-beginning       all that is there, then ends (with --follow: goes on)
      -o start | end | 47    from there; +2 from the start, -3 before the end
      -o 10:20 | :end        a range of offsets; its end is not included
      -o @2025-01-31T08:00   from a time: also @1735689600000, @-1h, @-1h:end
      -n 10                  ends after 10 records, and waits until there are so many
      --timeout 5            ends with exit code 5 when no record came for 5 s

    \b
    Templates: -f '%t %p %o %k %v\\n'
      %t topic   %p partition   %o offset   %T timestamp (ms)   %k key   %v value
      %h headers   %K %V length of key and value (-1: null)   %%   \\n \\t \\xNN

    \b
    Groups: -g GROUP
      goes on where the group has committed (at its first time with new records,
      or with --from-beginning at the start), shares the partitions with the
      other members, commits what was printed, hands over on Ctrl-C

    --format json prints one array, --format ndjson a document on each line.
    """  # noqa: D301 - click's mark for "keep these lines"
    invocation = current()
    if group_id is not None:
        reset = _reset(span_text, partitions_text, from_beginning=from_beginning)
        with Printer(invocation, template_text) as printer:
            _print_group(invocation, group_id, topics, printer, limit=limit, reset=reset)
        return
    span = _span(span_text, from_beginning=from_beginning)
    ends = span is not None and not follow and limit is None
    if span is None:
        span = Span(END)
    elif ends and span.until is None:
        span = Span(span.start, END)
    partitions = _partitions(partitions_text) if partitions_text is not None else None
    printer = Printer(invocation, template_text)
    client = HttpClient.of(invocation)
    consumers = [TopicConsumer(client, topic, span, partitions, waits=not ends) for topic in dict.fromkeys(topics)]
    with printer:
        _print_all(invocation, consumers, printer, limit, ends=ends)
    lost = [f"{consumer.lost_records} records of {consumer.topic}" for consumer in consumers if consumer.lost_records]
    if lost:
        raise Failure(f"{', '.join(lost)} are lost to disk damage; the rest was printed")


def _print_all(
    invocation: Invocation,
    consumers: Sequence[TopicConsumer],
    printer: "Printer",
    limit: int | None,
    *,
    ends: bool,
) -> None:
    printed, found_any = 0, True
    last_record_s = time.monotonic()
    while waiting := [consumer for consumer in consumers if not consumer.is_finished]:
        # ask all topics for what they have before waiting for any
        wait_ms = 0 if found_any else WAIT_MS if len(waiting) == 1 else WAIT_AMONG_TOPICS_MS
        if invocation.timeout_s is not None:
            wait_ms = min(wait_ms, int(invocation.timeout_s * 1000))
        found_any = False
        for consumer in waiting:
            left = None if limit is None else limit - printed
            records = consumer.pull(wait_ms=wait_ms, max_records=left, notice=invocation.notice)
            if not records:
                continue
            found_any, last_record_s = True, time.monotonic()
            printer.write(records[:left])
            printed += len(records[:left])
            if limit is not None and printed >= limit:
                return
        silent_s = time.monotonic() - last_record_s
        if invocation.timeout_s is not None and silent_s >= invocation.timeout_s:
            raise NothingCameFailure(f"no record came for {invocation.timeout_s:g} s", ExitCode.UNAVAILABLE)
        _mind_unreadable(waiting, silent_s, ends=ends)


def _reset(span_text: str | None, partitions_text: str | None, *, from_beginning: bool) -> str:
    """Where a group begins that has committed nothing."""
    if partitions_text is not None:
        raise click.UsageError("-g and -p: the group says who reads which partitions; leave out one of them.")
    span = _span(span_text, from_beginning=from_beginning) or Span(END)
    if span not in (Span(START), Span(END)):
        raise click.UsageError("-g goes on where the group has committed: only -o start or end; see kraft group seek.")
    return "earliest" if span == Span(START) else "latest"


def _print_group(
    invocation: Invocation,
    group_id: str,
    topics: Sequence[str],
    printer: "Printer",
    *,
    limit: int | None,
    reset: str,
) -> None:
    printed = 0
    last_record_s = time.monotonic()
    signal.signal(signal.SIGTERM, _interrupt)  # it hands over, too
    client = HttpClient.of(invocation)
    notice = invocation.notice
    with GroupConsumer(client, group_id, list(dict.fromkeys(topics)), reset=reset, notice=notice) as consumer:
        while limit is None or printed < limit:
            wait_ms = WAIT_MS if invocation.timeout_s is None else min(WAIT_MS, int(invocation.timeout_s * 1000))
            records = consumer.pull(wait_ms=wait_ms, max_records=None if limit is None else limit - printed)
            if records:
                printer.write(records)
                printed += len(records)
                consumer.printed()
                consumer.commit()
                last_record_s = time.monotonic()
            elif invocation.timeout_s is not None and time.monotonic() - last_record_s >= invocation.timeout_s:
                raise NothingCameFailure(f"no record came for {invocation.timeout_s:g} s", ExitCode.UNAVAILABLE)
    if consumer.lost_records:
        raise Failure(f"{consumer.lost_records} records are lost to disk damage; the rest was printed")


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _mind_unreadable(consumers: Sequence[TopicConsumer], silent_s: float, *, ends: bool) -> None:
    """Partitions without a leader: wait a moment; who wants all that is there is told that it can't be had."""
    for consumer in consumers:
        for partition, reason in consumer.unreadable.items():
            if ends and silent_s >= UNREADABLE_PATIENCE_S:
                raise Failure(f"{consumer.topic} partition {partition}: {reason}", ExitCode.UNAVAILABLE)
    if any(consumer.unreadable for consumer in consumers):
        time.sleep(UNREADABLE_PAUSE_S)


class Printer:
    """Records to stdout as bytes, flushed with every pull so that whoever reads sees them at once."""

    def __init__(self, invocation: Invocation, template_text: str | None) -> None:
        self._is_array = invocation.format == "json" and template_text is None
        self._written = False
        self._format: Formatter
        if template_text is None and invocation.is_machine_readable:
            self._format = json_document if self._is_array else lambda record: json_document(record) + b"\n"
            return
        try:
            self._format = template(template_text or (WIDE if invocation.format == "wide" else PLAIN))
        except ValueError as error:
            raise click.UsageError(f"-f: {error}") from None

    def write(self, records: Sequence[ConsumedRecord]) -> None:
        """Print some records."""
        out = sys.stdout.buffer
        if self._is_array:
            separator = b",\n" if self._written else b"["
            out.write(separator + b",\n".join(map(self._format, records)))
        else:
            out.write(b"".join(map(self._format, records)))
        out.flush()
        self._written = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """An array is closed however it ended, unless nobody reads any more."""
        if self._is_array:
            sys.stdout.buffer.write(b"]\n" if self._written else b"[]\n")


def _span(text: str | None, *, from_beginning: bool) -> Span | None:
    if text is None:
        return Span(START) if from_beginning else None
    if from_beginning:
        raise click.UsageError("--from-beginning and -o both say where to begin: use one of them.")
    try:
        return parse_span(text, now_ms=time.time_ns() // 1_000_000)
    except ValueError as error:
        raise click.UsageError(f"-o {text}: {error}") from None


def _partitions(text: str) -> list[int]:
    items = [item.strip() for item in text.split(",")]
    if not all(item.isdecimal() for item in items):
        raise click.UsageError(f"-p {text}: expected partition numbers, such as 0 or 0,2.")
    return [int(item) for item in items]
