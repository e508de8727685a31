"""ElectLeaders 0-2: the preferred leaders, or unclean ones where nobody else can lead (KIP-460).

0: preferred only. 1: the kind of election, an error of the whole. 2: flexible. Null partitions mean all that need it;
then only those that changed are told. An unclean election may lose acknowledged records: it is the operator's word.
"""

import asyncio
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final, Literal

from api.kafka.admin_calls import AdminCall, Failure, attempt
from api.kafka.context import Caller
from api.kafka.partition_outcomes import Name, Outcomes, outcomes_of
from metadata.answers import PartitionsChanged
from metadata.bounds import MAX_CHANGES_PER_COMMAND
from metadata.leader_choices import newly_led
from metadata.requests import ElectLeadersRequest as LeadersRequest
from metadata.requests import PartitionName
from wire.errors import ErrorCode
from wire.messages.elect_leaders import (
    PREFERRED,
    UNCLEAN,
    ElectLeadersRequest,
    ElectLeadersResponse,
    PartitionResult,
    ReplicaElectionResult,
    TopicPartitions,
)
from wire.messages.headers import RequestHeader

Election = Literal["PREFERRED", "UNCLEAN"]
_ELECTIONS: Final[dict[int, Election]] = {PREFERRED: "PREFERRED", UNCLEAN: "UNCLEAN"}


def handle(
    caller: Caller, _: RequestHeader, request: ElectLeadersRequest
) -> ElectLeadersResponse | asyncio.Future[ElectLeadersResponse]:
    election = _ELECTIONS.get(request.election_type)
    if election is None:
        return ElectLeadersResponse(error_code=ErrorCode.INVALID_REQUEST)
    call = AdminCall(caller, timeout_ms=request.timeout_ms)
    if request.topic_partitions is None:
        return asyncio.ensure_future(_everywhere(call, election))
    return asyncio.ensure_future(_named(call, election, request.topic_partitions))


async def _named(call: AdminCall, election: Election, asked: list[TopicPartitions]) -> ElectLeadersResponse:
    def elect(wishes: Sequence[PartitionName]) -> LeadersRequest:
        return LeadersRequest(partitions=tuple(wishes), election=election)

    names = [Name(topic.topic, partition) for topic in asked for partition in topic.partitions]
    wishes = ((name, PartitionName(name=name.topic, partition=name.partition)) for name in names)
    outcomes = await outcomes_of(call, wishes, elect)
    return ElectLeadersResponse(replica_election_results=_results(outcomes))


async def _everywhere(call: AdminCall, election: Election) -> ElectLeadersResponse:
    before = call.node.image
    while True:
        answer = await attempt(call.ask(LeadersRequest(election=election)))
        if isinstance(answer, Failure):
            return ElectLeadersResponse(error_code=answer.code)
        assert isinstance(answer, PartitionsChanged), answer
        if answer.changed < MAX_CHANGES_PER_COMMAND:
            break
    elected = (Name(topic.name, index) for topic, index in newly_led(before, call.node.image))
    return ElectLeadersResponse(replica_election_results=_results(dict.fromkeys(elected)))


def _results(outcomes: Outcomes) -> list[ReplicaElectionResult]:
    return [
        ReplicaElectionResult(topic, [_result(name, outcomes[name]) for name in names])
        for topic, names in _by_topic(outcomes)
    ]


def _by_topic(names: Iterable[Name]) -> Iterable[tuple[str, Iterable[Name]]]:
    return groupby(sorted(names), key=lambda name: name.topic)


def _result(name: Name, failure: Failure | None) -> PartitionResult:
    code, message = failure or (0, None)
    return PartitionResult(name.partition, code, message)
