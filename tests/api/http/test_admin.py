"""Topics, configs, partitions, brokers, the quorum: what is asked for is done, what is wrong is named."""

import asyncio

import pytest

from broker.errors import OutcomeUnknownError
from tests.api.http.conftest import quick
from wire.errors import ErrorCode, RefusedError

TOPICS = "/v3/clusters/-/topics"


async def test_a_topic_is_created_described_grown_and_deleted(api, cluster):
    body = {"topic_name": "a.b-c_1", "partitions_count": 2, "configs": [{"name": "retention.ms", "value": 1000}]}
    answer = await api("POST", TOPICS, json=body)
    assert 201 == answer.status
    location = answer.headers["Location"]
    assert cluster.url("/v3/clusters/fake-cluster/topics/a.b-c_1") == location
    described = await api("GET", location.removeprefix(cluster.url("")))
    assert (200, answer.body) == (described.status, described.body)
    assert ("KafkaTopic", "a.b-c_1", 2, 1, False) == tuple(
        answer.body[name] for name in ("kind", "topic_name", "partitions_count", "replication_factor", "is_internal")
    )
    assert ["a.b-c_1"] == [topic["topic_name"] for topic in (await api("GET", TOPICS)).body["data"]]
    grown = await api("PATCH", f"{TOPICS}/a.b-c_1", json={"partitions_count": 5})
    assert (200, 5) == (grown.status, grown.body["partitions_count"])
    deleted = await api("DELETE", f"{TOPICS}/a.b-c_1")
    assert (204, b"") == (deleted.status, deleted.body)
    gone = await api("GET", f"{TOPICS}/a.b-c_1")
    assert (404, 40401) == (gone.status, gone.body["error_code"])
    assert 404 == (await api("DELETE", f"{TOPICS}/a.b-c_1")).status


async def test_validate_only_changes_nothing(api):
    answer = await api("POST", TOPICS, json={"topic_name": "t", "validate_only": True})
    assert (200, 1) == (answer.status, answer.body["partitions_count"])
    assert [] == (await api("GET", TOPICS)).body["data"]
    await api.topic()
    changes = {"data": [{"name": "retention.ms", "value": "5"}], "validate_only": True}
    assert 204 == (await api("POST", f"{TOPICS}/t/configs:alter", json=changes)).status
    assert (await api("GET", f"{TOPICS}/t/configs/retention.ms")).body["is_default"]


async def test_assignments_name_every_partition(api):
    body = {"topic_name": "t", "replicas_assignments": [{"partition_id": 1, "broker_ids": [1]}]}
    answer = await api("POST", TOPICS, json=body)
    assert (400, 40002) == (answer.status, answer.body["error_code"])
    assert "replicas_assignments" in answer.body["message"]
    body["replicas_assignments"].append({"partition_id": 0, "broker_ids": [1]})
    answer = await api("POST", TOPICS, json=body)
    assert (201, 2) == (answer.status, answer.body["partitions_count"])


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"topic_name": ".."}, "topic_name"),
        ({"topic_name": "a/b"}, "topic_name"),
        ({"topic_name": ""}, "topic_name"),
        ({"topic_name": "x" * 250}, "250"),
        ({"topic_name": "x" * 100_000}, "topic_name"),
        ({"topic_name": "ü"}, "topic_name"),
        ({"topic_name": "a b"}, "topic_name"),
        ({"topic_name": "__cluster_metadata"}, "topic_name"),
        ({"topic_name": 5}, "topic_name must be a string, not an integer"),
        ({}, "topic_name is missing"),
        ({"topic_name": "t", "partitions_count": "3"}, "partitions_count"),
        ({"topic_name": "t", "partitions_count": 0}, "partitions_count"),
        ({"topic_name": "t", "partitions_count": 10**30}, "partitions_count"),
        ({"topic_name": "t", "replication_factor": 3}, "replication_factor"),
        ({"topic_name": "t", "partition_count": 3}, "partition_count is not a field"),
        ({"topic_name": "t", "configs": [{"name": "retention.mss", "value": "1"}]}, "retention.ms"),
        ({"topic_name": "t", "configs": [{"name": "retention.ms", "value": "soon"}]}, "retention.ms"),
        ({"topic_name": "t", "configs": [{"name": "retention.ms", "value": []}]}, "configs[0].value"),
        ({"topic_name": "t", "configs": {"retention.ms": "1"}}, "configs"),
        ({"topic_name": "t", "configs": [{"name": "x" * 9000, "value": "1"}]}, "config"),
        ({"topic_name": "t", "configs": [{"name": "retention.ms", "value": "1" * 9000}]}, "characters"),
    ],
)
async def test_what_is_wrong_with_a_new_topic_is_named(api, body, word):
    answer = await api("POST", TOPICS, json=body)
    assert (400, 40002) == (answer.status, answer.body["error_code"]), answer
    assert word in answer.body["message"], answer.body


async def test_a_topic_that_exists_is_not_created_again(api):
    await api.topic()
    answer = await api("POST", TOPICS, json={"topic_name": "t"})
    assert (400, 40002) == (answer.status, answer.body["error_code"])
    assert "exists" in answer.body["message"]


async def test_a_topic_does_not_shrink(api):
    await api.topic(partitions=3)
    answer = await api("PATCH", f"{TOPICS}/t", json={"partitions_count": 2})
    assert (400, 40002) == (answer.status, answer.body["error_code"])


async def test_configs_are_listed_set_reset_and_altered_together(api):
    await api.topic(retention_ms="1000")
    listed = (await api("GET", f"{TOPICS}/t/configs")).body
    assert "KafkaTopicConfigList" == listed["kind"]
    by_name = {config["name"]: config for config in listed["data"]}
    assert ("1000", False, "DYNAMIC_TOPIC_CONFIG") == tuple(
        by_name["retention.ms"][name] for name in ("value", "is_default", "source")
    )
    assert by_name["segment.bytes"]["is_default"]
    assert 204 == (await api("PUT", f"{TOPICS}/t/configs/segment.bytes", json={"value": 1_000_000})).status
    assert "1000000" == (await api("GET", f"{TOPICS}/t/configs/segment.bytes")).body["value"]
    assert 204 == (await api("DELETE", f"{TOPICS}/t/configs/retention.ms")).status
    assert (await api("GET", f"{TOPICS}/t/configs/retention.ms")).body["is_default"]
    changes = [{"name": "segment.bytes", "operation": "DELETE"}, {"name": "compression.type", "value": "zstd"}]
    assert 204 == (await api("POST", f"{TOPICS}/t/configs:alter", json={"data": changes})).status
    assert "zstd" == (await api("GET", f"{TOPICS}/t/configs/compression.type")).body["value"]
    assert (await api("GET", f"{TOPICS}/t/configs/segment.bytes")).body["is_default"]


@pytest.mark.parametrize(
    ("data", "word"),
    [
        ([], "data"),
        ([{"name": "retention.ms"}], "data[0].value"),
        ([{"name": "retention.ms", "value": "1", "operation": "APPEND"}], "operation"),
        ([{"name": "no.such", "value": "1"}], "no.such"),
        ([{"value": "1"}], "data[0].name is missing"),
    ],
)
async def test_a_wrong_change_is_named_and_nothing_changes(api, data, word):
    await api.topic()
    answer = await api("POST", f"{TOPICS}/t/configs:alter", json={"data": data})
    assert (400, 40002) == (answer.status, answer.body["error_code"]), answer
    assert word in answer.body["message"], answer.body


async def test_an_unknown_config_is_not_found(api):
    await api.topic()
    answer = await api("GET", f"{TOPICS}/t/configs/retention.mss")
    assert (404, "retention.ms" in answer.body["message"]) == (answer.status, True)


async def test_partitions_and_replicas_say_who_leads_and_how_far(api, cluster):
    await api.topic(partitions=2)
    await api("POST", f"{TOPICS}/t/records", json={"partition_id": 1})
    listed = (await api("GET", f"{TOPICS}/t/partitions")).body
    assert [(0, 1, 0), (1, 1, 1)] == [(p["partition_id"], p["leader_id"], p["high_watermark"]) for p in listed["data"]]
    one = await api("GET", f"{TOPICS}/t/partitions/1")
    assert ("1", listed["data"][1]) == (one.headers["X-Leader-Id"], one.body)
    replicas = (await api("GET", f"{TOPICS}/t/partitions/1/replicas")).body["data"]
    (replica,) = replicas
    assert (1, True, True, 0, 1, 1) == tuple(
        replica[n] for n in ("broker_id", "is_leader", "is_in_sync", "leader_epoch", "log_end_offset", "high_watermark")
    )
    assert replica == (await api("GET", f"{TOPICS}/t/partitions/1/replicas/1")).body
    assert 404 == (await api("GET", f"{TOPICS}/t/partitions/1/replicas/2")).status


async def test_offsets_by_bound_and_by_time(api):
    await api.topic()
    for timestamp in (100, 200):
        await api("POST", f"{TOPICS}/t/records", json={"timestamp": timestamp})
    path = f"{TOPICS}/t/partitions/0/offset"
    answer = (await api("GET", path)).body
    assert (0, 2) == (answer["earliest_offset"], answer["latest_offset"])
    answer = (await api("GET", path + "?timestamp=150")).body
    assert (1, 200) == (answer["offset"], answer["timestamp"])
    answer = (await api("GET", path + "?timestamp=300")).body
    assert (2, None) == (answer["offset"], answer["timestamp"])


async def test_the_cluster_its_brokers_and_its_quorum(api, cluster):
    clusters = (await api("GET", "/v3/clusters")).body
    assert ["fake-cluster"] == [item["cluster_id"] for item in clusters["data"]]
    for name in ("-", "fake-cluster"):
        assert clusters["data"][0] == (await api("GET", f"/v3/clusters/{name}")).body
    (broker,) = (await api("GET", "/v3/clusters/-/brokers")).body["data"]
    assert (1, cluster.listeners[0].port, False) == (broker["broker_id"], broker["port"], broker["is_fenced"])
    assert broker == (await api("GET", "/v3/clusters/-/brokers/1")).body
    quorum = (await api("GET", "/v3/clusters/-/quorum")).body
    assert (1, 3) == (quorum["leader_id"], quorum["term"])
    assert [(1, 0, True)] == [(v["node_id"], v["lag"], v["directory_ok"]) for v in quorum["voters"]]


async def test_health_names_what_is_wrong(api, cluster):
    await api.topic()
    health = (await api("GET", "/v3/clusters/-/health")).body
    assert (True, []) == (health["healthy"], health["reasons"])
    cluster.nodes[0].quorum.leader_id = None
    health = (await api("GET", "/v3/clusters/-/health")).body
    assert not health["healthy"]
    assert "quorum" in health["reasons"][0]


async def test_alive_is_not_ready(api, cluster):
    assert (200, True) == ((await api("GET", "/readyz")).status, (await api("GET", "/readyz")).body["ready"])
    cluster.nodes[0].not_ready = ["shutting down"]
    answer = await api("GET", "/readyz")
    assert (503, 50003, ["shutting down"]) == (answer.status, answer.body["error_code"], answer.body["reasons"])
    assert 200 == (await api("GET", "/healthz")).status


@pytest.mark.parametrize(
    "path",
    ["/v3/clusters/other", "/v3/clusters/other/topics", "/v3/clusters/other/topics/t", "/v3/clusters/other/quorum"],
)
async def test_another_cluster_is_not_here(api, path):
    answer = await api("GET", path)
    assert (404, 404) == (answer.status, answer.body["error_code"])
    assert "fake-cluster" in answer.body["message"]


async def test_an_admin_call_that_may_have_happened_says_so(api, cluster):
    failure = OutcomeUnknownError(ErrorCode.REQUEST_TIMED_OUT, "the controller did not answer")
    cluster.nodes[0].admin_failures = [failure, RefusedError(ErrorCode.NOT_CONTROLLER, "no controller")]
    answer = await api("POST", TOPICS, json={"topic_name": "t"})
    assert (503, 50003, "unknown") == (answer.status, answer.body["error_code"], answer.body["outcome"])
    answer = await api("POST", TOPICS, json={"topic_name": "t"})
    assert (503, 50003, "1") == (answer.status, answer.body["error_code"], answer.headers["Retry-After"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v3/clusters"),
        ("GET", TOPICS),
        ("GET", f"{TOPICS}/t"),
        ("DELETE", f"{TOPICS}/t"),
        ("PATCH", f"{TOPICS}/t"),
        ("GET", f"{TOPICS}/t/configs"),
        ("GET", f"{TOPICS}/t/partitions"),
        ("GET", f"{TOPICS}/t/partitions/0/offset"),
        ("POST", f"{TOPICS}/t/records:batch"),
        ("POST", f"{TOPICS}/t/partitions/-/records:consume"),
        ("GET", "/topics"),
        ("POST", "/topics/t"),
    ],
)
async def test_every_route_refuses_a_parameter_that_it_does_not_know(api, method, path):
    await api.topic()
    answer = await api(method, path + "?no_such=1")
    assert (400, 40002) == (answer.status, answer.body["error_code"])
    assert "no_such" in answer.body["message"]
    assert 1 == len(api.cluster.image.topics)


async def test_a_bug_is_logged_and_told_as_ours(api, cluster):
    cluster.nodes[0].admin_failures = [AssertionError("a bug")]
    answer = await api("POST", TOPICS, json={"topic_name": "t"})
    assert (500, 500) == (answer.status, answer.body["error_code"])
    assert "a bug" not in answer.body["message"]
    assert cluster.nodes[0].failure is None, "it was not raised in the broker's code"


@pytest.mark.parametrize("room", ["broker.node", "logstore.partition_log", "api.http.topics", "metadata.apply"])
async def test_a_broken_invariant_of_the_broker_stops_the_node_and_a_bug_of_the_door_does_not(
    api, cluster, monkeypatch, room
):
    code = compile("async def admin(request, *, timeout_s):\n    assert not request, 'broken'", "<room>", "exec")
    module = {"__name__": room}
    exec(code, module)
    monkeypatch.setattr(cluster.nodes[0], "admin", module["admin"])
    answer = await api("POST", TOPICS, json={"topic_name": "t"})
    assert (500, 500) == (answer.status, answer.body["error_code"])
    stops = room.startswith(("broker", "logstore"))
    assert stops is isinstance(cluster.nodes[0].failure, AssertionError)


async def test_every_answer_above_a_packet_is_compressed_for_who_asks(api, cluster):
    await api.topic("t", 30)
    cluster_path = "/v3/clusters/-"
    for path in (
        f"{TOPICS}/t/configs", TOPICS, f"{TOPICS}/t/partitions", "/topics/t", "/topics/t/partitions",
    ):  # fmt: skip
        plain = await api("GET", path, headers={"Accept-Encoding": "identity"})
        packed = await api("GET", path, headers={"Accept-Encoding": "gzip"})
        assert plain.body == packed.body
        is_large = int(plain.headers["Content-Length"]) >= 1024
        assert (None, "gzip" if is_large else None) == (
            plain.headers.get("Content-Encoding"),
            packed.headers.get("Content-Encoding"),
        ), path
        assert ("Accept-Encoding" if is_large else None) == plain.headers.get("Vary"), path
    answer = await api("GET", cluster_path, headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers, "below a packet's size it saves nothing"
    configs = await api("GET", f"{TOPICS}/t/configs", headers={"Accept-Encoding": "gzip"})
    assert "gzip" == configs.headers["Content-Encoding"]


class TestCatchingUp:
    @pytest.fixture
    def settings(self):
        return quick(unknown_topic_wait_s=5.0)

    async def test_a_topic_that_another_node_has_just_created_is_waited_for(self, api, cluster):
        waiting = asyncio.create_task(api("POST", f"{TOPICS}/t/records", json={}))
        await asyncio.wait([waiting], timeout=0.05)
        assert not waiting.done()
        await api.topic()
        assert 200 == (await asyncio.wait_for(waiting, 30)).status
