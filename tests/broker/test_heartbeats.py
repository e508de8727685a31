"""A broker says what it cannot vouch for until the cluster has taken note of it."""

from typing import Any, cast
from uuid import UUID

from broker.heartbeats import Heartbeats
from metadata.answers import AdminAnswer, Done, HeartbeatAnswer, PartitionRefusal, PartitionsChanged
from metadata.image import Endpoint, Image
from metadata.requests import LostReplicasRequest, RegistrationRequest
from wire.errors import ErrorCode

TOPIC = UUID(int=7)


class FakeLink:
    """A controller that answers each report with the next of these."""

    def __init__(self, *answers: AdminAnswer) -> None:
        self._answers = list(answers)
        self.reported: list[tuple[tuple[UUID, int], ...]] = []

    async def ask(self, request: LostReplicasRequest, *, timeout_s: float) -> AdminAnswer:
        assert timeout_s > 0
        if isinstance(request, LostReplicasRequest):
            self.reported.append(request.replicas)
        return self._answers.pop(0)


class FakeQuorum:
    last_applied = 1

    def on_role_change(self, _heard: object) -> None:
        pass


def heartbeats(link: FakeLink) -> Heartbeats:
    registration = RegistrationRequest(
        broker_id=1,
        cluster_id="cluster",
        incarnation_id=UUID(int=1),
        directory_ids=(UUID(int=2),),
        http=Endpoint("127.0.0.1", 1),
        peer=Endpoint("127.0.0.1", 2),
        clean_shutdown=True,
    )
    return Heartbeats(
        cast("Any", link),
        cast("Any", FakeQuorum()),
        registration,
        interval_ms=100,
        image=lambda: Image.empty("cluster"),
        missing_replicas=list,
        on_registered=lambda _: None,
        on_reported=lambda _: None,
    )


async def test_s3_a_lost_replica_is_reported_again_where_another_change_came_first() -> None:
    """The election that follows a registration, for one: it still counts on the replica, and could elect it."""
    moved_on = PartitionRefusal(topic_id=TOPIC, partition=1, code=ErrorCode.INVALID_UPDATE_VERSION, message="moved on")
    link = FakeLink(
        PartitionsChanged(index=5, changed=1, refusals=(moved_on,)),
        PartitionsChanged(index=6, changed=0, refusals=(moved_on,)),
        PartitionsChanged(index=7, changed=1),
    )
    beating = heartbeats(link)
    beating.lost("DAMAGED", [(TOPIC, 0), (TOPIC, 1)])
    await beating._report_losses(3)
    assert [((TOPIC, 0), (TOPIC, 1)), ((TOPIC, 1),), ((TOPIC, 1),)] == link.reported


async def test_what_was_taken_note_of_is_reported_once() -> None:
    link = FakeLink(Done(index=5))
    beating = heartbeats(link)
    beating.lost("MISSING", [(TOPIC, 0)])
    await beating._report_losses(3)
    await beating._report_losses(3)
    assert 1 == len(link.reported)


async def test_s15_a_broker_is_heard_for_a_session_from_when_it_sent_and_not_longer() -> None:
    """The answer may have taken long, and the process may have been stopped: it counts from before both."""
    link = FakeLink(HeartbeatAnswer(index=1, is_caught_up=True, is_fenced=False, should_shut_down=False))
    beats = heartbeats(link)
    assert not beats.is_heard(60_000)
    beats.broker_epoch = 10
    await beats._beat()
    assert beats.is_heard(60_000)
    assert not beats.is_heard(0)


async def test_s15_a_controller_that_may_have_been_replaced_vouches_for_nobody() -> None:
    """The controller on a node that was stopped answers its own broker first, before it learns of its successor."""
    replaced = HeartbeatAnswer(index=1, is_caught_up=True, is_fenced=False, should_shut_down=False, is_certain=False)
    beats = heartbeats(FakeLink(replaced))
    beats.broker_epoch = 10
    await beats._beat()
    assert not beats.is_heard(60_000)


async def test_s15_an_answer_counts_only_where_its_metadata_was_applied() -> None:
    """A leadership that moved meanwhile is known here then."""
    ahead = HeartbeatAnswer(
        index=FakeQuorum.last_applied + 1, is_caught_up=True, is_fenced=False, should_shut_down=False
    )
    beats = heartbeats(FakeLink(ahead))
    beats.broker_epoch = 10
    await beats._beat()
    assert not beats.is_heard(60_000)
