"""What becomes of a request for many partitions: each has its own outcome, as in `records:batch` (207).

Owns the shapes `{"topic_name","partition_id"}` in requests and `{"successes","failures"}` in answers, and how many go
into one command of the metadata log. Refuses a partition that is named twice.
"""

from typing import Annotated, Any, Final

from aiohttp import web
from msgspec import Meta, Struct

from api.http.errors import ApiError, bad_request, from_refusal, partition_not_found, topic_not_found
from api.http.replies import json_reply
from metadata.answers import AdminAnswer, PartitionRefusal, PartitionsChanged
from metadata.bounds import MAX_CHANGES_PER_COMMAND, MAX_INT32
from metadata.image import Image
from metadata.topic_names import MAX_NAME_LENGTH
from wire.errors import ErrorCode, RefusedError

PARTITIONS_MAX: Final = 10_000
AT_ONCE: Final = MAX_CHANGES_PER_COMMAND

TopicNameField = Annotated[str, Meta(max_length=MAX_NAME_LENGTH)]
PartitionIdField = Annotated[int, Meta(ge=0, le=MAX_INT32)]
Key = tuple[str, int]


class NamedPartition(Struct, forbid_unknown_fields=True, frozen=True):
    topic_name: TopicNameField
    partition_id: PartitionIdField


def check_once(keys: list[Key]) -> None:
    """Nobody knows which of two wishes for one partition is meant."""
    seen: set[Key] = set()
    for topic, partition in keys:
        if (topic, partition) in seen:
            raise bad_request(f"partition {partition} of topic {topic!r} is named twice: name it once")
        seen.add((topic, partition))


def refusals_in(answer: AdminAnswer) -> dict[Key, PartitionRefusal]:
    """By topic name, as the request gave it, and partition."""
    assert isinstance(answer, PartitionsChanged), answer
    return {(refusal.name or "", refusal.partition): refusal for refusal in answer.refusals}


def error_of(image: Image, refusal: PartitionRefusal) -> ApiError:
    """The refusal of one partition as an answer of its own."""
    name = refusal.name or ""
    if refusal.code in (ErrorCode.UNKNOWN_TOPIC_OR_PARTITION, ErrorCode.UNKNOWN_TOPIC_ID):
        topic = image.topic(name)
        return (
            topic_not_found(name)
            if topic is None
            else partition_not_found(name, refusal.partition, len(topic.partitions))
        )
    return from_refusal(RefusedError(refusal.code, refusal.message))


def outcomes_reply(
    image: Image, successes: list[dict[str, Any]], refusals: dict[Key, PartitionRefusal]
) -> web.Response:
    failures = []
    for (topic, partition), refusal in refusals.items():
        error = error_of(image, refusal)
        named = {"topic_name": topic, "partition_id": partition}
        failures.append({**named, "error_code": error.error_code, "message": error.message})
    return json_reply({"successes": successes, "failures": failures}, status=207)
