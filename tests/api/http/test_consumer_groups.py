"""Groups over HTTP, asked of any node: what they read, how far they are, and setting them anew."""

import pytest

from tests.api.http.real_groups import C, group_cluster

G = f"{C}/consumer-groups"


@pytest.fixture
async def api(tmp_path):
    async with group_cluster(tmp_path) as made:
        yield made


async def test_every_node_answers_for_every_group(api):
    """Committed through one node, seen through all: no answer depends on who was asked."""
    await api.ready("t", 3)
    assert [] == (await api("GET", G, node=2)).body["data"], "nobody has to make an offsets topic to see that"
    assert 404 == (await api("GET", f"{G}/none", node=3)).status
    for partition in range(3):
        await api.produce("t", partition, *"abcd"[: partition + 2])
    groups = [f"g{number}" for number in range(6)]
    for number, group in enumerate(groups):
        answer = await api.commit(group, {("t", 0): 1, ("t", 2): 3}, node=number % 3 + 1)
        assert 200 == answer.status, answer
    assert {1, 2, 3} == {api.cluster.coordinator(group) for group in groups} | {1, 2, 3}
    for node in (1, 2, 3):
        listed = (await api("GET", G, node=node)).body["data"]
        assert groups == [one["consumer_group_id"] for one in listed]
        assert {("EMPTY", True, 0)} == {(one["state"], one["is_simple"], one["members_count"]) for one in listed}
        for group in groups:
            described = await api("GET", f"{G}/{group}", node=node)
            assert (
                api.cluster.url(f"/v3/clusters/{api.cluster.nodes[0].cluster_id}/consumer-groups/{group}", node=node)
                == (described.body["metadata"]["self"])
            ), "links begin where the caller asked"
            assert {("t", 0): 1, ("t", 2): 3} == await api.committed(group, node=node)
            lags = (await api("GET", f"{G}/{group}/lags", node=node)).body["data"]
            assert [(0, 1, 2, 1), (2, 3, 4, 1)] == [
                (one["partition_id"], one["current_offset"], one["log_end_offset"], one["lag"]) for one in lags
            ]
            summary = (await api("GET", f"{G}/{group}/lag-summary", node=node)).body
            assert (2, 1, "t") == (summary["total_lag"], summary["max_lag"], summary["max_lag_topic_name"])
    assert 1 == (await api("GET", f"{G}/g0/lags/t/partitions/2")).body["lag"]
    missing = await api("GET", f"{G}/g0/lags/t/partitions/1")
    assert (404, 40402) == (missing.status, missing.body["error_code"])
    assert 204 == (await api("DELETE", f"{G}/g0", node=2)).status
    gone = await api("DELETE", f"{G}/g0", node=3)
    assert (404, 40405) == (gone.status, gone.body["error_code"])
    assert groups[1:] == [one["consumer_group_id"] for one in (await api("GET", G, node=3)).body["data"]]
