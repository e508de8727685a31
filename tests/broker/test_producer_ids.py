"""No producer id twice, whoever asks, however often (S13)."""

import asyncio

import pytest

from broker.errors import OutcomeUnknownError
from broker.producer_ids import EPOCH_MAX, PREFETCH_AT, Producer, ProducerIds
from broker.replication.replica import ACKS_ALL
from metadata.answers import ProducerIdsAllocated
from tests.broker.nodes import Cluster, create, leading, ready, values
from wire.errors import ErrorCode, RefusedError
from wire.record_batch import build_batch


class Quorum:
    """Gives blocks of `count`; what is put into `failures` is raised first, and `gate` holds answers back."""

    def __init__(self, *, count=1000):
        self.count = count
        self.next_producer_id = 0
        self.asked = 0
        self.failures = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def admin(self, request, *, timeout_s):
        self.asked += 1
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        assert (1, 77) == (request.broker_id, request.broker_epoch)
        first, self.next_producer_id = self.next_producer_id, self.next_producer_id + self.count
        return ProducerIdsAllocated(index=1, first_producer_id=first, count=self.count)

    def ids(self, broker_epoch=77):
        return ProducerIds(
            self.admin,
            broker_id=1,
            broker_epoch=lambda: broker_epoch,
            next_producer_id=lambda: self.next_producer_id,
        )


async def test_a_thousand_callers_at_once_share_one_request_and_get_an_id_each():
    quorum = Quorum()
    ids = quorum.ids()
    quorum.gate.clear()
    calls = [asyncio.create_task(ids.allocate()) for _ in range(1000 - PREFETCH_AT)]
    await asyncio.sleep(0)
    quorum.gate.set()
    producers = await asyncio.gather(*calls)
    assert {(producer_id, 0) for producer_id in range(len(calls))} == set(producers)
    assert 1 == quorum.asked


async def test_more_callers_than_a_block_has_ids_get_one_each_all_the_same():
    quorum = Quorum(count=3)
    ids = quorum.ids()
    producers = await asyncio.gather(*(ids.allocate() for _ in range(20)))
    assert 20 == len({producer.producer_id for producer in producers})
    await ids.close()


async def test_the_next_block_is_there_before_the_last_is_empty():
    quorum = Quorum()
    ids = quorum.ids()
    for _ in range(1000 - PREFETCH_AT + 1):
        await ids.allocate()
    quorum.gate.clear()
    assert [Producer(901 + index, 0) for index in range(99)] == [await ids.allocate() for _ in range(99)]
    quorum.gate.set()
    assert Producer(1000, 0) == await ids.allocate()
    await ids.close()


async def test_after_a_restart_the_rest_of_the_block_is_never_given():
    quorum = Quorum()
    assert Producer(0, 0) == await quorum.ids().allocate()
    assert Producer(1000, 0) == await quorum.ids().allocate()


@pytest.mark.parametrize(
    "failure",
    [
        OutcomeUnknownError(ErrorCode.REQUEST_TIMED_OUT, "who knows"),
        RefusedError(ErrorCode.BROKER_NOT_AVAILABLE, "no leader"),
        RefusedError(ErrorCode.STALE_BROKER_EPOCH, "registered anew"),
    ],
)
async def test_a_failure_is_told_to_all_who_wait_as_retriable_and_the_next_try_succeeds(failure):
    quorum = Quorum()
    ids = quorum.ids()
    quorum.failures.append(failure)
    quorum.gate.clear()
    calls = [asyncio.create_task(ids.allocate()) for _ in range(3)]
    await asyncio.sleep(0)
    quorum.gate.set()
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert ErrorCode.COORDINATOR_LOAD_IN_PROGRESS == outcome.code
        assert failure.message in outcome.message
    assert Producer(0, 0) == await ids.allocate()


async def test_a_block_that_could_not_be_had_in_advance_disturbs_nobody():
    quorum = Quorum(count=PREFETCH_AT)
    ids = quorum.ids()
    await ids.allocate()
    quorum.failures.append(RefusedError(ErrorCode.BROKER_NOT_AVAILABLE, "no leader"))
    assert Producer(1, 0) == await ids.allocate()
    await ids.close()


async def test_a_caller_that_gives_up_costs_the_others_nothing():
    quorum = Quorum()
    ids = quorum.ids()
    quorum.gate.clear()
    patient = asyncio.create_task(ids.allocate())
    with pytest.raises(RefusedError, match=r"0\.01 s\): try again soon"):
        await ids.allocate(timeout_s=0.01)
    cancelled = asyncio.create_task(ids.allocate())
    await asyncio.sleep(0)
    cancelled.cancel()
    quorum.gate.set()
    assert Producer(0, 0) == await patient
    assert 1 == quorum.asked


async def test_a_node_without_its_epoch_gives_none():
    quorum = Quorum()
    with pytest.raises(RefusedError, match="node 1 is starting"):
        await quorum.ids(broker_epoch=None).allocate()
    assert 0 == quorum.asked


async def test_a_node_that_stops_leaves_no_request_behind():
    quorum = Quorum()
    ids = quorum.ids()
    quorum.gate.clear()
    call = asyncio.create_task(ids.allocate())
    await asyncio.sleep(0)
    await ids.close()
    with pytest.raises(asyncio.CancelledError):
        await call
    await ids.close()


async def test_a_known_producer_gets_its_next_epoch_and_asks_nobody():
    quorum = Quorum()
    ids = quorum.ids()
    producer = await ids.allocate()
    for epoch in range(1, 4):
        producer = await ids.renew(*producer)
        assert Producer(0, epoch) == producer
    assert 1 == quorum.asked


@pytest.mark.parametrize("producer", [(0, EPOCH_MAX - 1), (0, EPOCH_MAX), (-1, -1), (1000, 0), (2**62, 7)])
async def test_who_cannot_go_on_gets_a_new_id(producer):
    """Epochs used up, none yet, or an id that nobody was given."""
    ids = Quorum().ids()
    await ids.allocate()
    assert Producer(1, 0) == await ids.renew(*producer)


@pytest.mark.parametrize("producer", [(-1, 0), (0, -1), (-2, -2), (5, -2)])
async def test_an_id_without_an_epoch_is_refused(producer):
    with pytest.raises(RefusedError, match="belong together") as refusal:
        await Quorum().ids().renew(*producer)
    assert ErrorCode.INVALID_REQUEST == refusal.value.code


async def test_a_real_node_gives_no_id_twice_and_knows_its_producers_after_a_restart(tmp_path):
    """Through the quorum, the log and a restart: one send, one record."""
    alone = Cluster(tmp_path, 1)
    given = []
    for _ in range(2):
        async with alone.running() as node:
            await ready(node)
            topic_id = await create(node, "pay") if not given else next(iter(node.image.topics))
            given += [(await node.producer_ids.allocate()).producer_id for _ in range(3)]
            replica = await leading(node, topic_id)
            sent = build_batch([(None, b"a", (), 1)], producer_id=given[0], producer_epoch=0, base_sequence=0)
            assert 0 == (await replica.append(sent, acks=ACKS_ALL, timeout_ms=10_000)).base_offset
            assert [b"a"] == await values(replica)
    assert 6 == len(set(given))
