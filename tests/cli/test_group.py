"""Groups on the command line against a real node: what one sees, sets anew and reads as a member."""

import contextlib
import io
import json
import signal
import threading

import pytest

from cli.bootstrap import parse_server
from cli.data_directory import read_cluster
from cli.group_consumer import GroupConsumer
from cli.http_client import HttpClient
from cli.main import run
from tests.cli.test_real_cluster import Cluster

HEADINGS = "GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    found = Cluster(tmp_path_factory.mktemp("groups"))
    found.run("up", "--any-port", "-q", "--set", "offsets.topic.num.partitions=3")
    yield found
    found.run("down", "--timeout", "10")
    found.run("purge", "-y")


def rows(cluster, *arguments):
    code, out, err = here(cluster, "group", *arguments, "--format", "json")
    assert 0 == code, err
    return json.loads(out)


def make(cluster, *arguments):
    code, _, err = here(cluster, "topic", "create", *arguments)
    assert 0 == code, err


def refusal(cluster, *arguments):
    """Exit code and stderr of a command that fails."""
    code, _, err = here(cluster, *arguments)
    return code, err


def here(cluster, *arguments):
    """A command in this process: exit code, stdout, stderr. A process of its own takes ten times as long."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setenv("KRAFT_DATA_DIR", cluster.environment["KRAFT_DATA_DIR"])
        patch.delenv("KRAFT_BOOTSTRAP_SERVER", raising=False)
        before = signal.getsignal(signal.SIGTERM)
        try:
            code = run(list(arguments))
        finally:
            signal.signal(signal.SIGTERM, before)
    return code, out.getvalue(), err.getvalue()


def member(cluster, topic, group, count):
    """A member that has printed `count` records."""
    consumer = cluster.open("consume", topic, "-g", group, "--from-beginning")
    assert consumer.stdout is not None
    lines = [consumer.stdout.readline() for _ in range(count)]
    return consumer, lines


def test_a_group_goes_on_where_it_was_and_tells_how_far_it_is(cluster):
    make(cluster, "orders", "-p", "2")
    cluster.run("produce", "orders", "-p", "0", stdin=b"a\nb\nc\n")
    cluster.run("produce", "orders", "-p", "1", stdin=b"x\ny\n")
    assert 3 == len(cluster.run("consume", "orders", "-g", "billing", "--from-beginning", "-n", "3").split())
    text = here(cluster, "group", "describe", "billing")[1].splitlines()
    assert HEADINGS.split() == text[0].split()
    described = rows(cluster, "describe", "billing")
    assert [3, 2] == [sum(one[key] for one in described) for key in ("current_offset", "lag")], "of both partitions"
    assert 2 == len(cluster.run("consume", "orders", "-g", "billing", "-n", "2").split())
    assert {(3, 0), (2, 0)} == {(one["current_offset"], one["lag"]) for one in rows(cluster, "describe", "billing")}
    assert [("billing", "EMPTY", 0)] == [
        (one["consumer_group_id"], one["state"], one["members_count"]) for one in rows(cluster, "list")
    ]
    assert "billing\n" == here(cluster, "group", "list", "-q")[1]
    assert [] == rows(cluster, "list", "--state", "stable")


def test_an_empty_group_is_set_anew_and_a_dry_run_changes_nothing(cluster):
    make(cluster, "again", "-p", "2")
    cluster.run("produce", "again", "-p", "0", stdin=b"a\nb\nc\n")
    cluster.run("consume", "again", "-g", "sought", "--from-beginning", "-n", "3")

    def seek(*arguments):
        return [(one["old_offset"], one["new_offset"]) for one in rows(cluster, "seek", "sought", *arguments)]

    assert [(3, 0), (0, 0)] == seek("--to", "start", "--dry-run")
    assert [(3, 2), (0, 0)] == seek("--by", "-1")
    assert [(2, 1), (0, 0)] == seek("--to", "1", "-t", "again")
    assert [(1, 3)] == seek("--to", "end", "-t", "again:0")
    assert [(3, 0)] == seek("--to", "@-1h", "-t", "again:0")
    assert b"a\nb\n" == cluster.run("consume", "again", "-g", "sought", "-n", "2")
    assert refusal(cluster, "group", "seek", "sought")[0] == 2
    assert 3 == refusal(cluster, "group", "seek", "nobody", "--to", "end")[0]
    assert "Deleted group sought.\n" == here(cluster, "group", "delete", "sought")[1]
    assert 3 == refusal(cluster, "group", "delete", "sought")[0]
    assert 0 == refusal(cluster, "group", "delete", "sought", "--if-exists")[0]
    assert refusal(cluster, "group", "describe", "sought") == (
        3,
        "kraft: there is no group 'sought': it has no members and no committed offsets; check its name\n",
    )


def test_a_member_commits_what_it_printed_and_hands_over_on_ctrl_c(cluster):
    make(cluster, "live", "-p", "2")
    cluster.run("produce", "live", "-p", "0", stdin=b"a\nb\n")
    cluster.run("produce", "live", "-p", "1", stdin=b"c\n")
    consumer, lines = member(cluster, "live", "shared", 3)
    with consumer:
        assert {b"a\n", b"b\n", b"c\n"} == set(lines)
        (described,) = rows(cluster, "describe", "shared", "--members")
        assert (2, ["live-0", "live-1"]) == (described["partitions_count"], described["assignment"])
        code, message = refusal(cluster, "group", "seek", "shared", "--to", "start")
        assert 4 == code
        assert "has a member now: stop its consumers first" in message
        assert 4 == refusal(cluster, "group", "delete", "shared")[0]
        consumer.send_signal(signal.SIGINT)
        assert 130 == consumer.wait(30)
        assert consumer.stderr is not None
        assert b"" == consumer.stderr.read()
    (state,) = rows(cluster, "describe", "shared", "--state")
    assert ("EMPTY", 0) == (state["state"], state["members_count"]), "it has left, nobody waits for its session"
    assert {(2, 0), (1, 0)} == {(one["current_offset"], one["lag"]) for one in rows(cluster, "describe", "shared")}


def test_a_commit_that_ctrl_c_interrupts_is_made_on_the_way_out(cluster, monkeypatch):
    make(cluster, "cut")
    cluster.run("produce", "cut", stdin=b"a\nb\n")
    request, interruptions = HttpClient.request, [KeyboardInterrupt()]

    def interrupted(client, method, path, **options):
        if path.endswith("/offsets") and interruptions:
            raise interruptions.pop()
        return request(client, method, path, **options)

    monkeypatch.setattr(HttpClient, "request", interrupted)
    (node,) = read_cluster(cluster.folder / "kraft-data").nodes
    client = HttpClient([parse_server(f"127.0.0.1:{node.http_port}")], timeout_s=60)
    pulled = []
    with (
        contextlib.closing(client),
        contextlib.suppress(KeyboardInterrupt),
        GroupConsumer(client, "cut-off", ["cut"], reset="earliest", notice=print) as consumer,
    ):
        while len(pulled) < 2:
            pulled += consumer.pull(wait_ms=500, max_records=None)
        consumer.printed()
        consumer.commit()
    assert [] == interruptions
    assert [(2, 0)] == [(one["current_offset"], one["lag"]) for one in rows(cluster, "describe", "cut-off")]


def test_who_has_waited_for_news_and_printed_nothing_yet_misses_none(cluster):
    """The group begins where it waited: whoever reads on would begin at what is the end by then."""
    make(cluster, "news")
    cluster.run("produce", "news", stdin=b"old\n")
    for _ in range(30):
        assert 5 == refusal(cluster, "consume", "news", "-g", "waits", "--timeout", "1")[0]
        if 0 == here(cluster, "group", "describe", "waits")[0]:
            break
    assert [(1, 0)] == [(one["current_offset"], one["lag"]) for one in rows(cluster, "describe", "waits")]
    cluster.run("produce", "news", stdin=b"new\n")
    assert b"new\n" == cluster.run("consume", "news", "-g", "waits", "-n", "1", "--timeout", "30")


@pytest.mark.long
def test_two_members_share_the_partitions_and_print_each_record_once(cluster):
    make(cluster, "split", "-p", "4")
    members = [cluster.open("consume", "split", "-g", "pair", "--from-beginning") for _ in range(2)]
    found: list[bytes] = []
    readers = [threading.Thread(target=lambda one=one: found.extend(one.stdout)) for one in members]
    for reader in readers:
        reader.start()
    try:
        while [2, 2] != [one["partitions_count"] for one in _members_of(cluster, "pair")]:
            assert all(one.poll() is None for one in members)
        for partition in range(4):
            lines = b"".join(b"%d:%d\n" % (partition, number) for number in range(5))
            cluster.run("produce", "split", "-p", str(partition), stdin=lines)
        while 0 != sum(1 if one["lag"] is None else one["lag"] for one in rows(cluster, "describe", "pair")):
            assert all(one.poll() is None for one in members)
    finally:
        for one in members:
            one.send_signal(signal.SIGTERM)
            assert 130 == one.wait(30)
        for reader in readers:
            reader.join()
        for one in members:
            one.stdout.close()
            one.stderr.close()
    assert sorted(b"%d:%d\n" % (partition, number) for partition in range(4) for number in range(5)) == sorted(found)


def _members_of(cluster, group):
    listed = {one["consumer_group_id"] for one in rows(cluster, "list")}
    return rows(cluster, "describe", group, "--members") if group in listed else []


def test_what_a_group_decides_is_not_asked_for_beside_it(cluster):
    for arguments, said in (
        (["-p", "0"], "the group says who reads which partitions"),
        (["-o", "47"], "kraft group seek"),
        (["-o", "start", "--from-beginning"], "use one of them"),
    ):
        code, message = refusal(cluster, "consume", "t", "-g", "g", *arguments)
        assert 2 == code
        assert said in message
    assert 3 == refusal(cluster, "consume", "nothing", "-g", "g")[0], "who subscribes to nothing waits for ever"
    make(cluster, "unread")
    assert 5 == refusal(cluster, "consume", "unread", "-g", "quiet", "--timeout", "1")[0]
