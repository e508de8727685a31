"""A running node compacts what is due, while it goes on serving, and takes no record without a key there."""

import asyncio
import time
from pathlib import Path

import pytest

from broker.replication.replica import ACKS_ALL
from tests.broker.nodes import Cluster, create, leading, ready, until
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import build_batch, iterate_batches

SOON = ("log.cleaner.backoff.ms=20", "log.flush.offset.checkpoint.interval.ms=100")


async def put(replica, key, value):
    batch = build_batch([(key, value, (), time.time_ns() // 1_000_000)])
    return (await replica.append(batch, acks=ACKS_ALL, timeout_ms=30_000)).base_offset


async def records(replica):
    found, offset = [], replica.earliest_offset
    while offset < replica.latest_offset:
        slice_ = (await replica.fetch(offset, max_bytes=1 << 20)).slice
        assert slice_.next_offset > offset
        found += [(one.offset, one.key, one.value) for batch in iterate_batches(slice_.data) for one in batch.records()]
        offset = slice_.next_offset
    return found


async def test_a_node_compacts_what_is_due_and_finds_it_so_after_a_restart(tmp_path: Path):
    cluster = Cluster(tmp_path, 1)
    configs = {"cleanup_policy": "compact", "segment_bytes": "1000", "min_cleanable_dirty_ratio": "0.1"}
    async with cluster.running(1, *SOON) as node:
        topic_id = await create(await ready(node), "latest", **configs)
        replica = await leading(node, topic_id)
        for number in range(60):
            await put(replica, b"k%d" % (number % 3), b"v%d" % number)
        await until(lambda: replica.log.compaction.clean_end_offset > 40)
        found = await records(replica)
        assert {b"k0": b"v57", b"k1": b"v58", b"k2": b"v59"} == {key: value for _, key, value in found}
        assert len(found) < 25
        assert all(b"v%d" % offset == value for offset, _, value in found)
    async with cluster.running(1, "log.cleaner.enable=false") as node:
        replica = await leading(await ready(node), topic_id)
        assert 60 == replica.latest_offset
        assert {b"v57", b"v58", b"v59"} <= {value for _, _, value in await records(replica)}


async def test_a_record_without_a_key_is_refused_and_nothing_is_written(tmp_path: Path):
    async with Cluster(tmp_path, 1).running() as node:
        replica = await leading(node, await create(await ready(node), "latest", cleanup_policy="compact,delete"))
        with pytest.raises(RefusedError, match="give every record a key") as caught:
            await put(replica, None, b"v")
        assert ErrorCode.INVALID_RECORD == caught.value.code
        assert 0 == await put(replica, b"", b"an empty key is one")


async def test_a_log_that_cannot_be_parsed_is_left_alone_and_the_others_are_cleaned(tmp_path: Path):
    async with Cluster(tmp_path, 1).running(1, *SOON) as node:
        configs = {"segment_bytes": "1000", "min_cleanable_dirty_ratio": "0.1"}
        await ready(node)
        bad = await leading(node, await create(node, "bad", **configs))
        batch = build_batch([(b"k", b"v", (), 1)])
        batch[-3:] = b"\xff\xff\xff"
        _mend_crc(batch)
        await bad.append(batch, acks=ACKS_ALL, timeout_ms=30_000)
        for number in range(20):
            await put(bad, b"k", b"v%d" % number)
        bad.log.config = type(bad.log.config).from_topic_configs({"cleanup.policy": "compact"}, bad.log.config)
        await until(lambda: bad.log.compaction.stopped_by is not None)
        good = await leading(node, await create(node, "good", cleanup_policy="compact", **configs))
        for number in range(40):
            await put(good, b"k", b"v%d" % number)
        await until(lambda: good.log.compaction.clean_end_offset > 0)
        assert 21 == bad.latest_offset
        assert bad.log.damaged_from is None
        assert 0 == bad.log.compaction.clean_end_offset


def _mend_crc(batch):
    from crc32c import crc32c  # noqa: PLC0415 - one test needs it

    batch[17:21] = crc32c(memoryview(batch)[21:]).to_bytes(4, "big")


async def test_a_cleaning_that_is_cut_short_by_a_stop_leaves_the_log_whole(tmp_path: Path):
    cluster = Cluster(tmp_path, 1)
    configs = {"cleanup_policy": "compact", "segment_bytes": "100000", "min_cleanable_dirty_ratio": "0.1"}
    slow = ("log.cleaner.io.max.bytes.per.second=100000",)
    async with cluster.running(1, *SOON, *slow) as node:
        replica = await leading(await ready(node), await create(node, "latest", **configs))
        topic_id = replica.key[0]
        sends = [put(replica, b"k%d" % (number % 50), bytes(5000) + b"%d" % number) for number in range(150)]
        await asyncio.gather(*sends)
        await until(lambda: list(Path(replica.log.folder).glob("*.cleaned")))
    async with cluster.running(1, "log.cleaner.enable=false") as node:
        replica = await leading(await ready(node), topic_id)
        last = {key: value for _, key, value in await records(replica)}
        assert {b"k%d" % (number % 50): bytes(5000) + b"%d" % number for number in range(100, 150)} == last
        await until(lambda: not list(Path(replica.log.folder).glob("*.cleaned")))
