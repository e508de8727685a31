"""AlterPartitionReassignments 0-1: moves partitions to other replicas while they are written and read (KIP-455).

Null replicas cancel a move. 1: the client may forbid that the number of replicas changes (KIP-860). The answer says
that it has begun; ListPartitionReassignments shows what is under way.
"""

import asyncio
from collections.abc import Iterator, Sequence

from api.kafka.admin_calls import AdminCall
from api.kafka.context import Caller
from api.kafka.partition_outcomes import Name, Outcomes, outcomes_of
from metadata.requests import PartitionReassignment, ReassignPartitionsRequest
from wire.messages.alter_partition_reassignments import (
    AlterPartitionReassignmentsRequest,
    AlterPartitionReassignmentsResponse,
    ReassignablePartitionResponse,
    ReassignableTopicResponse,
)
from wire.messages.headers import RequestHeader


def handle(
    caller: Caller, _: RequestHeader, request: AlterPartitionReassignmentsRequest
) -> asyncio.Future[AlterPartitionReassignmentsResponse]:
    return asyncio.ensure_future(_altered(caller, request))


async def _altered(caller: Caller, request: AlterPartitionReassignmentsRequest) -> AlterPartitionReassignmentsResponse:
    may_change = request.allow_replication_factor_change

    def reassign(wishes: Sequence[PartitionReassignment]) -> ReassignPartitionsRequest:
        return ReassignPartitionsRequest(assignments=tuple(wishes), allow_replication_factor_change=may_change)

    call = AdminCall(caller, timeout_ms=request.timeout_ms)
    outcomes = await outcomes_of(call, _wishes(request), reassign)
    return AlterPartitionReassignmentsResponse(
        allow_replication_factor_change=may_change, error_message=None, responses=_responses(request, outcomes)
    )


def _wishes(request: AlterPartitionReassignmentsRequest) -> Iterator[tuple[Name, PartitionReassignment]]:
    for topic in request.topics:
        for one in topic.partitions:
            replicas = None if one.replicas is None else tuple(one.replicas)
            wish = PartitionReassignment(name=topic.name, partition=one.partition_index, replicas=replicas)
            yield Name(topic.name, one.partition_index), wish


def _responses(request: AlterPartitionReassignmentsRequest, outcomes: Outcomes) -> list[ReassignableTopicResponse]:
    responses = []
    for topic in request.topics:
        partitions = []
        for one in topic.partitions:
            code, message = outcomes[Name(topic.name, one.partition_index)] or (0, None)
            partitions.append(ReassignablePartitionResponse(one.partition_index, code, message))
        responses.append(ReassignableTopicResponse(topic.name, partitions))
    return responses
