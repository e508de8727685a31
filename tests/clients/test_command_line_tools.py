"""Kafka's own command-line tools, of the release that the Java driver is pinned to, and the shims, side by side."""

import subprocess
import sys

import pytest

from tests.clients.installation import MissingError, environment_of, java_tools

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
SHIM = [sys.executable, "-P", "-m", "kraft_bundle", "shims"]
TOOLS = {
    "kafka-topics": "org.apache.kafka.tools.TopicCommand",
    "kafka-console-producer": "org.apache.kafka.tools.ConsoleProducer",
    "kafka-console-consumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka-consumer-groups": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
}


@pytest.fixture(params=["kafka", "shim"])
def run(request, cluster):
    """Runs a tool of Kafka's, or the shim of its name, with the same options."""
    try:
        java = java_tools() if request.param == "kafka" else []
    except MissingError as error:
        pytest.skip(str(error))

    def call(tool, *options, stdin=b"", expected=0):
        command = [*java, TOOLS[tool]] if java else [*SHIM, tool]
        ended = subprocess.run(
            [*command, "--bootstrap-server", f"localhost:{cluster[1].kafka_port}", *options],
            input=stdin,
            capture_output=True,
            env=environment_of("java"),
            check=False,
            timeout=120,
        )
        assert expected == ended.returncode, ended.stderr.decode()
        return ended.stdout.decode()

    call.name = request.param
    return call


def test_a_topic_is_made_written_read_and_deleted_with_the_same_options(run):
    topic, group = f"tools-of-{run.name}", f"readers-of-{run.name}"
    made = run("kafka-topics", "--create", "--topic", topic, "--partitions", "3", "--replication-factor", "2")
    assert f"Created topic {topic}.\n" == made
    assert topic in run("kafka-topics", "--list").splitlines()
    described = run("kafka-topics", "--describe", "--topic", topic)
    assert "PartitionCount: 3\tReplicationFactor: 2" in described
    assert 4 == len(described.splitlines())
    run("kafka-topics", "--alter", "--topic", topic, "--partitions", "4")
    keyed = ["--reader-property", "parse.key=true", "--reader-property", "key.separator=:"]
    run("kafka-console-producer", "--topic", topic, *keyed, stdin=b"k1:one\nk2:two\nk3:three\n")
    reading = ["--topic", topic, "--from-beginning", "--max-messages", "3"]
    shown = ["--formatter-property", "print.key=true", "--formatter-property", "key.separator==", "--group", group]
    assert ["k1=one", "k2=two", "k3=three"] == sorted(run("kafka-console-consumer", *reading, *shown).splitlines())
    assert group in run("kafka-consumer-groups", "--list").splitlines()
    offsets = run("kafka-consumer-groups", "--describe", "--group", group)
    assert all(name in offsets for name in ("CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", topic)), offsets
    reset = ["--reset-offsets", "--group", group, "--topic", topic, "--to-earliest", "--execute"]
    run("kafka-consumer-groups", *reset)
    assert 3 == len(run("kafka-console-consumer", *reading, "--group", group).splitlines())
    run("kafka-consumer-groups", "--delete", "--group", group)
    assert group not in run("kafka-consumer-groups", "--list").splitlines()
    run("kafka-topics", "--delete", "--topic", topic)
    assert topic not in run("kafka-topics", "--list").splitlines()
