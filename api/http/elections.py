"""`POST C/partitions:elect-leaders`: leaders by an operator's wish (KIP-460).

Refuses an unclean election, which may lose acknowledged records, unless the request says that it accepts this. That a
partition is led already as it should be is no failure.
"""

from typing import Annotated, Any, Final, Literal

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from api.http import json_guard
from api.http.bodies import read_body
from api.http.context import Context, context_of
from api.http.errors import bad_request
from api.http.parameters import Parameters
from api.http.partition_outcomes import (
    AT_ONCE,
    PARTITIONS_MAX,
    Key,
    NamedPartition,
    check_once,
    outcomes_reply,
    refusals_in,
)
from api.http.routing import check_cluster
from metadata.answers import PartitionRefusal, PartitionsChanged
from metadata.bounds import MAX_INT32
from metadata.leader_choices import newly_led
from metadata.requests import ElectLeadersRequest, PartitionName
from wire.errors import ErrorCode


class Election(Struct, forbid_unknown_fields=True):
    election: Literal["PREFERRED", "UNCLEAN", "DESIGNATED"] = "PREFERRED"
    partitions: Annotated[list[NamedPartition], Meta(min_length=1, max_length=PARTITIONS_MAX)] | None = None
    """None: all that need it (PREFERRED only)."""
    leader_id: Annotated[int, Meta(ge=0, le=MAX_INT32)] | None = None
    accept_data_loss: bool = False


_decoder: Final = msgspec.json.Decoder(Election)


async def post_elect_leaders(request: web.Request) -> web.Response:
    context = context_of(request)
    check_cluster(context, request)
    Parameters(request).done()
    wanted = json_guard.decode(_decoder, await read_body(request, context.settings) or b"{}")
    _check(wanted)
    if wanted.partitions is None:
        return await _elect_all_preferred(context)
    keys = [(one.topic_name, one.partition_id) for one in wanted.partitions]
    check_once(keys)
    refusals: dict[Key, PartitionRefusal] = {}
    names = [PartitionName(name=topic, partition=partition) for topic, partition in keys]
    for start in range(0, len(names), AT_ONCE):
        some = ElectLeadersRequest(
            partitions=tuple(names[start : start + AT_ONCE]), election=wanted.election, leader=wanted.leader_id
        )
        refusals |= refusals_in(await context.admin(some))
    not_needed = {key: r.message for key, r in refusals.items() if r.code is ErrorCode.ELECTION_NOT_NEEDED}
    failed = {key: refusal for key, refusal in refusals.items() if key not in not_needed}
    successes = [_elected(context, *key, not_needed.get(key)) for key in keys if key not in failed]
    return outcomes_reply(context.node.image, successes, failed)


def _check(wanted: Election) -> None:
    if wanted.election == "UNCLEAN" and not wanted.accept_data_loss:
        raise bad_request(
            "an UNCLEAN election may lose acknowledged records: add accept_data_loss=true to go on without them"
        )
    if wanted.election != "UNCLEAN" and wanted.accept_data_loss:
        raise bad_request(
            f"accept_data_loss belongs to an UNCLEAN election, not to a {wanted.election} one: leave it out"
        )
    if wanted.election == "PREFERRED" and wanted.leader_id is not None:
        raise bad_request(
            "leader_id belongs to a DESIGNATED or UNCLEAN election: the preferred leader is the first replica"
        )
    if wanted.election != "PREFERRED" and wanted.partitions is None:
        raise bad_request(f"partitions is missing: name those for which a {wanted.election} election shall be held")


async def _elect_all_preferred(context: Context) -> web.Response:
    """Wherever another than the first replica leads and that one is in sync; only what changed is told."""
    image = context.node.image
    while True:
        answer = await context.admin(ElectLeadersRequest(election="PREFERRED"))
        assert isinstance(answer, PartitionsChanged), answer
        if answer.changed < AT_ONCE:
            break
    now = context.node.image
    successes = [
        _elected(context, topic.name, index, None)
        for topic, index in newly_led(image, now)
        if topic.partitions[index].leader == topic.partitions[index].replicas[0]
    ]
    return outcomes_reply(now, successes, {})


def _elected(context: Context, topic_name: str, partition: int, unchanged_because: str | None) -> dict[str, Any]:
    topic = context.node.image.topic(topic_name)
    state = None if topic is None else context.node.image.partition(topic.topic_id, partition)
    leader_id = None if state is None or state.leader < 0 else state.leader
    said = {} if unchanged_because is None else {"message": unchanged_because}
    return {
        "topic_name": topic_name, "partition_id": partition, "leader_id": leader_id,
        "changed": unchanged_because is None, **said,
    }  # fmt: skip
