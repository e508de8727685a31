"""Writes runs of records to a topic as record batches, and knows of every one whether it was acknowledged.

Batches are built here, as a Kafka client would, so that keys, partitions and compression are the user's and the broker
only stamps them. Invariant (S15): a batch that may have reached a leader is never sent again; the caller is told.
"""

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, HttpClient, OutcomeUnknown, RequestFailure, segment
from cli.line_source import Line
from wire.compression import Compression
from wire.partitioner import partition_for_key
from wire.record_batch import build_batch

RECORD_BATCH: Final = "application/vnd.kafka.recordbatch"
TOO_LARGE: Final = http.client.REQUEST_ENTITY_TOO_LARGE
UNAVAILABLE: Final = http.client.SERVICE_UNAVAILABLE


@dataclass(frozen=True, slots=True)
class ProduceOptions:
    """What is the same for all records."""

    topic: str
    partition: int | None = None
    acks: str = "all"
    compression: Compression = Compression.NONE
    headers: tuple[tuple[str, bytes | None], ...] = ()


@dataclass(slots=True)
class PartitionReceipt:
    """What one partition took."""

    records: int = 0
    first_offset: int = -1
    last_offset: int = -1


@dataclass(slots=True)
class Receipts:
    """What was acknowledged so far. `first_missing` is the line where a second attempt would begin."""

    partitions: dict[int, PartitionReceipt] = field(default_factory=dict)
    records: int = 0
    bytes: int = 0
    first_missing: int = 1

    def add(self, partition: int, lines: Sequence[Line], answer: Any) -> None:
        """Count an acknowledged batch."""
        receipt = self.partitions.setdefault(partition, PartitionReceipt())
        if receipt.records == 0:
            receipt.first_offset = answer["base_offset"]
        receipt.last_offset = answer["last_offset"]
        receipt.records += len(lines)
        self.records += len(lines)
        self.bytes += sum(len(line.value or b"") + len(line.key or b"") for line in lines)


class Producer:
    """One run of `kraft produce`."""

    def __init__(self, client: HttpClient, options: ProduceOptions) -> None:
        self.receipts = Receipts()
        self._client = client
        self._options = options
        self._path = f"{CLUSTER}/topics/{segment(options.topic)}"
        listed = client.get_list(f"{self._path}/partitions")
        self._partitions_count = len(listed)
        self._partitions = self._choose(listed)
        # a random place to begin, or many small runs would all fill partition 0
        self._turn = time.monotonic_ns() // 1000 % len(self._partitions)
        self._acknowledged: set[int] = set()  # line numbers of the run that is being written

    def _choose(self, listed: Sequence[Mapping[str, Any]]) -> list[int]:
        """The partitions that take turns: the one that is wished for, or all that have a leader."""
        wished = self._options.partition
        if wished is None:
            led = [entry["partition_id"] for entry in listed if entry["leader_id"] is not None]
            return led or [entry["partition_id"] for entry in listed]
        if wished >= len(listed):
            last = len(listed) - 1
            raise Failure(
                f"topic {self._options.topic} has no partition {wished}: it has 0 to {last}", ExitCode.NOT_FOUND
            )
        return [wished]

    def write(self, run: Sequence[Line]) -> None:
        """Write one run; its batches are acknowledged when this returns."""
        keyed: dict[int, list[Line]] = {}
        unkeyed: list[Line] = []
        for line in run:
            if self._options.partition is None and line.key is not None:
                keyed.setdefault(partition_for_key(line.key, self._partitions_count), []).append(line)
            else:
                unkeyed.append(line)
        self._acknowledged.clear()
        try:
            if unkeyed:
                self._write_unkeyed(unkeyed)
            for partition, lines in keyed.items():
                self._send(partition, lines)
        finally:
            missing = (line.number for line in run if line.number not in self._acknowledged)
            self.receipts.first_missing = next(missing, run[-1].number + 1)

    def _write_unkeyed(self, lines: Sequence[Line]) -> None:
        """One batch to the next partition that has a leader (a batch costs what a record costs)."""
        while True:
            self._turn = (self._turn + 1) % len(self._partitions)
            try:
                return self._send(self._partitions[self._turn], lines, wait_for_leader=len(self._partitions) == 1)
            except RequestFailure as failure:
                if failure.status != UNAVAILABLE or failure.outcome_is_unknown or len(self._partitions) == 1:
                    raise
                del self._partitions[self._turn]
                self._turn -= 1

    def _send(self, partition: int, lines: Sequence[Line], *, wait_for_leader: bool = True) -> None:
        now_ms = time.time_ns() // 1_000_000
        options = self._options
        batch = build_batch(
            [(line.key, line.value, options.headers, now_ms) for line in lines], compression=options.compression
        )
        try:
            answer = self._client.request(
                "POST",
                f"{self._path}/partitions/{partition}/records?acks={options.acks}",
                body=batch,
                headers={"Content-Type": RECORD_BATCH},
                retry=wait_for_leader,
            )
        except RequestFailure as failure:
            if failure.status != TOO_LARGE or len(lines) == 1:
                raise _about_lines(failure, lines) from None
            middle = len(lines) // 2
            self._send(partition, lines[:middle])
            return self._send(partition, lines[middle:])
        except OutcomeUnknown as failure:
            raise OutcomeUnknown(f"{failure.message} (lines {lines[0].number} to {lines[-1].number})") from None
        self.receipts.add(partition, lines, json.loads(answer.body))
        self._acknowledged.update(line.number for line in lines)
        return None


def _about_lines(failure: RequestFailure, lines: Sequence[Line]) -> RequestFailure:
    """Say which lines it is about."""
    first, last = lines[0].number, lines[-1].number
    where = f"line {first}" if first == last else f"lines {first} to {last}"
    doubt = "; they may or may not have been written" if failure.outcome_is_unknown else ""
    return RequestFailure(failure.status, failure.document, f"{where}: {failure.message}{doubt}")
