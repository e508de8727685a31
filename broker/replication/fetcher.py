"""Copies all partitions that this broker follows of one leader broker: fetch, append, sync, fetch again.

Owns the connection to that leader and the rhythm: one Fetch in flight over all partitions (long poll), then what came
is appended in slices that leave the loop to others, then every touched log is synced, all of them at once, and only
then the next Fetch acknowledges it. Refuses nothing by itself: the pure core (`follower.py`) judges each answer.
Invariants:
- S2: a fetch offset is a durable end; where a log's end is not synced, that partition is not fetched.
- S11: an answer is applied only to the request in flight; follow, unfollow or a new connection make it stale.
- A partition that errs, is fenced or throttled waits alone; the others go on.
"""

import asyncio
import heapq
import ssl
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID  # noqa: TC003 - one place for imports, as everywhere

from broker.clock import Clock
from broker.event_log import logger
from broker.replication.divergence import EpochEnd
from broker.replication.fetch_session import FetchSession, Key, SessionRequest
from broker.replication.follower import (
    Append,
    BackOff,
    FetchAnswer,
    FetchPosition,
    PartitionFollower,
    StartAt,
    Step,
    TruncateTo,
)
from broker.replication.leader_connection import LeaderConnection, open_connection
from broker.replication.replica import Replica
from broker.replication.throttle import ReplicationThrottle
from metadata.image import Endpoint
from wire.connection import ReceiveBuffers
from wire.errors import ErrorCode, RefusedError
from wire.messages import ApiKey
from wire.messages.fetch import (
    FetchPartition,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    ForgottenTopic,
    PartitionData,
    ReplicaState,
)

FETCH_VERSION: Final = 17
SLICE_S: Final = 0.005
RECONNECT_S_MAX: Final = 1.0
RECEIVE_BYTES_KEPT_MAX: Final = 16 << 20
STALE_POLL_S: Final = 0.05
"""A fetch that has been under way for longer is a long poll with nothing to say."""
SESSION_ERRORS: Final = frozenset(
    (
        ErrorCode.FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode.INVALID_FETCH_SESSION_EPOCH,
        ErrorCode.FETCH_SESSION_TOPIC_ID_ERROR,
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchSettings:
    """What all fetchers of a broker share."""

    broker_id: int
    cluster_id: str
    broker_epoch: Callable[[], int | None]
    clock: Clock
    throttle: ReplicationThrottle
    tls: Callable[[], ssl.SSLContext | None]
    max_wait_ms: int
    min_bytes: int
    partition_max_bytes: int
    response_max_bytes: int
    answer_timeout_s: float
    reconnect_s: float
    buffers: ReceiveBuffers = field(default_factory=lambda: ReceiveBuffers(RECEIVE_BYTES_KEPT_MAX))
    """What leaders answer goes into them: it is on disk before the next fetch, which then goes into the same."""


@dataclass(slots=True, eq=False)
class Followed:
    """One partition that is followed in one leader epoch."""

    replica: Replica
    core: PartitionFollower
    is_throttled: bool
    takes_records: bool = True
    """False: its disk was full when it was asked last, and the leader is told so (S19)."""
    asked: FetchPosition | None = field(default=None, repr=False)

    @property
    def key(self) -> Key:
        return self.replica.key


class LeaderFetcher:
    """Everything that is fetched from one broker; `run` it as a task."""

    def __init__(self, leader_id: int, settings: FetchSettings) -> None:
        self.leader_id = leader_id
        self._settings = settings
        self._endpoint: Endpoint | None = None
        self._followed: dict[Key, Followed] = {}
        self._session = FetchSession()
        self._due: dict[Key, None] = {}
        self._full: dict[Key, None] = {}
        """Those that take no records, for want of space."""
        self._later: list[tuple[float, UUID, int]] = []
        self._unsynced: dict[Key, int] = {}
        self._all_synced = asyncio.Event()
        self._soon = asyncio.Event()
        self._connection: LeaderConnection | None = None
        self._failures = 0
        self._hurries = False
        self._is_known = False
        self._log = logger(leader_id=leader_id)

    # ---- what to follow

    @property
    def is_idle(self) -> bool:
        return not self._followed

    def found_at(self, endpoint: Endpoint | None) -> None:
        """The leader registered: where its followers come to, and no reason to wait for it any longer."""
        if endpoint != self._endpoint and self._connection is not None:
            self._connection.close()
        self._endpoint = endpoint
        self._failures = 0
        self._soon.set()

    def follow(self, followed: Followed) -> None:
        """Copy this partition; nothing that was asked for it before is applied any more."""
        self._followed[followed.key] = followed
        followed.replica.on_durable = self._durable
        self._due[followed.key] = None
        self._soon.set()
        connection = self._connection
        if connection is not None and connection.is_waiting_s > STALE_POLL_S:
            # What is new would wait for the end of a long poll, in the middle of a failover.
            self._hurries = True
            connection.close()

    def ask_again(self, key: Key) -> None:
        """What this partition waits for may be over."""
        self._due[key] = None
        self._soon.set()

    def unfollow(self, followed: Followed) -> None:
        """Copy it no more."""
        key = followed.key
        if self._followed.get(key) is followed:
            del self._followed[key]
            followed.replica.on_durable = None
            self._session.drop(key)
            self._due.pop(key, None)
            self._is_synced(key)

    # ---- the rounds

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            if self._endpoint is None or not self._followed:
                await self._wake(None)
                continue
            try:
                await self._fetch_from(self._endpoint)
            except OSError as error:
                if self._hurries:
                    self._hurries = False
                else:
                    await self._unreachable(self._endpoint, error)

    async def _fetch_from(self, endpoint: Endpoint) -> None:
        """Connect and fetch until nothing is followed any more, or the leader listens elsewhere; raises OSError."""
        settings = self._settings
        name = f"broker-{settings.broker_id}-fetcher"
        connection = await open_connection(
            endpoint, client_id=name, leader_id=self.leader_id, tls=settings.tls(), buffers=settings.buffers
        )
        self._connection = connection
        self._hurries = False
        self._session.reset()
        self._due.update(dict.fromkeys(self._followed))
        try:
            while self._followed and endpoint == self._endpoint:
                self._ask_for_due()
                if not self._session.wanted:
                    await self._wake(self._next_s())
                    continue
                await self._round(connection)
        finally:
            self._connection = None
            connection.close()

    async def _round(self, connection: LeaderConnection) -> None:
        """One fetch from request to durable; raises OSError."""
        self._soon.clear()
        answer = await connection.ask(
            ApiKey.FETCH,
            FETCH_VERSION,
            self._request(self._session.next_request()),
            timeout_s=self._settings.max_wait_ms / 1000 + self._settings.answer_timeout_s,
        )
        assert isinstance(answer, FetchResponse), answer
        if answer.error_code in SESSION_ERRORS:
            self._session.reset()
            return
        if answer.error_code != ErrorCode.NONE:
            raise ConnectionRefusedError(f"fetch refused: {_name(answer.error_code)}")
        if self._failures or not self._is_known:
            self._is_known = True
            self._log.info("following", partitions=len(self._followed))
        self._failures = 0
        self._session.answered(answer.session_id)
        await self._apply(answer)

    async def _apply(self, answer: FetchResponse) -> None:
        loop = asyncio.get_running_loop()
        until_s = loop.time() + SLICE_S
        touched: list[tuple[Followed, Append]] = []
        for topic in answer.responses:
            for data in topic.partitions:
                followed = self._followed.get((topic.topic_id, data.partition_index))
                if followed is None or followed.asked is None:
                    continue
                step = self._take(followed, data)
                if isinstance(step, Append):
                    touched.append((followed, step))
                if loop.time() > until_s:
                    await asyncio.sleep(0)
                    until_s = loop.time() + SLICE_S
        if self._unsynced:
            self._all_synced.clear()
            await self._all_synced.wait()
        for followed, step in touched:
            self._committed(followed, step)

    def _committed(self, followed: Followed, step: Append) -> None:
        """All that came is durable: take over how much of it the leader knows to be committed, and where it begins."""
        if self._followed.get(followed.key) is not followed:
            return
        log, core = followed.replica.log, followed.core
        followed.replica.committed(core.high_watermark(log))
        start_offset = core.log_start_offset(step, log)
        if start_offset > log.log_start_offset:
            try:
                log.delete_records_before(start_offset)
            except (RefusedError, OSError) as error:
                self._log.warning("log start not moved", log=log.name, reason=str(error))
                # The leader told it once, and does so again in a session in which this partition is new.
                self._session.drop(followed.key)
                self._session.reset()
                self._wait(followed.key, asyncio.get_running_loop().time() + RECONNECT_S_MAX)
                return
        self._due[followed.key] = None

    # ---- one partition's answer

    def _take(self, followed: Followed, data: PartitionData) -> Step:
        """Let the core judge, and do what it says."""
        log, asked = followed.replica.log, followed.asked
        assert asked is not None
        diverging = data.diverging_epoch
        answer = FetchAnswer(
            error_code=data.error_code,
            high_watermark=data.high_watermark,
            log_start_offset=data.log_start_offset,
            diverging=None if diverging.end_offset < 0 else EpochEnd(diverging.epoch, diverging.end_offset),
            records=_single(data.records),
        )
        step = followed.core.answered(asked, answer, log)
        try:
            return self._carry_out(followed, step)
        except RefusedError as refused:
            self._log.warning("not copied", log=log.name, reason=refused.message)
            if self._followed.get(followed.key) is not followed:
                return step  # it is damaged, and followed no more before that is reported (S18)
            if refused.code == ErrorCode.KAFKA_STORAGE_ERROR:
                followed.takes_records = False
                self._full[followed.key] = None
        except OSError as error:
            self._log.error("not copied", log=log.name, reason=str(error))
        return self._carry_out(followed, followed.core.failed(asked))

    def _carry_out(self, followed: Followed, step: Step) -> Step:
        log, key = followed.replica.log, followed.key
        match step:
            case Append(records):
                self._append(followed, records)
            case TruncateTo(offset, committed_lost):
                level = self._log.error if committed_lost else self._log.info
                level("truncating", log=log.name, offset=offset, log_end=log.log_end_offset, committed=committed_lost)
                followed.replica.truncate_to(offset)
                self._due[key] = None
            case StartAt(offset):
                self._log.info("beginning anew", log=log.name, offset=offset, log_end=log.log_end_offset)
                followed.replica.truncate_fully_and_start_at(offset)
                self._due[key] = None
            case BackOff(delay_ms, error_code):
                self._log.info("asking again", log=log.name, error=_name(error_code), delay_ms=delay_ms)
                self._wait(key, asyncio.get_running_loop().time() + delay_ms / 1000)
            case _:
                self._session.drop(key)
        return step

    def _append(self, followed: Followed, records: bytes | bytearray | memoryview) -> None:
        if not len(records):
            return
        log = followed.replica.log
        log.append_replicated(records, now_ms=self._settings.clock.wall_ms())
        if followed.is_throttled:
            self._settings.throttle.spent(len(records))
        if log.durable_end_offset < log.log_end_offset:
            self._unsynced[followed.key] = log.log_end_offset

    def _has_room(self, followed: Followed) -> bool:
        try:
            followed.replica.log.admit_append(self._settings.partition_max_bytes, self._settings.clock.wall_ms())
        except (RefusedError, OSError):
            return False
        return True

    def _durable(self, replica: Replica) -> None:
        log, key = replica.log, replica.key
        if (wanted := self._unsynced.get(key)) is not None:
            if log.durable_end_offset >= wanted:
                self._is_synced(key)
        elif key not in self._session.wanted:
            self._due[key] = None  # it could not be fetched before its end was durable
            self._soon.set()

    def _is_synced(self, key: Key) -> None:
        self._unsynced.pop(key, None)
        if not self._unsynced:
            self._all_synced.set()

    # ---- what to ask for

    def _look_for_room(self) -> None:
        """In every round: the leader says nothing of a partition in which nothing happens, and may wait for us (L1)."""
        for key in list(self._full):
            followed = self._followed.get(key)
            if followed is None or self._has_room(followed):
                del self._full[key]
                if followed is not None:
                    followed.takes_records = True
                    self._due[key] = None

    def _ask_for_due(self) -> None:
        now_s = asyncio.get_running_loop().time()
        while self._later and self._later[0][0] <= now_s:
            _, topic_id, partition = heapq.heappop(self._later)
            self._due[topic_id, partition] = None
        self._look_for_room()
        due, self._due = self._due, {}
        throttled_s = self._settings.throttle.wait_s(now_s)
        for key in due:
            followed = self._followed.get(key)
            if followed is None:
                continue
            if followed.is_throttled and throttled_s:
                self._wait(key, now_s + throttled_s)
                continue
            try:
                followed.asked = followed.core.fetch_position(followed.replica.log)
            except RefusedError as refused:
                # Its disk cannot be read, maybe for want of a file descriptor only; the others go on (S19).
                followed.asked = None
                self._log.warning("not copied", log=followed.replica.log.name, reason=refused.message)
                self._wait(key, now_s + RECONNECT_S_MAX)
                continue
            if followed.asked is None:
                self._session.drop(key)
            else:
                self._session.want(key, followed.asked)

    def _request(self, asked: SessionRequest) -> FetchRequest:
        settings = self._settings
        topics: defaultdict[UUID, list[FetchPartition]] = defaultdict(list)
        throttled = self._throttled()
        bite_bytes = min(settings.throttle.bite_bytes(len(throttled)), settings.partition_max_bytes)
        for key, position in asked.changed.items():
            topic_id, partition = key
            max_bytes = bite_bytes if key in throttled else settings.partition_max_bytes
            one = FetchPartition(
                partition=partition,
                current_leader_epoch=position.leader_epoch,
                fetch_offset=position.fetch_offset,
                last_fetched_epoch=position.last_fetched_epoch,
                log_start_offset=position.log_start_offset,
                partition_max_bytes=max_bytes if self._followed[key].takes_records else 0,
            )
            topics[topic_id].append(one)
        forgotten: defaultdict[UUID, list[int]] = defaultdict(list)
        for topic_id, partition in asked.forgotten:
            forgotten[topic_id].append(partition)
        broker_epoch = settings.broker_epoch()
        return FetchRequest(
            cluster_id=settings.cluster_id,
            replica_state=ReplicaState(
                replica_id=settings.broker_id, replica_epoch=-1 if broker_epoch is None else broker_epoch
            ),
            max_wait_ms=self._max_wait_ms(),
            min_bytes=settings.min_bytes,
            max_bytes=settings.response_max_bytes,
            session_id=asked.session_id,
            session_epoch=asked.session_epoch,
            topics=[FetchTopic(topic_id=topic_id, partitions=found) for topic_id, found in topics.items()],
            forgotten_topics_data=[ForgottenTopic(topic_id=t, partitions=found) for t, found in forgotten.items()],
        )

    def _throttled(self) -> frozenset[Key]:
        """What is asked for and may be copied no faster than there is a limit for now."""
        if not self._settings.throttle.is_limited:
            return frozenset()
        return frozenset(key for key in self._session.wanted if self._followed[key].is_throttled)

    def _max_wait_ms(self) -> int:
        """The leader may be silent for so long; less where a partition that waits here is due sooner."""
        next_s = self._next_s()
        if next_s is None:
            return self._settings.max_wait_ms
        left_ms = int((next_s - asyncio.get_running_loop().time()) * 1000) + 1
        return min(self._settings.max_wait_ms, max(1, left_ms))

    # ---- waiting

    def _wait(self, key: Key, until_s: float) -> None:
        """Leave this partition out until then."""
        self._session.drop(key)
        heapq.heappush(self._later, (until_s, *key))

    def _next_s(self) -> float | None:
        return self._later[0][0] if self._later else None

    async def _wake(self, until_s: float | None) -> None:
        """Until something new is to be followed, or the time has come."""
        try:
            async with asyncio.timeout_at(until_s):
                await self._soon.wait()
        except TimeoutError:
            return
        self._soon.clear()

    async def _unreachable(self, endpoint: Endpoint, error: OSError) -> None:
        """Try again soon, and at once when the leader registers anew."""
        if self._endpoint != endpoint:
            return
        delay_s = min(self._settings.reconnect_s * 2 ** min(self._failures, 10), RECONNECT_S_MAX)
        if self._failures == 0:
            self._log.info("connection to the leader ended", at=f"{endpoint.host}:{endpoint.port}", reason=str(error))
        self._failures += 1
        self._soon.clear()
        await self._wake(asyncio.get_running_loop().time() + delay_s)


def _single(records: object) -> bytes | bytearray | memoryview:
    """A decoded message has its records in one piece, or none."""
    assert records is None or isinstance(records, bytes | bytearray | memoryview), type(records)
    return b"" if records is None else records


def _name(code: int) -> str:
    try:
        return ErrorCode(code).name
    except ValueError:
        return str(code)
