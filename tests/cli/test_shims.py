"""A tutorial that was written for Kafka's tools runs as written, and what its options meant is what is done."""

import json
import os
import signal
import subprocess
import sys

import click
import pytest

from cli.failure import Failure
from cli.ports import free_ports
from cli.shims import SHIMS, make_folder
from cli.shims_bootstrap import http_servers
from cli.shims_console import kafka_console_consumer, kafka_console_producer
from cli.shims_groups import kafka_consumer_groups
from cli.shims_topics import kafka_topics

KRAFT = [sys.executable, "-P", "-m", "kraft_bundle"]
HTTP = ("--bootstrap-server", "http://127.0.0.1:8082")
B = ["-b", "http://127.0.0.1:8082"]


def translated(shim, *arguments):
    with shim.make_context("shim", list(arguments)) as context:
        return shim.invoke(context)


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ("--create --topic t --partitions 3 --replication-factor 2", "topic create -p 3 -r 2 -- t"),
        (
            "--create --topic=t --config a=b --config c=d --if-not-exists",
            "topic create -c a=b -c c=d --if-not-exists -- t",
        ),
        ("--alter --topic t --partitions 5", "topic add-partitions -p 5 -- t"),
        ("--alter --topic t --config a=b --delete-config c", "topic config -c a=b -d c -- t"),
    ],
)
def test_what_kafka_topics_is_told_is_what_kraft_does(options, meant):
    assert B + meant.split() == translated(kafka_topics, *options.split(), *HTTP)


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ([], []),
        (["--compression-codec", "zstd", "--sync"], ["-z", "zstd"]),
        (["--compression-codec"], ["-z", "gzip"]),
        (["--producer-property", "acks=1", "--batch-size", "5"], ["--acks", "1"]),
        (["--property", "parse.key=true"], ["-K", "\t"]),
        (["--property", "parse.key=true", "--property", "key.separator=:"], ["-K", ":"]),
    ],
)
def test_what_the_console_producer_is_told_is_what_kraft_does(options, meant):
    expected = [*B, "-q", "produce", *meant, "--", "t"]
    assert expected == translated(kafka_console_producer, *HTTP, "--topic", "t", *options)


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ("", []),
        ("--from-beginning", ["-o", "start", "--follow"]),
        ("--from-beginning --max-messages 3", ["-o", "start", "--follow", "-n", "3"]),
        ("--partition 1 --offset 47 --timeout-ms 1500", ["-o", "47", "--follow", "--timeout", "1.5", "-p", "1"]),
        ("--partition 1 --offset earliest", ["-o", "start", "--follow", "-p", "1"]),
        ("--property print.key=true --property key.separator=%", ["-f", "%k%%%v\\n"]),
        ("--property print.timestamp=true --property print.offset=true", ["-f", "CreateTime:%T\\tOffset:%o\\t%v\\n"]),
        ("--group g", ["-g", "g"]),
        ("--consumer-property group.id=g --from-beginning", ["-g", "g", "--from-beginning"]),
    ],
)
def test_what_the_console_consumer_is_told_is_what_kraft_does(options, meant):
    expected = [*B, "-q", "consume", *meant, "--", "t"]
    assert expected == translated(kafka_console_consumer, *HTTP, "--topic", "t", *options.split())


@pytest.mark.parametrize(
    ("options", "meant"),
    [
        ("--list", "-q group list"),
        ("--describe --group g", "group describe -- g"),
        ("--describe --all-groups --members --verbose", "group describe --members --format wide --"),
        ("--delete --group g --group h", "group delete -- g h"),
        ("--reset-offsets --group g --all-topics --to-earliest --execute", "group seek --to=start -- g"),
        ("--reset-offsets --group g --topic t:0,1 --shift-by -5", "group seek --by=-5 -t t:0,1 --dry-run -- g"),
        (
            "--reset-offsets --group g --topic t --by-duration P1DT2H --dry-run",
            "group seek --to=@-93600s -t t --dry-run -- g",
        ),
    ],
)
def test_what_kafka_consumer_groups_is_told_is_what_kraft_does(options, meant):
    assert B + meant.split() == translated(kafka_consumer_groups, *options.split(), *HTTP)


@pytest.mark.parametrize(
    ("shim", "options", "named"),
    [
        (kafka_topics, [], "--create"),
        (kafka_topics, ["--create"], "--topic"),
        (kafka_topics, ["--list", "--topic", "(", *HTTP], "regular expression"),
        (kafka_console_producer, ["--topic", "t", "--property", "parse.headers=true"], "parse.headers"),
        (kafka_console_consumer, ["--topic", "t", "--offset", "7"], "--partition"),
        (kafka_console_consumer, [], "--include"),
        (kafka_consumer_groups, ["--delete"], "--group"),
        (kafka_consumer_groups, ["--reset-offsets", "--group", "g", "--all-topics"], "--to-earliest"),
        (kafka_consumer_groups, ["--reset-offsets", "--group", "g", "--to-latest"], "--all-topics"),
    ],
)
def test_what_would_be_ignored_is_refused_by_name(shim, options, named):
    with pytest.raises(click.UsageError) as refused:
        translated(shim, *options)
    assert named in refused.value.format_message()


def test_zookeeper_gets_one_notice_and_the_usual_cluster(capsys):
    arguments = ["--create", "--zookeeper", "localhost:2181", "--topic", "t"]
    assert ["topic", "create", "--", "t"] == translated(kafka_topics, *arguments)
    assert 1 == capsys.readouterr().err.count("ZooKeeper")


def test_a_port_of_the_cluster_in_this_folder_is_known(tmp_path, monkeypatch):
    node = {"node_id": 1, "http_port": 18082, "kafka_port": 19092, "peer_port": 19093, "is_voter": True}
    other = {**node, "node_id": 2, "http_port": 18083, "kafka_port": 19094}
    document = {"format_version": 1, "cluster_id": "x", "nodes": [node, other]}
    (tmp_path / "cluster.json").write_text(json.dumps(document))
    monkeypatch.setenv("KRAFT_DATA_DIR", str(tmp_path))
    assert [18083, 18082] == [server.port for server in http_servers("localhost:19094")]


def test_the_usual_port_is_found_without_a_folder_and_nothing_is_guessed_otherwise(tmp_path, monkeypatch):
    monkeypatch.setenv("KRAFT_DATA_DIR", str(tmp_path))
    assert [("127.0.0.2", 8972 + 100)] == [server[1:] for server in http_servers("127.0.0.2:10082")]
    with pytest.raises(Failure, match="no HTTP listener"):
        http_servers("127.0.0.1:1")
    with pytest.raises(Failure, match="expected host:port"):
        http_servers("a:b:c")


def test_every_name_is_there_also_with_sh_and_nothing_is_written_twice(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    folder = make_folder()
    assert tmp_path in folder.parents
    assert {f"{name}{end}" for name in SHIMS for end in ("", ".sh")} == {path.name for path in folder.iterdir()}
    written = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert folder == make_folder()
    assert written == {path: path.stat().st_mtime_ns for path in folder.iterdir()}


class Tutorial:
    """A person who types what a tutorial says, in a shell that has the shims on its PATH."""

    def __init__(self, folder):
        self.folder = folder
        names = {name: value for name, value in os.environ.items() if not name.startswith(("KRAFT_", "KAFKA_"))}
        self.environment = names | {"XDG_STATE_HOME": str(folder / "state")}
        shims = self.ended([*KRAFT, "shims"]).stdout.decode().strip()
        self.environment["PATH"] = f"{shims}{os.pathsep}{os.environ['PATH']}"

    def ended(self, arguments, stdin=b"", expected=0):
        found = subprocess.run(
            arguments, input=stdin, capture_output=True, env=self.environment, cwd=self.folder, check=False, timeout=60
        )
        assert expected == found.returncode, (arguments, found.stderr.decode())
        return found

    def types(self, line, stdin=b"", expected=0):
        return self.ended(["sh", "-c", line], stdin, expected)


SERVER_PROPERTIES = """\
# as in config/server.properties of a Kafka that had a ZooKeeper
broker.id=0
listeners=PLAINTEXT://127.0.0.1:{kafka}
num.network.threads=3
log.dirs={folder}/kafka-logs
num.partitions=1
offsets.topic.replication.factor=1
log.retention.hours=168
zookeeper.connect=localhost:2181
zookeeper.connection.timeout.ms=18000
# only because other nodes may run on this machine
http.listeners=http://127.0.0.1:{http}
peer.listeners=127.0.0.1:{peer}
controller.quorum.voters=0@127.0.0.1:{peer}
"""


@pytest.mark.timeout(300)
def test_an_old_tutorial_runs_as_written(tmp_path):
    """With one addition, KRAFT_BOOTSTRAP_SERVER: the usual cluster of --zookeeper would be that of port 8082."""
    kafka, http, peer = free_ports(3)
    tutorial = Tutorial(tmp_path)
    tutorial.environment["KRAFT_BOOTSTRAP_SERVER"] = f"127.0.0.1:{http}"
    (tmp_path / "config").mkdir()
    properties = SERVER_PROPERTIES.format(kafka=kafka, http=http, peer=peer, folder=tmp_path)
    (tmp_path / "config" / "server.properties").write_text(properties)

    assert b"not needed" in tutorial.types("zookeeper-server-start.sh config/zookeeper.properties").stderr
    tutorial.types("kafka-server-start.sh -daemon config/server.properties")
    try:
        created = tutorial.types(
            "kafka-topics --create --zookeeper localhost:2181 --replication-factor 1 --partitions 1 --topic test"
        )
        assert b"Created topic test.\n" == created.stdout
        assert 1 == len(created.stderr.splitlines())
        lines = b"This is a message\nThis is another message\n"
        broker = f"localhost:{kafka}"
        tutorial.types(f"kafka-console-producer.sh --broker-list {broker} --topic test", lines)
        consumer = subprocess.Popen(
            ["sh", "-c", f"exec kafka-console-consumer --bootstrap-server {broker} --topic test --from-beginning"],
            stdout=subprocess.PIPE,
            env=tutorial.environment,
            cwd=tmp_path,
        )
        with consumer:
            assert consumer.stdout is not None
            assert lines == consumer.stdout.readline() + consumer.stdout.readline()
            consumer.send_signal(signal.SIGINT)
            assert 130 == consumer.wait(60)
        reading = f"kafka-console-consumer --bootstrap-server {broker} --topic test --from-beginning"
        assert lines == tutorial.types(f"{reading} --timeout-ms 3000").stdout, "and its end is a good one"
        assert b"test\n" == tutorial.types("kafka-topics.sh --list --zookeeper localhost:2181").stdout
        described = tutorial.types(f"kafka-topics --describe --topic test --bootstrap-server {broker}").stdout
        assert b"PartitionCount: 1" in described
        tutorial.types(f"kafka-topics --delete --topic 't.*' --bootstrap-server {broker}")
        assert b"" == tutorial.types(f"kafka-topics --list --bootstrap-server {broker}").stdout
    finally:
        tutorial.types("kafka-server-stop")
    tutorial.types("kafka-server-stop", expected=1)
