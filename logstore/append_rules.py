"""What a leader takes from a producer: whole intact batches, and in a compacted topic only records with a key.

Source: Kafka's LogValidator. Refuses INVALID_RECORD for a record without a key: nobody could ever supersede or delete
it, and compaction would remove it. The keys are looked at only where the topic is compacted; elsewhere batches stay
opaque.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wire.errors import ErrorCode, RefusedError
from wire.record_batch import check_batches
from wire.record_filter import has_null_key

if TYPE_CHECKING:
    from logstore.log_config import LogConfig
    from wire.record_batch import Buffer, RecordBatch


def check_append(buffer: Buffer, config: LogConfig) -> list[RecordBatch]:
    """All batches of `buffer`. RefusedError as `check_batches`; nothing was written."""
    batches = check_batches(buffer, max_batch_bytes=config.max_message_bytes)
    if config.compacts and any(map(has_null_key, batches)):
        raise RefusedError(
            ErrorCode.INVALID_RECORD,
            "a record has no key, and the topic keeps the last record of each key (cleanup.policy=compact): give every"
            " record a key",
        )
    return batches
