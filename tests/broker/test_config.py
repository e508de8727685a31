"""What a node is told: precedence, Kafka's words, and one line for everything that can't be right."""

from pathlib import Path

import pytest

from broker.config import ConfigError, Listener, load_config
from broker.config_keys import KEYS
from logstore.log_config import LogConfig
from metadata.topic_configs import TOPIC_CONFIGS


def write(folder: Path, text: str, name: str = "server.properties") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(*overrides: str, file: Path | None = None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(file, environ or {}, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_node_starts_without_any_configuration():
    config, warnings = load_config(None, {}, [])
    assert [] == warnings
    assert 1 == config.node_id
    assert {1: ("127.0.0.1", 9093)} == config.voters
    assert frozenset({"broker", "controller"}) == config.roles
    assert (Listener("http", "127.0.0.1", 8082),) == config.http_listeners
    assert (Listener("PLAINTEXT", "127.0.0.1", 9092),) == config.kafka_listeners == config.advertised_kafka
    assert "PLAINTEXT" == config.replication_listener
    assert config.is_voter


def test_set_wins_over_environment_over_file_over_default(tmp_path):
    file = write(tmp_path, "num.partitions=2\nbroker.rack=file\nlog.level=debug\n")
    environ = {"KAFKA_NUM_PARTITIONS": "3", "KAFKA_BROKER_RACK": "environment"}
    config, _ = load_config(file, environ, ["num.partitions=4"])
    assert 4 == config.num_partitions
    assert "environment" == config.rack
    assert "debug" == config.log_level
    assert 1 == config.default_replication_factor


def test_toml_says_the_same_as_properties(tmp_path):
    toml = write(
        tmp_path,
        'node.id = 2\n[controller.quorum]\nvoters = ["1@127.0.0.1:9093", "2@127.0.0.1:9103", "3@127.0.0.1:9113"]\n'
        "[auto.create.topics]\nenable = true\n",
        "node.toml",
    )
    properties = write(
        tmp_path,
        "node.id=2\ncontroller.quorum.voters=1@127.0.0.1:9093,\\\n  2@127.0.0.1:9103,3@127.0.0.1:9113\n"
        "# a comment\n! another\nauto.create.topics.enable: true\n",
    )
    assert load_config(properties, {}, [])[0] == load_config(toml, {}, [])[0]


def test_paths_of_a_file_count_from_its_folder(tmp_path):
    file = write(tmp_path, "node.directory=.\nlog.dirs=data,/elsewhere\n")
    config, _ = load_config(file, {}, [])
    assert tmp_path == config.node_directory
    assert (tmp_path / "data", Path("/elsewhere")) == config.log_directories
    assert tmp_path / "metadata" == config.metadata_directory


def test_a_file_with_only_kafkas_log_dirs_keeps_everything_in_there(tmp_path):
    config, _ = load_config(write(tmp_path, f"log.dirs={tmp_path}/logs\n"), {}, [])
    assert tmp_path / "logs" in config.node_directory.parents
    assert (tmp_path / "logs",) == config.log_directories


def test_the_more_exact_unit_wins_as_in_kafka():
    config, _ = load_config(None, {}, ["log.retention.ms=5000", "log.retention.hours=2", "log.roll.hours=1"])
    assert {"retention.ms": "5000", "segment.ms": "3600000"} == config.topic_defaults
    config, _ = load_config(None, {}, ["log.retention.hours=-1"])
    assert {"retention.ms": "-1"} == config.topic_defaults


def test_a_kafka_file_starts_a_node_and_what_has_no_effect_is_said(tmp_path):
    file = write(
        tmp_path,
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@localhost:9093\n"
        "listeners=PLAINTEXT://127.0.0.1:9092,CONTROLLER://127.0.0.1:9093\ncontroller.listener.names=CONTROLLER\n"
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT\nnum.network.threads=3\nlog.dirs=/tmp/logs\n"
        "offsets.topic.replication.factor=1\nlog.segment.bytes=1073741824\n",
    )
    config, warnings = load_config(file, {}, [])
    assert ("127.0.0.1", 9093) == config.peer_listener
    assert (Listener("PLAINTEXT", "127.0.0.1", 9092),) == config.kafka_listeners
    assert 1 == len(warnings)
    assert "num.network.threads (server.properties, line 7)" in warnings[0]
    assert 1 == config.offsets_topic_replication_factor


def test_no_session_timeout_at_all_is_refused():
    with pytest.raises(ConfigError, match=r"group\.min\.session\.timeout\.ms=9000.*at most"):
        load_config(None, {}, ["group.min.session.timeout.ms=9000", "group.max.session.timeout.ms=8000"])


def test_what_is_the_case_anyway_needs_no_warning():
    peer = ["listeners=CONTROLLER://127.0.0.1:9093", "controller.listener.names=CONTROLLER"]
    config, warnings = load_config(None, {}, ["auto.create.topics.enable=false", *peer])
    assert ((), None, []) == (config.kafka_listeners, config.replication_listener, warnings)


def test_the_size_of_an_index_is_a_default_of_topics_as_in_kafka():
    config, warnings = load_config(None, {}, ["log.index.size.max.bytes=1048576"])
    assert ({"segment.index.bytes": "1048576"}, []) == (config.topic_defaults, warnings)
    assert 1048576 == LogConfig.from_topic_configs(config.topic_defaults).segment_index_bytes


def test_every_topic_setting_has_a_key_for_the_broker():
    by_topic_key = {}
    for name, key in KEYS.items():
        by_topic_key.setdefault(key.topic_key, []).append(name)
    for name, config in TOPIC_CONFIGS.items():
        if not config.items:  # which replicas are throttled can't be so for all topics
            assert config.broker_key in by_topic_key.get(name, []), name


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("num.partition=3", ["num.partition", "did you mean num.partitions"]),
        ("num.partitions=many", ["num.partitions=many", "--set", "from 1 to 100000"]),
        ("num.partitions=0", ["num.partitions=0", "from 1 to 100000"]),
        ("num.partitions=1_0", ["num.partitions=1_0"]),
        ("log.level=loud", ["log.level=loud", "debug, info, warning, error"]),
        ("insecure.listeners=yes", ["insecure.listeners=yes", "true or false"]),
        ("http.listeners=127.0.0.1:8082", ["http.listeners=127.0.0.1:8082", "http://host:port"]),
        ("http.listeners=ftp://127.0.0.1:8082", ["http://host:port or https://host:port"]),
        ("http.listeners=http://127.0.0.1:99999", ["http.listeners=http://127.0.0.1:99999"]),
        ("http.listeners=", ["http.listeners=", "at least one"]),
        ("controller.quorum.voters=1@a:1,2@b:2", ["1, 3 or 5 voters, not 2"]),
        ("controller.quorum.voters=1@a:1,1@b:2,3@c:3", ["id 1 stands there twice"]),
        ("controller.quorum.voters=1@a:1,2@a:1,3@c:3", ["two share one"]),
        ("controller.quorum.voters=a:1", ["id@host:port"]),
        ("process.roles=controller", ["process.roles=controller", "broker,controller"]),
        ("process.roles=chef", ["process.roles=chef", "broker, controller"]),
        ("process.roles=broker", ["lists node 1"]),
        ("broker.session.timeout.ms=600", ["at least twice"]),
        ("peer.listeners=9093", ["peer.listeners=9093", "host:port"]),
        ("http.listeners=http://127.0.0.1:9093", ["already used by the peer listener"]),
        ("http.listeners=https://127.0.0.1:8082", ["http.ssl.certificate is not set"]),
        ("http.ssl.certificate=/nowhere.pem", ["/nowhere.pem", "there is no such file"]),
        ("log.dirs=/a,/a", ["log.dirs", "twice"]),
        ("queued.max.request.bytes=1048576", ["must be at least socket.request.max.bytes"]),
        ("nonsense", ["--set nonsense", "key=value"]),
    ],
)
def test_what_cannot_be_right_is_refused_in_one_line_that_names_key_and_fix(override, parts):
    message = refusal(override)
    for part in parts:
        assert part in message


def test_the_line_of_the_file_is_named(tmp_path):
    file = write(tmp_path, "node.id=1\n\nnum.partitions=x\n")
    assert "(server.properties, line 3)" in refusal(file=file)


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("server.properties", "novalue\n", "line 1: expected key=value"),
        ("server.properties", "node.id=1\\\n", "continued line"),
        ("node.toml", "node.id = \n", "not valid TOML"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path, name, text, part):
    assert part in refusal(file=write(tmp_path, text, name))


def test_a_missing_file_and_a_binary_one_are_refused(tmp_path):
    assert "no such configuration file" in refusal(file=tmp_path / "server.properties")
    (tmp_path / "binary.properties").write_bytes(b"\xff\xfe\0")
    assert "UTF-8" in refusal(file=tmp_path / "binary.properties")


def test_a_typo_in_the_environment_is_told_but_others_share_the_prefix():
    _, warnings = load_config(None, {"KAFKA_NODE_IDD": "3", "KAFKA_HEAP_OPTS": "-Xmx1G", "HOME": "/"}, [])
    assert 1 == len(warnings)
    assert "did you mean KAFKA_NODE_ID?" in warnings[0]


@pytest.mark.parametrize("host", ["0.0.0.0", "", "192.168.1.5", "example.org", "[::]"])
def test_nothing_listens_beyond_this_machine_unless_asked_for_in_words(host):
    message = refusal(f"http.listeners=http://{host}:8082")
    assert "--insecure-listeners" in message
    advertised = "advertised.http.listeners=http://10.0.0.1:8082"
    config, _ = load_config(None, {}, [f"http.listeners=http://{host}:8082", advertised, "insecure.listeners=true"])
    assert config.insecure_listeners
    assert "10.0.0.1" == config.advertised_http.host


def test_every_address_can_not_be_advertised():
    message = refusal("http.listeners=http://0.0.0.0:8082", "insecure.listeners=true")
    assert "advertised.http.listeners is not set" in message


def test_a_peer_link_beyond_this_machine_needs_mutual_tls_or_words(tmp_path):
    voters = "controller.quorum.voters=1@10.0.0.1:9093"
    assert "peer.ssl" in refusal(voters)
    for name in ("certificate", "key", "authorities"):
        (tmp_path / name).touch()
    files = [f"peer.ssl.{name}={tmp_path / name}" for name in ("certificate", "key", "authorities")]
    config, _ = load_config(None, {}, [voters, *files])
    assert config.peer_tls is not None
    assert "peer.ssl.authorities is not set" in refusal(voters, *files[:2])


def test_a_node_without_a_vote_must_say_where_it_listens_for_peers():
    voters = "controller.quorum.voters=1@127.0.0.1:9093"
    assert "peer.listeners=host:port" in refusal("node.id=2", voters)
    config, _ = load_config(None, {}, ["node.id=2", voters, "peer.listeners=127.0.0.1:9103"])
    assert not config.is_voter
    assert frozenset({"broker"}) == config.roles
    assert ("127.0.0.1", 9103) == config.advertised_peer
    assert "is not in controller.quorum.voters" in refusal("node.id=2", voters, "process.roles=broker,controller")


def test_ipv6_loopback_is_this_machine():
    config, _ = load_config(None, {}, ["http.listeners=http://[::1]:8082"])
    assert "::1" == config.http_listeners[0].host
    assert "http://[::1]:8082" == str(config.http_listeners[0])


def test_two_names_for_the_node_must_agree():
    assert "broker.id=2" in refusal("broker.id=2", "node.id=3")
    assert 2 == load_config(None, {}, ["broker.id=2"])[0].node_id
