"""A leader of a partition of brokers 1, 2 and 3, in sentences: what a directed test needs and nothing else.

Broker 1 leads in leader epoch 5 under broker epoch 11; brokers 2 and 3 live in 12 and 13.
"""

from msgspec import structs

from broker.replication.leader import FetchVerdict, FollowerFetch, PartitionLeader
from broker.replication.undecided_changes import ChangeInSyncReplicas
from metadata.image import Partition
from tests.broker.replication.model_log import ListLog

LEADER_EPOCH = 5
LAG_TIME_MAX_MS = 1_000


class LedPartition:
    """The leader's core with its log, its image of who is in service, and the clock."""

    def __init__(
        self,
        *in_sync_replicas: int,
        min_in_sync_replicas: int = 1,
        log_end_offset: int = 10,
        high_watermark: int = 0,
        replicas: tuple[int, ...] = (1, 2, 3),
        broken: type[PartitionLeader] = PartitionLeader,
    ) -> None:
        self.now_ms = 0
        self.min_in_sync_replicas = min_in_sync_replicas
        self.in_service = {1: 11, 2: 12, 3: 13, 4: 14}
        self.log = ListLog()
        self.append(log_end_offset, epoch=LEADER_EPOCH - 1)
        self.log.synced(log_end_offset, self.log.generation)
        self.state = Partition(
            replicas=replicas,
            in_sync_replicas=in_sync_replicas,
            leader=1,
            leader_epoch=LEADER_EPOCH,
            leader_broker_epoch=11,
            partition_epoch=100,
        )
        self.core = broken(
            broker_id=1,
            state=self.state,
            min_in_sync_replicas=min_in_sync_replicas,
            high_watermark=high_watermark,
            log_end_offset=log_end_offset,
            durable_end_offset=log_end_offset,
            lag_time_max_ms=LAG_TIME_MAX_MS,
            now_ms=0,
            epoch_in_service=self.in_service.get,
        )

    @property
    def high_watermark(self) -> int:
        return self.core.high_watermark

    def append(self, count: int, *, epoch: int = LEADER_EPOCH) -> None:
        end = self.log.log_end_offset
        self.log.append([(epoch, offset) for offset in range(end, end + count)])

    def write(self, count: int) -> None:
        """Append and sync."""
        self.append(count)
        self.log.synced(self.log.log_end_offset, self.log.generation)
        self.core.durable(self.log.durable_end_offset, now_ms=self.now_ms)

    def fetch(
        self,
        broker_id: int,
        offset: int,
        *,
        epoch: int | None = None,
        broker_epoch: int | None = None,
        leader_epoch: int = LEADER_EPOCH,
        takes_records: bool = True,
        is_read_again: bool = False,
    ) -> FetchVerdict:
        """`epoch`: of the follower's last record; by default what this leader's log has there."""
        if epoch is None:
            epoch = self.log.record(offset - 1)[0] if self.log.log_start_offset < offset else -1
        asked = FollowerFetch(
            broker_id=broker_id,
            broker_epoch=self.in_service[broker_id] if broker_epoch is None else broker_epoch,
            leader_epoch=leader_epoch,
            fetch_offset=offset,
            last_fetched_epoch=epoch,
            takes_records=takes_records,
            is_read_again=is_read_again,
        )
        return self.core.fetched(asked, self.log, now_ms=self.now_ms)

    def wanted(self) -> ChangeInSyncReplicas | None:
        return self.core.wanted_change(log_end_offset=self.log.log_end_offset, now_ms=self.now_ms)

    def commit(self, *in_sync_replicas: int, **changes: object) -> None:
        """The image shows these in-sync replicas, one partition epoch later."""
        self.state = structs.replace(
            self.state,
            in_sync_replicas=in_sync_replicas,
            partition_epoch=self.state.partition_epoch + 1,
            **changes,
        )
        self.see(self.state)

    def see(self, state: Partition) -> None:
        self.core.committed(state, min_in_sync_replicas=self.min_in_sync_replicas)
