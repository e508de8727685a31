"""Record batches as `kafka-dump-log --print-data-log` prints them, or as JSON documents."""

import base64
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import click

from cli.invocation import Invocation
from logstore.inspection import InspectedBatch
from wire.errors import RefusedError
from wire.record_batch import Record, RecordBatch


def dump_batches(
    invocation: Invocation,
    batches: Iterable[InspectedBatch],
    *,
    from_offset: int,
    limit: int | None,
    with_records: bool,
) -> None:
    """Print batch after batch; a stretch that is no batch is printed as what it is."""
    if not invocation.is_machine_readable:
        _dump_text(batches, from_offset, limit, with_records=with_records)
        return
    documents = (_document(found, from_offset, with_records=with_records) for found in islice(batches, limit))
    if invocation.format == "json":
        click.echo(json.dumps(list(documents), ensure_ascii=False))
        return
    for document in documents:
        click.echo(json.dumps(document, ensure_ascii=False))


def _dump_text(batches: Iterable[InspectedBatch], from_offset: int, limit: int | None, *, with_records: bool) -> None:
    path = ""
    for found in islice(batches, limit):
        if found.path != path:
            path = found.path
            click.echo(f"Dumping {path}")
        if found.batch is None:
            click.echo(f"no intact batch: position: {found.position} size: {found.size_bytes} reason: {found.reason}")
            continue
        click.echo(_labelled(_batch_facts(found, found.batch)))
        if with_records:
            for record in _records(found.batch, from_offset):
                click.echo(record if isinstance(record, str) else _record_line(record))


def _batch_facts(found: InspectedBatch, batch: RecordBatch) -> dict[str, Any]:
    """In kafka-dump-log's order and words."""
    return {
        "baseOffset": batch.base_offset,
        "lastOffset": batch.last_offset,
        "count": batch.record_count,
        "baseSequence": batch.base_sequence,
        "producerId": batch.producer_id,
        "producerEpoch": batch.producer_epoch,
        "partitionLeaderEpoch": batch.partition_leader_epoch,
        "isTransactional": batch.is_transactional,
        "isControl": batch.is_control,
        "position": found.position,
        "LogAppendTime" if batch.is_log_append_time else "CreateTime": batch.max_timestamp,
        "size": batch.size_bytes,
        "magic": batch.magic,
        "compresscodec": batch.compression.name.lower(),
        "crc": batch.crc,
        "isvalid": batch.crc_is_valid(),
    }


def _labelled(facts: dict[str, Any]) -> str:
    return " ".join(
        f"{name}: {str(value).lower() if isinstance(value, bool) else value}" for name, value in facts.items()
    )


def _records(batch: RecordBatch, from_offset: int) -> Iterator[Record | str]:
    """The batch's records; a sentence where its content is not what its header says."""
    try:
        yield from (record for record in batch.records() if record.offset >= from_offset)
    except RefusedError as refused:
        yield f"| records can't be read: {refused.message}"


def _record_line(record: Record) -> str:
    facts = {
        "offset": record.offset,
        "CreateTime": record.timestamp_ms,
        "keySize": -1 if record.key is None else len(record.key),
        "valueSize": -1 if record.value is None else len(record.value),
        "headerKeys": f"[{','.join(name for name, _ in record.headers)}]",
    }
    line = f"| {_labelled(facts)}"
    line += "" if record.key is None else f" key: {_shown(record.key)}"
    return line + ("" if record.value is None else f" payload: {_shown(record.value)}")


def _shown(content: bytes) -> str:
    return content.decode(errors="backslashreplace")


def _document(found: InspectedBatch, from_offset: int, *, with_records: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"path": found.path, "position": found.position, "size": found.size_bytes}
    if found.batch is None:
        return {**document, "reason": found.reason}
    document |= _batch_facts(found, found.batch)
    if with_records:
        document["records"] = [
            {"error": record} if isinstance(record, str) else _record_document(record)
            for record in _records(found.batch, from_offset)
        ]
    return document


def _record_document(record: Record) -> dict[str, Any]:
    return {
        "offset": record.offset,
        "timestamp": record.timestamp_ms,
        "key": _json_value(record.key),
        "value": _json_value(record.value),
        "headers": [{"name": name, "value": _json_value(value)} for name, value in record.headers],
    }


def _json_value(content: bytes | None) -> Any:
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(content).decode()}
