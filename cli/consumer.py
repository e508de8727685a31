"""Pulls a topic's partitions over a span of offsets: one request for all of them, which waits while there is nothing.

Invariants: no offset below a partition's position is returned, none at or above its end, and a position moves only past
what was returned (or what the cluster no longer has, which is told). Nothing here is stored: a consumer has no group.
"""

from collections.abc import Callable, Collection
from typing import Any, Final

from cli.failure import ExitCode, Failure
from cli.http_client import CLUSTER, HttpClient, RequestFailure, segment
from cli.offsets import Point, Span
from cli.record_format import ConsumedRecord, from_answer

POLL_RECORDS: Final = 20_000
POLL_BYTES: Final = 2 << 20
OUT_OF_RANGE: Final = 416


class TopicConsumer:
    """One topic's partitions, each with the next offset to read and, where the span has an end, where to stop."""

    def __init__(self, client: HttpClient, topic: str, span: Span, partitions: Collection[int] | None) -> None:
        self.topic = topic
        self._client = client
        self._path = f"{CLUSTER}/topics/{segment(topic)}/partitions"
        count = client.get(f"{CLUSTER}/topics/{segment(topic)}")["partitions_count"]
        wrong = [partition for partition in partitions or () if partition >= count]
        if wrong:
            raise Failure(f"topic {topic} has no partition {wrong[0]}: it has 0 to {count - 1}", ExitCode.NOT_FOUND)
        chosen = sorted(set(partitions)) if partitions is not None else range(count)
        self.positions: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self.unreadable: dict[int, str] = {}  # partitions that can't be read at the moment, and why
        for partition in chosen:
            bounds = client.get(f"{self._path}/{partition}/offset")
            self.positions[partition] = self._offset(span.start, partition, bounds)
            if span.until is not None:
                self._ends[partition] = self._offset(span.until, partition, bounds)
        self._drop_finished()

    @property
    def is_finished(self) -> bool:
        """Every partition was read to its end."""
        return not self.positions

    def pull(self, *, wait_ms: int, max_records: int | None, notice: Callable[[str], None]) -> list[ConsumedRecord]:
        """The next records, at most `max_records`; waits at the server up to `wait_ms` where there are none."""
        wish = {
            "offsets": [{"partition_id": partition, "offset": offset} for partition, offset in self.positions.items()],
            "max_poll_records": min(POLL_RECORDS, max_records or POLL_RECORDS),
            "fetch_max_bytes": POLL_BYTES,
        }
        path = f"{self._path}/-/records:consume?timeout={wait_ms}"
        try:
            answer = self._client.send("POST", path, wish, repeatable=True, wait_s=wait_ms / 1000)
        except RequestFailure as failure:
            if failure.status != OUT_OF_RANGE:
                raise
            self._skip_deleted(notice)
            return []
        pulled: list[ConsumedRecord] = []
        for part in answer["partition_data_list"]:
            if "records" in part:
                pulled += self._take(part)
            elif self.unreadable.setdefault(part["partition_id"], part["message"]) is part["message"]:
                notice(f"kraft: {self.topic} partition {part['partition_id']}: {part['message']}; trying again")
        self._drop_finished()
        return pulled

    def _take(self, part: dict[str, Any]) -> list[ConsumedRecord]:
        """A partition's records of an answer, without those past its end."""
        partition = part["partition_id"]
        end = self._ends.get(partition)
        records = from_answer(self.topic, part["records"])
        self.unreadable.pop(partition, None)
        self.positions[partition] = max(self.positions[partition], part["next_offset"])
        return records if end is None else [record for record in records if record.offset < end]

    def _offset(self, point: Point, partition: int, bounds: dict[str, Any]) -> int:
        """What a point is in one partition; never outside of what the partition holds."""
        earliest, latest = int(bounds["earliest_offset"]), int(bounds["latest_offset"])
        if point.kind == "offset":
            wanted = point.value
        elif point.kind == "timestamp":
            found = self._client.get(f"{self._path}/{partition}/offset?timestamp={point.value}").get("offset")
            wanted = latest if found is None or found < 0 else int(found)
        else:
            wanted = (earliest if point.kind == "start" else latest) + point.value
        return max(earliest, min(wanted, latest)) if point.kind != "offset" else max(earliest, wanted)

    def _drop_finished(self) -> None:
        for partition, end in self._ends.items():
            if self.positions.get(partition, end) >= end:
                self.positions.pop(partition, None)

    def _skip_deleted(self, notice: Callable[[str], None]) -> None:
        """Retention (or a deletion) was faster than we: go on with the oldest that is left."""
        moved = False
        for partition, offset in list(self.positions.items()):
            bounds = self._client.get(f"{self._path}/{partition}/offset")
            allowed = max(bounds["earliest_offset"], min(offset, bounds["latest_offset"]))
            if allowed != offset:
                notice(
                    f"kraft: {self.topic} partition {partition}: offset {offset} is not there, going on at {allowed}"
                )
                self.positions[partition] = allowed
                moved = True
        self._drop_finished()
        if not moved:
            raise Failure(f"topic {self.topic}: the cluster refuses offsets that it says it has; try again")
