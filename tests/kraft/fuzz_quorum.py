"""One schedule of misfortune per seed, the same on every machine. One seed by hand:

    python -m tests.kraft.fuzz_quorum 1234            # or: a first and a last seed

Message loss, reorder, duplication and stragglers; pauses; partitions, also one-way; crashes that lose unsynced bytes,
also in the middle of a write and right after a vote; processes killed, whose unsynced bytes a later power cut takes;
voters that lose their disk; compaction all the time; voter lists of 1, 3 and 5. While it runs: one leader per term, one
command per index, on all nodes; a barrier sees what was acknowledged before it. After healing: AcknowledgedSurvives.
"""

import random
import sys

from kraft.errors import NotLeader, QuorumError
from kraft.raft_messages import RaftMessage
from tests.kraft.simulated_cluster import SimulatedCluster, name_of, simulated

MISFORTUNE_S = 8.0


class Misfortune:
    """What happens to one cluster, and the clients that go on all the while."""

    def __init__(self, cluster: SimulatedCluster, chance: random.Random) -> None:
        self.cluster, self.chance = cluster, chance
        self.proposed = 0
        self.refused: list[QuorumError] = []
        self.certainly_not: set[bytes] = set()
        self.unseated: int | None = None
        self.end = cluster.now + MISFORTUNE_S
        self.burst = chance.choice([1, 2, 8])
        weather = cluster.weather
        weather.loss = chance.choice([0.0, 0.0, 0.02, 0.2])
        weather.duplication = chance.choice([0.0, 0.05, 0.2])
        weather.stragglers = chance.choice([0.0, 0.02, 0.1])
        weather.straggle_s = chance.choice([0.1, 1.5, 5.0])
        weather.latency_s = chance.choice([(0.0005, 0.002), (0.001, 0.05)])
        self.crashes_after_votes = chance.choice([0.0, 0.1, 0.5])
        cluster.intercept = self._watch_votes
        self.wipes_seldom = chance.random() < 0.75
        self.calamity_every_s = chance.choice([0.3, 1.0, 2.0])

    def run(self) -> None:
        self.cluster.at(self.cluster.now, self._client)
        self.cluster.at(self.cluster.now + 1.0, self._calamity)
        self.cluster.run(MISFORTUNE_S)

    def _client(self) -> None:
        if self.cluster.now >= self.end:
            return
        running = self.cluster.running
        leaders = [node for node in running if node.core is not None and node.core.is_leader]
        candidates = leaders if leaders and self.chance.random() < 0.9 else running
        for _ in range(self.chance.randint(1, self.burst) if candidates else 0):
            self._propose(self.chance.choice(candidates).node_id)
        if candidates and self.chance.random() < 0.1:
            self.cluster.barrier(self.chance.choice(candidates).node_id)
        self.cluster.at(self.cluster.now + self.chance.random() * 0.02, self._client)

    def _propose(self, node_id: int) -> None:
        self.proposed += 1
        command = b"%d %s" % (self.proposed, bytes(self.chance.choice([0, 10, 100, 2000])))
        refused: list[QuorumError] = []
        self.cluster.propose(node_id, command, refused)
        if refused and isinstance(refused[0], NotLeader):
            self.certainly_not.add(name_of(command))

    def _calamity(self) -> None:
        if self.cluster.now >= self.end:
            return
        often = [self._crash, self._kill, self._restart, self._clear_up]
        seldom = [self._stop_in_a_write, self._pause, self._partition, self._one_way, self._reconnect, self._wipe]
        calamities = often + often + (seldom if self.wipes_seldom else [self._wipe] * 3)
        self.chance.choice(calamities)()
        self.cluster.at(self.cluster.now + self.chance.random() * self.calamity_every_s, self._calamity)

    def _some_node(self) -> int:
        return self.chance.choice(list(self.cluster.nodes))

    def _crash(self) -> None:
        """Power is gone, also where only the process was."""
        node_id = self._some_node()
        self.cluster.crash(node_id)
        self._restart_later(node_id)

    def _kill(self) -> None:
        """kill -9: what the disk did not sync is read by the next process, and taken by a power cut after that."""
        node_id = self._some_node()
        if self.cluster.nodes[node_id].core is not None:
            self.cluster.kill(node_id)
            self._restart_later(node_id)

    def _watch_votes(self, sender: int, _receiver: int, message: RaftMessage) -> bool:
        """Who has just given its vote goes down, and comes back soon: before the term is over."""
        is_vote = message["type"] == "response_vote" and self.cluster.now < self.end
        if is_vote and self.chance.random() < self.crashes_after_votes:
            down = self.chance.choice([self.cluster.crash, self.cluster.kill])
            self.cluster.at(self.cluster.now, lambda: down(sender))
            self.cluster.at(self.cluster.now + self.chance.random() * 0.1, lambda: self._start(sender))
        return True

    def _stop_in_a_write(self) -> None:
        node = self.cluster.nodes[self._some_node()]
        node.power_stays = self.chance.random() < 0.5
        node.disk.cut_power_at = node.disk.operations + self.chance.randint(1, 30)
        self._restart_later(node.node_id)

    def _restart_later(self, node_id: int) -> None:
        self.cluster.at(self.cluster.now + self.chance.random() * 3.0, lambda: self._start(node_id))

    def _restart(self) -> None:
        for node in self.cluster.nodes.values():
            self._start(node.node_id)

    def _start(self, node_id: int) -> None:
        node = self.cluster.nodes[node_id]
        if node.core is None:
            node.disk.cut_power_at = None
            self.cluster.start(node_id)

    def _pause(self) -> None:
        node = self.cluster.nodes[self._some_node()]
        node.paused_until = self.cluster.now + self.chance.random() * 2.0

    def _partition(self) -> None:
        group = {node_id for node_id in self.cluster.nodes if self.chance.random() < 0.5}
        for a in self.cluster.nodes:
            for b in self.cluster.nodes:
                if (a in group) != (b in group):
                    self.cluster.weather.blocked.add((a, b))

    def _one_way(self) -> None:
        self.cluster.weather.blocked.add((self._some_node(), self._some_node()))

    def _clear_up(self) -> None:
        self.cluster.weather.blocked.clear()

    def _reconnect(self) -> None:
        """Both ends of one link see it break and come back."""
        a, b = self._some_node(), self._some_node()
        for here, there in ((a, b), (b, a)):
            if here != there:
                self.cluster.reconnect(here, there)

    def _wipe(self) -> None:
        """One voter at a time loses its disk, and the next only when it is seated again: more is beyond any quorum."""
        if len(self.cluster.nodes) == 1:
            return
        if self.unseated is not None:
            core = self.cluster.nodes[self.unseated].core
            if core is None or not core.is_seated or not self._all_know(self.unseated):
                return
        self.unseated = self._some_node()
        self.cluster.wipe(self.unseated)
        self._restart_later(self.unseated)

    def _all_know(self, node_id: int) -> bool:
        newcomer = self.cluster.core(node_id).journal.directory_id
        return all(node.core and node.core.directories.get(node_id) == newcomer for node in self.cluster.nodes.values())


def run_seed(seed: int) -> SimulatedCluster:
    """Run one schedule; what goes wrong is raised with the seed in its notes."""
    chance = random.Random(seed)
    voters = chance.choice([1, 3, 3, 3, 5])
    settings = {
        "snapshot_entries": chance.choice([20, 200, 1000]),
        "retained_entries": chance.choice([0, 10, 100]),
        "snapshot_chunk_bytes": chance.choice([1000, 100_000]),
        "snapshot_journal_bytes": chance.choice([100_000, 32 * 1024 * 1024]),
    }
    with simulated(voters, seed=seed, **settings) as cluster:
        try:
            misfortune = Misfortune(cluster, chance)
            misfortune.run()
            cluster.heal()
            cluster.converge()
            cluster.check_acknowledged()
            applied = set(cluster.machine(1).applied)
            assert not applied & misfortune.certainly_not, "applied what was answered with NotLeader"
            assert len(cluster.machine(1).applied) <= misfortune.proposed
        except BaseException as error:
            error.add_note(f"seed {seed}: python -m tests.kraft.fuzz_quorum {seed}")
            error.add_note(cluster.describe())
            raise
    return cluster


if __name__ == "__main__":
    first, last = int(sys.argv[1]), int(sys.argv[-1])
    for each in range(first, last + 1):
        done = run_seed(each)
        terms, commits = max(done.leaders, default=0), len(done.acknowledged)
        sys.stdout.write(f"seed {each}: {len(done.nodes)} voters, {commits} acknowledged, term {terms}\n")
