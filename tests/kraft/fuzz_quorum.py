"""One schedule of misfortune per seed, the same on every machine. One seed by hand:

    python -m tests.kraft.fuzz_quorum 1234            # or: a first and a last seed

Message loss, reorder, duplication and stragglers; pauses; partitions, also one-way; crashes that lose unsynced bytes,
also in the middle of a write and right after a vote; processes killed, whose unsynced bytes a later power cut takes;
disks that fail to sync or are full; voters that lose their disk; two candidates of one term whose voters forget;
compaction all the time; voter lists of 1, 3 and 5. While it runs: one leader per term, one command per index, on all
nodes; a barrier sees what was acknowledged before it; no node stops but by its disk. After healing:
AcknowledgedSurvives.
"""

import random
import sys

from kraft.errors import NotLeader, QuorumError
from kraft.raft_messages import RaftMessage
from tests.kraft.simulated_cluster import SimulatedCluster, name_of, simulated
from tests.kraft.simulated_disk import DiskError

MISFORTUNE_S = 8.0
RIVALS_AFTER_S = 0.45
"""As soon as voters listen to candidates again."""
RIVALS_FOR_S = 0.2


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
        self.quiet_until = 0.0
        self.rivals: set[int] = set()
        self.candidacies: dict[tuple[int, int], RaftMessage] = {}
        cluster.intercept = self._watch_votes
        cluster.on_stop = self._exit
        self.wipes_seldom = chance.random() < 0.75
        self.calamity_every_s = chance.choice([0.3, 1.0, 2.0])

    def run(self) -> None:
        self.cluster.at(self.cluster.now, self._client)
        self.cluster.at(self.cluster.now + 1.0, self._calamity)
        self.cluster.run(MISFORTUNE_S)

    def _client(self) -> None:
        if self.cluster.now >= self.end:
            return
        running = self.cluster.running if self.cluster.now >= self.quiet_until else []
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
        often += [self._rival, self._rival, self._spoil_disk, self._forget_unsynced]
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

    def _watch_votes(self, sender: int, receiver: int, message: RaftMessage) -> bool:
        """Who has just given its vote goes down, and comes back soon: before the term is over."""
        if message["type"] == "request_vote":
            self.candidacies[sender, message["term"]] = message
        is_vote = message["type"] == "response_vote" and self.cluster.now < self.end
        if is_vote and receiver in self.rivals:
            self.cluster.at(self.cluster.now, lambda: self.cluster.crash(sender))
            self.cluster.at(self.cluster.now + 0.001, lambda: self._ask_again(sender, receiver, message["term"]))
        elif is_vote and self.chance.random() < self.crashes_after_votes:
            down = self.chance.choice([self.cluster.crash, self.cluster.kill])
            self.cluster.at(self.cluster.now, lambda: down(sender))
            self.cluster.at(self.cluster.now + self.chance.random() * 0.1, lambda: self._start(sender))
        return True

    def _ask_again(self, voter: int, voted_for: int, term: int) -> None:
        """It is up again, and the other candidate's request of the same term arrives late, or a second time."""
        self._start(voter)
        for rival in sorted(self.rivals - {voted_for}):
            if (candidacy := self.candidacies.get((rival, term))) is not None:
                self.cluster.deliver(rival, voter, candidacy)

    def _rival(self) -> None:
        """The leader is gone for a moment, and two who do not hear each other campaign at once, in one term."""
        leaders = [node.node_id for node in self.cluster.running if node.core is not None and node.core.is_leader]
        others = [node.node_id for node in self.cluster.running if node.node_id not in leaders]
        if not leaders or len(others) < 2:
            return
        self._crash_for(leaders[0], 0.3)
        rivals = set(self.chance.sample(others, 2))
        self._set_apart(rivals)
        self.cluster.at(self.cluster.now + RIVALS_AFTER_S, lambda: self._campaign(rivals))

    def _forget_unsynced(self) -> None:
        """A follower is killed between a write and its sync, is back, counts for a commit, and then loses its power.

        So little is said meanwhile that nothing else makes it sync; who led then is silent afterwards.
        """
        leader = next((node.node_id for node in self.cluster.running if node.core and node.core.is_leader), None)
        followers = [node.node_id for node in self.cluster.running if node.node_id != leader]
        if leader is None or len(followers) < 2:
            return
        voters, forgetful = len(self.cluster.nodes), self.chance.choice(followers)
        self.quiet_until = self.cluster.now + 0.5
        for other in self.chance.sample(sorted(set(self.cluster.nodes) - {leader, forgetful}), voters // 2):
            self._set_apart({leader, other})

        def write() -> None:
            core = self.cluster.nodes[leader].core
            if core is not None and core.is_leader:
                node = self.cluster.nodes[forgetful]
                node.power_stays, node.disk.cut_power_at = True, node.disk.operations + 2
                self._propose(leader)

        def lose() -> None:
            self._crash_for(forgetful, 0.01)
            self.cluster.isolate(leader)

        self.cluster.at(self.cluster.now + 0.1, write)
        self.cluster.at(self.cluster.now + 0.16, lambda: self._start(forgetful))
        self.cluster.at(self.cluster.now + 0.4, self._clear_up)
        self.cluster.at(self.cluster.now + 0.4, lose)
        self.cluster.at(self.cluster.now + 2.0, self._clear_up)

    def _set_apart(self, rivals: set[int]) -> None:
        first, second = sorted(rivals)
        self.cluster.weather.blocked |= {(first, second), (second, first)}

    def _campaign(self, rivals: set[int]) -> None:
        cores = [core for node_id in sorted(rivals) if (core := self.cluster.nodes[node_id].core) is not None]
        if self.cluster.now >= self.end or any(core.is_leader or core.failure is not None for core in cores):
            return
        self.rivals = rivals
        self.cluster.at(self.cluster.now + RIVALS_FOR_S, self._reconcile)
        for core in cores:
            core.campaign_at = self.cluster.now
            self.cluster.tick_soon(self.cluster.nodes[core.config.node_id])

    def _reconcile(self) -> None:
        self.rivals = set()
        self._clear_up()

    def _crash_for(self, node_id: int, down_s: float) -> None:
        self.cluster.crash(node_id)
        self.cluster.at(self.cluster.now + down_s, lambda: self._start(node_id))

    def _spoil_disk(self) -> None:
        """EIO at the next sync, or ENOSPC in one of the next writes; whoever is stopped by it is started again."""
        disk = self.cluster.nodes[self._some_node()].disk
        if self.chance.random() < 0.5:
            disk.sync_fails = True
        else:
            disk.free_bytes = self.chance.choice([0, 30, 300, 5000])

    def _exit(self, node_id: int) -> None:
        """The process of a core that has stopped; some disks are whole again when it comes back."""
        self._restart_later(node_id)
        self.cluster.kill(node_id)

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
        if node.core is not None:
            return
        if node.disk.cut_power_at is not None or self.chance.random() < 0.7:
            node.disk.heal()
        try:
            self.cluster.start(node_id)
        except DiskError:
            self._restart_later(node_id)

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
