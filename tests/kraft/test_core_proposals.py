"""What a proposal can end in, and that nothing applies twice, in part, or after a failure."""

import pytest

from kraft.core import UNCOMMITTED_ENTRIES_MAX
from kraft.errors import NotLeader, OutcomeUnknown
from tests.kraft.peer_messages import Peer, entry
from tests.kraft.simulated_cluster import simulated
from wire.errors import ErrorCode, RefusedError

FORMED = (2, 0)


def followers(cluster):
    leader = cluster.leader()
    return [node_id for node_id in cluster.nodes if node_id != leader]


def test_only_the_leader_appends_and_others_name_it():
    """No forwarding: an answer cannot belong to another command after a restart, because there is no request id."""
    with simulated(3, seed=1) as cluster:
        cluster.commit(b"a")
        leader = cluster.leader()
        refused = []
        for node_id in followers(cluster):
            cluster.propose(node_id, b"b", refused)
        assert [NotLeader, NotLeader] == [type(error) for error in refused]
        assert {leader} == {error.leader_id for error in refused}
        cluster.run(2.0)
        assert [b"a"] == cluster.machine(leader).applied


def test_a_leader_answers_the_proposals_of_its_own_life_only():
    """After a restart the same indexes hold other commands; nobody waiting from before is told about them."""
    with simulated(3, seed=1) as cluster:
        cluster.commit(b"a")
        old = cluster.leader()
        refused = []
        cluster.isolate(old)
        cluster.propose(old, b"in-doubt", refused)
        cluster.crash(old)
        cluster.weather.blocked.clear()
        cluster.start(old)
        cluster.commit(b"another")
        cluster.converge()
        assert b"in-doubt" not in cluster.acknowledged
        cluster.check_acknowledged()


def test_a_leader_that_loses_its_majority_answers_outcome_unknown():
    with simulated(3, seed=2) as cluster:
        old = cluster.leader()
        refused = []
        cluster.isolate(old)
        for number in range(5):
            cluster.propose(old, b"in-doubt-%d" % number, refused)
        cluster.run_until(lambda: len(refused) == 5, within_s=5.0)
        assert {OutcomeUnknown} == {type(error) for error in refused}
        cluster.weather.blocked.clear()
        cluster.commit(b"after")
        cluster.converge()
        cluster.check_acknowledged()


def test_a_leader_resigns_within_a_few_seconds_of_losing_its_majority():
    """The library's own limit is 30 s of two leaders at once."""
    with simulated(3, seed=2) as cluster:
        old = cluster.leader()
        cluster.isolate(old)
        cluster.run(3.0)
        assert not cluster.core(old).is_leader


def test_a_command_that_is_too_large_is_refused_with_the_limit():
    with simulated(1) as cluster:
        core = cluster.core(cluster.leader())
        with pytest.raises(RefusedError, match="524288") as refusal:
            core.propose(bytes(512 * 1024 + 1), lambda *_: None)
        assert ErrorCode.MESSAGE_TOO_LARGE == refusal.value.code
        answers = []
        core.propose(bytes(512 * 1024), lambda answer, _: answers.append(answer))
        cluster.run(0.2)
        assert [1] == answers


def test_a_leader_without_majority_does_not_take_proposals_without_end():
    with simulated(3, seed=2) as cluster:
        core = cluster.core(cluster.leader())
        cluster.isolate(core.config.node_id)
        for _ in range(UNCOMMITTED_ENTRIES_MAX - 1):
            core.propose(b"x", lambda *_: None)
        with pytest.raises(RefusedError, match="retry later") as refusal:
            propose_twice(core)
        assert ErrorCode.THROTTLING_QUOTA_EXCEEDED == refusal.value.code


def propose_twice(core):
    core.propose(b"x", lambda *_: None)
    core.propose(b"x", lambda *_: None)


def test_large_commands_reach_followers_whole():
    with simulated(3, seed=3) as cluster:
        cluster.commit(*[b"%d " % number + bytes(400_000) for number in range(8)])
        cluster.converge()
        cluster.check_acknowledged()


def test_an_apply_that_raises_stops_the_node_once_and_does_not_apply_again():
    with simulated(3, seed=4) as cluster:
        cluster.commit(b"a")
        cluster.converge()
        cluster.bears = (ValueError,)
        victim = followers(cluster)[0]
        machine = cluster.machine(victim)
        machine.raises = ValueError("cannot apply")
        cluster.commit(b"b", b"c")
        cluster.run(1.0)
        machine.raises = None
        cluster.run(1.0)
        node = cluster.nodes[victim]
        assert [machine.applied, [ValueError]] == [[b"a"], [type(failure) for failure in node.failures]]
        assert isinstance(cluster.core(victim).failure, ValueError)


def test_a_callback_that_raises_stops_the_node_and_the_command_is_applied_once():
    """In the library a cancelled future's callback made the command apply again."""
    with simulated(1) as cluster:
        core = cluster.core(cluster.leader())
        cluster.bears = (RuntimeError,)

        def outcome(_answer, _error):
            raise RuntimeError("the caller has gone")

        told = []
        core.propose(b"a", outcome)
        core.propose(b"b", lambda *answer: told.append(answer))
        cluster.run(1.0)
        assert [b"a", b"b"] == cluster.machine(1).applied
        assert [RuntimeError] == [type(failure) for failure in cluster.nodes[1].failures]
        assert not core.is_leader
        assert core.tick() is False


def test_whoever_still_waits_when_the_node_fails_is_told():
    with simulated(3, seed=5) as cluster:
        leader = cluster.leader()
        refused = []
        cluster.isolate(leader)
        cluster.propose(leader, b"waits", refused)
        cluster.run(0.05)
        cluster.nodes[leader].disk.sync_fails = True
        cluster.propose(leader, b"fails", refused)
        cluster.run(0.1)
        assert [OutcomeUnknown, OutcomeUnknown] == [type(error) for error in refused]


def test_a_callback_may_propose_again():
    with simulated(3, seed=6) as cluster:
        core = cluster.core(cluster.leader())
        seen = []

        def again(answer, error):
            assert error is None
            seen.append(answer)
            if len(seen) < 20:
                core.propose(b"%d" % len(seen), again)

        core.propose(b"0", again)
        cluster.run_until(lambda: len(seen) == 20, within_s=5.0)
        assert list(range(1, 21)) == seen


def test_a_closed_core_answers_whoever_waits_and_is_silent():
    with simulated(3, seed=7) as cluster:
        leader = cluster.leader()
        core = cluster.core(leader)
        refused = []
        cluster.propose(leader, b"waits", refused)
        core.close()
        core.close()
        assert [OutcomeUnknown] == [type(error) for error in refused]
        cluster.propose(leader, b"late", refused)
        assert isinstance(refused[-1], NotLeader)


def test_a_barrier_passes_only_when_everything_acknowledged_before_is_applied():
    """A new leader has what its predecessors acknowledged in its log, and may not have applied it yet."""
    with simulated(3, seed=8) as cluster:
        cluster.commit(b"a")
        old = cluster.leader()
        cluster.commit(b"acknowledged by the old leader")
        cluster.crash(old)
        cluster.run_until(lambda: any(node.core.is_leader for node in cluster.running))
        [new] = [node for node in cluster.running if node.core.is_leader]
        passed = []
        new.core.barrier(lambda index, error: passed.append((index, error, list(new.machine.applied))))
        cluster.run_until(lambda: bool(passed))
        [(index, error, applied)] = passed
        assert error is None
        assert index <= new.core.last_applied
        assert b"acknowledged" in applied


def test_a_barrier_does_not_pass_at_a_leader_that_has_been_deposed_without_knowing_it():
    with simulated(3, seed=9) as cluster:
        old = cluster.leader()
        cluster.isolate(old)
        cluster.run_until(lambda: any(n.core.is_leader and n.node_id != old for n in cluster.running), within_s=5.0)
        results = []
        assert cluster.core(old).is_leader
        cluster.core(old).barrier(lambda *result: results.append(result))
        cluster.run_until(lambda: bool(results), within_s=5.0)
        assert [OutcomeUnknown] == [type(error) for _, error in results]


def test_barriers_of_one_turn_share_an_entry_and_later_ones_do_not():
    with simulated(1) as cluster:
        core = cluster.core(cluster.leader())
        indexes = []
        for _ in range(5):
            core.barrier(lambda index, _error: indexes.append(index))
        cluster.run(0.1)
        core.barrier(lambda index, _error: indexes.append(index))
        cluster.run(0.1)
        assert [indexes[0]] * 5 + [indexes[0] + 1] == indexes


def test_a_barrier_elsewhere_names_the_leader():
    with simulated(3, seed=1) as cluster:
        refused = []
        cluster.core(followers(cluster)[0]).barrier(lambda _, error: refused.append(error))
        assert cluster.leader() == refused[0].leader_id


def test_an_entry_of_an_unknown_kind_stops_the_node_instead_of_being_skipped():
    with simulated(3, start=False) as cluster:
        core = cluster.start(1)
        Peer(cluster, 2).append(1, FORMED, entry(3, 1), commit=3)
        with pytest.raises(AssertionError, match="unknown kind 99"):
            Peer(cluster, 2).append(1, (3, 1), (b"\x63later", 4, 1), commit=4)
        assert 3 == core.last_applied


def test_status_tells_where_every_voter_is():
    with simulated(3, seed=1) as cluster:
        cluster.commit(*[b"%d" % number for number in range(10)])
        cluster.converge()
        leader = cluster.leader()
        status = cluster.core(leader).status()
        assert (leader, leader, 0) == (status.node_id, status.leader_id, sum(voter.lag for voter in status.voters))
        assert {status.commit_index} == {voter.match_index for voter in status.voters}
        assert all(voter.directory_ok and voter.last_heard_ms < 1000 for voter in status.voters)
        seen_from_a_follower = cluster.core(followers(cluster)[0]).status()
        assert leader == seen_from_a_follower.leader_id
