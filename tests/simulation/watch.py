"""The eyes of the checkers: every append, cut, watermark and role of every node is told to them as it happens.

The real classes are wrapped for the length of a run; the wrappers call through and change nothing.
"""

import contextlib
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final
from unittest.mock import patch
from uuid import UUID

from broker.replication.replica import Fetched, Replica
from logstore.log_answers import Appended
from logstore.log_directory import LogDirectory
from logstore.partition_log import PartitionLog
from metadata import codec
from metadata.apply import apply
from metadata.commands import ChangePartitions
from metadata.image import Image, Partition
from tests.broker.replication.model_checkers import ViolationError
from tests.simulation import metadata_checkers
from tests.simulation.disk_checkers import DiskCheckers
from tests.simulation.fetch_checkers import FetchCheckers
from tests.simulation.partition_checkers import PartitionCheckers
from tests.simulation.shadow import Shadow
from tests.simulation.virtual_loop import here
from wire.errors import ErrorCode, RefusedError

TOPIC: Final = "pay"
"""The one that is written to; only its name stays the same."""
Key = tuple[UUID, int]


class Watch:
    """All partitions of a run."""

    def __init__(self, node_ids: tuple[int, ...], *, min_in_sync_replicas: int, cluster_id: str) -> None:
        self.image = Image.empty(cluster_id)
        self.partitions: dict[Key, PartitionCheckers] = {}
        self.violation: ViolationError | None = None
        self.elections = 0
        self.topics_made = 0
        self.only_clocks_jump = False
        self.unreadable: set[int] = set()
        """Nodes whose disk has refused, or will refuse, to read something."""
        self.failing_syncs: set[int] = set()
        """Nodes one of whose syncs has failed, or will fail: what it was to cover is not on the disk."""
        self.knows_topic: Callable[[int, UUID], bool] = lambda _node_id, _topic_id: True
        """Whether there is such a topic in the image that this node goes by."""
        self.on_point: Callable[[str, Collection[int]], None] = lambda _point, _node_ids: None
        """Told when something is in doubt, and whom it is about."""
        self._node_ids = node_ids
        self._min_in_sync_replicas = min_in_sync_replicas

    def of(self, key: Key) -> PartitionCheckers:
        checkers = self.partitions.get(key)
        if checkers is None:
            checkers = self.partitions[key] = PartitionCheckers(self._node_ids, self._min_in_sync_replicas)
        return checkers

    def check(self, check: Callable[..., None], *of: Any, **by: Any) -> None:
        """The first violation is kept: whatever catches exceptions on the way must not hide it."""
        if self.violation is None:
            try:
                check(*of, **by)
            except ViolationError as violation:
                self.violation = violation

    # ---- metadata

    def committed(self, index: int, command: bytes) -> None:
        """The metadata log has one more entry."""
        before, proposal = self.image, codec.decode_proposal(command)
        applied = apply(before, index, proposal)
        self.image = applied.image
        self.check(metadata_checkers.compared_and_set, before, self.image, proposal.command)
        if self.only_clocks_jump:
            self.check(metadata_checkers.stays_calm, before, self.image)
        if applied.image.topics is before.topics:
            return
        for topic_id in before.topics.keys() - applied.image.topics.keys():
            for partition in range(len(before.topics[topic_id].partitions)):
                self.of((topic_id, partition)).deleted()
        epochs = {broker.broker_id: broker.epoch for broker in applied.image.brokers.values()}
        for topic_id, topic in applied.image.topics.items():
            known = before.topics.get(topic_id)
            if known is topic or topic.name.startswith("__"):
                continue
            self.topics_made += known is None
            for index_of, state in enumerate(topic.partitions):
                old = None if known is None else before.partition(topic_id, index_of)
                if old != state:
                    self.check(self.of((topic_id, index_of)).state_changed, state, epochs)
                    if old is not None:
                        self._moved_on(old, state)

    def _moved_on(self, old: Partition, new: Partition) -> None:
        if old.leader_epoch != new.leader_epoch:
            self.elections += 1
            self.on_point("elected", {old.leader, new.leader} - {-1} or {*new.replicas})
        before, after = {*old.in_sync_replicas}, {*new.in_sync_replicas}
        for point, about in (("joins", after - before), ("leaves", before - after)):
            if about:
                self.on_point(point, about | {new.leader} - {-1})

    def taken(self, command: bytes) -> None:
        """The leader of the quorum has taken it; nothing is committed."""
        decoded = codec.decode_proposal(command).command
        if isinstance(decoded, ChangePartitions) and "in-sync" in decoded.cause:
            for change in decoded.changes:
                self.on_point("wants change", {here().address, change.leader, *change.in_sync_replicas})

    # ---- processes

    def opened(self, log: PartitionLog) -> None:
        if not log.topic_name.startswith("__"):
            node_id = here().address
            self.check(
                self.of(log.key).opened,
                node_id,
                log,
                is_readable=node_id not in self.unreadable,
                may_have_holes=node_id in self.failing_syncs,
            )

    def left(self, node_id: int, *, keeps_unsynced: bool) -> None:
        """A process was killed, or its machine lost power."""
        for checkers in self.partitions.values():
            checkers.shadows[node_id].left(keeps_unsynced=keeps_unsynced)
            checkers.lost(node_id, -1, counted=False)

    def rotten(self, node_id: int, key: Key, offsets: range) -> None:
        """A bit of this replica turned, in a batch of these offsets."""
        self.of(key).rotten(node_id, offsets)

    def wiped(self, node_id: int) -> None:
        broker = self.image.brokers.get(node_id)
        for checkers in self.partitions.values():
            checkers.shadows[node_id].wiped()
            checkers.has_begun_anew(node_id)
            checkers.lost(node_id, -1 if broker is None else broker.epoch, counted=True)

    def _is_of_a_known_topic(self, log: PartitionLog) -> None:
        """S17: no leader takes records of a topic that it knows to be deleted, whatever has its name now."""
        if not self.knows_topic(here().address, log.key[0]):
            raise ViolationError("S17", f"node {here().address} appends to {log.name}, which it knows to be deleted")

    # ---- the wrappers

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            for owner, name, wrapper in (
                (PartitionLog, "append", self._append),
                (PartitionLog, "append_replicated", self._append_replicated),
                (PartitionLog, "truncate_to", self._truncate_to),
                (PartitionLog, "truncate_fully_and_start_at", self._start_at),
                (PartitionLog, "begin_sync", self._begin_sync),
                (PartitionLog, "close", self._close),
                (LogDirectory, "delete_log", self._delete_log),
                (Replica, "__init__", self._replica_made),
                (Replica, "lead", self._lead),
                (Replica, "committed", self._committed),
                (Replica, "fetch_as_follower", self._fetch_as_follower),
                (Replica, "_show_high_watermark", self._show_high_watermark),
                *FetchCheckers(self.check).wrappers(),
                *DiskCheckers(self.check).wrappers(),
            ):
                stack.enter_context(patch.object(owner, name, wrapper(getattr(owner, name))))
            yield

    def _shadow(self, log: PartitionLog) -> tuple[PartitionCheckers, Shadow] | None:
        checkers = self.partitions.get(log.key)
        if checkers is None:
            return None
        shadow = checkers.shadows[here().address]
        return (checkers, shadow) if shadow.log is log else None

    def _append(self, real: Any) -> Any:
        def append(log: PartitionLog, buffer: Any, *args: Any, **kwargs: Any) -> Appended:
            end_offset = log.log_end_offset
            appended: Appended = real(log, buffer, *args, **kwargs)
            if (known := self._shadow(log)) is not None and log.log_end_offset > end_offset:
                known[1].add(buffer)
                self.check(known[0].appended, here().address, end_offset)
                self.check(known[0].led_append, here(), end_offset)
                self.check(self._is_of_a_known_topic, log)
            return appended

        return append

    def _append_replicated(self, real: Any) -> Any:
        def append_replicated(log: PartitionLog, buffer: Any, **kwargs: Any) -> Appended | None:
            end_offset = log.log_end_offset
            appended: Appended | None = real(log, buffer, **kwargs)
            if (known := self._shadow(log)) is not None and appended is not None:
                known[1].add(memoryview(buffer)[: appended.size_bytes])
                self.check(known[0].appended, here().address, end_offset)
            return appended

        return append_replicated

    def _truncate_to(self, real: Any) -> Any:
        def truncate_to(log: PartitionLog, offset: int) -> None:
            known = self._shadow(log)
            if known is not None and offset < log.log_end_offset:
                self.check(known[0].will_truncate, here().address, offset)
                known[1].cutting_to = min(offset, known[0].matching(here().address))
                self.on_point("truncates", {here().address})
            try:
                real(log, offset)
            finally:  # also where a full disk ends it half-way
                if known is not None:
                    known[1].cut()
            if known is not None:
                known[0].was_cut(here().address)

        return truncate_to

    def _start_at(self, real: Any) -> Any:
        def truncate_fully_and_start_at(log: PartitionLog, offset: int) -> None:
            known = self._shadow(log)
            if known is not None:
                self.check(known[0].will_start_at, here().address, offset)
                known[1].cutting_to = 0
            try:
                real(log, offset)
            finally:  # also where a full disk ends it half-way
                if known is not None:
                    known[1].cut()
            if known is not None:
                known[0].was_cut(here().address)

        return truncate_fully_and_start_at

    def _begin_sync(self, real: Any) -> Any:
        def begin_sync(log: PartitionLog) -> Any:
            sync = real(log)
            if sync is not None and log.key in self.partitions:
                self.on_point("syncs", {here().address})
            return sync

        return begin_sync

    def _close(self, real: Any) -> Any:
        def close(log: PartitionLog) -> None:
            known = self._shadow(log)
            real(log)
            if known is not None:
                known[1].left(keeps_unsynced=True)

        return close

    def _delete_log(self, real: Any) -> Any:
        def delete_log(directory: LogDirectory, *key: Any) -> bool:
            checkers, node_id = self.partitions.get(key), here().address
            if checkers is not None:
                checkers.shadows[node_id].wiped()
            is_deleted = bool(real(directory, *key))
            if checkers is not None:
                checkers.has_begun_anew(node_id)
            return is_deleted

        return delete_log

    def _replica_made(self, real: Any) -> Any:
        def make(replica: Replica, log: PartitionLog, *args: Any) -> None:
            real(replica, log, *args)
            self.opened(log)

        return make

    def _lead(self, real: Any) -> Any:
        def lead(replica: Replica, state: Partition, **kwargs: Any) -> None:
            is_news = replica.leader_epoch != state.leader_epoch
            if is_news and (known := self._shadow(replica.log)) is not None:
                self.check(known[0].leads, here().address, state.leader_broker_epoch, state.leader_epoch)
                self.on_point("leads", {here().address})
            real(replica, state, **kwargs)

        return lead

    def _committed(self, real: Any) -> Any:
        def committed(replica: Replica, high_watermark: int) -> None:
            real(replica, high_watermark)
            if (known := self._shadow(replica.log)) is not None:
                self.check(known[0].watermark_moved, here().address)

        return committed

    def _fetch_as_follower(self, real: Any) -> Any:
        def fetch_as_follower(replica: Replica, **kwargs: Any) -> Fetched:
            known = self._shadow(replica.log)
            fetch = kwargs["broker_id"], kwargs["broker_epoch"], replica.leader_epoch
            try:
                fetched: Fetched = real(replica, **kwargs)
            except RefusedError as refused:
                if known is not None and refused.code == ErrorCode.KAFKA_STORAGE_ERROR:
                    known[0].fetched(*fetch)  # it was heard, though the leader's disk cannot answer it
                raise
            if known is not None:
                self.check(known[0].answers_in, replica.leader_epoch, kwargs["current_leader_epoch"], fetch)
                if fetched.diverging is None:
                    known[0].fetched(*fetch)
            return fetched

        return fetch_as_follower

    def _show_high_watermark(self, real: Any) -> Any:
        def show(replica: Replica, leader: Any) -> None:
            before = replica.log.high_watermark
            known = self._shadow(replica.log)
            if known is not None and leader.high_watermark > before:
                enough = len(leader.in_sync_replicas) >= known[0].min_in_sync_replicas
                maximal = frozenset(leader.maximal_in_sync_replicas)
                replica.log.advance_high_watermark(leader.high_watermark)
                self.check(known[0].led_watermark_moved, here().address, maximal, enough=enough)
                replica.log.high_watermark = before
            real(replica, leader)

        return show
