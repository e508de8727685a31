"""Records out: from where to where one wishes, each once, in the form one wishes."""

import json
import threading

import pytest

from cli.offsets import Point, Span, parse_span
from cli.record_format import ConsumedRecord, template

NOW_MS = 1_700_000_000_000


def fill(cluster, name="a", partitions=2, records=10):
    cluster.add_topic(name, partitions)
    for i in range(records):
        cluster.add_record(name, i % partitions, f"v{i}", key=f"k{i}")


def test_from_the_beginning_prints_what_is_there_and_ends(kraft, cluster):
    fill(cluster)
    ended = kraft("consume", "a", "--from-beginning")
    assert 0 == ended.code
    assert sorted(f"v{i}" for i in range(10)) == sorted(ended.out.split())
    assert "" == ended.err


@pytest.mark.parametrize(
    ("span", "expected"),
    [
        ("start", ["v0", "v1", "v2", "v3"]),
        ("end", []),
        ("2", ["v2", "v3"]),
        ("+1", ["v1", "v2", "v3"]),
        ("-1", ["v3"]),
        ("-100", ["v0", "v1", "v2", "v3"]),
        ("1:3", ["v1", "v2"]),
        (":2", ["v0", "v1"]),
        ("2:", ["v2", "v3"]),
        ("2:100", ["v2", "v3"]),
        ("100", []),
        ("@2", ["v2", "v3"]),
        ("@1:@3", ["v1", "v2"]),
    ],
)
def test_offsets_say_where_it_begins_and_ends(kraft, cluster, span, expected):
    cluster.add_topic("a", 1)
    for i in range(4):
        cluster.add_record("a", 0, f"v{i}")
    ended = kraft("consume", "a", "-o", span)
    assert (0, expected) == (ended.code, ended.out.split())


def test_n_ends_it_and_waits_for_what_is_not_there_yet(kraft, cluster):
    fill(cluster, records=3)
    assert 2 == len(kraft("consume", "a", "--from-beginning", "-n", "2").out.split())
    timer = threading.Timer(0.2, lambda: cluster.add_record("a", 0, "late"))
    timer.start()
    ended = kraft("consume", "a", "--from-beginning", "-n", "4")
    timer.join()
    assert "late" in ended.out.split()
    assert 4 == len(ended.out.split())


def test_without_anything_new_records_are_followed(kraft, cluster):
    fill(cluster)
    looks = []

    def once_it_waits(_, target):
        if "records:consume" in target:
            looks.append(target)
            if len(looks) == 2:
                cluster.add_record("a", 1, "new")

    cluster.rules.append(once_it_waits)
    assert ["new"] == kraft("consume", "a", "-n", "1").out.split()


def test_silence_for_the_timeout_ends_with_5(kraft, cluster):
    fill(cluster)
    ended = kraft("consume", "a", "--timeout", "2")
    assert (5, "kraft: no record came for 2 s\n") == (ended.code, ended.err)


def test_a_template_prints_what_it_names(kraft, cluster):
    fill(cluster, records=1)
    ended = kraft("consume", "a", "-o", "start", "-f", r"%t %p %o %k %v %T %K %%\t\x41\n")
    assert "a 0 0 k0 v0 0 2 %\tA\n" == ended.out


def test_values_are_bytes_and_stay_so():
    record = ConsumedRecord("t", 1, 2, 3, None, b"\xff\0", (("h", b"\xfe"), ("n", None)))
    assert b"\xff\0|-1|h=\xfe,n=\n" == template(r"%v|%K|%h\n")(record)
    assert b"\xff\0\n" == template(r"%v\n")(record)


@pytest.mark.parametrize("text", ["%x", "%", "\\q", "\\"])
def test_a_wrong_template_is_a_usage_error(kraft, cluster, text):
    fill(cluster)
    ended = kraft("consume", "a", "-f", text)
    assert 2 == ended.code
    assert "-f:" in ended.err


def test_json_is_one_array_and_ndjson_a_document_a_line(kraft, cluster):
    fill(cluster, records=3)
    found = json.loads(kraft("consume", "a", "-o", "start", "--format", "json").out)
    assert {"v0", "v1", "v2"} == {record["value"] for record in found}
    lines = kraft("consume", "a", "-o", "start", "--format", "ndjson").out.splitlines()
    assert {"k0", "k1", "k2"} == {json.loads(line)["key"] for line in lines}
    assert [] == json.loads(kraft("consume", "a", "-o", "end:end", "--format", "json").out)


def test_several_topics_and_some_partitions(kraft, cluster):
    fill(cluster, "a", 2, 4)
    fill(cluster, "b", 2, 4)
    ended = kraft("consume", "a", "b", "a", "-p", "1", "--from-beginning", "-f", "%t%p%v\n")
    assert ["a1v1", "a1v3", "b1v1", "b1v3"] == ended.out.split()
    assert 3 == kraft("consume", "a", "-p", "2", "--from-beginning").code
    assert 2 == kraft("consume", "a", "-p", "one").code


def test_what_retention_took_is_told_and_passed_over(kraft, cluster):
    fill(cluster, partitions=1, records=6)
    real = cluster._consume
    seen = []

    def retention_first(name, document):
        if not seen:
            seen.append(1)
            del cluster.topics["a"][0][:4]
        return real(name, document)

    cluster._consume = retention_first
    ended = kraft("consume", "a", "--from-beginning")
    assert ["v4", "v5"] == ended.out.split()
    assert "offset 0 is not there, going on at 4" in ended.err


def test_partitions_without_a_leader_delay_nothing_and_are_told_in_the_end(kraft, cluster, monkeypatch):
    monkeypatch.setattr("cli.consume.UNREADABLE_PATIENCE_S", 0.3)
    fill(cluster, partitions=2, records=4)
    cluster.leaderless = {1}
    ended = kraft("consume", "a", "--from-beginning")
    assert 5 == ended.code
    assert ["v0", "v2"] == ended.out.split()
    assert "partition 1" in ended.err


def test_a_leader_that_comes_back_is_read(kraft, cluster):
    fill(cluster, partitions=2, records=4)
    cluster.leaderless = {1}
    timer = threading.Timer(0.4, cluster.leaderless.clear)
    timer.start()
    ended = kraft("consume", "a", "--from-beginning")
    timer.join()
    assert (0, ["v0", "v1", "v2", "v3"]) == (ended.code, sorted(ended.out.split()))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("@1735689600000", Span(Point("timestamp", 1735689600000))),
        ("@1735689600", Span(Point("timestamp", 1735689600000))),
        ("@2025-01-01T00:00:00Z", Span(Point("timestamp", 1735689600000))),
        ("@2025-01-01T00:00:00Z:end", Span(Point("timestamp", 1735689600000), Point("end"))),
        (
            "@2025-01-01T00:00:00+00:00:2025-01-01T00:00:01Z",
            Span(*[Point("timestamp", 1735689600000 + i) for i in (0, 1000)]),
        ),
        ("@-1h", Span(Point("timestamp", NOW_MS - 3_600_000))),
        ("@-90s:-500ms", Span(Point("timestamp", NOW_MS - 90_000), Point("timestamp", NOW_MS - 500))),
        ("@start:@-1d", Span(Point("start"), Point("timestamp", NOW_MS - 86_400_000))),
        ("earliest:latest", Span(Point("start"), Point("end"))),
    ],
)
def test_times_are_read_as_people_write_them(text, expected):
    assert expected == parse_span(text, now_ms=NOW_MS)


@pytest.mark.parametrize("text", ["", "x", "1:x", "@", "@x", "@1h:x", "+", "--1", "1.5"])
def test_what_is_no_offset_is_refused_with_the_grammar(kraft, cluster, text):
    fill(cluster)
    ended = kraft("consume", "a", "-o", text)
    assert 2 == ended.code
    assert "-o" in ended.err


def test_beginning_twice_is_a_usage_error(kraft, cluster):
    fill(cluster)
    assert 2 == kraft("consume", "a", "-o", "1", "--from-beginning").code


@pytest.mark.parametrize("partitions", [1, 2])
def test_what_the_disk_has_lost_is_told_and_read_past_and_the_exit_code_says_so(kraft, cluster, partitions):
    fill(cluster, partitions=partitions, records=5 * partitions)
    cluster.damaged = {0: (1, 3)}
    ended = kraft("consume", "a", "--from-beginning", "-p", "0", "-f", "%o\\n")
    assert (1, ["0", "3", "4"]) == (ended.code, ended.out.split())
    assert "offsets 1 to 2 are damaged on its disk, going on at 3" in ended.err
    assert "2 records of a are lost" in ended.err
    assert 1 == kraft("consume", "a", "--from-beginning").code


def test_a_new_leader_that_is_a_moment_behind_is_waited_for_and_nothing_is_printed_twice(kraft, cluster):
    """The offset that comes next was readable on the leader that died; the next one can't vouch for it yet."""
    cluster.add_topic("a", 1)
    for i in range(3):
        cluster.add_record("a", 0, f"v{i}")
    looks = []

    def behind_for_a_while(_, target):
        if "records:consume" not in target and "/offset" not in target:
            return None
        looks.append(target)
        if "/offset" in target:
            return 200, {"earliest_offset": 0, "latest_offset": 1}
        if 2 < len(looks) < 9:
            return 416, {"error_code": 41601, "message": "offset 3 is out of range"}
        if len(looks) == 9:
            cluster.add_record("a", 0, "v3")
        return None

    cluster.rules.append(behind_for_a_while)
    ended = kraft("consume", "a", "--from-beginning", "-n", "4")
    assert (0, ["v0", "v1", "v2", "v3"]) == (ended.code, ended.out.split())
    assert "offset 3 is not there yet; trying again" in ended.err


def test_what_an_unclean_election_gave_up_is_told_and_read_past(kraft, cluster, monkeypatch):
    monkeypatch.setattr("cli.consumer.AHEAD_PATIENCE_S", 0.1)
    cluster.add_topic("a", 1)
    for i in range(3):
        cluster.add_record("a", 0, f"v{i}")
    cut = []

    def give_up(method, target):
        if "records:consume" in target:
            cut.append(target)
            if len(cut) == 2:
                del cluster.topics["a"][0][1:]
                cluster.add_record("a", 0, "other")
        return

    cluster.rules.append(give_up)
    ended = kraft("consume", "a", "--from-beginning", "--follow", "--timeout", "3")
    assert 5 == ended.code
    assert ["v0", "v1", "v2"] == ended.out.split()[:3]
    assert "offset 3 is not there, going on at 2" in ended.err
