"""A node that stands still and comes back (SIGSTOP, SIGCONT): nothing is lost, nobody hangs, and it knows its place."""

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.faults.checker import check, check_topics
from tests.faults.client import DoubtfulError, NotSentError
from tests.faults.conftest import Form
from tests.faults.harness import Cluster, Node, wait_until
from tests.faults.history import Creation, Final, Operation, Outcome

TIMEOUT_MS = 1500
SLACK_S = 10.0
"""What an answer may take beyond its own timeout: the way to another node and back, on a busy machine."""


def others_of(cluster: Cluster, paused: Node) -> list[Node]:
    return [node for node in cluster.nodes.values() if node is not paused]


def timed(work: Callable[[], object]) -> float:
    began_s = time.monotonic()
    work()
    return time.monotonic() - began_s


def test_topics_are_created_while_the_quorums_leader_stands_still(form: Form):
    """S16: what its successor committed is there when it comes back, and it steps down."""
    cluster = form(3)
    old_leader = cluster.quorum_leader()
    old_term = old_leader.quorum()["term"]
    others = others_of(cluster, old_leader)
    old_leader.signal(signal.SIGSTOP)
    in_its_hands = create(others[0], "in-its-hands", patience_s=2)
    ids = [node.node_id for node in others]
    wait_until(lambda: cluster.quorum_leader(among=ids) is not old_leader, "a successor leads")
    new_leader = cluster.quorum_leader(among=ids)
    new_term = new_leader.quorum()["term"]
    created = {f"t-{number}": create(node, f"t-{number}").topic_id for number, node in enumerate(others * 2)}
    assert None not in created.values(), "a majority is there: nothing is refused and nothing is in doubt"

    old_leader.signal(signal.SIGCONT)
    leader = cluster.quorum_leader()
    assert leader is new_leader or leader.quorum()["term"] > new_term
    assert old_leader.quorum()["term"] > old_term
    for node in cluster.nodes.values():
        wait_until(lambda node=node: created.items() <= topics(node).items(), f"node {node.node_id} knows all")
    assert create(old_leader, "through-the-old-leader").outcome is Outcome.ACKNOWLEDGED
    assert [] == check_topics([in_its_hands], topics(new_leader))


@pytest.mark.long
def test_a_topic_under_way_to_a_leader_that_stands_still_goes_to_its_successor(form: Form):
    """It carries a command id, so to ask the next leader is harmless; L1 asks for it."""
    cluster = form(3)
    old_leader = cluster.quorum_leader()
    old_leader.signal(signal.SIGSTOP)
    assert create(others_of(cluster, old_leader)[0], "patience", patience_s=12).outcome is Outcome.ACKNOWLEDGED


def create(node: Node, name: str, *, patience_s: float = 20) -> Creation:
    with node.client(timeout_s=patience_s) as client:
        return client.create_topic(name)


def topics(node: Node) -> dict[str, str]:
    with node.client() as client:
        return client.topics()


class Paused(NamedTuple):
    """The leader of orders-0 stands still; `node` is another one; `free` is a partition that somebody else leads."""

    cluster: Cluster
    leader: Node
    node: Node
    free: int
    history: list[Operation]


@pytest.fixture
def paused(form: Form) -> Iterator[Paused]:
    cluster = form(3, "broker.session.timeout.ms=60000")  # nobody takes over from it
    history: list[Operation] = []
    with cluster[1].client() as client:
        client.create_topic("orders", 3)
        history += [client.send_batch("orders", 0, (f"before-{number}",))[0] for number in range(3)]
    leader = cluster.leader_of("orders", 0)
    free = next(partition for partition in range(3) if cluster.leader_of("orders", partition) is not leader)
    leader.signal(signal.SIGSTOP)
    yield Paused(cluster, leader, others_of(cluster, leader)[0], free, history)
    leader.signal(signal.SIGCONT)


def test_a_produce_to_a_paused_leader_is_answered_unknown_by_its_timeout(paused: Paused):
    """L1 and S15: the bytes may have reached it, so nobody says that they were not written."""
    node, history = paused.node, paused.history
    with node.client(timeout_s=60) as client:
        for number in range(2):
            began_s = time.monotonic()
            send, answer = client.send_batch("orders", 0, (f"during-{number}",), timeout_ms=TIMEOUT_MS)
            assert time.monotonic() - began_s < TIMEOUT_MS / 1000 + SLACK_S
            assert answer is not None
            assert (503, "unknown") == (answer.status, answer.json()["outcome"])
            history.append(send)
    paused.leader.signal(signal.SIGCONT)
    paused.cluster.wait_ready()
    history.append(read_again(node))
    assert [] == check(history)


def read_again(node: Node) -> Final:
    found: list[Final] = []

    def read() -> bool:
        with contextlib.suppress(NotSentError, DoubtfulError), node.client() as client:
            if client.poll("orders", 0, 0) is not None:
                found.append(client.read_all("orders", 0))
        return bool(found)

    wait_until(read, "orders-0 can be read")
    return found[0]


@pytest.mark.long
def test_a_fetch_from_a_paused_leader_is_answered(paused: Paused):
    """503 and "try again", also for one that waits for many partitions, and other partitions go on."""
    node = paused.node
    path = "/v3/clusters/-/topics/orders/partitions"
    with node.client(timeout_s=60) as client:
        fetched = []
        assert (
            timed(lambda: fetched.append(client.get(f"{path}/0/records?offset=0&timeout={TIMEOUT_MS}")))
            < TIMEOUT_MS / 1000 + SLACK_S
        )
        assert timed(lambda: fetched.append(client.get(f"{path}/0/offset"))) < SLACK_S
        assert [503, 503] == [answer.status for answer in fetched]
        send, _ = client.send_batch("orders", paused.free, ("elsewhere",), timeout_ms=50_000)  # a follower is paused
        assert send.outcome is Outcome.ACKNOWLEDGED


def test_many_requests_to_a_paused_leader_do_not_starve_others(paused: Paused):
    node = paused.node
    answers: list[object] = []

    def ask() -> None:
        with node.client(timeout_s=60) as client:
            try:
                values = (f"{threading.get_ident()}",)
                answers.append(client.send_batch("orders", 0, values, timeout_ms=TIMEOUT_MS)[1])
            except DoubtfulError as error:
                answers.append(error)

    threads = [threading.Thread(target=ask) for _ in range(40)]
    began_s = time.monotonic()
    for thread in threads:
        thread.start()
    with node.client() as client:
        assert timed(lambda: client.get("/healthz")) < SLACK_S
        assert timed(client.topics) < SLACK_S
    for thread in threads:
        thread.join(60)
    assert time.monotonic() - began_s < len(threads) * TIMEOUT_MS / 1000 / 2, "they waited beside each other"
    assert {503} == {getattr(answer, "status", answer) for answer in answers}


@pytest.mark.long
def test_a_broker_silent_for_a_session_is_fenced_and_returns(form: Form):
    """It comes back under its own epoch, takes its partition up again, and holds what it held (RF 1)."""
    cluster = form(3, "broker.session.timeout.ms=1500")
    with cluster[1].client() as client:
        client.create_topic("orders", 3, replication_factor=1)
        history: list[Operation] = [client.send_batch("orders", 0, (f"v-{number}",))[0] for number in range(20)]
    leader = cluster.leader_of("orders", 0)
    node = others_of(cluster, leader)[0]
    leader.signal(signal.SIGSTOP)
    wait_until(lambda: leader.node_id in node.ask("/v3/clusters/-/health")["fenced_brokers"], "it is fenced")
    with node.client(timeout_s=30) as client:
        send, answer = client.send_batch("orders", 0, ("to nobody",), timeout_ms=TIMEOUT_MS)
        assert (Outcome.REFUSED, 503) == (send.outcome, answer.status), "no leader: certainly not written"
        history.append(send)
    leader.signal(signal.SIGCONT)
    cluster.wait_ready()
    with node.client() as client:
        sent, _ = client.send_batch("orders", 0, ("afterwards",), timeout_ms=10_000)
        assert sent.outcome is Outcome.ACKNOWLEDGED
    history += [sent, read_again(node)]
    assert [] == check(history)
