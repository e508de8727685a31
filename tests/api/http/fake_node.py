"""Nodes without a disk and a quorum: real metadata, real record batches in memory, real HTTP listeners.

One `FakeCluster` holds the image and the logs; each `FakeNode` has the face of `broker.node.Node` that the HTTP door
asks. A test makes a node fail by setting what its replicas raise.
"""

import asyncio
import uuid
from contextlib import AsyncExitStack
from types import SimpleNamespace

import aiohttp

from api.http.app import create_app
from api.http.context import CONTEXT, Context
from api.http.listener import HttpListener
from api.http.settings import HttpSettings
from broker.errors import ExpectedOffsetError
from broker.health import health_of
from broker.producer_ids import ProducerIds
from broker.replication.replica import Fetched
from kraft.status import QuorumStatus, VoterStatus
from logstore.log_answers import Appended, DamagedRangeError, LogSlice, OffsetOutOfRangeError, TimestampOffset
from logstore.log_config import LogConfig
from logstore.producer_state import ProducedBatch, ProducerState
from metadata.apply import apply
from metadata.commands import Proposal
from metadata.controller import Controller, ControllerSettings
from metadata.image import Endpoint, Image
from metadata.requests import Heartbeat, RegistrationRequest
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import check_batches, iterate_batches, stamp, stamp_log_append_time

CLUSTER_ID = "fake-cluster"


class FakeLog:
    """One partition's batches; everything appended is durable at once."""

    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.log_start_offset = 0
        self.log_end_offset = 0
        self.producers = ProducerState()
        self.led_since = 0
        """Where the leader's epoch began; the high watermark is known from there on."""
        self.followers = ()
        self.damaged: tuple[int, int] | None = None
        """The first offset that the disk lost, and the one to read on from."""
        self.grown = asyncio.Condition()

    @property
    def size_bytes(self) -> int:
        return sum(map(len, self.batches))


class FakeReplica:
    """The leader's face of one log."""

    def __init__(self, log: FakeLog, config: LogConfig, leader_epoch: int, failures: list[Exception]) -> None:
        self.log = log
        self.leader_epoch = leader_epoch
        self.topic, self.partition = "t", 0
        self._config = config
        self._failures = failures

    def follower_states(self):
        return self.log.followers

    @property
    def high_watermark(self) -> int:
        return self.log.log_end_offset

    @property
    def knows_high_watermark(self) -> bool:
        return self.high_watermark >= self.log.led_since

    @property
    def earliest_offset(self) -> int:
        return self.log.log_start_offset

    @property
    def latest_offset(self) -> int:
        return self.log.log_end_offset

    async def append(self, buffer, *, acks: int, timeout_ms: int, expected_offset: int | None = None) -> Appended:
        assert acks in (-1, 0, 1)
        assert timeout_ms > 0
        batches = check_batches(buffer, max_batch_bytes=self._config.max_message_bytes)
        if duplicates := self.log.producers.check(batches):
            return Appended(duplicates[0].base_offset, duplicates[-1].last_offset, 0, -1, is_duplicate=True)
        if expected_offset is not None and expected_offset != self.log.log_end_offset:
            raise ExpectedOffsetError(expected_offset=expected_offset, log_end_offset=self.log.log_end_offset)
        failure = self._failures.pop(0) if self._failures else None
        if isinstance(failure, RefusedError | AssertionError):
            raise failure
        appended = await self._write(buffer, batches)
        if failure is not None:
            raise failure
        return appended

    async def _write(self, buffer, batches) -> Appended:
        base_offset, now_ms = self.log.log_end_offset, -1
        for batch in batches:
            stamp(buffer, batch.position, base_offset=self.log.log_end_offset, leader_epoch=self.leader_epoch)
            if self._config.message_timestamp_type == "LogAppendTime":
                now_ms = 1_800_000_000_000
                stamp_log_append_time(buffer, batch.position, timestamp_ms=now_ms)
            self.log.batches.append(bytes(memoryview(buffer)[batch.position : batch.position + batch.size_bytes]))
            if batch.producer_id >= 0:
                last_offset = self.log.log_end_offset + batch.record_count - 1
                placed = (batch.base_sequence, batch.last_sequence, self.log.log_end_offset, last_offset)
                known = ProducedBatch(*placed, batch.max_timestamp)
                self.log.producers.learn(batch.producer_id, batch.producer_epoch, known, now_ms=0)
            self.log.log_end_offset += batch.record_count
        async with self.log.grown:
            self.log.grown.notify_all()
        return Appended(base_offset, self.log.log_end_offset - 1, len(buffer), now_ms)

    async def fetch(self, offset: int, *, max_bytes: int, min_bytes: int = 1, timeout_ms: int = 0) -> Fetched:
        log = self.log
        if not log.log_start_offset <= offset <= log.log_end_offset:
            raise OffsetOutOfRangeError(offset, earliest=log.log_start_offset, latest=log.log_end_offset)
        found = self._read(offset, max_bytes)
        if len(found.data) < min_bytes and timeout_ms:
            try:
                async with asyncio.timeout(timeout_ms / 1000), log.grown:
                    await log.grown.wait_for(lambda: len(self._read(offset, max_bytes).data) >= min_bytes)
            except TimeoutError:
                pass
            found = self._read(offset, max_bytes)
        return Fetched(found, log.log_end_offset, log.log_start_offset, log.log_end_offset)

    def _read(self, offset: int, max_bytes: int) -> LogSlice:
        data, following = b"", offset
        for raw in self.log.batches:
            (batch,) = iterate_batches(raw)
            if batch.last_offset < offset:
                continue
            if self.log.damaged and self.log.damaged[0] <= batch.base_offset < self.log.damaged[1]:
                if not data:
                    raise DamagedRangeError("t-0", offset=self.log.damaged[0], next_offset=self.log.damaged[1])
                break
            if data and len(data) + len(raw) > max_bytes:
                break
            data += raw
            following = batch.next_offset
        return LogSlice(data, offset, following)

    def offset_for_timestamp(self, timestamp_ms: int) -> TimestampOffset | None:
        for raw in self.log.batches:
            for record in next(iterate_batches(raw)).records():
                if record.timestamp_ms >= timestamp_ms:
                    return TimestampOffset(record.offset, record.timestamp_ms, self.leader_epoch)
        return None


class FakeQuorum:
    leader_id = 1

    def status(self) -> QuorumStatus:
        voter = VoterStatus(1, "127.0.0.1", 9093, 7, 0, 0, directory_ok=True)
        return QuorumStatus(1, 3, 1, 7, 7, 1, 7, 0, (voter,))


class FakeNode:
    """What the HTTP door sees of one node."""

    def __init__(self, cluster: "FakeCluster", broker_id: int) -> None:
        self.cluster = cluster
        self.broker_id = broker_id
        self.cluster_id = CLUSTER_ID
        self.config = SimpleNamespace(topic_defaults=cluster.topic_defaults)
        self.topic_defaults = cluster.topic_defaults
        self.quorum = FakeQuorum()
        self.not_ready: list[str] = []
        self.failure: BaseException | None = None
        self.admin_failures: list[Exception] = []
        self.producer_ids = ProducerIds(
            self.admin,
            broker_id=broker_id,
            broker_epoch=lambda: self.image.brokers[broker_id].epoch,
            next_producer_id=lambda: self.image.next_producer_id,
        )
        self.replica_failures: list[Exception | None] = []
        """Raised by `replica()`, one a call; None: not this time."""
        self.append_failures: list[Exception] = []
        """Raised by appends, one a call, after everything was checked; what is in doubt has been written."""

    @property
    def image(self) -> Image:
        return self.cluster.image

    def fail(self, error: BaseException) -> None:
        self.failure = error

    async def admin(self, request, *, timeout_s: float):
        assert timeout_s > 0
        await asyncio.sleep(0)
        if self.admin_failures:
            raise self.admin_failures.pop(0)
        return self.cluster.ask(request)

    def replica(self, topic_id: uuid.UUID, partition: int) -> FakeReplica:
        if self.replica_failures and (failure := self.replica_failures.pop(0)) is not None:
            raise failure
        topic = self.image.topics.get(topic_id)
        if topic is None:
            raise RefusedError(ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, "no such partition here")
        if topic.partitions[partition].leader != self.broker_id:
            raise RefusedError(ErrorCode.NOT_LEADER_OR_FOLLOWER, "another broker leads")
        log = self.cluster.logs.setdefault((topic_id, partition), FakeLog())
        config = LogConfig.from_topic_configs({**self.cluster.topic_defaults, **topic.configs})
        return FakeReplica(log, config, topic.partitions[partition].leader_epoch, self.append_failures)

    def health(self):
        defaults = self.cluster.topic_defaults
        return health_of(self.image, leader_id=self.quorum.leader_id, disk_reasons=[], broker_defaults=defaults)

    def readiness(self) -> list[str]:
        return self.not_ready


class FakeCluster:
    """Metadata, logs, and the listeners of all nodes."""

    def __init__(self, settings: HttpSettings, *, topic_defaults: dict[str, str] | None = None) -> None:
        self.settings = settings
        self.topic_defaults = topic_defaults or {}
        self.image = Image.empty(CLUSTER_ID)
        self.logs: dict[tuple[uuid.UUID, int], FakeLog] = {}
        self.nodes: list[FakeNode] = []
        self.apps: list = []
        self.listeners: list[HttpListener] = []
        self.client = aiohttp.ClientSession(auto_decompress=True)
        self._ids = 1000
        self._controller = Controller(ControllerSettings())
        self._controller.activated(self.image, 0)
        self._stack = AsyncExitStack()

    async def add_node(self) -> FakeNode:
        node = FakeNode(self, len(self.nodes) + 1)
        app = create_app(node, self.settings)
        listener = HttpListener(app, "127.0.0.1", 0)
        await listener.start()
        self.nodes.append(node)
        self.apps.append(app)
        self.listeners.append(listener)
        self._register(node.broker_id, listener.port)
        return node

    def _register(self, broker_id: int, port: int) -> None:
        request = RegistrationRequest(
            broker_id=broker_id,
            cluster_id=CLUSTER_ID,
            incarnation_id=uuid.UUID(int=broker_id),
            directory_ids=(uuid.UUID(int=100 + broker_id),),
            http=Endpoint("127.0.0.1", port),
            peer=Endpoint("127.0.0.1", port),
            clean_shutdown=True,
        )
        self._propose(self._controller.register(self.image, request, now_ms=0))
        heartbeat = Heartbeat(
            broker_id=broker_id,
            broker_epoch=self.image.brokers[broker_id].epoch,
            applied_index=self.image.applied_index,
        )
        self._controller.heard(self.image, heartbeat, now_ms=0)
        self.settle()

    def settle(self) -> None:
        now_ms = 0
        while proposals := self._controller.tick(self.image, now_ms):
            for proposal in proposals:
                self._propose(proposal)
            now_ms += 1

    def hear(self, heartbeat: Heartbeat) -> None:
        self._controller.heard(self.image, heartbeat, now_ms=0)
        self.settle()

    def fence(self, broker_id: int) -> None:
        """As if the broker had been silent for too long."""
        epoch = self.image.brokers[broker_id].epoch
        beat = Heartbeat(broker_id=broker_id, broker_epoch=epoch, applied_index=10**6, wants_fence=True)
        self.hear(beat)

    def _propose(self, proposal):
        applied = apply(self.image, self.image.applied_index + 1, proposal)
        self.image = applied.image
        return applied.answer

    def ask(self, request):
        self._ids += 1
        decided = self._controller.decide(
            self.image, request, command_id=None, new_id=uuid.UUID(int=self._ids), now_ms=0
        )
        answer = self._propose(decided) if isinstance(decided, Proposal) else decided
        if hasattr(answer, "error"):
            raise answer.error()
        self.settle()
        return answer

    def url(self, path: str, *, node: int = 1) -> str:
        return f"http://127.0.0.1:{self.listeners[node - 1].port}{path}"

    def leader_of(self, topic: str, partition: int) -> int:
        return self.image.topic(topic).partitions[partition].leader

    def led_by(self, topic: str, node: int) -> int:
        """A partition that `node` leads."""
        count = len(self.image.topic(topic).partitions)
        return next(p for p in range(count) if self.leader_of(topic, p) == node)

    def log(self, topic: str, partition: int = 0) -> FakeLog:
        return self.logs[self.image.topic(topic).topic_id, partition]

    def records(self, topic: str, partition: int = 0):
        key = (self.image.topic(topic).topic_id, partition)
        found = self.logs[key].batches if key in self.logs else []
        return [record for raw in found for record in next(iterate_batches(raw)).records()]

    def context(self, node: int) -> Context:
        """What the handlers of a node share."""
        return self.apps[node - 1][CONTEXT]

    async def close(self) -> None:
        await self.client.close()
        for listener in self.listeners:
            await listener.stop()
