"""A voter that lost its journal says so, comes back with leave only, and has no say before it has caught up (S16)."""

import shutil
import subprocess
import time

import pytest

from tests.faults.conftest import Form
from tests.faults.harness import KRAFT, Cluster, Node, wait_until

NO_ELECTION_S = 3.0
WITH_LEAVE = "--format-directory"
"""What `kraft node --format` tells the process of the node."""


def wipe(node: Node) -> None:
    shutil.rmtree(node.directory / "metadata")


def create(node: Node, name: str) -> str:
    with node.client(timeout_s=40) as client:
        creation = client.create_topic(name)
    assert creation.topic_id is not None, creation
    return creation.topic_id


def topics(node: Node) -> dict[str, str]:
    with node.client() as client:
        return client.topics()


def wait_for_topics(cluster: Cluster, wanted: dict[str, str]) -> None:
    for node in cluster.nodes.values():
        wait_until(lambda node=node: topics(node) == wanted, f"node {node.node_id} knows every topic")


def test_a_wiped_voter_needs_leave_to_return_and_then_catches_up(form: Form):
    cluster = form(3)
    wanted = {name: create(cluster[1], name) for name in ("before-1", "before-2")}
    leader = cluster.quorum_leader()
    wiped = next(node for node in cluster.nodes.values() if node is not leader)
    wiped.kill()
    wipe(wiped)
    wanted["meanwhile"] = create(leader, "meanwhile")

    wiped.start()
    assert 2 == wiped.exit_code(), wiped.log_tail()
    assert "--format" in wiped.log_tail().splitlines()[-1], "the refusal names the way back"

    wiped.start(WITH_LEAVE)
    wiped.wait_ready()
    wait_for_topics(cluster, wanted)

    # It counts again once the leader says so: with one of the others gone, it makes the majority.
    wait_until(lambda: counts_in_quorum(leader, wiped), "the leader has committed its new directory")
    another = next(node for node in cluster.nodes.values() if node not in (leader, wiped))
    another.kill()
    wanted["after"] = create(wiped, "after")
    another.start()
    cluster.wait_ready()
    wait_for_topics(cluster, wanted)


def counts_in_quorum(leader: Node, node: Node) -> bool:
    return all(voter["directory_ok"] for voter in leader.quorum()["voters"] if voter["node_id"] == node.node_id)


def test_an_empty_log_wins_no_election_over_what_only_a_stopped_voter_knows(form: Form):
    """Topics were committed by a majority; one of the two is wiped, the other stopped: what is left may not decide."""
    cluster = form(3)
    leader = cluster.quorum_leader()
    wiped, behind = (node for node in cluster.nodes.values() if node is not leader)
    behind.kill()
    wanted = {name: create(leader, name) for name in ("known-to-two", "and-this")}
    wait_until(lambda: topics(wiped) == wanted, "the follower holds the topics")

    leader.kill()
    wiped.kill()
    wipe(wiped)
    behind.start()
    wiped.start(WITH_LEAVE)
    end_s = time.monotonic() + NO_ELECTION_S
    while time.monotonic() < end_s:
        time.sleep(0.1)  # sleeps: that nothing happens can only be watched for a while
        for node in (behind, wiped):
            assert node.is_running(), node.log_tail()
            assert not node.is_ready(), f"node {node.node_id} serves without what was committed"

    leader.start()
    cluster.wait_ready()
    wait_for_topics(cluster, wanted)
    create(wiped, "works-again")


@pytest.mark.long
def test_a_voter_that_lost_everything_twice_returns_twice(form: Form):
    cluster = form(3)
    wanted = {}
    leader = cluster.quorum_leader()
    wiped = next(node for node in cluster.nodes.values() if node is not leader)
    for name in ("first", "second"):
        wiped.kill()
        for folder in ("metadata", "data"):
            shutil.rmtree(wiped.directory / folder)
        (wiped.directory / "meta.properties").unlink()
        wanted[name] = create(leader, name)
        wiped.start(WITH_LEAVE)
        wiped.wait_ready()
        wait_for_topics(cluster, wanted)


def test_the_way_back_that_the_refusal_names_can_be_typed(form: Form):
    """`kraft node -c FILE --format`: click must not take it for the --format that all commands have."""
    cluster = form(1)
    cluster[1].kill()
    answer = subprocess.run(
        [str(KRAFT), "node", "-c", str(cluster[1].config_file), "--set", "peer.listeners=nonsense", "--format"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert "requires an argument" not in answer.stderr
    assert "peer.listeners" in answer.stderr
