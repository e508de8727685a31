"""What a partition log may be told: `LogConfig`, one immutable value per topic, shared by all its partitions.

Owns the defaults and the reading of Kafka's topic keys. Refuses nothing: bounds and spelling are checked where topic
settings are accepted (metadata); a value that arrives here has passed.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

FOREVER_MS: Final = 2**63 - 1


class TimestampType(StrEnum):
    CREATE_TIME = "CreateTime"
    LOG_APPEND_TIME = "LogAppendTime"


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Settings of one topic's logs; names are Kafka's topic keys with the dots turned into underscores."""

    segment_bytes: int = 1 << 30
    """Kafka's default: few files, and retention by size is still finer than most disks need."""
    segment_ms: int = 7 * 24 * 3_600_000
    """Kafka's default: an idle topic's old data still becomes deletable within a week."""
    segment_index_bytes: int = 10 << 20
    """Kafka's default: 1.3 million entries; a full index rolls the segment."""
    retention_ms: int = 7 * 24 * 3_600_000
    """Kafka's default; -1 keeps data for ever."""
    retention_bytes: int = -1
    """Kafka's default: time alone decides."""
    index_interval_bytes: int = 4096
    """Kafka's default: a lookup walks at most a page or one batch; 0.2% of the data's size."""
    max_message_bytes: int = 1_048_588
    """Kafka's default: one MiB and the batch overhead of old formats."""
    flush_messages: int = 1
    """Stricter than Kafka's (never): an acknowledged acks=all batch has been fdatasynced."""
    flush_ms: int = FOREVER_MS
    """Kafka's default: with flush_messages=1 there is nothing left for a timer to do."""
    cleanup_policy: str = "delete"
    """Kafka's default."""
    delete_retention_ms: int = 24 * 3_600_000
    """Kafka's default: who reads a compacted log from its beginning has a day before deletions are forgotten."""
    min_cleanable_dirty_ratio: float = 0.5
    """Kafka's default: at most half of a log is superseded; lower means less disk and more copying."""
    min_compaction_lag_ms: int = 0
    """Kafka's default: only the active segment keeps every record."""
    max_compaction_lag_ms: int = FOREVER_MS
    """Kafka's default: the dirty ratio alone decides."""
    message_timestamp_type: TimestampType = TimestampType.CREATE_TIME
    """Kafka's default: the producer's bytes stay as they were sent."""

    @property
    def syncs_every_append(self) -> bool:
        """Whether an offset counts as durable only after its fdatasync (the default)."""
        return self.flush_messages <= 1

    @property
    def compacts(self) -> bool:
        """Whether only the last record of each key is kept."""
        return "compact" in self.cleanup_policy

    @property
    def roll_ms(self) -> int:
        """The age at which a segment ends. The active one is never compacted: it must not outlive the lag (KIP-354)."""
        return min(self.segment_ms, self.max_compaction_lag_ms) if self.compacts else self.segment_ms

    @property
    def deletes_old_segments(self) -> bool:
        return "delete" in self.cleanup_policy

    @staticmethod
    def from_topic_configs(configs: Mapping[str, str], defaults: "LogConfig | None" = None) -> "LogConfig":
        """The defaults overlaid with a topic's settings by Kafka's keys (`segment.bytes`); other keys are ignored.

        Equal settings give one shared object, so that 2,000 partitions do not carry 2,000 copies.
        """
        known = tuple(sorted((key, text) for key, text in configs.items() if key in _PARSERS))
        return _overlay(defaults if defaults is not None else LogConfig(), known)


def _parser_of(field: "dataclasses.Field[Any]") -> Callable[[str], Any]:
    if isinstance(field.default, TimestampType):
        return TimestampType
    return type(field.default)


_PARSERS: Final = {field.name.replace("_", "."): _parser_of(field) for field in dataclasses.fields(LogConfig)}


@lru_cache(maxsize=1024)
def _overlay(defaults: LogConfig, configs: tuple[tuple[str, str], ...]) -> LogConfig:
    changes: dict[str, Any] = {key.replace(".", "_"): _PARSERS[key](text) for key, text in configs}
    return dataclasses.replace(defaults, **changes)
