"""Leaders' wishes reach the controller in batches, and nobody takes a lost answer for a no."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from uuid import UUID

from broker.errors import OutcomeUnknownError
from broker.isr_changes import InSyncReplicasChanges
from metadata.answers import AdminAnswer, PartitionRefusal, PartitionsChanged
from metadata.requests import AdminRequest, AlterPartitionRequest, InSyncReplicasChange
from wire.errors import ErrorCode, RefusedError

TOPIC = UUID(int=1)


@dataclass
class Leader:
    """Wants its follower in until it is told yes."""

    partition: int
    wants: bool = True
    is_leader: bool = True
    refused: list[ErrorCode] = field(default_factory=list)
    doubts: int = 0

    @property
    def key(self) -> tuple[UUID, int]:
        return TOPIC, self.partition

    @property
    def name(self) -> str:
        return f"pay-{self.partition}"

    def wanted_in_sync_change(self) -> InSyncReplicasChange | None:
        if not self.wants:
            return None
        return InSyncReplicasChange(
            topic_id=TOPIC,
            partition=self.partition,
            leader_epoch=1,
            partition_epoch=1,
            in_sync_replicas=((1, 10), (2, 20)),
        )

    def in_sync_change_refused(self, change: InSyncReplicasChange, code: ErrorCode) -> None:
        self.refused.append(code)

    def in_sync_change_in_doubt(self, change: InSyncReplicasChange) -> None:
        self.doubts += 1


class Controller:
    """Answers as the test says, yes by default."""

    def __init__(self) -> None:
        self.asked: list[AlterPartitionRequest] = []
        self.answers: list[Callable[[AlterPartitionRequest], AdminAnswer]] = []
        self.leaders: dict[int, Leader] = {}
        self.under_way = 0

    async def __call__(self, request: AdminRequest, *, timeout_s: float) -> AdminAnswer:
        assert isinstance(request, AlterPartitionRequest)
        self.under_way += 1
        assert 1 == self.under_way, "one request in flight"
        self.asked.append(request)
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.answers:
            return self.answers.pop(0)(request)
        for change in request.changes:
            self.leaders[change.partition].wants = False
        return PartitionsChanged(index=1, changed=len(request.changes))


@asynccontextmanager
async def changes(
    controller: Controller, *leaders: Leader, check_interval_s: float = 1_000
) -> AsyncIterator[InSyncReplicasChanges]:
    controller.leaders = {leader.partition: leader for leader in leaders}
    found = InSyncReplicasChanges(
        controller, broker_id=1, broker_epoch=lambda: 10, led=lambda: leaders, check_interval_s=check_interval_s
    )
    task = asyncio.create_task(found.run())
    try:
        yield found
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - a state that nothing announces
            await asyncio.sleep(0.001)


async def test_all_that_is_wanted_by_then_goes_in_one_request() -> None:
    leaders = [Leader(partition) for partition in range(50)]
    controller = Controller()
    async with changes(controller, *leaders) as found:
        for leader in leaders:
            found.consider(leader)
        await until(lambda: not any(leader.wants for leader in leaders))
    assert [50] == [len(request.changes) for request in controller.asked]
    assert (1, 10) == (controller.asked[0].broker_id, controller.asked[0].broker_epoch)


async def test_silence_is_looked_for_in_time() -> None:
    controller, leader = Controller(), Leader(0)
    async with changes(controller, leader, check_interval_s=0.01):
        await until(lambda: not leader.wants)


async def test_one_refusal_does_not_hold_up_the_others() -> None:
    controller, leaders = Controller(), [Leader(0), Leader(1)]

    def refuse_one(request: AlterPartitionRequest) -> AdminAnswer:
        leaders[1].wants = False
        refusal = PartitionRefusal(topic_id=TOPIC, partition=0, code=ErrorCode.INELIGIBLE_REPLICA, message="fenced")
        return PartitionsChanged(index=1, changed=1, refusals=(refusal,))

    controller.answers = [refuse_one]
    async with changes(controller, *leaders) as found:
        for leader in leaders:
            found.consider(leader)
        await until(lambda: not leaders[0].wants)
    assert [ErrorCode.INELIGIBLE_REPLICA] == leaders[0].refused
    assert [] == leaders[1].refused
    assert [2, 1] == [len(request.changes) for request in controller.asked]


async def test_s2_a_lost_answer_leaves_doubt_and_is_asked_again() -> None:
    def lose(_: AlterPartitionRequest) -> AdminAnswer:
        raise OutcomeUnknownError(ErrorCode.REQUEST_TIMED_OUT, "nobody knows")

    controller, leader = Controller(), Leader(0)
    controller.answers = [lose]
    async with changes(controller, leader) as found:
        found.consider(leader)
        await until(lambda: not leader.wants)
    assert 1 == leader.doubts
    assert [] == leader.refused


async def test_a_request_that_was_refused_as_a_whole_is_asked_again() -> None:
    def refuse(_: AlterPartitionRequest) -> AdminAnswer:
        raise RefusedError(ErrorCode.BROKER_NOT_AVAILABLE, "no leader")

    controller, leader = Controller(), Leader(0)
    controller.answers = [refuse]
    async with changes(controller, leader) as found:
        found.consider(leader)
        await until(lambda: not leader.wants)
    assert [ErrorCode.BROKER_NOT_AVAILABLE] == leader.refused


async def test_who_leads_no_more_is_not_asked() -> None:
    controller, leader, other = Controller(), Leader(0, is_leader=False), Leader(1)
    async with changes(controller, leader, other) as found:
        found.consider(leader)
        found.consider(other)
        await until(lambda: not other.wants)
    assert [[1]] == [[change.partition for change in request.changes] for request in controller.asked]
