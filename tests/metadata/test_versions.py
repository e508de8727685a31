"""Nodes of two versions run side by side: no entry that one of them might not know gets applied."""

import pytest

from metadata.answers import Done, Refused, RegistrationAnswer, TopicCreated
from metadata.commands import COMMAND_VERSIONS, Command, CreateTopic, PartitionAssignment, SetMetadataVersion
from metadata.image import LATEST_METADATA_VERSION, Image
from metadata.requests import SetMetadataVersionRequest
from tests.metadata.world import CLUSTER_ID, World, an_id
from wire.errors import ErrorCode, RefusedError


def below_the_first_version() -> World:
    """As a version of the future sees kinds that the cluster does not allow yet."""
    world = World()
    world.image = Image.empty(CLUSTER_ID, cluster_metadata_version=0)
    return world


def test_every_kind_of_command_says_from_which_version_on_it_may_be_applied():
    assert set(Command.__args__) == set(COMMAND_VERSIONS)


def test_a_kind_above_the_clusters_version_is_refused_until_the_version_is_raised():
    world = below_the_first_version()
    stray = (PartitionAssignment(replicas=(1,), leader=-1, leader_broker_epoch=-1),)
    create = CreateTopic(topic_id=an_id(1), name="t", assignments=stray, configs={})
    assert ErrorCode.UNSUPPORTED_VERSION == world.propose(create).code
    assert isinstance(world.propose(SetMetadataVersion(expected_version=0, version=1)), Done)
    assert world.history[-1][1].metadata_version_changed
    world.start(1)
    assert isinstance(world.propose(create), TopicCreated)


def test_the_version_only_rises_and_only_from_where_it_was_seen():
    world = below_the_first_version()
    for expected, version in ((1, 2), (0, 0)):
        refused = world.propose(SetMetadataVersion(expected_version=expected, version=version))
        assert ErrorCode.UNSUPPORTED_VERSION == refused.code
    assert 0 == world.image.cluster_metadata_version


def test_a_version_that_some_broker_does_not_support_is_refused_with_its_name():
    world = World(brokers=2)
    refused = world.propose(SetMetadataVersion(expected_version=1, version=2))
    assert "brokers [1, 2] do not support" in refused.message


def test_an_old_program_can_not_join_a_newer_cluster():
    world = World()
    world.image = Image.empty(CLUSTER_ID, cluster_metadata_version=LATEST_METADATA_VERSION + 1)
    answer = world.register(1)
    assert not isinstance(answer, RegistrationAnswer)
    assert isinstance(answer, Refused)
    assert "run a newer version" in answer.message


def test_asking_for_the_version_that_is_there_is_done_already():
    world = World(brokers=1)
    assert Done(index=world.image.applied_index) == world.ask(SetMetadataVersionRequest(version=1))
    with pytest.raises(RefusedError, match="must be from 1 to 1"):
        world.ask(SetMetadataVersionRequest(version=9))
