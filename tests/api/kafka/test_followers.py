"""Who may fetch as a follower (S9): a broker by its id and epoch, on the listener for that; nobody else changes any."""

import pytest

from tests.api.kafka.messages import fetch, fetched, produce, values
from tests.api.kafka.raw_client import RawClient
from tests.api.kafka.real_cluster import RealCluster, until
from wire.errors import ErrorCode
from wire.messages import ApiKey


class Led:
    """A partition of three replicas, its leader, and one of its followers."""

    def __init__(self, cluster: RealCluster, topic) -> None:
        self.topic = topic
        self.leader = cluster.leader(topic)
        self.follower = next(one.node for one in cluster.nodes if one is not self.leader)
        self.replica = self.leader.node.replica(topic.topic_id, 0)

    @property
    def epoch(self) -> int:
        """The follower's broker epoch."""
        assert self.follower.broker_epoch is not None
        return self.follower.broker_epoch

    def states(self):
        return [(state.broker_id, state.log_end_offset) for state in self.replica.follower_states()]


@pytest.fixture
async def led(three: RealCluster) -> Led:
    made = Led(three, await three.create("t", replicas=3))
    await until(lambda: [0, 0] == [end for _, end in made.states()])
    return made


async def refused(client: RawClient, request, version: int | None = None) -> ErrorCode:
    answer = await client.ask(ApiKey.FETCH, request, version)
    assert [] == answer.responses
    return ErrorCode(answer.error_code)


async def test_who_is_no_broker_of_this_cluster_is_refused_as_a_whole_and_nothing_is_noted(led: Led, capsys):
    client = await RawClient.connect(led.leader.listener.port)
    clients = await RawClient.connect(led.leader.clients.port)
    topic_id, broker_id, epoch = led.topic.topic_id, led.follower.broker_id, led.epoch
    ahead = 7
    before = led.states()
    for _ in range(2):  # the second time to see that it is logged once
        for follower, code in (
            ((broker_id, epoch - 1), ErrorCode.STALE_BROKER_EPOCH),
            ((broker_id, epoch + 1), ErrorCode.STALE_BROKER_EPOCH),
            ((broker_id, -1), ErrorCode.STALE_BROKER_EPOCH),
            ((99, epoch), ErrorCode.BROKER_ID_NOT_REGISTERED),
        ):
            assert code == await refused(client, fetch(topic_id, ahead, follower=follower))
        of_others = fetch(topic_id, ahead, follower=(broker_id, epoch), cluster_id="another")
        assert ErrorCode.INCONSISTENT_CLUSTER_ID == await refused(client, of_others)
        without_epoch = fetch("t", ahead, replica_id=broker_id)
        assert ErrorCode.STALE_BROKER_EPOCH == await refused(client, without_epoch, 12)
        by_clients = fetch(topic_id, ahead, follower=(broker_id, epoch))
        assert ErrorCode.CLUSTER_AUTHORIZATION_FAILED == await refused(clients, by_clients)
    assert before == led.states()
    assert 6 == capsys.readouterr().out.count("fetch refused")
    clients.close()


async def test_a_broker_that_holds_no_replica_is_refused_by_the_partition(three: RealCluster):
    topic = await three.create("t", replicas=2)
    leader = three.leader(topic)
    state = three.nodes[0].node.image.partition(topic.topic_id, 0)
    (other,) = (one.node for one in three.nodes if one.node.broker_id not in state.replicas)
    client = await RawClient.connect(leader.listener.port)
    asked = fetch(
        topic.topic_id, follower=(other.broker_id, other.broker_epoch), current_leader_epoch=state.leader_epoch
    )
    assert ErrorCode.NOT_LEADER_OR_FOLLOWER == fetched(await client.ask(ApiKey.FETCH, asked)).error_code


async def test_a_follower_of_another_epoch_is_told_so(led: Led):
    """S7."""
    client = await RawClient.connect(led.leader.listener.port)
    me = (led.follower.broker_id, led.epoch)
    before = led.states()
    asked = fetch(led.topic.topic_id, follower=me, current_leader_epoch=led.replica.leader_epoch + 1)
    assert ErrorCode.UNKNOWN_LEADER_EPOCH == fetched(await client.ask(ApiKey.FETCH, asked)).error_code
    assert before == led.states()


async def test_without_followers_a_write_is_in_doubt_and_only_a_follower_reads_it(three: RealCluster):
    """S2, S12, S15."""
    topic = await three.create("t", replicas=3, min_insync_replicas="2")
    led = Led(three, topic)
    me = (led.follower.broker_id, led.epoch)
    for one in three.nodes:
        if one is not led.leader:
            await one.stop()
    client = await RawClient.connect(led.leader.listener.port)
    answer = await client.ask(ApiKey.PRODUCE, produce(topic.topic_id, b"v", acks=-1, timeout_ms=100))
    code = answer.responses[0].partition_responses[0].error_code
    assert code in (
        ErrorCode.REQUEST_TIMED_OUT,
        ErrorCode.NOT_ENOUGH_REPLICAS,
        ErrorCode.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    )
    data = fetched(await client.ask(ApiKey.FETCH, fetch(topic.topic_id)))
    assert ([], 0) == (values(data), data.high_watermark)
    as_follower = fetch(topic.topic_id, follower=me, current_leader_epoch=led.replica.leader_epoch)
    data = fetched(await client.ask(ApiKey.FETCH, as_follower))
    assert (code != ErrorCode.NOT_ENOUGH_REPLICAS) == ([b"v"] == values(data))


async def test_followers_fetch_in_sessions(led: Led):
    await until(lambda: len(led.leader.context.sessions) == 2)
    assert all(session.follower for session in led.leader.context.sessions._sessions.values())
