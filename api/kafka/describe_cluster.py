"""DescribeCluster 0-2: the cluster's id, its controller and its brokers (KIP-700).

1: brokers or controllers (KIP-919); a Kafka listener answers for the brokers only. 2: fenced brokers, where asked for.
Endpoints are those of the listener on which it was asked.
"""

from api.kafka.context import Caller
from api.kafka.metadata import ALL_CLUSTER_OPERATIONS
from wire.errors import ErrorCode
from wire.messages.describe_cluster import (
    BROKERS,
    CONTROLLERS,
    DescribeClusterBroker,
    DescribeClusterRequest,
    DescribeClusterResponse,
)
from wire.messages.headers import RequestHeader
from wire.messages.metadata import OPERATIONS_NOT_ASKED


def handle(caller: Caller, _: RequestHeader, request: DescribeClusterRequest) -> DescribeClusterResponse:
    asked = request.endpoint_type
    if asked != BROKERS:
        is_known = asked == CONTROLLERS
        return DescribeClusterResponse(
            error_code=ErrorCode.MISMATCHED_ENDPOINT_TYPE if is_known else ErrorCode.UNSUPPORTED_ENDPOINT_TYPE,
            error_message=f"this is an endpoint of brokers (type {BROKERS}), not of type {asked}",
            endpoint_type=BROKERS,
        )
    brokers = _brokers(caller, with_fenced=request.include_fenced_brokers)
    controller_id = caller.door.context.node.quorum.leader_id
    is_told = any(one.broker_id == controller_id for one in brokers)
    return DescribeClusterResponse(
        cluster_id=caller.door.context.node.cluster_id,
        controller_id=controller_id if controller_id is not None and is_told else -1,
        brokers=brokers,
        cluster_authorized_operations=(
            ALL_CLUSTER_OPERATIONS if request.include_cluster_authorized_operations else OPERATIONS_NOT_ASKED
        ),
    )


def _brokers(caller: Caller, *, with_fenced: bool) -> list[DescribeClusterBroker]:
    found = []
    for broker_id, broker in sorted(caller.door.context.node.image.brokers.items()):
        endpoint = caller.door.endpoint(broker)
        if endpoint is not None and (with_fenced or not broker.fenced):
            one = DescribeClusterBroker(broker_id, endpoint.host, endpoint.port, broker.rack, is_fenced=broker.fenced)
            found.append(one)
    return found
