"""Replicas, moves, elections and brokers over HTTP: what an operator asks is done, what is wrong is named."""

import pytest

from broker.replication.leader import FollowerState
from metadata.requests import AlterPartitionRequest, Heartbeat, InSyncReplicasChange
from tests.api.http.conftest import Api

C = "/v3/clusters/-"
P = f"{C}/topics/t/partitions/0"


@pytest.fixture
async def api(cluster) -> Api:
    """Four nodes; topic t with one partition on brokers 1, 2 and 3, led by 1."""
    for _ in range(3):
        await cluster.add_node()
    made = Api(cluster)
    await made.replicated("t", [[1, 2, 3]])
    return made


def in_sync(api: Api, *broker_ids: int, topic: str = "t", partition: int = 0) -> None:
    """As the leader would ask for it."""
    image = api.cluster.image
    found = image.topic(topic)
    state = found.partitions[partition]
    change = InSyncReplicasChange(
        topic_id=found.topic_id,
        partition=partition,
        leader_epoch=state.leader_epoch,
        partition_epoch=state.partition_epoch,
        in_sync_replicas=tuple((b, image.brokers[b].epoch) for b in broker_ids),
    )
    epoch = image.brokers[state.leader].epoch
    request = AlterPartitionRequest(broker_id=state.leader, broker_epoch=epoch, changes=(change,))
    assert () == api.cluster.ask(request).refusals


def followers(api: Api, topic: str = "t", **log_ends: int) -> None:
    """What the leader heard of them."""
    log = api.cluster.log(topic)
    log.followers = tuple(
        FollowerState(broker_id=int(b[1:]), log_end_offset=end, last_caught_up_ms=None, is_in_sync=end >= 0)
        for b, end in log_ends.items()
    )


async def three_records(api: Api) -> None:
    for _ in range(3):
        assert 200 == (await api("POST", f"{P}/records", json={})).status


# -- replicas ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", [1, 2])
async def test_a_partition_tells_how_far_each_follower_is(api, node):
    """Asked of its leader, and of another node."""
    await three_records(api)
    followers(api, b2=3, b3=1)
    partition = (await api("GET", P, node=node)).body
    assert (1, [1, 2, 3], [1, 2, 3], 1) == tuple(
        partition[name] for name in ("leader_id", "replica_ids", "in_sync_replica_ids", "min_in_sync_replicas")
    )
    assert [(2, 3, 0), (3, 1, 2)] == [(f["broker_id"], f["log_end_offset"], f["lag"]) for f in partition["followers"]]
    replicas = (await api("GET", f"{P}/replicas", node=node)).body["data"]
    names = ("broker_id", "is_leader", "is_in_sync", "log_end_offset", "lag")
    expected = [(1, True, True, 3, 0), (2, False, True, 3, 0), (3, False, True, 1, 2)]
    assert expected == [tuple(replica[name] for name in names) for replica in replicas]
    assert replicas[2] == (await api("GET", f"{P}/replicas/3", node=node)).body
    (listed,) = (await api("GET", f"{C}/partitions", node=node)).body["data"]
    assert partition["followers"] == listed["followers"]


async def test_a_follower_that_was_not_heard_of_is_not_told_to_be_at_an_offset(api):
    await three_records(api)
    followers(api, b2=-1, b3=3)
    partition = (await api("GET", P)).body
    assert [(2, None, None, None), (3, 3, 0, None)] == [
        (f["broker_id"], f["log_end_offset"], f["lag"], f["caught_up_ms_ago"]) for f in partition["followers"]
    ]


async def test_partitions_are_listed_by_what_is_the_matter_with_them(api):
    await api.replicated("u", [[2, 1, 3], [2, 3, 4]], min_insync_replicas="2")
    in_sync(api, 2, topic="u")

    async def listed(query: str) -> list[tuple[str, int]]:
        answer = await api("GET", f"{C}/partitions?{query}")
        assert 200 == answer.status, answer.body
        return [(p["topic_name"], p["partition_id"]) for p in answer.body["data"]]

    assert [("t", 0), ("u", 0), ("u", 1)] == await listed("")
    assert [("u", 0)] == await listed("state=under-replicated")
    assert [("u", 0)] == await listed("state=under-min-isr")
    assert [] == await listed("state=unavailable")
    assert [("u", 0), ("u", 1)] == await listed("topic=u")
    assert [("u", 1)] == await listed("broker_id=4")
    await api("POST", f"{C}/partitions:elect-leaders", json=election("DESIGNATED", leader_id=2))
    assert [("t", 0)] == await listed("state=not-preferred-leader")
    await api.replicated("v", [[4]])
    api.cluster.fence(4)
    assert [("v", 0)] == await listed("state=unavailable")
    (partition,) = (await api("GET", f"{C}/partitions?state=unavailable")).body["data"]
    assert (None, None, None) == tuple(partition[name] for name in ("leader_id", "leader", "log_end_offset"))


async def test_many_partitions_come_in_pages(api):
    await api.replicated("many", [[1, 2]] * 25)
    found, query, pages = [], "?limit=10&topic=many", 0
    while query is not None:
        body = (await api("GET", f"{C}/partitions{query}")).body
        found += [p["partition_id"] for p in body["data"]]
        following = body["metadata"]["next"]
        query = None if following is None else "?" + following.partition("?")[2]
        pages += 1
    assert (list(range(25)), 3) == (found, pages)
    (last,) = (await api("GET", f"{C}/partitions?after=many/24")).body["data"]
    assert "t" == last["topic_name"]


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("state=sick", 400, "under-replicated"),
        ("limit=0", 400, "limit"),
        ("after=x", 400, "orders/7"),
        ("after=/1", 400, "orders/7"),
        ("broker_id=one", 400, "broker_id"),
        ("topic=none", 404, "none"),
        ("no_such=1", 400, "state"),
    ],
)
async def test_what_is_wrong_with_a_listing_is_named(api, query, status, word):
    answer = await api("GET", f"{C}/partitions?{query}")
    assert (status, True) == (answer.status, word in answer.body["message"]), answer.body


# -- reassignments ----------------------------------------------------------------------------------------------------


async def test_a_move_is_begun_watched_and_finished(api):
    await three_records(api)
    begun = await api("PUT", f"{P}/reassignment", json={"replicas": [2, 3, 4], "throttle_bytes_per_s": 1000}, node=3)
    assert 202 == begun.status, begun.body
    followers(api, b2=3, b3=3, b4=1)
    for node in (1, 4):
        going_on = (await api("GET", f"{P}/reassignment", node=node)).body
        names = ("target_replica_ids", "adding_replica_ids", "removing_replica_ids", "remaining_offsets", "leader_id")
        assert ([2, 3, 4], [4], [1], 2, 1) == tuple(going_on[name] for name in names)
        for listing in (f"{C}/topics/-/partitions/-/reassignment", f"{C}/topics/t/partitions/-/reassignment"):
            listed = (await api("GET", listing, node=node)).body
            assert ["KafkaReassignmentList", going_on] == [listed["kind"], *listed["data"]]
    assert {"bytes_per_s": 1000}.items() <= (await api("GET", f"{C}/replication-throttle")).body.items()
    assert 1 == (await api("GET", f"{C}/health")).body["reassigning_partitions_count"]
    in_sync(api, 1, 2, 3, 4)
    api.cluster.settle()
    assert (2, 3, 4) == api.cluster.image.topic("t").partitions[0].replicas
    answer = await api("GET", f"{P}/reassignment")
    assert (404, 404) == (answer.status, answer.body["error_code"])
    assert [] == (await api("GET", f"{C}/topics/-/partitions/-/reassignment")).body["data"]


async def test_a_move_is_cancelled(api):
    await api("PUT", f"{P}/reassignment", json={"replicas": [4]})
    assert 204 == (await api("DELETE", f"{P}/reassignment")).status
    assert (1, 2, 3) == api.cluster.image.topic("t").partitions[0].replicas
    again = await api("DELETE", f"{P}/reassignment")
    assert (404, 404) == (again.status, again.body["error_code"]), again.body


async def test_many_moves_each_with_its_own_outcome(api):
    await api.replicated("u", [[1, 2], [2, 3]])
    wanted = [
        {"topic_name": "u", "partition_id": 0, "replicas": [3, 4]},
        {"topic_name": "u", "partition_id": 1, "replicas": None},
        {"topic_name": "u", "partition_id": 7, "replicas": [1]},
        {"topic_name": "none", "partition_id": 0, "replicas": [1]},
        {"topic_name": "t", "partition_id": 0, "replicas": [9]},
    ]
    body = {"reassignments": wanted, "validate_only": True}
    for validate_only in (True, False):
        answer = await api("POST", f"{C}/partitions:reassign", json={**body, "validate_only": validate_only})
        assert 207 == answer.status, answer.body
        assert [("u", 0)] == [(s["topic_name"], s["partition_id"]) for s in answer.body["successes"]]
        failures = {(f["topic_name"], f["partition_id"]): f["error_code"] for f in answer.body["failures"]}
        assert {("u", 1): 404, ("u", 7): 40402, ("none", 0): 40401, ("t", 0): 40002} == failures
        assert all(failure["message"] for failure in answer.body["failures"])
        assert (not validate_only) is api.cluster.image.topic("u").partitions[0].is_reassigning


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "replicas is missing"),
        ({"replicas": []}, "replicas"),
        ({"replicas": [1, 1]}, "twice"),
        ({"replicas": [1, 99]}, "99"),
        ({"replicas": ["1"]}, "replicas[0] must be an integer"),
        ({"replicas": [-1]}, "replicas"),
        ({"replicas": [4], "throttle_bytes_per_s": 0}, "throttle_bytes_per_s"),
        ({"replicas": [4], "throttle": 5}, "throttle is not a field"),
    ],
)
async def test_what_is_wrong_with_a_move_is_named_and_nothing_moves(api, body, word):
    before = api.cluster.image.topics
    answer = await api("PUT", f"{P}/reassignment", json=body)
    assert (400, 40002) == (answer.status, answer.body["error_code"]), answer.body
    assert word in answer.body["message"], answer.body
    assert before is api.cluster.image.topics


async def test_a_partition_is_not_to_be_moved_to_two_places_at_once(api):
    one = {"topic_name": "t", "partition_id": 0, "replicas": [4]}
    answer = await api("POST", f"{C}/partitions:reassign", json={"reassignments": [one, one]})
    assert (400, True) == (answer.status, "twice" in answer.body["message"])
    assert not api.cluster.image.topic("t").partitions[0].is_reassigning


@pytest.mark.parametrize("path", ["/topics/none/partitions/0/reassignment", "/topics/t/partitions/3/reassignment"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_what_is_not_there_does_not_move(api, method, path):
    answer = await api(method, C + path, json={"replicas": [1]})
    assert (404, True) == (answer.status, answer.body["error_code"] in (40401, 40402))


async def test_the_throttle_is_set_and_lifted(api):
    assert (await api("GET", f"{C}/replication-throttle")).body["bytes_per_s"] is None
    for rate in (5_000_000, None):
        answer = await api("PUT", f"{C}/replication-throttle", json={"bytes_per_s": rate}, node=2)
        assert (200, rate) == (answer.status, answer.body["bytes_per_s"])
        assert rate == (await api("GET", f"{C}/replication-throttle")).body["bytes_per_s"]
    for body, word in (
        ({}, "bytes_per_s is missing"),
        ({"bytes_per_s": 0}, "bytes_per_s"),
        ({"bytes_per_s": 2**63}, "by"),
    ):
        answer = await api("PUT", f"{C}/replication-throttle", json=body)
        assert (400, True) == (answer.status, word in answer.body["message"]), answer.body


# -- elections --------------------------------------------------------------------------------------------------------


def election(kind: str, *names: tuple[str, int], **more: object) -> dict[str, object]:
    partitions = [{"topic_name": topic, "partition_id": partition} for topic, partition in names or [("t", 0)]]
    return {"election": kind, "partitions": partitions, **more}


async def test_leadership_goes_to_whom_an_operator_names_and_back(api):
    path = f"{C}/partitions:elect-leaders"
    answer = await api("POST", path, json=election("DESIGNATED", leader_id=3))
    expected = {"topic_name": "t", "partition_id": 0, "leader_id": 3, "changed": True}
    assert (207, [expected], []) == (answer.status, answer.body["successes"], answer.body["failures"])
    assert 3 == api.cluster.leader_of("t", 0)
    again = await api("POST", path, json=election("DESIGNATED", leader_id=3))
    assert [(3, False)] == [(s["leader_id"], s["changed"]) for s in again.body["successes"]]
    assert again.body["successes"][0]["message"]
    everywhere = await api("POST", path, json={})
    assert [("t", 1)] == [(s["topic_name"], s["leader_id"]) for s in everywhere.body["successes"]]
    nothing = await api("POST", path)
    assert (207, [], []) == (nothing.status, nothing.body["successes"], nothing.body["failures"])


async def test_who_may_not_lead_is_told_by_partition(api):
    in_sync(api, 1, 2)
    body = election("DESIGNATED", ("t", 0), ("t", 5), ("none", 0), leader_id=3)
    answer = await api("POST", f"{C}/partitions:elect-leaders", json=body)
    assert (207, []) == (answer.status, answer.body["successes"])
    assert [50003, 40402, 40401] == [failure["error_code"] for failure in answer.body["failures"]]
    assert 1 == api.cluster.leader_of("t", 0)


async def test_data_is_not_given_up_by_accident(api):
    path = f"{C}/partitions:elect-leaders"
    in_sync(api, 1)
    api.cluster.fence(1)
    refused = await api("POST", path, json=election("UNCLEAN"), node=2)
    assert (400, True) == (refused.status, "accept_data_loss" in refused.body["message"])
    assert -1 == api.cluster.leader_of("t", 0)
    done = await api("POST", path, json=election("UNCLEAN", accept_data_loss=True, leader_id=2), node=2)
    assert [2] == [success["leader_id"] for success in done.body["successes"]], done.body


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"election": "FAIR"}, "election"),
        ({"election": "DESIGNATED", "leader_id": 1}, "partitions is missing"),
        ({"election": "UNCLEAN", "accept_data_loss": True}, "partitions is missing"),
        ({"election": "PREFERRED", "leader_id": 1}, "leader_id"),
        ({"election": "PREFERRED", "accept_data_loss": True}, "accept_data_loss"),
        ({"partitions": []}, "partitions"),
        ({"partitions": [{"topic_name": "t"}]}, "partitions[0].partition_id is missing"),
        ({"partitions": [{"topic_name": "t", "partition_id": -1}]}, "partition_id"),
        ({"partitions": [{"topic_name": "t", "partition_id": 0}] * 2}, "twice"),
    ],
)
async def test_what_is_wrong_with_an_election_is_named(api, body, word):
    answer = await api("POST", f"{C}/partitions:elect-leaders", json=body)
    assert (400, 40002) == (answer.status, answer.body["error_code"]), answer.body
    assert word in answer.body["message"], answer.body


# -- brokers and health -----------------------------------------------------------------------------------------------


async def test_a_broker_tells_what_it_holds_and_how_far_behind_it_is(api):
    await api.replicated("u", [[2, 3], [1, 3]])
    await three_records(api)
    followers(api, b2=3, b3=1)
    in_sync(api, 1, 2)
    names = ("broker_id", "replicas_count", "leaders_count", "out_of_sync_replicas_count", "is_fenced", "is_draining")
    for node in (1, 4):
        brokers = (await api("GET", f"{C}/brokers?lag=1", node=node)).body["data"]
        expected = [(1, 2, 2, 0), (2, 2, 1, 0), (3, 3, 0, 1), (4, 0, 0, 0)]
        assert [(*row, False, False) for row in expected] == [tuple(b[name] for name in names) for b in brokers]
        lags = [(b["lag_offsets_max"], b["lag_offsets_total"]) for b in brokers]
        assert [(None, None), (0, 0), (2, 2), (None, None)] == lags
    assert "lag_offsets_max" not in (await api("GET", f"{C}/brokers/3")).body


async def test_a_broker_is_forgotten_when_it_is_stopped_and_empty(api):
    running = await api("DELETE", f"{C}/brokers/4")
    assert (400, 40002) == (running.status, running.body["error_code"]), running.body
    assert "4" in running.body["message"]
    api.cluster.fence(4)
    api.cluster.fence(3)
    holding = await api("DELETE", f"{C}/brokers/3")
    assert (400, 40002) == (holding.status, holding.body["error_code"]), holding.body
    assert 204 == (await api("DELETE", f"{C}/brokers/4")).status
    assert [1, 2, 3] == sorted(api.cluster.image.brokers)
    assert 404 == (await api("DELETE", f"{C}/brokers/4")).status
    assert 400 == (await api("DELETE", f"{C}/brokers/four")).status


async def test_health_counts_all_and_names_the_first(api):
    await api.replicated("u", [[1, 4]] * 5, min_insync_replicas="2")
    api.cluster.fence(4)
    health = (await api("GET", f"{C}/health?limit=2")).body
    assert (False, [4], 6, 5, 5) == tuple(
        health[name]
        for name in (
            "healthy",
            "fenced_brokers",
            "partitions_count",
            "under_replicated_partitions_count",
            "under_min_isr_partitions_count",
        )
    )
    first = [{"topic_name": "u", "partition_id": index} for index in range(2)]
    assert (first, first) == (health["under_replicated_partitions"], health["under_min_isr_partitions"])
    assert (0, []) == (health["leaderless_partitions_count"], health["leaderless_partitions"])
    assert 400 == (await api("GET", f"{C}/health?limit=x")).status


async def test_a_draining_broker_is_told(api):
    broker = api.cluster.image.brokers[3]
    leaving = Heartbeat(broker_id=3, broker_epoch=broker.epoch, applied_index=10**6, wants_shutdown=True)
    api.cluster.hear(leaving)
    assert (await api("GET", f"{C}/brokers/3")).body["is_draining"]
    assert [3] == (await api("GET", f"{C}/health")).body["draining_brokers"]


# -- producers --------------------------------------------------------------------------------------------------------


async def test_every_producer_gets_an_id_of_its_own_and_the_next_epoch_of_it(api):
    path = f"{C}/producers"
    ids = [(await api("POST", path, node=node)).body["producer_id"] for node in (1, 2, 1, 2)]
    assert 4 == len(set(ids))
    bumped = await api("POST", path, json={"producer_id": ids[0], "producer_epoch": 0})
    assert (200, ids[0], 1) == (bumped.status, bumped.body["producer_id"], bumped.body["producer_epoch"])
    worn_out = await api("POST", path, json={"producer_id": ids[0], "producer_epoch": 32766})
    assert worn_out.body["producer_id"] not in ids
    assert 0 == worn_out.body["producer_epoch"]
    stranger = await api("POST", path, json={"producer_id": 10**12, "producer_epoch": 5})
    assert (200, 0) == (stranger.status, stranger.body["producer_epoch"])
    assert stranger.body["producer_id"] < 10**12


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"producer_id": 0}, "belong together"),
        ({"producer_id": -1, "producer_epoch": 0}, "producer_id"),
        ({"producer_id": 0, "producer_epoch": 40000}, "producer_epoch"),
        ({"id": 0}, "id is not a field"),
    ],
)
async def test_what_is_wrong_with_a_producer_is_named(api, body, word):
    answer = await api("POST", f"{C}/producers", json=body)
    assert (400, True) == (answer.status, word in answer.body["message"]), answer.body
