"""Kafka's listeners as settings: named, mapped to a protocol, advertised, and never open to all by accident."""

from pathlib import Path

import pytest

from broker.config import ConfigError, KafkaTlsFiles, Listener, load_config


def read(*overrides: str):
    return load_config(None, {}, overrides)[0]


def refusal(*overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(None, {}, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.fixture
def ssl_files(tmp_path: Path) -> list[str]:
    """kafka.ssl.certificate, .key, .authorities"""
    for name in ("certificate", "key", "authorities"):
        (tmp_path / name).touch()
    return [f"kafka.ssl.{name}={tmp_path / name}" for name in ("certificate", "key", "authorities")]


def test_a_kafka_users_file_means_here_what_it_means_there():
    config = read(
        "listeners=CLIENTS://127.0.0.1:9092,brokers://127.0.0.1:9094,CONTROLLER://127.0.0.1:9093",
        "controller.listener.names=CONTROLLER",
        "advertised.listeners=CLIENTS://kafka.example.org:19092",
        "listener.security.protocol.map=CONTROLLER:PLAINTEXT,CLIENTS:PLAINTEXT,BROKERS:PLAINTEXT,SASL_SSL:SASL_SSL",
        "inter.broker.listener.name=brokers",
    )
    clients, brokers = Listener("CLIENTS", "127.0.0.1", 9092), Listener("BROKERS", "127.0.0.1", 9094)
    assert (clients, brokers) == config.kafka_listeners
    assert (Listener("CLIENTS", "kafka.example.org", 19092), brokers) == config.advertised_kafka
    assert "BROKERS" == config.replication_listener
    assert ("127.0.0.1", 9093) == config.peer_listener


def test_the_replication_listener_is_plaintext_else_the_first():
    two = "listeners=A://127.0.0.1:9092,PLAINTEXT://127.0.0.1:9094"
    named = "listener.security.protocol.map=A:PLAINTEXT,B:PLAINTEXT"
    assert "PLAINTEXT" == read(two, named).replication_listener
    assert "B" == read("listeners=B://127.0.0.1:9092,A://127.0.0.1:9094", named).replication_listener


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        (["listeners=CLIENTS://127.0.0.1:9092"], ["listener.security.protocol.map=CLIENTS:PLAINTEXT"]),
        (["listeners=SASL_SSL://127.0.0.1:9092"], ["SASL_SSL", "only PLAINTEXT and SSL are served"]),
        (["listeners=PLAINTEXT://127.0.0.1:1,plaintext://127.0.0.1:2"], ["stands there twice"]),
        (["listener.security.protocol.map=A:TLS"], ["NAME:PLAINTEXT or NAME:SSL"]),
        (["listener.security.protocol.map=A:SSL,a:SSL"], ["A stands there twice"]),
        (["advertised.listeners=SSL://127.0.0.1:9092"], ["listeners has no SSL"]),
        (["advertised.listeners=PLAINTEXT://0.0.0.0:9092"], ["one address that reaches this node"]),
        (["inter.broker.listener.name=BROKERS"], ["no such name, only PLAINTEXT"]),
        (["listeners=SSL://127.0.0.1:9092"], ["kafka.ssl.certificate is not set"]),
        (["listeners=PLAINTEXT://127.0.0.1:8082"], ["already used"]),
    ],
)
def test_what_cannot_be_right_is_refused_with_the_fix(overrides, parts):
    message = refusal(*overrides)
    for part in parts:
        assert part in message


def test_every_address_needs_an_advertised_one():
    beyond = ["listeners=PLAINTEXT://0.0.0.0:9092", "insecure.listeners=true"]
    assert "advertised.listeners has no PLAINTEXT" in refusal(*beyond)
    config = read(*beyond, "advertised.listeners=PLAINTEXT://10.0.0.1:9092")
    assert "10.0.0.1" == config.advertised_kafka[0].host


def test_replication_beyond_this_machine_needs_certificates_on_both_sides(ssl_files):
    assert "could pass for a broker; make it SSL" in refusal("listeners=PLAINTEXT://10.0.0.1:9092")
    beyond = "listeners=SSL://10.0.0.1:9092"
    assert "kafka.ssl.authorities is not set" in refusal(beyond, *ssl_files[:2])
    assert "kafka.ssl.key is not set" in refusal(beyond, ssl_files[0])
    config = read(beyond, *ssl_files)
    assert config.kafka_listeners[0].tls
    assert isinstance(config.kafka_tls, KafkaTlsFiles)
    local = ["listeners=PLAINTEXT://127.0.0.1:9094,SSL://10.0.0.1:9092"]
    assert "could do anything" in refusal(*local, *ssl_files)  # clients need show nothing there


def test_certificates_that_nobody_sees_are_told(ssl_files):
    _, warnings = load_config(None, {}, ssl_files)
    assert ["kafka.ssl.certificate has no effect: no entry of listeners is SSL"] == warnings
