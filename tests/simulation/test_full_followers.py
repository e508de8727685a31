"""What a follower with a full disk missed is made good when there is room, also where nothing is written (L1)."""

import errno

from broker.replication.replica import ACKS_ALL
from tests.broker.replication.brokers import batch
from tests.simulation.cluster import SimulatedCluster, simulated_cluster


def test_a_follower_whose_disk_was_full_takes_over_the_log_start_afterwards() -> None:
    """The leader said it once, in an incremental session, and does not say it again."""

    async def live(cluster: SimulatedCluster) -> None:
        await cluster.begin()
        await cluster.until(cluster.is_fully_replicated, "in sync", 30)
        state, key = cluster.states()[0], (cluster.topic.topic_id, 0)
        follower_id = next(broker_id for broker_id in state.replicas if broker_id != state.leader)
        leader = cluster.processes[state.leader].node.replica(*key)
        follower = cluster.processes[follower_id].node.replica(*key)

        async def write() -> None:
            for number in range(30):
                await leader.append(batch(b"%d" % number), acks=ACKS_ALL, timeout_ms=5_000)

        writing = cluster.loop.create_task(write(), context=cluster.processes[state.leader].life.context)
        await cluster.until(lambda: writing.done() and follower.high_watermark == 30, "written", 20)
        cluster.machines[follower_id].disk.fail("pwrite", errno.ENOSPC, path="checkpoint", times=1_000_000)
        cluster.watch.of(key).deleted_to = 20
        cluster.act_as(state.leader, lambda: leader.log.delete_records_before(20))
        await cluster.run_for(10)
        assert (20, 0) == (leader.log.log_start_offset, follower.log.log_start_offset)
        cluster.heal()
        await cluster.until(lambda: follower.log.log_start_offset == 20, "the log start is moved", 30)

    with simulated_cluster(1) as cluster:
        cluster.check = lambda: None
        cluster.loop.run_until_complete(live(cluster))
