"""Who may lead, who may vote, and who must not disturb."""

from uuid import UUID

import pytest

from kraft.voter_directories import Newcomers, VoterDirectoryChanged, decode_changes, encode_changes, with_changes
from tests.kraft.peer_messages import Peer
from tests.kraft.simulated_cluster import simulated

FORMED = (2, 0)


def others(cluster, *but):
    return [node_id for node_id in cluster.nodes if node_id not in but]


@pytest.mark.parametrize("voters", [1, 3, 5])
def test_a_new_cluster_elects_a_leader_in_two_seconds(voters):
    for seed in range(5):
        with simulated(voters, seed=seed) as cluster:
            started = cluster.now
            cluster.leader()
            assert cluster.now - started < 2.0


def test_a_single_voter_leads_at_once():
    with simulated(1) as cluster:
        started = cluster.now
        cluster.leader()
        assert cluster.now - started < 0.1


@pytest.mark.parametrize("voters", [3, 5])
def test_a_dead_leader_is_replaced_within_two_seconds(voters):
    for seed in range(10):
        with simulated(voters, seed=seed) as cluster:
            cluster.commit(b"a")
            old = cluster.leader()
            cluster.crash(old)
            died = cluster.now
            cluster.leader()
            assert cluster.now - died < 2.0, f"seed {seed}"
            cluster.commit(b"b")


def test_the_next_leader_knows_since_when_the_last_one_is_silent():
    for seed in range(10):
        with simulated(3, seed=seed) as cluster:
            cluster.commit(b"a")
            old = cluster.leader()
            cluster.crash(old)
            died = cluster.now
            new = cluster.leader()
            silent_s = cluster.core(new).leader_silent_ms() / 1000
            heartbeat_s = cluster.core(new).config.heartbeat_interval_s
            assert -0.05 <= silent_s - (cluster.now - died) <= 2 * heartbeat_s, f"seed {seed}"


def test_a_leader_that_was_cut_off_is_followed_no_more_before_anybody_else_leads():
    for seed in range(10):
        with simulated(3, seed=seed) as cluster:
            old = cluster.leader()
            cluster.run(1.0)
            assert cluster.core(old).is_followed
            cluster.isolate(old)
            rest = others(cluster, old)
            cluster.run_until(lambda cluster=cluster, rest=rest: any(cluster.core(one).is_leader for one in rest))
            assert not cluster.core(old).is_followed, f"seed {seed}"


def test_an_isolated_voter_returns_without_deposing_the_leader():
    with simulated(3, seed=1) as cluster:
        leader = cluster.leader()
        term = cluster.core(leader).term
        away = others(cluster, leader)[0]
        cluster.isolate(away)
        cluster.run(20.0)
        assert term == cluster.core(away).term, "it campaigned although it could not win"
        cluster.weather.blocked.clear()
        cluster.run(5.0)
        assert (leader, term) == (cluster.leader(), cluster.core(leader).term)
        assert leader == cluster.core(away).leader_id


@pytest.mark.parametrize("deaf_way", ["cannot hear", "cannot speak"])
def test_a_voter_that_hears_or_speaks_one_way_only_does_not_churn(deaf_way):
    with simulated(3, seed=2) as cluster:
        leader = cluster.leader()
        term = cluster.core(leader).term
        half = others(cluster, leader)[0]
        for other in others(cluster, half):
            cluster.weather.blocked.add((other, half) if deaf_way == "cannot hear" else (half, other))
        cluster.run(20.0)
        assert (leader, term) == (cluster.leader(), cluster.core(leader).term)


def test_a_voter_without_a_link_to_the_leader_alone_does_not_churn():
    """It hears another voter, which hears the leader: the other's word must stop it."""
    with simulated(3, seed=3) as cluster:
        leader = cluster.leader()
        term = cluster.core(leader).term
        half = others(cluster, leader)[0]
        cluster.weather.blocked |= {(half, leader), (leader, half)}
        cluster.run(20.0)
        assert (leader, term) == (cluster.leader(), cluster.core(leader).term)
        assert term == cluster.core(half).term


def test_a_refused_vote_request_of_a_higher_term_deposes_nobody():
    with simulated(3, seed=4) as cluster:
        leader = cluster.leader()
        term = cluster.core(leader).term
        cluster.messages = []
        for node_id in cluster.nodes:
            sender = others(cluster, node_id)[0]
            assert not Peer(cluster, sender, to=node_id).request_vote(term + 50, (100, 100))
        assert {term} == {cluster.core(node_id).term for node_id in cluster.nodes}
        assert cluster.core(leader).is_leader


def test_a_vote_goes_to_one_candidate_per_term_and_only_to_a_log_that_is_not_behind():
    with simulated(3, start=False) as cluster:
        cluster.start(1)
        two, three = Peer(cluster, 2), Peer(cluster, 3)
        assert not two.request_vote(1, (1, 0)), "its log is behind"
        assert two.request_vote(2, FORMED)
        assert not three.request_vote(2, FORMED)
        assert two.request_vote(2, FORMED), "the answer may have been lost"
        assert not three.request_vote(1, FORMED), "an old term"
        assert three.request_vote(3, FORMED)


def test_a_pre_vote_changes_nothing_at_the_voter():
    with simulated(3, start=False) as cluster:
        core = cluster.start(1)
        two = Peer(cluster, 2)
        assert two.pre_vote(1, FORMED)
        assert not two.pre_vote(1, (1, 0))
        assert not two.pre_vote(0, FORMED)
        assert (0, None) == (core.term, core.voted_for)


def test_a_vote_counts_once_however_often_it_arrives():
    with simulated(5, start=False) as cluster:
        core = cluster.start(1)
        peers = [Peer(cluster, node_id) for node_id in (2, 3, 4, 5)]
        cluster.run_until(lambda: any(said["type"] == "pre_vote" for _, _, said in cluster.messages))
        for peer in peers:
            peer.say("response_pre_vote", 0, campaign_term=1, granted=True)
        assert 1 == core.term
        for _ in range(5):
            peers[0].say("response_vote", 1)
        assert not core.is_leader
        peers[1].say("response_vote", 1)
        assert core.is_leader


def test_a_voter_with_the_longest_log_and_an_old_term_can_still_be_elected():
    """Refused pre-votes must tell it the term, or it would ask for an old one for ever."""
    with simulated(3, seed=5) as cluster:
        cluster.commit(b"a")
        leader = cluster.leader()
        behind = others(cluster, leader)[0]
        cluster.crash(behind)
        cluster.commit(b"only two have this")
        term = cluster.core(leader).term
        cluster.crash(leader)
        core = cluster.start(behind)
        core.store_term(term + 5, None)
        ahead = others(cluster, leader, behind)[0]
        assert ahead == cluster.leader()
        cluster.start(leader)
        cluster.converge()
        cluster.check_acknowledged()


def test_a_leader_of_an_old_term_learns_of_the_new_one_from_a_follower():
    """A voter voted in a higher term and its candidate died: the leader must not heartbeat past it for ever."""
    with simulated(3, seed=6) as cluster:
        leader = cluster.leader()
        ahead = others(cluster, leader)[0]
        cluster.core(ahead).adopt_term(cluster.core(leader).term + 3)
        cluster.run(5.0)
        assert 1 == len({core.term for core in map(cluster.core, cluster.nodes)})
        cluster.commit(b"all three again")
        cluster.converge()


# An empty voter must not vote


def test_a_wiped_voter_does_not_help_to_elect_a_voter_that_lacks_what_was_committed():
    """Three voters; the third is behind. The first is wiped and the second, the only one that has it all, is down."""
    with simulated(3, seed=7) as cluster:
        cluster.commit(b"a")
        leader = cluster.leader()
        wiped, behind = others(cluster, leader)
        cluster.isolate(behind)
        cluster.commit(b"committed by leader and wiped")
        cluster.crash(leader)
        cluster.wipe(wiped)
        cluster.weather.blocked.clear()
        cluster.start(wiped)
        cluster.run(10.0)
        assert not cluster.core(wiped).is_seated
        assert not cluster.core(behind).is_leader, "it was elected by a voter that has forgotten what it promised"
        assert not cluster.core(wiped).is_leader
        cluster.start(leader)
        cluster.converge()
        cluster.check_acknowledged()
        cluster.run(2.0)
        assert cluster.core(wiped).is_seated


def test_a_wiped_voter_refuses_votes_and_pre_votes_until_it_is_seated():
    with simulated(3, seed=1) as cluster:
        cluster.commit(b"a")
        leader = cluster.leader()
        wiped, other = others(cluster, leader)
        cluster.wipe(wiped)
        cluster.crash(other)
        cluster.crash(leader)
        cluster.start(wiped)
        cluster.messages = []
        peer = Peer(cluster, other, to=wiped)
        assert not peer.pre_vote(50, (100, 40))
        assert not peer.request_vote(50, (100, 40))
        cluster.run(5.0)
        core = cluster.core(wiped)
        assert (False, False, None) == (core.is_seated, core.is_leader, core.voted_for)
        assert core.term < 50


def test_a_wiped_voter_does_not_count_towards_a_commit():
    with simulated(3, seed=2) as cluster:
        cluster.commit(b"a")
        leader = cluster.leader()
        wiped, other = others(cluster, leader)
        cluster.wipe(wiped)
        cluster.crash(other)
        cluster.start(wiped)
        refused = []
        cluster.propose(leader, b"in-doubt", refused)
        cluster.run(1.9)
        assert b"in-doubt" not in cluster.acknowledged
        assert cluster.core(leader).journal.last_index == cluster.core(wiped).journal.last_index, "it did catch up"
        cluster.start(other)
        cluster.commit(b"b")
        cluster.run(2.0)
        assert cluster.core(wiped).is_seated
        cluster.crash(other)
        cluster.commit(b"counted again")


def test_a_wiped_voter_is_seated_again_only_after_it_has_caught_up():
    with simulated(3, seed=3, snapshot_entries=40, retained_entries=5, snapshot_chunk_bytes=100) as cluster:
        cluster.commit(*[b"%d" % number for number in range(100)])
        leader = cluster.leader()
        wiped = others(cluster, leader)[0]
        cluster.wipe(wiped)
        caught_up_at = cluster.core(leader).journal.last_index
        core = cluster.start(wiped)
        cluster.run_until(lambda: core.is_seated, within_s=20.0)
        assert core.last_applied > caught_up_at
        assert [core.journal.directory_id] == list(
            {cluster.core(node_id).directories[wiped] for node_id in others(cluster, wiped)}
        )
        cluster.converge()
        cluster.check_acknowledged()


def test_a_newcomer_is_proposed_once_and_only_with_all_that_the_log_held_at_its_return():
    newcomers, directory = Newcomers(), UUID(int=9)
    newcomers.seen(3, directory, last_index=100)
    newcomers.seen(3, directory, last_index=200)
    assert newcomers.due(3, match_index=99, committed=UUID(int=1)) is None
    change = newcomers.due(3, match_index=100, committed=UUID(int=1))
    assert VoterDirectoryChanged(3, UUID(int=1), directory) == change
    assert newcomers.due(3, match_index=101, committed=UUID(int=1)) is None
    newcomers.seen(3, UUID(int=10), last_index=300)
    assert newcomers.due(3, match_index=200, committed=UUID(int=1)) is None, "wiped again: it begins again"
    assert newcomers.due(3, match_index=300, committed=UUID(int=1)) is not None
    assert newcomers.due(3, match_index=300, committed=directory) is not None, "the first change came in between"
    assert newcomers.due(3, match_index=300, committed=UUID(int=10)) is None


def test_a_change_of_a_directory_that_is_no_longer_the_committed_one_changes_nothing():
    directories = {1: UUID(int=1), 2: UUID(int=2)}
    changes = [VoterDirectoryChanged(1, UUID(int=7), UUID(int=8)), VoterDirectoryChanged(2, UUID(int=2), UUID(int=3))]
    assert {1: UUID(int=1), 2: UUID(int=3)} == with_changes(directories, decode_changes(encode_changes(changes)))


def test_a_reseated_voter_stays_seated_when_the_whole_cluster_restarts():
    with simulated(3, seed=4) as cluster:
        cluster.commit(b"a")
        leader = cluster.leader()
        wiped, other = others(cluster, leader)
        cluster.wipe(wiped)
        core = cluster.start(wiped)
        cluster.run_until(lambda: core.is_seated)
        cluster.run(0.5)
        for node_id in cluster.nodes:
            cluster.crash(node_id)
        cluster.start(wiped)
        cluster.start(other)
        cluster.commit(b"with the wiped one's vote")


def test_a_voter_that_lost_its_journal_but_not_its_directory_id_is_not_seated():
    """The id that was committed speaks for the lost journal; the new one gets an id that nobody has seen."""
    with simulated(3, seed=5) as cluster:
        cluster.commit(b"a")
        victim = others(cluster, cluster.leader())[0]
        cluster.crash(victim)
        for file in ("journal", "term-and-vote", "snapshot"):
            if cluster.nodes[victim].disk.read(file) is not None:
                cluster.nodes[victim].disk.remove(file)
        core = cluster.start(victim)
        assert not core.is_seated
        cluster.run_until(lambda: core.is_seated)


def test_votes_of_a_directory_that_is_not_committed_are_not_counted():
    with simulated(3, start=False) as cluster:
        core = cluster.start(1)
        stranger = Peer(cluster, 2)
        stranger.directory = bytes(16)
        cluster.run_until(lambda: any(said["type"] == "pre_vote" for _, _, said in cluster.messages))
        stranger.say("response_pre_vote", 0, campaign_term=1, granted=True)
        cluster.tick(cluster.nodes[1])
        assert 0 == core.term
        seated = Peer(cluster, 3)
        cluster.run_until(lambda: core._pre_votes is not None)
        seated.say("response_pre_vote", 0, campaign_term=1, granted=True)
        cluster.tick(cluster.nodes[1])
        assert 1 == core.term
        stranger.say("response_vote", 1)
        assert not core.is_leader
        assert not stranger.request_vote(9, (100, 100))
