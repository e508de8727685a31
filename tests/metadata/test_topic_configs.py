"""Topic settings: Kafka's names and bounds; a wrong one is refused with the key and what it may be."""

import pytest

from metadata import topic_configs
from metadata.topic_configs import TOPIC_CONFIGS, ConfigSource, validated
from wire.errors import ErrorCode, RefusedError


@pytest.mark.parametrize("config", TOPIC_CONFIGS.values(), ids=lambda config: config.name)
def test_every_default_is_allowed(config):
    assert config.default == validated(config.name, config.default)


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        ("retention.ms", "-2", "from -1 to 9223372036854775807"),
        ("retention.ms", "1_000", "whole number"),
        ("retention.ms", "٣", "whole number"),
        ("retention.ms", "1e3", "whole number"),
        ("retention.ms", "", "whole number"),
        ("retention.ms", "9" * 5000, "whole number"),
        ("segment.bytes", "13", "from 14 to 2147483647"),
        ("min.insync.replicas", "0", "from 1 to"),
        ("flush.messages", "0", "from 1 to"),
        ("cleanup.policy", "", "comma-separated list of compact, delete"),
        ("cleanup.policy", "compact,keep", "comma-separated list of compact, delete"),
        ("min.cleanable.dirty.ratio", "1.5", "a number from 0 to 1"),
        ("min.cleanable.dirty.ratio", "nan", "a number from 0 to 1"),
        ("min.cleanable.dirty.ratio", "1e-1", "a number from 0 to 1"),
        ("delete.retention.ms", "-1", "from 0 to"),
        ("compression.type", "brotli", "one of producer, uncompressed, gzip, snappy, lz4, zstd"),
        ("message.timestamp.type", "createtime", "one of CreateTime, LogAppendTime"),
        ("unclean.leader.election.enable", "yes", "true or false"),
    ],
)
def test_a_value_out_of_bounds_is_refused_with_what_it_may_be(name, text, allowed):
    with pytest.raises(RefusedError) as caught:
        validated(name, text)
    assert ErrorCode.INVALID_CONFIG == caught.value.code
    assert repr(name) in caught.value.message
    assert allowed in caught.value.message
    assert len(caught.value.message) < 300


def test_a_setting_of_kafka_that_does_nothing_here_is_refused():
    with pytest.raises(RefusedError, match="does not act upon: leave it out"):
        validated("preallocate", "true")


def test_a_typo_is_answered_with_the_likely_name():
    with pytest.raises(RefusedError, match=r"did you mean 'cleanup\.policy'"):
        validated("cleanup.polcy", "delete")
    with pytest.raises(RefusedError, match="the known ones are"):
        validated("x", "1")


def test_the_topic_wins_over_the_broker_over_the_default():
    entries = {
        e.config.name: e for e in topic_configs.describe({"retention.ms": "5"}, {"retention.ms": "6", "flush.ms": "7"})
    }
    assert list(TOPIC_CONFIGS) == list(entries) == sorted(entries)
    retention, flush = entries["retention.ms"], entries["flush.ms"]
    assert ("5", ConfigSource.TOPIC, False) == (retention.value, retention.source, retention.is_default)
    assert ["retention.ms", "log.retention.ms", "log.retention.ms"] == [s.name for s in retention.synonyms]
    assert ("7", ConfigSource.BROKER, True) == (flush.value, flush.source, flush.is_default)
    assert ConfigSource.DEFAULT == entries["segment.ms"].source


def test_an_acknowledged_record_is_synced_unless_somebody_relaxed_it():
    assert not topic_configs.counts_unsynced_offsets({}, {})
    assert topic_configs.counts_unsynced_offsets({}, {"flush.messages": "2"})
    assert not topic_configs.counts_unsynced_offsets({"flush.messages": "1"}, {"flush.messages": "2"})
