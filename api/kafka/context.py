"""What the Kafka door shares: between all listeners of a node (`KafkaContext`), and on one of them (`Door`).

Owns the account of bytes under way and the memory of what was refused, so that each refusal is logged once.
Invariant: whatever is taken from the account is given back when its connection ends.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Final, Protocol
from uuid import UUID

from api.connection_count import ConnectionCount
from api.kafka.led_replicas import LedReplicas
from api.kafka.settings import KafkaSettings
from broker.event_log import logger
from broker.fetch_sessions import EPOCH_MAX, FetchSessions
from broker.groups.host import GroupHost
from broker.log_directories import DirectoryState
from broker.node_config import NodeConfig
from broker.partition_fetches import FetchSet, Follower, PartitionFetches
from broker.producer_ids import ProducerIds
from broker.replication.replica import Replica
from broker.waiting_room import WaitingRoom
from kraft.quorum import MetadataQuorum
from metadata.answers import AdminAnswer
from metadata.image import Broker, Endpoint, Image
from metadata.requests import AdminRequest
from wire.messages import ApiKey

REFUSALS_REMEMBERED_MAX: Final = 1_000


class KafkaNode(Protocol):
    """What the Kafka door asks of `broker.node.Node`."""

    broker_id: int
    cluster_id: str
    quorum: MetadataQuorum
    waiting_room: WaitingRoom
    producer_ids: ProducerIds
    groups: GroupHost
    config: NodeConfig

    def directory_states(self) -> list[DirectoryState]: ...

    @property
    def image(self) -> Image: ...

    @property
    def broker_epoch(self) -> int | None: ...

    def replica(self, topic_id: UUID, partition: int, /) -> Replica: ...

    async def admin(self, request: AdminRequest, *, timeout_s: float) -> AdminAnswer: ...

    def fail(self, error: BaseException, /) -> None: ...


class BytesUnderWay:
    """How many bytes of requests and answers this node holds at one time (`queued.max.request.bytes`)."""

    __slots__ = ("_waiting", "bytes_max", "held_bytes")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.held_bytes = 0
        self._waiting: dict[Callable[[], None], None] = {}

    @property
    def is_full(self) -> bool:
        return self.held_bytes >= self.bytes_max

    def change(self, count: int) -> None:
        """So many more bytes are held, or fewer."""
        self.held_bytes += count
        assert self.held_bytes >= 0, self.held_bytes
        if self._waiting and not self.is_full:
            waiting, self._waiting = self._waiting, {}
            loop = asyncio.get_running_loop()
            for resume in waiting:
                loop.call_soon(resume)

    def wait(self, resume: Callable[[], None]) -> None:
        """Call `resume` once there is room again."""
        self._waiting[resume] = None

    def wait_no_more(self, resume: Callable[[], None]) -> None:
        self._waiting.pop(resume, None)


class Refusals:
    """Logs each kind of refusal once: a misled client repeats itself, the log need not."""

    def __init__(self) -> None:
        self._log = logger(room="kafka")
        self._told: set[tuple[object, ...]] = set()

    def tell(self, what: str, **details: object) -> None:
        """Log it unless the same was logged before."""
        key = (what, *details.values())
        if key in self._told:
            return
        if len(self._told) >= REFUSALS_REMEMBERED_MAX:
            self._told.clear()
        self._told.add(key)
        self._log.warning(what, **details)


class KafkaContext:
    """What all listeners of a node share."""

    def __init__(
        self,
        node: KafkaNode,
        settings: KafkaSettings,
        *,
        connections: ConnectionCount | None = None,
        chance: random.Random | None = None,
    ) -> None:
        """`chance` draws the ids of fetch sessions; by default nobody can guess them."""
        loop = asyncio.get_running_loop()
        draw = random.SystemRandom() if chance is None else chance
        self.node = node
        self.settings = settings
        self.connections = connections or ConnectionCount(
            connections_max=settings.connections_max, per_address_max=settings.connections_per_address_max
        )
        self.bytes_under_way = BytesUnderWay(settings.in_flight_bytes_max)
        self.refusals = Refusals()
        self.led = LedReplicas(image=lambda: node.image, find=node.replica)
        self.fetches = PartitionFetches(
            replica=lambda topic_id, partition: self.led.topic(topic_id).replica(partition),
            image=lambda: node.image,
            loop=loop,
            look_at_all_s=settings.look_at_all_s,
        )
        self.sessions = FetchSessions(
            slots=settings.fetch_session_slots, new_id=lambda: draw.randint(1, EPOCH_MAX), now_s=loop.time
        )
        self.is_serving = False
        self.is_draining = False
        self._when_serving: list[Callable[[], None]] = []

    def serve(self) -> None:
        """This broker is registered and knows the cluster: answer from now on."""
        if not self.is_serving:
            self.is_serving = True
            for begin in self._when_serving:
                begin()

    def on_serving(self, begin: Callable[[], None]) -> None:
        self._when_serving.append(begin)

    def fetch_set(self, follower: Follower | None) -> FetchSet:
        return FetchSet(self.node.waiting_room, follower=follower)

    def drain(self) -> None:
        """Nobody waits for more any longer."""
        self.is_draining = True
        self.fetches.answer_all_now()
        self.sessions.close_all()


class Door:
    """One listener by its name; what it advertises is what a client that came through it can reach."""

    def __init__(
        self, context: KafkaContext, name: str, *, is_replication: bool, served: Mapping[ApiKey, range]
    ) -> None:
        self.context = context
        self.name = name
        self.is_replication = is_replication
        self.served = served

    def endpoint(self, broker: Broker) -> Endpoint | None:
        """Where this broker listens under the same name; None where it does not."""
        return broker.listeners.get(self.name)


class Caller(Protocol):
    """Who sent a request: one connection."""

    @property
    def door(self) -> Door: ...

    @property
    def address(self) -> str: ...

    def speaks_for(self, broker_id: int) -> bool:
        """Where a certificate was demanded: it carries the name of this broker. True where none was."""
