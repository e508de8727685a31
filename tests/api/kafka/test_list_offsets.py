"""ListOffsets of a new leader: what it cannot know yet it does not answer (S12, KIP-207)."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from api.kafka.list_offsets import handle
from broker.replication.replica import ACKS_ALL, Replica
from metadata.image import Topic
from tests.broker.replication.brokers import TOPIC_ID, batch, brokers, state_of
from wire.errors import ErrorCode
from wire.messages.headers import RequestHeader
from wire.messages.list_offsets import ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic

WRITTEN_MS = 1_000


def asked_of(replica: Replica, timestamp: int) -> tuple[ErrorCode, int]:
    """(error, offset), as the broker of this replica answers a consumer."""
    topic = Topic(topic_id=TOPIC_ID, name="pay", partitions=(state_of((1, 2)),))
    image = SimpleNamespace(topic=lambda _name: topic)
    node = SimpleNamespace(image=image, replica=lambda _topic_id, _partition: replica)
    caller: Any = SimpleNamespace(door=SimpleNamespace(context=SimpleNamespace(node=node)))
    partition = ListOffsetsPartition(timestamp=timestamp)
    request = ListOffsetsRequest(replica_id=-1, topics=[ListOffsetsTopic("pay", [partition])])
    (answer,) = handle(caller, RequestHeader(api_version=9), request).topics[0].partitions
    return ErrorCode(answer.error_code), answer.offset


async def test_a_new_leader_says_of_no_time_that_nothing_is_there(tmp_path: Path) -> None:
    """Its watermark lags behind what its predecessor showed: whoever heard "nothing" would go on behind that record."""
    async with brokers(tmp_path, 2) as (first, second):
        state = state_of((1, 2))
        leader, follower = first.lead(state), second.follow(first, state)
        written = await leader.append(batch(b"a"), acks=ACKS_ALL, timeout_ms=20_000)
        assert (ErrorCode.NONE, written.base_offset) == asked_of(leader, WRITTEN_MS)
        assert (ErrorCode.NONE, -1) == asked_of(leader, WRITTEN_MS + 1)
        assert follower is second.lead(state_of((1, 2), leader=2, leader_epoch=2, partition_epoch=1))
        assert not follower.knows_high_watermark
        assert (ErrorCode.NONE, 0) == asked_of(follower, -2)
        for timestamp in (-1, WRITTEN_MS, WRITTEN_MS + 1):
            assert (ErrorCode.OFFSET_NOT_AVAILABLE, -1) == asked_of(follower, timestamp)
