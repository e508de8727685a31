"""DescribeCluster: the cluster's id, its controller and its brokers (KIP-700)."""

from typing import Annotated, ClassVar, Final

from wire.messages.api import Api, ApiKey
from wire.messages.metadata import OPERATIONS_NOT_ASKED
from wire.schema import Int8, Int16, Int32, Message, Versions, empty, since

VERSIONS = Versions(0, 2, flexible_from=0)

BROKERS: Final = 1  # the `endpoint_type`s (KIP-919)
CONTROLLERS: Final = 2


class DescribeClusterRequest(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    include_cluster_authorized_operations: bool = False
    endpoint_type: Annotated[Int8, since(1)] = BROKERS
    include_fenced_brokers: Annotated[bool, since(2)] = False


class DescribeClusterBroker(Message, frozen=True):
    broker_id: Int32 = 0
    host: str = ""
    port: Int32 = 0
    rack: str | None = None
    is_fenced: Annotated[bool, since(2)] = False


class DescribeClusterResponse(Message, frozen=True):
    wire_versions: ClassVar = VERSIONS

    throttle_time_ms: Int32 = 0
    error_code: Int16 = 0
    error_message: str | None = None
    endpoint_type: Annotated[Int8, since(1)] = BROKERS
    cluster_id: str = ""
    controller_id: Int32 = -1
    brokers: list[DescribeClusterBroker] = empty()
    cluster_authorized_operations: Int32 = OPERATIONS_NOT_ASKED


DESCRIBE_CLUSTER = Api(ApiKey.DESCRIBE_CLUSTER, DescribeClusterRequest, DescribeClusterResponse)
