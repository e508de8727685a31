"""An admin call finds the controller wherever it is, is never carried out twice, and is never told a guess."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from broker.controller_link import ControllerLink
from broker.errors import OutcomeUnknownError
from kraft.errors import OutcomeUnknown, PeerUnavailable
from kraft.status import RoleChange
from metadata import codec
from metadata.answers import (
    AdminAnswer,
    Done,
    NotControllerAnswer,
    OutcomeUnknownAnswer,
    PartitionRefusal,
    PartitionsChanged,
    Refused,
)
from metadata.image import CommandId
from metadata.requests import DeleteTopicRequest, Envelope
from wire.errors import ErrorCode, RefusedError

REQUEST = DeleteTopicRequest(name="pay")
COMMAND_ID = CommandId(broker_id=2, broker_epoch=5, sequence=7)
DONE = Done(index=9)

Script = list[AdminAnswer | Exception]


class Leaders:
    """A quorum of which one node is asked; its leader answers by a script."""

    def __init__(self, script: Script, leader_id: int | None = 1) -> None:
        self.leader_id = leader_id
        self.script = script
        self.asked: list[tuple[int, Envelope]] = []
        self._callbacks: list[Callable[[RoleChange], None]] = []

    def on_role_change(self, callback: Callable[[RoleChange], None]) -> None:
        self._callbacks.append(callback)

    def elect(self, leader_id: int) -> None:
        self.leader_id = leader_id
        for callback in self._callbacks:
            callback(RoleChange(term=2, leader_id=leader_id, is_leader=False))

    async def request(self, node_id: int, payload: bytes, *, timeout_s: float) -> bytes:
        assert timeout_s > 0
        self.asked.append((node_id, codec.decode_request(payload)))
        answer = self.script.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return codec.encode_answer(answer)


def link(
    quorum: Leaders, handle_here: Callable[[Envelope, float], Awaitable[AdminAnswer]] | None = None
) -> ControllerLink:
    async def nobody(_: Envelope, __: float) -> AdminAnswer:
        raise AssertionError("asked here")

    return ControllerLink(quorum, broker_id=2, handle_here=handle_here or nobody)  # type: ignore[arg-type] # a part of it


async def test_the_leader_is_asked_over_the_peer_link() -> None:
    quorum = Leaders([DONE])
    assert DONE == await link(quorum).ask(REQUEST, timeout_s=5, command_id=COMMAND_ID)
    assert [(1, Envelope(request=REQUEST, command_id=COMMAND_ID))] == quorum.asked


async def test_the_leader_itself_asks_nobody_else() -> None:
    async def here(envelope: Envelope, timeout_s: float) -> AdminAnswer:
        assert REQUEST == envelope.request
        assert timeout_s > 0
        return DONE

    assert DONE == await link(Leaders([], leader_id=2), here).ask(REQUEST, timeout_s=5)


async def test_what_certainly_did_not_begin_is_asked_again() -> None:
    quorum = Leaders([PeerUnavailable("no connection"), NotControllerAnswer(index=0, leader_id=3), DONE])
    assert DONE == await link(quorum).ask(REQUEST, timeout_s=5)
    assert 3 == len(quorum.asked)


async def test_what_may_have_begun_is_asked_again_under_the_same_command_id() -> None:
    quorum = Leaders([OutcomeUnknown("connection lost"), DONE])
    assert DONE == await link(quorum).ask(REQUEST, timeout_s=5, command_id=COMMAND_ID)
    assert {COMMAND_ID} == {envelope.command_id for _, envelope in quorum.asked}


async def test_what_stays_doubtful_is_never_told_as_refused() -> None:
    quorum = Leaders([OutcomeUnknown("connection lost")] + 100 * [PeerUnavailable("no connection")])
    with pytest.raises(OutcomeUnknownError, match="may or may not"):
        await link(quorum).ask(REQUEST, timeout_s=0.2, command_id=COMMAND_ID)


IN_PART = PartitionRefusal(topic_id=None, partition=0, code=ErrorCode.INELIGIBLE_REPLICA, message="3 is fenced")


@pytest.mark.parametrize(
    "refusal",
    [
        Refused(index=4, code=ErrorCode.INELIGIBLE_REPLICA, message="3 is fenced"),
        PartitionsChanged(index=4, changed=0, refusals=(IN_PART,)),
    ],
    ids=["whole", "in part"],
)
async def test_s2_the_refusal_of_a_later_copy_does_not_end_a_doubt(refusal: AdminAnswer) -> None:
    """The first copy lies somewhere on its way: it arrives when 3 is in service again, and is taken."""
    quorum = Leaders([OutcomeUnknown("connection lost"), refusal, DONE])
    with pytest.raises(OutcomeUnknownError, match="may or may not have taken effect: 3 is fenced"):
        await link(quorum).ask(REQUEST, timeout_s=5, command_id=COMMAND_ID)
    assert [DONE] == quorum.script, "whoever looked decides whether to ask again"


async def test_l1_a_leader_that_is_silent_is_not_waited_for_when_there_is_another() -> None:
    quorum = Leaders([DONE])
    answers = quorum.request

    async def request(node_id: int, payload: bytes, *, timeout_s: float) -> bytes:
        if node_id == 1:
            await asyncio.Event().wait()
        return await answers(node_id, payload, timeout_s=timeout_s)

    quorum.request = request  # type: ignore[method-assign] # node 1 is paused
    asking = asyncio.create_task(link(quorum).ask(REQUEST, timeout_s=60, command_id=COMMAND_ID))
    await asyncio.sleep(0.01)  # sleeps: until node 1 was asked
    quorum.elect(3)
    assert DONE == await asyncio.wait_for(asking, 30)
    assert [3] == [node_id for node_id, _ in quorum.asked]


async def test_without_a_leader_the_refusal_says_that_nothing_was_changed() -> None:
    with pytest.raises(RefusedError, match="nothing was changed: the metadata quorum has no leader") as refused:
        await link(Leaders([], leader_id=None)).ask(REQUEST, timeout_s=0.05)
    assert ErrorCode.BROKER_NOT_AVAILABLE == refused.value.code


async def test_a_new_leader_is_asked_as_soon_as_it_is_known() -> None:
    quorum = Leaders([DONE], leader_id=None)
    asking = asyncio.create_task(link(quorum).ask(REQUEST, timeout_s=5))
    await asyncio.sleep(0)
    quorum.elect(3)
    assert DONE == await asking
    assert 3 == quorum.asked[0][0]


async def test_a_refusal_of_the_controller_is_the_callers_refusal() -> None:
    refusal = Refused(index=4, code=ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, message="no topic pay")
    with pytest.raises(RefusedError, match="no topic pay") as refused:
        await link(Leaders([refusal])).ask(REQUEST, timeout_s=5)
    assert ErrorCode.UNKNOWN_TOPIC_OR_PARTITION == refused.value.code


async def test_an_outcome_that_the_cluster_has_forgotten_is_unknown() -> None:
    with pytest.raises(OutcomeUnknownError, match="left the window"):
        await link(Leaders([OutcomeUnknownAnswer(index=4, message="left the window")])).ask(REQUEST, timeout_s=5)


async def test_a_controller_that_has_not_heard_its_brokers_yet_is_asked_again() -> None:
    nobody = Refused(index=4, code=ErrorCode.BROKER_NOT_AVAILABLE, message="no broker is in service")
    assert DONE == await link(Leaders([nobody, nobody, DONE])).ask(REQUEST, timeout_s=5, command_id=COMMAND_ID)
    with pytest.raises(RefusedError, match="nothing was changed: no broker is in service"):
        await link(Leaders(100 * [nobody])).ask(REQUEST, timeout_s=0.2, command_id=COMMAND_ID)
    in_doubt = OutcomeUnknown("connection lost")
    assert DONE == await link(Leaders([in_doubt, nobody, DONE])).ask(REQUEST, timeout_s=5, command_id=COMMAND_ID)
