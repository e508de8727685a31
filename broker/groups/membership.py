"""A member of a classic group that lives in the process of the group's coordinator, for clients that cannot be one.

Owns the conversation with the coordinator: join, assign where it leads, sync, heartbeat, join again, leave; it is the
member that a Kafka client would be, of the eager kind (it gives up what it owned before it joins again), and speaks
every protocol of `assignors.py`, so that it can share a group with any client. Refuses nothing: what the group refuses
it keeps as `refusal`, and tries again, since the members that it did not fit to may leave.
Invariants: `assignment` is empty unless this member is in the generation `generation_id`; before it is given up,
`revoking` has ended; once this broker no longer coordinates the group, `is_over`, for good.
"""

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from broker.event_log import logger
from broker.groups.assignors import ASSIGNORS
from broker.groups.consumer_protocol import (
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from broker.groups.group import NO_GENERATION, NO_MEMBER
from broker.groups.host import GroupHost
from broker.groups.member import Joining
from broker.groups.subscription import CONSUMER
from metadata.image import Image
from wire.codec import DecodeError
from wire.errors import ErrorCode, RefusedError
from wire.messages.join_group import (
    JoinGroupRequest,
    JoinGroupRequestProtocol,
    JoinGroupResponse,
    JoinGroupResponseMember,
)
from wire.messages.sync_group import SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse

if TYPE_CHECKING:
    from broker.groups.offsets import TopicPartition

HEARTBEAT_S: Final = 0.5
"""A call within the process; so soon it hears of a rebalance that others wait for it to join."""
RETRY_S: Final = 0.5
SESSION_TIMEOUT_MS: Final = 6_000
"""A process that is stopped coordinates nothing: so long the next coordinator waits for a member that died with it."""

_AT_ONCE: Final = frozenset({ErrorCode.NONE, ErrorCode.REBALANCE_IN_PROGRESS})
_AS_SOMEBODY_NEW: Final = frozenset(
    {ErrorCode.UNKNOWN_MEMBER_ID, ErrorCode.ILLEGAL_GENERATION, ErrorCode.FENCED_INSTANCE_ID}
)
_WORTH_A_RETRY: Final = frozenset({ErrorCode.COORDINATOR_LOAD_IN_PROGRESS, ErrorCode.COORDINATOR_NOT_AVAILABLE})


class Identity(NamedTuple):
    """Who joins, as others are shown it."""

    group_id: str
    client_id: str
    client_host: str


class Membership:
    """Runs as a task from `start` to `leave`."""

    def __init__(
        self,
        groups: GroupHost,
        image: Callable[[], Image],
        identity: Identity,
        *,
        revoking: Callable[[], Awaitable[None]],
        changed: Callable[[], None],
    ) -> None:
        """`revoking` is awaited before what is assigned is given up; `changed` is called after every change."""
        self.member_id = NO_MEMBER
        self.generation_id = NO_GENERATION
        self.topics: frozenset[str] = frozenset()
        self.assignment: frozenset[TopicPartition] = frozenset()
        self.is_joined = False
        self.is_over = False
        self.refusal: ErrorCode | None = None
        self._groups = groups
        self._image = image
        self._identity = identity
        self._revoking = revoking
        self._changed = changed
        self._joins_anew = asyncio.Event()
        self._counts: dict[str, int] = {}  # of the topics that it divided as leader
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, topics: frozenset[str]) -> None:
        """From now on to these; the group rebalances."""
        self.topics = topics
        self._joins_anew.set()
        if self._task is None:
            name = f"member of {self._identity.group_id}"
            self._task = asyncio.get_running_loop().create_task(self._run(), name=name)

    async def leave(self) -> None:
        """The others need not wait for its session to end. No effect where it never joined."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        if self.member_id and not self.is_over:
            group_id, leaving = self._identity.group_id, [(self.member_id, None)]
            with contextlib.suppress(RefusedError):
                self._groups.tell(group_id, lambda core, now: core.leave(group_id, leaving, now))
        self._give_up()

    # ---- living in the group

    async def _run(self) -> None:
        try:
            await self._live()
        except Exception as error:  # noqa: BLE001 - a bug here costs one member, which its owner makes anew
            logger().error("a member of a group failed", group=self._identity.group_id, exc_info=error)
            self.is_over = True
            self._give_up()

    async def _live(self) -> None:
        while not self.is_over:
            self._joins_anew.clear()
            code = await self._enter()
            if code is ErrorCode.NONE:
                code = await self._stay()
                await self._revoking()
            self._give_up()
            await self._react(code)

    async def _react(self, code: ErrorCode) -> None:
        if code in _AT_ONCE:
            return
        if code is ErrorCode.NOT_COORDINATOR:
            self.is_over = True
        elif code in _AS_SOMEBODY_NEW:
            self.member_id = NO_MEMBER
            return
        elif code not in _WORTH_A_RETRY:
            self.member_id, self.refusal = NO_MEMBER, code
        self._changed()
        if not self.is_over:
            await self._pause(RETRY_S)

    def _give_up(self) -> None:
        self.is_joined = False
        self.assignment = frozenset()
        self._changed()

    async def _enter(self) -> ErrorCode:
        """Join and sync; NONE: it is in the generation, with an assignment."""
        joined = await self._answer(self._ask_to_join())
        if isinstance(joined, ErrorCode):
            return joined
        assert isinstance(joined, JoinGroupResponse), joined
        if joined.error_code:
            return ErrorCode(joined.error_code)
        self.member_id = joined.member_id
        synced = await self._answer(self._ask_to_sync(joined))
        if isinstance(synced, ErrorCode):
            return synced
        assert isinstance(synced, SyncGroupResponse), synced
        if synced.error_code:
            return ErrorCode(synced.error_code)
        try:
            self.assignment = frozenset(decode_assignment(synced.assignment))
        except DecodeError:
            return ErrorCode.INCONSISTENT_GROUP_PROTOCOL
        self.generation_id, self.is_joined, self.refusal = joined.generation_id, True, None
        self._changed()
        return ErrorCode.NONE

    async def _stay(self) -> ErrorCode:
        """Until the group rebalances, or has lost this member; why."""
        group_id = self._identity.group_id
        while True:
            await self._pause(HEARTBEAT_S)
            if self._joins_anew.is_set() or self._counts != self._counts_of(self._counts):
                return ErrorCode.NONE
            try:
                code = self._groups.heartbeat(group_id, self.member_id, None, self.generation_id)
            except RefusedError as refused:
                return refused.code
            if code is not ErrorCode.NONE:
                return code

    # ---- what it says

    @staticmethod
    async def _answer(answer: Any) -> Any:
        return await answer if isinstance(answer, asyncio.Future) else answer

    def _ask_to_join(self) -> Any:
        identity, settings = self._identity, self._groups.settings
        session_ms = max(settings.session_timeout_ms_min, min(SESSION_TIMEOUT_MS, settings.session_timeout_ms_max))
        said = encode_subscription(sorted(self.topics))
        request = JoinGroupRequest(
            group_id=identity.group_id,
            session_timeout_ms=session_ms,
            rebalance_timeout_ms=session_ms,
            member_id=self.member_id,
            protocol_type=CONSUMER,
            protocols=[JoinGroupRequestProtocol(name, said) for name in ASSIGNORS],
        )
        joining = Joining(
            request,
            client_id=identity.client_id,
            client_host=identity.client_host,
            new_member_id=f"{identity.client_id}-{uuid.uuid4()}",
            requires_member_id=False,  # it cannot be lost on the way
        )
        return self._groups.ask(identity.group_id, lambda core, call, now: core.join(call, joining, now))

    def _ask_to_sync(self, joined: JoinGroupResponse) -> Any:
        self._counts = {}
        assignments = []
        if joined.leader == joined.member_id and not joined.skip_assignment:
            assignments = self._divide(joined.protocol_name or "", joined.members)
        request = SyncGroupRequest(
            group_id=self._identity.group_id,
            generation_id=joined.generation_id,
            member_id=joined.member_id,
            protocol_type=CONSUMER,
            protocol_name=joined.protocol_name,
            assignments=assignments,
        )
        return self._groups.ask(request.group_id, lambda core, call, now: core.sync(call, request, now))

    def _divide(self, protocol: str, members: list[JoinGroupResponseMember]) -> list[SyncGroupRequestAssignment]:
        """As the leader: what each member gets."""
        said = {one.member_id: _subscription(one.metadata) for one in members}
        self._counts = self._counts_of({topic for one in said.values() for topic in one.topics})
        divided = ASSIGNORS[protocol](said, self._counts)
        return [SyncGroupRequestAssignment(member_id, encode_assignment(own)) for member_id, own in divided.items()]

    def _counts_of(self, topics: Any) -> dict[str, int]:
        image = self._image()
        return {name: 0 if (topic := image.topic(name)) is None else len(topic.partitions) for name in topics}

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._joins_anew.wait()


def _subscription(metadata: bytes) -> Subscription:
    """Of a member that says something else: nothing."""
    try:
        return decode_subscription(metadata)
    except DecodeError:
        return Subscription(())
