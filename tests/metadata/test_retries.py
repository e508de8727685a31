"""Who does not know whether a request took effect may ask again: it happens once, and the first answer is given."""

import pytest

from metadata import codec
from metadata.answers import Done, OutcomeUnknownAnswer, Refused, TopicCreated
from metadata.bounds import ANSWERS_KEPT
from metadata.commands import DeleteTopic, Proposal, UnregisterBroker
from metadata.image import CommandId
from metadata.requests import CreateTopicRequest, DeleteTopicRequest
from tests.metadata.world import World, an_id
from wire.errors import ErrorCode


@pytest.fixture
def world() -> World:
    return World(brokers=2)


def test_a_retry_gets_the_first_answer(world):
    command_id = world.command_id(1, 0)
    first = world.ask(CreateTopicRequest(name="t"), command_id=command_id)
    assert isinstance(first, TopicCreated)
    before = world.image
    assert first == world.ask(CreateTopicRequest(name="t"), command_id=command_id)
    assert before is world.image


def test_a_retry_that_overtook_the_first_happens_once(world):
    """Both were decided before either was applied, with different topic ids."""
    command_id = world.command_id(1, 0)
    decided = [
        world.controller.decide(
            world.image, CreateTopicRequest(name="t"), command_id=command_id, new_id=world.new_id(), now_ms=world.now_ms
        )
        for _ in range(2)
    ]
    first, second = (world.propose(proposal) for proposal in decided)
    assert first == second
    assert first.topic_id == world.image.topic("t").topic_id
    assert first.index < world.image.applied_index


def test_a_refusal_is_remembered_too(world):
    command_id = world.command_id(1, 0)
    gone = Proposal(command=DeleteTopic(topic_id=an_id(5)), command_id=command_id)
    first = world.propose(gone)
    assert ErrorCode.UNKNOWN_TOPIC_ID == first.code
    assert first == world.propose(gone)


def test_the_first_answer_outlives_a_restart_from_a_snapshot(world):
    command_id = world.command_id(1, 0)
    first = world.ask(CreateTopicRequest(name="t"), command_id=command_id)
    world.image = codec.decode_snapshot(codec.encode_snapshot(world.image))
    assert first == world.ask(CreateTopicRequest(name="t"), command_id=command_id)


def test_another_sequence_is_another_wish(world):
    world.ask(CreateTopicRequest(name="t"), command_id=world.command_id(1, 0))
    world.ask(DeleteTopicRequest(name="t"), command_id=world.command_id(1, 1))
    assert isinstance(world.ask(CreateTopicRequest(name="t"), command_id=world.command_id(1, 2)), TopicCreated)


def test_brokers_do_not_share_sequences(world):
    world.ask(CreateTopicRequest(name="t"), command_id=world.command_id(1, 0))
    assert isinstance(world.ask(CreateTopicRequest(name="u"), command_id=world.command_id(2, 0)), TopicCreated)


def test_below_the_window_the_outcome_is_unknown_and_nothing_is_applied(world):
    ids = [world.command_id(1, sequence) for sequence in range(ANSWERS_KEPT + 1)]
    refused_everywhere = DeleteTopic(topic_id=an_id(5))
    answers = [world.propose(Proposal(command=refused_everywhere, command_id=one)) for one in ids]
    assert all(isinstance(answer, Refused) for answer in answers)
    assert ANSWERS_KEPT == len(world.image.answers[1].answers)
    before = world.image.brokers
    assert isinstance(world.propose(Proposal(command=refused_everywhere, command_id=ids[0])), OutcomeUnknownAnswer)
    assert before is world.image.brokers
    assert answers[1] == world.propose(Proposal(command=refused_everywhere, command_id=ids[1]))


def test_answers_leave_by_log_position_not_by_number(world):
    """A sequence that was applied late stays as long as any other applied then."""
    refused_everywhere = DeleteTopic(topic_id=an_id(5))
    for sequence in [*range(1, ANSWERS_KEPT), 0]:
        world.propose(Proposal(command=refused_everywhere, command_id=world.command_id(1, sequence)))
    world.propose(Proposal(command=refused_everywhere, command_id=world.command_id(1, ANSWERS_KEPT)))
    assert isinstance(world.image.first_answer(world.command_id(1, 0)), Refused)
    assert isinstance(world.image.first_answer(world.command_id(1, 1)), OutcomeUnknownAnswer)


def test_a_proposer_that_restarted_does_not_know_what_its_last_life_did(world):
    old = world.command_id(1, 7)
    world.start(1, incarnation=2)
    assert isinstance(world.ask(CreateTopicRequest(name="t"), command_id=old), OutcomeUnknownAnswer)
    assert world.image.topic("t") is None


def test_an_epoch_that_is_not_registered_is_refused(world):
    future = CommandId(broker_id=1, broker_epoch=10**9, sequence=0)
    assert ErrorCode.STALE_BROKER_EPOCH == world.ask(CreateTopicRequest(name="t"), command_id=future).code


def test_a_broker_that_was_forgotten_is_no_proposer(world):
    world.pass_time(7000, alive=(1,))
    end = UnregisterBroker(broker_id=2, broker_epoch=world.image.brokers[2].epoch)
    command_id = world.command_id(2, 0)
    assert isinstance(world.propose(Proposal(command=end, command_id=command_id)), Done)
    assert isinstance(world.image.first_answer(command_id), OutcomeUnknownAnswer)
