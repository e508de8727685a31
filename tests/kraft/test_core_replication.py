"""What a follower keeps, cuts and acknowledges, and what a leader counts: each test fails without its guard (S16)."""

import msgspec
import pytest

from kraft.replication_progress import DENIALS_BELIEVED, WINDOW_MESSAGES, Mode, ReplicationProgress
from kraft.snapshot import Snapshot
from tests.kraft.peer_messages import Peer, entry
from tests.kraft.simulated_cluster import NodeFailedError, simulated

FORMED = (2, 0)
"""(index, term) of the last entry of a freshly formed log."""


def lone_follower(cluster):
    """Node 1 of three alone; what its peers say is up to the test."""
    cluster.start(1)
    return cluster.core(1), Peer(cluster, 2), Peer(cluster, 3)


def terms(core):
    journal = core.journal
    return {index: journal.term_at(index) for index in range(3, journal.last_index + 1)}


def test_a_late_and_shorter_message_does_not_cut_what_was_acknowledged():
    with simulated(3, start=False) as cluster:
        core, leader, _ = lone_follower(cluster)
        leader.append(1, FORMED, entry(3, 1), entry(4, 1), entry(5, 1))
        answer = leader.append(1, FORMED, entry(3, 1))
        assert 4 == answer["next_node_idx"]
        assert {3: 1, 4: 1, 5: 1} == terms(core)
        leader.append(1, FORMED)
        assert {3: 1, 4: 1, 5: 1} == terms(core)


def test_a_conflicting_suffix_is_cut_from_the_first_difference_only():
    with simulated(3, start=False) as cluster:
        core, leader, other = lone_follower(cluster)
        leader.append(1, FORMED, entry(3, 1), entry(4, 1), entry(5, 1))
        other.append(2, FORMED, entry(3, 1), entry(4, 2))
        assert {3: 1, 4: 2} == terms(core)


def test_the_commit_index_does_not_pass_the_last_entry_that_the_message_covers():
    """Entry 4 is of a deposed leader; the new one has only said that 3 matches, and that some other 4 is committed."""
    with simulated(3, start=False) as cluster:
        core, leader, other = lone_follower(cluster)
        leader.append(1, FORMED, entry(3, 1), entry(4, 1))
        other.append(2, (3, 1), commit=4)
        assert 3 == core.commit_index
        other.append(2, (3, 1), entry(4, 2), commit=4)
        assert [b"3@1", b"4@2"] == cluster.machine(1).applied


def test_a_snapshot_chunk_commits_nothing():
    """An isolated leader's own entry 3 must not pass for the committed entry 3 of its successors."""
    with simulated(3, start=False) as cluster:
        core, leader, other = lone_follower(cluster)
        leader.append(1, FORMED, entry(3, 1, "lost"), entry(4, 1, "lost too"))
        content = snapshot_bytes(cluster, index=50, term=2, commands=[b"a", b"b"])
        answer = other.chunk(2, 50, 2, content, size=20)
        assert "snapshot_chunk_ack" == answer["type"]
        assert (2, 2) == (core.commit_index, core.last_applied)
        assert [] == cluster.machine(1).applied


def snapshot_bytes(cluster, *, index, term, commands):
    state = msgspec.msgpack.encode((index, commands))
    return Snapshot(index, term, cluster.initial_directories, state).encode()


def test_a_whole_snapshot_replaces_a_log_that_does_not_reach_it():
    with simulated(3, start=False) as cluster:
        core, leader, other = lone_follower(cluster)
        leader.append(1, FORMED, entry(3, 1, "lost"))
        content = snapshot_bytes(cluster, index=50, term=2, commands=[b"a", b"b"])
        first = other.chunk(2, 50, 2, content, size=30)
        assert 30 == first["offset"]
        repeated = other.chunk(2, 50, 2, content, size=30)
        assert 30 == repeated["offset"], "a repeated chunk changes nothing"
        answer = other.chunk(2, 50, 2, content, offset=30)
        assert (True, 51) == (answer["success"], answer["next_node_idx"])
        assert [b"a", b"b"] == cluster.machine(1).applied
        assert (50, 50, 50) == (core.last_applied, core.journal.first_index, core.journal.last_index)
        cluster.crash(1)
        cluster.start(1)
        assert [b"a", b"b"] == cluster.machine(1).applied


def test_a_snapshot_with_a_flipped_bit_is_asked_for_again():
    with simulated(3, start=False) as cluster:
        core, _, other = lone_follower(cluster)
        content = snapshot_bytes(cluster, index=50, term=2, commands=[b"a"])
        damaged = content[:-1] + bytes([content[-1] ^ 1])
        assert 0 == other.chunk(2, 50, 2, damaged)["offset"]
        assert (2, None) == (core.last_applied, core.failure)
        assert other.chunk(2, 50, 2, content)["success"]
        assert 50 == core.last_applied


def test_a_snapshot_of_what_the_log_already_has_keeps_the_acknowledged_suffix():
    with simulated(3, start=False) as cluster:
        core, leader, _ = lone_follower(cluster)
        leader.append(1, FORMED, entry(3, 1), entry(4, 1), entry(5, 1))
        content = snapshot_bytes(cluster, index=4, term=1, commands=[b"3@1", b"4@1"])
        answer = leader.chunk(1, 4, 1, content)
        assert (True, 5) == (answer["success"], answer["next_node_idx"])
        assert {3: 1, 4: 1, 5: 1} == terms(core)


def elected(cluster):
    """Node 1, alone of three, made leader by its peers' hand-made votes."""
    core = cluster.start(1)
    peers = Peer(cluster, 2), Peer(cluster, 3)
    cluster.run_until(lambda: any(said["type"] == "pre_vote" for _, _, said in cluster.messages))
    campaign(cluster, core, peers)
    return core, *peers


def campaign(cluster, core, peers):
    for _ in range(50):
        if core.is_leader:
            return
        for peer in peers:
            peer.say("response_pre_vote", core.term, campaign_term=core.term + 1, granted=True)
        cluster.tick(cluster.nodes[1])
        for peer in peers:
            peer.say("response_vote", core.term)
        cluster.run(0.1)
    raise AssertionError(cluster.describe())


def test_an_acknowledgement_from_an_older_term_is_not_counted():
    """In term 1 node 2 had an entry 4 that a later leader cut; its late answer says nothing about this entry 4."""
    with simulated(3, start=False) as cluster:
        core, two, three = elected(cluster)
        old_term = core.term
        two.append(old_term + 1, FORMED)
        cluster.weather.blocked = {(1, 2), (1, 3)}
        campaign(cluster, core, (two, three))
        assert core.term > old_term
        cluster.propose(1, b"new")
        end = core.journal.last_index
        two.acknowledge(old_term, end)
        three.acknowledge(old_term, end)
        assert {} == cluster.acknowledged
        two.acknowledge(core.term, end)
        assert b"new" in cluster.acknowledged


def test_an_entry_of_an_older_term_is_committed_only_by_one_of_the_leaders_own():
    """Raft, figure 8: a majority has it, and a leader of a term in between may still overwrite it."""
    with simulated(3, start=False) as cluster:
        core, two, three = elected(cluster)
        cluster.propose(1, b"old")
        old = core.journal.last_index
        two.append(core.term + 1, FORMED)
        campaign(cluster, core, (two, three))
        two.acknowledge(core.term, old)
        assert core.committed < old, "a majority has it, of an older term"
        two.acknowledge(core.term, core.journal.last_index)
        assert core.committed == core.journal.last_index


def test_an_acknowledgement_beyond_the_leaders_log_is_not_counted():
    with simulated(3, start=False) as cluster:
        core, two, _ = elected(cluster)
        cluster.propose(1, b"x")
        two.acknowledge(core.term, core.journal.last_index + 10)
        assert {} == cluster.acknowledged


def divergent_follower(cluster, *, entries, bytes_each):
    """Nodes 2 and 3 share a history; node 1 led a minority meanwhile and wrote its own, in one term after another."""
    cluster.commit(b"common")
    loser = cluster.leader()
    cluster.isolate(loser)
    core = cluster.core(loser)
    for number in range(entries):
        cluster.propose(loser, b"lost%d " % number + bytes(bytes_each))
    cluster.run_until(lambda: not core.is_leader)
    cluster.run_until(lambda: any(node.core.is_leader for node in cluster.running if node.core is not core))
    winner = next(node.node_id for node in cluster.running if node.core is not core and node.core.is_leader)
    for number in range(entries):
        cluster.propose(winner, b"kept%d " % number + bytes(bytes_each))
    cluster.run(1.0)
    return loser


def test_a_follower_with_a_long_divergent_log_converges_in_a_few_rounds():
    with simulated(3, seed=4) as cluster:
        loser = divergent_follower(cluster, entries=500, bytes_each=500)
        cluster.messages = []
        cluster.weather.blocked.clear()
        cluster.converge(within_s=5.0)
        cluster.check_acknowledged()
        rejections = [
            said
            for sender, _, said in cluster.messages
            if sender == loser and said["type"] == "next_node_idx" and not said["success"]
        ]
        assert len(rejections) <= 4, f"{len(rejections)} rejections"
        assert b"kept499" in cluster.machine(loser).applied


def test_while_probing_only_the_answer_to_the_outstanding_probe_moves_the_position():
    """Pipelined and late rejections made the library walk back and forth and never arrive."""
    progress = ReplicationProgress(None, next_index=100)
    progress.rejected(99, 60)
    assert 61 == progress.next_index
    progress.rejected(99, 80)
    progress.rejected(70, 65)
    assert 61 == progress.next_index
    progress.rejected(60, 60)
    assert 60 == progress.next_index, "each answered probe moves it back by one at least"


def test_what_a_message_of_an_older_term_is_answered_moves_no_position():
    """A deposed leader's last message arrives after the vote for it in the next term: its answer is of that term too.

    Taken for the answer to a probe it meant that the follower lacks all, and where no snapshot was ever taken the
    leader stopped.
    """
    with simulated(3, start=False) as cluster:
        _, deposed, elected_next = lone_follower(cluster)
        elected_next.append(2, FORMED)
        answer = deposed.append(1, FORMED)
        assert (2, False) == (answer["term"], answer["success"])
    with simulated(3, start=False) as cluster:
        core, follower, _ = elected(cluster)
        follower.say("next_node_idx", core.term, **{key: answer[key] for key in answer.keys() - {"type", "term"}})
        follower.acknowledge(core.term, core.journal.last_index)
        assert core.journal.last_index == core.committed


def test_a_late_rejection_does_not_undo_an_acknowledgement():
    progress = ReplicationProgress(None, next_index=10)
    progress.acknowledged(9)
    progress.sent(50, 1000)
    progress.acknowledged(40)
    progress.rejected(9, 2)
    progress.rejected(40, 2)
    assert (Mode.REPLICATE, 51, 40) == (progress.mode, progress.next_index, progress.match_index)
    progress.rejected(50, 2)
    assert (Mode.PROBE, 41) == (progress.mode, progress.next_index)


def test_a_follower_whose_disk_lost_what_it_acknowledged_is_sent_it_again():
    """L1: its journal was cut short while it was down; the leader of before would ask the same for ever."""
    progress = ReplicationProgress(None, next_index=10)
    progress.acknowledged(40)
    for _ in range(DENIALS_BELIEVED):
        assert (40, 41) == (progress.match_index, progress.next_index)
        progress.probe()
        progress.rejected(40, 12)
    assert (0, 13) == (progress.match_index, progress.next_index), "it counts for no commit before it has it again"
    progress.acknowledged(12)
    assert (Mode.REPLICATE, 13) == (progress.mode, progress.next_index)


def test_a_silent_follower_holds_no_more_than_a_window_of_messages():
    progress = ReplicationProgress(None, next_index=10)
    progress.acknowledged(9)
    while progress.window_is_open:
        progress.sent(progress.next_index, 1000)
    assert 10 + WINDOW_MESSAGES == progress.next_index
    progress.acknowledged(10)
    assert progress.window_is_open


def test_a_follower_behind_the_compacted_log_gets_the_snapshot_and_then_entries():
    with simulated(3, seed=1, snapshot_entries=50, retained_entries=5, snapshot_chunk_bytes=200) as cluster:
        cluster.commit(*[b"a%d" % number for number in range(20)])
        behind = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
        cluster.crash(behind)
        cluster.commit(*[b"b%d" % number for number in range(200)])
        assert cluster.core(cluster.leader()).journal.first_index > 30
        cluster.start(behind)
        cluster.commit(b"last")
        cluster.converge(within_s=5.0)
        cluster.check_acknowledged()


def test_a_snapshot_reaches_a_follower_through_loss_and_a_broken_connection():
    with simulated(3, seed=2, snapshot_entries=50, retained_entries=5, snapshot_chunk_bytes=100) as cluster:
        behind = next(node_id for node_id in cluster.nodes if node_id != cluster.leader())
        cluster.crash(behind)
        cluster.commit(*[b"b%d" % number for number in range(200)])
        cluster.weather.loss = 0.2
        cluster.start(behind)
        for _ in range(20):
            cluster.run(0.2)
            cluster.reconnect(cluster.leader(), behind)
        cluster.converge(within_s=30.0)
        cluster.check_acknowledged()


def test_a_second_leader_in_one_term_stops_the_node():
    with simulated(3, start=False) as cluster:
        _, leader, other = lone_follower(cluster)
        leader.append(1, FORMED)
        with pytest.raises(NodeFailedError, match="two leaders in term 1"):
            other.append(1, FORMED)


def test_a_leader_that_contradicts_what_is_committed_stops_the_node():
    with simulated(3, start=False) as cluster:
        core, leader, other = lone_follower(cluster)
        leader.append(1, FORMED, entry(3, 1), commit=3)
        with pytest.raises(NodeFailedError, match="differs at the committed entry 3"):
            other.append(2, FORMED, entry(3, 2))
        assert {3: 1} == terms(core)


def test_an_observer_reads_committed_entries_in_pages_and_learns_when_they_are_gone():
    with simulated(1, snapshot_entries=50, retained_entries=10) as cluster:
        cluster.commit(*[b"%d" % number for number in range(40)])
        core = cluster.core(1)
        seen, at = [], 2
        while True:
            entries, next_index = core.committed_entries(at, 20)
            if next_index == at:
                break
            seen += [command for _, command in entries]
            at = next_index
        assert [b"%d" % number for number in range(40)] == seen
        assert core.last_applied + 1 == at
        cluster.commit(*[b"more%d" % number for number in range(60)])
        assert core.committed_entries(2, 20) is None
        index, state = core.snapshot_for_observer()
        assert core.last_applied == index
        assert 100 == len(msgspec.msgpack.decode(state)[1])
