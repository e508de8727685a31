"""Fetch 4-17: record batches from partitions that this broker leads, for consumers and for followers.

4: isolation (nothing is transactional here). 5: log start offsets. 7: fetch sessions (KIP-227). 9: the epoch that the
client believes in (KIP-320). 11: rack (one replica is read from: the leader). 12: flexible; divergence (KIP-595). 13:
topic ids instead of names (KIP-516). 15: a follower names itself and its broker epoch (KIP-903). 16: who leads instead
(KIP-951). 17: directory ids, which nothing here asks about.
A consumer reads below the high watermark, a follower to the log's end.
Who may fetch as a follower (S9): a registered broker in its epoch of the image, on the replication listener, with its
own certificate where one is demanded, from version 15 on. Anybody else is refused as a whole, nothing is noted, and
that is logged once. That it is assigned the partition is the partition leader's to check.
"""

import asyncio
from collections.abc import Iterable
from typing import Final
from uuid import UUID

from api.kafka.context import Caller
from api.kafka.leaders import NO_LEADER, NOT_LEADING, code_by_name, current_leader, node_endpoints
from broker.fetch_sessions import FINAL_EPOCH, NO_SESSION, FetchSession, Named, must_tell, note_told
from broker.partition_fetches import Answers, Bounds, FetchedPartition, FetchSet, Follower, TopicKey, Wanted
from broker.replication.replica import Fetched
from logstore.log_answers import OffsetOutOfRangeError
from wire.errors import ErrorCode, RefusedError
from wire.messages.fetch import (
    AbortedTransaction,
    EpochEndOffset,
    FetchableTopicResponse,
    FetchRequest,
    FetchResponse,
    FetchTopic,
    PartitionData,
)
from wire.messages.headers import RequestHeader

IDS_SINCE: Final = 13
REPLICA_EPOCH_SINCE: Final = 15
READ_COMMITTED: Final = 1
NO_DIVERGENCE: Final = EpochEndOffset()


def handle(
    caller: Caller, header: RequestHeader, request: FetchRequest
) -> FetchResponse | asyncio.Future[FetchResponse]:
    context = caller.door.context
    try:
        fetching = _Fetching(caller, header.api_version, request)
    except RefusedError as refused:
        return FetchResponse(error_code=refused.code)
    bounds = Bounds(
        max_bytes=max(0, min(request.max_bytes, context.settings.fetch_bytes_max)),
        min_bytes=min(request.min_bytes, context.settings.fetch_bytes_max),
        max_wait_ms=0 if context.is_draining else min(request.max_wait_ms, context.settings.fetch_wait_ms_max),
    )
    answers = context.fetches.fetch(fetching.fetched, bounds)
    if isinstance(answers, dict):
        return fetching.answer(answers)
    return fetching.answer_later(answers)


class _Fetching:
    """One request: its set of partitions, kept or not, and its answer."""

    __slots__ = ("_caller", "_is_incremental", "_request", "_session", "_version", "fetched")

    def __init__(self, caller: Caller, version: int, request: FetchRequest) -> None:
        self._caller = caller
        self._version = version
        self._request = request
        self._session: FetchSession | None = None
        context, uses_ids = caller.door.context, version >= IDS_SINCE
        _check_cluster(caller, request)
        follower = _follower(caller, version, request)
        named = Named(request.session_id, request.session_epoch)
        self._is_incremental = not named.is_full
        if self._is_incremental:
            self._session = context.sessions.resume(named, follower=follower, uses_topic_ids=uses_ids)
            self.fetched: FetchSet = self._session.fetched
            for forgotten in request.forgotten_topics_data:
                self.fetched.drop(forgotten.topic_id if uses_ids else forgotten.topic, forgotten.partitions)
            _want(self.fetched, request.topics, uses_ids=uses_ids)
            return
        if named.session_id != NO_SESSION:
            context.sessions.close(named.session_id, follower=follower)
        self.fetched = context.fetch_set(follower)
        _want(self.fetched, request.topics, uses_ids=uses_ids)
        if named.epoch != FINAL_EPOCH:
            self._session = context.sessions.open(self.fetched, uses_topic_ids=uses_ids)

    def answer_later(self, answers: asyncio.Future[Answers]) -> asyncio.Future[FetchResponse]:
        future: asyncio.Future[FetchResponse] = asyncio.get_running_loop().create_future()

        def come(_: asyncio.Future[Answers]) -> None:
            if not future.done():
                future.set_result(self.answer(answers.result()))

        def gone(_: asyncio.Future[FetchResponse]) -> None:
            answers.cancel()
            self._forget()

        answers.add_done_callback(come)
        future.add_done_callback(gone)
        return future

    def answer(self, answers: Answers) -> FetchResponse:
        by_topic: dict[TopicKey, list[PartitionData]] = {}
        topic: TopicKey | None = None
        found: list[PartitionData] = []
        refused = False
        for partition, answered in answers.items():
            if self._session is not None:
                if self._is_incremental and not must_tell(partition, answered):
                    continue
                note_told(partition, answered)
            if partition.topic is not topic:
                topic = partition.topic
                found = by_topic.setdefault(topic, [])
            if answered.refused is not None:
                refused = True
                found.append(self._refusal(partition, answered.refused))
            else:
                assert answered.fetched is not None
                found.append(self._partition(partition.index, answered.fetched))
        self._forget()
        session_id = NO_SESSION if self._session is None else self._session.session_id
        if not refused:
            return FetchResponse(0, 0, session_id, self._topics(by_topic))
        leaders = [data.current_leader for found in by_topic.values() for data in found]
        endpoints = node_endpoints(self._caller.door, leaders)
        return FetchResponse(0, 0, session_id, self._topics(by_topic), endpoints)

    def _forget(self) -> None:
        """What was only for this request."""
        if self._session is None:
            self.fetched.close()

    def _topics(self, by_topic: dict[TopicKey, list[PartitionData]]) -> list[FetchableTopicResponse]:
        return [
            FetchableTopicResponse(topic, partitions=found)
            if isinstance(topic, str)
            else FetchableTopicResponse(topic_id=topic, partitions=found)
            for topic, found in by_topic.items()
        ]

    @property
    def _aborted(self) -> list[AbortedTransaction] | None:
        """There are no transactions; a consumer that reads uncommitted ones is not told about them at all."""
        return [] if self._request.isolation_level == READ_COMMITTED else None

    def _partition(self, index: int, fetched: Fetched) -> PartitionData:
        return PartitionData(
            index,
            0,
            fetched.high_watermark,
            fetched.high_watermark,  # the last stable offset
            fetched.log_start_offset,
            NO_DIVERGENCE if fetched.diverging is None else EpochEndOffset(*fetched.diverging),
            aborted_transactions=self._aborted,
            records=fetched.slice.data,
        )

    def _refusal(self, partition: FetchedPartition, refused: RefusedError) -> PartitionData:
        code = refused.code if self._version >= IDS_SINCE else code_by_name(refused.code)
        leader = NO_LEADER
        if code in NOT_LEADING:
            image, topic = self._caller.door.context.node.image, partition.topic
            topic_id = topic if isinstance(topic, UUID) else image.topic_ids.get(topic)
            leader = current_leader(image, topic_id, partition.index)
        return PartitionData(
            partition.index,
            code,
            high_watermark=-1,
            log_start_offset=refused.earliest if isinstance(refused, OffsetOutOfRangeError) else -1,
            current_leader=leader,
            aborted_transactions=self._aborted,
            records=b"",
        )


# -- what is asked ---------------------------------------------------------------------------------------------------


def _want(fetched: FetchSet, topics: Iterable[FetchTopic], *, uses_ids: bool) -> None:
    for topic in topics:
        wanted = [
            (
                asked.partition,
                Wanted(
                    asked.fetch_offset,
                    max(0, asked.partition_max_bytes),
                    asked.current_leader_epoch,
                    asked.last_fetched_epoch,
                    asked.log_start_offset,
                ),
            )
            for asked in topic.partitions
        ]
        fetched.want(topic.topic_id if uses_ids else topic.topic, wanted)


# -- who asks --------------------------------------------------------------------------------------------------------


def _check_cluster(caller: Caller, request: FetchRequest) -> None:
    cluster_id = caller.door.context.node.cluster_id
    if request.cluster_id is not None and request.cluster_id != cluster_id:
        raise _refused(
            caller,
            request,
            ErrorCode.INCONSISTENT_CLUSTER_ID,
            f"this is cluster {cluster_id}, the fetch is meant for {request.cluster_id}",
        )


def _follower(caller: Caller, version: int, request: FetchRequest) -> Follower | None:
    """The follower that fetches, after every check of S9; None for a consumer."""
    state = request.replica_state
    broker_id = state.replica_id if version >= REPLICA_EPOCH_SINCE else request.replica_id
    if broker_id < 0:
        return None
    if not caller.door.is_replication:
        raise _refused(
            caller,
            request,
            ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
            f"listener {caller.door.name} is for clients: followers fetch over inter.broker.listener.name",
        )
    if not caller.speaks_for(broker_id):
        raise _refused(
            caller,
            request,
            ErrorCode.CLUSTER_AUTHORIZATION_FAILED,
            f"the certificate does not carry the name node-{broker_id}",
        )
    broker = caller.door.context.node.image.brokers.get(broker_id)
    if broker is None:
        raise _refused(caller, request, ErrorCode.BROKER_ID_NOT_REGISTERED, f"broker {broker_id} is not registered")
    if state.replica_epoch != broker.epoch:
        raise _refused(
            caller,
            request,
            ErrorCode.STALE_BROKER_EPOCH,
            f"broker {broker_id} is registered in epoch {broker.epoch}, not {state.replica_epoch}",
        )
    return Follower(broker_id, broker.epoch)


def _refused(caller: Caller, request: FetchRequest, code: ErrorCode, reason: str) -> RefusedError:
    broker_id = max(request.replica_id, request.replica_state.replica_id)
    caller.door.context.refusals.tell(
        "fetch refused", address=caller.address, replica_id=broker_id, code=code.name, reason=reason
    )
    return RefusedError(code, reason)
