"""Who an idempotent producer is: the id that the cluster gave, and how many records each partition has had (KIP-98).

With them the cluster knows a batch again that comes twice, so that whatever is in doubt can be sent again. Pure.
Invariant (S13): a sequence number belongs to one record for ever; it moves on only when its batch was acknowledged.
"""

from dataclasses import dataclass, field
from typing import Final

_SEQUENCES: Final = 2**31
"""After the largest sequence comes 0 again, as for Kafka's producers."""


@dataclass(slots=True)
class ProducerIdentity:
    """One producer id, for as long as it lives."""

    producer_id: int
    producer_epoch: int
    _next: dict[int, int] = field(default_factory=dict)

    def stamp(self, partition: int) -> dict[str, int]:
        """What the next batch for a partition carries: arguments of `build_batch`."""
        return {
            "producer_id": self.producer_id,
            "producer_epoch": self.producer_epoch,
            "base_sequence": self._next.get(partition, 0),
        }

    def acknowledged(self, partition: int, records: int) -> None:
        """A batch of so many records is in the log."""
        self._next[partition] = (self._next.get(partition, 0) + records) % _SEQUENCES
