"""Members of one client share the partitions, also when one of them leaves or dies, and resume where they committed."""

import uuid

import pytest

from tests.clients.records import numbered, values
from tests.clients.test_produce import produce
from tests.faults.harness import wait_until

pytestmark = pytest.mark.long
PARTITIONS = 4
SESSION_MS = 6_000
PATIENCE_S = 60.0


class Member:
    """A process that is a member, and all that it has told so far."""

    def __init__(self, client, group, topic, *, strategy="range"):
        self.client = client
        self.taken = []
        self.assignment = []
        client.call("join", group=group, topics=[topic], strategy=strategy, session_timeout_ms=SESSION_MS)

    def look(self):
        state = self.client.call("state")
        self.assignment = [partition for _, partition in state["assignment"]]
        self.taken += values(state["records"])
        return self.assignment

    def has(self, numbers):
        self.look()
        return set(numbers) <= set(self.taken)


def new_group():
    return f"g-{uuid.uuid4().hex[:12]}"


def share_everything(*members):
    """Between them they have each partition once."""
    return list(range(PARTITIONS)) == sorted(partition for member in members for partition in member.look())


def fill(client, topic, numbers):
    for partition in range(PARTITIONS):
        produce(client, topic, numbered([one for one in numbers if one % PARTITIONS == partition], partition=partition))


def two_members(name, client, clients, topics, *, strategy="range"):
    topic, group = topics.new(partitions=PARTITIONS), new_group()
    fill(client, topic, range(200))
    first = Member(clients.another(name), group, topic, strategy=strategy)
    wait_until(lambda: first.has(range(200)), "one member has all of it", timeout_s=PATIENCE_S)
    first.client.call("commit")
    second = Member(clients.another(name), group, topic, strategy=strategy)
    wait_until(
        lambda: share_everything(first, second) and len(first.assignment) == len(second.assignment) == 2,
        "each has half of the partitions",
        timeout_s=PATIENCE_S,
    )
    return topic, first, second


@pytest.mark.feature("group")
def test_members_share_and_who_leaves_is_replaced(name, client, clients, topics):
    topic, first, second = two_members(name, client, clients, topics)
    fill(client, topic, range(200, 400))
    wait_until(
        lambda: first.look() and second.look() and set(range(200, 400)) <= set(first.taken + second.taken),
        "both together have what is new",
        timeout_s=PATIENCE_S,
    )
    assert set(range(200, 400)) & set(second.taken), "the second one had its share"
    second.client.call("commit")
    first.client.call("leave")
    wait_until(lambda: share_everything(second), "the one who stays has everything", timeout_s=PATIENCE_S)


@pytest.mark.feature("cooperative")
def test_members_share_in_cooperation(name, client, clients, topics):
    topic, first, second = two_members(name, client, clients, topics, strategy="cooperative")
    fill(client, topic, range(200, 400))
    wait_until(
        lambda: first.look() and second.look() and set(range(200, 400)) <= set(first.taken + second.taken),
        "both together have what is new",
        timeout_s=PATIENCE_S,
    )


@pytest.mark.feature("death")
def test_a_member_that_dies_is_missed_after_its_session(name, client, clients, topics):
    topic, first, second = two_members(name, client, clients, topics)
    second.client.kill()
    wait_until(lambda: share_everything(first), "the one who lives has everything", timeout_s=PATIENCE_S)
    fill(client, topic, range(200, 400))
    wait_until(lambda: first.has(range(200, 400)), "it has what is new of all partitions", timeout_s=PATIENCE_S)


@pytest.mark.feature("resume")
def test_the_next_member_begins_where_the_last_one_committed(name, client, clients, topics):
    topic, group = topics.new(partitions=PARTITIONS), new_group()
    fill(client, topic, range(100))
    first = Member(clients.another(name), group, topic)
    wait_until(lambda: first.has(range(100)), "the first one has all of it", timeout_s=PATIENCE_S)
    first.client.call("commit")
    first.client.call("leave")
    fill(client, topic, range(100, 200))
    second = Member(clients.another(name), group, topic)
    wait_until(lambda: second.has(range(100, 200)), "the second one has the rest", timeout_s=PATIENCE_S)
    assert list(range(100, 200)) == sorted(second.taken)
