"""Writes runs of records to a topic as record batches, and knows of every one whether it was acknowledged.

Batches are built here, as a Kafka client would, so that keys, partitions and compression are the user's and the broker
only stamps them. With acks=all they carry a producer id, so that the cluster knows a batch again (S13), and whatever
is in doubt is sent again until it is answered. Invariant (S15): a batch without one that may have reached a leader is
never sent again; the caller is told.
"""

import http.client
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, HttpClient, OutcomeUnknown, RequestFailure, segment
from cli.line_source import Line
from cli.producer_identity import ProducerIdentity
from wire.compression import Compression
from wire.partitioner import partition_for_key
from wire.record_batch import build_batch

RECORD_BATCH: Final = "application/vnd.kafka.recordbatch"
TOO_LARGE: Final = http.client.REQUEST_ENTITY_TOO_LARGE
UNAVAILABLE: Final = http.client.SERVICE_UNAVAILABLE
NO_ROUTE: Final = 404
WRITTEN_BEFORE: Final = 40902  # the body's error_code
UNKNOWN_PRODUCER: Final = 40903
ATTEMPT_S: Final = 10.0
"""So long one node may take over a batch that can be sent again; a paused one must not hold us for the whole time."""


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
        """Count an acknowledged batch; `answer` None where its offsets are not known any more."""
        receipt = self.partitions.setdefault(partition, PartitionReceipt())
        if answer is not None:
            if receipt.first_offset < 0:
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
        self._identity = self._introduce()

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
        try:
            answer = self._post(partition, lines, wait_for_leader=wait_for_leader)
        except RequestFailure as failure:
            if failure.status != TOO_LARGE or len(lines) == 1:
                raise _about_lines(failure, lines) from None
            middle = len(lines) // 2
            self._send(partition, lines[:middle])
            return self._send(partition, lines[middle:])
        except OutcomeUnknown as failure:
            raise OutcomeUnknown(f"{failure.message} ({_named(lines)})") from None
        except Failure as failure:
            if self._identity is None:
                raise
            doubt = f"{_named(lines)} may or may not have been written"
            raise Failure(f"{failure.message}; {doubt}", failure.exit_code) from None
        if self._identity is not None:
            self._identity.acknowledged(partition, len(lines))
        self.receipts.add(partition, lines, answer)
        self._acknowledged.update(line.number for line in lines)
        return None

    def _post(self, partition: int, lines: Sequence[Line], *, wait_for_leader: bool) -> Any:
        """The receipt of one batch; None where the cluster has it from before and does not know its offsets."""
        options, identity = self._options, self._identity
        now_ms = time.time_ns() // 1_000_000
        batch = build_batch(
            [(line.key, line.value, options.headers, now_ms) for line in lines],
            compression=options.compression,
            **({} if identity is None else identity.stamp(partition)),
        )
        path = f"{self._path}/partitions/{partition}/records?acks={options.acks}"
        headers = {"Content-Type": RECORD_BATCH}
        if identity is None:
            return self._client.request("POST", path, body=batch, headers=headers, retry=wait_for_leader).document()
        attempt_s = min(ATTEMPT_S, self._client.timeout_s / 2)
        try:
            return self._client.request(
                "POST",
                f"{path}&timeout={max(1, int(attempt_s * 900))}",
                body=batch,
                headers=headers,
                repeatable=True,
                retry=wait_for_leader,
                attempt_s=attempt_s,
                patient=True,
            ).document()
        except RequestFailure as failure:
            if failure.error_code == WRITTEN_BEFORE:
                return None
            if failure.error_code != UNKNOWN_PRODUCER or failure.outcome_is_unknown:
                raise
            # idle for longer than producer.id.expiration.ms: nothing of this batch is there, begin anew
            self._identity = self._introduce()
            return self._post(partition, lines, wait_for_leader=wait_for_leader)

    def _introduce(self) -> ProducerIdentity | None:
        """Ask for a producer id; None where batches go without one: acks below all, or a node from before them."""
        if self._options.acks not in ("all", "-1"):
            return None
        try:
            answer = self._client.send("POST", f"{CLUSTER}/producers", {}, repeatable=True, attempt_s=ATTEMPT_S / 2)
        except RequestFailure as failure:
            if failure.status == NO_ROUTE:
                return None
            raise
        return ProducerIdentity(answer["producer_id"], answer["producer_epoch"])


def _about_lines(failure: RequestFailure, lines: Sequence[Line]) -> RequestFailure:
    """Say which lines it is about."""
    doubt = "; they may or may not have been written" if failure.outcome_is_unknown else ""
    told = RequestFailure(failure.status, failure.document, f"{_named(lines)}: {failure.message}{doubt}")
    told.is_in_doubt = failure.is_in_doubt
    return told


def _named(lines: Sequence[Line]) -> str:
    first, last = lines[0].number, lines[-1].number
    return f"line {first}" if first == last else f"lines {first} to {last}"
