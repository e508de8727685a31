"""Named checkers of what replication promises, told of every step of a model cluster.

Each raises `ViolationError` with its invariant's number (S1 ... S14). They know what no broker knows: every record that
was ever written, and which of them were committed. Work grows with what changed, not with the logs.
"""

from metadata.image import Partition
from tests.broker.replication.model_log import ListLog, Record


class ViolationError(AssertionError):
    """A promise was broken; `name` is the invariant."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name


class Checkers:
    """What has been promised so far, and whether it holds."""

    def __init__(self, logs: dict[int, ListLog]) -> None:
        self._logs = logs
        self._matching = dict.fromkeys(logs, 0)
        self.damaged: dict[int, int] = {}
        """Replicas that lost what counted as durable (relaxed flushes, a wiped disk) and may still be members, with the
        broker epoch in which they did: the process of that epoch runs no more."""
        self.committed: list[Record] = []
        self._written: dict[tuple[int, int], tuple[int, int]] = {}
        self._leaders: dict[int, tuple[int, int]] = {}
        self._observed: dict[int, int] = {}
        self._fetched: set[tuple[int, int, int]] = set()
        self.state: Partition | None = None
        self.acknowledged: dict[int, int] = {}
        self.last_acknowledged = -1

    def _require(self, name: str, holds: bool, *of: object) -> None:  # noqa: FBT001 - a condition, said as in an assert
        if not holds:
            raise ViolationError(name, ", ".join(map(str, of)))

    # ---- logs

    def appended(self, broker_id: int, first_offset: int) -> None:
        """S4: one record at one (epoch, offset), with one predecessor; epochs never fall along a log."""
        log = self._logs[broker_id]
        for offset in range(first_offset, log.log_end_offset):
            epoch, value = log.record(offset)
            before = log.record(offset - 1)[0] if offset > log.log_start_offset else -1
            self._require("S4", before <= epoch, "epochs fall", broker_id, offset, before, epoch)
            known = self._written.setdefault((epoch, offset), (value, before))
            self._require("S4", known[0] == value, "two records at", (epoch, offset), known[0], value)
            same_predecessor = -1 in (known[1], before) or known[1] == before
            self._require("S6", same_predecessor, "logs part below", (epoch, offset), broker_id, known[1], before)

    def matching(self, broker_id: int) -> int:
        """Up to where this log holds exactly what was committed."""
        log, offset = self._logs[broker_id], self._matching[broker_id]
        offset = max(offset, log.log_start_offset)
        end = min(log.log_end_offset, len(self.committed))
        while offset < end and log.record(offset) == self.committed[offset]:
            offset += 1
        self._matching[broker_id] = offset
        return offset

    def will_truncate(self, broker_id: int, offset: int) -> None:
        """S5: no committed record is cut off a log that holds it."""
        matching = self.matching(broker_id)
        self._require("S5", offset >= matching, f"broker {broker_id} cuts from {offset}, committed up to", matching)
        self._matching[broker_id] = min(matching, offset)

    def will_start_at(self, broker_id: int, offset: int) -> None:
        """S5: a log begins anew only where all that it held is deleted everywhere it counts."""
        start = max(log.log_start_offset for log in self._logs.values())
        self._require("S5", offset <= start, f"broker {broker_id} begins at {offset}, logs begin at most at", start)
        self._matching[broker_id] = offset

    def lost(self, broker_id: int, broker_epoch: int, *, counted: bool) -> None:
        """A power cut; `counted`: records are gone that this replica had vouched for."""
        log = self._logs[broker_id]
        self._matching[broker_id] = min(self._matching[broker_id], log.log_end_offset)
        if counted:
            self.damaged[broker_id] = broker_epoch

    # ---- watermarks

    def leads(self, broker_id: int, broker_epoch: int, leader_epoch: int) -> None:
        """S4: one leader in one leader epoch; S10: in one life. S1: it has everything that was committed before."""
        me = (broker_id, broker_epoch)
        known = self._leaders.setdefault(leader_epoch, me)
        self._require("S4", known == me, f"leader epoch {leader_epoch} has two leaders", known, me)
        if self.state is not None and self.state.leader_epoch == leader_epoch:
            self._leader_is_complete(broker_id)

    def led_watermark_moved(self, broker_id: int, maximal: frozenset[int], *, enough: bool) -> None:
        """S2, S3, S12: what a leader shows as committed lies on every member, and is what was committed before."""
        log = self._logs[broker_id]
        high_watermark = log.high_watermark
        self._require("S2", enough, f"broker {broker_id} commits up to {high_watermark} with too few in sync")
        state = self.state
        members = {*state.in_sync_replicas, *state.eligible_leader_replicas} if state is not None else set()
        for member in maximal & members - self.damaged.keys():
            end = self._logs[member].durable_end_offset
            self._require("S2", end >= high_watermark, f"{broker_id} commits up to {high_watermark}", member, end)
        for offset in range(len(self.committed), high_watermark):
            record = log.record(offset)
            observed = self._observed.get(offset, record[1])
            self._require("S12", observed == record[1], f"offset {offset} was read as {observed}, becomes", record)
            self.committed.append(record)
        self.watermark_moved(broker_id)
        self.members_hold_committed()

    def watermark_moved(self, broker_id: int) -> None:
        """S6: below its own watermark every replica holds what was committed."""
        high_watermark, matching = self._logs[broker_id].high_watermark, self.matching(broker_id)
        self._require("S6", high_watermark <= matching, f"broker {broker_id}: watermark {high_watermark}", matching)

    def members_hold_committed(self) -> None:
        """S3: every ISR or ELR member holds all that was committed, durably."""
        state = self.state
        if state is None:
            return
        for member in {*state.in_sync_replicas, *state.eligible_leader_replicas} - self.damaged.keys():
            held = min(self.matching(member), self._logs[member].durable_end_offset)
            self._require("S3", held >= len(self.committed), f"member {member} holds {held} of", len(self.committed))

    # ---- metadata

    def fetched(self, broker_id: int, broker_epoch: int, leader_epoch: int) -> None:
        self._fetched.add((broker_id, broker_epoch, leader_epoch))

    def state_changed(self, state: Partition, broker_epochs: dict[int, int]) -> None:
        """The metadata log says so now: S1 at an election, S8 and S9 at a join, S3 always."""
        before, self.state = self.state, state
        members = {*state.in_sync_replicas, *state.eligible_leader_replicas}
        if before is None:
            return
        known = {*before.in_sync_replicas, *before.eligible_leader_replicas}
        for broker_id, epoch in list(self.damaged.items()):
            if broker_epochs[broker_id] > epoch and broker_id not in members & known:
                del self.damaged[broker_id]
        if state.leader_epoch != before.leader_epoch and state.leader != -1:
            if state.leader not in self.damaged:  # else its process is gone, and cannot begin to lead
                self._leader_is_complete(state.leader)
        else:
            for joiner in set(state.in_sync_replicas) - {*before.in_sync_replicas} - self.damaged.keys():
                held = min(self.matching(joiner), self._logs[joiner].durable_end_offset)
                self._require("S8", held >= len(self.committed), f"{joiner} joins with {held} of", len(self.committed))
                fetch = (joiner, broker_epochs[joiner], state.leader_epoch)
                self._require("S9", fetch in self._fetched, "joins without a fetch in this life", fetch)
        self.members_hold_committed()

    def _leader_is_complete(self, broker_id: int) -> None:
        held = self.matching(broker_id)
        self._require("S1", held >= len(self.committed), f"leader {broker_id} has {held} of", len(self.committed))

    # ---- clients

    def acknowledge(self, offset: int, value: int, *, sent_after: int) -> None:
        """S1, S14: acknowledged at this offset, which is committed."""
        committed = self.committed[offset][1] if offset < len(self.committed) else None
        self._require("S1", committed == value, f"{value} acknowledged at {offset}, where lies", committed)
        self._require("S14", offset > sent_after, f"{value} at {offset}, sent after the acknowledgement of", sent_after)
        self.acknowledged[offset] = value
        self.last_acknowledged = max(self.last_acknowledged, offset)

    def acknowledged_in(self, leader_epoch: int, broker_id: int, offset: int) -> None:
        """S7: whoever leads by now has what this leader of an older epoch acknowledges."""
        state = self.state
        if state is not None and state.leader_epoch > leader_epoch and state.leader not in {-1, *self.damaged}:
            held = self.matching(state.leader)
            self._require("S7", held > offset, f"fenced {broker_id} acknowledged {offset}, its successor has", held)

    def read(self, broker_id: int, offset: int) -> None:
        """S12: a value that was seen never changes."""
        value = self._logs[broker_id].record(offset)[1]
        known = self._observed.setdefault(offset, value)
        if offset < len(self.committed):
            known = self.committed[offset][1]
        self._require("S12", known == value, f"offset {offset} was {known}, broker {broker_id} shows", value)

    def healed(self) -> None:
        """S1 after healing: on every replica, every acknowledged record that is not deleted."""
        for broker_id, log in self._logs.items():
            for offset, value in self.acknowledged.items():
                if offset >= log.log_start_offset:
                    held = log.record(offset)[1] if offset < log.log_end_offset else None
                    self._require("S1", held == value, f"replica {broker_id} has at {offset}", held, value)
