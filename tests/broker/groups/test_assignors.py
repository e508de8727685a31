"""How a leader divides partitions: as Kafka's assignors do, completely, evenly, and never twice."""

import random
from collections import Counter

import pytest

from broker.groups.assignors import ASSIGNORS, assign_ranges, assign_round_robin, assign_sticky
from broker.groups.consumer_protocol import (
    Subscription,
    decode_assignment,
    decode_subscription,
    encode_assignment,
    encode_subscription,
)
from broker.groups.offsets import TopicPartition
from wire.codec import DecodeError


def partitions(text: str) -> list[TopicPartition]:
    """`t0 t1 u0`."""
    return [TopicPartition(name[:-1], int(name[-1])) for name in text.split()]


def subscribed(**topics: str) -> dict[str, Subscription]:
    return {member: Subscription(tuple(names)) for member, names in topics.items()}


def test_ranges_are_those_of_kafkas_own_assignor():
    """The example of its documentation: two members, two topics of three partitions."""
    divided = assign_ranges(subscribed(c0="tu", c1="tu"), {"t": 3, "u": 3})
    assert {"c0": partitions("t0 t1 u0 u1"), "c1": partitions("t2 u2")} == divided


def test_round_robin_is_that_of_kafkas_own_assignor():
    """The examples of its documentation: equal subscriptions, and different ones."""
    divided = assign_round_robin(subscribed(c0="tu", c1="tu"), {"t": 3, "u": 3})
    assert {"c0": partitions("t0 t2 u1"), "c1": partitions("t1 u0 u2")} == divided
    divided = assign_round_robin(subscribed(c0="t", c1="tu", c2="tuv"), {"t": 1, "u": 2, "v": 3})
    assert {"c0": partitions("t0"), "c1": partitions("u0"), "c2": partitions("u1 v0 v1 v2")} == divided


def test_a_topic_that_is_gone_or_read_by_nobody_is_divided_by_nobody():
    for assign in ASSIGNORS.values():
        assert {"a": []} == assign(subscribed(a="t"), {})
        assert {"a": partitions("t0"), "b": []} == assign(subscribed(a="t", b=""), {"t": 1, "u": 9})


@pytest.mark.parametrize("seed", range(60))
def test_whatever_members_read_each_partition_is_read_once(seed):
    chance = random.Random(seed)
    counts = {topic: chance.randrange(7) for topic in "tuvw"}
    members = {f"m{n}": Subscription(tuple(chance.sample("tuvw", chance.randrange(5)))) for n in range(5)}
    read = {topic for said in members.values() for topic in said.topics}
    wanted = Counter(TopicPartition(topic, index) for topic in read for index in range(counts[topic]))
    for name, assign in ASSIGNORS.items():
        divided = assign(members, counts)
        assert wanted == Counter(one for own in divided.values() for one in own), (seed, name)
        assert all(one.topic in members[member].topics for member, own in divided.items() for one in own), (seed, name)


@pytest.mark.parametrize("seed", range(60))
def test_what_moves_is_given_up_before_it_is_given_and_nothing_else_moves(seed):
    """Cooperative members come and go: at no time two own a partition, and after some rounds all is even (KIP-429)."""
    chance = random.Random(seed)
    counts = {"t": chance.randrange(1, 12), "u": chance.randrange(1, 5)}
    owned: dict[str, set[TopicPartition]] = {}
    for step in range(12):
        if owned and chance.random() < 0.4:
            owned.pop(chance.choice(sorted(owned)))
        else:
            owned[f"m{step}"] = set()
        if not owned:
            continue
        for _ in range(3):
            said = {member: Subscription(("t", "u"), tuple(own), step) for member, own in owned.items()}
            divided = {member: set(own) for member, own in assign_sticky(said, counts).items()}
            for member, own in divided.items():
                others = [one for other, theirs in owned.items() if other != member for one in theirs]
                assert set() == own & set(others), (seed, step, "given while another owns it")
            owned = divided
        sizes = sorted(map(len, owned.values()))
        assert sizes[-1] - sizes[0] <= 1, (seed, step)
        assert sum(counts.values()) == sum(sizes), (seed, step)
        said = {member: Subscription(("t", "u"), tuple(own), step) for member, own in owned.items()}
        assert owned == {member: set(own) for member, own in assign_sticky(said, counts).items()}, (seed, "it rests")


def test_of_two_that_claim_a_partition_the_later_generation_owns_it():
    old, new = Subscription(("t",), tuple(partitions("t0 t1")), 3), Subscription(("t",), tuple(partitions("t0")), 4)
    assert {"a": partitions("t1"), "b": partitions("t0")} == assign_sticky({"a": old, "b": new}, {"t": 2})


def test_a_large_group_is_divided_evenly():
    members = {f"m{n:03}": Subscription(("t",), (TopicPartition("t", n),), 1) for n in range(300)}
    divided = assign_sticky(members, {"t": 3000})
    assert {10} == {len(own) for own in divided.values()}
    one_has_all = {"a": Subscription(("t",), tuple(TopicPartition("t", n) for n in range(3000)), 1)}
    newcomers = {f"m{n:03}": Subscription(("t",)) for n in range(299)}
    assert 10 == len(assign_sticky(one_has_all | newcomers, {"t": 3000})["a"])


def test_what_consumers_say_is_read_in_every_version_and_written_in_one_that_all_read():
    told = encode_subscription(["a", "b"])
    assert b"\x00\x01" == told[:2]
    assert Subscription(("a", "b")) == decode_subscription(told)
    own = b"\x00\x00\x00\x01\x00\x01a\x00\x00\x00\x01\x00\x00\x00\x07"
    in_3 = b"\x00\x03\x00\x00\x00\x01\x00\x01a\xff\xff\xff\xff" + own + b"\x00\x00\x00\x09\xff\xff"
    assert Subscription(("a",), (TopicPartition("a", 7),), 9) == decode_subscription(in_3)
    assert Subscription(("a",), (TopicPartition("a", 7),), 9) == decode_subscription(b"\x00\x04" + in_3[2:] + b"new")
    given = (TopicPartition("a", 0), TopicPartition("a", 2), TopicPartition("b", 1))
    assert given == decode_assignment(encode_assignment(reversed(given)))
    assert () == decode_assignment(b"")
    for wrong in (b"\x00", b"\xff\xff", b"\x00\x01\x7f\xff\xff\xff", told[:7]):
        with pytest.raises(DecodeError):
            decode_subscription(wrong)
