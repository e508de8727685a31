"""Named checkers of one simulated partition: those of the model cluster, and what only whole nodes can break."""

from itertools import pairwise

from logstore.partition_log import PartitionLog
from metadata.image import Partition
from tests.broker.replication.model_checkers import Checkers
from tests.simulation.shadow import NOT_KNOWN, Shadow
from tests.simulation.virtual_loop import Life

NOT_NOTICED = 1 << 62
"""For a broker epoch: no life of this broker is known to know of its damage."""


class PartitionCheckers(Checkers):
    """Of one partition; its replicas may move."""

    def __init__(self, node_ids: tuple[int, ...], min_in_sync_replicas: int) -> None:
        self.shadows = {node_id: Shadow() for node_id in node_ids}
        self.min_in_sync_replicas = min_in_sync_replicas
        self.sent: set[int] = set()
        """What producers have sent to this partition of this topic."""
        self.failed: set[int] = set()
        """Values of which a producer was told that nothing was written."""
        self.deleted_to = 0
        """Up to where anybody has asked for records to be deleted."""
        self._rotten: dict[int, range] = {}
        self._leading_lives: dict[int, Life] = {}
        self._epoch_starts: dict[int, int] = {}
        """Where the leader's log ended when it began to lead in this epoch."""
        super().__init__(self.shadows)  # type: ignore[arg-type] # a shadow has what the checkers ask of a log

    def deleted(self) -> None:
        """Its topic is: nobody has promised anything of it any more, and no log of it begins to lead."""
        self.state = None

    def appended(self, broker_id: int, first_offset: int) -> None:
        super().appended(broker_id, first_offset)
        self.belongs(broker_id, first_offset)

    def belongs(self, node_id: int, first_offset: int) -> None:
        """S17: what lies in a log was sent to this very topic, not to another that has or had its name."""
        shadow = self.shadows[node_id]
        for offset in range(first_offset, shadow.log_end_offset):
            value = shadow.record(offset)[1]
            self._require("S17", value in self.sent or value == NOT_KNOWN[1], f"node {node_id} has {value} at", offset)

    def opened(self, node_id: int, log: PartitionLog, *, is_readable: bool, may_have_holes: bool) -> None:
        """S3: a new process finds what was durable. S1: and no more of it deleted. S18: a torn tail is no damage.

        A hole is, beyond what was durable: a failed sync lost some writes, and those behind them reached the disk.
        """
        shadow = self.shadows[node_id]
        durable = shadow.durable_end_offset
        shadow.opened(log)
        self.belongs(node_id, log.log_start_offset)
        self.starts_where_it_may(node_id)
        holds = log.log_end_offset >= durable
        if node_id not in self.damaged:
            self._require("S3", holds, f"{durable} were durable on node {node_id}, now", log)
            is_whole = log.damaged_from is None or not is_readable or (may_have_holes and log.damaged_from >= durable)
            self._require("S18", is_whole, f"nothing rotted on node {node_id}; damaged is", log)
        elif self.damaged[node_id] == NOT_NOTICED:
            is_noticed = log.damaged_from is not None
            self._require("S18", holds or is_noticed, f"of {durable} on node {node_id} damage was cut off in", log)

    def starts_where_it_may(self, node_id: int) -> None:
        """S1: nothing vanishes from the beginning of a log that nobody has deleted."""
        start = self.shadows[node_id].log_start_offset
        self._require(
            "S1", start <= self.deleted_to, f"node {node_id}'s log begins at {start}, deleted is up to", self.deleted_to
        )

    def leads(self, broker_id: int, broker_epoch: int, leader_epoch: int) -> None:
        super().leads(broker_id, broker_epoch, leader_epoch)
        self._epoch_starts.setdefault(leader_epoch, self.shadows[broker_id].log_end_offset)

    def state_changed(self, state: Partition, broker_epochs: dict[int, int]) -> None:
        """S8 at a join: no sooner than it holds all that there was when its leader began to lead."""
        before = self.state
        super().state_changed(state, broker_epochs)
        if before is None or before.leader_epoch != state.leader_epoch:
            return
        start = self._epoch_starts.get(state.leader_epoch, 0)
        for joiner in {*state.in_sync_replicas} - {*before.in_sync_replicas} - self.damaged.keys():
            held = self.shadows[joiner].durable_end_offset
            self._require("S8", held >= start, f"{joiner} joins with {held}, and its leader's epoch begins at", start)

    def rotten(self, node_id: int, offsets: range) -> None:
        """These records of this replica are broken, and it may never notice: until it `has_begun_anew`."""
        self._rotten[node_id] = offsets
        self.lost(node_id, NOT_NOTICED, counted=True)

    def has_begun_anew(self, node_id: int) -> None:
        """Nothing is left of the log that was, nor of what rotted in it; a member may be counted on for it still."""
        self._rotten.pop(node_id, None)
        if self.damaged.get(node_id) == NOT_NOTICED:
            self.damaged[node_id] = -1

    def was_cut(self, node_id: int) -> None:
        """To its end: what could not begin anew, or died while it did, is as rotten as it was."""
        shadow = self.shadows[node_id]
        if shadow.log_start_offset == shadow.log_end_offset:
            self.has_begun_anew(node_id)

    def watermark_moved(self, broker_id: int) -> None:
        self.starts_where_it_may(broker_id)
        if broker_id not in self.damaged:
            super().watermark_moved(broker_id)

    def _leader_is_complete(self, broker_id: int) -> None:
        if broker_id not in self.damaged:
            super()._leader_is_complete(broker_id)

    def led_append(self, life: Life, offset: int) -> None:
        """S10: what is appended in one leader epoch is appended by one process; whoever restarts needs a new one."""
        epoch = self.shadows[life.address].record(offset)[0]
        known = self._leading_lives.setdefault(epoch, life)
        self._require("S10", known is life, f"node {life.address}, restarted, appends in leader epoch", epoch)

    def answers_in(self, leader_epoch: int, asked_in: int, fetch: object) -> None:
        """S7: a leader answers those followers that believe in its own epoch."""
        self._require("S7", asked_in == leader_epoch, f"{fetch}, of epoch {asked_in}, is answered in", leader_epoch)

    def seen(self, offset: int, value: int) -> None:
        """S12: a value that was read never changes, and is the committed one."""
        known = self.committed[offset][1] if offset < len(self.committed) else None
        self._require("S12", known == value, f"read {value} at {offset}, committed is", known)

    def in_sequence(self, placed: list[tuple[int, int]]) -> None:
        """S14: what one idempotent producer sends lies in the order of its sequence, in whichever it is told so."""
        for (before, offset_before), (sequence, offset) in pairwise(placed[-8:]):
            holds = offset > offset_before
            self._require("S14", holds, f"sequence {before} lies at {offset_before}, {sequence} at", offset)

    def called_out_of_order(self, values: list[int], placed: list[tuple[int, int]]) -> None:
        """S13: all that its producer sent before is acknowledged, and it is among the last five: it cannot be.

        Unless the producer's last records are deleted, and with them what a new replica could learn of it.
        """
        last_offset = placed[-1][1] if placed else 0
        may_be = self.state is None or self.deleted_to > last_offset
        self._require("S13", may_be, f"{values} are called out of order, they follow what lies at", last_offset)

    def healed(self) -> None:
        """S1 after healing: on every replica that is assigned now. S13: nothing twice. S15: nothing that failed."""
        if self.state is None:
            return
        where: dict[int, int] = {}
        for offset, (_, value) in enumerate(self.committed):
            self._require("S13", value not in where, f"{value} lies at {offset} and at", where.get(value))
            self._require("S15", value not in self.failed, f"the send of {value} failed, it lies at", offset)
            where[value] = offset
        for node_id in self.state.replicas:
            if self.damaged.get(node_id, NOT_NOTICED) == NOT_NOTICED:
                self._has_all_acknowledged(node_id)

    def _has_all_acknowledged(self, node_id: int) -> None:
        """But for the very records that rotted there, if it has not found that out."""
        self.starts_where_it_may(node_id)
        shadow = self.shadows[node_id]
        waived = self._rotten.get(node_id, range(0)) if node_id in self.damaged else range(0)
        for offset, value in self.acknowledged.items():
            if offset >= shadow.log_start_offset and offset not in waived:
                held = shadow.record(offset)[1] if offset < shadow.log_end_offset else None
                self._require("S1", held == value, f"replica {node_id} has {held} at {offset}", value)
