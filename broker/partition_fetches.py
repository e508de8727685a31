"""One fetch over many partitions: as much as its bounds allow, at once or after one wait for more.

Owns what Kafka's Fetch means below the wire, for consumers (up to the high watermark) and followers (up to the log
end): the share of each partition in `max_bytes`, the wait for `min_bytes`, and which partitions of a long-lived fetch
need a look at all. Refuses nothing as a whole: a partition that can't be read has its own refusal. Who may fetch as a
follower is the door's to decide (S9).
Invariants:
- a fetch is answered once, at its deadline at the latest (L1); an error or a diverging epoch ends the wait at once;
- where anything can be read, at least one batch is, whatever `max_bytes` says, so that a client always gets on;
- a partition is passed over only while nothing has happened to it since it was last found without news; a look at all
  of them at least every `look_at_all_s` makes up for what nobody tells of (retention moved a log's start).
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable
from typing import Final, NamedTuple
from uuid import UUID

from broker.replication.replica import Fetched, Replica
from broker.waiting_room import WaitingRoom
from metadata.image import Image
from wire.errors import ErrorCode, RefusedError

TopicKey = UUID | str
"""By its id, or in protocol versions that have none by its name, which is looked up anew at every read (S17)."""
Key = tuple[TopicKey, int]

LOG_END: Final = "log end"
"""As in `Replica.log_end_key`."""
LOOK_AT_ALL_S: Final = 5.0
LOOK_AGAIN_S: Final = 0.005
"""Whoever waits for many bytes looks no more often than this: each look reads again what is already there."""


class Wanted(NamedTuple):
    """Where one partition is read from; an epoch of -1 is not checked."""

    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1


class Follower(NamedTuple):
    """The broker that fetches, in its registered epoch."""

    broker_id: int
    broker_epoch: int


class Bounds(NamedTuple):
    max_bytes: int
    min_bytes: int
    max_wait_ms: int


class Answered(NamedTuple):
    """What one partition answers: `fetched`, or why not."""

    key: Key
    topic_id: UUID | None
    fetched: Fetched | None
    refused: RefusedError | None

    @property
    def size_bytes(self) -> int:
        return 0 if self.fetched is None else len(self.fetched.slice.data)


class FetchedPartition:
    """One partition of a `FetchSet`."""

    __slots__ = ("sent_high_watermark", "sent_log_start_offset", "wanted", "watched_id")

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.sent_high_watermark = -1
        self.sent_log_start_offset = -1
        self.watched_id: UUID | None = None


class FetchSet:
    """The partitions that one client fetches again and again, and which of them may have news.

    Lives for one request, or as a fetch session (KIP-227) until `close`.
    """

    def __init__(self, waiting_room: WaitingRoom, *, follower: Follower | None) -> None:
        self.follower = follower
        self.partitions: dict[Key, FetchedPartition] = {}
        self.looked_at_all_s = 0.0
        self._waiting_room = waiting_room
        self._news: dict[Key, None] = {}
        self._by_watched: dict[tuple[UUID, int], Key] = {}
        self._is_watching = False
        self.waiting: _WaitingFetch | None = None

    def want(self, key: Key, wanted: Wanted) -> None:
        """Read this partition, from now on from there."""
        partition = self.partitions.get(key)
        if partition is None:
            self.partitions[key] = FetchedPartition(wanted)
        else:
            partition.wanted = wanted
        self._news[key] = None

    def drop(self, key: Key) -> None:
        """Read it no more; no effect where it is not wanted."""
        partition = self.partitions.pop(key, None)
        if partition is not None:
            self._news.pop(key, None)
            self._unwatch(key, partition)

    def close(self) -> None:
        """Hear of nothing any more."""
        for key, partition in self.partitions.items():
            self._unwatch(key, partition)
        self._is_watching = False
        self.waiting = None

    def news(self) -> list[Key]:
        """Whatever may have something to tell, the longest waiting first."""
        return list(self._news)

    def look_at_all(self) -> None:
        for key in self.partitions:
            self._news.setdefault(key)

    def told(self, answered: Answered, *, has_more: bool) -> None:
        """Read just now; without anything to come back for it has no news until something happens."""
        self._news.pop(answered.key, None)
        if has_more:
            self._news[answered.key] = None  # behind the others: each gets its turn

    def watch(self) -> None:
        """Hear from now on of what happens to the partitions, also to those that are wanted later."""
        if not self._is_watching:
            self._is_watching = True
            for key, partition in self.partitions.items():
                self._watch(key, partition)

    def found(self, key: Key, partition: FetchedPartition, topic_id: UUID | None) -> None:
        """Under which id the partition is known now: a topic's name may have come to mean another topic."""
        if partition.watched_id != topic_id:
            self._unwatch(key, partition)
            partition.watched_id = topic_id
            if self._is_watching:
                self._watch(key, partition)

    def _watch(self, key: Key, partition: FetchedPartition) -> None:
        topic_id, index = partition.watched_id, key[1]
        if topic_id is None:
            return
        self._by_watched[topic_id, index] = key
        if self.follower is None:
            self._waiting_room.watch((topic_id, index), self._has_news)
        else:
            # A follower learns of a moved high watermark with the next records, or at the end of its wait.
            self._waiting_room.watch((topic_id, index, LOG_END), self._has_news)
            self._waiting_room.watch((topic_id, index), self._has_quiet_news)

    def _unwatch(self, key: Key, partition: FetchedPartition) -> None:
        topic_id, index = partition.watched_id, key[1]
        if topic_id is None or self._by_watched.pop((topic_id, index), None) is None:
            return
        self._waiting_room.unwatch((topic_id, index), self._has_news)
        self._waiting_room.unwatch((topic_id, index), self._has_quiet_news)
        self._waiting_room.unwatch((topic_id, index, LOG_END), self._has_news)

    def _has_quiet_news(self, progress: Hashable) -> None:
        assert isinstance(progress, tuple)
        self._news.setdefault(self._by_watched[progress[0], progress[1]])

    def _has_news(self, progress: Hashable) -> None:
        self._has_quiet_news(progress)
        if self.waiting is not None:
            self.waiting.has_news()


class PartitionFetches:
    """Reads `FetchSet`s. All methods on the node's loop."""

    def __init__(
        self,
        *,
        replica: Callable[[UUID, int], Replica],
        image: Callable[[], Image],
        loop: asyncio.AbstractEventLoop,
        look_at_all_s: float = LOOK_AT_ALL_S,
    ) -> None:
        self._replica = replica
        self._image = image
        self._loop = loop
        self._look_at_all_s = look_at_all_s
        self._waiting: dict[_WaitingFetch, None] = {}

    def fetch(self, fetched: FetchSet, bounds: Bounds) -> "dict[Key, Answered] | asyncio.Future[dict[Key, Answered]]":
        """What is there, where that is enough, else a future of what there will be."""
        if fetched.waiting is not None:
            fetched.waiting.finish()  # whoever asks again does not wait for the first answer
        now_s = self._loop.time()
        if now_s - fetched.looked_at_all_s >= self._look_at_all_s:
            fetched.looked_at_all_s = now_s
            fetched.look_at_all()
        reading = _Reading(self, fetched, bounds)
        reading.read(fetched.news())
        if reading.is_enough or bounds.max_wait_ms <= 0 or not fetched.partitions:
            return reading.answers
        waiting = _WaitingFetch(self._loop, reading, self._waiting)
        return waiting.future

    def answer_all_now(self) -> None:
        """The node stops: whoever waits gets what there is."""
        for waiting in list(self._waiting):
            waiting.finish()

    def read(self, key: Key, fetched: FetchSet, *, max_bytes: int, at_least_one: bool) -> Answered:
        """One partition, now."""
        partition, follower = fetched.partitions[key], fetched.follower
        topic, index = key
        topic_id = topic if isinstance(topic, UUID) else self._image().topic_ids.get(topic)
        if partition.watched_id != topic_id:
            fetched.found(key, partition, topic_id)
        offset, partition_max_bytes, current_leader_epoch, last_fetched_epoch = partition.wanted
        try:
            replica = self._known(topic_id, index)
            if follower is None:
                found = replica.fetch_now(
                    offset,
                    max_bytes=min(partition_max_bytes, max_bytes),
                    at_least_one=at_least_one,
                    current_leader_epoch=current_leader_epoch,
                    last_fetched_epoch=last_fetched_epoch,
                )
            else:
                found = replica.fetch_as_follower(
                    broker_id=follower.broker_id,
                    broker_epoch=follower.broker_epoch,
                    current_leader_epoch=current_leader_epoch,
                    fetch_offset=offset,
                    last_fetched_epoch=last_fetched_epoch,
                    max_bytes=min(partition_max_bytes, max_bytes),
                    at_least_one=at_least_one,
                )
        except RefusedError as refused:
            return Answered(key, topic_id, None, refused)
        return Answered(key, topic_id, found, None)

    def _known(self, topic_id: UUID | None, partition: int) -> Replica:
        if topic_id is None:
            raise RefusedError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
        return self._replica(topic_id, partition)


class _Reading:
    """The answers of one fetch as they come together."""

    __slots__ = ("_fetches", "_size_bytes", "answers", "bounds", "fetched", "must_answer")

    def __init__(self, fetches: PartitionFetches, fetched: FetchSet, bounds: Bounds) -> None:
        self._fetches = fetches
        self.fetched = fetched
        self.bounds = bounds
        self.answers: dict[Key, Answered] = {}
        self.must_answer = False
        self._size_bytes = 0

    @property
    def is_enough(self) -> bool:
        return self.must_answer or self._size_bytes >= self.bounds.min_bytes

    def read(self, keys: Iterable[Key]) -> None:
        """Look at these; what was read of them before is replaced."""
        fetched, answers, max_bytes = self.fetched, self.answers, self.bounds.max_bytes
        for key in keys:
            if (before := answers.get(key)) is not None:
                self._size_bytes -= before.size_bytes
            left = max(max_bytes - self._size_bytes, 0)
            answered = self._fetches.read(key, fetched, max_bytes=left, at_least_one=not self._size_bytes)
            answers[key] = answered
            found = answered.fetched
            if found is None or found.diverging is not None:
                self.must_answer = True
                fetched.told(answered, has_more=True)
                continue
            self._size_bytes += len(found.slice.data)
            end = found.high_watermark if fetched.follower is None else found.log_end_offset
            fetched.told(answered, has_more=fetched.partitions[key].wanted.fetch_offset < end)


class _WaitingFetch:
    """A fetch that waits for more; reads again, once a turn of the loop, what has news."""

    __slots__ = ("_again", "_loop", "_reading", "_timer", "_waiting", "future")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, reading: _Reading, waiting: "dict[_WaitingFetch, None]"
    ) -> None:
        self._loop = loop
        self._reading = reading
        self._waiting = waiting
        self._again: asyncio.Handle | None = None
        self._timer = loop.call_later(reading.bounds.max_wait_ms / 1000, self.finish)
        self.future: asyncio.Future[dict[Key, Answered]] = loop.create_future()
        self.future.add_done_callback(self._over)
        waiting[self] = None
        reading.fetched.waiting = self
        reading.fetched.watch()

    def finish(self) -> None:
        """Answer with what there is."""
        if not self.future.done():
            self._read()
            self._answer()

    def has_news(self) -> None:
        if self._again is not None:
            return
        if self._reading.bounds.min_bytes > 1:
            self._again = self._loop.call_later(LOOK_AGAIN_S, self._look)
        else:
            self._again = self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._again = None
        if self.future.done():
            return
        self._read()
        if self._reading.is_enough:
            self._answer()

    def _answer(self) -> None:
        self.future.set_result(self._reading.answers)
        if self._reading.fetched.waiting is self:
            self._reading.fetched.waiting = None

    def _read(self) -> None:
        self._reading.read(self._reading.fetched.news())

    def _over(self, _: "asyncio.Future[dict[Key, Answered]]") -> None:
        """Answered, or whoever asked went away."""
        self._timer.cancel()
        if self._again is not None:
            self._again.cancel()
        if self._reading.fetched.waiting is self:
            self._reading.fetched.waiting = None
        self._waiting.pop(self, None)
