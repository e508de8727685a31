"""What a broker says of itself counts only from its own node: nobody shrinks another leader's replicas (S9)."""

import uuid

import pytest

from broker.node import _check_speaks_for_itself
from metadata.image import Endpoint
from metadata.requests import (
    AllocateProducerIdsRequest,
    AlterPartitionRequest,
    CreateTopicRequest,
    Heartbeat,
    InSyncReplicasChange,
    LostReplicasRequest,
    RegistrationRequest,
)
from wire.errors import ErrorCode, RefusedError

A_TOPIC = uuid.UUID(int=1)
A_CHANGE = InSyncReplicasChange(
    topic_id=A_TOPIC, partition=0, leader_epoch=0, partition_epoch=0, in_sync_replicas=((2, 5),)
)
OF_BROKER_2 = [
    AlterPartitionRequest(broker_id=2, broker_epoch=5, changes=(A_CHANGE,)),
    AllocateProducerIdsRequest(broker_id=2, broker_epoch=5),
    Heartbeat(broker_id=2, broker_epoch=5, applied_index=7),
    LostReplicasRequest(broker_id=2, broker_epoch=5, loss="MISSING", replicas=((A_TOPIC, 0),)),
    RegistrationRequest(
        broker_id=2,
        cluster_id="c",
        incarnation_id=A_TOPIC,
        directory_ids=(),
        http=Endpoint("h", 1),
        peer=Endpoint("h", 2),
    ),
]


@pytest.mark.parametrize("request_of_2", OF_BROKER_2, ids=lambda request: type(request).__name__)
def test_only_broker_2_speaks_for_broker_2(request_of_2):
    _check_speaks_for_itself(2, request_of_2)
    with pytest.raises(RefusedError) as caught:
        _check_speaks_for_itself(3, request_of_2)
    assert ErrorCode.INVALID_REQUEST == caught.value.code


def test_any_node_passes_on_what_a_client_wants():
    _check_speaks_for_itself(3, CreateTopicRequest(name="t"))
