"""What a voter says rests on its disk, and a voter whose disk fails says nothing (S16)."""

from contextlib import suppress

import pytest

from kraft.errors import DamagedError, OutcomeUnknown
from kraft.voters import Voter
from tests.kraft.peer_messages import Peer, entry
from tests.kraft.simulated_cluster import simulated
from tests.kraft.simulated_disk import PowerCut

FORMED = (2, 0)


def lose_everything_unsynced(cluster, node_id):
    """The worst crash: not one unsynced byte survives."""
    disk = cluster.nodes[node_id].disk
    disk.chance = NeverLucky()
    cluster.crash(node_id)
    disk.chance = cluster.chance


class NeverLucky:
    """Dice that always fall on the smallest."""

    def randint(self, low, high):
        return low

    def random(self):
        return 0.0

    def choice(self, options):
        return options[0]


def test_what_a_follower_acknowledged_survives_the_loss_of_unsynced_bytes():
    with simulated(3, start=False) as cluster:
        cluster.start(1)
        answer = Peer(cluster, 2).append(1, FORMED, entry(3, 1), entry(4, 1))
        assert 5 == answer["next_node_idx"]
        lose_everything_unsynced(cluster, 1)
        core = cluster.start(1)
        assert 4 == core.journal.last_index


def test_a_follower_syncs_once_for_all_messages_of_a_turn():
    with simulated(3, start=False) as cluster:
        cluster.start(1)
        leader, disk = Peer(cluster, 2), cluster.nodes[1].disk
        leader.append(1, FORMED)
        before = disk.syncs
        transport = cluster.nodes[1].transport
        for index in range(3, 13):
            message = {"type": "append_entries", "term": 1, "prev_log_index": index - 1, "entries": [entry(index, 1)]}
            message |= {"prev_log_term": 1 if index > 3 else 0, "commit_index": 2, "directory": leader.directory}
            transport._onMessageReceived(Voter(2), message)
        assert before == disk.syncs
        cluster.tick(cluster.nodes[1])
        assert before + 1 == disk.syncs


def test_a_single_voter_acknowledges_only_what_survives_a_crash():
    with simulated(1) as cluster:
        cluster.commit(b"a", b"b", b"c")
        lose_everything_unsynced(cluster, 1)
        cluster.start(1)
        cluster.leader()
        cluster.check_acknowledged()
        assert [b"a", b"b", b"c"] == cluster.machine(1).applied


def test_a_leader_does_not_count_itself_before_its_own_disk_has_the_entry():
    """One follower acknowledges before the leader's own sync: two of three hold it, and only one of them durably."""
    with simulated(3, seed=5) as cluster:
        leader = cluster.leader()
        core = cluster.core(leader)
        core.propose(b"early", lambda *_: None)
        followers = [node_id for node_id in cluster.nodes if node_id != leader]
        index = core.journal.last_index
        peer = Peer(cluster, followers[0], to=leader)
        disk = cluster.nodes[leader].disk
        synced_before = disk.syncs
        committed_at = []
        original = core.journal.setRaftCommitIndex
        core.journal.setRaftCommitIndex = lambda value: (committed_at.append(disk.syncs), original(value))
        peer.acknowledge(core.term, index)
        assert index == core.commit_index
        assert committed_at[-1] > synced_before, "committed before the leader's own sync"


def test_a_vote_survives_the_loss_of_unsynced_bytes():
    with simulated(3, start=False) as cluster:
        cluster.start(1)
        assert Peer(cluster, 2).request_vote(7, FORMED)
        lose_everything_unsynced(cluster, 1)
        core = cluster.start(1)
        assert (7, 2) == (core.term, core.voted_for)
        assert not Peer(cluster, 3).request_vote(7, FORMED), "a second vote in one term"


@pytest.mark.parametrize("file", ["journal", "term-and-vote", "snapshot"])
def test_a_damaged_file_stops_the_node_before_any_message(file):
    with simulated(3, seed=1, snapshot_entries=20, retained_entries=5) as cluster:
        cluster.commit(*[b"%d" % number for number in range(60)])
        cluster.run(1.0)
        victim = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
        cluster.crash(victim)
        disk = cluster.nodes[victim].disk
        data = bytearray(disk.read(file))
        data[len(data) // 3] ^= 4
        disk.overwrite(file, bytes(data))
        cluster.messages = []
        with pytest.raises(DamagedError, match=f"/simulated/{file}.*re-join") as refusal:
            cluster.start(victim)
        assert f"/simulated/{file}" == refusal.value.path
        assert not [sender for sender, _, _ in cluster.messages if sender == victim]


def test_a_refused_start_leaves_the_directory_free_for_the_next():
    with simulated(1) as cluster:
        cluster.commit(b"a")
        cluster.crash(1)
        disk = cluster.nodes[1].disk
        journal = disk.read("journal")
        disk.overwrite("journal", b"")
        with pytest.raises(DamagedError):
            cluster.start(1)
        disk.overwrite("journal", journal)
        cluster.start(1)
        cluster.commit(b"b")


@pytest.mark.parametrize("file", ["journal", "term-and-vote", "snapshot"])
def test_a_missing_file_is_not_taken_for_a_new_voter(file):
    with simulated(3, seed=1, snapshot_entries=20, retained_entries=5) as cluster:
        cluster.commit(*[b"%d" % number for number in range(60)])
        cluster.run(1.0)
        cluster.crash(2)
        cluster.nodes[2].disk.remove(file)
        with pytest.raises(DamagedError):
            cluster.start(2)


def test_a_full_disk_stops_the_node_and_the_rest_goes_on():
    with simulated(3, seed=2) as cluster:
        leader = cluster.leader()
        refused = []
        cluster.nodes[leader].disk.free_bytes = 10
        cluster.propose(leader, b"does not fit", refused)
        cluster.run(0.5)
        assert isinstance(cluster.core(leader).failure, OSError)
        assert [OutcomeUnknown] == [type(error) for error in refused]
        assert 1 == len(cluster.nodes[leader].failures), "reported once"
        assert not cluster.core(leader).is_leader
        cluster.nodes[leader].core = None
        cluster.commit(b"goes on")


def test_a_failed_sync_is_not_retried_and_nothing_rests_on_it():
    with simulated(3, start=False) as cluster:
        core = cluster.start(1)
        peer = Peer(cluster, 2)
        peer.append(1, FORMED)
        disk = cluster.nodes[1].disk
        disk.sync_fails = True
        assert [] == peer.say(
            "append_entries", 1, prev_log_index=2, prev_log_term=0, entries=[entry(3, 1)], commit_index=2
        )
        disk.sync_fails = False
        assert isinstance(core.failure, OSError)
        assert not peer.request_vote(9, (9, 9)), "a failed node is silent"
        with pytest.raises(OSError, match="failed before"):
            core.journal.sync()


def test_a_crash_at_any_step_of_forming_a_voter_can_be_started_again():
    """An interrupted formation is formed again, with the same directories."""
    for step in range(1, 20):
        with simulated(1, start=False) as cluster:
            node = cluster.nodes[1]
            node.disk.cut_power_at = step
            with suppress(PowerCut):
                cluster.start(1)
            if node.core is None:
                node.disk.crash()
                cluster.start(1)
            node.disk.cut_power_at = None
            cluster.commit(b"formed")


def test_a_crash_at_any_step_of_a_compaction_loses_nothing():
    """Power fails in each write, sync and rename of snapshots and journal rewrites in turn."""
    for step in range(1, 80):
        with simulated(1, seed=step, snapshot_entries=10, retained_entries=3) as cluster:
            cluster.commit(b"first")
            disk = cluster.nodes[1].disk
            disk.cut_power_at = disk.operations + step
            for number in range(40):
                if cluster.nodes[1].core is None:
                    break
                cluster.propose(1, b"%d" % number)
                cluster.run(0.05)
            if cluster.nodes[1].core is not None:
                cluster.crash(1)
            cluster.start(1)
            cluster.leader()
            cluster.run(0.5)
            cluster.check_acknowledged()


def test_a_crash_between_a_snapshots_rename_and_the_journals_rewrite_loses_nothing():
    with simulated(1, snapshot_entries=10, retained_entries=0) as cluster:
        core = cluster.core(1)
        cluster.commit(*[b"%d" % number for number in range(6)])

        def power_cut(_index):
            raise PowerCut

        core.journal.compact_to = power_cut
        for number in range(6, 20):
            cluster.propose(1, b"%d" % number)
        cluster.run(0.5)
        assert cluster.nodes[1].core is None
        core = cluster.start(1)
        assert core.journal.first_index == 1, "the journal was not rewritten"
        cluster.leader()
        cluster.run(0.5)
        cluster.check_acknowledged()
        assert [b"%d" % number for number in range(20)] == cluster.machine(1).applied


def test_a_crash_between_installing_a_snapshot_and_the_journals_rewrite_continues_the_snapshot():
    with simulated(3, seed=3, snapshot_entries=50, retained_entries=5) as cluster:
        behind = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
        cluster.crash(behind)
        cluster.commit(*[b"%d" % number for number in range(200)])
        core = cluster.start(behind)

        def power_cut(*_arguments):
            raise PowerCut

        core.journal.align = power_cut
        cluster.run_until(lambda: cluster.nodes[behind].core is None)
        core = cluster.start(behind)
        assert core.last_applied >= 150
        assert (core.journal.first_index, core.journal.durable_index) >= (core.last_applied, core.last_applied)
        cluster.commit(b"last")
        cluster.converge()
        cluster.check_acknowledged()
