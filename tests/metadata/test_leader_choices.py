"""Who leads by an operator's wish (KIP-460): never somebody who may lack what was acknowledged, unless the operator
says so for a partition that has nobody else (L2).
"""

import pytest

from metadata.requests import ElectLeadersRequest, PartitionName
from tests.metadata.world import World, outcome
from wire.errors import ErrorCode, RefusedError

NAMES = (PartitionName(name="t", partition=0),)


@pytest.fixture
def world() -> World:
    world = World(brokers=4, rebalances_leaders=False)
    world.create("t", (1, 2, 3), min_insync_replicas="2")
    return world


def elect(world: World, election: str, leader: int | None = None, partitions=NAMES):
    return world.ask(ElectLeadersRequest(partitions=partitions, election=election, leader=leader))


def state(world: World) -> tuple[int, int, tuple[int, ...], tuple[int, ...]]:
    partition = world.partition("t")
    return partition.leader, partition.leader_epoch, partition.in_sync_replicas, partition.eligible_leader_replicas


def nobody_left(world: World) -> None:
    """Brokers 2 and 3 hold everything and are down; broker 1 is back and may lack something."""
    world.die(1)
    world.die(1, 2)
    world.die(1, 2, 3)
    world.start(1, incarnation=2)
    assert (-1, (), (2, 3)) == (state(world)[0], *state(world)[2:])


def test_leadership_is_transferred_to_an_in_sync_replica(world):
    assert 1 == elect(world, "DESIGNATED", 3).changed
    assert (3, 1, (1, 2, 3), ()) == state(world)
    world.settle()
    assert 3 == world.partition("t").leader


def test_leadership_is_transferred_to_any_other_one(world):
    assert 1 == elect(world, "DESIGNATED").changed
    assert 2 == world.partition("t").leader


@pytest.mark.parametrize(
    ("leader", "code"),
    [(1, ErrorCode.ELECTION_NOT_NEEDED), (4, ErrorCode.INVALID_REQUEST), (9, ErrorCode.INVALID_REQUEST)],
)
def test_a_designated_leader_that_makes_no_sense_is_refused(world, leader, code):
    before = world.image.topics
    assert code == outcome(elect(world, "DESIGNATED", leader))
    assert before is world.image.topics


def test_a_designated_leader_must_be_in_sync_and_in_service(world):
    world.in_sync("t", 1, 2)
    assert ErrorCode.INELIGIBLE_REPLICA == outcome(elect(world, "DESIGNATED", 3))
    world.now_ms += 10_000
    world.beat(1)
    silent = elect(world, "DESIGNATED", 2)
    assert ErrorCode.INELIGIBLE_REPLICA == outcome(silent)
    assert "able are []" in silent.refusals[0].message
    assert ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE == outcome(elect(world, "DESIGNATED"))


def test_a_leader_is_designated_for_named_partitions_only(world):
    for leader in (None, 2):
        with pytest.raises(RefusedError) as caught:
            elect(world, "DESIGNATED", leader, partitions=None)
        assert ErrorCode.INVALID_REQUEST == caught.value.code


def test_the_preferred_leader_gets_its_partition_back(world):
    world.die(1)
    world.start(1, incarnation=2)
    assert ErrorCode.PREFERRED_LEADER_NOT_AVAILABLE == outcome(elect(world, "PREFERRED"))
    world.in_sync("t", 1, 2, 3)
    assert ErrorCode.NONE == outcome(elect(world, "PREFERRED"))
    assert (1, 2, (1, 2, 3), ()) == state(world)
    assert ErrorCode.ELECTION_NOT_NEEDED == outcome(elect(world, "PREFERRED"))


def test_all_preferred_leaders_at_once_without_a_word_about_the_others(world):
    world.create("u", (2, 1), (1, 2), (4, 1))
    world.die(2, 4)
    world.start(2, incarnation=2)
    world.in_sync("u", 1, 2)
    answer = elect(world, "PREFERRED", partitions=None)
    assert (1, ()) == (answer.changed, answer.refusals)
    assert [2, 1, 1] == world.leaders("u")


def test_an_unclean_election_is_for_a_partition_without_a_leader(world):
    assert ErrorCode.ELECTION_NOT_NEEDED == outcome(elect(world, "UNCLEAN"))


def test_an_operator_gives_up_what_is_lost(world):
    """L2."""
    nobody_left(world)
    assert ErrorCode.NONE == outcome(elect(world, "UNCLEAN"))
    assert (1, (1,), ()) == (state(world)[0], *state(world)[2:])
    world.start(2, incarnation=2)
    assert 1 == world.partition("t").leader


def test_an_operator_says_which_replica_is_to_lead(world):
    nobody_left(world)
    assert ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE == outcome(elect(world, "UNCLEAN", 2))
    assert ErrorCode.ELIGIBLE_LEADERS_NOT_AVAILABLE == outcome(elect(world, "UNCLEAN", 4))
    assert ErrorCode.NONE == outcome(elect(world, "UNCLEAN", 1))
    assert 1 == world.partition("t").leader


def test_nothing_is_given_up_while_somebody_who_has_it_all_is_there(world):
    nobody_left(world)
    world.register(3, incarnation=2)
    world.beat(3)
    for proposal in world.controller.tick(world.image, world.now_ms):
        if "Unfence" in type(proposal.command).__name__:
            world.propose(proposal)
    assert world.image.brokers[3].in_service
    assert ErrorCode.ELECTION_NOT_NEEDED == outcome(elect(world, "UNCLEAN"))
    world.now_ms += world.settings.proposal_retry_ms
    world.settle()
    assert 3 == world.partition("t").leader


def test_the_last_known_leader_is_the_first_choice_of_an_unclean_election(world):
    """It has the most of what can be saved. All three have lost the folder, broker 3 was the last to lead."""
    world.die(1)
    world.die(1, 2)
    world.die(1, 2, 3)
    partition = world.partition("t")
    assert 3 == partition.last_known_leader
    world.start(1, incarnation=2)
    assert ErrorCode.NONE == outcome(elect(world, "UNCLEAN"))
    assert 1 == world.partition("t").leader


def test_all_partitions_without_a_leader_get_one_at_once(world):
    world.create("u", (2, 3), (1, 4), min_insync_replicas="1")
    nobody_left(world)
    answer = elect(world, "UNCLEAN", partitions=None)
    assert (1, ()) == (answer.changed, answer.refusals)
    assert 1 == world.partition("t").leader
    assert [-1, 4] == world.leaders("u")


def test_partitions_are_named_by_name_or_id(world):
    topic_id = world.image.topic("t").topic_id
    names = (
        PartitionName(topic_id=topic_id, partition=0),
        PartitionName(name="u", topic_id=topic_id, partition=0),
        PartitionName(name="u", partition=0),
        PartitionName(partition=0),
        PartitionName(name="t", partition=-1),
    )
    answer = elect(world, "DESIGNATED", 2, partitions=names)
    assert 1 == answer.changed
    assert [
        ErrorCode.INCONSISTENT_TOPIC_ID,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode.INVALID_REQUEST,
        ErrorCode.UNKNOWN_TOPIC_OR_PARTITION,
    ] == [refusal.code for refusal in answer.refusals]
