"""Pulls a topic's partitions over a span of offsets: one request for all of them, which waits while there is nothing.

Invariants: no offset below a partition's position is returned, none at or above its end, and a position moves only past
what was returned (or what the cluster no longer has, or its disk has lost, which is told). Nothing here is stored: a
consumer has no group.
"""

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, HttpClient, RequestFailure, segment
from cli.offsets import Point, Span
from cli.record_format import ConsumedRecord, from_answer

POLL_RECORDS: Final = 20_000
POLL_BYTES: Final = 2 << 20
ATTEMPT_S: Final = 5.0
"""So much longer than it was asked to wait may a node take, before another one is asked: it may be paused."""
AHEAD_PATIENCE_S: Final = 10.0
OUT_OF_RANGE: Final = 416
DAMAGED: Final = 50002  # the body's error_code
Notice = Callable[[str], None]


class TopicConsumer:
    """One topic's partitions, each with the next offset to read and, where the span has an end, where to stop."""

    def __init__(
        self, client: HttpClient, topic: str, span: Span, partitions: Collection[int] | None, *, waits: bool
    ) -> None:
        """`waits`: an end that is not there yet is waited for; otherwise what is there now is all."""
        self.topic = topic
        self.positions: dict[int, int] = {}
        self.unreadable: dict[int, str] = {}  # partitions that can't be read at the moment, and why
        self.lost_records = 0  # skipped, since the disk has lost them
        self._client = client
        self._path = f"{CLUSTER}/topics/{segment(topic)}/partitions"
        self._span = span
        self._waits = waits
        self._has_read: set[int] = set()  # partitions whose position the cluster itself told by its records
        self._ahead_since_s: dict[int, float] = {}
        self._floors: dict[int, int] = {}  # a start that lies ahead: what comes before it is not for us
        self._ends: dict[int, int] = {}
        listed = {entry["partition_id"]: entry for entry in client.get_list(self._path)}
        wrong = [partition for partition in partitions or () if partition not in listed]
        if wrong:
            raise Failure(
                f"topic {topic} has no partition {wrong[0]}: it has 0 to {len(listed) - 1}", ExitCode.NOT_FOUND
            )
        self._unplaced = set(listed if partitions is None else partitions)  # whose bounds nobody could tell yet
        self._place(listed)

    @property
    def is_finished(self) -> bool:
        """Every partition was read to its end."""
        return not self.positions and not self._unplaced

    def pull(self, *, wait_ms: int, max_records: int | None, notice: Notice) -> list[ConsumedRecord]:
        """The next records, at most `max_records`; waits at the server up to `wait_ms` where there are none."""
        if self._unplaced:
            self._place({entry["partition_id"]: entry for entry in self._client.get_list(self._path)}, notice)
        if not self.positions:
            return []
        wish = {
            "offsets": [{"partition_id": partition, "offset": offset} for partition, offset in self.positions.items()],
            "max_poll_records": min(POLL_RECORDS, max_records or POLL_RECORDS),
            "fetch_max_bytes": POLL_BYTES,
        }
        path = f"{self._path}/-/records:consume?timeout={wait_ms}"
        try:
            wait_s = wait_ms / 1000
            answer = self._client.send("POST", path, wish, repeatable=True, wait_s=wait_s, attempt_s=wait_s + ATTEMPT_S)
        except RequestFailure as failure:
            if failure.error_code == DAMAGED and "partition_id" in failure.document:
                self._skip_damaged(failure.document, notice)
            elif failure.status == OUT_OF_RANGE:
                self._skip_deleted(notice)
            else:
                raise
            return []
        pulled: list[ConsumedRecord] = []
        for part in answer["partition_data_list"]:
            if "records" in part:
                pulled += self._take(part)
            elif part["error_code"] == DAMAGED:
                self._skip_damaged(part, notice)
            else:
                self._mark_unreadable(part["partition_id"], part["message"], notice)
        self._drop_finished()
        return pulled

    def _take(self, part: dict[str, Any]) -> list[ConsumedRecord]:
        """A partition's records of an answer, without those past its end."""
        partition = part["partition_id"]
        floor, end = self._floors[partition], self._ends.get(partition)
        records = from_answer(self.topic, part["records"])
        self.unreadable.pop(partition, None)
        self._ahead_since_s.pop(partition, None)
        self._has_read.update([partition] if records else [])
        self.positions[partition] = max(self.positions[partition], part["next_offset"])
        if records and (records[0].offset < floor or (end is not None and records[-1].offset >= end)):
            records = [record for record in records if floor <= record.offset and (end is None or record.offset < end)]
        return records

    def _place(self, listed: Mapping[int, Mapping[str, Any]], notice: Notice | None = None) -> None:
        """Find the first position of each partition whose leader told its bounds."""
        for partition in sorted(self._unplaced):
            entry = listed[partition]
            earliest, latest = entry["log_start_offset"], entry["high_watermark"]
            if earliest is None or latest is None:
                if notice is not None:  # at the first look a leader may just be busy
                    self._mark_unreadable(partition, "it has no leader that answers", notice)
                continue
            bounds = (int(earliest), int(latest))
            self._floors[partition] = max(bounds[0], self._offset(self._span.start, partition, bounds))
            self.positions[partition] = min(self._floors[partition], bounds[1])
            if self._span.until is not None:
                end = self._offset(self._span.until, partition, bounds)
                self._ends[partition] = end if self._waits else min(end, bounds[1])
            self._unplaced.discard(partition)
            self.unreadable.pop(partition, None)
        self._drop_finished()

    def _mark_unreadable(self, partition: int, reason: str, notice: Notice) -> None:
        if partition not in self.unreadable:
            notice(f"kraft: {self.topic} partition {partition}: {reason}; trying again")
        self.unreadable[partition] = reason

    def _offset(self, point: Point, partition: int, bounds: tuple[int, int]) -> int:
        """What a point is in one partition."""
        earliest, latest = bounds
        if point.kind == "offset":
            return point.value
        if point.kind == "timestamp":
            return int(self._client.get(f"{self._path}/{partition}/offset?timestamp={point.value}")["offset"])
        return max(earliest, min(latest, (earliest if point.kind == "start" else latest) + point.value))

    def _drop_finished(self) -> None:
        for partition, end in self._ends.items():
            if self.positions.get(partition, end) >= end:
                self.positions.pop(partition, None)

    def _skip_damaged(self, part: Mapping[str, Any], notice: Notice) -> None:
        """The disk lost a range: say so, and go on behind it, as no retry brings it back."""
        partition, next_offset = part["partition_id"], part["next_offset"]
        assert next_offset > self.positions[partition], part
        lost = f"offsets {self.positions[partition]} to {next_offset - 1}"
        notice(f"kraft: {self.topic} partition {partition}: {lost} are damaged on its disk, going on at {next_offset}")
        self.lost_records += next_offset - self.positions[partition]
        self.positions[partition] = next_offset
        self._drop_finished()

    def _skip_deleted(self, notice: Notice) -> None:
        """Retention (or a deletion) was faster than we: go on with the oldest that is left.

        An offset above the end is waited for at first: a new leader may be a moment behind what the last one showed,
        and to go back would print records twice. What stays gone was given up by an unclean election.
        """
        moved = False
        for partition, offset in list(self.positions.items()):
            bounds = self._client.get(f"{self._path}/{partition}/offset")
            allowed = max(bounds["earliest_offset"], min(offset, bounds["latest_offset"]))
            if allowed < offset and self._is_patient_with(partition):
                self._mark_unreadable(partition, f"offset {offset} is not there yet", notice)
                moved = True
            elif allowed != offset:
                notice(
                    f"kraft: {self.topic} partition {partition}: offset {offset} is not there, going on at {allowed}"
                )
                self.positions[partition] = allowed
                moved = True
        self._drop_finished()
        if not moved:
            raise Failure(f"topic {self.topic}: the cluster refuses offsets that it says it has; try again")

    def _is_patient_with(self, partition: int) -> bool:
        since_s = self._ahead_since_s.setdefault(partition, time.monotonic())
        return partition in self._has_read and time.monotonic() - since_s < AHEAD_PATIENCE_S
