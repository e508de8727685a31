"""Consumers over HTTP: any node serves them, they share a group with Kafka clients, and lose nothing."""

import asyncio
import base64
import time
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer

from api.http import coordinating
from api.http.errors import THROTTLED, ApiError
from api.http.instances import INSTANCES
from tests.api.http.real_groups import C, group_cluster
from tests.api.kafka.real_cluster import until

JSON_V2 = {"Accept": "application/vnd.kafka.json.v2+json"}


@pytest.fixture
async def api(tmp_path):
    async with group_cluster(tmp_path) as made:
        yield made


@pytest.fixture
async def one_node(tmp_path):
    async with group_cluster(tmp_path, size=1) as made:
        yield made


class Client:
    """One instance, asked through all nodes in turn."""

    def __init__(self, api, group="g", *, nodes=(1, 2, 3)):
        self.api, self.group, self.path = api, group, ""
        self._nodes, self._turn = nodes, 0

    async def __call__(self, method, path="", **options):
        self._turn += 1
        node = options.pop("node", self._nodes[self._turn % len(self._nodes)])
        return await self.api(method, self.path + path, node=node, **options)

    async def make(self, topics=(), **settings):
        options = {"auto.offset.reset": "earliest", **{name.replace("_", "."): v for name, v in settings.items()}}
        async with asyncio.timeout(60):
            while not await self._made(options, topics):  # noqa: ASYNC110 - as clients do whose coordinator moved
                await asyncio.sleep(0.05)  # sleeps: a busy machine may need an election or two
        return self

    async def _made(self, options, topics):
        self.path = f"/consumers/{self.group}"
        answer = await self("POST", json=options)
        assert 200 == answer.status, answer
        self.path += f"/instances/{answer.body['instance_id']}"
        assert answer.body["base_uri"].endswith(self.path)
        if topics:
            answer = await self("POST", "/subscription", json={"topics": list(topics)})
            if (404, 40403) == (answer.status, answer.body["error_code"] if answer.status == 404 else None):
                return False
            assert 204 == answer.status, answer
        return True

    async def poll(self, timeout_ms=500, **options):
        answer = await self("GET", f"/records?timeout={timeout_ms}", **options)
        assert 200 == answer.status, answer
        return answer.body

    async def values(self, count):
        """So many values, as text."""
        found = []
        async with asyncio.timeout(60):
            while len(found) < count:
                found += [base64.b64decode(one["value"]).decode() for one in await self.poll()]
        return found

    async def assigned(self):
        answer = await self("GET", "/assignments")
        return {one["partition"] for one in answer.body["partitions"]}


def instance_of(api, client):
    """The client's instance, where it lives."""
    coordinator = api.cluster.members[api.cluster.coordinator(client.group)].http._app
    (instance,) = [one for one in coordinator[INSTANCES]._by_name.values() if one.group_id == client.group]
    return instance


async def test_an_instance_reads_commits_and_hands_over_through_any_node(api):
    await api.ready("t", 3)
    for partition in range(3):
        await api.produce("t", partition, *(f"{partition}:{n}" for n in range(5)))
    first = await Client(api).make(["t"])
    everything = {f"{partition}:{n}" for partition in range(3) for n in range(5)}
    assert everything == set(await first.values(15)), "the first poll waits for the assignment"
    assert {0, 1, 2} == await first.assigned()
    done = [{"topic": "t", "partition": 0, "offset": 2}, {"topic": "t", "partition": 1, "offset": 4}]
    assert 204 == (await first("POST", "/offsets", json={"offsets": done})).status
    assert {("t", 0): 3, ("t", 1): 5} == await api.committed("g"), "the record 2 is done: 3 is next"
    busy = await api.commit("g", {("t", 0): 0})
    assert (409, 40905, 1) == (busy.status, busy.body["error_code"], busy.body["members_count"])
    assert 204 == (await first("DELETE")).status
    gone = await first("GET", "/records")
    assert (404, 40403) == (gone.status, gone.body["error_code"])
    second = await Client(api).make(["t"])
    assert everything - {"0:0", "0:1", "0:2", *(f"1:{n}" for n in range(5))} == set(await second.values(7))
    assert 204 == (await second("POST", "/offsets")).status
    assert {("t", 0): 5, ("t", 1): 5, ("t", 2): 5} == await api.committed("g"), "no body: all that was given out"


async def test_a_long_poll_ends_as_soon_as_there_is_something(api):
    await api.ready("t", 2)
    client = await Client(api).make(["t"], auto_offset_reset="latest")
    assert [] == await client.poll(0)
    began_s = time.monotonic()
    polling = asyncio.create_task(client.poll(30_000, headers=JSON_V2))
    await until(lambda: len(instance_of(api, client).positions) == 2)
    await api("POST", "/topics/t", json={"records": [{"key": "k", "value": {"n": 1}, "partition": 1}]})
    assert [{"topic": "t", "key": "k", "value": {"n": 1}, "partition": 1, "offset": 0}] == await polling
    assert time.monotonic() - began_s < 20


async def test_an_answer_that_finds_no_room_on_its_way_is_in_doubt(api, monkeypatch):
    """The coordinator has given the records out: who asked again would go on behind them."""
    await api.ready("t", 1)
    client = await Client(api).make(["t"])
    coordinator = api.cluster.nodes[0].groups.coordinator_of("g").broker_id
    between = next(node for node in (1, 2, 3) if node != coordinator)

    def refuse(_: int) -> None:
        raise ApiError(429, THROTTLED, "full")

    monkeypatch.setattr(coordinating, "held_by_request", lambda: SimpleNamespace(take=refuse))
    poll = await client("GET", "/records?timeout=0", node=between)
    assert (429, "unknown") == (poll.status, poll.body["outcome"])
    look = await client("GET", "/subscription", node=between)
    assert (429, None) == (look.status, look.body.get("outcome"))


async def test_nothing_is_given_out_to_a_client_that_has_gone(api):
    """Neither by the coordinator nor by a node between: its next poll gets what the lost answer would have held."""
    await api.ready("t", 1)
    for node in (1, 2, 3):
        client = await Client(api, f"g{node}", nodes=(node,)).make(["t"], auto_offset_reset="latest")
        polling = asyncio.create_task(client("GET", "/records?timeout=60000"))
        instance = instance_of(api, client)
        await until(lambda one=instance: one.positions)
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
        await until(lambda one=instance: not one.polling.locked())
        await api.produce("t", 0, f"for {node}")
        assert [f"for {node}"] == await client.values(1)
        await client("DELETE")


async def test_members_over_http_and_of_librdkafka_share_a_group(api):
    """Both kinds rebalance together, in each protocol; no partition is read by both or by nobody."""
    await api.ready("t", 4)
    for strategy in ("range", "roundrobin", "cooperative-sticky"):
        group = f"g-{strategy}"
        consumer = Consumer(
            {
                "bootstrap.servers": api.cluster.bootstrap,
                "group.id": group,
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 200,
                "partition.assignment.strategy": strategy,
            }
        )
        theirs: set[int] = set()

        def polled(consumer=consumer):
            consumer.poll(0.1)
            return {one.partition for one in consumer.assignment()}

        consumer.subscribe(["t"])
        async with asyncio.timeout(60):
            while theirs != {0, 1, 2, 3}:
                theirs = await asyncio.to_thread(polled)
        client = await Client(api, group).make(["t"])
        async with asyncio.timeout(60):
            while (len(theirs), len(ours := await client.assigned())) != (2, 2):
                theirs = await asyncio.to_thread(polled)
        assert {0, 1, 2, 3} == theirs | ours, strategy
        listed = (await api("GET", f"{C}/consumer-groups/{group}")).body
        assert ("STABLE", strategy, 2) == (listed["state"], listed["partition_assignor"], listed["members_count"])
        await asyncio.to_thread(consumer.close)
        async with asyncio.timeout(60):
            while await client.assigned() != {0, 1, 2, 3}:  # noqa: ASYNC110 - the state of another end of a socket
                await asyncio.sleep(0.05)  # sleeps: the group tells nobody else
        await client("DELETE")


async def test_a_group_whose_coordinator_stops_goes_on_at_its_committed_offsets(api):
    await api.ready("t", 2, replicas=3)
    for partition in range(2):
        await api.produce("t", partition, "a", "b", "c")
    client = await Client(api).make(["t"])
    assert 6 == len(await client.values(6))
    done = [{"topic": "t", "partition": 0, "offset": 1}]
    assert 204 == (await client("POST", "/offsets", json={"offsets": done})).status
    stopped = api.cluster.coordinator("g")
    others = tuple({1, 2, 3} - {stopped})
    await api.cluster.members[stopped].leave()
    await until(lambda: api.cluster.coordinator("g") != stopped)
    gone = await client("GET", "/records", node=others[0])
    assert (404, 40403) == (gone.status, gone.body["error_code"]), gone.body
    assert {("t", 0): 2} == await api.committed("g", node=others[1])
    again = await Client(api, nodes=others).make(["t"])
    assert {"a", "b", "c"} == set(await again.values(4))
    assert {0, 1} == await again.assigned()
