"""The command line against real nodes: what a person does in the first five minutes, and how commands end."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
KRAFT = [sys.executable, "-P", "-m", "kraft_bundle"]


class Cluster:
    """A real node of its own folder and ports."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = {name: value for name, value in os.environ.items() if not name.startswith(("KRAFT_", "KAFKA_"))}
        self.environment = names | {"KRAFT_DATA_DIR": str(folder / "kraft-data")}

    def run(self, *arguments: str, stdin: bytes = b"", expected: int = 0) -> bytes:
        ended = subprocess.run(
            [*KRAFT, *arguments], input=stdin, capture_output=True, env=self.environment, cwd=self.folder, check=False
        )
        assert expected == ended.returncode, (arguments, ended.stderr.decode(), self.log())
        return ended.stdout

    def open(self, *arguments: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*KRAFT, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.environment,
            cwd=self.folder,
        )

    def log(self) -> str:
        logs = sorted(self.folder.glob("kraft-data/node-*/kraft.log"))
        return "\n".join(line for log in logs for line in log.read_text().splitlines()[-5:])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    found = Cluster(tmp_path_factory.mktemp("cluster"))
    found.run("up", "--any-port", "-q")
    yield found
    found.run("down", "--timeout", "10")
    found.run("purge", "-y")
    assert [] == list(found.folder.iterdir())


def test_ten_thousand_lines_go_in_and_come_out_byte_for_byte(cluster):
    lines = [b"line %d \xff with bytes\r" % i for i in range(10_000)]
    cluster.run("topic", "create", "access", "-p", "6")
    written = json.loads(cluster.run("produce", "access", "--format", "json", stdin=b"\n".join(lines) + b"\n"))
    assert 10_000 == written["records"]
    found = cluster.run("consume", "access", "--from-beginning", "-n", "10000")
    assert sorted(lines) == sorted(found.removesuffix(b"\n").split(b"\n"))


def test_keys_headers_and_compression_arrive(cluster):
    cluster.run("topic", "create", "typed", "-p", "3")
    cluster.run("produce", "typed", "-K", ":", "-H", "a=b", "-z", "zstd", stdin=b"k:v\nk:w\n")
    found = json.loads(cluster.run("consume", "typed", "--from-beginning", "--format", "json"))
    assert [("k", "v"), ("k", "w")] == [(record["key"], record["value"]) for record in found]
    assert [{"name": "a", "value": "b"}] == found[0]["headers"]
    assert b"w\n" == cluster.run("consume", "typed", "-p", str(found[0]["partition_id"]), "-o", "-1")


def test_a_consumer_that_follows_sees_records_at_once_and_ctrl_c_is_130(cluster):
    cluster.run("topic", "create", "live")
    with cluster.open("consume", "live", "--from-beginning", "--follow") as consumer:
        cluster.run("produce", "live", stdin=b"hello\n")
        assert consumer.stdout is not None
        assert b"hello\n" == consumer.stdout.readline()
        consumer.send_signal(signal.SIGINT)
        assert 130 == consumer.wait(60)
        assert consumer.stderr is not None
        assert b"" == consumer.stderr.read()


def test_a_reader_that_has_enough_ends_it_quietly(cluster):
    cluster.run("topic", "create", "much")
    cluster.run("produce", "much", stdin=b"x" * 100 + b"\n" + b"y\n" * 200_000)
    with cluster.open("consume", "much", "--from-beginning") as consumer:
        assert consumer.stdout is not None
        assert 101 == len(consumer.stdout.readline())
        consumer.stdout.close()
        assert 0 == consumer.wait(60)
        assert consumer.stderr is not None
        assert b"" == consumer.stderr.read()


def test_the_quorum_and_the_log_on_disk_are_told(cluster):
    cluster.run("topic", "create", "kept")
    cluster.run("produce", "kept", stdin=b"a\nb\n")
    assert 1 == json.loads(cluster.run("quorum", "status", "--format", "json"))["leader_id"]
    on_disk = json.loads(cluster.run("log", "dirs", "kept", "--format", "json"))
    assert [("kept", 0, 2)] == [(log["topic_name"], log["partition_id"], log["log_end_offset"]) for log in on_disk]
    assert ["ok"] == [log["verdict"] for log in json.loads(cluster.run("log", "verify", "kept", "--format", "json"))]
    dumped = cluster.run("log", "dump", "kept", "--records").decode()
    assert "baseOffset: 0 lastOffset: 1 count: 2" in dumped
    assert "payload: b" in dumped
    cluster.run("log", "dump", "nothing", expected=3)


def test_a_topics_life(cluster):
    cluster.run("topic", "create", "short", "-p", "2", "-c", "retention.ms=1000")
    cluster.run("topic", "create", "short", expected=4)
    cluster.run("topic", "create", "short", "--if-not-exists")
    cluster.run("topic", "create", "a/b", expected=1)
    assert b"" == cluster.run("topic", "create", "three", "-r", "3", expected=1)
    assert b"retention.ms=1000" in cluster.run("topic", "describe", "short")
    cluster.run("topic", "config", "short", "-c", "retention.ms=2000")
    cluster.run("topic", "add-partitions", "short", "-p", "4")
    assert b"PartitionCount: 4" in cluster.run("topic", "describe", "short")
    cluster.run("produce", "short", "-p", "1", stdin=b"".join(b"%d\n" % i for i in range(10)))
    (trimmed,) = json.loads(cluster.run("topic", "trim", "short", "-o", "-3", "-p", "1", "--format", "json"))
    assert (7, 10, 7) == tuple(trimmed[key] for key in ("log_start_offset", "high_watermark", "deleted"))
    assert b"7\n8\n9\n" == cluster.run("consume", "short", "--from-beginning")
    assert [0, 10, 0, 0] == [
        row["log_start_offset"]
        for row in json.loads(cluster.run("topic", "trim", "short", "-o", "@-0s", "--format", "json"))
    ]
    cluster.run("topic", "trim", "short", "-o", "11", "-p", "1", expected=1)
    cluster.run("topic", "trim", "short", "-o", "1:2", expected=2)
    cluster.run("topic", "trim", "none", "-o", "end", expected=3)
    cluster.run("topic", "delete", "short")
    cluster.run("topic", "describe", "short", expected=3)
    cluster.run("consume", "short", expected=3)


def test_kill_9_and_up_again_finds_everything(cluster):
    cluster.run("topic", "create", "safe", "-p", "3")
    cluster.run("produce", "safe", stdin=b"".join(b"%d\n" % i for i in range(1000)))
    pid = json.loads(cluster.run("status", "--format", "json"))["nodes"][0]["pid"]
    os.kill(pid, signal.SIGKILL)
    cluster.run("up", "-q")
    found = cluster.run("consume", "safe", "--from-beginning")
    assert sorted(b"%d" % i for i in range(1000)) == sorted(found.split())


def test_help_is_instant():
    """Nothing that is slow to import is on its way; how fast that is, scripts/bench says."""
    code = "import sys; import cli.main; print(*sys.modules)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    assert not {"aiohttp", "asyncio", "rich", "msgspec", "http.client", "ssl"} & set(ended.stdout.split())


@pytest.mark.long
def test_a_cluster_grows_moves_and_shrinks_while_it_is_written_and_read(tmp_path):
    """Every line once and in order, with all partitions on other brokers in the end."""
    cluster = Cluster(tmp_path)
    cluster.run("up", "-n", "3", "--any-port", "-q")
    try:
        cluster.run("topic", "create", "pay", "-p", "3", "-r", "3")
        with cluster.open("consume", "pay", "-p", "1", "--from-beginning", "--follow", "-n", "20000") as consumer:
            writer = Writer(cluster, "pay", partition=1)
            cluster.run("up", "--add", "1", "-q")
            assert 3 == len(json.loads(cluster.run("partition", "move", "pay", "--to", "2,3,4", "--format", "json")))
            described = json.loads(cluster.run("topic", "describe", "pay", "--format", "json"))[0]["partitions"]
            assert [[2, 3, 4]] * 3 == [sorted(partition["in_sync_replica_ids"]) for partition in described]
            assert {2, 3, 4} == {partition["leader_id"] for partition in described}
            cluster.run("down", "--node", "4", "--remove")
            brokers = json.loads(cluster.run("broker", "list", "--format", "json"))
            assert [1, 2, 3] == [broker["broker_id"] for broker in brokers]
            writer.write_up_to(20_000)
            assert 0 == writer.end()
            printed, _ = consumer.communicate(timeout=60)
        assert [b"%d" % i for i in range(20_000)] == printed.split()
        assert printed == cluster.run("consume", "pay", "-p", "1", "--from-beginning")
        cluster.run("up", "-q")
        assert not (tmp_path / "kraft-data" / "node-4").exists()
    finally:
        cluster.run("down", "--timeout", "10")


class Writer(threading.Thread):
    """Numbers into a partition, a few at a time, for as long as it is told to."""

    def __init__(self, cluster, topic, *, partition):
        super().__init__(daemon=True)
        arguments = [*KRAFT, "produce", topic, "-p", str(partition), "-q", "--timeout", "60"]
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, env=cluster.environment, cwd=cluster.folder, text=True
        )
        self._written = 0
        self._limit = None
        self.start()

    def run(self):
        while self._limit is None or self._written < self._limit:
            if self._limit is not None or self._written < 10_000:
                self._process.stdin.write("".join(f"{i}\n" for i in range(self._written, self._written + 20)))
                self._process.stdin.flush()
                self._written += 20
            time.sleep(0.005)  # sleeps: a steady writer, not a fast one

    def write_up_to(self, number):
        self._limit = number
        self.join(60)

    def end(self):
        self._process.stdin.close()
        return self._process.wait(60)


@pytest.mark.long
def test_the_demo_holds():
    subprocess.run([sys.executable, "-P", str(PROJECT / "scripts" / "demo_story.py")], check=True, timeout=110)
