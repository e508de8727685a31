"""What is asked of groups and instances wrongly, late or twice: each is told what to do instead. One node."""

import asyncio
import base64

import pytest

from api.http import consumer_instance, instance_records, instances
from broker.groups.member import Joining
from broker.groups.offsets import CommittedOffset, TopicPartition
from tests.api.http.real_groups import C, group_cluster
from tests.api.http.test_consumer_instances import Client, instance_of
from tests.api.kafka.real_cluster import until
from wire.messages.join_group import JoinGroupRequest, JoinGroupRequestProtocol

G = f"{C}/consumer-groups"


@pytest.fixture
async def api(tmp_path):
    async with group_cluster(tmp_path, size=1) as made:
        await made.ready("t", 2)
        yield made


async def test_a_reset_moves_to_where_it_was_told_and_never_beyond_a_partition(api):
    await api.produce("t", 0, *"abcdefgh")
    await api.produce("t", 1, *"ab")
    assert 200 == (await api.commit("g", {("t", 0): 5})).status

    async def reset(**wish):
        answer = await api("POST", f"{G}/g/offsets:reset", json=wish)
        assert 200 == answer.status, answer
        return [(one["partition_id"], one["old_offset"], one["new_offset"]) for one in answer.body["data"]]

    assert [(0, 5, 0)] == await reset(to="earliest", dry_run=True)
    assert {("t", 0): 5} == await api.committed("g"), "a dry run changes nothing"
    assert [(0, 5, 3)] == await reset(shift=-2)
    assert [(0, 3, 0)] == await reset(shift=-1000)
    assert [(0, 0, 8), (1, None, 2)] == await reset(topics=["t"], to="latest")
    assert [(0, 8, 6), (1, 2, 2)] == await reset(topics=["t"], offset=6)
    assert [(1, 2, 0)] == await reset(partitions=[{"topic_name": "t", "partition_id": 1}], timestamp=0)
    assert [(0, 6, 8), (1, 0, 2)] == await reset(timestamp="2100-01-01T00:00:00Z")
    deleted = {"partitions": [{"topic_name": "t", "partition_id": 1}]}
    assert 200 == (await api("POST", f"{G}/g/offsets:delete", json=deleted)).status
    assert {("t", 0): 8} == await api.committed("g")


@pytest.mark.parametrize(
    ("path", "body", "status", "error_code", "said"),
    [
        ("/offsets:reset", {"to": "earliest", "shift": 1}, 400, 40002, "say where to, once"),
        ("/offsets:reset", {"topics": ["t"]}, 400, 40002, "say where to, once"),
        ("/offsets:reset", {"to": "middle"}, 400, 40002, "to"),
        ("/offsets:reset", {"topics": ["no"], "to": "latest"}, 404, 40401, "'no' does not exist"),
        (
            "/offsets:reset",
            {"partitions": [{"topic_name": "t", "partition_id": 9}], "offset": 1},
            404,
            40402,
            "it has 0 to 1",
        ),
        ("/offsets:reset", {"topics": [], "partitions": [], "to": "latest"}, 400, 40002, "exclude each other"),
        ("/offsets:reset", {"to": "latest"}, 404, 40405, "there is no group"),
        ("/offsets:commit", {"offsets": []}, 400, 40002, "offsets"),
        (
            "/offsets:commit",
            {"offsets": [{"topic_name": "t", "partition_id": 0, "offset": -1}]},
            400,
            40002,
            "offsets[0].offset",
        ),
        (
            "/offsets:commit",
            {"offsets": [{"topic_name": "t", "partition_id": 0, "offset": 1}] * 2},
            400,
            40002,
            "twice",
        ),
        (
            "/offsets:commit",
            {"offsets": [{"topic_name": "t", "partition_id": 0, "offset": 1, "metadata": "x" * 5000}]},
            400,
            40002,
            "4096 bytes",
        ),
    ],
)
async def test_what_cannot_be_set_is_refused_with_the_fix(api, path, body, status, error_code, said):
    answer = await api("POST", f"{G}/g{path}", json=body)
    assert (status, error_code) == (answer.status, answer.body["error_code"]), answer.body
    assert said in answer.body["message"]
    assert 404 == (await api("GET", f"{G}/g")).status, "nothing was made of it"


async def test_an_instance_is_told_what_is_wrong_with_what_it_asks(api):
    base = "/consumers/g"
    for body, said in (
        ({"format": "avro"}, "needs a schema registry"),
        ({"auto.offset.reset": "middle"}, "earliest, latest, none"),
        ({"auto.commit.enable": "perhaps"}, "true or false"),
        ({"fetch.min.bytes": "many"}, "must be a number"),
        ({"consumer.instance.timeout.ms": 1}, "between 1000 and"),
        ({"name": "a/b"}, "no slash"),
        ({"nonsense": 1}, "nonsense"),
    ):
        answer = await api("POST", base, json=body)
        assert (422, 42204) == (answer.status, answer.body["error_code"]), answer.body
        assert said in answer.body["message"]
    path = f"{base}/instances/c1"
    assert (404, 40403) == ((lost := await api("GET", f"{path}/records")).status, lost.body["error_code"])
    assert 200 == (await api("POST", base, json={"name": "c1", "auto.commit.enable": "true"})).status
    twice = await api("POST", base, json={"name": "c1"})
    assert (409, 40902) == (twice.status, twice.body["error_code"])
    nothing = await api("GET", f"{path}/records")
    assert 400 == nothing.status
    assert "POST its subscription" in nothing.body["message"]
    for body in ({}, {"topics": []}, {"topic_pattern": "t.*"}, {"topics": ["a/b"]}):
        assert 400 == (await api("POST", f"{path}/subscription", json=body)).status, body
    one = {"topic": "t", "partition": 0}
    assert 204 == (await api("POST", f"{path}/assignments", json={"partitions": [one]})).status
    both = await api("POST", f"{path}/subscription", json={"topics": ["t"]})
    assert (409, 40903) == (both.status, both.body["error_code"])
    foreign = await api("POST", f"{path}/positions", json={"offsets": [{"topic": "t", "partition": 1, "offset": 0}]})
    assert (409, 40904) == (foreign.status, foreign.body["error_code"])
    absent = await api("POST", f"{path}/assignments", json={"partitions": [{"topic": "t", "partition": 7}]})
    assert (404, 40402) == (absent.status, absent.body["error_code"])
    assert 406 == (await api("GET", f"{path}/records", headers={"Accept": "image/png"})).status
    assert 400 == (await api("GET", f"{path}/records?timeout=-1")).status


async def test_an_instance_that_assigns_itself_seeks_and_commits(api):
    await api.produce("t", 0, *"abcde")
    client = await Client(api, nodes=(1,)).make()
    one = {"topic": "t", "partition": 0}
    assert 204 == (await client("POST", "/assignments", json={"partitions": [one]})).status
    assert [*"abcde"] == await client.values(5)
    assert 204 == (await client("POST", "/positions", json={"offsets": [one | {"offset": 3}]})).status
    assert [*"de"] == await client.values(2)
    assert 204 == (await client("POST", "/positions/beginning", json={"partitions": [one]})).status
    assert [*"abcde"] == await client.values(5)
    assert 204 == (await client("POST", "/positions/end", json={"partitions": [one]})).status
    assert [] == await client.poll(0)
    done = [one | {"offset": 1, "metadata": "mine"}]
    assert 204 == (await client("POST", "/offsets", json={"offsets": done})).status
    committed = (await client("GET", "/offsets", json={"partitions": [one]})).body
    assert {"offsets": [one | {"offset": 2, "metadata": "mine"}]} == committed
    described = (await api("GET", f"{G}/g")).body
    assert (True, "EMPTY") == (described["is_simple"], described["state"])


async def test_records_come_in_every_form(api):
    await api("POST", "/topics/t", json={"records": [{"key": "k", "value": {"n": 1}, "partition": 0}]})
    client = await Client(api, nodes=(1,)).make(["t"], format="json")
    at_first = [{"topic": "t", "partition": 0, "offset": 0}]
    assert [{"topic": "t", "key": "k", "value": {"n": 1}, "partition": 0, "offset": 0}] == await client.poll(30_000)
    again = {"offsets": at_first}
    assert 204 == (await client("POST", "/positions", json=again)).status
    (in_base64,) = await client.poll(headers={"Accept": "application/vnd.kafka.binary.v2+json"})
    assert base64.b64encode(b'{"n": 1}').decode() == in_base64["value"]
    assert 204 == (await client("POST", "/positions", json=again)).status
    answer = await client("GET", "/records?format=auto")
    (part,) = answer.body["partition_data_list"]
    assert ("t", 0, 1, 1) == (part["topic_name"], part["partition_id"], part["next_offset"], part["high_watermark"])
    assert {"type": "STRING", "data": '{"n": 1}'} == part["records"][0]["value"]
    await api.produce("t", 0, "no json")
    refused = await client("GET", "/records?timeout=30000")
    assert (422, 42207) == (refused.status, refused.body["error_code"])
    (part,) = (await client("GET", "/records?format=string")).body["partition_data_list"]
    assert ["no json"] == [one["value"]["data"] for one in part["records"]], "what was not shown was not passed over"


async def test_what_a_client_committed_is_not_taken_back_by_an_automatic_commit(api):
    await api.produce("t", 0, *"abc")
    client = await Client(api, nodes=(1,)).make(["t"], auto_commit_enable=True)
    assert [*"abc"] == await client.values(3)
    assert 204 == (await client("POST", "/offsets")).status
    assert 3 == (await api.committed("g"))["t", 0]
    assert 204 == (await client("DELETE", "/subscription")).status
    assert 3 == (await api.committed("g"))["t", 0]


async def test_s17_nothing_is_committed_of_a_topic_that_is_gone(api):
    await api.produce("t", 0, *"abc")
    client = await Client(api, nodes=(1,)).make()
    one = {"topic": "t", "partition": 0}
    assert 204 == (await client("POST", "/assignments", json={"partitions": [one]})).status
    assert [*"abc"] == await client.values(3)
    assert 204 == (await api("DELETE", f"{C}/topics/t")).status
    assert 204 == (await client("POST", "/offsets")).status
    refused = await client("POST", "/offsets", json={"offsets": [one | {"offset": 1}]})
    assert (404, 40401) == (refused.status, refused.body["error_code"])
    assert api.cluster.nodes[0].groups.offsets_of("g").get(TopicPartition("t", 0)) is None


async def test_what_others_committed_while_a_position_was_looked_for_is_where_it_begins(api, monkeypatch):
    """L1: else what they had read is read again, and the next commit moves the group back."""
    await api.produce("t", 0, *"abcde")
    assert 200 == (await api.commit("g", {("t", 0): 1})).status
    client = await Client(api, nodes=(1,)).make(["t"])
    await until(lambda: instance_of(api, client).assignment)
    instance = instance_of(api, client)
    generation_id = instance._membership.generation_id

    async def meanwhile(partitions):
        await instance._ask_to_commit({TopicPartition("t", 0): CommittedOffset(4)})
        instance._membership.generation_id += 2
        return dict.fromkeys(partitions, 0)

    with monkeypatch.context() as patch:
        patch.setattr(instance, "_begin", meanwhile)
        await instance.find_positions()
    instance._membership.generation_id = generation_id
    await instance.find_positions()
    assert {TopicPartition("t", 0): 4, TopicPartition("t", 1): 0} == instance.positions


async def test_members_share_and_whoever_is_not_used_gives_its_partitions_up(api, monkeypatch):
    first = await Client(api, nodes=(1,)).make(["t"])
    second = await Client(api, nodes=(1,)).make(["t"], consumer_instance_timeout_ms=3000)

    async def shares():
        return [len(await one.assigned()) for one in (first, second)]

    async with asyncio.timeout(60):
        while [1, 1] != await shares():  # noqa: ASYNC110 - the other end of a socket
            await asyncio.sleep(0.02)  # sleeps: the group tells nobody else
    (own,) = await second.assigned()
    late = [{"topic": "t", "partition": own, "offset": 0}]
    refused = await first("POST", "/offsets", json={"offsets": late})
    assert (409, 40904) == (refused.status, refused.body["error_code"]), "it is another's to commit"
    async with asyncio.timeout(60):
        while {0, 1} != await first.assigned():  # noqa: ASYNC110 - the other end of a socket
            await asyncio.sleep(0.1)  # sleeps: the other is not to be asked for anything
    assert 404 == (await second("GET", "/assignments")).status
    monkeypatch.setattr(instances, "INSTANCES_MAX", 1)
    full = await api("POST", "/consumers/g", json={})
    assert (429, 42901) == (full.status, full.body["error_code"])


async def test_a_poll_ends_with_its_instance_and_a_second_one_waits_for_the_first(api):
    client = await Client(api, nodes=(1,)).make(["t"])
    async with asyncio.timeout(60):
        while not await client.assigned():  # noqa: ASYNC110 - the other end of a socket
            await asyncio.sleep(0.02)  # sleeps: the group tells nobody else
    long_one = asyncio.create_task(client("GET", "/records?timeout=60000"))
    (instance,) = api.cluster.members[1].http._app[instances.INSTANCES]._by_name.values()
    await until(instance.polling.locked)
    assert [] == await client.poll(50), "it does not take what the other waits for"
    assert 204 == (await client("DELETE")).status
    async with asyncio.timeout(20):
        ended = await long_one
    assert (404, 40403) == (ended.status, ended.body["error_code"])


async def test_what_was_read_before_a_seek_or_a_rebalance_is_not_given_out_after_it(api, monkeypatch):
    """Else a position would come back that the instance has given up, and two members would read one partition."""
    await api.produce("t", 0, *"abc")
    client = await Client(api, nodes=(1,)).make()
    one = {"topic": "t", "partition": 0}
    assert 204 == (await client("POST", "/assignments", json={"partitions": [one]})).status
    read = instance_records._next_records

    async def meanwhile(context, instance, *arguments):
        found = await read(context, instance, *arguments)
        assert found
        changes.pop(0)(instance)
        return found

    monkeypatch.setattr(instance_records, "_next_records", meanwhile)
    partition = TopicPartition("t", 0)
    changes = [lambda instance: instance.seek({partition: 2}), lambda instance: instance.assign([])]
    for left in ({partition: 2}, {}):
        assert [] == await client.poll()
        (instance,) = api.cluster.members[1].http._app[instances.INSTANCES]._by_name.values()
        assert left == instance.positions


async def test_what_was_given_out_is_committed_by_itself_once_it_is_done(api, monkeypatch):
    monkeypatch.setattr(consumer_instance, "AUTO_COMMIT_INTERVAL_S", 0.0)
    await api.produce("t", 0, *"abc")
    client = await Client(api, nodes=(1,)).make(["t"], auto_commit_enable=True)
    assert 3 == len(await client.values(3))
    assert 0 == (await api.committed("g")).get(("t", 0), 0), "the last poll's records may still be worked on"
    await api.produce("t", 0, "d")
    assert ["d"] == await client.values(1)
    assert 3 == (await api.committed("g"))["t", 0]
    assert 204 == (await client("DELETE")).status
    assert 4 == (await api.committed("g"))["t", 0], "its client said that it is done"


async def test_a_group_of_something_else_is_not_joined(api):
    """Kafka Connect's workers are a group too: whoever comes to it over HTTP is told so."""
    await api.commit("g", {("t", 0): 0})
    groups = api.cluster.nodes[0].groups
    request = JoinGroupRequest(
        group_id="g",
        session_timeout_ms=30_000,
        protocol_type="connect",
        protocols=[JoinGroupRequestProtocol("sessioned", b"")],
    )
    joining = Joining(request, "worker", "/127.0.0.1", "worker-1", requires_member_id=False)
    joined = await groups.ask("g", lambda core, call, now: core.join(call, joining, now))
    assert "worker-1" == joined.member_id
    client = await Client(api, nodes=(1,)).make(["t"])
    refused = await client("GET", "/records?timeout=10000")
    assert (409, 40906) == (refused.status, refused.body["error_code"])
    groups.tell("g", lambda core, now: core.leave("g", [("worker-1", None)], now))
    async with asyncio.timeout(60):
        while not await client.assigned():  # noqa: ASYNC110 - the other end of a socket
            await asyncio.sleep(0.05)  # sleeps: the group tells nobody else
