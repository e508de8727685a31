"""What the leader of a partition knows and decides (pure: no log, no clock, no socket).

Owns the durable end offset of every in-sync replica in one leader epoch, and the high watermark that follows from them.
Refuses a watermark that falls. Invariants:
- S2: the high watermark is the smallest *durable* end offset over the in-sync replicas.
- S4: a leader lives in exactly one leader epoch; a new epoch is a new `PartitionLeader`.
"""

from collections.abc import Iterable


class PartitionLeader:
    """One partition's leader in one leader epoch."""

    __slots__ = ("_durable_end_offsets", "broker_id", "high_watermark", "leader_epoch")

    def __init__(
        self,
        *,
        broker_id: int,
        leader_epoch: int,
        in_sync_replicas: Iterable[int],
        high_watermark: int,
        durable_end_offset: int,
    ) -> None:
        replicas = tuple(in_sync_replicas)
        assert broker_id in replicas, (broker_id, replicas)
        assert high_watermark <= durable_end_offset, (high_watermark, durable_end_offset)
        self.broker_id = broker_id
        self.leader_epoch = leader_epoch
        self.high_watermark = high_watermark
        # A member that has not been heard in this epoch holds the watermark where it is.
        self._durable_end_offsets = dict.fromkeys(replicas, high_watermark)
        self.durable(broker_id, durable_end_offset)

    def durable(self, broker_id: int, end_offset: int) -> bool:
        """`broker_id` holds everything below `end_offset` durably; True when the high watermark moved."""
        known = self._durable_end_offsets
        if broker_id not in known or end_offset <= known[broker_id]:
            return False
        known[broker_id] = end_offset
        reached = min(known.values())
        if reached <= self.high_watermark:
            return False
        self.high_watermark = reached
        return True
