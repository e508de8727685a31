"""What goes wrong in a model cluster: random faults, and faults at the points where replication is most fragile.

Never more than the promises allow: with relaxed flushes a power cut or a wiped disk hits a broker only while another
member of the committed in-sync replicas runs and holds everything.
"""

import random

from broker.replication.undecided_changes import ChangeInSyncReplicas
from tests.broker.replication.model_broker import ModelBroker
from tests.broker.replication.model_cluster import CONTROLLER, ModelCluster


class Nemesis:
    """Draws from a generator of its own, so that a fault more or less leaves the rest of the run as it was."""

    def __init__(self, cluster: ModelCluster, seed: int, *, directed: float = 0.25, wipes: bool = True) -> None:
        self.rng = random.Random(seed ^ 0x5EED)
        self.cluster = cluster
        self.wipes = wipes
        self.faults: dict[str, int] = {}
        self.is_over = False
        self._directed = directed
        cluster.on_alter_partition = self._alter_partition
        cluster.on_follow = self._follow

    def begin(self) -> None:
        self.cluster.at(self.rng.uniform(50, 200), self._strike)

    def stop(self) -> None:
        """No fault from now on; those that last may go on until the cluster is healed."""
        self.is_over = True

    def count(self, fault: str) -> None:
        self.faults[fault] = self.faults.get(fault, 0) + 1

    def _strike(self) -> None:
        if self.is_over:
            return
        rng, cluster = self.rng, self.cluster
        running = [b for b in cluster.brokers.values() if b.is_running]
        fault = rng.choice(
            [
                "crash",
                "crash",
                "reboot",
                "pause",
                "cut",
                "cut",
                "isolate",
                "loss",
                "tail",
                "sync",
                "controller",
                "quiet",
            ]
        )
        self.count(fault)
        if fault in {"crash", "reboot"} and running:
            self.crash(rng.choice(running), down_ms=rng.uniform(1, 30 if fault == "reboot" else 1500))
        elif fault == "pause" and running:
            self.pause(rng.choice(running), rng.uniform(20, 1200))
        elif fault == "cut":
            self.block(*rng.sample([CONTROLLER, *cluster.brokers], 2), rng.uniform(20, 1500))
        elif fault == "isolate":
            self.isolate(rng.choice(list(cluster.brokers)), rng.uniform(20, 1500))
        elif fault == "loss":
            cluster.network.loss = rng.choice([0, 0, 0.02, 0.2])
            cluster.network.duplication = rng.choice([0, 0.05])
        elif fault == "tail":
            cluster.network.tail = rng.choice([0, 0.02, 0.1])
        elif fault == "sync":
            rng.choice(list(cluster.brokers.values())).slow_sync_ms = rng.choice([0, 0, 30, 300])
        elif fault == "controller":
            cluster.replace_controller()
        elif fault == "quiet":
            self._delete_records()
        elif fault == "pair":
            self._strike_pair()
        cluster.at(rng.uniform(20, 500), self._strike)

    def _strike_pair(self) -> None:
        """Of the last two in sync one falls and comes back at once, while the other is not heard of."""
        state = self.cluster.checkers.state
        if state is not None and len(state.in_sync_replicas) == 2:
            first, second = self.rng.sample(state.in_sync_replicas, 2)
            self.crash(self.cluster.brokers[first], down_ms=self.rng.uniform(1, 30))
            self.isolate(second, self.rng.uniform(500, 1500))

    def _delete_records(self) -> None:
        for broker in self.cluster.brokers.values():
            if broker.leader is not None:
                log = broker.log
                log.delete_records_before(self.rng.randint(log.log_start_offset, log.high_watermark))

    # ---- faults

    def crash(self, broker: ModelBroker, *, down_ms: float) -> None:
        """kill -9, a power cut or a lost disk, and a restart."""
        if self.is_over or not broker.is_running:
            return
        rng, log = self.rng, broker.log
        is_replaceable = self._is_replaceable(broker)
        if self.cluster.relaxed and not is_replaceable:
            return  # after an unclean stop it counts no longer, whether it lost something or not
        lowest = min(log.checkpointed_high_watermark, log.high_watermark)
        log.checkpointed_high_watermark = rng.randint(lowest, log.high_watermark)
        broker.stop()
        epoch = self.cluster.image.brokers[broker.broker_id].epoch
        kind = rng.random()
        if self.wipes and kind < 0.1 and is_replaceable:
            self.count("wiped")
            broker.directory += 1_000
            log.wiped()
            self.cluster.checkers.lost(broker.broker_id, epoch, counted=True)
        else:
            if kind < 0.7:
                log.power_cut(rng)
            self.cluster.checkers.lost(broker.broker_id, epoch, counted=self.cluster.relaxed)
        self.cluster.at(down_ms, lambda: None if broker.is_running else broker.start())

    def _is_replaceable(self, broker: ModelBroker) -> bool:
        """Nobody else has lost anything, and another in-sync replica runs and holds everything: it leads, or stays
        eligible, whatever is lost here.
        """
        checkers = self.cluster.checkers
        state = checkers.state
        assert state is not None
        others = [self.cluster.brokers[b] for b in state.in_sync_replicas if b != broker.broker_id]
        return not checkers.damaged.keys() - {broker.broker_id} and any(
            other.is_running and checkers.matching(other.broker_id) >= len(checkers.committed) for other in others
        )

    def pause(self, broker: ModelBroker, for_ms: float) -> None:
        if self.is_over or broker.is_paused or not broker.is_running:
            return
        broker.is_paused = True
        incarnation = broker.incarnation
        self.cluster.at(
            for_ms, lambda: broker.resume() if broker.incarnation == incarnation and broker.is_paused else None
        )

    def block(self, source: int, target: int, for_ms: float) -> None:
        blocked = self.cluster.network.blocked
        blocked.add((source, target))
        self.cluster.at(for_ms, lambda: blocked.discard((source, target)))

    def isolate(self, broker_id: int, for_ms: float) -> None:
        for other in {CONTROLLER, *self.cluster.brokers} - {broker_id}:
            self.block(broker_id, other, for_ms)
            self.block(other, broker_id, for_ms)

    # ---- directed points

    def _alter_partition(self, leader: ModelBroker, change: ChangeInSyncReplicas) -> None:
        """A leader has just asked for other in-sync replicas: the joiner falls, or the answer does not come."""
        rng = self.rng
        if self.is_over or rng.random() >= self._directed:
            return
        others = [b for b in self.cluster.brokers.values() if b is not leader]
        fault = rng.choice(["joiner", "joiner", "leader", "answer", "request", "controller", "pause"])
        self.count(f"directed {fault}")
        if fault == "joiner":
            joiners = [b for b in others if leader.leader and b.broker_id not in leader.leader.in_sync_replicas]
            self.crash(rng.choice(joiners or others), down_ms=rng.choice([0.1, 3, 30, 700]))
        elif fault == "leader":
            self.cluster.at(rng.uniform(0, 4), lambda: self.crash(leader, down_ms=rng.choice([1, 30, 700])))
        elif fault == "answer":
            self.block(CONTROLLER, leader.broker_id, rng.uniform(5, 600))
        elif fault == "request":
            self.block(leader.broker_id, CONTROLLER, rng.uniform(5, 600))
        elif fault == "pause":
            self.cluster.at(rng.uniform(0, 3), lambda: self.pause(leader, rng.uniform(20, 900)))
        else:
            self.cluster.replace_controller()

    def _follow(self, follower: ModelBroker) -> None:
        """A broker begins to follow a new leader: either of them falls while they find out where they parted."""
        rng = self.rng
        if self.is_over or rng.random() >= self._directed / 2:
            return
        assert follower.follower is not None
        leader = self.cluster.brokers[follower.follower.leader_id]
        self.count("directed follow")
        victim = rng.choice([follower, leader])
        self.cluster.at(rng.uniform(0, 8), lambda: self.crash(victim, down_ms=rng.choice([1, 30, 300])))
