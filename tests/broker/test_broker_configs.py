"""A broker's settings as they are shown: every key, what was said of it and where, and what is in force."""

import pytest

from broker.broker_configs import describe_broker, describe_cluster_wide
from broker.config import load_config
from broker.config_keys import KEYS
from metadata.broker_settings import CLUSTER_WIDE, DYNAMIC_SETTINGS
from metadata.topic_configs import ConfigSource, ConfigType


@pytest.fixture
def config(tmp_path):
    settings = ["node.id=3", f"node.directory={tmp_path}", "log.retention.ms=50", "controller.quorum.voters=3@[::1]:9"]
    return load_config(None, {}, settings)[0]


def shown(config, configs=None):
    return {entry.name: entry for entry in describe_broker(config, configs or {})}


def test_every_setting_is_shown_and_only_those_that_can_be_changed_as_such(config):
    found = shown(config)
    assert {*KEYS, *DYNAMIC_SETTINGS} == found.keys()
    assert set(DYNAMIC_SETTINGS) == {name for name, entry in found.items() if not entry.is_read_only}


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("node.id", "3", ConfigType.INT),
        ("controller.quorum.voters", "3@[::1]:9", ConfigType.STRING),
        ("process.roles", "broker,controller", ConfigType.LIST),
        ("http.listeners", "http://127.0.0.1:8082", ConfigType.LIST),
        ("auto.create.topics.enable", "false", ConfigType.BOOLEAN),
        ("queued.max.request.bytes", "268435456", ConfigType.LONG),
        ("num.partitions", "1", ConfigType.INT),
        ("log.retention.bytes", "-1", ConfigType.LONG),
        ("broker.rack", None, ConfigType.STRING),
    ],
)
def test_a_value_is_shown_as_it_would_stand_in_the_file(config, name, value, kind):
    entry = shown(config)[name]
    assert (value, kind) == (entry.value, entry.type)


def test_what_was_set_while_running_wins_over_the_file_and_that_over_the_default(config):
    configs = {CLUSTER_WIDE: {"log.retention.ms": "70"}}
    entry = shown(config, configs)["log.retention.ms"]
    assert [
        ("70", ConfigSource.DYNAMIC_DEFAULT_BROKER),
        ("50", ConfigSource.BROKER),
        ("604800000", ConfigSource.DEFAULT),
    ] == [(one.value, one.source) for one in entry.synonyms]
    assert ("70", ConfigSource.DYNAMIC_DEFAULT_BROKER) == (entry.value, entry.source)
    assert ["log.retention.ms"] == [one.name for one in describe_cluster_wide(configs)]
    rate = "follower.replication.throttled.rate"
    of_this, of_another = ({number: {rate: "1"}} for number in (3, 4))
    assert ("1", ConfigSource.DYNAMIC_BROKER) == (
        shown(config, of_this)[rate].value,
        shown(config, of_this)[rate].source,
    )
    assert ConfigSource.DEFAULT == shown(config, of_another)[rate].source
