"""Lines in, records out: nothing added, nothing lost, and an exact account when something fails."""

import json
import os
import threading

import pytest

from cli.failure import Failure
from cli.line_source import LINE_BYTES_MAX, RUN_RECORDS, LineFormat, runs
from wire.partitioner import partition_for_key


def unavailable(outcome: str):
    return 503, {"error_code": 50003, "message": "the leader is gone", "outcome": outcome}


def test_each_line_becomes_a_record_byte_for_byte(kraft, cluster):
    cluster.add_topic("a", 1)
    ended = kraft("produce", "a", stdin=b"one\n\n two \r\nthree\tx\nlast without newline")
    assert 0 == ended.code
    assert ["one", "", " two \r", "three\tx", "last without newline"] == cluster.values("a")
    assert ended.out.startswith("Wrote 5 records (")


def test_keys_go_where_every_kafka_client_sends_them(kraft, cluster):
    cluster.add_topic("a", 6)
    stdin = b"".join(b"key-%d:value:%d\n" % (i % 20, i) for i in range(200))
    assert 0 == kraft("produce", "a", "-K", ":", stdin=stdin).code
    for partition, log in enumerate(cluster.topics["a"]):
        for record in log:
            assert partition == partition_for_key(record["key"]["data"].encode(), 6)
    assert {f"value:{i}" for i in range(200)} == set(cluster.values("a"))


def test_one_key_and_one_partition_for_all(kraft, cluster):
    cluster.add_topic("a", 3)
    assert 0 == kraft("produce", "a", "-k", "same", "-p", "2", stdin=b"x\ny\n").code
    assert ["same", "same"] == [record["key"]["data"] for record in cluster.topics["a"][2]]
    assert 3 == kraft("produce", "a", "-p", "3", stdin=b"x\n").code
    assert 2 == kraft("produce", "a", "-k", "x", "-K", ":", stdin=b"x\n").code


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_batches_are_compressed_as_asked(kraft, cluster, codec):
    cluster.add_topic("a", 1)
    assert 0 == kraft("produce", "a", "-z", codec, stdin=b"x\n" * 1000).code
    assert 1000 == len(cluster.values("a"))


def test_a_script_gets_the_offsets(kraft, cluster):
    cluster.add_topic("a", 1)
    cluster.add_record("a", 0, "before")
    ended = kraft("produce", "a", "--format", "json", stdin=b"x\ny\n")
    assert [{"partition_id": 0, "records": 2, "first_offset": 1, "last_offset": 2}] == json.loads(ended.out)[
        "partitions"
    ]
    assert "" == kraft("produce", "a", "-q", stdin=b"x\n").out


def test_acks_are_passed_on(kraft, cluster):
    cluster.add_topic("a", 1)
    kraft("produce", "a", "--acks", "1", stdin=b"x\n")
    assert cluster.requests[-1][1].endswith("/records?acks=1")


def test_a_failure_tells_what_is_safe_and_where_to_resume(kraft, cluster):
    cluster.add_topic("a", 1)
    writes: list[str] = []

    def third_write_fails(method, target):
        if method != "POST" or not target.endswith("/records?acks=1"):
            return None
        writes.append(target)
        return unavailable("not_written") if len(writes) > 2 else None

    cluster.rules.append(third_write_fails)
    stdin = b"".join(b"%d\n" % i for i in range(3 * RUN_RECORDS))
    ended = kraft("produce", "a", "--acks", "1", "--timeout", "4", stdin=stdin)
    assert 5 == ended.code
    assert "the leader is gone" in ended.err
    assert "20,000 records acknowledged; resume at line 20001 (tail -n +20001)" in ended.err
    cluster.rules.clear()
    first = int(ended.err.split("tail -n +")[1].split(")")[0])
    assert 0 == kraft("produce", "a", stdin=b"".join(stdin.splitlines(keepends=True)[first - 1 :])).code
    assert [str(i) for i in range(3 * RUN_RECORDS)] == cluster.values("a")


def test_without_a_producer_id_what_may_have_been_written_is_not_sent_again(kraft, cluster):
    """Acks below all, and nodes from before idempotent producers."""
    cluster.add_topic("a", 1)
    cluster.rules.append(lambda _, target: unavailable("unknown") if "/records" in target else None)
    for arguments, gives_producer_ids in ((("--acks", "1"), True), ((), False)):
        cluster.gives_producer_ids = gives_producer_ids
        cluster.requests.clear()
        ended = kraft("produce", "a", *arguments, stdin=b"x\ny\n")
        assert 5 == ended.code
        assert "lines 1 to 2" in ended.err
        assert "may or may not have been written" in ended.err
        assert 1 == sum("/records" in target for _, target in cluster.requests)


def test_without_a_producer_id_a_broken_connection_is_not_sent_again_either(kraft, cluster):
    cluster.add_topic("a", 1)
    cluster.rules.append(lambda method, _: "drop" if method == "POST" else None)
    ended = kraft("produce", "a", "--acks", "1", stdin=b"x\ny\n")
    assert 5 == ended.code
    assert "0 records acknowledged" in ended.err
    assert 1 == sum(method == "POST" for method, _ in cluster.requests)


def test_an_answer_that_is_lost_costs_no_record_and_makes_no_duplicate(kraft, cluster):
    cluster.add_topic("a", 1)
    cluster.hang_up_after = [True, False, True, True]
    stdin = b"".join(b"%d\n" % i for i in range(3 * RUN_RECORDS))
    ended = kraft("produce", "a", "--format", "json", stdin=stdin)
    assert 0 == ended.code
    assert [str(i) for i in range(3 * RUN_RECORDS)] == cluster.values("a")
    (receipt,) = json.loads(ended.out)["partitions"]
    assert (0, 3 * RUN_RECORDS - 1) == (receipt["first_offset"], receipt["last_offset"])


def test_a_failover_is_waited_out_and_what_was_in_doubt_stays_with_its_partition(kraft, cluster):
    """The answer is lost, then there is no leader for a while: another partition would get the records twice."""
    cluster.add_topic("a", 3)
    cluster.hang_up_after = [True]
    left = [unavailable("not_written")] * 3

    def leaderless_afterwards(_, target):
        return left.pop() if "/records" in target and sum(map(len, cluster.topics["a"])) and left else None

    cluster.rules.append(leaderless_afterwards)
    assert 0 == kraft("produce", "a", stdin=b"x\n").code
    assert ["x"] == cluster.values("a")
    assert [] == left


def test_nobody_there_for_a_moment_is_waited_out(kraft, cluster):
    cluster.add_topic("a", 1)
    left = ["drop"] * 5
    cluster.rules.append(lambda _, target: left.pop() if "/records" in target and left else None)
    assert 0 == kraft("produce", "a", stdin=b"x\n").code
    assert ["x"] == cluster.values("a")


def test_doubt_that_does_not_end_is_told(kraft, cluster):
    cluster.add_topic("a", 1)
    cluster.rules.append(lambda _, target: unavailable("unknown") if "/records" in target else None)
    ended = kraft("produce", "a", "--timeout", "2", stdin=b"x\ny\n")
    assert 5 == ended.code
    assert "lines 1 to 2: the leader is gone; they may or may not have been written" in ended.err


def test_a_producer_that_the_cluster_has_forgotten_gets_another_id(kraft, cluster):
    cluster.add_topic("a", 1)
    forgotten = {"error_code": 40903, "message": "unknown producer", "outcome": "not_written"}
    left = [(409, forgotten)]
    cluster.rules.append(lambda _, target: left.pop() if "/records" in target and left else None)
    assert 0 == kraft("produce", "a", stdin=b"x\n").code
    assert 2 == sum(target.endswith("/producers") for _, target in cluster.requests)


def test_what_is_there_from_before_counts_as_written(kraft, cluster):
    cluster.add_topic("a", 1)
    before = {"error_code": 40902, "message": "written before", "outcome": "written"}
    left = [(409, before)]
    cluster.rules.append(lambda _, target: left.pop() if "/records" in target and left else None)
    assert "Wrote 1 record" in kraft("produce", "a", stdin=b"x\n").out


def test_a_partition_without_a_leader_is_left_out(kraft, cluster):
    cluster.add_topic("a", 3)
    cluster.leaderless = {0, 1}
    assert 0 == kraft("produce", "a", stdin=b"x\n").code
    assert ["x"] == [record["value"]["data"] for record in cluster.topics["a"][2]]


def test_a_leader_that_goes_meanwhile_costs_its_partitions_their_turn(kraft, cluster):
    cluster.add_topic("a", 3)
    gone = ("/partitions/0/", "/partitions/1/")
    cluster.rules.append(
        lambda _, target: (
            unavailable("not_written") if "/records" in target and any(part in target for part in gone) else None
        )
    )
    assert 0 == kraft("produce", "a", stdin=b"x\n").code
    assert ["x"] == [record["value"]["data"] for record in cluster.topics["a"][2]]


def test_a_batch_that_is_too_large_is_halved_and_a_record_is_refused(kraft, cluster):
    cluster.add_topic("a", 1)
    real = cluster.answer

    def small_only(method, target, body):
        if method == "POST" and len(body) > 400:
            cluster.requests.append((method, target))
            return 413, {"error_code": 413, "message": "the record is above 400 bytes", "outcome": "not_written"}
        return real(method, target, body)

    cluster.answer = small_only
    lines = [b"%d" % i for i in range(500)]
    assert 0 == kraft("produce", "a", stdin=b"\n".join(lines)).code
    assert [line.decode() for line in lines] == cluster.values("a")
    ended = kraft("produce", "a", stdin=b"small\n" + b"x" * 1000)
    assert 1 == ended.code
    assert "line 2: the record is above 400 bytes" in ended.err
    assert "1 record acknowledged; resume at line 2" in ended.err


def test_a_line_without_its_key_stops_before_it_and_says_which(kraft, cluster):
    cluster.add_topic("a", 1)
    ended = kraft("produce", "a", "-K", "=", stdin=b"k=v\nnothing here\n")
    assert 1 == ended.code
    assert "line 2 has no key separator '='" in ended.err


def test_a_topic_that_is_not_there_ends_with_3(kraft):
    assert 3 == kraft("produce", "nothing", stdin=b"x\n").code


def test_a_slow_writer_is_not_kept_waiting():
    reader, writer = os.pipe()
    found = runs(reader, LineFormat())
    os.write(writer, b"one\ntwo\nthr")
    assert [b"one", b"two"] == [line.value for line in next(found)]
    os.write(writer, b"ee\n")
    assert [(3, b"three")] == [(line.number, line.value) for line in next(found)]
    os.close(writer)
    assert [] == list(found)
    os.close(reader)


def test_a_line_without_an_end_is_refused_before_it_fills_the_memory():
    reader, writer = os.pipe()

    def write_for_ever() -> None:
        try:
            for _ in range(LINE_BYTES_MAX // 65536 + 100):
                os.write(writer, b"x" * 65536)
        except BrokenPipeError:
            pass
        os.close(writer)

    thread = threading.Thread(target=write_for_ever)
    thread.start()
    with pytest.raises(Failure, match="line 1 is longer than 64 MiB"):
        list(runs(reader, LineFormat()))
    os.close(reader)
    thread.join(10)


def test_tombstones_are_written_on_request():
    line_format = LineFormat(key_separator=b":", null_marker=b"NULL")
    assert (1, b"k", None) == line_format.parse(1, b"k:NULL")
    assert (1, None, b"v") == line_format.parse(1, b"NULL:v")
