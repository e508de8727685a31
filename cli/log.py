"""`kraft log`: what lies on disk, read without a node; nothing is ever changed."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click

from broker.config import ConfigError, load_config
from cli.data_directory import read_cluster, shown
from cli.failure import ExitCode, Failure
from cli.invocation import command, current, data_directory_option
from cli.lazy_group import LazyGroup
from cli.log_dump import dump_batches
from cli.rendering import Column, count, print_rows, size
from logstore.inspection import (
    InspectedBatch,
    InspectedLog,
    Severity,
    VerifiedLog,
    iterate_folder,
    iterate_segment,
    list_logs,
    segment_base_offset,
    segment_paths,
    verify_log,
)
from logstore.storage import PosixStorage
from wire.identifiers import uuid_to_text

COMMANDS: Final = {
    "dirs": ("cli.log:dirs", "Partitions on disk, with their sizes and offsets."),
    "verify": ("cli.log:verify", "Read every byte and check it."),
    "dump": ("cli.log:dump", "Print the batches and records of a partition."),
}

log_directory_option = click.option(
    "--log-dir",
    "log_directories",
    multiple=True,
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False),
    help="Look here, not into the nodes of --data-dir; may be given more than once.",
)


@click.group(cls=LazyGroup, lazy=COMMANDS)
def log() -> None:
    """Look into partitions on disk, whether their node runs or not."""


_DIRS_COLUMNS: Final = (
    Column("TOPIC", "topic_name"),
    Column("PARTITION", "partition_id"),
    Column("SIZE", lambda row: size(row["size_bytes"])),
    Column("SEGMENTS", "segments"),
    Column("LOG-START-OFFSET", "log_start_offset"),
    Column("LOG-END-OFFSET", "log_end_offset"),
    Column("RECOVERY-POINT", lambda row: _known(row["recovery_point"]), wide=True),
    Column("HIGH-WATERMARK", lambda row: _known(row["high_watermark"]), wide=True),
    Column("STATE", lambda row: "damaged" if row["is_damaged"] else "ok"),
    Column("LOG-DIR", lambda row: shown(Path(row["log_dir"]))),
    Column("FOLDER", "folder", wide=True),
)


@command()
@click.argument("topics", metavar="[TOPIC...]", nargs=-1)
@data_directory_option
@log_directory_option
def dirs(*, topics: tuple[str, ...], data_directory: str, log_directories: tuple[str, ...]) -> None:
    """List the partitions on disk, of all topics or of some; sizes, offsets and checkpoints."""
    invocation = current()
    logs = _find_logs(_directories(data_directory, log_directories), topics)
    rows = [_row(found) for found in logs]
    if rows or invocation.is_machine_readable:
        print_rows(invocation, _DIRS_COLUMNS, rows)
    else:
        invocation.notice("No partitions on disk.")


_VERIFY_COLUMNS: Final = (
    Column("TOPIC", "topic_name"),
    Column("PARTITION", "partition_id"),
    Column("BATCHES", "batches"),
    Column("RECORDS", "records"),
    Column("SIZE", lambda row: size(row["size_bytes"])),
    Column("LOG-END-OFFSET", "log_end_offset"),
    Column("VERDICT", "verdict"),
    Column("LOG-DIR", lambda row: shown(Path(row["log_dir"]))),
)


@command()
@click.argument("topics", metavar="[TOPIC...]", nargs=-1)
@data_directory_option
@log_directory_option
def verify(*, topics: tuple[str, ...], data_directory: str, log_directories: tuple[str, ...]) -> None:
    """Read every byte on disk and check it: CRCs, offsets, epochs, indexes.

    Ends with exit code 1 where there is damage. A batch that is being written meanwhile, or was at a crash, is a torn
    tail: a note, no damage.
    """
    invocation = current()
    storage = PosixStorage()
    logs = _find_logs(_directories(data_directory, log_directories), topics)
    verified = [verify_log(storage, found) for found in logs]
    if not verified and not invocation.is_machine_readable:
        invocation.notice("No partitions on disk.")
        return
    print_rows(invocation, _VERIFY_COLUMNS, [_verdict(found) for found in verified])
    findings = [finding for found in verified for finding in found.findings]
    if not invocation.is_machine_readable:
        for finding in findings:
            place = f"{shown(Path(finding.path))} at byte {finding.position:,}"
            offset = f", offset {finding.offset:,}" if finding.offset >= 0 else ""
            click.echo(f"{finding.severity}: {place}{offset}: {finding.message}")
    damage = [finding for finding in findings if finding.severity is Severity.DAMAGE]
    if damage:
        raise Failure(f"{count(len(damage), 'place')} of damage found")


@command()
@click.argument("target", metavar="TOPIC|FOLDER|SEGMENT")
@click.option("-p", "--partition", type=click.IntRange(min=0), metavar="N", help="Of a topic only this partition.")
@click.option(
    "-o", "--offset", "from_offset", type=click.IntRange(min=0), default=0, metavar="OFFSET", help="Begin here."
)
@click.option("-n", "--num", "limit", type=click.IntRange(min=1), metavar="N", help="End after N batches.")
@click.option("--records", "with_records", is_flag=True, help="Print the records in each batch too.")
@data_directory_option
@log_directory_option
def dump(
    *,
    target: str,
    partition: int | None,
    from_offset: int,
    limit: int | None,
    with_records: bool,
    data_directory: str,
    log_directories: tuple[str, ...],
) -> None:
    """Print the record batches of a topic, a partition's folder or a segment file, as kafka-dump-log does."""
    invocation = current()
    if os.sep in target or target.endswith(".log"):
        batches = _batches_at(Path(target), from_offset)
    else:
        directories = _directories(data_directory, log_directories)
        logs = [found for found in _find_logs(directories, [target]) if partition in (None, found.partition)]
        if not logs:
            raise Failure(f"topic {target} has no partition {partition} on disk here", ExitCode.NOT_FOUND)
        batches = _batches_of(logs, from_offset)
    dump_batches(invocation, batches, from_offset=from_offset, limit=limit, with_records=with_records)


def _batches_of(logs: Sequence[InspectedLog], from_offset: int) -> Iterator[InspectedBatch]:
    storage = PosixStorage()
    for found in logs:
        if found.segments:
            yield from iterate_folder(storage, found.folder, from_offset=from_offset)


def _batches_at(path: Path, from_offset: int) -> Iterator[InspectedBatch]:
    storage = PosixStorage()
    if path.is_dir() and not segment_paths(storage, str(path)):
        raise Failure(f"{path} holds no segment file", ExitCode.NOT_FOUND)
    if path.is_dir():
        return iterate_folder(storage, str(path), from_offset=from_offset)
    if not path.is_file():
        raise Failure(f"{path}: no such file", ExitCode.NOT_FOUND)
    try:
        segment_base_offset(str(path))
    except ValueError as error:
        raise Failure(str(error), ExitCode.USAGE) from None
    return iterate_segment(storage, str(path), from_offset=from_offset)


def _directories(data_directory: str, log_directories: Sequence[str]) -> list[Path]:
    """Where partitions lie: as told, or as the nodes of the local cluster are configured."""
    if log_directories:
        return [Path(directory).absolute() for directory in log_directories]
    cluster = read_cluster(Path(data_directory))
    if cluster is None:
        raise Failure(
            f"no cluster in {shown(Path(data_directory))}: name its folder with --data-dir, or folders with --log-dir",
            ExitCode.NOT_FOUND,
        )
    try:
        configs = [load_config(node.config_file, {}, ())[0] for node in cluster.nodes]
    except ConfigError as error:
        raise Failure(str(error)) from None
    return [directory for config in configs for directory in config.log_directories if directory.is_dir()]


def _find_logs(directories: Sequence[Path], topics: Sequence[str]) -> list[InspectedLog]:
    logs = [found for directory in directories for found in list_logs(PosixStorage(), str(directory))]
    missing = sorted(set(topics) - {found.topic_name for found in logs})
    if missing:
        raise Failure(f"topic {missing[0]} is not on disk here", ExitCode.NOT_FOUND)
    wanted = [found for found in logs if not topics or found.topic_name in topics]
    return sorted(wanted, key=lambda found: (found.topic_name, found.partition))


def _row(found: InspectedLog) -> dict[str, Any]:
    return {
        "log_dir": found.directory,
        "folder": Path(found.folder).name,
        "topic_name": found.topic_name,
        "topic_id": uuid_to_text(found.topic_id),
        "partition_id": found.partition,
        "size_bytes": found.size_bytes,
        "segments": found.segments,
        "log_start_offset": found.log_start_offset,
        "log_end_offset": found.log_end_offset,
        "recovery_point": found.recovery_point,
        "high_watermark": found.high_watermark,
        "is_damaged": found.is_damaged,
    }


def _verdict(found: VerifiedLog) -> dict[str, Any]:
    is_damaged = any(finding.severity is Severity.DAMAGE for finding in found.findings)
    return _row(found.log) | {
        "batches": found.batches,
        "records": found.records,
        "log_end_offset": found.log_end_offset,
        "verdict": "DAMAGED" if is_damaged else "ok" if not found.findings else "ok, see notes",
        "findings": [finding._asdict() for finding in found.findings],
    }


def _known(offset: int) -> int | None:
    return None if offset < 0 else offset
