"""The node's loop sees every change of the metadata once, in order, however the quorum's thread hurries."""

import uuid
from typing import TYPE_CHECKING

import pytest

from broker.cluster_image import ClusterImage
from metadata import codec
from metadata.answers import Refused
from metadata.commands import CreateTopic, DeleteTopic, PartitionAssignment, Proposal, RegisterBroker
from metadata.delta import Delta
from metadata.image import Endpoint, Image

if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    """What was posted to the node's loop, run when the test says so."""

    def __init__(self) -> None:
        self.posted: list[Callable[[], None]] = []
        self.bugs: list[BaseException] = []

    def run(self) -> None:
        while self.posted:
            self.posted.pop(0)()


def proposal(command: RegisterBroker | CreateTopic | DeleteTopic) -> bytes:
    return codec.encode_proposal(Proposal(command=command))


REGISTER = RegisterBroker(
    broker_id=1,
    expected_broker_epoch=-1,
    incarnation_id=uuid.uuid4(),
    directory_ids=(uuid.uuid4(),),
    http=Endpoint("127.0.0.1", 8082),
    peer=Endpoint("127.0.0.1", 9093),
    listeners={},
    replication_listener=None,
    rack=None,
    clean_shutdown=True,
    metadata_version_max=1,
)


def create(name: str) -> CreateTopic:
    where = PartitionAssignment(replicas=(1,), leader=1, leader_broker_epoch=1)
    return CreateTopic(topic_id=uuid.uuid4(), name=name, assignments=(where,), configs={})


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def cluster_image(loop: Loop) -> ClusterImage:
    return ClusterImage("cluster", post=loop.posted.append, on_bug=loop.bugs.append)


def test_a_reader_that_was_busy_sees_many_entries_as_one_change(loop: Loop, cluster_image: ClusterImage) -> None:
    seen: list[tuple[Image, Delta]] = []
    cluster_image.observe(lambda image, delta: seen.append((image, delta)))
    pay, tax = create("pay"), create("tax")
    cluster_image.apply(1, proposal(REGISTER))
    cluster_image.apply(2, proposal(pay))
    cluster_image.apply(3, proposal(tax))
    assert cluster_image.image.topic("pay") is None, "not before the loop had its turn"
    loop.run()
    [(image, delta)] = seen
    assert {pay.topic_id, tax.topic_id} == delta.created_topics
    assert image is cluster_image.image
    assert 3 == image.applied_index


def test_a_refused_command_is_answered_and_tells_the_loop_of_no_change(loop: Loop, cluster_image: ClusterImage) -> None:
    seen: list[Delta] = []
    cluster_image.observe(lambda _, delta: seen.append(delta))
    answer = cluster_image.apply(1, proposal(DeleteTopic(topic_id=uuid.uuid4())))
    loop.run()
    assert isinstance(answer, Refused)
    assert [] == seen
    assert 1 == cluster_image.image.applied_index


def test_a_change_that_could_not_be_followed_stops_the_node(loop: Loop, cluster_image: ClusterImage) -> None:
    def observer(_: Image, __: Delta) -> None:
        raise OSError(5, "Input/output error")

    cluster_image.observe(observer)
    cluster_image.apply(1, proposal(REGISTER))
    loop.run()
    assert ["Input/output error"] == [error.strerror for error in loop.bugs if isinstance(error, OSError)]


def test_a_snapshot_brings_exactly_the_differences(loop: Loop, cluster_image: ClusterImage) -> None:
    ahead = ClusterImage("cluster", post=lambda _: None, on_bug=lambda _: None)
    gone, kept = create("gone"), create("kept")
    for machine in (cluster_image, ahead):
        machine.apply(1, proposal(REGISTER))
        machine.apply(2, proposal(gone))
    ahead.apply(3, proposal(DeleteTopic(topic_id=gone.topic_id)))
    ahead.apply(4, proposal(kept))
    loop.run()
    seen: list[Delta] = []
    cluster_image.observe(lambda _, delta: seen.append(delta))
    cluster_image.restore(4, ahead.snapshot())
    loop.run()
    [delta] = seen
    assert {gone.topic_id} == set(delta.deleted_topics)
    assert {kept.topic_id} == delta.created_topics
    assert set() == delta.changed_brokers
