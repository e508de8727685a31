"""What this server's disk has lost is told as the server's damage, with the offset to read on from (S18)."""

import pytest

from tests.api.http.conftest import Api
from wire.record_batch import build_batch

RECORDBATCH = "application/vnd.kafka.recordbatch"
CONSUME = "/v3/clusters/-/topics/t/partitions/-/records:consume"


@pytest.fixture
async def damaged(two_nodes: Api) -> Api:
    """Topic t with two partitions of four records; offsets 1 and 2 of `bad`, which node 2 leads, are damaged."""
    api = two_nodes
    await api.topic(partitions=2)
    api.bad, api.good = api.cluster.led_by("t", 2), api.cluster.led_by("t", 1)
    for number in range(4):
        for partition in range(2):
            body = {"partition_id": partition, "value": {"type": "STRING", "data": str(number)}}
            await api("POST", "/v3/clusters/-/topics/t/records", json=body)
    api.cluster.log("t", api.bad).damaged = (1, 3)
    return api


def told(answer) -> tuple[object, ...]:
    return answer.status, answer.body["error_code"], answer.body["next_offset"]


@pytest.mark.parametrize("node", [1, 2], ids=["through another node", "at the leader"])
async def test_a_reader_of_a_damaged_range_is_told_where_to_read_on(damaged, node):
    api = damaged
    before = await api.fetch(partition=api.bad, node=node)
    assert ["0"] == [record["value"]["data"] for record in before.body["records"]]
    answer = await api.fetch(partition=api.bad, query="offset=1", node=node)
    assert (500, 50002, 3) == told(answer)
    assert "offsets 1 to 2" in answer.body["message"]
    v2 = {"Accept": "application/vnd.kafka.binary.v2+json"}
    assert (500, 50002, 3) == told(
        await api("GET", f"/topics/t/partitions/{api.bad}/records?offset=2", node=node, headers=v2)
    )
    after = await api.fetch(partition=api.bad, query="offset=3", node=node)
    assert ["3"] == [record["value"]["data"] for record in after.body["records"]]


@pytest.mark.parametrize("node", [1, 2])
async def test_a_pull_tells_damage_in_the_partitions_place(damaged, node):
    api = damaged
    positions = [{"partition_id": partition, "offset": 1} for partition in range(2)]
    answer = await api("POST", CONSUME, json={"offsets": positions}, node=node)
    assert 200 == answer.status
    parts = {part["partition_id"]: part for part in answer.body["partition_data_list"]}
    assert (50002, 3) == (parts[api.bad]["error_code"], parts[api.bad]["next_offset"])
    assert 3 == len(parts[api.good]["records"])
    alone = await api("POST", CONSUME, json={"offsets": positions[api.bad : api.bad + 1]}, node=node)
    assert (500, 50002, 3) == told(alone)
    assert api.bad == alone.body["partition_id"]


@pytest.mark.parametrize("node", [1, 2])
async def test_a_batch_that_nobody_can_read_does_not_hold_up_what_lies_around_it(two_nodes, node):
    """It was written unopened: its checksum is right, its content is not."""
    api = two_nodes
    await api.topic()
    for batch in (good_batch(b"a"), unreadable_batch(), good_batch(b"c")):
        path = "/v3/clusters/-/topics/t/partitions/0/records"
        written = await api("POST", path, data=batch, headers={"Content-Type": RECORDBATCH})
        assert 200 == written.status, written
    first = await api.fetch(node=node)
    assert (["a"], 1) == ([r["value"]["data"] for r in first.body["records"]], first.body["next_offset"])
    answer = await api.fetch(query="offset=1", node=node)
    assert (500, 50002, 2) == told(answer)
    alone = await api("POST", CONSUME, json={"offsets": [{"partition_id": 0, "offset": 1}]}, node=node)
    assert (500, 50002, 2) == told(alone)
    assert ["c"] == [r["value"]["data"] for r in (await api.fetch(query="offset=2", node=node)).body["records"]]


async def test_bytes_that_a_client_broke_are_its_own_mistake(damaged):
    batch = bytearray(good_batch(b"x"))
    batch[-1] ^= 1
    path = f"/v3/clusters/-/topics/t/partitions/{damaged.bad}/records"
    answer = await damaged("POST", path, data=bytes(batch), headers={"Content-Type": RECORDBATCH})
    assert (400, 40002, "not_written") == (answer.status, answer.body["error_code"], answer.body["outcome"])


def good_batch(value: bytes) -> bytes:
    return bytes(build_batch([(None, value, (), 7)]))


def unreadable_batch() -> bytes:
    """One record whose length says more than there is, under a CRC that is right."""
    raw = build_batch([(None, b"b", (), 7)])
    raw[61] = 0x7E
    raw[17:21] = crc32c(bytes(raw[21:])).to_bytes(4, "big")
    return bytes(raw)


def crc32c(data: bytes) -> int:
    """Castagnoli, bit by bit."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
