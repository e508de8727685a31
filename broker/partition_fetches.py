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
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple
from uuid import UUID

from broker.replication.replica import Fetched, Replica
from broker.waiting_room import WaitingRoom
from metadata.image import Image
from wire.errors import ErrorCode, RefusedError

TopicKey = UUID | str
"""By its id, or in protocol versions that have none by its name, which is looked up anew at every read (S17)."""
LOOK_AT_ALL_S: Final = 5.0
LOOK_AGAIN_S: Final = 0.005
"""Whoever waits for many bytes looks no more often than this: each look reads again what is already there."""


class Wanted(NamedTuple):
    """Where one partition is read from; an epoch of -1 is not checked."""

    fetch_offset: int
    max_bytes: int
    current_leader_epoch: int = -1
    last_fetched_epoch: int = -1
    log_start_offset: int = -1
    """Where the log of the follower that fetches begins; -1: it does not say."""


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

    fetched: Fetched | None
    refused: RefusedError | None


class FetchedPartition:
    """One partition of a `FetchSet`: where it is read, who leads it here, and what was last told of it."""

    __slots__ = (
        "_of",
        "index",
        "replica",
        "sent_high_watermark",
        "sent_log_start_offset",
        "topic",
        "wanted",
    )

    def __init__(self, of: "FetchSet", topic: TopicKey, index: int, wanted: Wanted) -> None:
        self._of = of
        self.topic = topic
        self.index = index
        self.wanted = wanted
        self.replica: Replica | None = None
        self.sent_high_watermark = -1
        self.sent_log_start_offset = -1

    def has_news(self) -> None:
        """Something happened that whoever waits should look at."""
        self.has_quiet_news()
        if self._of.waiting is not None:
            self._of.waiting.has_news()

    def has_quiet_news(self) -> None:
        """Something happened that the next answer should tell."""
        self._of.news.setdefault(self)


class FetchSet:
    """The partitions that one client fetches again and again, and which of them may have news.

    Lives for one request, or as a fetch session (KIP-227) until `close`.
    """

    def __init__(self, waiting_room: WaitingRoom, *, follower: Follower | None) -> None:
        self.follower = follower
        self.news: dict[FetchedPartition, None] = {}
        """Whatever may have something to tell, the longest waiting first."""
        self.looked_at_all_s = 0.0
        self.waiting: _WaitingFetch | None = None
        self._topics: dict[TopicKey, dict[int, FetchedPartition]] = {}
        self._waiting_room = waiting_room
        self._is_watching = False

    def __len__(self) -> int:
        return sum(map(len, self._topics.values()))

    def __iter__(self) -> Iterator[FetchedPartition]:
        for partitions in self._topics.values():
            yield from partitions.values()

    def want(self, topic: TopicKey, wanted: Iterable[tuple[int, Wanted]]) -> None:
        """Read these partitions, from now on from there."""
        partitions, news = self._topics.setdefault(topic, {}), self.news
        for index, where in wanted:
            partition = partitions.get(index)
            if partition is None:
                partition = partitions[index] = FetchedPartition(self, topic, index, where)
            else:
                partition.wanted = where
            news[partition] = None

    def drop(self, topic: TopicKey, indexes: Iterable[int]) -> None:
        """Read them no more; no effect where they are not wanted."""
        partitions = self._topics.get(topic)
        if partitions is None:
            return
        for index in indexes:
            if (partition := partitions.pop(index, None)) is not None:
                self.news.pop(partition, None)
                self._unwatch(partition)
        if not partitions:
            del self._topics[topic]

    def close(self) -> None:
        """Hear of nothing any more."""
        if self._is_watching:
            for partition in self:
                self._unwatch(partition)
        self._is_watching = False
        self.waiting = None

    def look_at_all(self) -> None:
        for partition in self:
            self.news.setdefault(partition)

    def told(self, partition: FetchedPartition, *, had_its_turn: bool, has_more: bool) -> None:
        """Read just now; without anything to come back for it has no news until something happens."""
        if had_its_turn or not has_more:
            self.news.pop(partition, None)
        if has_more:
            self.news.setdefault(partition)  # behind the others, or where it was

    def watch(self) -> None:
        """Hear from now on of what happens to the partitions, also to those that are wanted later."""
        if not self._is_watching:
            self._is_watching = True
            for partition in self:
                self._watch(partition)

    def found(self, partition: FetchedPartition, replica: Replica | None) -> None:
        """Who holds the partition here from now on; None: nobody that can be read."""
        if partition.replica is not replica:
            self._unwatch(partition)
            partition.replica = replica
            if self._is_watching:
                self._watch(partition)

    def _watch(self, partition: FetchedPartition) -> None:
        replica, room = partition.replica, self._waiting_room
        if replica is None:
            return
        if self.follower is None:
            room.watch(replica.high_watermark_key, partition.has_news)
        else:
            # A follower learns of a moved high watermark with the next records, or at the end of its wait.
            room.watch(replica.log_end_key, partition.has_news)
            room.watch(replica.high_watermark_key, partition.has_quiet_news)

    def _unwatch(self, partition: FetchedPartition) -> None:
        replica, room = partition.replica, self._waiting_room
        if replica is None or not self._is_watching:
            return
        room.unwatch(replica.high_watermark_key, partition.has_news)
        room.unwatch(replica.high_watermark_key, partition.has_quiet_news)
        room.unwatch(replica.log_end_key, partition.has_news)


Answers = dict[FetchedPartition, Answered]


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

    def fetch(self, fetched: FetchSet, bounds: Bounds) -> Answers | asyncio.Future[Answers]:
        """What is there, where that is enough, else a future of what there will be."""
        if fetched.waiting is not None:
            fetched.waiting.finish()  # whoever asks again does not wait for the first answer
        now_s = self._loop.time()
        if now_s - fetched.looked_at_all_s >= self._look_at_all_s:
            fetched.looked_at_all_s = now_s
            fetched.look_at_all()
        reading = _Reading(self, fetched, bounds)
        reading.read()
        if reading.is_enough or bounds.max_wait_ms <= 0 or not len(fetched):
            return reading.answers
        return _WaitingFetch(self._loop, reading, self._waiting).future

    def answer_all_now(self) -> None:
        """The node stops: whoever waits gets what there is."""
        for waiting in list(self._waiting):
            waiting.finish()

    def read(
        self,
        partition: FetchedPartition,
        fetched: FetchSet,
        *,
        max_bytes: int,
        at_least_one: bool,
        is_read_again: bool = False,
    ) -> Answered:
        """One partition, now. `is_read_again`: for a request that came earlier and has waited since."""
        follower = fetched.follower
        offset, partition_max_bytes, current_leader_epoch, last_fetched_epoch, log_start_offset = partition.wanted
        try:
            replica = partition.replica
            if replica is None or not replica.is_leader:
                replica = self._find(partition, fetched)
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
                    log_start_offset=log_start_offset,
                    at_least_one=at_least_one,
                    takes_records=partition_max_bytes > 0,
                    is_read_again=is_read_again,
                )
        except RefusedError as refused:
            return Answered(None, refused)
        return Answered(found, None)

    def _find(self, partition: FetchedPartition, fetched: FetchSet) -> Replica:
        """A replica that led stays the partition's until it leads no more: then it is looked up anew."""
        fetched.found(partition, None)
        topic = partition.topic
        topic_id = topic if isinstance(topic, UUID) else self._image().topic_ids.get(topic)
        if topic_id is None:
            raise RefusedError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "there is no such topic")
        replica = self._replica(topic_id, partition.index)
        fetched.found(partition, replica)
        return replica


class _Reading:
    """The answers of one fetch as they come together."""

    __slots__ = ("_fetches", "_has_read", "_size_bytes", "answers", "bounds", "fetched", "must_answer")

    def __init__(self, fetches: PartitionFetches, fetched: FetchSet, bounds: Bounds) -> None:
        self._fetches = fetches
        self.fetched = fetched
        self.bounds = bounds
        self.answers: Answers = {}
        self.must_answer = False
        self._has_read = False
        self._size_bytes = 0

    @property
    def is_enough(self) -> bool:
        return self.must_answer or self._size_bytes >= self.bounds.min_bytes

    def read(self) -> None:
        """Look at whatever may have news; what was read of it before is replaced."""
        fetched, answers, max_bytes = self.fetched, self.answers, self.bounds.max_bytes
        is_follower = fetched.follower is not None
        for partition in list(fetched.news):
            before = answers.get(partition)
            if before is not None and before.fetched is not None:
                self._size_bytes -= len(before.fetched.slice.data)
            left = max(max_bytes - self._size_bytes, 0)
            answered = self._fetches.read(
                partition,
                fetched,
                max_bytes=left,
                at_least_one=not self._size_bytes,
                is_read_again=self._has_read,
            )
            answers[partition] = answered
            found = answered.fetched
            if found is None or found.diverging is not None:
                self.must_answer = True
                fetched.told(partition, had_its_turn=True, has_more=True)
                continue
            size_bytes = len(found.slice.data)
            self._size_bytes += size_bytes
            end = found.log_end_offset if is_follower else found.high_watermark
            fetched.told(partition, had_its_turn=size_bytes > 0, has_more=partition.wanted.fetch_offset < end)
            if is_follower and self._has_read:
                fetched.news.setdefault(partition)  # what a follower holds counts with its next request
        self._has_read = True


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
        self.future: asyncio.Future[Answers] = loop.create_future()
        self.future.add_done_callback(self._over)
        waiting[self] = None
        reading.fetched.waiting = self
        reading.fetched.watch()

    def finish(self) -> None:
        """Answer with what there is."""
        if not self.future.done():
            self._reading.read()
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
        self._reading.read()
        if self._reading.is_enough:
            self._answer()

    def _answer(self) -> None:
        self.future.set_result(self._reading.answers)
        if self._reading.fetched.waiting is self:
            self._reading.fetched.waiting = None

    def _over(self, _: "asyncio.Future[Answers]") -> None:
        """Answered, or whoever asked went away."""
        self._timer.cancel()
        if self._again is not None:
            self._again.cancel()
        if self._reading.fetched.waiting is self:
            self._reading.fetched.waiting = None
        self._waiting.pop(self, None)
