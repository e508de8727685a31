"""Forgetting idempotent producers: by time, and where there are too many of them in one log directory.

Owns the clock by which they age: `Disk.uptime_ms`, which only grows while the process runs (S20). Kafka's settings:
`producer.id.expiration.ms`, `producer.id.expiration.check.interval.ms`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from logstore.checkpoints import PartitionKey
    from logstore.disk import Disk
    from logstore.partition_log import PartitionLog

EXPIRATION_MS: Final = 86_400_000
CHECK_INTERVAL_MS: Final = 600_000
PRODUCERS_MAX: Final = 100_000
"""In all logs of the directory: about 120 MB, ten times what one log may have."""


class ProducerExpiry:
    """One per log directory."""

    def __init__(
        self,
        disk: Disk,
        logs: Mapping[PartitionKey, PartitionLog],
        *,
        expiration_ms: int = EXPIRATION_MS,
        producers_max: int = PRODUCERS_MAX,
    ) -> None:
        self._disk = disk
        self._logs = logs
        self._expiration_ms = expiration_ms
        self._producers_max = producers_max
        self._began_ms: int | None = None
        self._checked_ms = 0

    def tick(self, now_ms: int) -> None:
        """`now_ms` from a monotonic clock; about once a second."""
        if self._began_ms is None:
            self._began_ms = now_ms
        self._disk.uptime_ms = uptime_ms = now_ms - self._began_ms
        if uptime_ms - self._checked_ms >= min(CHECK_INTERVAL_MS, self._expiration_ms):
            self._checked_ms = uptime_ms
            for log in self._logs.values():
                log.producers.expire(uptime_ms - self._expiration_ms)
        self._limit()

    def _limit(self) -> None:
        """The logs that know the most forget as many as there are too many."""
        surplus = sum(len(log.producers) for log in self._logs.values()) - self._producers_max
        if surplus > 0:
            for log in sorted(self._logs.values(), key=lambda log: -len(log.producers)):
                count = min(surplus, (len(log.producers) + 1) // 2)
                log.producers.forget_oldest(count)
                surplus -= count
                if surplus <= 0:
                    break
