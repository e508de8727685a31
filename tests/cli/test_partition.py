"""What is the matter with partitions, where they go, who leads them; and never a record at risk unasked."""

import json

import pytest

from cli.byte_rate import parse_bytes_per_s


@pytest.fixture
def replication(cluster):
    return cluster.replication


def moved(replication, topic):
    return [tuple(row["replica_ids"]) for row in replication.rows() if row["topic_name"] == topic]


# -- list -------------------------------------------------------------------------------------------------------------


def test_what_is_the_matter_stands_beside_each_partition(kraft, replication):
    replication.place("ok", (1, 2, 3))
    replication.place("pay", (1, 2, 3), (2, 3, 1), (3, 1, 2))
    replication.placement["pay", 0]["in_sync_replica_ids"] = [1, 3]
    replication.placement["pay", 1] |= {"in_sync_replica_ids": [], "leader_id": None, "min_in_sync_replicas": 2}
    replication._begin(("pay", 2), [3, 2, 4])
    lines = kraft("partition", "list").out.splitlines()
    assert ["TOPIC", "PARTITION", "LEADER", "REPLICAS", "ISR", "STATE"] == lines[0].split()
    states = [line.split(maxsplit=5)[-1] for line in lines[1:]]
    assert ["ok", "under-replicated (2 of 3)"] == states[:2]
    assert "no leader, below min ISR (0 of 2)" in lines[3]
    assert "moving +4 -1" == states[3]


def test_only_partitions_in_trouble_are_listed_on_request(kraft, replication):
    replication.place("a", (1, 2), (2, 1))
    replication.placement["a", 1]["in_sync_replica_ids"] = [2]
    under = json.loads(kraft("partition", "list", "--under-replicated", "--format", "json").out)
    assert [("a", 1)] == [(row["topic_name"], row["partition_id"]) for row in under]
    assert "metadata" not in under[0]
    ended = kraft("partition", "list", "--unavailable")
    assert (0, "", "No such partition.\n") == ended
    assert "[]\n" == kraft("partition", "list", "--under-min-isr", "--format", "json").out
    assert 2 == len(kraft("partition", "list", "--unavailable", "--under-replicated").out.splitlines())
    assert 3 == kraft("partition", "list", "-t", "nothing").code
    assert 2 == len(kraft("partition", "list", "-t", "a", "--broker", "1", "--format", "ndjson").out.splitlines())


def test_wide_says_who_is_behind_and_by_how_much(kraft, replication):
    followers = [{"broker_id": 2, "lag": 1234}, {"broker_id": 3, "lag": None}]
    replication.place("a", (1, 2, 3), in_sync_replica_ids=[1], followers=followers, size_bytes=None)
    assert "2 by 1,234, 3 by ?" in kraft("partition", "list", "--format", "wide").out


# -- move -------------------------------------------------------------------------------------------------------------


def test_a_topic_moves_to_the_brokers_that_are_named(kraft, replication):
    replication.place("pay", (1, 2, 3), (2, 3, 1), (3, 1, 2))
    ended = kraft("partition", "move", "pay", "--to", "2,3,4")
    assert 0 == ended.code
    assert "Moving 3 partitions: 3 replicas to copy to broker 4.\n" == ended.err
    assert "pay-0  1,2,3 -> 2,3,4\n" in ended.out
    assert "Moved 3 partitions in" in ended.out
    assert all({2, 3, 4} == {*replicas} for replicas in moved(replication, "pay"))
    assert {2, 3, 4} == {row["leader_id"] for row in replication.rows()}
    assert {"PREFERRED"} == {election["election"] for election in replication.elections}
    assert "Nothing to move" in kraft("partition", "move", "pay", "--to", "2,3,4").out


def test_scripts_get_what_became_of_each(kraft, replication):
    replication.place("a", (1,), (1,))
    (row,) = json.loads(kraft("partition", "move", "a:1", "--to", "3", "--format", "json").out)
    assert {
        "topic_name": "a", "partition_id": 1, "replica_ids_before": [1], "replica_ids": [3], "state": "moved",
    } == row  # fmt: skip
    lines = kraft("partition", "move", "a", "--to", "4", "--format", "ndjson").out.splitlines()
    assert ["moved", "moved"] == [json.loads(line)["state"] for line in lines]
    assert "[]\n" == kraft("partition", "move", "a", "--to", "4", "--format", "json").out


def test_a_plan_can_be_looked_at_first(kraft, replication):
    replication.place("a", (1, 2))
    lines = kraft("partition", "move", "a", "--to", "3,4", "--dry-run").out.splitlines()
    assert ["TOPIC", "PARTITION", "FROM", "TO", "COPIED", "TO"] == lines[0].split()
    assert ["a", "0", "1,2", "3,4", "3,4"] == lines[1].split()
    assert [(1, 2)] == moved(replication, "a")


def test_a_factor_is_changed(kraft, replication):
    replication.place("a", (1,), (2,))
    assert 0 == kraft("partition", "move", "a", "-r", "3").code
    assert [3, 3] == [len(replicas) for replicas in moved(replication, "a")]


def test_a_throttle_is_for_this_move_and_is_lifted_after_it(kraft, replication):
    replication.place("a", (1,))
    ended = kraft("partition", "move", "a", "--to", "2", "--throttle", "50MB")
    assert "at most 50.0 MB/s.\n" in ended.err
    assert [50_000_000, None] == replication.throttles
    replication.throttle = 1000
    assert "at most 1.0 kB/s (set earlier" in kraft("partition", "move", "a", "--to", "3").err
    kraft("partition", "move", "a", "--to", "3", "--throttle", "none")
    assert replication.throttle is None
    assert 2 == kraft("partition", "move", "a", "--to", "3", "--throttle", "fast").code


def test_a_move_goes_on_without_the_command(kraft, replication):
    replication.looks_per_move = 10_000
    replication.place("a", (1,))
    ended = kraft("partition", "move", "a", "--to", "2", "--no-wait")
    assert (0, "1 partition on the way: kraft partition list --reassigning\n") == (ended.code, ended.out)
    replication.brokers[3]["is_fenced"] = False
    ended = kraft("partition", "move", "a", "--to", "3", "--timeout", "2")
    assert 5 == ended.code
    assert "1 partition not moved yet after 2 s" in ended.err
    assert "kraft partition move TOPIC --cancel" in ended.err


def test_a_move_is_given_up(kraft, replication, monkeypatch):
    replication.looks_per_move = 10_000
    replication.place("a", (1,), (2,))
    kraft("partition", "move", "a", "--to", "3", "--no-wait")
    assert "Cancelled the move of 1 partition.\n" == kraft("partition", "move", "a:0", "--cancel").out
    assert [(1,), (3, 2)] == moved(replication, "a")
    assert "Cancelled the move of 1 partition.\n" == kraft("partition", "move", "--all", "--cancel").out
    assert "Nothing is being moved.\n" == kraft("partition", "move", "--all", "--cancel").out


def test_a_move_that_somebody_gave_up_is_not_called_done(kraft, replication, cluster, monkeypatch):
    monkeypatch.setattr("cli.reassignment_watch.SETTLE_S", 0.0)
    replication.place("a", (1,))
    cluster.rules.append(lambda _, target: (200, {"data": []}) if "reassignment?" in target else None)
    ended = kraft("partition", "move", "a", "--to", "2")
    assert (4, "kraft: not moved: a-0 was cancelled\n") == (ended.code, ended.err.splitlines(keepends=True)[-1])


def test_what_is_refused_is_told_by_name_and_the_rest_is_done(kraft, replication):
    replication.place("a", (1,), (1,))
    replication.refused["a", 1] = "it may not"
    ended = kraft("partition", "move", "a", "--to", "2")
    assert 1 == ended.code
    assert "kraft: 1 partition could not be moved\nkraft: a-1: it may not\n" in ended.err
    assert [(2,), (1,)] == moved(replication, "a")


@pytest.mark.parametrize(
    ("arguments", "code", "part"),
    [
        (("a", "--to", "9"), 3, "there is no broker 9: registered are 1, 2, 3, 4"),
        (("a", "--to", "3"), 4, "broker 3 is fenced"),
        (("a", "--to", "2"), 4, "2 replicas of a need 2 brokers, and there are 1: add one"),
        (("b", "--to", "2"), 3, "topic 'b' does not exist"),
        (("a:5", "--to", "1,2"), 3, "topic a has no partition 5: it has 0 to 0"),
        (("a:x", "--to", "1,2"), 2, "expected TOPIC or TOPIC:PARTITION"),
        (("a", "--to", "1,1"), 2, "expected broker ids, each once"),
        (("a", "--to", "1", "--from", "1"), 2, "both --from and --to"),
        (("a",), 2, "Say where to"),
        ((), 2, "Name topics"),
        (("a", "--all", "--to", "1"), 2, "Name topics"),
    ],
)
def test_what_can_not_be_is_said_before_anything_is_done(kraft, replication, arguments, code, part):
    replication.place("a", (1, 2))
    replication.brokers[3]["is_fenced"] = True
    ended = kraft("partition", "move", *arguments)
    assert (code, True) == (ended.code, part in " ".join(ended.err.split()))
    assert [(1, 2)] == moved(replication, "a")


@pytest.mark.parametrize(
    ("text", "expected"),
    [("50MB", 50_000_000), ("10MiB/s", 10 << 20), ("500k", 500_000), ("1.5g", 1_500_000_000), ("1000", 1000)],
)
def test_rates_are_read_as_people_write_them(text, expected):
    assert expected == parse_bytes_per_s(text)


@pytest.mark.parametrize("text", ["", "0", "-1", "fast", "1 parsec", "1MBMB", "9" * 30])
def test_what_is_no_rate_is_refused(text):
    with pytest.raises(ValueError, match="bytes a second"):
        parse_bytes_per_s(text)


# -- leaders ----------------------------------------------------------------------------------------------------------


def test_a_leadership_is_handed_on(kraft, replication):
    replication.place("orders", (1, 2, 3))
    assert (
        "orders-0: broker 2 leads, broker 1 did\n" == kraft("partition", "transfer-leader", "orders-0", "--to", "2").out
    )
    ended = kraft("partition", "transfer-leader", "orders:0", "--to", "2", "--format", "json")
    assert [False] == [row["changed"] for row in json.loads(ended.out)]
    assert "DESIGNATED" == replication.elections[-1]["election"]
    assert 2 == kraft("partition", "transfer-leader", "--to", "2").code
    assert 2 == kraft("partition", "transfer-leader", "orders", "--to", "2").code
    replication.refused["orders", 0] = "broker 3 is not in sync"
    ended = kraft("partition", "transfer-leader", "orders-0", "--to", "3")
    assert (1, True) == (ended.code, "orders-0: broker 3 is not in sync" in ended.err)


def test_the_first_replicas_lead_again_everywhere_or_of_what_is_named(kraft, replication):
    replication.place("a", (1, 2), (2, 1))
    replication.place("a-0", (3, 2))
    assert "The first replicas lead everywhere already.\n" == kraft("partition", "transfer-leader", "--preferred").out
    assert "partitions" not in replication.elections[-1]
    kraft("partition", "transfer-leader", "--preferred", "a")
    assert 2 == len(replication.elections[-1]["partitions"])
    kraft("partition", "transfer-leader", "--preferred", "a-0")
    assert ["a-0"] == [named["topic_name"] for named in replication.elections[-1]["partitions"]]
    kraft("partition", "transfer-leader", "--preferred", "a-1")
    assert [{"topic_name": "a", "partition_id": 1}] == replication.elections[-1]["partitions"]
    assert 3 == kraft("partition", "transfer-leader", "--preferred", "b").code


def test_records_are_given_up_only_by_somebody_who_says_so(kraft, replication):
    replication.place("a", (1, 2), in_sync_replica_ids=[])
    ended = kraft("partition", "transfer-leader", "a-0", "--unclean")
    assert 1 == ended.code
    assert "lose these for good? Nobody is there to answer: say -y" in ended.err
    assert [] == replication.elections
    assert 0 == kraft("partition", "transfer-leader", "a-0", "--unclean", "-y").code
    assert (True, "UNCLEAN") == (replication.elections[0]["accept_data_loss"], replication.elections[0]["election"])


# -- brokers ----------------------------------------------------------------------------------------------------------


def test_brokers_are_listed_with_what_they_hold(kraft, replication):
    replication.place("a", (1, 2), (2, 1))
    replication.brokers[3]["is_fenced"] = True
    replication.brokers[4]["is_draining"] = True
    lines = kraft("broker", "list").out.splitlines()
    assert "1  in service      1         2" in lines[1]
    assert ["3", "fenced"] == lines[3].split()[:2]
    assert ["4", "stopping"] == lines[4].split()[:2]
    assert 4 == len(json.loads(kraft("broker", "list", "--format", "json").out))


def test_a_broker_is_emptied_stopped_and_forgotten(kraft, replication):
    replication.place("a", (4, 1), (1, 4), (2, 3))
    ended = kraft("broker", "remove", "4")
    assert (4, "kraft: broker 4 holds 2 replicas: kraft broker drain 4\n") == (ended.code, ended.err)
    assert 0 == kraft("broker", "drain", "4").code
    assert not any(4 in replicas for replicas in moved(replication, "a"))
    assert "Nothing to move" in kraft("broker", "drain", "4").out
    ended = kraft("broker", "remove", "4")
    assert (4, "kraft: broker 4 is in service: stop its node first\n") == (ended.code, ended.err)
    replication.brokers[4]["is_fenced"] = True
    assert "Removed broker 4.\n" == kraft("broker", "remove", "4").out
    assert 4 not in replication.brokers
    assert 3 == kraft("broker", "remove", "4").code
    assert 3 == kraft("broker", "drain", "9").code


def test_what_is_created_on_a_leaving_broker_meanwhile_leaves_too(kraft, replication, cluster):
    replication.place("a", (4,))
    late = [lambda: replication.place("b", (4,))]

    def create_meanwhile(_, target):
        if "reassignment?" in target and late:
            late.pop()()

    cluster.rules.append(create_meanwhile)
    assert 0 == kraft("broker", "drain", "4").code
    assert not any(4 in row["replica_ids"] for row in replication.rows())


def test_a_script_that_drains_gets_one_document(kraft, replication):
    replication.place("a", (4, 1))
    assert ["moved"] == [row["state"] for row in json.loads(kraft("broker", "drain", "4", "--format", "json").out)]
